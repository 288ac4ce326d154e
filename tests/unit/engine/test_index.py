"""The index: built, opened, checked; and what is damaged or belongs to other vectors is found out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from usearch.index import Index

from chromalith.engine.exact import scan
from chromalith.engine.index import IndexConfig, VectorIndex, check_index
from chromalith.engine.space import Space
from chromalith.engine.usearch_index import build_index, open_index
from chromalith.errors import Corrupt, Invalid

ROWS, DIMENSION = 3_000, 48
CONFIG = IndexConfig(ef_construction=64, ef_search=64, threads=1)
Vectors = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Clustered, of different lengths, as embeddings are and random numbers are not."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((40, DIMENSION))
    return (centres[rng.integers(0, 40, ROWS)] + 0.3 * rng.standard_normal((ROWS, DIMENSION))).astype(np.float32)


@pytest.fixture(scope="module")
def built(vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> dict[Space, Path]:
    folder = tmp_path_factory.mktemp("index")
    paths: dict[Space, Path] = {space: folder / f"index.{space}" for space in get_args(Space)}
    for space, path in paths.items():
        build_index(vectors, space, path, CONFIG)
    return paths


@pytest.mark.parametrize("space", get_args(Space))
def test_an_index_passes_its_check_and_proposes_the_nearest(
    built: dict[Space, Path], vectors: Vectors, space: Space
) -> None:
    index: VectorIndex = open_index(built[space], space, CONFIG)
    check_index(index, vectors, space)
    assert (index.rows, index.dimension, index.kind, index.library) == (ROWS, DIMENSION, "usearch", "usearch")
    assert index.candidates_min == CONFIG.ef_search
    queries = vectors[::100] + np.float32(0.05)
    truth = scan(vectors, np.einsum("ij,ij->i", vectors, vectors), queries, 10, space)
    proposed = index.search(queries, index.candidates_min)
    found = sum(len(set(a.rows.tolist()) & set(b.tolist())) for a, b in zip(truth, proposed, strict=True))
    assert found >= 0.95 * 10 * len(queries)


def test_queries_together_are_answered_as_each_alone(built: dict[Space, Path], vectors: Vectors) -> None:
    index = open_index(built["l2"], "l2", CONFIG)
    together = index.search(vectors[:5], 20)
    for i in range(5):
        assert together[i].tolist() == index.search(vectors[i : i + 1], 20)[0].tolist()
        assert together[i].dtype == np.int64


def test_threads_do_not_disturb_each_other(built: dict[Space, Path], vectors: Vectors) -> None:
    index = open_index(built["l2"], "l2", CONFIG)
    alone = [index.search(vectors[i : i + 1], 20)[0].tolist() for i in range(300)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: index.search(vectors[i : i + 1], 20)[0].tolist(), range(300)))
    assert together == alone


def test_asking_for_more_than_there_is_gives_what_there_is(tmp_path: Path, vectors: Vectors) -> None:
    build_index(vectors[:7], "l2", tmp_path / "i", CONFIG)
    index = open_index(tmp_path / "i", "l2", CONFIG)
    for found in index.search(vectors[:2], 50):
        assert sorted(found.tolist()) == list(range(7))


def test_an_index_of_other_vectors_is_corrupt(built: dict[Space, Path], vectors: Vectors) -> None:
    index = open_index(built["l2"], "l2", CONFIG)
    shuffled = vectors[np.random.default_rng(2).permutation(ROWS)]
    for wrong in (shuffled, vectors[:-1], np.vstack([vectors, vectors[:1]]), vectors[:, :-1]):
        with pytest.raises(Corrupt):
            check_index(index, wrong, "l2")


def test_an_index_of_another_space_is_corrupt(built: dict[Space, Path]) -> None:
    with pytest.raises(Corrupt, match="not one of this space"):
        open_index(built["l2"], "cosine", CONFIG)


def test_an_index_with_other_keys_is_corrupt(tmp_path: Path, vectors: Vectors) -> None:
    index: Any = Index(ndim=DIMENSION, metric="l2sq", dtype="bf16")
    index.add(np.arange(1, 101, dtype=np.uint64), vectors[:100])
    index.save(str(tmp_path / "i"))
    with pytest.raises(Corrupt, match="one key per row"):
        check_index(open_index(tmp_path / "i", "l2", CONFIG), vectors[:100], "l2")


@pytest.mark.parametrize("body", [b"", b"usearch", bytes(4096)])
def test_a_file_that_is_no_index_is_corrupt(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "i").write_bytes(body)
    with pytest.raises(Corrupt):
        open_index(tmp_path / "i", "l2", CONFIG)


def test_a_missing_file_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        open_index(tmp_path / "none", "l2", CONFIG)


def test_equal_vectors_do_not_make_an_index_look_damaged(tmp_path: Path) -> None:
    same = np.ones((500, 8), dtype=np.float32)
    build_index(same, "cosine", tmp_path / "i", CONFIG)
    check_index(open_index(tmp_path / "i", "cosine", CONFIG), same, "cosine")


def test_an_index_over_no_vectors_is_an_index(tmp_path: Path) -> None:
    nothing = np.empty((0, 8), dtype=np.float32)
    build_index(nothing, "l2", tmp_path / "i", CONFIG)
    check_index(open_index(tmp_path / "i", "l2", CONFIG), nothing, "l2")


def test_vectors_without_a_dimension_are_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        build_index(np.empty((3, 0), dtype=np.float32), "l2", tmp_path / "i", CONFIG)
