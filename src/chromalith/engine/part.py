"""What the engine searches: an immutable set of records, seen as arrays.

A hydrated segment is a part, and so is the overlay. The engine knows no files and no store; it is given parts, and asks each
only for what a call needs (a search without filter touches neither metadata nor text).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chromalith.engine.columns import Mask, MetadataColumns, explode
from chromalith.engine.index import VectorIndex

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Part(Protocol):
    """An immutable set of records. All arrays have one entry per row, rows are in ascending ``seq``; nobody writes to them.

    Methods may be called from several threads, and may compute at the first call what they keep for the next."""

    @property
    def rows(self) -> int:
        """The number of records, live or not."""
        ...

    @property
    def dimension(self) -> int | None:
        """Elements of a vector; ``None`` if there are no rows."""
        ...

    def seq(self) -> Rows:
        """int64, ascending, unique."""
        ...

    def ids(self) -> pa.Array:
        """string or large_string, unique, no nulls."""
        ...

    def vectors(self) -> Vectors:
        """float32 ``(rows, dimension)``, C-contiguous, possibly memory-mapped."""
        ...

    def squared_norms(self) -> npt.NDArray[np.float32]:
        """float32: the sum of the squares of each vector."""
        ...

    def documents(self) -> pa.Array:
        """string or large_string, nullable."""
        ...

    def uris(self) -> pa.Array:
        """string or large_string, nullable."""
        ...

    def metadata(self) -> pa.Array:
        """string or large_string, nullable: a canonical JSON object."""
        ...

    def columns(self) -> MetadataColumns:
        """The metadata, exploded into typed columns."""
        ...

    def index(self) -> VectorIndex | None:
        """The ANN index over all rows (keys are row numbers), if there is one."""
        ...

    def live(self) -> Mask | None:
        """bool: which rows are not deleted; ``None`` when all are live."""
        ...

    def rows_of(self, ids: Collection[str]) -> Rows:
        """int64, ascending: the rows that have one of ``ids``, live or not. Ids that are absent are left out."""
        ...


class ArrowPart:
    """A part over arrays that are already in memory or mapped. What can be derived is derived once, when first asked for.

    Args:
        seq: int64 ``(rows,)``, ascending.
        ids, documents, uris, metadata: Arrow strings ``(rows,)``; ``None`` for the last three means that no record has one.
        vectors: float32 ``(rows, dimension)``.
        live: bool ``(rows,)``, or ``None`` when all rows are live.
        index: an open index over ``vectors``.
        load_columns: where to get the columns from instead of exploding ``metadata`` (a cache's saved file).
        squared_norms: float32 ``(rows,)`` if already known.
    """

    def __init__(
        self,
        *,
        seq: Rows,
        ids: pa.Array,
        vectors: Vectors,
        documents: pa.Array | None = None,
        uris: pa.Array | None = None,
        metadata: pa.Array | None = None,
        live: Mask | None = None,
        index: VectorIndex | None = None,
        load_columns: Callable[[], MetadataColumns] | None = None,
        squared_norms: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self._seq, self._ids, self._vectors, self._live, self._index = seq, ids, vectors, live, index
        nothing = pa.nulls(len(seq), pa.string())
        self._documents = nothing if documents is None else documents
        self._uris = nothing if uris is None else uris
        self._metadata = nothing if metadata is None else metadata
        self._load_columns = load_columns
        self._squared_norms = squared_norms
        self._columns: MetadataColumns | None = None
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        return len(self._seq)

    @property
    def dimension(self) -> int | None:
        return int(self._vectors.shape[1]) if self.rows else None

    def seq(self) -> Rows:
        return self._seq

    def ids(self) -> pa.Array:
        return self._ids

    def vectors(self) -> Vectors:
        return self._vectors

    def squared_norms(self) -> npt.NDArray[np.float32]:
        # Two threads may both compute it; they store equal arrays.
        if self._squared_norms is None:
            self._squared_norms = np.einsum("ij,ij->i", self._vectors, self._vectors)
        return self._squared_norms

    def documents(self) -> pa.Array:
        return self._documents

    def uris(self) -> pa.Array:
        return self._uris

    def metadata(self) -> pa.Array:
        return self._metadata

    def columns(self) -> MetadataColumns:
        with self._lock:  # a second explosion at the same time would cost a second of the other's time
            if self._columns is None:
                self._columns = self._load_columns() if self._load_columns else explode(self._metadata)
            return self._columns

    def index(self) -> VectorIndex | None:
        return self._index

    def live(self) -> Mask | None:
        return self._live

    def rows_of(self, ids: Collection[str]) -> Rows:
        return rows_of_ids(self._ids, ids)


def rows_of_ids(table: pa.Array, ids: Collection[str]) -> Rows:
    """int64, ascending: where ``table`` has one of ``ids``. One pass over the table (60,000 ids: 1 ms)."""
    if not ids:
        return np.empty(0, dtype=np.int64)
    found = pc.is_in(table, value_set=pa.array(list(ids), table.type))
    return cast(Rows, np.flatnonzero(found.to_numpy(zero_copy_only=False)))


class MaskedPart:
    """A part with other live rows: what a version's deletes, or an overlay, leave of it. All else is the inner part's."""

    def __init__(self, inner: Part, live: Mask) -> None:
        self._inner = inner
        self._live = live

    @property
    def rows(self) -> int:
        return self._inner.rows

    @property
    def dimension(self) -> int | None:
        return self._inner.dimension

    def seq(self) -> Rows:
        return self._inner.seq()

    def ids(self) -> pa.Array:
        return self._inner.ids()

    def vectors(self) -> Vectors:
        return self._inner.vectors()

    def squared_norms(self) -> npt.NDArray[np.float32]:
        return self._inner.squared_norms()

    def documents(self) -> pa.Array:
        return self._inner.documents()

    def uris(self) -> pa.Array:
        return self._inner.uris()

    def metadata(self) -> pa.Array:
        return self._inner.metadata()

    def columns(self) -> MetadataColumns:
        return self._inner.columns()

    def index(self) -> VectorIndex | None:
        return self._inner.index()

    def live(self) -> Mask | None:
        return self._live

    def rows_of(self, ids: Collection[str]) -> Rows:
        return self._inner.rows_of(ids)
