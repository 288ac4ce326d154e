"""The exact scan is exact: against plain float64, where rounding is worst, and in ties."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from chromalith.engine import exact
from chromalith.engine.exact import scan
from chromalith.engine.space import Space, check_space
from chromalith.errors import Invalid

SPACES = get_args(Space)


def naive(vectors: npt.NDArray[Any], query: npt.NDArray[Any], space: str) -> npt.NDArray[np.float32]:
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if space == "l2":
        return ((x - q) ** 2).sum(axis=1).astype(np.float32)
    if space == "ip":
        return (1 - (x * q).sum(axis=1)).astype(np.float32)
    norms = np.sqrt((x**2).sum(axis=1)) * np.sqrt((q**2).sum())
    return np.where(norms > 0, 1 - (x * q).sum(axis=1) / np.where(norms > 0, norms, 1), 1.0).astype(np.float32)


def norms_of(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.einsum("ij,ij->i", vectors, vectors)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("queries", [1, 7])
def test_the_nearest_are_those_of_float64(space: Space, gather: bool, queries: int) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((700, 24)).astype(np.float32)
    vectors[5] = 0
    wanted = rng.standard_normal((queries, 24)).astype(np.float32)
    passing = rng.random(700) < 0.5
    for mask in (None, passing):
        for query, nearest in zip(
            wanted, scan(vectors, norms_of(vectors), wanted, 10, space, passing=mask, gather=gather), strict=True
        ):
            rows = np.flatnonzero(passing) if mask is not None else np.arange(700)
            distances = naive(vectors[rows], query, space)
            order = np.argsort(distances, kind="stable")[:10]
            assert np.allclose(nearest.distances, distances[order], rtol=1e-6, atol=1e-7)
            assert nearest.rows.tolist() == rows[order].tolist()


def test_cancellation_does_not_hide_the_nearest() -> None:
    """Far from the origin |x|² - 2x·q loses every digit in which near rows differ; the answer must not."""
    rng = np.random.default_rng(4)
    centre = (1000 * rng.standard_normal(64)).astype(np.float32)
    vectors = (centre + 0.01 * rng.standard_normal((3000, 64))).astype(np.float32)
    query = vectors[1234:1235] + np.float32(0.001)
    expected = np.argsort(naive(vectors, query[0], "l2"), kind="stable")[:10]
    approximate = np.argsort(norms_of(vectors) - 2 * (vectors @ query[0]), kind="stable")[:10]
    assert approximate.tolist() != expected.tolist(), "the data must be hard, or this test proves nothing"
    (nearest,) = scan(vectors, norms_of(vectors), query, 10, "l2")
    assert nearest.rows.tolist() == expected.tolist()


@pytest.mark.parametrize("space", SPACES)
def test_ties_fall_to_the_earlier_row(space: Space) -> None:
    vectors = np.tile(np.array([[1.0, 2.0], [3.0, 1.0]], dtype=np.float32), (50, 1))
    (nearest,) = scan(vectors, norms_of(vectors), np.array([[1.0, 2.1]], np.float32), 60, space)
    for distance in np.unique(nearest.distances):
        tied = nearest.rows[nearest.distances == distance]
        assert tied.tolist() == sorted(tied.tolist())
    assert len(nearest.rows) == 60


def test_a_zero_vector_is_at_cosine_distance_one() -> None:
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    (nearest,) = scan(vectors, norms_of(vectors), np.array([[2, 0]], np.float32), 3, "cosine")
    assert (nearest.rows.tolist(), nearest.distances.tolist()) == ([1, 0, 2], [0.0, 1.0, 2.0])
    (zero,) = scan(vectors, norms_of(vectors), np.zeros((1, 2), np.float32), 3, "cosine")
    assert zero.distances.tolist() == [1.0, 1.0, 1.0]


def test_fewer_rows_than_wanted_give_all_of_them() -> None:
    vectors = np.eye(4, dtype=np.float32)
    passing = np.array([True, False, True, False])
    for gather in (False, True):
        (nearest,) = scan(vectors, norms_of(vectors), vectors[2:3], 10, "l2", passing=passing, gather=gather)
        assert nearest.rows.tolist() == [2, 0]
        (nothing,) = scan(vectors, norms_of(vectors), vectors[:1], 3, "l2", passing=passing & False, gather=gather)
        assert len(nothing.rows) == 0


def test_many_queries_in_little_memory_answer_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    queries = rng.standard_normal((20, 8)).astype(np.float32)
    alone = [scan(vectors, norms_of(vectors), queries[i : i + 1], 5, "l2")[0] for i in range(20)]
    monkeypatch.setattr(exact, "SCORES_BYTES_MAX", 3 * 300 * 4)
    monkeypatch.setattr(exact, "MEASURE_BYTES_MAX", 2 * 8 * 8)
    monkeypatch.setattr(exact, "GATHER_ROWS", 7)
    for passing in (None, np.ones(300, dtype=np.bool_)):
        together = scan(vectors, norms_of(vectors), queries, 5, "l2", passing=passing, gather=True)
        for one, other in zip(alone, together, strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert one.distances.tolist() == other.distances.tolist()


def test_an_unknown_space_is_invalid() -> None:
    with pytest.raises(Invalid, match="manhattan"):
        check_space("manhattan")
