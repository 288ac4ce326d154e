"""Calls that outlast their note in the journal: nothing acknowledged is lost, and nothing that lands late goes unseen."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

import pytest
from tests.migrate.dual_world import Rig, S, T, raising, split

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import Unavailable, Unknown
from chromalith.migrate.dual import Write
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze
from chromalith.migrate.states import change_of
from chromalith.testing.faulty import Fault


def advanced(rig: Rig, seconds: float) -> None:
    assert isinstance(rig.clock, ManualClock)
    rig.clock.advance(seconds)


def reconciled_away(rig: Rig) -> None:
    """What a reconciliation does with entries that look abandoned, on sides that are equal at that moment."""
    journal = Journal(Place(rig.inner, clock=rig.clock))
    listing = journal.entries()
    assert listing.open == 0
    journal.remove([item.key for item in listing.touched])
    journal.stop()


def stays_noted(journal: Journal) -> None:
    """For longer than a note of these tests lives, some note is under way; what has ended is removed."""
    until_s = time.monotonic() + 2
    while time.monotonic() < until_s:
        listing = journal.entries()
        assert listing.open >= 1
        journal.remove([item.key for item in listing.touched if item.ended])
        time.sleep(0.02)


def test_a_write_that_its_authority_took_too_long_for_is_noted_again_before_it_is_acknowledged() -> None:
    """Its entry was found abandoned, and removed; the second was not written. Still the journal names the id."""
    rig = Rig()

    def slow() -> None:
        advanced(rig, 130)
        reconciled_away(rig)

    rig.fails[S] = slow
    assert rig.write("v", "a") == ["source:1"]
    assert (rig.rows[T], rig.endings()) == ({}, ["failed"])
    rig.close()


@pytest.mark.parametrize("and_back", [False, True])
def test_a_write_that_took_so_long_that_the_authority_changed_is_not_acknowledged(*, and_back: bool) -> None:
    """A repair would undo it, or did: the caller is told that nobody knows. The second is not written, and the ids are noted."""
    rig = Rig()

    def flip(phase: Phase) -> None:
        line = change_of(rig.clock, "switch", "ramp", str(phase), "flip f; 0 touched records compared", "test")
        rig.states.change(lambda state: state.changed(line, phase=phase))

    def slow() -> None:
        advanced(rig, 130)
        reconciled_away(rig)
        flip(Phase.CUTOVER)
        if and_back:
            flip(Phase.DIRECT)
            rig.change(phase=Phase.DUAL)

    rig.fails[S] = slow
    with pytest.raises(Unknown):
        rig.write("v", "a")
    assert ([role for role, *_ in rig.order], rig.endings()) == ([S], ["failed"])
    rig.close()


def test_a_late_write_is_not_acknowledged_while_the_authority_is_about_to_change_or_nobody_can_tell() -> None:
    """A freeze may stand since before the new note; the journal or the state may be out of reach."""
    for kind in ("freeze", "journal", "state"):
        rig = Rig()

        def slow(rig: Rig = rig, kind: str = kind) -> None:
            advanced(rig, 130)
            if kind == "freeze":
                rig.change(freeze=Freeze("f", "switch", "tool", 0))
            elif kind == "journal":
                rig.choose = lambda call: Fault.BEFORE if "/touched/" in call.key else None
            else:
                rig.choose = lambda call: Fault.BEFORE if call.verb.startswith("get") else None

        rig.fails[S] = slow
        with pytest.raises(Unknown):
            rig.write("v", "a")
        assert [role for role, *_ in rig.order] == [S]
        rig.choose = lambda call: None
        rig.close()


def test_a_part_is_not_begun_when_another_took_half_of_the_life_of_its_note() -> None:
    """Its entry may be called abandoned while it is under way; so its caller gets an error, and nothing of it is written."""
    rig = Rig(Phase.RAMP, writes=40)
    groups = split(Route(rig.states.get()), 20)
    rig.fails[S] = lambda: advanced(rig, 61)
    rig.fails[T] = lambda: advanced(rig, 61)
    with pytest.raises(Unavailable):
        rig.write("v", *groups[S], *groups[T])
    assert len(rig.order) == 1
    assert "not_written" in rig.endings()
    rig.close()


def test_while_a_second_hangs_its_ids_stay_noted_however_long() -> None:
    """Longer than an entry lives: so no change of authority begins, and what lands late is compared."""
    rig = Rig(clock=SYSTEM_CLOCK, look_s=0.02, second_write_s=0.02, abandoned_s=1.5)
    go, journal = threading.Event(), Journal(Place(rig.inner, clock=rig.clock), timing=rig.states.get().timing)
    rig.fails[T] = lambda: go.wait(20) and None  # type: ignore[func-returns-value]
    rig.write("v", "a")
    until_s = time.monotonic() + 4  # a busy machine may keep the renewing thread for a second
    while time.monotonic() < until_s:
        listing = journal.entries()
        assert listing.open >= 1
        journal.remove([item.key for item in listing.touched if item.ended])
        time.sleep(0.02)
    go.set()
    rig.writer.stop(20)
    assert (rig.rows[T], rig.endings()) == ({"a": "v"}, ["ok"])
    journal.stop()
    rig.close()


def test_a_second_that_lands_after_its_note_was_removed_is_noted_again() -> None:
    """Nobody renewed it (the process was suspended): when the call has ended, the journal names the ids."""
    for error, ending in [(None, "ok"), (Unknown("lost"), "unknown"), (Unavailable("down"), "failed")]:
        rig = Rig(second_write_s=1_000)

        def slow(rig: Rig = rig, error: Exception | None = error) -> None:
            advanced(rig, 130)
            reconciled_away(rig)
            if error is not None:
                raise error

        rig.fails[T] = slow
        rig.write("v", "a")
        assert rig.endings() == [ending]
        rig.close()


@pytest.mark.parametrize("slow_part", ["the ids are looked up", "the note"])
def test_a_call_that_takes_long_to_prepare_is_prepared_once(slow_part: str) -> None:
    """Longer than a state may be old; on the same route it goes on, and is not prepared again and again until it gives up."""
    rig = Rig()
    rig.follower.look()
    prepared: list[int] = []

    def resolved(*_: object) -> Write:
        prepared.append(1)
        if slow_part == "the ids are looked up":
            advanced(rig, 20)
        return Write("words", "delete", ("a",), lambda role, rows, second: rig.order.append(role))

    if slow_part == "the note":

        def stall(call: object) -> None:
            if "/touched/" in getattr(call, "key", ""):
                advanced(rig, 20)

        rig.choose = stall
    call = Write("words", "delete", (), lambda role, rows, second: None)
    rig.writer.write(call, when_dual=resolved)
    assert (rig.order, len(prepared), rig.endings()) == ([S, T], 1, ["ok"])
    rig.close()


def test_a_note_whose_state_can_not_be_read_again_is_called_over() -> None:
    """Nothing is written, and nobody waits for the entry."""
    rig = Rig()
    rig.follower.look()

    def stall(call: object) -> Fault | None:
        if "/touched/" in getattr(call, "key", ""):
            advanced(rig, 20)
            rig.choose = lambda call: Fault.BEFORE if call.verb.startswith("get") else None
        return None

    rig.choose = stall
    with pytest.raises(Unavailable):
        rig.write("v", "a")
    rig.choose = lambda call: None
    assert (rig.order, rig.endings()) == ([], ["not_written"])
    rig.close()


def test_a_write_of_one_side_that_outlived_the_change_of_authority_is_not_acknowledged() -> None:
    """Begun before the migration, ended after the switch: its ids are noted, and repairs would undo it."""
    changes: list[tuple[Callable[[Rig], None], bool]] = [
        (lambda rig: rig.change(phase=Phase.CUTOVER), False),
        (lambda rig: rig.change(phase=Phase.COMPLETE), False),
        (lambda rig: rig.change(phase=Phase.DUAL), True),
    ]
    for change, stands in changes:
        rig = Rig(Phase.DIRECT)

        def slow(rig: Rig = rig, change: Callable[[Rig], None] = change) -> None:
            advanced(rig, 20)
            change(rig)

        rig.fails[S] = slow
        if stands:
            assert rig.write("v", "a") == ["source:1"]
        else:
            with pytest.raises(Unknown):
                rig.write("v", "a")
        assert rig.endings() == ([] if rig.states.get().phase is Phase.COMPLETE else ["failed"])
        rig.close()


def test_an_authority_that_fails_late_is_noted_again() -> None:
    """Even if nothing is under way any more: Chroma puts a write into its log before it fails, and applies it when it is next asked."""
    for error, endings in [(Unknown("lost"), ["unknown"]), (Unavailable("down"), ["failed"])]:
        rig = Rig()

        def slow(rig: Rig = rig, error: Exception = error) -> None:
            advanced(rig, 130)
            reconciled_away(rig)
            raising(error)()

        rig.fails[S] = slow
        with pytest.raises(type(error)):
            rig.write("v", "a")
        assert rig.endings() == endings
        rig.close()


class Interrupted(Exception):
    """Of a time limit that the application's framework sets to its tasks."""


def test_a_caller_that_is_interrupted_while_it_waits_for_a_second_leaves_it_noted() -> None:
    """The second's write goes on, so its ids are noted anew for as long as it hangs."""
    rig = Rig(clock=SYSTEM_CLOCK, look_s=0.02, second_write_s=20, abandoned_s=1.5)
    go, journal = threading.Event(), Journal(Place(rig.inner, clock=rig.clock), timing=rig.states.get().timing)
    caller = threading.main_thread().ident

    def is_waiting() -> bool:
        frame = sys._current_frames()[caller or 0]
        return any(each.f_code.co_qualname == "Seconds.wait" for each, _ in traceback.walk_stack(frame))

    def interrupt() -> None:
        while not is_waiting():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        go.wait(20)

    def raise_it(*_: object) -> None:
        raise Interrupted

    rig.fails[T] = interrupt
    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        with pytest.raises(Interrupted):
            rig.write("v", "a")
    finally:
        signal.signal(signal.SIGUSR1, before)
    stays_noted(journal)
    go.set()
    rig.writer.stop(20)
    assert (rig.rows[T], rig.endings()) == ({"a": "v"}, ["ok"])
    journal.stop()
    rig.close()


def test_a_second_that_outlasts_its_client_stays_noted() -> None:
    """The client is closed, the side is the application's own and goes on: so does the write, and what lands late is compared."""
    rig = Rig(clock=SYSTEM_CLOCK, look_s=0.02, second_write_s=0.02, abandoned_s=1.5)
    go, journal = threading.Event(), Journal(Place(rig.inner, clock=rig.clock), timing=rig.states.get().timing)
    rig.fails[T] = lambda: go.wait(20) and None  # type: ignore[func-returns-value]
    rig.write("v", "a")
    rig.writer.stop(0)
    rig.journal.stop(0)
    stays_noted(journal)
    go.set()
    rig.writer.stop(20)
    until_s = time.monotonic() + 20
    while rig.endings() != ["ok"] and time.monotonic() < until_s:
        time.sleep(0.02)
    assert (rig.rows[T], rig.endings()) == ({"a": "v"}, ["ok"])
    journal.stop()
    rig.close()
