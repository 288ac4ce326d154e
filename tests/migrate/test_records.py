"""Equality of records: by type and value, bit by bit, and for cosine within what stock Chroma does to an embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chromalith.migrate.records import COSINE_TOLERANCE, Difference, differences, same_embedding, same_value
from chromalith.transfer.port import Batch

Floats = npt.NDArray[np.float32]
VALUES: list[Any] = [
    1, 1.0, True, "1", 0, 0.0, False, "", "a", [1], [1.0], [True], ["1"], [1, 2], [2, 1], 2**53, 2**53 + 1,
]  # fmt: skip


def batch(*rows: tuple[Any, ...]) -> Batch:
    """Of rows (id, embedding, document, uri, metadata); what is left out is absent."""
    filled = [(*row, None, None, None)[:5] if len(row) < 5 else row for row in rows]
    embeddings = np.array([row[1] for row in filled], np.float32) if filled else np.zeros((0, 0), np.float32)
    return Batch(
        [row[0] for row in filled],
        embeddings,
        [row[2] for row in filled],
        [row[3] for row in filled],
        [row[4] for row in filled],
    )


@pytest.mark.parametrize("a", range(len(VALUES)))
def test_values_are_equal_only_to_themselves(a: int) -> None:
    """1, 1.0, True, "1" and lists of them are different values, although Python calls some of them equal."""
    assert [same_value(VALUES[a], other) for other in VALUES] == [a == b for b in range(len(VALUES))]


def test_every_field_is_named() -> None:
    """What differs is what the report says, in a fixed order, and nothing else."""
    before = ("a", [1.0, 2.0], "text", "uri", {"n": 1, "gone": "x", "same": [1, 2]})
    after = ("a", [1.0, 2.5], None, "other", {"n": 1.0, "new": True, "same": [1, 2]})
    assert differences(batch(before), batch(after), "l2") == [
        Difference("a", "different", ("embedding", "document", "uri", "metadata.gone", "metadata.n", "metadata.new"))
    ]
    assert differences(batch(before), batch(before), "l2") == []


def test_missing_and_extra_and_the_order_of_the_answer() -> None:
    """Ids are matched, whatever the order of either side; first the authority's order, then what only the other has."""
    one = batch(("a", [1]), ("b", [2]), ("c", [3]))
    two = batch(("x", [9]), ("c", [3]), ("a", [7]))
    assert differences(one, two, "ip") == [
        Difference("a", "different", ("embedding",)),
        Difference("b", "missing"),
        Difference("x", "extra"),
    ]
    nothing = batch()
    assert [each.kind for each in differences(nothing, two, "l2")] == ["extra"] * 3
    assert [each.kind for each in differences(one, nothing, "l2")] == ["missing"] * 3
    assert differences(nothing, nothing, "l2") == []


@pytest.mark.parametrize(("one", "two"), [(None, {}), ({}, None), ({}, {})])
def test_no_metadata_and_empty_metadata_are_one(one: Any, two: Any) -> None:
    assert differences(batch(("a", [1], "d", None, one)), batch(("a", [1], "d", None, two)), "l2") == []


def test_an_empty_document_is_a_document() -> None:
    """Absent and empty differ, of documents and of URIs."""
    found = differences(batch(("a", [1], "", "")), batch(("a", [1], None, None)), "l2")
    assert found == [Difference("a", "different", ("document", "uri"))]


def test_another_dimension_is_another_embedding() -> None:
    found = differences(
        batch(("a", [1, 2]), ("b", [1, 2])),
        batch(
            ("a", [1, 2, 3]),
        ),
        "cosine",
    )
    assert found == [Difference("a", "different", ("embedding",)), Difference("b", "missing")]


finite = hnp.arrays(
    np.float32, st.integers(1, 8), elements=st.floats(-1e4, 1e4, width=32, allow_nan=False, allow_infinity=False)
)


@given(row=finite, at=st.integers(0, 7), bit=st.integers(0, 31))
def test_one_bit_of_an_embedding_is_a_difference(row: Floats, at: int, bit: int) -> None:
    """Any bit of any component, where embeddings are kept bit by bit."""
    other = row.copy()
    other.view(np.uint32)[at % len(row)] ^= np.uint32(1 << bit)
    for space in ("l2", "ip"):
        assert same_embedding(row, row.copy(), space)
        assert not same_embedding(row, other, space)
        assert differences(batch(("a", row)), batch(("a", other)), space)


def test_nan_is_never_within_a_tolerance() -> None:
    """What Chroma makes of a vector that is too long is reported."""
    row = np.array([1.0, 2.0], np.float32)
    assert not same_embedding(row, np.array([np.nan, 2.0], np.float32), "cosine")


def test_nothing_is_within_a_part_of_an_infinite_length() -> None:
    """Either way round: only the same bits are the same vector."""
    endless, plain = np.array([np.inf, 2.0], np.float32), np.array([1.0, 2.0], np.float32)
    assert not same_embedding(endless, plain, "cosine")
    assert not same_embedding(plain, endless, "cosine")
    assert same_embedding(endless, endless.copy(), "cosine")


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
def test_the_tolerance_is_relative_to_the_length(magnitude: float) -> None:
    """Below it equal, above it different, for short and long vectors alike; a zero vector equals only itself."""
    row = np.array([3.0, 4.0, 1e-4], np.float64) * magnitude
    wanted = row.astype(np.float32)
    for factor, equal in ((0.5, True), (2.0, False)):
        other = (row + np.array([0, 0, factor * COSINE_TOLERANCE * 5 * magnitude])).astype(np.float32)
        assert not np.array_equal(wanted, other)
        assert same_embedding(wanted, other, "cosine") is equal
        assert not same_embedding(wanted, other, "l2")
    zero = np.zeros(3, np.float32)
    assert same_embedding(zero, -zero, "cosine")
    assert not same_embedding(zero, np.full(3, 1e-30, np.float32), "cosine")


@pytest.mark.parametrize("dimension", [3, 384, pytest.param(3_072, marks=pytest.mark.slow)])
def test_what_stock_chroma_returns_of_a_cosine_collection_is_equal(dimension: int, stock: Any) -> None:
    """After one and after two passages through it; each takes at most a quarter of the tolerance."""
    chance = np.random.default_rng(dimension)
    lengths = 10 ** chance.uniform(-3, 4, size=(300, 1))
    even = chance.normal(size=(300, dimension))
    spiky = even * np.exp(2 * chance.normal(size=even.shape))
    rows = np.concatenate([some / np.linalg.norm(some, axis=1)[:, None] * lengths for some in (even, spiky)])
    written = rows.astype(np.float32)
    ids = [str(n) for n in range(len(written))]
    passed, changed = written, 0
    for passages in (1, 2):
        collection = stock.create_collection(
            f"of-{dimension}-{passages}", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        collection.add(ids=ids, embeddings=passed)
        passed = np.asarray(collection.get(ids=ids, include=["embeddings"])["embeddings"], np.float32)
        one, two = (Batch(ids, some, *([None] * len(ids) for _ in range(3))) for some in (written, passed))
        assert differences(one, two, "cosine") == []
        changed = len(differences(one, two, "l2"))
        worst = np.abs(written.astype(np.float64) - passed).max(axis=1) / np.linalg.norm(
            written.astype(np.float64), axis=1
        )
        assert worst.max() <= passages * COSINE_TOLERANCE / 4 * 1.01
    assert changed > len(ids) / 2  # else this could not fail


@pytest.fixture(scope="module")
def stock() -> Any:
    """An engine of stock Chroma, in memory."""
    import chromadb
    from chromadb.config import Settings

    return chromadb.EphemeralClient(Settings(anonymized_telemetry=False))


def test_the_tolerance_of_cosine_is_that_of_two_roundings_and_no_more() -> None:
    """One part in a million of the length is another embedding, in whichever component; a tenth of that is Chroma's arithmetic."""
    row = np.array([3.0, 4.0, 0.0], np.float32)
    for component in range(3):
        moved, rounded = row.astype(np.float64), row.astype(np.float64)
        moved[component] += 5e-6
        rounded[component] += 5e-7
        assert not same_embedding(row, moved.astype(np.float32), "cosine")
        assert same_embedding(row, rounded.astype(np.float32), "cosine")
