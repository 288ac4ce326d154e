"""The write protocol without any database: what is written where, in which order, and what the journal then says."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from tests.migrate.dual_world import Rig, S, T, raising

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.migrate.entries import Closing
from chromalith.migrate.phases import DUAL_PHASES, Phase
from chromalith.migrate.seconds import LATE_MAX
from chromalith.migrate.state import Freeze
from chromalith.testing.faulty import Call, Fault


@pytest.mark.parametrize("phase", sorted(DUAL_PHASES))
def test_the_authority_is_written_first_and_its_answer_is_the_callers(phase: Phase) -> None:
    """Then the second; one entry, durable before both, closed as ok."""
    rig = Rig(phase)
    first = T if phase is Phase.CUTOVER else S
    assert rig.write("v", "a", "b") == [f"{first}:2"]
    assert [(role, which) for role, _, which in rig.order] == [(first, "first"), (first.other, "second")]
    assert rig.rows[S] == rig.rows[T] == {"a": "v", "b": "v"}
    assert rig.entries() == {("a", "b"): (first, Closing("ok"))}
    rig.close()


@pytest.mark.parametrize("phase", sorted(set(Phase) - DUAL_PHASES))
def test_a_phase_with_one_side_notes_nothing(phase: Phase) -> None:
    """Only that side is written, and the journal is not asked for."""
    rig = Rig(phase)
    there = T if phase is Phase.COMPLETE else S
    assert rig.write("v", "a") == [f"{there}:1"]
    assert (rig.rows[there], rig.rows[there.other]) == ({"a": "v"}, {})
    assert rig.entries() == {}
    rig.close()


def test_nothing_is_written_without_a_note_in_the_journal() -> None:
    """Whatever happens to the note's request; a note whose reply was lost is called over."""
    for fault, kind in [(Fault.BEFORE, Unavailable), (Fault.LOST, None)]:
        rig = Rig()
        rig.choose = lambda call, fault=fault: fault if call.verb == "put" and "/touched/" in call.key else None  # type: ignore[misc]
        if kind is None:  # looked up, and found
            rig.write("v", "a")
            assert rig.rows[T] == {"a": "v"}
        else:
            with pytest.raises(kind):
                rig.write("v", "a")
            assert rig.order == []
            assert rig.entries() == {}
        rig.close()


def test_nothing_is_written_on_a_state_that_can_not_be_read() -> None:
    """Five seconds after the last reading; neither side, and no note."""
    rig = Rig()
    rig.write("v", "a")
    rig.choose = lambda call: Fault.BEFORE
    assert isinstance(rig.clock, ManualClock)
    rig.clock.advance(5.1)
    rig.order.clear()
    with pytest.raises(Unavailable):
        rig.write("w", "a")
    assert rig.order == []
    rig.choose = lambda call: None
    rig.clock.advance(0.1)
    rig.write("x", "a")
    assert rig.rows[T] == {"a": "x"}
    rig.close()


@pytest.mark.parametrize("change", [{"phase": Phase.CUTOVER}, {"freeze": Freeze("f", "switch", "tool", 0)}])
def test_a_write_begins_only_on_a_state_that_holds_after_its_note_stands(change: dict[str, Any]) -> None:
    """The note took so long that the authority changed (or is about to): the note is called over, and all begins again."""
    rig = Rig()
    rig.follower.look()
    clock = rig.clock
    assert isinstance(clock, ManualClock)
    stalled: list[Call] = []

    def stall(call: Call) -> Fault | None:
        if call.verb == "put" and "/touched/" in call.key and not stalled:
            stalled.append(call)
            clock.advance(20)
            rig.change(**change)
            if "freeze" in change:  # and the tool flips when it finds no open entry
                rig.change(phase=Phase.CUTOVER, freeze=None)
        return None

    rig.choose = stall
    rig.write("v", "a")
    assert rig.order == [(T, ("a",), "first"), (S, ("a",), "second")]
    assert rig.endings() == ["not_written", "ok"] or rig.endings() == ["ok"]  # both name the same ids
    rig.close()


def test_an_authority_that_fails_is_the_callers_error_and_the_second_is_not_written() -> None:
    """Certainly not applied: not_written. It may land later: the entry counts as under way."""
    for error, ending in [
        (Invalid("no"), "not_written"),
        (Unavailable("down"), "not_written"),
        (Unknown("lost"), "unknown"),
    ]:
        rig = Rig()
        rig.fails[S] = raising(error)
        with pytest.raises(type(error)) as caught:
            rig.write("v", "a")
        assert caught.value is error
        assert [role for role, *_ in rig.order] == [S]
        assert rig.endings() == [ending]
        assert rig.tally.failures == 0
        rig.close()


def test_an_interrupted_call_is_not_called_over() -> None:
    """Nobody knows what became of it: the entry counts as under way until it is too old."""
    rig = Rig()

    def interrupt() -> None:
        raise KeyboardInterrupt

    rig.fails[S] = interrupt
    with pytest.raises(KeyboardInterrupt):
        rig.write("v", "a")
    assert rig.endings() == ["unknown"]
    rig.close()


def test_a_second_that_fails_is_never_the_callers_error(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises. The entry says so, and the failure is counted; what the second itself said is in the log alone."""
    for error, ending, said in [
        (Unavailable("down", hint="of 12 Main Street"), "failed", "Unavailable: down"),
        (Unknown("lost"), "unknown", "Unknown: lost"),
        (RuntimeError("12 Main Street is no number"), "failed", "RuntimeError"),
    ]:
        rig = Rig()
        rig.fails[T] = raising(error)
        assert rig.write("v", "a") == ["source:1"]
        (_, closing), *_ = rig.entries().values()
        assert closing is not None
        assert (closing.second, closing.error) == (ending, said)
        assert rig.tally.last_failure == said
        assert str(error) in caplog.text
        assert (rig.tally.failures, rig.tally.writes) == (1, {S: 1, T: 0})
        rig.close()


def test_a_second_that_hangs_costs_its_limit_and_its_entry_stays_open_until_it_ends() -> None:
    """The caller is answered; the write ends behind his back; then, and not before, the entry is closed."""
    rig = Rig(clock=SYSTEM_CLOCK, second_write_s=0.05)
    go = threading.Event()
    rig.fails[T] = lambda: go.wait(20) and None  # type: ignore[func-returns-value]
    assert rig.write("v", "a") == ["source:1"]
    assert (rig.rows[T], rig.endings(), rig.tally.late) == ({}, ["open"], 1)
    go.set()
    rig.writer.stop(20)
    assert (rig.rows[T], rig.endings()) == ({"a": "v"}, ["ok"])
    rig.close()


def test_while_seconds_hang_no_further_ones_are_begun_and_callers_do_not_wait() -> None:
    """What is skipped is noted as failed; when the second answers again, it is written again."""
    rig = Rig(clock=SYSTEM_CLOCK, second_write_s=0.02)
    go = threading.Event()
    rig.fails[T] = lambda: go.wait(30) and None  # type: ignore[func-returns-value]
    for n in range(LATE_MAX):
        rig.write("v", f"hang{n}")
    for n in range(20):
        rig.write("v", f"skip{n}")
    assert rig.tally.skipped == 20
    assert [role for role, *_ in rig.order].count(T) == LATE_MAX
    assert rig.endings() == ["failed"] * 20 + ["open"] * LATE_MAX
    go.set()
    rig.writer.stop(20)
    rig.write("v", "again")
    assert rig.rows[T].keys() == {*(f"hang{n}" for n in range(LATE_MAX)), "again"}
    rig.close()


def test_a_second_that_could_not_begin_in_time_is_not_begun() -> None:
    """An authority that took half of the age at which an entry counts as abandoned leaves no time for the second's call."""
    rig = Rig()
    clock = rig.clock
    assert isinstance(clock, ManualClock)
    rig.fails[S] = lambda: clock.advance(61)
    assert rig.write("v", "a") == ["source:1"]
    assert [role for role, *_ in rig.order] == [S]
    assert rig.endings() == ["failed"]
    rig.close()


def test_a_log_that_fails_is_neither_the_callers_nor_keeps_a_note_open() -> None:
    """A handler of the application may raise, or hang: the failure of a second is counted and noted before it is told."""
    rig = Rig()
    rig.fails[T] = raising(Unavailable("down"))
    log = logging.getLogger("chromalith.migrate.dual")

    def broken(record: logging.LogRecord) -> bool:
        raise OSError("the disk of the log is full")

    log.addFilter(broken)
    try:
        assert rig.write("v", "a") == ["source:1"]
    finally:
        log.removeFilter(broken)
    assert rig.endings() == ["failed"]
    rig.close()
