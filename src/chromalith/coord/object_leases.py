"""Leases as objects of the store itself: nothing else is needed, and a lease's own timestamp is the store's date.

One object for each lease, changed by conditional puts only, never deleted. The witness is its entity tag; a put whose answer was
lost, or is not believed, is looked up by the token in the body (:mod:`chromalith.store.readback`).
"""

from __future__ import annotations

from collections.abc import Mapping

from chromalith.clock import Clock
from chromalith.coord.lease_table import LeaseAddress, LeaseRecord, Overtaken, Seen, Witness
from chromalith.errors import NotFound
from chromalith.model import layout
from chromalith.store import readback
from chromalith.store.address import StoreAddress
from chromalith.store.port import Absent, Matches, Object, Store

HEARTBEAT = "chromalith.coord.heartbeat"


class ObjectLeases:
    """The leases of one store, in it. See :class:`~chromalith.coord.lease_table.LeaseTable` for the verbs.

    Args:
        store, clock: where, and what waits between attempts.
        storage_options: what opens the store again in the heartbeat's process.
    """

    def __init__(self, store: Store, clock: Clock, *, storage_options: Mapping[str, object] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._options = dict(storage_options or {})

    @property
    def place(self) -> str:
        return f"objects of {self._store.url}"

    @property
    def address(self) -> LeaseAddress | None:
        found = StoreAddress.of(self._store.url, self._options)
        return None if found is None else LeaseAddress(HEARTBEAT, {"url": found.url, "storage_options": found.storage_options})

    def look(self, key: str) -> Seen | None:
        try:
            return _seen(self._store.get(key))
        except NotFound:
            return None

    def write(self, key: str, record: LeaseRecord, witness: Witness | None) -> Witness:
        condition = Absent() if witness is None else Matches(witness)
        try:
            return readback.put_resolved(self._store, key, record.encode(), condition, clock=self._clock)
        except readback.Overtaken as error:
            raise Overtaken(error.message, seen=None if error.current is None else _seen(error.current)) from error

    def date_us(self, key: str) -> int | None:
        """The timestamp, read back, of the lease itself: the write that acquired it, or the last beat, serves for the date."""
        try:
            return self._store.head(key).modified_us
        except NotFound:
            return None

    def keys(self) -> set[str] | None:
        return {entry.key for page in self._store.list(layout.LEASE_ROOT) for entry in page}


def _seen(found: Object) -> Seen:
    return Seen(LeaseRecord.decode(found.body), found.etag, found.modified_us)
