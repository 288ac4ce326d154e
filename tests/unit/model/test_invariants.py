"""Each invariant of a whole version has a version that breaks it and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Bug, Corrupt
from chromalith.model.buckets import Buckets
from chromalith.model.checksum import Digests, Setsum
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.invariants import (
    Change,
    SegmentRows,
    check_version,
    i4_buckets_add_up,
    i4_checksums_change_by_what_was_done,
)
from chromalith.model.manifest import BucketsRef, FileRef, Manifest, Segment

CID = CollectionId("00000000-0000-4000-8000-000000000001")


def digests(*seeds: int) -> Digests:
    return np.array([np.random.default_rng(seed).integers(0, 256, 32) for seed in seeds], np.uint8).reshape(-1, 32)


def part(number: int, ids: list[str], seq: list[int]) -> SegmentRows:
    content, embedding = digests(*seq), digests(*(100 + each for each in seq))
    segment = Segment(
        JobId(number, f"{number:032x}"), len(ids), {}, None, None, min(ids), max(ids), Setsum.of(content), Setsum.of(embedding)
    )
    return SegmentRows(segment, ids, np.array(seq, np.int64), content, embedding)


def version(*parts: SegmentRows) -> Manifest:
    segments = tuple(each.segment for each in parts)
    total = Setsum()
    return Manifest(CID, 3, "p", "w" * 32, "fold", 0, 0, 0, 10, 2, segments, total, total)


GOOD = (part(1, ["a", "b"], [1, 4]), part(2, ["c"], [2]))


def test_a_whole_version_passes() -> None:
    """What holds is not complained of."""
    check_version(version(*GOOD), GOOD)
    check_version(version(), [])


BROKEN = {
    "I1": (GOOD[0], part(2, ["a"], [2])),
    "I6": (GOOD[0], replace(GOOD[1], segment=replace(GOOD[1].segment, rows=2))),
    "I4 broken: content": (GOOD[0], replace(GOOD[1], content=digests(77))),
    "I4 broken: embedding": (GOOD[0], replace(GOOD[1], embedding=digests(77))),
    "I7": (GOOD[0], part(2, ["c"], [4])),
    "I7 ": (GOOD[0], part(2, ["c"], [10])),
}


@pytest.mark.parametrize("invariant", BROKEN)
def test_a_broken_version_is_named(invariant: str) -> None:
    """The invariant that does not hold is the one that is reported."""
    with pytest.raises(Corrupt, match=invariant.strip()):
        check_version(version(*BROKEN[invariant]), BROKEN[invariant])


SETS = st.lists(st.integers(0, 5), max_size=6)


@given(SETS, SETS)
def test_checksums_are_those_of_multisets(left: list[int], right: list[int]) -> None:
    """Sums do not depend on the order, add and subtract as the sets do, tell multisets apart, and survive their text."""
    a, b, both = Setsum.of(digests(*left)), Setsum.of(digests(*right)), Setsum.of(digests(*right, *left))
    assert a + b == both
    assert both - a == b
    assert a - a == Setsum()
    assert (a == b) is (sorted(left) == sorted(right))
    assert Setsum.parse(str(both)) == both


def test_buckets_that_do_not_add_up_are_not_published() -> None:
    """Nor the parent's, by a job that changed the records."""
    content, embedding = digests(1, 2), digests(101, 102)
    buckets = Buckets.of(np.array([3, 300], np.uint64), content, embedding)
    segment = part(1, ["a", "b"], [1, 2]).segment
    child = replace(version(), segments=(segment,), content=Setsum.of(content), embedding=Setsum.of(embedding))
    i4_buckets_add_up(child, buckets)
    with pytest.raises(Bug, match="I4"):
        i4_buckets_add_up(child, buckets + buckets)
    ref = BucketsRef(JobId(1, "b" * 32), FileRef(1, "0" * 64))
    change = Change(live=2, content=child.content, embedding=child.embedding)
    i4_checksums_change_by_what_was_done(version(), replace(child, buckets=ref), change)
    with pytest.raises(Bug, match="I4"):
        i4_checksums_change_by_what_was_done(replace(version(), buckets=ref), replace(child, buckets=ref), change)
