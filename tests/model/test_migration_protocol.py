"""The protocol of two live sides, explored: with all its rules nothing is lost and nothing differs unseen; without any one of them, it is.

The machine is in ``tests/model/migration.py``. What the code does of it: ``migrate/dual.py`` and ``migrate/renewals.py`` (the writer),
``migrate/reconcile.py`` and ``migrate/mend.py`` (the reconciler), ``migrate/backfill.py``, ``migrate/workflow`` (the switch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.model.migration import (
    FIRST,
    NEVER,
    SOURCE,
    TARGET,
    Process,
    Violation,
    World,
    backfill,
    closing,
    explore,
    impatient,
    opening,
    reconciler,
    switch,
    writer,
)

Cast = dict[str, Callable[[], Process]]

EQUAL = World((FIRST, FIRST), faults=1)
"""The copy is whole; the source is the authority."""
FRESH = World((FIRST, NEVER), faults=1)
"""Nothing is copied yet."""
RAMPED = World((FIRST, FIRST), authority=TARGET, faults=1)
"""The target is the authority."""


def w(number: int = 1, **rules: Any) -> Callable[[], Process]:
    return lambda: writer(f"w{number}", number, **rules)


def r(name: str = "r", **rules: Any) -> Callable[[], Process]:
    return lambda: reconciler(name, **rules)


def s(**rules: Any) -> Callable[[], Process]:
    return lambda: switch("s", passes=1, **rules)


def b(name: str = "b", **rules: Any) -> Callable[[], Process]:
    return lambda: backfill(name, **rules)


def late(**rules: Any) -> Callable[[], Process]:
    """A writer whose authority may answer after its entry, which was not renewed, was taken for abandoned."""
    return w(1, hangs="authority", **rules)


def back() -> Process:
    return switch("t", passes=1)


def refused() -> Process:
    """A call that its authority refused: nothing was written, and its entry makes a reconciliation look."""
    yield opening("n/w")
    yield closing("n/w", "ended")


SCENES: dict[str, tuple[World, Cast]] = {
    "two writers, a reconciler": (EQUAL, {"w1": w(1), "w2": w(2), "r": r()}),
    "a writer, a reconciler that goes on": (EQUAL, {"w1": w(1), "r": r(passes=3)}),
    "a writer, two reconcilers": (EQUAL, {"w1": w(1), "r": r(), "q": r("q")}),
    "a switch and its way back, a writer": (EQUAL, {"w1": w(1), "s": s(), "t": back}),
    "two writers, a switch that may be cancelled": (EQUAL, {"w1": w(1), "w2": w(2), "s": s(), "i": impatient}),
    "a writer, a reconciler, a switch that may be cancelled": (EQUAL, {"w1": w(1), "r": r(), "s": s(), "i": impatient}),
    "a deletion, a reconciler, a backfill": (FRESH, {"w2": w(2, op="delete"), "r": r(), "b": b()}),
    "a write, a deletion, a backfill": (FRESH, {"w1": w(1), "w2": w(2, op="delete"), "b": b()}),
    "an update, a reconciler, a backfill": (FRESH, {"w1": w(1, op="update"), "r": r(passes=2), "b": b()}),
    "an update, a deletion, a backfill": (FRESH, {"w1": w(1, op="update"), "w2": w(2, op="delete"), "b": b()}),
    "an addition, a deletion, a backfill": (FRESH, {"w1": w(1, op="add"), "w2": w(2, op="delete"), "b": b()}),
    "a write, two backfills": (FRESH, {"w1": w(1), "b": b(), "c": b("c")}),
    "a deletion, a backfill, a switch": (FRESH, {"w2": w(2, op="delete"), "b": b(), "s": s()}),
    "a lowered writer, another, a reconciler": (RAMPED, {"w1": w(1, lowered=True), "w2": w(2), "r": r()}),
    "a lowered writer, a reconciler, the way back": (RAMPED, {"w1": w(1, lowered=True), "r": r(), "s": s()}),
    "a late writer, another, a switch": (EQUAL, {"w1": late(), "w2": w(2), "s": s()}),
    "a late writer, a reconciler, a switch": (EQUAL, {"w1": late(), "s": s(), "r": r()}),
    "a late second, another writer, a reconciler": (EQUAL, {"w1": w(1, hangs="second"), "w2": w(2), "r": r()}),
}

LONG: dict[str, tuple[World, Cast]] = {
    "two writers, two reconcilers": (EQUAL, {"w1": w(1), "w2": w(2, op="delete"), "r": r(), "q": r("q")}),
    "two writers, a reconciler, a switch": (EQUAL, {"w1": w(1), "w2": w(2), "r": r(), "s": s()}),
    "an update, a deletion, a backfill, a reconciler": (
        FRESH, {"w1": w(1, op="update"), "w2": w(2, op="delete"), "b": b(), "r": r()},
    ),
    "an addition, a deletion, a backfill, a reconciler": (
        FRESH, {"w1": w(1, op="add"), "w2": w(2, op="delete"), "b": b(), "r": r()},
    ),
    "a write, a deletion, a backfill, a reconciler": (FRESH, {"w1": w(1), "w2": w(2, op="delete"), "b": b(), "r": r()}),
    "two faults": (World((FIRST, FIRST), faults=2), {"w1": w(1), "w2": w(2), "r": r(passes=2)}),
    "a late writer, a refused call, a switch and its way back": (EQUAL, {"n": refused, "t": back, "s": s(), "w1": late()}),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_lost_and_nothing_differs_unseen(scene: str) -> None:
    """In every world that can be reached: an empty journal means equal sides, and every acknowledged write stands or was overwritten."""
    first, cast = SCENES[scene]
    assert explore(first, cast) > 400


@pytest.mark.slow
@pytest.mark.parametrize("scene", LONG)
def test_nothing_is_lost_in_larger_scenes(scene: str) -> None:
    """The same with more processes, or more faults."""
    first, cast = LONG[scene]
    assert explore(first, cast, worlds_max=20_000_000) > 10_000


DIFFER = "the journal is empty, and the sides differ"
LOST = "acknowledged, and is lost"

BROKEN: dict[str, tuple[str, World, Cast]] = {
    "the journal is opened after the first write": (DIFFER, EQUAL, {"w1": w(1, note_first=False)}),
    "entries are removed that were open when the pass began": (DIFFER, EQUAL, {"w1": w(1), "r": r(ended_only=False)}),
    "a write that may land late ends its entry": (DIFFER, EQUAL, {"w1": w(1, doubts=False), "w2": w(2), "r": r(passes=2)}),
    "a reconciler mends without an entry of its own": (DIFFER, EQUAL, {"w1": w(1), "w2": w(2), "r": r(own_entry=False), "q": r("q")}),
    "a reconciler doesn't look back at what it wrote": (DIFFER, EQUAL, {"w1": w(1), "w2": w(2), "r": r(looks_back=False), "q": r("q")}),
    "a reconciler looks at the state before its entry is open": (
        LOST, EQUAL, {"w1": w(1), "w2": w(2), "r": r(state_after_open=False), "s": s()},
    ),
    "a reconciler heeds no freeze": (LOST, EQUAL, {"w1": w(1), "w2": w(2), "r": r(heeds_freeze=False), "s": s()}),
    "repairs go from the authority that an entry names": (
        LOST, RAMPED, {"w1": w(1, lowered=True), "w2": w(2), "r": r(named=lambda entry: SOURCE if entry.startswith("w1") else TARGET)},
    ),
    "a lowered write is acknowledged by the source alone": (LOST, RAMPED, {"w1": w(1, lowered=True, both=False), "r": r()}),
    "a writer heeds no freeze": (LOST, EQUAL, {"w1": w(1, waits_for_thaw=False), "s": s()}),
    "the state's age is judged before the entry is open": (LOST, EQUAL, {"w1": w(1, fresh_after_open=False), "s": s()}),
    "a switch doesn't wait until its freeze is known": (LOST, EQUAL, {"w1": w(1), "s": s(waits=False)}),
    "a switch flips while there are entries": (LOST, EQUAL, {"w1": w(1), "s": s(drains=False)}),
    "a switch flips though its freeze was cancelled": (LOST, EQUAL, {"w1": w(1), "s": s(conditional=False), "i": impatient}),
    "a backfill makes no entry": (DIFFER, FRESH, {"w2": w(2, op="delete"), "r": r(), "b": b(own_entry=False)}),
    "a backfill doesn't read the source again": (DIFFER, FRESH, {"w2": w(2, op="delete"), "r": r(), "b": b(looks_again=False)}),
    "a backfill forgets a chunk that it could not mend": (
        DIFFER, FRESH, {"w2": w(2, op="delete"), "b": b(settles_refused=None), "s": s()},
    ),
    "a late answer counts whatever happened meanwhile": (LOST, EQUAL, {"w1": late(unchanged=()), "s": s()}),
    "a late answer counts though writes are frozen": (LOST, EQUAL, {"w1": late(unchanged=("flips",)), "s": s()}),
    "a late answer counts though the authority changed": (LOST, EQUAL, {"w1": late(unchanged=("freeze",)), "s": s()}),
    "a late answer counts if the authority changed and changed back": (
        LOST, EQUAL, {"n": refused, "t": back, "s": s(), "w1": late(unchanged=("authority", "freeze"))},
    ),
    "a late answer counts without an entry": (LOST, EQUAL, {"w1": late(notes_again=None), "s": s(), "r": r()}),
    "a late answer is judged before its entry is open": (LOST, EQUAL, {"w1": late(notes_again="after"), "s": s(), "r": r()}),
}  # fmt: skip


SLOW = {
    "a reconciler mends without an entry of its own",
    "a reconciler doesn't look back at what it wrote",
    "a reconciler heeds no freeze",
    "a reconciler looks at the state before its entry is open",
    "a late answer counts if the authority changed and changed back",
}
"""Their violations take tens of seconds to find; `make migrate-live` runs them."""


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[pytest.mark.slow] if rule in SLOW else []) for rule in BROKEN]
)
def test_each_rule_is_needed(rule: str) -> None:
    """Without the rule, some interleaving loses an acknowledged write, or leaves a difference that nobody knows of."""
    error, first, cast = BROKEN[rule]
    with pytest.raises(Violation, match=error):
        explore(first, cast)


def test_the_assumption_about_time_is_needed() -> None:
    """If an entry counts as abandoned while its process is only slow, its late write is seen by nobody: hence ``timing.abandoned_s``."""
    with pytest.raises(Violation, match=DIFFER):
        explore(EQUAL, {"w1": w(1), "r": r()}, hasty=True)


def test_a_second_that_nobody_renews_must_not_land_late() -> None:
    """What lands at the second after its entry was given up, and after that side has become the authority, overwrites what counts by then.
    No answer can undo it, since its own caller was told long ago that it is done: hence the renewals, and the assumption about time."""
    with pytest.raises(Violation, match=f"write 2 was {LOST}"):
        explore(EQUAL, {"w1": w(1, hangs="second"), "w2": w(2), "s": s()})
