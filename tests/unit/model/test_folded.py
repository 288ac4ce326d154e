"""The folded set behaves as a set of (writer, counter), in few runs, and forgets only what it may."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.errors import Bug
from chromalith.model.folded import DAY_US, KEPT_DAYS, FoldedSet, Run, State
from chromalith.model.ids import DeltaId

WRITERS = ["a" * 32, "b" * 32]
CALLS = st.tuples(st.sampled_from(WRITERS), st.integers(0, 12))
FOLDS = st.lists(st.tuples(st.lists(CALLS, max_size=5, unique=True), st.sampled_from(list(State)), st.integers(0, 40)), max_size=8)


def delta(writer: str, counter: int) -> DeltaId:
    return DeltaId(7, writer, counter, "0" * 16)


@settings(deadline=None)
@given(FOLDS, st.lists(st.integers(0, 9), max_size=3))
def test_it_is_a_set(folds: list[tuple[list[tuple[str, int]], State, int]], settled: list[int]) -> None:
    """Whatever is added, in whichever order, and however it is settled: exactly that is in it, with its state; its day is never earlier."""
    folded = FoldedSet()
    model: dict[tuple[str, int], tuple[State, int]] = {}
    for version, (calls, state, day) in enumerate(folds, start=1):
        new = [call for call in calls if call not in model]
        folded = folded.add([(delta(*call), state) for call in new], version=version, date_us=day * DAY_US + 5)
        model |= dict.fromkeys(new, (state, day))
        if version in settled:
            folded = folded.settle(version - 1)
        text = json.dumps(folded.to_json(), separators=(",", ":"))
        assert FoldedSet.from_json(json.loads(text)) == folded
        assert folded.json_bytes == len(text)
    for writer in WRITERS:
        for counter in range(-1, 14):
            run = folded.find(delta(writer, counter))
            assert (delta(writer, counter) in folded) is ((writer, counter) in model)
            state, day = model.get((writer, counter), (None, 0))
            assert run is None or (run.state == state and run.day >= day)
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


def test_settled_runs_join_across_days_and_the_later_day_stays() -> None:
    """A writer that writes every day costs one run; it expires when its last day does, which is later than it had to."""
    folded = FoldedSet()
    for day in range(1, 40):
        folded = folded.add([(delta(WRITERS[0], day), State.FOLDED)], version=day, date_us=day * DAY_US).settle(day)
    assert folded.runs[WRITERS[0]] == (Run(1, 40, State.FOLDED, 0, 39),)
    assert len(folded.expire(date_us=69 * DAY_US, listed=[])) == 1
    assert len(folded.expire(date_us=70 * DAY_US, listed=[])) == 0


def test_runs_of_different_states_do_not_join() -> None:
    """What a restore set aside, and what a writer gave up, stay known as that."""
    states = [State.FOLDED, State.ASIDE, State.VOID, State.FOLDED]
    folded = FoldedSet().add([(delta(WRITERS[0], i), state) for i, state in enumerate(states)], version=1, date_us=0).settle(1)
    assert [run.state for run in folded.runs[WRITERS[0]]] == states


def test_a_delta_is_added_once() -> None:
    """Adding what is in it already is a mistake of ours, and is refused (I3)."""
    folded = FoldedSet().add([(delta(WRITERS[0], 3), State.FOLDED)], version=1, date_us=0)
    with pytest.raises(Bug, match="I3"):
        folded.add([(delta(WRITERS[0], 3), State.FOLDED)], version=2, date_us=0)
    with pytest.raises(Bug, match="I3"):
        folded.add([(delta(WRITERS[1], 3), State.FOLDED)] * 2, version=2, date_us=0)


def test_a_change_shares_what_did_not_change() -> None:
    """Adding and settling copy no writer's runs but those that change: a fold costs what it folds, and the bounded inline part."""
    folded = FoldedSet().add([(delta(writer, 1), State.FOLDED) for writer in WRITERS], version=1, date_us=0).settle(1)
    more = folded.add([(delta(WRITERS[0], 2), State.FOLDED)], version=2, date_us=0)
    assert more.runs[WRITERS[1]] is folded.runs[WRITERS[1]]
    assert more.settle(2).runs[WRITERS[1]] is folded.runs[WRITERS[1]]
    assert folded.settle(2) is folded


@settings(deadline=None)
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
