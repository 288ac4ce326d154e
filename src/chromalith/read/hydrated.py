"""A segment on this machine: hydrated file by file when first needed, decoded once into memory-mapped files.

``records.parquet`` is decoded into ``vectors.npy`` and ``content.arrow`` beside it, because a search touches a few rows of either and
Parquet has no cheap way to a row. Both are mapped, so that all processes of a machine share one copy in memory, and a cold process
starts with what another one has decoded. Metadata is exploded into typed columns at the first filter.

A file in the cache that can't be decoded was damaged there (the store's bytes are hashed when they arrive): the segment's files are
dropped and downloaded again, once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.engine.columns import MetadataColumns, explode, open_columns, write_columns
from chromalith.engine.index import IndexConfig, VectorIndex
from chromalith.engine.part import Rows, Vectors
from chromalith.engine.space import check_space
from chromalith.engine.usearch_index import open_index
from chromalith.errors import ChromalithError, Corrupt
from chromalith.model import layout
from chromalith.model.arrow import matrix
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Segment
from chromalith.model.record import Record
from chromalith.model.segment import ID_TYPES, RECORD_TYPES, check_shape, id_hash
from chromalith.store.cache import Cache

Result = TypeVar("Result")

_TEXT = pa.large_string()  # 32-bit offsets end at 2 GiB of text a column
_CONTENT = {"id": _TEXT, "seq": pa.int64(), "document": _TEXT, "uri": _TEXT, "metadata": _TEXT}

# Row groups decoded at once: 12 MB of 384-d embeddings. All at once is fresh memory for all, and took twice as long.
_DECODED_GROUPS = 8
_DECODED_BYTES_MAX = 512 * 2**20  # a larger matrix is decoded into its file, and never in memory as a whole
_VECTORS = "vectors.npy"


class HydratedSegment:
    """One segment's rows, dead ones included, as the engine's ``Part``: what does not change between versions.

    Safe to share between threads. Raises ``Swept`` from any method if an object is gone that is not in the cache yet, ``Corrupt`` if it is
    not what the manifest says.
    """

    def __init__(self, cache: Cache, cid: CollectionId, segment: Segment, space: str) -> None:
        self.segment = segment
        self._cache = cache
        self._cid = cid
        self._space = space
        self._lock = threading.RLock()
        self._ids_by_hash: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]] | None = None
        self._content: dict[str, pa.Array] | None = None
        self._vectors: Vectors | None = None
        self._norms: npt.NDArray[np.float32] | None = None
        self._columns: MetadataColumns | None = None
        self._index: VectorIndex | None = None

    @property
    def rows(self) -> int:
        return self.segment.rows

    @property
    def dimension(self) -> int | None:
        return int(self.vectors().shape[1])

    def seq(self) -> Rows:
        seq: Rows = self.content("seq").to_numpy()
        return seq

    def ids(self) -> pa.Array:
        return self.content("id")

    def documents(self) -> pa.Array:
        return self.content("document")

    def uris(self) -> pa.Array:
        return self.content("uri")

    def metadata(self) -> pa.Array:
        return self.content("metadata")

    def live(self) -> npt.NDArray[np.bool_] | None:
        """``None``: which rows are dead is a matter of the version, not of the segment."""
        return None

    def content(self, name: str) -> pa.Array:
        """The column ``id``, ``seq``, ``document``, ``uri`` or ``metadata``."""
        with self._lock:
            if self._content is None:
                self._content = self._decoded(self._open_content)
            return self._content[name]

    def _open_content(self) -> dict[str, pa.Array]:
        with pa.memory_map(str(self._derived("content.arrow", self._decode_content))) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        return {name: batch.column(name) for name in _CONTENT}

    def vectors(self) -> Vectors:
        with self._lock:
            if self._vectors is None:
                self._vectors = self._decoded(self._open_vectors)
            return self._vectors

    def _open_vectors(self) -> Vectors:
        size = 4 * self.rows * self._width()
        self._fetch_index_meanwhile()
        if size > _DECODED_BYTES_MAX or self._cache.has_derived(self._records_key(), _VECTORS):
            return _mapped(self._derived(_VECTORS, self._decode_vectors))
        # A first answer need not wait until the decoded matrix is on the disk: it is used from memory, written behind the
        # caller's back, and mapped from then on.
        values = np.empty((self.rows, self._width()), np.float32)
        start = 0
        for some in self._decoded_vectors():
            values[start : start + len(some)] = some
            start += len(some)

        def write(path: Path) -> None:
            with path.open("wb") as out:
                np.lib.format.write_array(out, values)

        def swap(path: Path) -> None:
            with self._lock:
                self._vectors = _mapped(path)

        self._cache.derive_later(self._records_key(), _VECTORS, write, swap)
        return values

    def squared_norms(self) -> npt.NDArray[np.float32]:
        with self._lock:
            if self._norms is None:
                vectors = self.vectors()
                self._norms = np.einsum("ij,ij->i", vectors, vectors)
            return self._norms

    def columns(self) -> MetadataColumns:
        with self._lock:
            if self._columns is None:
                self._columns = self._decoded(
                    lambda: open_columns(
                        self._derived("columns.arrow", lambda path: write_columns(explode(self.content("metadata")), path))
                    )
                )
            return self._columns

    def index(self) -> VectorIndex | None:
        ref = self.segment.index
        if ref is None:
            return None
        with self._lock:
            if self._index is None:
                key = layout.segment_file_key(self._cid, self.segment.id, layout.index_file(ref.kind))
                space, config = check_space(self._space), IndexConfig.of(ref.config)
                self._index = self._decoded(lambda: open_index(self._cache.file(key, ref.file), space, config))
            return self._index

    def _fetch_index_meanwhile(self) -> None:
        """Begin to download the index, which a search is about to ask for, while the records are decoded.

        Not while they are downloaded: the two would share the line, and the decoding would begin only when both are there.
        """
        ref = self.segment.index
        if ref is not None and self._index is None:
            self._cache.begin(layout.segment_file_key(self._cid, self.segment.id, layout.index_file(ref.kind)), ref.file)

    def rows_of(self, ids: Collection[str]) -> Rows:
        """int64, ascending: the rows that hold one of ``ids``, by binary search over the sorted hashes."""
        wanted = list(ids)
        if not wanted:
            return np.empty(0, np.int64)
        return np.sort(np.array([row for _, row in self.find(wanted)], np.int64))

    def find(self, ids: Sequence[str]) -> list[tuple[str, int]]:
        """Which of ``ids`` this segment holds, with their rows."""
        hashes, rows = self._id_table()
        wanted = id_hash(ids)
        start = np.searchsorted(hashes, wanted, "left")
        hits = np.flatnonzero((start < len(hashes)) & (hashes[np.minimum(start, len(hashes) - 1)] == wanted))
        found: list[tuple[str, int]] = []
        if not len(hits):
            return found  # without opening the records: most ids of a new delta are in no segment
        column = self.content("id")
        for hit in hits.tolist():
            at = int(start[hit])
            while at < len(hashes) and hashes[at] == wanted[hit]:  # more than one turn only where two ids share 64 bits
                if column[int(rows[at])].as_py() == ids[hit]:
                    found.append((ids[hit], int(rows[at])))
                at += 1
        return found

    def records(self, rows: Sequence[int]) -> list[Record]:
        """Those rows as records."""
        take = pa.array(rows, pa.int64())
        columns = [self.content(name).take(take).to_pylist() for name in ("id", "seq", "document", "uri", "metadata")]
        vectors = self.vectors()[np.asarray(rows, np.int64)]
        return [
            Record(record_id, seq, vectors[i], document, uri, metadata)
            for i, (record_id, seq, document, uri, metadata) in enumerate(zip(*columns, strict=True))
        ]

    def _id_table(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        with self._lock:
            if self._ids_by_hash is None:
                self._ids_by_hash = self._decoded(self._open_id_table)
            return self._ids_by_hash

    def _open_id_table(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        table = self._parquet(layout.IDS_FILE).read(columns=["id_hash", "row"])
        return table.column("id_hash").to_numpy(), table.column("row").to_numpy()

    def _decoded(self, decode: Callable[[], Result]) -> Result:
        """``decode()``; where files of the cache can't be decoded, once more with what the store has.

        Raises ``Corrupt`` if that can't be decoded either."""
        try:
            return decode()
        except Exception as error:
            if not _is_damage(error):
                raise
        key = self._records_key()
        self._cache.drop(key)
        try:
            return decode()
        except Exception as error:
            if not _is_damage(error):
                raise
            raise Corrupt(f"a segment can't be decoded key={key}: {error}", key=key) from error

    def _file(self, name: str) -> Path:
        return self._cache.file(layout.segment_file_key(self._cid, self.segment.id, name), self.segment.files[name])

    def _records_key(self) -> str:
        return layout.segment_file_key(self._cid, self.segment.id, layout.RECORDS_FILE)

    def _derived(self, name: str, build: Callable[[Path], None]) -> Path:
        return self._cache.derived(self._records_key(), name, build)

    def _decode_content(self, path: Path) -> None:
        table = self._parquet().read(columns=list(_CONTENT))
        table = table.select(list(_CONTENT)).cast(pa.schema(_CONTENT)).combine_chunks()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def _decode_vectors(self, path: Path) -> None:
        # By row groups, into the file: the matrix is never in memory as a whole.
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._width())}
        with path.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for values in self._decoded_vectors():
                out.write(np.ascontiguousarray(values, "<f4").data)

    def _decoded_vectors(self) -> Iterator[Vectors]:
        parquet = self._parquet()
        for start in range(0, parquet.num_row_groups, _DECODED_GROUPS):
            groups = range(start, min(start + _DECODED_GROUPS, parquet.num_row_groups))
            yield matrix(parquet.read_row_groups(groups, columns=["embedding"]).column(0))[0]

    def _width(self) -> int:
        return int(self._parquet().schema_arrow.field("embedding").type.list_size)

    def _parquet(self, name: str = layout.RECORDS_FILE) -> pq.ParquetFile:
        path = self._file(name)
        # What this process has hashed needs no second check: it takes a third of the time of decoding.
        trusted = self._cache.hashed(layout.segment_file_key(self._cid, self.segment.id, name))
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=not trusted)
        check_shape(file, RECORD_TYPES if name == layout.RECORDS_FILE else ID_TYPES, self.rows)
        return file


def _is_damage(error: Exception) -> bool:
    """Whether it says that a file of the cache can't be decoded: not that the store's object is damaged (it is hashed when it arrives,
    and then the key is told), nor that the machine refuses (no space, no permission)."""
    if isinstance(error, ChromalithError):
        return isinstance(error, Corrupt) and error.key is None
    return isinstance(error, pa.ArrowException | OSError | ValueError | LookupError) and getattr(error, "errno", None) is None


def _mapped(path: Path) -> Vectors:
    vectors: Vectors = np.load(path, mmap_mode="r").view(np.ndarray)  # as a memmap, each indexing would cost 0.1 ms more
    return vectors
