"""The folded set behaves as a set of (writer, counter), in few runs, and forgets only what it may."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chromalith.model.folded import DAY_US, KEPT_DAYS, FoldedSet, State
from chromalith.model.ids import DeltaId

WRITERS = ["a" * 32, "b" * 32]
CALLS = st.tuples(st.sampled_from(WRITERS), st.integers(0, 12))
FOLDS = st.lists(st.tuples(st.lists(CALLS, max_size=5, unique=True), st.sampled_from(list(State)), st.integers(0, 40)), max_size=8)


def delta(writer: str, counter: int) -> DeltaId:
    return DeltaId(7, writer, counter, "0" * 16)


@given(FOLDS, st.lists(st.integers(0, 9), max_size=3))
def test_it_is_a_set(folds: list[tuple[list[tuple[str, int]], State, int]], settled: list[int]) -> None:
    """Whatever is added, in whichever order, and however it is settled: exactly that is in it, with its state and day."""
    folded = FoldedSet()
    model: dict[tuple[str, int], tuple[State, int]] = {}
    for version, (calls, state, day) in enumerate(folds, start=1):
        new = [call for call in calls if call not in model]
        folded = folded.add([(delta(*call), state) for call in new], version=version, date_us=day * DAY_US + 5)
        model |= dict.fromkeys(new, (state, day))
        if version in settled:
            folded = folded.settle(version - 1)
        assert FoldedSet.from_json(json.loads(json.dumps(folded.to_json()))) == folded
    for writer in WRITERS:
        for counter in range(-1, 14):
            run = folded.find(delta(writer, counter))
            assert (delta(writer, counter) in folded) is ((writer, counter) in model)
            assert run is None or (run.state, run.day) == model[writer, counter]
    for runs in folded.runs.values():
        assert all(left.stop <= right.start for left, right in pairwise(runs))


def test_a_busy_writer_costs_one_run() -> None:
    """Consecutive counters of one day join, at once within a version, and later across versions."""
    folded = FoldedSet()
    for version in range(1, 30):
        folded = folded.add([(delta(WRITERS[0], 2 * version + i), State.FOLDED) for i in (0, 1)], version=version, date_us=5)
    assert len(folded.runs[WRITERS[0]]) == 29
    assert len(folded.settle(29).runs[WRITERS[0]]) == 1
    assert len(folded.settle(20).runs[WRITERS[0]]) == 10


@given(FOLDS, st.integers(0, 80), st.sets(CALLS, max_size=4))
def test_it_expires_only_what_is_old_and_gone(
    folds: list[tuple[list[tuple[str, int]], State, int]], today: int, listed: set[tuple[str, int]]
) -> None:
    """Whatever is at most 30 days old, or still listed, stays; what is older and in no listed run goes."""
    folded = FoldedSet()
    days: dict[tuple[str, int], int] = {}
    for version, (calls, state, day) in enumerate(folds, start=1):
        new = [call for call in calls if call not in days]
        folded = folded.add([(delta(*call), state) for call in new], version=version, date_us=day * DAY_US)
        days |= dict.fromkeys(new, day)
    after = folded.expire(date_us=today * DAY_US, listed=[delta(*call) for call in listed])
    for call, day in days.items():
        if day >= today - KEPT_DAYS or call in listed:
            assert delta(*call) in after
        run = folded.find(delta(*call))
        assert run is not None
        alive = any(writer == call[0] and run.start <= counter < run.stop for writer, counter in listed)
        if day < today - KEPT_DAYS and not alive:
            assert delta(*call) not in after
