"""Deltas survive their bytes, and nothing else passes for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Corrupt, Invalid
from chromalith.model.delta import OPERATIONS_MAX, VOID, decode_delta, encode_delta
from chromalith.model.ids import CollectionId, DeltaId, body_digest
from chromalith.model.operation import Op, Operations
from chromalith.write.validate import operations

CID = CollectionId("00000000-0000-4000-8000-000000000001")
OTHER = CollectionId("00000000-0000-4000-8000-000000000002")
TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def name(body: bytes) -> DeltaId:
    return DeltaId(1, "a" * 32, 0, body_digest(body))


@st.composite
def batches(draw: st.DrawFn) -> Operations:
    rows = draw(st.integers(1, 5))
    dimension = draw(st.integers(1, 3))
    present = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    matrix = np.array(draw(st.lists(FLOATS, min_size=rows * dimension, max_size=rows * dimension)), np.float32)
    matrix = matrix.reshape(rows, dimension)
    matrix[~present] = 0

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return Operations(
        column(st.sampled_from(list(Op))),  # type: ignore[arg-type]
        column(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)),  # type: ignore[arg-type]
        matrix if present.any() else None,
        present,
        column(TEXT),  # type: ignore[arg-type]
        column(TEXT),  # type: ignore[arg-type]
        column(st.none() | st.just('{"k":null}')),  # type: ignore[arg-type]
    )


@given(batches())
def test_a_delta_survives_its_bytes(batch: Operations) -> None:
    """What was encoded is decoded: every column, with what is absent, bit for bit."""
    body = encode_delta(CID, batch)
    found = decode_delta(CID, name(body), body).operations
    assert found is not None
    assert (list(found.ops), found.ids, found.documents, found.uris, found.metadata) == (
        batch.ops, batch.ids, batch.documents, batch.uris, batch.metadata,
    )  # fmt: skip
    np.testing.assert_array_equal(found.has_embedding, batch.has_embedding)
    assert (found.embeddings is None) is (batch.embeddings is None)
    if batch.embeddings is not None and found.embeddings is not None:
        assert found.embeddings.tobytes() == batch.embeddings.tobytes()
    assert encode_delta(CID, batch) == body


@given(batches(), st.data())
def test_altered_bytes_are_corrupt(batch: Operations, data: st.DataObject) -> None:
    """Whichever byte changes, and wherever it is cut, the digest in the name tells."""
    body = encode_delta(CID, batch)
    at = data.draw(st.integers(0, len(body) - 1))
    changed = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    for bad in (changed, body[:at], body + b"\0"):
        with pytest.raises(Corrupt):
            decode_delta(CID, name(body), bad)


def test_a_void_is_no_operation() -> None:
    """The fixed body of a void is accepted under any name."""
    assert decode_delta(CID, name(b"something else"), VOID).operations is None


def test_a_delta_of_another_collection_is_corrupt() -> None:
    """A delta that was copied to another collection's prefix is not applied there."""
    body = encode_delta(OTHER, Operations([Op.DELETE], ["a"], None, np.zeros(1, np.bool_), [None], [None], [None]))
    with pytest.raises(Corrupt, match="another collection"):
        decode_delta(CID, name(body), body)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_names_sort_as_their_text(hlc: int, counter: int) -> None:
    """A delta id prints to fixed width, and is parsed back."""
    delta = DeltaId(hlc, "a" * 32, counter, "0" * 16)
    assert DeltaId.parse(str(delta)) == delta
    assert len(str(delta)) == 16 + 32 + 8 + 16 + 3
    lower = DeltaId(hlc // 2, "b" * 32, 0, "0" * 16)
    assert (lower < delta) is (str(lower) < str(delta))


def test_only_deletes_may_be_more_than_the_limit_of_records() -> None:
    """A delete by filter is one atomic call however many ids it found; any other call over the limit is refused, never split."""
    ids = [f"id{i}" for i in range(OPERATIONS_MAX + 1)]
    assert encode_delta(CID, operations(Op.DELETE, ids))
    with pytest.raises(Invalid, match="too many records"):
        encode_delta(CID, operations(Op.UPDATE, ids, documents=["x"] * len(ids)))
