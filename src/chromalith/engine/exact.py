"""The exact scan: which rows are nearest, and how far, computed so that rounding can not change the answer.

1. *Choose.* One matrix product gives an approximate score for each row (for l2 by ``|x|² - 2 x·q``, which cancels badly
   for near rows). Every row whose score is within twice the product's rounding error of the k-th best is a candidate: so the
   true nearest are always among them, however the errors fell.
2. *Measure.* The candidates' distances are computed directly, in float64, and rounded to float32 as Chroma reports them:
   l2 is the squared distance, ip is 1 - x·q, cosine is 1 - cos, with 1 for a zero vector.
3. *Order* by distance, then by row: rows are in ``seq`` order, so ties fall to the record inserted first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from chromalith.engine.columns import Mask
from chromalith.engine.space import Space

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SCORES_BYTES_MAX: Final = 64 << 20
"""Memory for the scores of one block of queries: 64 MiB is 16 million rows of one query, or 279 queries of 60,000 rows."""

GATHER_ROWS: Final = 512
"""Rows copied together at a time: 768 KiB of 384 dimensions, which are still in the core's cache when they are used."""

MEASURE_BYTES_MAX: Final = 64 << 20
"""Memory for candidates as float64; only many equal vectors make so many candidates that this bound is met."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The answer to one query in one part: rows (int64) and distances (float32), nearest first."""

    rows: Rows
    distances: Floats


def scan(
    vectors: Floats,
    squared_norms: Floats,
    queries: Floats,
    n_results: int,
    space: Space,
    *,
    passing: Mask | None = None,
    gather: bool = False,
) -> list[Nearest]:
    """The nearest ``n_results`` of the ``passing`` rows (all of them if there are fewer), for each query.

    Args:
        vectors: float32 ``(rows, dimension)``.
        squared_norms: float32 ``(rows,)``.
        queries: float32 ``(q, dimension)``.
        passing: bool ``(rows,)``; ``None`` for all.
        gather: copy the passing rows together first; worth it when they are few.
    """
    rows = np.arange(len(vectors)) if passing is None else np.flatnonzero(passing)
    if len(rows) == 0:
        return [Nearest(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    chosen = rows if gather and passing is not None else None
    scanned = len(vectors) if chosen is None else len(chosen)
    block = max(1, SCORES_BYTES_MAX // (4 * scanned))
    norms = squared_norms if chosen is None else squared_norms[chosen]
    answers: list[Nearest] = []
    for start in range(0, len(queries), block):
        some = queries[start : start + block]
        for query, products in zip(some, _products(vectors, chosen, some), strict=True):
            scores, slack = _scores(products, norms, query, space)
            if chosen is None and passing is not None:
                scores[~passing] = np.inf
            candidates = _candidates(scores, min(n_results, len(rows)), slack)
            answers.append(
                measure(vectors, candidates if chosen is None else chosen[candidates], query, n_results, space)
            )
    return answers


def _products(vectors: Floats, chosen: Rows | None, queries: Floats) -> Floats:
    """Dot products, float32 ``(q, rows)``, of all vectors or of the chosen ones."""
    if chosen is None:
        return _dot(vectors, queries)
    products = np.empty((len(queries), len(chosen)), dtype=np.float32)
    for start in range(0, len(chosen), GATHER_ROWS):
        some = slice(start, start + GATHER_ROWS)
        products[:, some] = _dot(np.take(vectors, chosen[some], axis=0), queries)
    return products


def _dot(vectors: Floats, queries: Floats) -> Floats:
    if len(queries) > 1:
        return cast(Floats, queries @ vectors.T)
    # vecdot stays on this thread. One query is bound by memory, which a second thread does not widen, and where other
    # work has the cores, waiting for BLAS's threads costs more than the product (60,000 x 384: 12 ms instead of 4).
    return cast(Floats, np.vecdot(vectors, queries[0])[None, :])


def _scores(products: Floats, squared_norms: Floats, query: Floats, space: Space) -> tuple[Floats, float]:
    """A score per row that orders as the distance does, written over ``products``, and twice the bound of its error."""
    norm_max = float(np.sqrt(squared_norms.max(initial=0.0)))
    query_norm = float(np.linalg.norm(query.astype(np.float64)))
    # n·u·|x||q| bounds a dot product of n terms however it is summed (u = 2^-24); 8 more for what is done to it after.
    unit = (len(query) + 8) * 2.0**-24
    if space == "l2":
        products *= np.float32(-2.0)
        products += squared_norms
        return products, 2 * unit * (2 * norm_max * query_norm + norm_max * norm_max)
    if space == "ip":
        return np.negative(products, out=products), 2 * unit * norm_max * query_norm
    with np.errstate(divide="ignore", invalid="ignore"):
        products /= -np.sqrt(squared_norms)
    products[squared_norms == 0] = 0.0
    return products, 4 * unit * query_norm


def _candidates(scores: Floats, n_results: int, slack: float) -> Rows:
    """Rows that may be among the nearest ``n_results``, of which so many pass; rows that do not pass have infinite scores."""
    kth = float(np.partition(scores, n_results - 1)[n_results - 1])
    return cast(Rows, np.flatnonzero(scores <= kth + slack))


def measure(vectors: Floats, rows: Rows, query: Floats, n_results: int, space: Space) -> Nearest:
    """The nearest ``n_results`` of ``rows``, by distances computed directly. ``rows`` must ascend, or ties go astray."""
    distances = np.empty(len(rows), dtype=np.float32)
    block = max(1, MEASURE_BYTES_MAX // (8 * max(1, vectors.shape[1])))
    for start in range(0, len(rows), block):
        some = slice(start, start + block)
        distances[some] = _distances(vectors[rows[some]], query, space)
    order = np.argsort(distances, kind="stable")[:n_results]
    return Nearest(rows[order], distances[order])


def _distances(vectors: Floats, query: Floats, space: Space) -> Floats:
    exact, wanted = vectors.astype(np.float64), query.astype(np.float64)
    if space == "l2":
        exact -= wanted
        found = np.einsum("ij,ij->i", exact, exact)
    elif space == "ip":
        found = 1.0 - exact @ wanted
    else:
        norms = np.sqrt(np.einsum("ij,ij->i", exact, exact) * (wanted @ wanted))
        cosine = np.divide(exact @ wanted, norms, out=np.zeros(len(exact)), where=norms > 0)
        found = np.maximum(1.0 - cosine, 0.0)
    return cast(Floats, found.astype(np.float32))
