"""The port behind which an approximate nearest-neighbour index stands, and the check that every index passes before use.

An index is a pure function of a part's vectors: its keys are row numbers, it holds no ids, and it can be thrown away and
built again. It only *proposes* rows; distances are computed again from the exact vectors, so that the precision of the index
decides which rows are looked at, never what is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from chromalith.engine.exact import measure
from chromalith.engine.space import Space
from chromalith.errors import Corrupt

INDEX_THRESHOLD: Final = 10_000
"""Rows below which a segment gets no index by default: up to there the exact scan is as fast (docs/decisions/0003)."""

EF_SEARCH_MIN: Final = 160
"""Candidates below which bf16 and two threads of building find less than stock Chroma's 0.987 (docs/decisions/0003)."""

CONFIG_MAX: Final = 2**20
"""Of any number in a configuration."""

CHECK_SAMPLE: Final = 256
"""Rows that a check looks up again. Evenly spaced, so that the same index is always judged by the same rows."""

SELF_RECALL_MIN: Final = 0.9
"""The least part of the sample that must be found again. A sound index of real vectors finds 0.99 and more; one that was
built of other vectors, or lost its links, finds next to none."""


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How to build and search an index; the names of the first three are Chroma's.

    Attributes:
        max_neighbors: links per vector.
        ef_construction: candidates looked at for each vector that is added.
        ef_search: candidates looked at for each query; more find more. Chroma's default of 100 finds 0.98 of what is near to
            near-duplicates, so callers pass ``max(EF_SEARCH_MIN, the collection's)``.
        threads: for building; 0 means one per core.
    """

    max_neighbors: int = 16
    ef_construction: int = 128
    ef_search: int = EF_SEARCH_MIN
    threads: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> IndexConfig:
        """As a manifest has it. Raises ``Corrupt`` for what no build writes: the numbers become sizes of buffers.

        Names that this release does not know are left out: they say how it was built."""
        known = {field.name for field in fields(cls)}
        wrong = {name: value for name, value in config.items() if type(value) is not int or not 0 <= value <= CONFIG_MAX}
        if known & wrong.keys():
            raise Corrupt(f"an index was built with numbers that can't be config={wrong!r:.200}")
        return cls(**{name: value for name, value in config.items() if name in known})


class VectorIndex(Protocol):
    """An open index. Safe to search from several threads."""

    @property
    def kind(self) -> str:
        """The end of the object's name, ``index.<kind>``: what must be able to open it."""
        ...

    @property
    def library(self) -> str:
        """Who built it."""
        ...

    @property
    def version(self) -> str:
        """The version of the library that has it open."""
        ...

    @property
    def rows(self) -> int:
        """How many vectors it holds."""
        ...

    @property
    def dimension(self) -> int:
        """Elements of a vector."""
        ...

    @property
    def candidates_min(self) -> int:
        """How many candidates a search finds anyway: asking for fewer saves nothing."""
        ...

    def keys(self) -> npt.NDArray[np.int64]:
        """The row numbers it holds, ascending."""
        ...

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[npt.NDArray[np.int64]]:
        """Per query (float32 ``(q, dimension)``), up to ``count`` distinct rows, about nearest first."""
        ...


class FindsTooFew(Corrupt):
    """An index that is whole, but does not find enough of the vectors that it holds.

    Vectors without any structure (random ones in many dimensions) defeat a graph at the usual effort."""


def check_index(
    index: VectorIndex, vectors: npt.NDArray[np.float32], space: Space, *, sample: int = CHECK_SAMPLE
) -> None:
    """Raise ``Corrupt`` unless ``index`` is an index of ``vectors``, float32 ``(rows, dimension)``.

    It must hold as many vectors, of that dimension, exactly the keys 0 … rows - 1, and find the rows of a sample again: as a
    query, a sampled vector must get a candidate that is at least as near as the sampled row itself (which may be another
    row: vectors may be equal, and by inner product a longer one is nearer)."""
    rows, dimension = vectors.shape
    if index.rows != rows or index.dimension != dimension:
        raise Corrupt(
            "index does not have the shape of its vectors: "
            f"index={index.rows}x{index.dimension}, vectors={rows}x{dimension}"
        )
    if not np.array_equal(index.keys(), np.arange(rows)):
        raise Corrupt(f"index does not have one key per row: rows={rows}")
    if rows == 0:
        return
    chosen = np.unique(np.linspace(0, rows - 1, num=min(sample, rows)).astype(np.int64))
    # A copy: the candidates of a mapped, damaged index must not be trusted as row numbers either.
    queries = np.ascontiguousarray(vectors[chosen])
    found = 0
    for row, query, candidates in zip(chosen.tolist(), queries, index.search(queries, 10), strict=True):
        candidates = np.sort(candidates)
        if len(candidates) == 0 or candidates[0] < 0 or candidates[-1] >= rows:
            raise Corrupt(f"index proposes rows that are not there: row={row}, rows={rows}")
        itself = measure(vectors, np.array([row]), query, 1, space).distances[0]
        nearest = measure(vectors, candidates, query, 1, space).distances[0]
        found += bool(nearest <= itself + 1e-6 * max(1.0, abs(itself)))
    if found < SELF_RECALL_MIN * len(chosen):
        raise FindsTooFew(f"index does not find the vectors that it holds: found={found}, sample={len(chosen)}")
