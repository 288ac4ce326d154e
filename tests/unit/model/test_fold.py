"""``fold`` is a function of the operations alone: not of how they are cut into calls, folds and overlays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Bug
from chromalith.model.fold import fold, needs_record, touched
from chromalith.model.operation import Op, Operations
from chromalith.model.record import Record
from chromalith.write.validate import operations

IDS = ["a", "b", "c"]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(list(Op)),
        st.sampled_from(IDS),
        st.integers(0, 9),
        st.booleans(),
        st.sampled_from([None, {"k": 1}, {"k": None}, {"l": "null", "k": 2}]),
    ),
    max_size=12,
)
CUTS = st.sets(st.integers(0, 12), max_size=4)
Row = tuple[Op, str, int, bool, object]


def batch(row: Row) -> Operations:
    op, record_id, value, has_document, metadata = row
    if op is Op.DELETE:
        return operations(op, [record_id])
    if op is Op.ADD and metadata == {"k": None}:
        metadata = None
    embeds = op is not Op.UPDATE or value % 2
    return operations(
        op, [record_id], [[float(value), 1.0]] if embeds else None, [str(value)] if has_document else None, None, [metadata]  # type: ignore[list-item]
    )


def described(records: dict[str, Record | None]) -> dict[str, object]:
    return {i: r and (r.seq, r.embedding.tolist(), r.document, r.uri, r.metadata) for i, r in records.items()}


def live(records: dict[str, Record | None]) -> dict[str, object]:
    return {i: shown for i, shown in described(records).items() if shown is not None}


@given(ROWS, CUTS)
def test_folding_in_parts_is_folding_at_once(rows: list[Row], cuts: set[int]) -> None:
    """A fold after each cut, from only what it says that it needs, and an overlay that is extended, end as one fold does."""
    batches = [batch(row) for row in rows]
    whole = fold({}, batches, 1)
    stored: dict[str, Record] = {}
    next_seq, overlay = 1, fold({}, [], 1)
    for part in parts(batches, cuts):
        needed = needs_record(part)
        given_to_it = {i: stored[i] if i in needed else None for i in touched(part) if i in stored}
        result = fold(given_to_it, part, next_seq)
        next_seq = result.next_seq
        for record_id, record in result.records.items():
            stored.pop(record_id, None)
            if record is not None:
                stored[record_id] = record
        overlay = fold({}, part, overlay.next_seq, before=overlay.records)
    assert described(dict(stored)) == live(whole.records)
    assert live(overlay.records) == live(whole.records)
    assert next_seq == overlay.next_seq == whole.next_seq


def parts(batches: list[Operations], cuts: set[int]) -> list[Sequence[Operations]]:
    ends = sorted({cut for cut in cuts if cut < len(batches)} | {len(batches)})
    return [batches[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def test_a_record_that_was_needed_and_not_read_is_a_bug() -> None:
    """A stored record that an upsert builds on can't be made up."""
    with pytest.raises(Bug):
        fold({"a": None}, [batch((Op.UPSERT, "a", 1, True, None))], 1)


def test_an_update_keeps_the_place_and_a_new_insertion_does_not() -> None:
    """``seq`` stays with a record through updates, and is new after delete and add."""
    rows: list[Row] = [(Op.ADD, "a", 1, True, None), (Op.ADD, "b", 2, True, None), (Op.UPSERT, "a", 3, True, None)]
    assert [r.seq for r in fold({}, map(batch, rows), 1).records.values() if r] == [1, 2]
    rows += [(Op.DELETE, "a", 0, False, None), (Op.ADD, "a", 4, True, None)]
    folded = fold({}, map(batch, rows), 1)
    assert folded.records["a"] is not None
    assert (folded.records["a"].seq, folded.next_seq) == (3, 4)


def test_the_first_insertion_may_bring_no_vector() -> None:
    """An upsert without an embedding of an id that is not there inserts nothing: a record has a vector."""
    rows = Operations([Op.UPSERT], ["a"], None, np.zeros(1, np.bool_), ["d"], [None], [None])
    assert fold({}, [rows], 1).records == {}
