"""Leases: who holds one is left alone as long as they beat; who is dead is replaced; whatever happens to a lease, nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.worlds import keys

from chromalith.clock import ManualClock
from chromalith.coord.lease import LEASE_S, HeldBy, Lease, LeaseRecord, Tenure, break_lease, look
from chromalith.errors import Conflict, Unavailable
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.faulty import Fault, FaultyStore, at_verb

KEY = "lease/x.json"


class Machines:
    """One store, and machines around it, each with clocks of its own: they start anywhere, and each runs when its owner says so."""

    def __init__(self) -> None:
        self.store = MemoryStore(ManualClock())

    def machine(self, name: str, *, wall_us: int = 0, monotonic_s: float = 0.0, store: Store | None = None, **options: Any) -> Any:
        clock = ManualClock(wall_us=wall_us, seed=hash(name) % 1000)
        clock._monotonic_s = monotonic_s
        return clock, Lease(store or self.store, KEY, clock, purpose="fold", owner=name, **options)

    def record(self) -> LeaseRecord:
        seen = look(self.store, KEY)
        assert seen is not None
        return seen.record


def held(found: Tenure | HeldBy) -> Tenure:
    assert isinstance(found, Tenure), found
    return found


def refused(found: Tenure | HeldBy) -> HeldBy:
    assert isinstance(found, HeldBy), found
    return found


# -- acquire, beat, release --------------------------------------------------------------------------------------------


def test_one_of_two_gets_it() -> None:
    """A lease that is free goes to one; the other is told who has it, and since when it is waiting."""
    machines = Machines()
    _, a = machines.machine("a")
    _, b = machines.machine("b")
    tenure = held(a.try_acquire())
    other = refused(b.try_acquire())
    assert other.owner == tenure.record.owner
    assert other.owner.startswith("a/")
    assert (other.wait_s, other.alive) == (LEASE_S, False)


def test_released_it_goes_to_the_next_at_once() -> None:
    """A release overwrites, and never deletes: the object stays, and says who had it."""
    machines = Machines()
    _, a = machines.machine("a")
    _, b = machines.machine("b")
    tenure = held(a.try_acquire())
    tenure.release()
    assert machines.record().released
    assert machines.record().owner == tenure.record.owner
    assert held(b.try_acquire()).record.owner.startswith("b/")


def test_every_write_is_conditional_and_none_deletes() -> None:
    """No put of a lease goes without a condition, and nothing deletes one, in a whole life of acquiring, beating, breaking and so on."""
    seen: list[tuple[str, object]] = []

    class Watching(EveryCallStore):
        def put(self, key, body, condition=None):  # type: ignore[no-untyped-def]
            seen.append(("put", condition))
            return super().put(key, body, condition)

        def delete(self, key):  # type: ignore[no-untyped-def]
            seen.append(("delete", None))
            return super().delete(key)

    machines = Machines()
    store = Watching(machines.store)
    _, a = machines.machine("a", store=store)
    clock, b = machines.machine("b", store=store)
    tenure = held(a.try_acquire())
    tenure.beat()
    tenure.release()
    tenure = held(a.try_acquire())
    refused(b.try_acquire())
    clock.advance(LEASE_S)
    taken = held(b.try_acquire())
    assert not tenure.beat()
    break_lease(store, KEY, clock, expected_owner=taken.record.owner)
    assert not taken.beat()
    assert len(seen) >= 7
    assert all(verb == "put" and condition is not None for verb, condition in seen)


@pytest.mark.parametrize("apart_us", [0, 3_600_000_000, -86_400_000_000])
@pytest.mark.parametrize("monotonic_s", [0.0, 1e6])
def test_expiry_is_the_observers_own(apart_us: int, monotonic_s: float) -> None:
    """A dead holder is replaced exactly when its record stood unchanged for its lease time on the observer's monotonic clock: however far
    the clocks of the machines and of the store are apart, and whatever the wall clocks do meanwhile."""
    machines = Machines()
    _, a = machines.machine("a", wall_us=10**15)
    clock, b = machines.machine("b", wall_us=10**15 + apart_us, monotonic_s=monotonic_s)
    held(a.try_acquire())
    refused(b.try_acquire())
    clock._monotonic_s += LEASE_S - 0.001
    clock.wall_us += 10**13
    assert refused(b.try_acquire()).wait_s == pytest.approx(0.001, abs=1e-4)
    clock._monotonic_s += 0.001
    assert held(b.try_acquire()).record.owner.startswith("b/")


def test_the_record_says_how_long() -> None:
    """The lease time that counts is the holder's, not the observer's; one that is absurd counts as ten minutes."""
    machines = Machines()
    _, a = machines.machine("a", lease_s=100.0)
    clock, b = machines.machine("b", lease_s=1.0)
    held(a.try_acquire())
    assert refused(b.try_acquire()).wait_s == 100.0
    clock.advance(99)
    refused(b.try_acquire())
    clock.advance(1)
    held(b.try_acquire()).release()
    _, forever = machines.machine("c", lease_s=1e9)
    held(forever.try_acquire())
    assert refused(b.try_acquire()).wait_s == 600.0


def test_a_holder_that_beats_is_never_replaced() -> None:
    """As long as the record changes within a lease time, nobody takes over, and an observer sees that the holder lives."""
    machines = Machines()
    _, a = machines.machine("a")
    clock, b = machines.machine("b")
    tenure = held(a.try_acquire())
    for beat in range(20):
        other = refused(b.try_acquire())
        assert other.alive is (beat > 0)
        clock.advance(LEASE_S - 1)
        refused(b.try_acquire())
        assert tenure.beat()
    assert not tenure.lost


def test_an_observer_sees_nothing_while_it_does_not_look() -> None:
    """The time between two looks counts only if both saw the same record: an observer that comes back late begins to wait anew."""
    machines = Machines()
    _, a = machines.machine("a")
    clock, b = machines.machine("b")
    tenure = held(a.try_acquire())
    refused(b.try_acquire())
    tenure.beat()
    clock.advance(1000)
    assert refused(b.try_acquire()).wait_s == LEASE_S
    clock.advance(LEASE_S)
    held(b.try_acquire())


def test_a_look_that_takes_long_counts_nothing() -> None:
    """The time is measured from the end of the first look to the start of the last: slow requests do not make a holder older."""
    machines = Machines()
    _, a = machines.machine("a")
    clock = ManualClock()

    class Slow(EveryCallStore):
        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            clock.advance(LEASE_S)
            found = request()
            clock.advance(LEASE_S)
            return found

    held(a.try_acquire())
    b = Lease(Slow(machines.store), KEY, clock, purpose="fold", owner="b")
    refused(b.try_acquire())
    assert refused(b.try_acquire()).wait_s == LEASE_S
    clock.advance(LEASE_S)
    held(b.try_acquire())


# -- lost, broken, believed by two -------------------------------------------------------------------------------------


def test_a_heartbeat_never_takes_back() -> None:
    """A holder that overslept and was replaced finds out at its next beat, and changes nothing, then or later."""
    machines = Machines()
    _, a = machines.machine("a")
    clock, b = machines.machine("b")
    old = held(a.try_acquire())
    refused(b.try_acquire())
    clock.advance(LEASE_S)
    new = held(b.try_acquire())
    assert not old.lost  # it believes so: this is what the conditional publish is for
    before = machines.record()
    for _ in range(3):
        assert not old.beat()
        assert old.date_us() is None
        old.release()
    assert old.lost
    assert old.lost_to.owner == new.record.owner
    assert machines.record() == before
    new.release()
    assert not old.beat()
    assert machines.record().released


def test_who_owned_it_before_does_not_own_it_again() -> None:
    """Acquired again by the same process, a lease is another tenure: a beat of the earlier one does not keep it alive or touch it."""
    machines = Machines()
    _, a = machines.machine("a")
    first = held(a.try_acquire())
    first.release()
    second = held(a.try_acquire())
    assert first.record.owner != second.record.owner
    before = machines.record()
    assert not first.beat()
    assert machines.record() == before


def test_a_heartbeat_elsewhere_does_not_undo_a_release() -> None:
    """A process that beats for the holder, and is late, leaves a lease that the holder released as it is."""
    machines = Machines()
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())
    seen = look(machines.store, KEY)
    assert seen is not None
    elsewhere = Tenure(machines.store, KEY, clock, seen.record, seen.etag)
    assert elsewhere.beat()
    assert tenure.beat()
    assert elsewhere.beat()
    tenure.release()
    assert not elsewhere.beat()
    assert machines.record().released


def test_breaking_needs_the_owner() -> None:
    """Only the lease that was named is broken; the holder learns of it at its next beat, and does not undo it."""
    machines = Machines()
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())
    with pytest.raises(Conflict, match="another owner"):
        break_lease(machines.store, KEY, clock, expected_owner="somebody else")
    assert tenure.beat()
    broken = break_lease(machines.store, KEY, clock, expected_owner=tenure.record.owner, by="a person")
    assert broken is not None
    assert machines.record().released
    assert not tenure.beat()
    assert tenure.lost_to.owner == "a person"
    assert machines.record().released
    assert break_lease(machines.store, KEY, clock, expected_owner=tenure.record.owner) is None


def test_breaking_goes_on_while_the_holder_beats() -> None:
    """A beat between the look and the overwriting does not save a lease from being broken."""
    machines = Machines()
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())
    beats = 3

    class Beating(EveryCallStore):
        def put(self, key, body, condition=None):  # type: ignore[no-untyped-def]
            nonlocal beats
            if beats:
                beats -= 1
                tenure.beat()
            return super().put(key, body, condition)

    assert break_lease(Beating(machines.store), KEY, clock, expected_owner=tenure.record.owner) is not None
    assert beats == 0
    assert not tenure.beat()


def test_a_deleted_lease_is_lost() -> None:
    """If somebody deletes the object, its holder does not write it again."""
    machines = Machines()
    _, a = machines.machine("a")
    tenure = held(a.try_acquire())
    machines.store.delete(KEY)
    assert tenure.date_us() is None
    assert not tenure.beat()
    assert keys(machines.store) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"format": 99}', b'{"format":2,"owner":"a"}'])
def test_what_can_not_be_read_runs_out(body: bytes) -> None:
    """A record that is damaged, or of a format to come, keeps others waiting for one lease time, not for ever, and raises nothing."""
    machines = Machines()
    machines.store.put(KEY, body)
    clock, a = machines.machine("a")
    assert refused(a.try_acquire()).owner == "unreadable"
    clock.advance(LEASE_S)
    held(a.try_acquire())


def test_what_the_first_release_wrote_is_free() -> None:
    """The first release wrote the object without holding it."""
    machines = Machines()
    machines.store.put(KEY, json.dumps({"format": 1, "owner": "o", "at_us": 1, "write_id": "w"}).encode())
    held(machines.machine("a")[1].try_acquire())


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE, Fault.BEFORE])
def test_an_unknown_beat_is_looked_up(fault: Fault) -> None:
    """A beat whose reply is lost has happened, or is repeated; one that fails is no loss: the next one tells."""
    machines = Machines()
    store = FaultyStore(machines.store, at_verb("put", None, fault), ManualClock(), late_calls=2)
    tenure = held(machines.machine("a", store=store)[1].try_acquire())
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
def test_an_acquisition_whose_reply_is_lost(fault: Fault) -> None:
    """It is looked up: the lease is held, and its holder knows."""
    machines = Machines()
    store = FaultyStore(machines.store, at_verb("put", fault), ManualClock(), late_calls=2)
    tenure = held(machines.machine("a", store=store)[1].try_acquire())
    assert machines.record().owner == tenure.record.owner
    assert tenure.beat()


def test_the_loser_of_a_race_is_told_of_the_winner() -> None:
    """Who is overtaken between the look and the put names who did it."""
    machines = Machines()
    _, b = machines.machine("b")

    class Overtaking(EveryCallStore):
        def put(self, key, body, condition=None):  # type: ignore[no-untyped-def]
            b.try_acquire()
            return super().put(key, body, condition)

    other = refused(machines.machine("a", store=Overtaking(machines.store))[1].try_acquire())
    assert other.owner.startswith("b/")


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_waiting_ends_when_the_holder_is_dead() -> None:
    """A blocking acquisition takes a dead holder's lease over after its lease time, and no later than it must."""
    machines = Machines()
    held(machines.machine("a")[1].try_acquire())
    clock, b = machines.machine("b")
    held(b.acquire(1000))
    assert LEASE_S <= clock.slept_s < LEASE_S + 5


def test_waiting_ends_when_the_holder_lives() -> None:
    """It does not wait for somebody who is seen to be at work: a beat ends it."""
    machines = Machines()
    tenure = held(machines.machine("a")[1].try_acquire())

    class Beats(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.slept_s >= LEASE_S / 3 and not beaten:
                beaten.append(tenure.beat())

    beaten: list[bool] = []
    clock = Beats()
    other = refused(Lease(machines.store, KEY, clock, purpose="fold", owner="b").acquire(1000))
    assert other.alive
    assert clock.slept_s < LEASE_S / 2


def test_waiting_ends_with_the_time() -> None:
    """A timeout is kept."""
    machines = Machines()
    held(machines.machine("a")[1].try_acquire())
    clock, b = machines.machine("b")
    assert not refused(b.acquire(5)).alive
    assert clock.slept_s == pytest.approx(5)
