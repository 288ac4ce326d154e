"""Places for leases as their tests need them, and machines around one, each with clocks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from chromalith.clock import SYSTEM_CLOCK, Clock, ManualClock
from chromalith.coord.lease import HeldBy, Lease, Tenure
from chromalith.coord.lease_table import LeaseAddress, LeaseRecord, LeaseTable, Seen, Witness
from chromalith.coord.object_leases import ObjectLeases
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

DAMAGES = ("empty", "no token", "a token that is no text", "an empty token", "a format to come")
"""What can stand in a lease's place without being one. Each place writes its own kind of it."""


class LeasePlace(Protocol):
    """A place for leases as its tests need it: many handles on it, and what nobody does through the port."""

    @property
    def store(self) -> Store:
        """The store whose leases these are."""
        ...

    def table(self, clock: Clock) -> LeaseTable:
        """A handle of its own, as another machine has it."""
        ...

    def remove(self, key: str) -> None:
        """Take the record away."""
        ...

    def spoil(self, key: str, damage: str) -> None:
        """Write one of :data:`DAMAGES` in its place."""
        ...


class ObjectPlace:
    """Leases as objects of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def table(self, clock: Clock) -> LeaseTable:
        return ObjectLeases(self.store, clock)

    def remove(self, key: str) -> None:
        self.store.delete(key)

    def spoil(self, key: str, damage: str) -> None:
        bodies = {
            "empty": b"",
            "no token": b'{"format":2,"owner":"a"}',
            "a token that is no text": b'{"format":2,"owner":"a","token":[1]}',
            "an empty token": b'{"format":2,"owner":"a","token":""}',
            "a format to come": b'{"format":99,"owner":"a","token":"t","until":"tomorrow"}',
        }
        self.store.put(key, bodies[damage])


class Watched:
    """A table that tells of each verb before it happens."""

    def __init__(self, inner: LeaseTable, before: Callable[[str], object]) -> None:
        self._inner = inner
        self._before = before

    @property
    def place(self) -> str:
        return self._inner.place

    @property
    def address(self) -> LeaseAddress | None:
        return self._inner.address

    def look(self, key: str) -> Seen | None:
        self._before("look")
        return self._inner.look(key)

    def write(self, key: str, record: LeaseRecord, witness: Witness | None) -> Witness:
        self._before("write")
        return self._inner.write(key, record, witness)

    def date_us(self, key: str) -> int | None:
        self._before("date_us")
        return self._inner.date_us(key)

    def keys(self) -> set[str] | None:
        return self._inner.keys()


class Machines:
    """One place, and machines around it, each with clocks of its own: they start anywhere, and each runs when its owner says so."""

    def __init__(self, place: LeasePlace, key: str | None = None) -> None:
        self.place = place
        self.key = key or layout.lease_key(CollectionId(SYSTEM_CLOCK.random_uuid()))
        self.now_us = SYSTEM_CLOCK.now_us()
        self._made = 0

    def clock(self, *, apart_us: int = 0, monotonic_s: float = 0.0) -> ManualClock:
        self._made += 1  # no two machines draw the same chance
        clock = ManualClock(wall_us=self.now_us + apart_us, seed=self._made)
        clock._monotonic_s = monotonic_s
        return clock

    def machine(
        self,
        name: str,
        *,
        clock: ManualClock | None = None,
        through: Callable[[LeaseTable], LeaseTable] = lambda table: table,
        **options: Any,
    ) -> tuple[ManualClock, Lease]:
        clock = clock or self.clock()
        return clock, Lease(through(self.place.table(clock)), self.key, clock, purpose="fold", owner=name, **options)

    def record(self) -> LeaseRecord:
        seen = self.place.table(self.clock()).look(self.key)
        assert seen is not None
        return seen.record


def in_store(store: Store) -> LeaseTable:
    """The leases that stand in a store."""
    return ObjectLeases(store, SYSTEM_CLOCK)


def held(found: Tenure | HeldBy) -> Tenure:
    assert isinstance(found, Tenure), found
    return found


def refused(found: Tenure | HeldBy) -> HeldBy:
    assert isinstance(found, HeldBy), found
    return found
