"""Leases in a table of DynamoDB: the same protocol as with objects (:mod:`chromalith.coord.lease`), for who wants no lease in the bucket.

One item for each lease, under the hash key ``lease_key``: the URL of the object that would hold it otherwise, without a query
(``s3://bucket/prefix/lease/<collection>.json``), so that many stores can share a table. ``token`` is its version number and the witness.

1. *Write* what was not there: ``attribute_not_exists(lease_key)``. Over what was read: the token is still the one that was seen.
2. *The condition failed:* DynamoDB sends the item that is there, so no second request is needed. If it has the very token that was to
   be written, an earlier attempt of this call succeeded, and its answer was lost: it is ours.
3. *No answer:* read, strongly consistent, and judge as in 2. The old token is still there: send the same item again. Both attempts are
   conditional on what the first of them changes, so one of them counts at most.
4. *Throttled:* certainly not written; again after a while. boto3's own retries are off: they would hide an answer of the first attempt.

``expires_at`` (N, seconds since 1970-01-01 UTC) is for the table's TTL, which tidies away the items of deleted collections. Nothing here
reads it: when an item goes is DynamoDB's affair. It may go while the lease is held: then its holder has lost it, as in every other
case of a record that is not its own.

The date still comes from the store: DynamoDB tells no time, and deltas are dated by the store's clock.

The permissions that are needed: ``dynamodb:GetItem`` and ``dynamodb:PutItem`` on the table, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from chromalith.aws.clients import client
from chromalith.aws.errors import in_our_words
from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.coord.heartbeat import beat_as_told
from chromalith.coord.lease_table import LEASE_S_MAX, LeaseAddress, LeaseRecord, LeaseTable, Overtaken, Seen, Witness
from chromalith.coord.store_date import date_by
from chromalith.errors import Bug, ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.store.port import Store
from chromalith.store.readback import READBACK_POLICY
from chromalith.store.retry import RetryPolicy

HASH_KEY = "lease_key"
TTL_ATTRIBUTE = "expires_at"
KEPT_S = 7 * 86_400
"""For how long after its last write an item is kept at least. Lease times are minutes; a week shows a person who compacted last."""
REQUEST_S_MAX = 5.0
"""A request that takes longer counts as lost: several must fit between two beats (10 s), and into a lease time (30 s)."""
_TOKEN_MISSING = ""
"""The witness of an item without a token that could be one: somebody else's, or damaged."""
_HOW_TO_CREATE = "it needs the hash key lease_key (S) and no range key; see docs/format.md, and check the name, the region and the account"

Item = Mapping[str, Mapping[str, Any]]


class DynamoLeases:
    """The leases of one store, in a table. See :class:`~chromalith.coord.lease_table.LeaseTable` for the verbs. Safe between threads.

    Args:
        table: its name.
        options: where the account is (:mod:`chromalith.aws.clients`).
        store, clock: whose leases and whose date; and chance, waiting, and the wall time for ``expires_at``.
        scope: in place of the store, for the heartbeat's process, which asks for no date: the store's URL without a query.
        policy: how often and how patiently a request is sent.

    Makes no request, and needs no boto3, until it is used. Each verb raises ``Invalid`` also for a table that is missing, has other
    keys, or may not be used: not ``NotFound``, which stands for a collection that is gone.
    """

    def __init__(
        self,
        table: str,
        options: Mapping[str, object] | None,
        store: Store | None,
        clock: Clock,
        *,
        scope: str = "",
        policy: RetryPolicy = READBACK_POLICY,
    ) -> None:
        self._table = table
        self._options = dict(options or {})
        self._store = store
        self._clock = clock
        self._policy = policy
        # Without a query: an endpoint is how to get there, and not the same for everybody.
        self._scope = scope if store is None else store.url.partition("?")[0].rstrip("/")

    @property
    def place(self) -> str:
        return f"DynamoDB table {self._table}"

    @property
    def address(self) -> LeaseAddress | None:
        told = {"table": self._table, "options": self._options, "scope": self._scope}
        return LeaseAddress.of("chromalith.aws.dynamodb_lease", told)

    def look(self, key: str) -> Seen | None:
        request = {"Key": {HASH_KEY: {"S": self._scoped(key)}}, "ConsistentRead": True}
        failures = 0
        while True:
            try:
                item = self._ask("get_item", request, changes=False).get("Item")
                return None if item is None else _seen(item)
            except Unavailable:
                failures += 1
                if failures >= self._policy.attempts:
                    raise
                self._clock.sleep(self._policy.wait_s(failures, self._clock))

    def write(self, key: str, record: LeaseRecord, witness: Witness | None) -> Witness:
        request = {"Item": self._item(key, record), "ReturnValuesOnConditionCheckFailure": "ALL_OLD", **_condition(witness)}
        failure: ChromalithError | None = None
        for attempt in range(1, self._policy.attempts + 1):
            try:
                self._ask("put_item", request, changes=True)
                return record.token
            except Unavailable as error:  # throttled, or never sent: this attempt changed nothing
                failure = failure or error
            except (Unknown, _Refused) as error:
                found = error.seen if isinstance(error, _Refused) else None
                if isinstance(error, Unknown):
                    failure = error
                if found is None:
                    found = self._look_after(key, error)
                if found is not None and found.witness == record.token:
                    return record.token
                if (None if found is None else found.witness) != witness:
                    raise Overtaken(f"another write came first key={key} table={self._table}", seen=found) from error
            if attempt < self._policy.attempts:
                self._clock.sleep(self._policy.wait_s(attempt, self._clock))
        if failure is None:
            raise Unavailable(f"the condition is refused although it holds key={key} table={self._table}", hint="try again")
        raise failure

    def date_us(self, key: str) -> int | None:
        """As for whoever holds no lease (:mod:`chromalith.coord.store_date`)."""
        if self._store is None:
            raise Bug(f"a heartbeat asked for the date key={key}")
        return date_by(self._store, layout.date_key_beside(key), self._clock)

    def keys(self) -> set[str] | None:
        return None  # a scan would read the leases of every store in the table, and need another permission

    @cached_property
    def _client(self) -> Any:
        return client("dynamodb", self._options, attempts=1, read_timeout_s=REQUEST_S_MAX)

    def _scoped(self, key: str) -> str:
        return f"{self._scope}/{key}"

    def _item(self, key: str, record: LeaseRecord) -> Item:
        now_us = self._clock.now_us()
        fields = record.fields()
        return {
            HASH_KEY: {"S": self._scoped(key)},
            "format": {"N": str(fields["format"])},
            "owner": {"S": record.owner},
            "token": {"S": record.token},
            "lease_s": {"N": str(min(record.lease_s, LEASE_S_MAX))},
            "purpose": {"S": record.purpose},
            "released": {"BOOL": record.released},
            "written_us": {"N": str(now_us)},
            TTL_ATTRIBUTE: {"N": str(now_us // 1_000_000 + KEPT_S)},
        }

    def _look_after(self, key: str, error: Exception) -> Seen | None:
        try:
            return self.look(key)
        except Unavailable as unread:
            raise Unknown(f"the lease may or may not have been written key={key}", hint="the next look tells") from unread

    def _ask(self, verb: str, request: Mapping[str, Any], *, changes: bool) -> Any:
        """One request. Raises ``_Refused``, ``Unknown``, ``Unavailable``, ``Invalid``."""
        asked = self._client  # outside: what it raises is in our words
        try:
            return getattr(asked, verb)(TableName=self._table, **request)
        except asked.exceptions.ConditionalCheckFailedException as error:
            item = error.response.get("Item")
            raise _Refused(None if item is None else _seen(item)) from error
        except Exception as error:
            known = in_our_words(error, f"lease table {self._table}", changes=changes)
            if known is None:
                raise
            if isinstance(known, NotFound) or "ValidationException" in str(error):
                known = Invalid(f"this is no table for leases: {known.message}", hint=_HOW_TO_CREATE)
            raise known from error


class _Refused(Exception):
    """The condition did not hold.

    Attributes:
        seen: the item that is there, if DynamoDB sent it.
    """

    def __init__(self, seen: Seen | None) -> None:
        super().__init__("the condition did not hold")
        self.seen = seen


def _condition(witness: Witness | None) -> dict[str, Any]:
    """What must be there: nothing, an item with this token, or one without any."""
    if witness is None:
        return {"ConditionExpression": "attribute_not_exists(#key)", "ExpressionAttributeNames": {"#key": HASH_KEY}}
    names = {"#token": "token"}  # a reserved word
    values: dict[str, Any] = {":seen": {"S": witness}}
    condition = "#token = :seen"
    if witness == _TOKEN_MISSING:
        condition = "attribute_exists(#key) AND (#token = :seen OR attribute_not_exists(#token) OR NOT attribute_type(#token, :string))"
        names["#key"] = HASH_KEY
        values[":string"] = {"S": "S"}
    return {"ConditionExpression": condition, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}


def _seen(item: Item) -> Seen:
    fields: dict[str, Any] = {}
    for name, typed in item.items():
        for kind, value in typed.items():
            if kind in ("S", "BOOL", "N"):
                fields[name] = float(value) if kind == "N" else value
    token = fields.get("token")
    written = fields.get("written_us")
    return Seen(
        LeaseRecord.of(fields),
        token if isinstance(token, str) else _TOKEN_MISSING,
        int(written) if isinstance(written, float) and 0 <= written < 2**53 else None,
    )


def _open(told: Mapping[str, Any]) -> LeaseTable:
    return DynamoLeases(told["table"], told["options"], None, SYSTEM_CLOCK, scope=told["scope"])


if __name__ == "__main__":
    beat_as_told(_open)
