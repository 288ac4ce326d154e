"""Leases: who holds one is left alone as long as they beat; who is dead is replaced; whatever happens to a lease, nothing is lost.

What holds wherever leases are kept is told by ``tests/lease_contract.py``; here it runs on objects in memory. Below is what is particular
to objects.
"""

from __future__ import annotations

import json

import pytest
from tests.lease_contract import LeaseContract
from tests.lease_places import Machines, ObjectPlace, held, refused
from tests.worlds import keys

from chromalith.clock import ManualClock
from chromalith.coord.lease import break_lease
from chromalith.coord.lease_table import LEASE_S
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import Unavailable
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.faulty import Fault, FaultyStore, at_verb


class TestInMemory(LeaseContract):
    @pytest.fixture
    def place(self) -> ObjectPlace:
        return ObjectPlace(MemoryStore(ManualClock()))


@pytest.fixture
def store() -> Store:
    return MemoryStore(ManualClock())


def test_every_write_is_conditional_and_none_deletes(store: Store) -> None:
    """No put of a lease goes without a condition, and nothing deletes one, in a whole life of acquiring, beating, breaking and so on."""
    seen: list[tuple[str, object]] = []

    class Watching(EveryCallStore):
        def put(self, key, body, condition=None):  # type: ignore[no-untyped-def]
            seen.append(("put", condition))
            return super().put(key, body, condition)

        def delete(self, key):  # type: ignore[no-untyped-def]
            seen.append(("delete", None))
            return super().delete(key)

    machines = Machines(ObjectPlace(Watching(store)))
    _, a = machines.machine("a")
    clock, b = machines.machine("b")
    tenure = held(a.try_acquire())
    tenure.beat()
    tenure.release()
    tenure = held(a.try_acquire())
    refused(b.try_acquire())
    clock.advance(LEASE_S)
    taken = held(b.try_acquire())
    assert not tenure.beat()
    break_lease(machines.place.table(clock), machines.key, clock, expected_owner=taken.record.owner)
    assert not taken.beat()
    assert len(seen) >= 7
    assert all(verb == "put" and condition is not None for verb, condition in seen)


def test_the_date_costs_nothing_more(store: Store) -> None:
    """A lease's own timestamp is the store's date: no other object is written for it."""
    machines = Machines(ObjectPlace(store))
    tenure = held(machines.machine("a")[1].try_acquire())
    assert tenure.date_us() == store.head(machines.key).modified_us
    assert keys(store) == [machines.key]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"format": 99}', b'{"format":2,"owner":"a"}'])
def test_what_can_not_be_read_runs_out(store: Store, body: bytes) -> None:
    """Whatever bytes stand there keep others waiting for one lease time, not for ever, and raise nothing."""
    machines = Machines(ObjectPlace(store))
    store.put(machines.key, body)
    clock, a = machines.machine("a")
    assert refused(a.try_acquire()).owner == "unreadable"
    clock.advance(LEASE_S)
    held(a.try_acquire())


def test_what_the_first_release_wrote_is_free(store: Store) -> None:
    """The first release wrote the object without holding it."""
    machines = Machines(ObjectPlace(store))
    store.put(machines.key, json.dumps({"format": 1, "owner": "o", "at_us": 1, "write_id": "w"}).encode())
    held(machines.machine("a")[1].try_acquire())


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE, Fault.BEFORE])
def test_an_unknown_beat_is_looked_up(store: Store, fault: Fault) -> None:
    """A beat whose reply is lost has happened, or is repeated; one that fails is no loss: the next one tells."""
    faulty = FaultyStore(store, at_verb("put", None, fault), ManualClock(), late_calls=2)
    machines = Machines(ObjectPlace(faulty))
    tenure = held(machines.machine("a")[1].try_acquire())
    token = machines.record().token
    if fault is Fault.BEFORE:
        with pytest.raises(Unavailable):
            tenure.beat()
        assert machines.record().token == token
    else:
        assert tenure.beat()
        assert machines.record().token != token
    assert tenure.beat()
    assert not tenure.lost


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
def test_an_acquisition_whose_reply_is_lost(store: Store, fault: Fault) -> None:
    """It is looked up: the lease is held, and its holder knows."""
    faulty = FaultyStore(store, at_verb("put", fault), ManualClock(), late_calls=2)
    tenure = held(Machines(ObjectPlace(faulty), "lease/x.json").machine("a")[1].try_acquire())
    seen = ObjectLeases(store, ManualClock()).look("lease/x.json")
    assert seen is not None
    assert seen.record.owner == tenure.record.owner
    assert tenure.beat()
