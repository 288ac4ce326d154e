"""The reference model agrees with the product's fold, although neither knows of the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chromalith.model.fold import fold
from chromalith.model.metadata import decode_metadata, encode_metadata
from chromalith.model.operation import OP_BY_LABEL, Op, Operations
from chromalith.testing.reference import EMPTY, Change, Contents, Row

VALUES = st.one_of(st.none(), st.dictionaries(st.sampled_from("jkl"), st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=2))


@st.composite
def calls(draw: Any) -> tuple[Change, ...]:
    op = draw(st.sampled_from(("add", "update", "upsert", "delete")))
    changes = []
    for record_id in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        if op == "delete":
            changes.append(Change(op, record_id))
            continue
        metadata = draw(VALUES)
        if op == "add" and metadata is not None:
            metadata = {key: value for key, value in metadata.items() if value is not None} or None
        embedding = (float(draw(st.integers(0, 9))), 1.0) if op != "update" or draw(st.booleans()) else None
        changes.append(Change(op, record_id, embedding, draw(st.none() | st.text("xy", max_size=2)), None, metadata))
    return tuple(changes)


def as_operations(changes: tuple[Change, ...]) -> Operations:
    has = np.array([change.embedding is not None for change in changes])
    vectors = np.array([change.embedding or (0.0, 0.0) for change in changes], np.float32)
    return Operations(
        [OP_BY_LABEL[change.op] for change in changes],
        [change.id for change in changes],
        vectors if has.any() else None,
        has,
        [change.document for change in changes],
        [change.uri for change in changes],
        [encode_metadata(change.metadata) for change in changes],
    )


@given(st.lists(calls(), max_size=8))
def test_the_model_and_the_fold_agree(history: list[tuple[Change, ...]]) -> None:
    """Rows, sequence numbers, and what is left of metadata, whatever the operations."""
    expected: Contents = EMPTY
    for changes in history:
        expected = expected.apply(changes)
    folded = fold({}, [as_operations(changes) for changes in history], 1)
    rows = {
        record.id: Row(record.seq, tuple(record.embedding.tolist()), record.document, record.uri, decode_metadata(record.metadata))
        for record in folded.records.values()
        if record is not None
    }
    assert Contents(rows, folded.next_seq) == expected


def test_what_is_blind() -> None:
    """A delete, and an upsert that names every field: what they leave does not depend on what was there."""
    assert Change("delete", "a").is_blind
    assert Change("upsert", "a", (1.0,), "d", "u", {"k": 1}).is_blind
    assert not Change("upsert", "a", (1.0,), "d").is_blind
    assert not Change("add", "a", (1.0,), "d", "u", {"k": 1}).is_blind
    assert Op.ADD.label == "add"
