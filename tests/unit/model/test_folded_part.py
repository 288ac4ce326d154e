"""A part of the folded set: its columns say what the runs said, on disk too; parts are merged so that few remain."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.errors import Corrupt, Invalid
from chromalith.model.folded import DAY_US, KEPT_DAYS, FoldedSet, Run, State
from chromalith.model.folded_part import (
    PART_FACTOR,
    PART_INTERVALS_MAX,
    FoldedPart,
    decode_part,
    encode_part,
    forgotten,
    parts_kept,
    united,
)
from chromalith.model.ids import COUNTER_MAX, DeltaId

# Zeros at both ends: numpy drops trailing ones from the strings that it returns.
WRITERS = ["00" * 16, "00" * 15 + "01", "01" + "00" * 15, "a1" * 16, "ff" * 16]
COUNTERS = st.one_of(st.integers(0, 9), st.integers(COUNTER_MAX - 3, COUNTER_MAX), st.sampled_from([255, 256, 2**31]))
CALLS = st.tuples(st.sampled_from(WRITERS), COUNTERS)
FOLDED = st.dictionaries(CALLS, st.tuples(st.sampled_from(list(State)), st.integers(0, 40)), max_size=20)


def delta(writer: str, counter: int) -> DeltaId:
    return DeltaId(7, writer, counter, "0" * 16)


def folded_set(calls: dict[tuple[str, int], tuple[State, int]]) -> FoldedSet:
    folded = FoldedSet()
    for version, (call, (state, day)) in enumerate(calls.items(), start=1):
        folded = folded.add([(delta(*call), state)], version=version, date_us=day * DAY_US)
    return folded


def plain(part: FoldedPart) -> list[tuple[str, Run]]:
    return list(part.items())


@settings(deadline=None)
@given(FOLDED, st.lists(CALLS, max_size=20))
def test_it_finds_what_the_runs_find(calls: dict[tuple[str, int], tuple[State, int]], asked: list[tuple[str, int]]) -> None:
    """A lookup in the columns, before and after a round trip through Parquet, answers as the inline runs do."""
    folded = folded_set(calls)
    part = FoldedPart.of(folded)
    stored = decode_part(encode_part(part), "k")
    assert plain(stored) == plain(part)
    deltas = [delta(*call) for call in [*asked, *calls]]
    for columns in (part, stored):
        for each, position, run in zip(deltas, columns.positions(deltas).tolist(), folded.find_all(deltas), strict=True):
            assert (position >= 0) is (run is not None), each
            if run is not None:
                found = columns.run(position, 5)
                assert (found.start, found.stop, found.state, found.version, found.day) == (run.start, run.stop, run.state, 5, run.day)


@settings(deadline=None)
@given(FOLDED, st.integers(1, 4), st.randoms())
def test_parts_united_hold_what_each_held(calls: dict[tuple[str, int], tuple[State, int]], pieces: int, random: object) -> None:
    """Whichever part held a delta, the union does, in its state and dated no earlier; runs that touch and are alike are one."""
    shares: list[dict[tuple[str, int], tuple[State, int]]] = [{} for _ in range(pieces)]
    for call, value in calls.items():
        random.choice(shares)[call] = value  # type: ignore[attr-defined]
    part = united([FoldedPart.of(folded_set(share)) for share in shares])
    for call, (state, day) in calls.items():
        (position,) = part.positions([delta(*call)]).tolist()
        assert position >= 0
        run = part.run(position, 0)
        assert run.state == state
        assert run.day >= day
    assert sum(run.stop - run.start for _, run in part.items()) == len(calls)
    runs = plain(part)
    for (writer, run), (after, following) in pairwise(runs):
        assert writer != after or run.stop < following.start or run.state != following.state


@settings(deadline=None)
@given(FOLDED, st.integers(0, 80), st.sets(CALLS, max_size=4))
def test_a_part_expires_as_the_inline_runs_do(
    calls: dict[tuple[str, int], tuple[State, int]], today: int, listed: set[tuple[str, int]]
) -> None:
    """Runs over 30 days old of which nothing is listed go; all others stay."""
    folded = folded_set(calls)
    deltas = [delta(*call) for call in sorted(listed)]
    part = FoldedPart.of(folded).expire(date_us=today * DAY_US, listed=deltas)
    assert plain(part) == plain(FoldedPart.of(folded.expire(date_us=today * DAY_US, listed=deltas)))


@settings(deadline=None)
@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=200))
def test_parts_are_few_and_little_larger_than_one(added: list[int]) -> None:
    """After any history of additions each part is over 4 times the next: so their number is logarithmic, and their sum 4/3 of the first."""
    parts: list[int] = []
    rewritten = 0
    for intervals in added:
        kept = parts_kept(parts, intervals)
        parts[kept:] = [sum(parts[kept:]) + intervals]
        rewritten += parts[-1]
        assert all(left > PART_FACTOR * right for left, right in pairwise(parts))
        assert sum(parts) * 3 <= parts[0] * 4
    assert sum(parts) == sum(added)
    # Each time that a run is rewritten, what it stands in grows by at least a quarter; the first write is not a rewrite.
    growth = np.log(sum(added) / min(added)) / np.log(1 + 1 / PART_FACTOR)
    assert rewritten <= sum(added) * (growth + 1) + 1


def test_a_part_has_a_largest_size() -> None:
    """A part that is as large as one may be is not merged any more; what is larger is cut into pieces."""
    assert parts_kept([PART_INTERVALS_MAX, 10], 10) == 1
    rows = PART_INTERVALS_MAX + 3
    key = np.zeros((rows, 20), np.uint8)
    key[:, 16:] = (2 * np.arange(rows)).astype(">u4").view(np.uint8).reshape(rows, 4)
    part = FoldedPart(
        key.reshape(-1).view("S20"), 2 * np.arange(rows) + 1, np.full(rows, ord("f"), np.uint8), np.zeros(rows, np.int64)
    )
    pieces = list(part.pieces())
    assert [len(piece) for piece in pieces] == [PART_INTERVALS_MAX, 3]
    assert len(decode_part(encode_part(pieces[0]), "k")) == PART_INTERVALS_MAX
    with pytest.raises(Corrupt):
        decode_part(encode_part(part), "k")


def test_parts_that_overlap_are_refused() -> None:
    """A delta in two parts was folded twice: that is said, not smoothed over (I3)."""
    one = FoldedPart.of(folded_set({(WRITERS[0], counter): (State.FOLDED, 1) for counter in range(5)}))
    with pytest.raises(Corrupt, match="I3"):
        united([one, FoldedPart.of(folded_set({(WRITERS[0], 3): (State.ASIDE, 1)}))])


@settings(deadline=None)
@given(FOLDED, FOLDED, st.integers(0, 80))
def test_what_a_child_must_remember(
    parent: dict[tuple[str, int], tuple[State, int]], more: dict[tuple[str, int], tuple[State, int]], today: int
) -> None:
    """I3 over whole versions: a child that adds, settles and expires breaks nothing; one that loses a young run is found out."""
    calls = more | parent
    held = folded_set(parent)
    child = folded_set(calls).settle(len(calls) // 2).expire(date_us=today * DAY_US, listed=[])
    before, after = FoldedPart.of(held), FoldedPart.of(child)
    # A run of the parent whose older neighbours joined it in the child is dated later, never earlier.
    assert forgotten(before, after, date_us=today * DAY_US) is None
    for position, (writer, run) in enumerate(before.items()):
        less = FoldedPart(*(np.delete(column, position) for column in (before.key, before.stop, before.state, before.day)))
        lost = forgotten(before, less, date_us=today * DAY_US)
        assert (lost is not None) is (run.day >= today - KEPT_DAYS)
        assert lost is None or lost[0] == writer


@pytest.mark.parametrize("change", ["state", "day", "stop"])
def test_a_child_that_remembers_wrongly_is_found_out(change: str) -> None:
    """A run that is shorter, dated back or in another state is as good as forgotten."""
    whole = folded_set({(WRITERS[3], counter): (State.FOLDED, 9) for counter in (1, 2, 3)}).settle(3)
    (run,) = whole.runs[WRITERS[3]]
    changed = {
        "state": Run(run.start, run.stop, State.ASIDE, 0, run.day),
        "day": Run(run.start, run.stop, run.state, 0, run.day - 1),
        "stop": Run(run.start, run.stop - 1, run.state, 0, run.day),
    }[change]
    child = FoldedPart.of(FoldedSet({WRITERS[3]: (changed,)}))
    assert forgotten(FoldedPart.of(whole), child, date_us=10 * DAY_US) == (WRITERS[3], run)


# -- bad bytes ---------------------------------------------------------------------------------------------------------

GOOD = encode_part(
    FoldedPart.of(folded_set({(writer, counter): (State.FOLDED, 20_000) for writer in WRITERS for counter in (0, 2, 4)}))
)


@settings(deadline=None)
@given(st.data())
def test_damaged_bytes_are_corrupt(data: st.DataObject) -> None:
    """Cut, altered or foreign bytes raise ``Corrupt``, or decode to runs that are in order; nothing else comes out."""
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.sampled_from([len(body), len(body), data.draw(st.integers(0, len(body)))]))]
    try:
        part = decode_part(bytes(body), "k")
    except (Corrupt, Invalid):
        return
    runs = plain(part)
    assert all(left[0] < right[0] or left[1].stop <= right[1].start for left, right in pairwise(runs))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_foreign_bytes_are_corrupt(body: bytes) -> None:
    """Whatever is not a part is said to be corrupt."""
    with pytest.raises(Corrupt):
        decode_part(body, "k")


def table(**columns: object) -> bytes:
    """A Parquet file with the columns of a part, some of them replaced."""
    usual = {
        "writer": pa.array([b"a" * 16, b"b" * 16], pa.binary(16)),
        "start": pa.array([1, 1], pa.uint32()),
        "stop": pa.array([2, 2], pa.uint64()),
        "state": pa.array([ord("f")] * 2, pa.uint8()),
        "day": pa.array([1, 1], pa.uint16()),
    }
    sink = io.BytesIO()
    found = pa.table(usual | columns)
    with pq.ParquetWriter(sink, found.schema, store_schema=False) as writer:
        writer.write_table(found)
        writer.add_key_value_metadata({"chromalith.folded.format": "1"})
    return sink.getvalue()


def test_the_plain_table_is_a_part() -> None:
    """The table that the next test spoils is whole itself."""
    assert len(decode_part(table(), "k")) == 2


@pytest.mark.parametrize(
    "columns",
    [
        {"writer": pa.array([b"b" * 16, b"a" * 16], pa.binary(16))},
        {"writer": pa.array([b"a" * 16] * 2, pa.binary(16))},
        {"writer": pa.array([b"a" * 15] * 2, pa.binary(15))},
        {"writer": pa.array([b"a" * 16, None], pa.binary(16))},
        {"stop": pa.array([1, 2], pa.uint64())},
        {"stop": pa.array([2, 2**32 + 1], pa.uint64())},
        {"stop": pa.array([2, None], pa.uint64())},
        {"state": pa.array([ord("f"), ord("x")], pa.uint8())},
        {"day": pa.array([1, 1], pa.int64())},
        {"more": pa.array([1, 1])},
    ],
)
def test_runs_out_of_order_are_corrupt(columns: dict[str, pa.Array]) -> None:
    """Valid Parquet that is no part: another order, other types, a missing value, a state that nobody writes."""
    with pytest.raises(Corrupt):
        decode_part(table(**columns), "k")


def test_a_newer_format_asks_for_an_upgrade() -> None:
    """A part of a newer format is not called damaged."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, pa.schema([("writer", pa.string())]), store_schema=False) as writer:
        writer.add_key_value_metadata({"chromalith.folded.format": "2"})
    with pytest.raises(Invalid, match="newer format"):
        decode_part(sink.getvalue(), "k")
