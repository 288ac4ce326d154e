"""Select and search over several parts answer as one part would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.engine.columns import explode
from chromalith.engine.index import IndexConfig, VectorIndex
from chromalith.engine.part import ArrowPart
from chromalith.engine.search import Hit, search, select
from chromalith.engine.space import Space
from chromalith.engine.usearch_index import build_index, open_index
from chromalith.errors import Invalid

RNG = np.random.default_rng(7)
ROWS = 6_000
CENTRES = RNG.standard_normal((30, 32))
VECTORS = (CENTRES[RNG.integers(0, 30, ROWS)] + 0.3 * RNG.standard_normal((ROWS, 32))).astype(np.float32)
QUERIES = VECTORS[::600] + np.float32(0.02)


def part(rows: npt.NDArray[np.int64], *, live: Any = None, index: VectorIndex | None = None) -> ArrowPart:
    """The records whose ``seq`` is in ``rows``, ascending, of one imagined collection."""
    return ArrowPart(
        seq=rows,
        ids=pa.array([f"id{i}" for i in rows]),
        vectors=VECTORS[rows],
        documents=pa.array([f"document {i}" if i % 3 else None for i in rows], pa.string()),
        metadata=pa.array([json.dumps({"n": int(i), "even": bool(i % 2 == 0)}) for i in rows]),
        live=live,
        index=index,
    )


WHOLE = part(np.arange(ROWS))


def as_seq(parts: list[ArrowPart], hits: list[Hit]) -> list[tuple[int, float]]:
    return [(int(parts[hit.part].seq()[hit.row]), hit.distance) for hit in hits]


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    space=st.sampled_from(get_args(Space)),
    where=st.sampled_from([None, {"even": True}, {"n": {"$lt": 40}}, {"n": {"$lt": 0}}]),
    n_results=st.sampled_from([1, 10, 100, ROWS + 1]),
)
def test_parts_answer_as_the_whole(data: st.DataObject, space: Space, where: Any, n_results: int) -> None:
    """However records are spread over parts, and whichever dead ones lie between, results and order are the same."""
    owner = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, ROWS)
    parts = []
    for i in range(3):
        rows = np.flatnonzero(owner == i)
        # Every other part also holds dead copies of another part's records.
        dead = np.flatnonzero(owner == (i + 1) % 3)[:50] if i % 2 else np.empty(0, dtype=np.int64)
        every = np.sort(np.concatenate([rows, dead]))
        parts.append(part(every, live=None if i % 2 == 0 else np.isin(every, rows)))
    queries = QUERIES[:3]
    for mine, other in zip(
        search(parts, queries, n_results, space, where=where),
        search([WHOLE], queries, n_results, space, where=where),
        strict=True,
    ):
        assert as_seq(parts, mine) == as_seq([WHOLE], other)
    chosen = [int(parts[p].seq()[row]) for p, row in select(parts, where=where, limit=70, offset=5)]
    assert chosen == [row for _, row in select([WHOLE], where=where)][5:75]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    path = tmp_path_factory.mktemp("index") / "i"
    config = IndexConfig(ef_search=100, threads=1)
    build_index(VECTORS, "l2", path, config)
    return open_index(path, "l2", config)


@pytest.mark.parametrize("where", [None, {"even": True}, {"n": {"$gte": 1000}}])
def test_the_index_finds_what_the_exact_scan_finds(indexed: VectorIndex, where: Any) -> None:
    live = RNG.random(ROWS) < 0.95
    records = part(np.arange(ROWS), live=live, index=indexed)
    exact = search([records], QUERIES, 10, "l2", where=where, exact=True)
    found = search([records], QUERIES, 10, "l2", where=where)
    assert all(live[hit.row] for hits in found for hit in hits)
    common = sum(len(set(a) & set(b)) for a, b in zip(exact, found, strict=True))  # equal hits have equal distances
    assert common >= 0.97 * 10 * len(QUERIES)
    assert all(len(hits) == 10 for hits in found)


class Stubborn:
    """An index whose proposals are always the same rows, as after a filter that passes none of the nearest."""

    kind, library, version, rows, dimension, candidates_min = "stubborn", "test", "0", ROWS, 32, 20

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def keys(self) -> npt.NDArray[np.int64]:
        return np.arange(ROWS)

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[npt.NDArray[np.int64]]:
        self.asked.append((len(queries), count))
        return [np.arange(0, 2 * count, 2)[:count] for _ in queries]  # even rows only


def test_an_index_that_yields_too_little_is_asked_for_more_then_left() -> None:
    """A filter against the grain of the index costs a few wider searches, and never a result."""
    index = Stubborn()
    records = part(np.arange(ROWS), index=index)
    where = {"even": False}
    # The part is too small for its index to be asked under such a filter; it would take 8,000 records.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chromalith.engine.plan.EXACT_ROWS_MAX", 100)
        patch.setattr("chromalith.engine.plan.OVERFETCH", 1.5)  # the first search must leave room for a second
        found = search([records], QUERIES, 10, "l2", where=where)
    assert len(index.asked) > 1
    assert index.asked == sorted(set(index.asked)), "more each time"
    assert found == search([WHOLE], QUERIES, 10, "l2", where=where)


def test_ties_fall_to_the_lower_seq_across_parts() -> None:
    def same(seq: list[int]) -> ArrowPart:
        return ArrowPart(
            seq=np.array(seq), ids=pa.array([f"{i}" for i in seq]), vectors=np.ones((len(seq), 3), dtype=np.float32)
        )

    parts = [same([2, 5, 9]), same([1, 3, 8])]
    (hits,) = search(parts, np.zeros((1, 3), np.float32), 5, "l2")
    assert as_seq(parts, hits) == [(1, 3.0), (2, 3.0), (3, 3.0), (5, 3.0), (8, 3.0)]


def test_ids_narrow_both_and_absent_ids_do_not_matter() -> None:
    live = np.ones(ROWS, dtype=np.bool_)
    live[40] = False
    records = part(np.arange(ROWS), live=live)
    ids = {"id3", "id40", "id50", "nobody"}
    assert [row for _, row in select([records], ids=ids)] == [3, 50]
    assert {hit.row for hit in search([records], QUERIES[:1], 10, "l2", ids=ids)[0]} == {3, 50}
    assert list(select([records], ids=[])) == []
    assert [row for _, row in select([records], ids=ids, where={"n": {"$gt": 3}})] == [50]


def test_nothing_gives_nothing() -> None:
    empty = ArrowPart(seq=np.empty(0, np.int64), ids=pa.array([], pa.string()), vectors=np.empty((0, 0), np.float32))
    assert empty.dimension is None
    for parts in ([], [empty]):
        assert search(parts, QUERIES[:2], 10, "l2") == [[], []]
        assert len(select(parts, where={"a": 1})) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"queries": np.zeros((1, 5), np.float32)}, "dimension=5, collection=32"),
        ({"queries": np.zeros(32, np.float32)}, "shape=(32,)"),
        ({"queries": np.full((1, 32), np.nan, np.float32)}, "not finite"),
        ({"n_results": 0}, "n_results=0"),
        ({"space": "hamming"}, "'hamming'"),
        ({"where": {"a": {"$no": 1}}}, "'$no'"),
        ({"where_document": {"$no": "x"}}, "'$no'"),
    ],
)
def test_a_wrong_call_is_invalid_and_says_why(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as caught:
        search([WHOLE], **({"queries": QUERIES, "n_results": 3, "space": "l2"} | arguments))
    assert named in str(caught.value)


def test_a_wrong_filter_is_invalid_even_where_there_is_nothing_to_filter() -> None:
    with pytest.raises(Invalid):
        select([], where={"a": {"$no": 1}})
    with pytest.raises(Invalid):
        select([WHOLE], limit=-1)


def test_saved_columns_are_used_instead_of_the_metadata(tmp_path: Path) -> None:
    opened = []

    def load() -> Any:
        opened.append(1)
        return explode(pa.array(['{"n": 7}']))

    records = ArrowPart(seq=np.arange(1), ids=pa.array(["a"]), vectors=np.ones((1, 2), np.float32), load_columns=load)
    assert len(select([records])) == 1
    assert opened == [], "not before a filter needs them"
    assert len(select([records], where={"n": 7})) == len(select([records], where={"n": {"$gt": 6}})) == 1
    assert opened == [1]
