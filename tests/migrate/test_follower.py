"""A process follows the state: never writes on an old one, waits for freezes, and costs its store next to nothing."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from chromalith.clock import ManualClock
from chromalith.errors import Corrupt, Unavailable
from chromalith.migrate.follower import NOT_STARTED_AGE_MAX_S, READ_AGE_MAX_S, Follower, View
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.state import Freeze, SideName, State, Timing
from chromalith.migrate.states import States, change_of
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call, Fault, FaultyStore
from chromalith.testing.in_line import InLineExecutor

SIDE = SideName(SideKind.CLIENT, "source", "t", "d")
FREEZE = Freeze("f1", "switch", "tool@host", 0)


class Rig:
    """A follower over a store that counts and fails, and a tool that changes the state behind its back."""

    def __init__(self, *, started: bool = True, background: bool = True, timing: Timing | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.down = False
        self.faulty = FaultyStore(self.store, self._choose, self.clock)
        self.states = States(Place(self.store, clock=self.clock))
        if started:
            self.states.create(State("default", SIDE, replace(SIDE, url="target"), timing=timing or Timing()))
        executor = (lambda workers, name: InLineExecutor()) if background else None
        self.follower = Follower(States(Place(self.faulty, clock=self.clock)), who="client", executor=executor)

    def _choose(self, call: Call) -> Fault | None:
        return Fault.BEFORE if self.down else None

    @property
    def requests(self) -> int:
        return len(self.faulty.calls)

    def change(self, **fields: object) -> None:
        self.states.change(lambda state: state.changed(change_of(self.clock, "test", "", "", "", "test"), **fields))


def test_a_fresh_state_costs_no_request_and_a_used_one_is_refreshed_behind_the_callers_back() -> None:
    """Of many calls in a second one asks; after a third of the age limit the next call's refresh is seen by the call after it."""
    rig = Rig()
    for _ in range(50):
        rig.follower.writable()
    assert rig.requests == 1
    rig.change(phase=Phase.DUAL)
    rig.clock.advance(1.7)
    rig.follower.writable()
    assert rig.follower.writable().state.phase is Phase.DUAL
    assert rig.requests == 2


def test_a_process_that_does_nothing_asks_nothing() -> None:
    """No thread looks by itself."""
    rig = Rig()
    rig.follower.writable()
    rig.clock.advance(3_600)
    assert rig.requests == 1


def test_no_write_begins_on_a_state_that_is_too_old() -> None:
    """It is read in the caller's way; and refused, with nothing else tried, if it can't be."""
    rig = Rig(background=False)
    rig.follower.writable()
    rig.change(phase=Phase.DUAL)
    rig.clock.advance(4.9)
    assert rig.follower.writable().state.phase is Phase.DIRECT
    rig.clock.advance(0.2)
    assert rig.follower.writable().state.phase is Phase.DUAL
    rig.down = True
    rig.clock.advance(4.9)
    rig.follower.writable()
    rig.clock.advance(0.2)
    with pytest.raises(Unavailable):
        rig.follower.writable()
    assert rig.follower.failures == 1


def test_a_state_that_takes_longer_to_read_than_it_may_be_old_is_no_state_to_write_on() -> None:
    """The age counts from the beginning of the reading."""
    rig = Rig(background=False)
    real = rig.store.get

    def slow(key: str) -> object:
        rig.clock.advance(6)
        return real(key)

    rig.store.get = slow  # type: ignore[method-assign,assignment]
    rig.store.get_if_changed = lambda key, etag: slow(key)  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(Unavailable, match="takes longer to read"):
        rig.follower.writable()


def test_reads_go_on_for_a_while_on_the_last_state_known() -> None:
    """While its store is down; not forever, and not before any was seen."""
    rig = Rig(background=False)
    rig.follower.view()
    rig.down = True
    rig.clock.advance(READ_AGE_MAX_S - 1)
    assert rig.follower.view().state.phase is Phase.DIRECT
    rig.clock.advance(2)
    with pytest.raises(Unavailable):
        rig.follower.view()
    rig = Rig(background=False)
    rig.down = True
    with pytest.raises(Unavailable):
        rig.follower.view()


def test_no_state_is_the_source_alone_and_is_looked_for_often() -> None:
    """A migration that starts with the shortest age limit is seen in time."""
    rig = Rig(started=False, background=False)
    view = rig.follower.writable()
    assert (view.state.phase, view.state.epoch, view.main("words")) == (Phase.DIRECT, 0, Role.SOURCE)
    rig.states.create(
        State("default", SIDE, replace(SIDE, url="target"), Phase.DUAL, timing=Timing(state_age_max_s=1.0))
    )
    rig.clock.advance(NOT_STARTED_AGE_MAX_S + 0.1)
    assert not rig.follower.holds(view)
    assert rig.follower.writable().state.phase is Phase.DUAL


@pytest.mark.parametrize("phase", list(Phase))
def test_a_live_state_that_is_gone_is_not_taken_for_no_migration(phase: Phase) -> None:
    """Writing to the source then could lose what the target has. Before the first change and after cancel it is nothing."""
    rig = Rig(background=False)
    rig.change(phase=phase)
    rig.follower.writable()
    rig.store.delete(rig.states.place.state_key)
    rig.clock.advance(6)
    if phase in (Phase.DIRECT, Phase.CANCELLED):
        assert rig.follower.writable().main("words") is Role.SOURCE
    else:
        with pytest.raises(Corrupt, match="is gone"):
            rig.follower.writable()


def test_a_write_waits_for_the_end_of_a_freeze() -> None:
    """And goes on with what stands after it. Reads do not wait."""
    rig = Rig(background=False)
    rig.change(freeze=FREEZE)
    seen: list[View] = []

    def thaw(seconds: float) -> None:
        ManualClock.advance(rig.clock, seconds)
        rig.change(phase=Phase.CUTOVER, freeze=None)

    assert rig.follower.view().state.freeze == FREEZE
    rig.clock.__class__ = type(
        "Thawing", (ManualClock,), {"__slots__": (), "sleep": lambda self, seconds: thaw(seconds)}
    )
    seen.append(rig.follower.writable())
    assert (seen[0].state.phase, seen[0].state.freeze) == (Phase.CUTOVER, None)


def test_a_freeze_that_was_left_behind_is_taken_back_after_its_limit() -> None:
    """By compare-and-set, with a line in the history and a new epoch; a late flip then finds another state than its freeze."""
    rig = Rig(background=False, timing=Timing(freeze_limit_s=3))
    rig.change(freeze=FREEZE)
    before = rig.states.get()
    began_s = rig.clock.monotonic_s()
    view = rig.follower.writable()
    after = rig.states.get()
    assert view.state.freeze is None
    assert after.freeze is None
    assert after.epoch == before.epoch + 1
    assert after.phase is before.phase
    assert (after.history[-1].verb, after.history[-1].who) == ("switch", "client")
    assert "f1 taken back" in after.history[-1].note
    assert rig.clock.monotonic_s() - began_s > 3


def test_a_freeze_that_came_after_the_one_that_was_waited_for_stands() -> None:
    """Between the look and the taking back: only the freeze that was seen too long is taken."""
    rig = Rig(background=False, timing=Timing(freeze_limit_s=3))
    rig.change(freeze=FREEZE)
    view = rig.follower.view()
    assert view.state.freeze is not None
    assert not rig.follower._left_behind(view.state.freeze, view.state)
    rig.clock.advance(4)
    assert rig.follower._left_behind(view.state.freeze, view.state)
    other = replace(FREEZE, id="f2")
    rig.change(freeze=other)
    epoch = rig.states.get().epoch
    rig.follower._take_back(view.state.freeze)
    assert (rig.states.get().freeze, rig.states.get().epoch) == (other, epoch)


def test_another_freeze_has_its_own_limit() -> None:
    """Only a freeze that this process has itself seen for longer than the limit is taken back."""
    rig = Rig(background=False, timing=Timing(freeze_limit_s=3))
    rig.change(freeze=FREEZE)
    rig.follower.writable()
    rig.clock.advance(60)
    rig.change(freeze=replace(FREEZE, id="f2"))
    began_s = rig.clock.monotonic_s()
    rig.follower.writable()
    assert rig.clock.monotonic_s() - began_s > 3


def test_a_view_holds_until_it_is_old_or_something_newer_is_known() -> None:
    """What does not touch routing changes nothing; a freeze, a phase, a percentage does."""
    rig = Rig(background=False)
    rig.change(phase=Phase.DUAL)
    view = rig.follower.writable()
    rig.change(paused=True)
    rig.follower.look()
    assert rig.follower.holds(view)
    rig.change(freeze=FREEZE)
    assert rig.follower.holds(view)  # nobody here has seen it: the tool waits for such
    rig.follower.look()
    assert not rig.follower.holds(view)
    rig.change(freeze=None)
    view = rig.follower.writable()
    rig.clock.advance(5.1)
    assert not rig.follower.holds(view)


def test_callers_who_wait_share_one_reading_and_one_failure() -> None:
    """Sixteen threads with an old state: one request, whether it succeeds or not."""
    for down in (False, True):
        rig = Rig(background=False)
        rig.follower.writable()
        rig.clock.advance(6)
        before = rig.requests
        inside, go = threading.Semaphore(0), threading.Event()

        def hold(
            call: Call, inside: threading.Semaphore = inside, go: threading.Event = go, down: bool = down
        ) -> Fault | None:
            inside.release()
            assert go.wait(10)
            return Fault.BEFORE if down else None

        rig.faulty._choose = hold
        failed: list[bool] = []

        def write(rig: Rig = rig, failed: list[bool] = failed) -> None:
            try:
                rig.follower.writable()
                failed.append(False)
            except Unavailable:
                failed.append(True)

        threads = [threading.Thread(target=write) for _ in range(16)]
        for thread in threads:
            thread.start()
        assert inside.acquire(timeout=10)
        go.set()
        for thread in threads:
            thread.join(10)
        assert failed == [down] * 16
        assert rig.requests - before == 1


def test_processes_that_live_shorter_than_a_freeze_do_not_begin_to_count_anew() -> None:
    """A tool was killed with writes frozen, and each worker of the application has two seconds: the first that comes after the limit
    takes the freeze back, by the store's dates; those before it leave it alone."""
    rig = Rig(background=False, timing=Timing(freeze_limit_s=3))
    rig.change(freeze=replace(FREEZE, at_us=rig.clock.now_us()))
    freeze, ends = rig.states.get().freeze, []
    for _ in range(4):
        worker = Follower(States(Place(rig.faulty, clock=rig.clock)), who="worker", executor=None)
        began_s = rig.clock.monotonic_s()

        def killed(seconds: float, began_s: float = began_s) -> None:
            if rig.clock.monotonic_s() - began_s > 2:
                raise TimeoutError
            ManualClock.advance(rig.clock, seconds)

        rig.clock.__class__ = type("Impatient", (ManualClock,), {"__slots__": (), "sleep": lambda self, s: killed(s)})
        try:
            ends.append(worker.writable().state.freeze)
        except TimeoutError:
            ends.append(freeze)
    assert ends == [freeze, freeze, None, None]


def test_the_store_is_asked_for_its_date_only_where_a_freeze_looks_old() -> None:
    """A usual switch makes no worker write anything; and where the date can't be had, it is waited as before."""
    rig = Rig(background=False, timing=Timing(freeze_limit_s=3))
    rig.change(freeze=replace(FREEZE, at_us=rig.clock.now_us()))
    assert not rig.follower._left_behind(rig.follower.view().state.freeze or FREEZE, rig.states.get())
    assert [call.verb for call in rig.faulty.calls] == ["get"]
    rig.clock.advance(60)
    view = (late := Follower(States(Place(rig.faulty, clock=rig.clock)), executor=None)).view()
    rig.down = True
    assert not late._left_behind(view.state.freeze or FREEZE, view.state)
