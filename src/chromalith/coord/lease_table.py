"""Where leases stand: records under keys, each changed only on condition of what was read. The port of :mod:`chromalith.coord.lease`.

Two places keep it: objects of the store itself (:mod:`chromalith.coord.object_leases`, the default), and a table of DynamoDB
(:mod:`chromalith.aws.dynamodb_lease`). What a place must keep:

1. ``write`` is atomic between any number of processes: of those that show one witness, one wins.
2. ``look`` shows every write that returned before it began.
3. A witness is never used twice: whatever changed a record since, an old witness no longer fits. (The token in each record sees to it.)
4. An answer that was lost is looked up, not repeated blindly: ``write`` returns only if the record stood there as it was given, and
   raises :class:`Overtaken` only if another stands there, or none where one was shown.

A record may vanish at any moment (a person deleted the object; DynamoDB's expiry tidied the item away): its holder has lost the lease,
the next one finds nothing there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from chromalith.errors import Conflict

FORMAT = 2
"""1: written by the first release, which never held a lease: read as released."""
LEASE_S = 30.0
LEASE_S_MAX = 600.0
"""A record that states a longer lease time counts as this: a wrong number must not keep everybody waiting for a dead holder."""
UNREADABLE = "unreadable"

Witness = str
"""What was read, for the condition of the write that replaces it: an object's entity tag, an item's token."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What stands in a lease.

    Attributes:
        owner: ``host/process/nonce``; the nonce is of one acquisition.
        token: chance, new with every write: the record's version number.
        lease_s: for how long it must stand unchanged before an observer may take over.
        purpose: ``fold`` or ``merge``.
        released: whether nobody holds it; ``owner`` is then who did, or who broke it.
    """

    owner: str
    token: str
    lease_s: float
    purpose: str
    released: bool

    def fields(self) -> dict[str, Any]:
        """By name, with the format."""
        return {
            "format": FORMAT,
            "owner": self.owner,
            "token": self.token,
            "lease_s": self.lease_s,
            "purpose": self.purpose,
            "released": self.released,
        }

    @classmethod
    def of(cls, value: Any) -> LeaseRecord:
        """From fields by name. Never fails, as :meth:`decode`."""
        try:
            if value["format"] == 1:
                return cls(str(value["owner"]), str(value["write_id"]), LEASE_S, "fold", True)
            lease_s = min(max(0.0, float(value["lease_s"])), LEASE_S_MAX)
            return cls(str(value["owner"]), str(value["token"]), lease_s, str(value["purpose"]), value["released"] is True)
        except (ValueError, KeyError, TypeError, OverflowError):
            return _UNREADABLE

    def encode(self) -> bytes:
        """As an object's body."""
        return json.dumps(self.fields(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    @classmethod
    def decode(cls, body: bytes) -> LeaseRecord:
        """Never fails: what can't be read is held by somebody unknown, for one lease time. An advice must not stop anybody for good."""
        try:
            return cls.of(json.loads(body))
        except (ValueError, RecursionError):
            return _UNREADABLE


_UNREADABLE = LeaseRecord(UNREADABLE, "", LEASE_S, UNREADABLE, False)


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as one look saw it.

    Attributes:
        record: what stands there.
        witness: for the condition of the write that replaces it.
        modified_us: when it was written, microseconds since 1970-01-01 UTC, for people only: by the store's clock, or by its writer's
            where the place keeps no time; ``None`` if that can't be told.
    """

    record: LeaseRecord
    witness: Witness
    modified_us: int | None


class Overtaken(Conflict):
    """Another record stands there, or none where one was shown. It does not prove that this one never did.

    Attributes:
        seen: what stood there.
    """

    def __init__(self, message: str, *, seen: Seen | None) -> None:
        super().__init__(message, hint="read the new state and decide again")
        self.seen = seen


@dataclass(frozen=True, slots=True)
class LeaseAddress:
    """What opens the same table again in another process, for the heartbeat.

    Attributes:
        module: run by that process; is told on standard input (:func:`chromalith.coord.heartbeat.beat_as_told`).
        told: values for JSON; they may hold credentials, and are neither shown nor put on a command line.
    """

    module: str
    told: Mapping[str, object] = field(repr=False)

    @classmethod
    def of(cls, module: str, told: Mapping[str, object]) -> LeaseAddress | None:
        """The address, unless there is a value that no other process can be told (one that is no JSON)."""
        try:
            json.dumps(dict(told))
        except (TypeError, ValueError):
            return None
        return cls(module, told)


class LeaseTable(Protocol):
    """A place for leases. See the module's docstring for what each implementation must keep."""

    @property
    def place(self) -> str:
        """Where the records are, in words."""
        ...

    @property
    def address(self) -> LeaseAddress | None:
        """What opens it in another process; ``None``: no other process can."""
        ...

    def look(self, key: str) -> Seen | None:
        """The lease now; ``None`` if there is none. Raises ``Unavailable``, ``Invalid`` (there is no such place, or no right to it)."""
        ...

    def write(self, key: str, record: LeaseRecord, witness: Witness | None) -> Witness:
        """Write on condition: ``None``: nothing is there; else what was seen with this witness. Returns the new one.

        Raises ``Overtaken``, ``Unknown`` (it may have been written, or may be yet), ``Unavailable`` (it was not), ``Invalid``."""
        ...

    def date_us(self, key: str) -> int | None:
        """The store's date for the holder of this lease, not before the lease was last written; ``None`` if that shows that it is gone.

        Microseconds since 1970-01-01 UTC, by the clock that also dates deltas, whatever keeps the leases."""
        ...

    def keys(self) -> set[str] | None:
        """The keys under which there is something, if one listing tells; ``None``: ask for each."""
        ...
