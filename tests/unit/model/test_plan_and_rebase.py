"""Which segments are merged, and whether a finished merge still fits: two pure functions."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chromalith.model.checksum import Setsum
from chromalith.model.ids import JobId
from chromalith.model.manifest import DeletesRef, FileRef, Segment
from chromalith.model.plan import MergePolicy, plan_merges, tier
from chromalith.model.rebase import Abandon, CarryDeletes, rebase_merge

FILE = FileRef(1, "0" * 64)


def segment(number: int, rows: int, dead: int = 0) -> Segment:
    job = JobId(number, f"{number:032x}")
    deletes = DeletesRef(job, dead, FILE) if dead else None
    return Segment(job, rows, {}, deletes, None, "a", "b", Setsum(), Setsum())


SEGMENTS = st.lists(st.tuples(st.integers(1, 200), st.floats(0, 0.9)), max_size=30).map(
    lambda sizes: [segment(i, rows, int(rows * dead)) for i, (rows, dead) in enumerate(sizes)]
)
POLICIES = st.builds(MergePolicy, fan_in=st.integers(2, 8), rows_floor=st.integers(1, 20), rows_max=st.integers(20, 400))


@given(SEGMENTS, POLICIES)
def test_groups_are_worth_it_and_bounded(segments: list[Segment], policy: MergePolicy) -> None:
    """Groups are disjoint; each is a full tier within the bound, or one segment with many dead rows, and none of those is left out."""
    groups = plan_merges(segments, policy)
    positions = [position for group in groups for position in group]
    assert len(set(positions)) == len(positions)
    for group in groups:
        live = sum(segments[position].live for position in group)
        if len(group) == 1:
            (only,) = (segments[position] for position in group)
            assert only.rows - only.live > policy.deleted_fraction_max * only.rows
        else:
            assert len(group) == policy.fan_in
            assert live <= policy.rows_max
            assert len({tier(segments[position].live, policy) for position in group}) == 1
    for position, each in enumerate(segments):
        assert position in positions or each.rows - each.live <= policy.deleted_fraction_max * each.rows


@given(SEGMENTS, POLICIES)
def test_merging_comes_to_an_end(segments: list[Segment], policy: MergePolicy) -> None:
    """Doing what the plan says, one group after another, ends, with few segments left in each tier."""
    number = len(segments)
    for _ in range(200):
        groups = plan_merges(segments, policy)
        if not groups:
            break
        live = sum(segments[position].live for position in groups[0])
        segments = [each for position, each in enumerate(segments) if position not in groups[0]]
        number += 1
        segments += [segment(number, live)] if live else []
    assert plan_merges(segments, policy) == []


def test_what_is_written_is_a_small_multiple_of_what_came_in() -> None:
    """Folding a thousand records at a time up to a million, with the default policy, writes each at most five times."""
    policy = MergePolicy()
    segments: list[Segment] = []
    written = 0
    for number in range(1_000):
        segments.append(segment(number, 1_000))
        written += 1_000
        while groups := plan_merges(segments, policy):
            rows = sum(segments[position].live for position in groups[0])
            segments = [each for position, each in enumerate(segments) if position not in groups[0]]
            segments.append(segment(100_000 + written, rows))
            written += rows
    assert written <= 5 * 1_000_000
    assert len(segments) <= policy.fan_in * math.ceil(math.log(1_000, policy.fan_in))


@st.composite
def merges(draw: st.DrawFn) -> tuple[list[set[int]], list[set[int] | None], list[int]]:
    """For each input: the dead rows when it was read, the dead rows now (or that it is gone), and its rows."""
    rows = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    read = [draw(st.sets(st.integers(0, n - 1), max_size=n)) for n in rows]
    now = [
        draw(st.none() | st.sets(st.integers(0, n - 1)) | st.sets(st.integers(0, n - 1)).map(lambda s, r=r: s | r))
        for n, r in zip(rows, read, strict=True)
    ]
    return read, now, rows


@given(merges())
def test_a_rebased_merge_shows_what_its_inputs_show(case: tuple[list[set[int]], list[set[int] | None], list[int]]) -> None:
    """If it is not abandoned, the live rows of the output are exactly those of the inputs; if it can't show them, it is abandoned."""
    read, now, rows = case
    names = [JobId(i, f"{i:032x}") for i in range(len(rows))]
    kept = [(i, row) for i, n in enumerate(rows) for row in range(n) if row not in read[i]]
    place = {pair: at for at, pair in enumerate(reversed(kept))}
    output_row = {
        names[i]: np.array([place.get((i, row), -1) for row in range(n)], np.int64) for i, n in enumerate(rows)
    }

    def array(values: set[int]) -> np.ndarray:  # type: ignore[type-arg]
        return np.array(sorted(values), np.uint32)

    decision = rebase_merge(
        names,
        {name: array(dead) for name, dead in zip(names, read, strict=True)},
        {name: array(dead) for name, dead in zip(names, now, strict=True) if dead is not None},
        output_row,
        base=5,
        boundary=5,
    )
    possible = all(dead is not None and was <= dead for was, dead in zip(read, now, strict=True))
    assert isinstance(decision, Abandon) is not possible
    if possible:
        carried = decision.rows if isinstance(decision, CarryDeletes) else np.empty(0, np.uint32)
        assert len(carried) or not isinstance(decision, CarryDeletes)
        live = {pair for pair, at in place.items() if at not in set(carried.tolist())}
        assert live == {(i, row) for i, n in enumerate(rows) for row in range(n) if row not in (now[i] or set())}
        assert carried.tolist() == sorted(set(carried.tolist()))
