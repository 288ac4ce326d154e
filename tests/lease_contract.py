"""What each place for leases must keep (``chromalith.coord.lease_table``), as tests: one suite for objects and for DynamoDB.

Subclass :class:`LeaseContract` where pytest collects, and give it a fixture ``place``: a :class:`~tests.lease_places.LeasePlace`.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.lease_places import DAMAGES, LeasePlace, Machines, Watched, held, refused

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.coord.lease import HeldBy, Lease, Tenure, break_lease
from chromalith.coord.lease_table import LEASE_S, LeaseRecord, Overtaken, Seen
from chromalith.errors import ChromalithError, Conflict, Invalid, Unavailable, Unknown


class LeaseContract:
    """The suite."""

    racers: int = 40

    @pytest.fixture
    def machines(self, place: LeasePlace) -> Machines:
        return Machines(place)

    # -- acquire, beat, release ----------------------------------------------------------------------------------------

    def test_one_of_two_gets_it(self, machines: Machines) -> None:
        """A lease that is free goes to one; the other is told who has it, and since when it is waiting."""
        _, a = machines.machine("a")
        _, b = machines.machine("b")
        tenure = held(a.try_acquire())
        other = refused(b.try_acquire())
        assert other.owner == tenure.record.owner
        assert other.owner.startswith("a/")
        assert (other.wait_s, other.alive) == (LEASE_S, False)

    def test_released_it_goes_to_the_next_at_once(self, machines: Machines) -> None:
        """A release overwrites, and never deletes: the record stays, and says who had it."""
        _, a = machines.machine("a")
        _, b = machines.machine("b")
        tenure = held(a.try_acquire())
        tenure.release()
        assert machines.record().released
        assert machines.record().owner == tenure.record.owner
        assert held(b.try_acquire()).record.owner.startswith("b/")

    @pytest.mark.parametrize("released", [False, True])
    def test_of_many_at_once_one_wins(self, machines: Machines, released: bool) -> None:
        """Of forty threads that take a free lease at the same moment exactly one has it, and it can beat. The others know who."""
        handles = [machines.place.table(SYSTEM_CLOCK) for _ in range(4)]
        if released:
            held(machines.machine("before")[1].try_acquire()).release()
        together = threading.Barrier(self.racers)

        def race(number: int) -> Tenure | HeldBy:
            lease = Lease(handles[number % 4], machines.key, SYSTEM_CLOCK, purpose="fold", owner=f"racer-{number}")
            together.wait(60)
            return lease.try_acquire()

        with ThreadPoolExecutor(self.racers) as pool:
            found = list(pool.map(race, range(self.racers)))
        (winner,) = [each for each in found if isinstance(each, Tenure)]
        assert {each.owner for each in found if isinstance(each, HeldBy)} == {winner.record.owner}
        assert winner.beat()
        assert machines.record().owner == winner.record.owner

    @pytest.mark.parametrize("apart_us", [0, 3_600_000_000, -86_400_000_000])
    @pytest.mark.parametrize("monotonic_s", [0.0, 1e6])
    def test_expiry_is_the_observers_own(self, machines: Machines, apart_us: int, monotonic_s: float) -> None:
        """A dead holder is replaced exactly when its record stood unchanged for its lease time on the observer's monotonic clock: however
        far the clocks of the machines and of the store are apart, and whatever the wall clocks do meanwhile."""
        _, a = machines.machine("a")
        clock, b = machines.machine("b", clock=machines.clock(apart_us=apart_us, monotonic_s=monotonic_s))
        held(a.try_acquire())
        refused(b.try_acquire())
        clock._monotonic_s += LEASE_S - 0.001
        clock.wall_us += 10**13
        assert refused(b.try_acquire()).wait_s == pytest.approx(0.001, abs=1e-4)
        clock._monotonic_s += 0.001
        assert held(b.try_acquire()).record.owner.startswith("b/")

    def test_the_record_says_how_long(self, machines: Machines) -> None:
        """The lease time that counts is the holder's, not the observer's; one that is absurd counts as ten minutes."""
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

    def test_a_holder_that_beats_is_never_replaced(self, machines: Machines) -> None:
        """As long as the record changes within a lease time, nobody takes over, and an observer sees that the holder lives."""
        _, a = machines.machine("a")
        clock, b = machines.machine("b")
        tenure = held(a.try_acquire())
        for beat in range(5):
            other = refused(b.try_acquire())
            assert other.alive is (beat > 0)
            clock.advance(LEASE_S - 1)
            refused(b.try_acquire())
            assert tenure.beat()
        assert not tenure.lost

    def test_an_observer_sees_nothing_while_it_does_not_look(self, machines: Machines) -> None:
        """The time between two looks counts only if both saw the same record: an observer that comes back late begins to wait anew."""
        _, a = machines.machine("a")
        clock, b = machines.machine("b")
        tenure = held(a.try_acquire())
        refused(b.try_acquire())
        tenure.beat()
        clock.advance(1000)
        assert refused(b.try_acquire()).wait_s == LEASE_S
        clock.advance(LEASE_S)
        held(b.try_acquire())

    def test_a_look_that_takes_long_counts_nothing(self, machines: Machines) -> None:
        """The time is measured from the end of the first look to the start of the last: slow requests do not make a holder older."""
        _, a = machines.machine("a")
        clock = machines.clock()

        class Slow(Watched):
            def look(self, key: str) -> Seen | None:
                clock.advance(LEASE_S)
                found = super().look(key)
                clock.advance(LEASE_S)
                return found

        held(a.try_acquire())
        _, b = machines.machine("b", clock=clock, through=lambda table: Slow(table, lambda verb: None))
        refused(b.try_acquire())
        assert refused(b.try_acquire()).wait_s == LEASE_S
        clock.advance(LEASE_S)
        held(b.try_acquire())

    # -- lost, broken, believed by two ---------------------------------------------------------------------------------

    def test_a_heartbeat_never_takes_back(self, machines: Machines) -> None:
        """A holder that overslept and was replaced finds out at its next beat, and changes nothing, then or later."""
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

    def test_who_owned_it_before_does_not_own_it_again(self, machines: Machines) -> None:
        """Acquired again by the same process, a lease is another tenure: a beat of the earlier one does not keep it alive or touch it."""
        _, a = machines.machine("a")
        first = held(a.try_acquire())
        first.release()
        second = held(a.try_acquire())
        assert first.record.owner != second.record.owner
        before = machines.record()
        assert not first.beat()
        assert machines.record() == before

    def test_a_heartbeat_elsewhere_does_not_undo_a_release(self, machines: Machines) -> None:
        """A process that beats for the holder, and is late, leaves a lease that the holder released as it is."""
        clock, a = machines.machine("a")
        tenure = held(a.try_acquire())
        table = machines.place.table(clock)
        seen = table.look(machines.key)
        assert seen is not None
        elsewhere = Tenure(table, machines.key, clock, seen.record, seen.witness)
        assert elsewhere.beat()
        assert tenure.beat()
        assert elsewhere.beat()
        tenure.release()
        assert not elsewhere.beat()
        assert machines.record().released

    def test_breaking_needs_the_owner(self, machines: Machines) -> None:
        """Only the lease that was named is broken; the holder learns of it at its next beat, and does not undo it."""
        clock, a = machines.machine("a")
        tenure = held(a.try_acquire())
        table = machines.place.table(clock)
        with pytest.raises(Conflict, match="another owner"):
            break_lease(table, machines.key, clock, expected_owner="somebody else")
        assert tenure.beat()
        broken = break_lease(table, machines.key, clock, expected_owner=tenure.record.owner, by="a person")
        assert broken is not None
        assert machines.record().released
        assert not tenure.beat()
        assert tenure.lost_to.owner == "a person"
        assert machines.record().released
        assert break_lease(table, machines.key, clock, expected_owner=tenure.record.owner) is None

    def test_breaking_goes_on_while_the_holder_beats(self, machines: Machines) -> None:
        """A beat between the look and the overwriting does not save a lease from being broken."""
        clock, a = machines.machine("a")
        tenure = held(a.try_acquire())
        beats = iter(range(3))

        def beat(verb: str) -> None:
            if verb == "write" and next(beats, None) is not None:
                assert tenure.beat()

        table = Watched(machines.place.table(clock), beat)
        assert break_lease(table, machines.key, clock, expected_owner=tenure.record.owner) is not None
        assert next(beats, None) is None
        assert not tenure.beat()

    def test_a_record_that_is_gone_is_lost(self, machines: Machines) -> None:
        """Deleted by a person, or tidied away by DynamoDB: its holder does not write it again, and the next one may have it at once."""
        _, a = machines.machine("a")
        tenure = held(a.try_acquire())
        assert tenure.date_us() is not None
        machines.place.remove(machines.key)
        assert tenure.date_us() is None
        assert not tenure.beat()
        tenure.release()
        assert machines.place.table(machines.clock()).look(machines.key) is None
        successor = held(machines.machine("b")[1].try_acquire())
        assert not tenure.beat()
        assert successor.beat()

    @pytest.mark.parametrize("moment", range(6))
    def test_a_record_may_go_at_any_moment(self, machines: Machines, moment: int) -> None:
        """Whenever the record vanishes in a life of acquiring, beating and releasing: at no time are there two holders who could both
        beat, nothing raises, and afterwards the lease can be had."""
        calls = 0

        def count(verb: str) -> None:
            nonlocal calls
            if calls == moment:
                machines.place.remove(machines.key)
            calls += 1

        tenures: list[Tenure] = []
        for name in ("a", "b"):
            found = machines.machine(name, through=lambda table: Watched(table, count))[1].try_acquire()
            if isinstance(found, Tenure):
                tenures.append(found)
            assert sum(tenure.beat() for tenure in tenures) <= 1
        for tenure in tenures:
            tenure.release()
        assert calls > moment
        assert held(machines.machine("c")[1].try_acquire()).beat()

    @pytest.mark.parametrize("error", [Unavailable, Invalid, Unknown])
    def test_a_release_that_fails_raises_nothing(self, machines: Machines, error: type[ChromalithError]) -> None:
        """The network, or credentials that ended meanwhile: the work is done all the same, and the lease runs out."""
        fails = False

        def fail(verb: str) -> None:
            if fails:
                raise error("no release")

        _, a = machines.machine("a", through=lambda table: Watched(table, fail))
        tenure = held(a.try_acquire())
        fails = True
        tenure.release()
        assert not machines.record().released
        clock, b = machines.machine("b")
        refused(b.try_acquire())
        clock.advance(LEASE_S)
        held(b.try_acquire())

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_what_can_not_be_read_runs_out(self, machines: Machines, damage: str) -> None:
        """A record that is damaged, or of a format to come, keeps others waiting for one lease time, not for ever, and raises nothing."""
        machines.place.spoil(machines.key, damage)
        clock, a = machines.machine("a")
        assert refused(a.try_acquire()).owner == "unreadable"
        clock.advance(LEASE_S)
        assert held(a.try_acquire()).beat()

    def test_the_loser_of_a_race_is_told_of_the_winner(self, machines: Machines) -> None:
        """Who is overtaken between the look and the write names who did it."""
        _, b = machines.machine("b")

        def overtake(verb: str) -> None:
            if verb == "write":
                b.try_acquire()

        _, a = machines.machine("a", through=lambda table: Watched(table, overtake))
        assert refused(a.try_acquire()).owner.startswith("b/")

    def test_who_is_overtaken_sees_by_what(self, machines: Machines) -> None:
        """A write on an old witness, or on none where there is something, changes nothing, and tells what is there."""
        tenure = held(machines.machine("a")[1].try_acquire())
        table = machines.place.table(machines.clock())
        old = table.look(machines.key)
        assert old is not None
        tenure.beat()
        now = table.look(machines.key)
        assert now is not None
        assert now.witness != old.witness
        mine = LeaseRecord("me", SYSTEM_CLOCK.random_hex(32), LEASE_S, "fold", False)
        for witness in (None, old.witness):
            with pytest.raises(Overtaken) as error:
                table.write(machines.key, mine, witness)
            assert error.value.seen is not None
            assert error.value.seen.witness == now.witness
        machines.place.remove(machines.key)
        with pytest.raises(Overtaken) as error:
            table.write(machines.key, mine, now.witness)
        assert error.value.seen is None

    def test_what_was_written_is_what_is_seen(self, machines: Machines) -> None:
        """Each field comes back, whatever an owner is called; and when it was written is known, for people."""
        clock = machines.clock()
        table = machines.place.table(clock)
        for number, owner in enumerate(("host/1/00000000", "Rechner für 日本/2/f", "")):
            record = LeaseRecord(owner, SYSTEM_CLOCK.random_hex(32), 12.5, "merge", number == 1)
            seen = table.look(machines.key)
            table.write(machines.key, record, None if seen is None else seen.witness)
            seen = table.look(machines.key)
            assert seen is not None
            assert seen.record == record
            assert seen.modified_us is not None

    # -- the date ------------------------------------------------------------------------------------------------------

    def test_the_date_is_the_stores(self, machines: Machines) -> None:
        """It lies between the timestamps of what was put before it and after it, whatever the holder's clock says."""

        def timestamp() -> int:
            machines.place.store.put("probe/date", b"")
            return machines.place.store.head("probe/date").modified_us

        clock = machines.clock(apart_us=-(10**15))
        before_us = timestamp()
        tenure = held(machines.machine("a", clock=clock)[1].try_acquire())
        for _ in range(2):
            date_us = tenure.date_us()
            assert date_us is not None
            after_us = timestamp()
            assert before_us <= date_us <= after_us
            before_us = after_us

    # -- waiting -------------------------------------------------------------------------------------------------------

    def test_waiting_ends_when_the_holder_is_dead(self, machines: Machines) -> None:
        """A blocking acquisition takes a dead holder's lease over after its lease time, and no later than it must."""
        held(machines.machine("a")[1].try_acquire())
        clock, b = machines.machine("b")
        held(b.acquire(1000))
        assert LEASE_S <= clock.slept_s < LEASE_S + 5

    def test_waiting_ends_when_the_holder_lives(self, machines: Machines) -> None:
        """It does not wait for somebody who is seen to be at work: a beat ends it."""
        tenure = held(machines.machine("a")[1].try_acquire())

        class Beats(ManualClock):
            def sleep(self, seconds: float) -> None:
                super().sleep(seconds)
                if self.slept_s >= LEASE_S / 3 and not beaten:
                    beaten.append(tenure.beat())

        beaten: list[bool] = []
        clock = Beats(wall_us=machines.now_us, seed=99)
        assert refused(machines.machine("b", clock=clock)[1].acquire(1000)).alive
        assert clock.slept_s < LEASE_S / 2

    def test_waiting_ends_with_the_time(self, machines: Machines) -> None:
        """A timeout is kept."""
        held(machines.machine("a")[1].try_acquire())
        clock, b = machines.machine("b")
        assert not refused(b.acquire(5)).alive
        assert clock.slept_s == pytest.approx(5)
