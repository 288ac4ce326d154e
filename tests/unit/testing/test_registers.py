"""The search for a linear order: it finds one where P2 promises one, and says where there is none."""

from __future__ import annotations

import pytest

from chromalith.testing.checkers.registers import check_registers
from chromalith.testing.history import Answer, History, Read, Violation, Write
from chromalith.testing.reference import Change, Row

TICK = 1_000


def write(
    history: History, value: int, start: int, end: int | None, process: str = "w", op: str = "upsert", key: str = "k", **more: object
) -> Write:
    """A call that replaces whatever is there, unless it is an add."""
    change = Change(op, "a", (float(value),), f"d{value}", f"u{value}", {key: value}) if op != "delete" else Change(op, "a")
    answer = Answer.NONE if end is None else Answer.ACKNOWLEDGED
    made = Write(len(history.writes), process, (change,), None, start, end, answer, **more)  # type: ignore[arg-type]
    history.writes.append(made)
    return made


def read(history: History, value: int | None, start: int, end: int, process: str = "r") -> None:
    """A read that saw that value, or nothing."""
    rows = {} if value is None else {"a": Row(0, (float(value),), f"d{value}", f"u{value}", {"k": value})}
    history.reads.append(Read(process, "INDEX_AND_WAL", 0, start, end, rows, len(rows), 0, ()))


def holds(history: History) -> bool:
    try:
        return check_registers(history, TICK) == 1
    except Violation:
        return False


def test_a_read_sees_what_was_acknowledged_before_it_began() -> None:
    """And not what was there before that."""
    good, bad = History(), History()
    for history, value in ((good, 2), (bad, 1)):
        write(history, 1, 0, 10)
        write(history, 2, 20, 30)
        read(history, value, 40, 50)
    assert (holds(good), holds(bad)) == (True, False)


def test_reads_do_not_go_back() -> None:
    """Of two reads one after the other the second sees nothing older, also while the write has no answer yet."""
    history = History()
    write(history, 1, 0, 10)
    write(history, 2, 20, None)
    read(history, 2, 30, 40)
    read(history, 1, 50, 60)
    assert not holds(history)


def test_what_has_no_answer_may_have_happened_or_not() -> None:
    """Both are an order."""
    for value in (1, 2):
        history = History()
        write(history, 1, 0, 10)
        write(history, 2, 20, None)
        read(history, value, 5_000, 5_010)
        assert holds(history)


@pytest.mark.parametrize(("start", "promised"), [(10 + TICK, True), (9 + TICK, False)])
def test_writers_closer_than_a_tick_have_no_promised_order(start: int, promised: bool) -> None:
    """The later of two writers may lose, but only within a tick of the store's clock."""
    history = History()
    write(history, 1, 0, 10, "one")
    write(history, 2, start, start + 5, "two")
    read(history, 1, 9_000, 9_010)
    assert holds(history) is not promised


def test_one_process_and_cause_and_effect_have_an_order_within_a_tick() -> None:
    """A process's own writes, and what it wrote after it had seen another's."""
    own, caused = History(), History()
    write(own, 1, 0, 10, "one")
    write(own, 2, 11, 20, "one")
    first = write(caused, 1, 0, 10, "one")
    write(caused, 2, 11, 20, "two", after=frozenset({first.number}))
    for history in (own, caused):
        read(history, 1, 9_000, 9_010)
        assert not holds(history)


def test_patches_of_different_keys_build_on_each_other() -> None:
    """What an upsert leaves of metadata depends on what was there, if they do not all name the same keys."""
    history = History()
    write(history, 1, 0, 10, "one", key="j")
    write(history, 2, 11, 20, "two", key="k")
    assert check_registers(history, TICK) == 0
    assert check_registers(history, 0) == 1


def test_calls_that_build_on_each_other_within_a_tick_are_left_out() -> None:
    """An add that finds the id gone or not: a read between the two may show what no order of both explains."""
    history = History()
    write(history, 1, 0, 10, "one", op="add")
    write(history, 2, 11, 20, "two", op="delete")
    assert check_registers(history, TICK) == 0
    assert check_registers(history, 0) == 1
