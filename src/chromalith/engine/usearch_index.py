"""The index by ``usearch``: HNSW over bf16 copies of the vectors, opened by mapping its file.

Why this library, this precision and these numbers: docs/decisions/0003. The file holds vectors and links; a machine without
bf16 instructions reads it through the same library's portable kernels, slower but with the same answers.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import usearch
from usearch.index import Index

from chromalith.engine.index import IndexConfig
from chromalith.engine.space import Space
from chromalith.errors import Corrupt, Invalid

KIND: Final = "usearch"
_METRICS: Final[dict[Space, str]] = {"l2": "l2sq", "cosine": "cos", "ip": "ip"}
_PRECISION: Final = "bf16"


class UsearchIndex:
    """A mapped index; see :class:`~chromalith.engine.index.VectorIndex`."""

    kind = KIND
    library = "usearch"
    version: str = usearch.__version__

    def __init__(self, index: Any) -> None:
        self._index = index
        # The binding lets other threads run during a search, while a search uses scratch memory of the index. Recent versions
        # lock for themselves; this lock costs nothing beside theirs, and does not depend on the version.
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        return len(self._index)

    @property
    def dimension(self) -> int:
        return int(self._index.ndim)

    @property
    def candidates_min(self) -> int:
        return int(self._index.expansion_search)

    def keys(self) -> npt.NDArray[np.int64]:
        return np.sort(np.asarray(self._index.keys)).astype(np.int64)

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[npt.NDArray[np.int64]]:
        with self._lock:
            found = self._index.search(queries[0] if len(queries) == 1 else queries, count)
        if len(queries) == 1:
            return [np.asarray(found.keys).astype(np.int64)]
        # Rows of the answer are padded to ``count``; what lies behind the number that was found is not set.
        return [keys[:n].astype(np.int64) for keys, n in zip(found.keys, found.counts.tolist(), strict=True)]


def build_index(
    vectors: npt.NDArray[np.float32], space: Space, path: str | Path, config: IndexConfig | None = None
) -> None:
    """Write the index of ``vectors``, float32 ``(rows, dimension)``, to ``path``. Keys are row numbers.

    With several threads the file is not the same from one build to the next; what it finds is equally good. Not atomic:
    write to a temporary name, and :func:`~chromalith.engine.index.check_index` what was written."""
    config = config or IndexConfig()
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise Invalid(f"vectors must have two axes: shape={vectors.shape}")
    index = Index(
        ndim=vectors.shape[1],
        metric=_METRICS[space],
        dtype=_PRECISION,
        connectivity=config.max_neighbors,
        expansion_add=config.ef_construction,
        expansion_search=config.ef_search,
    )
    if len(vectors):
        # A mapped array is read only; the binding takes it as it is, and reads it once.
        index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=config.threads)
    index.save(str(path))


def open_index(path: str | Path, space: Space, config: IndexConfig | None = None) -> UsearchIndex:
    """Map the index at ``path``. Raises ``Corrupt`` if it is none, or not one of this space."""
    config = config or IndexConfig()
    try:
        index: Any = Index.restore(str(path), view=True)
    except Exception as error:  # the binding raises RuntimeError and plain Exception
        raise Corrupt(f"index can not be opened: path={path}, reason={error}") from error
    if index is None or index.metric_kind.name.lower() != _METRICS[space]:
        raise Corrupt(f"index is not one of this space: path={path}, space={space}")
    index.expansion_search = config.ef_search
    return UsearchIndex(index)
