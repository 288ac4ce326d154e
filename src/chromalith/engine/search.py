"""Select and search over several parts, as if they were one.

``select`` answers Chroma's ``get``: the live records that pass, in the order of ``seq``. ``search`` answers ``query``: for
each part the planner chooses an exact scan or the index, and the parts' answers are merged by distance, ties by ``seq``. Both
return positions only; the caller fetches documents and metadata of the winners.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.engine.columns import Mask
from chromalith.engine.exact import Nearest, measure, scan
from chromalith.engine.filters import Filter, mask, parse_filters
from chromalith.engine.index import VectorIndex
from chromalith.engine.part import Part
from chromalith.engine.plan import Approximate, ask_more, plan
from chromalith.engine.space import Space, check_space
from chromalith.errors import Invalid


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: which part, which of its rows, and how far (a float32's value)."""

    part: int
    row: int
    distance: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected records in ascending ``seq``, as two arrays of equal length; iterates as pairs ``(part, row)``."""

    parts: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.parts.tolist(), self.rows.tolist(), strict=True))


def select(
    parts: Sequence[Part],
    *,
    ids: Collection[str] | None = None,
    where: Any = None,
    where_document: Any = None,
    limit: int | None = None,
    offset: int = 0,
) -> Selection:
    """The live records that have one of ``ids`` and pass both filters, in ascending ``seq``, cut to ``[offset, offset + limit)``.

    Raises ``Invalid`` for a filter that Chroma would refuse, and for a negative limit or offset."""
    if offset < 0 or (limit is not None and limit < 0):
        raise Invalid(f"limit and offset must not be negative: limit={limit}, offset={offset}")
    condition = parse_filters(where, where_document)
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for part in parts:
        passing = _passing(part, condition, ids)
        seq = part.seq()  # first: what its file has is counted, what a manifest promises is not
        rows = np.arange(len(seq), dtype=np.int64) if passing is None else np.flatnonzero(passing)
        found.append((seq[rows], rows))
    seq = np.concatenate([np.empty(0, np.int64)] + [part_seq for part_seq, _ in found])
    rows = np.concatenate([np.empty(0, np.int64)] + [part_rows for _, part_rows in found])
    origin = np.repeat(np.arange(len(found), dtype=np.int32), [len(part_rows) for _, part_rows in found])
    # Stable sorting merges runs, and the parts are runs that mostly do not overlap.
    order = np.argsort(seq, kind="stable")[offset : None if limit is None else offset + limit]
    return Selection(origin[order], rows[order])


def search(
    parts: Sequence[Part],
    queries: npt.NDArray[np.float32],
    n_results: int,
    space: str,
    *,
    where: Any = None,
    where_document: Any = None,
    ids: Collection[str] | None = None,
    exact: bool = False,
) -> list[list[Hit]]:
    """For each query the nearest ``n_results`` live records that pass, nearest first, ties by ``seq``.

    Args:
        queries: float32 ``(q, dimension)``.
        n_results: at least 1; where fewer records pass, all of them are returned.
        space: ``l2`` (squared), ``cosine`` or ``ip``.
        exact: never use an index.

    Raises ``Invalid``: wrong dimension, numbers that are not finite, unknown space, a filter that Chroma would refuse."""
    known_space = check_space(space)
    queries = _check_queries(parts, queries, n_results)
    condition = parse_filters(where, where_document)
    answers = [
        _search_part(part, _passing(part, condition, ids), queries, n_results, known_space, exact=exact)
        for part in parts
    ]
    return [_merge(parts, [answer[i] for answer in answers], n_results) for i in range(len(queries))]


def _check_queries(parts: Sequence[Part], queries: npt.NDArray[np.float32], n_results: int) -> npt.NDArray[np.float32]:
    if n_results < 1:
        raise Invalid(f"n_results must be at least 1: n_results={n_results}")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2:
        raise Invalid(f"queries must have two axes: shape={queries.shape}")
    for part in parts:
        if part.dimension is not None and part.dimension != queries.shape[1]:
            raise Invalid(
                f"query has another dimension than the collection: dimension={queries.shape[1]}, collection={part.dimension}",
                hint="use the embedding function that the collection was filled with",
            )
    if not np.isfinite(queries).all():
        raise Invalid("query has a number that is not finite")
    return queries


def _passing(part: Part, condition: Filter | None, ids: Collection[str] | None) -> Mask | None:
    """The live rows that pass; ``None`` when all rows do, so that nothing is allocated for the commonest call."""
    passing = part.live()
    if ids is not None:
        wanted = np.zeros(part.rows, dtype=np.bool_)
        wanted[part.rows_of(ids)] = True
        passing = wanted if passing is None else wanted & passing
    if condition is not None and (passing is None or passing.any()):
        found = mask(condition, part)
        passing = found if passing is None else found & passing
    return passing


def _search_part(
    part: Part, passing: Mask | None, queries: npt.NDArray[np.float32], n_results: int, space: Space, *, exact: bool
) -> list[Nearest]:
    if part.rows == 0:  # it has no dimension either
        return [Nearest(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    count = part.rows if passing is None else int(np.count_nonzero(passing))
    index = None if exact else part.index()
    choice = plan(
        part.rows, count, n_results, has_index=index is not None, candidates_min=index.candidates_min if index else 0
    )
    if index is not None and isinstance(choice, Approximate):
        return _search_index(part, index, passing, queries, n_results, space, choice.count)
    gather = not isinstance(choice, Approximate) and choice.gather
    return scan(part.vectors(), part.squared_norms(), queries, n_results, space, passing=passing, gather=gather)


def _search_index(
    part: Part,
    index: VectorIndex,
    passing: Mask | None,
    queries: npt.NDArray[np.float32],
    n_results: int,
    space: Space,
    count: int,
) -> list[Nearest]:
    vectors = part.vectors()
    answers: list[Nearest | None] = [None] * len(queries)
    waiting = list(range(len(queries)))
    asked: int | None = count
    while waiting and asked is not None:
        fewest = n_results
        unanswered = []
        for i, candidates in zip(waiting, index.search(queries[waiting], asked), strict=True):
            rows = np.sort(candidates if passing is None else candidates[passing[candidates]])
            if len(rows) < n_results:
                unanswered.append(i)
                fewest = min(fewest, len(rows))
                continue
            answers[i] = measure(vectors, rows, queries[i], n_results, space)
        waiting = unanswered
        asked = ask_more(asked, fewest, part.rows, n_results)
    if waiting:
        rest = scan(vectors, part.squared_norms(), queries[waiting], n_results, space, passing=passing)
        for i, answer in zip(waiting, rest, strict=True):
            answers[i] = answer
    return [answer for answer in answers if answer is not None]


def _merge(parts: Sequence[Part], answers: Sequence[Nearest], n_results: int) -> list[Hit]:
    found = [(i, answer) for i, answer in enumerate(answers) if len(answer.rows)]
    if len(found) == 1:  # already in order
        ((i, answer),) = found
        return [Hit(i, row, d) for row, d in zip(answer.rows.tolist(), answer.distances.tolist(), strict=True)]
    merged = [
        (distance, int(parts[i].seq()[row]), Hit(i, row, distance))
        for i, answer in found
        for row, distance in zip(answer.rows.tolist(), answer.distances.tolist(), strict=True)
    ]
    merged.sort(key=lambda item: item[:2])
    return [hit for _, _, hit in merged[:n_results]]
