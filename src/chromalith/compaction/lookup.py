"""Point lookups in stored segments: a few ranged GETs, never the whole segment.

``ids.parquet`` is sorted by a hash of the id. A lookup reads its footer, then the hashes of the row groups that can hold a wanted one, and
ids and checksums only of those that do. Records are read by the row groups that hold them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.compaction.segment_reader import checked_body
from chromalith.errors import Corrupt, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import TAIL_BYTES, Segment
from chromalith.model.parquet_footer import read_footer
from chromalith.model.record import Record, Stored
from chromalith.model.segment import ID_TYPES, RECORD_TYPES, check_shape, digests, id_hash, record_digests, records_of
from chromalith.store.port import Store
from chromalith.store.ranged import RangedFile

_STORED_COLUMNS = ["id", "row", "seq", "content_hash", "embedding_hash"]
_DAMAGE = (
    pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip


class SegmentLookup:
    """Lookups in one segment.

    Args:
        store: where it is.
        cid: its collection.
        position: its position in the manifest; goes into the results.
        segment: its entry there.
        dead: its dead rows, uint32 ascending: they are not found.
    """

    def __init__(
        self, store: Store, cid: CollectionId, position: int, segment: Segment, dead: npt.NDArray[np.uint32]
    ) -> None:
        self._store = store
        self._cid = cid
        self._position = position
        self._segment = segment
        self._dead = dead

    def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of ``ids`` that are live in this segment."""
        candidates = [i for i in ids if self._segment.id_min <= i <= self._segment.id_max]
        if not candidates:
            return {}
        order = np.argsort(id_hash(candidates))
        wanted = id_hash(candidates)[order]
        names = {candidates[i] for i in order.tolist()}
        found: dict[str, Stored] = {}
        with self._opened(layout.IDS_FILE) as parquet:
            # A small file is in memory already. (And only a file whose tail was checked may be asked for its statistics: some that are
            # damaged end the process, by an exception of the Parquet library that nothing catches.)
            whole = self._segment.files[layout.IDS_FILE].size <= TAIL_BYTES
            for group in range(parquet.num_row_groups) if whole else _groups_that_may_hold(parquet, wanted):
                hashes = parquet.read_row_group(group, columns=["id_hash"]).column(0).to_numpy()
                rows = np.flatnonzero(np.isin(hashes, wanted))
                if len(rows):
                    table = parquet.read_row_group(group, columns=_STORED_COLUMNS).take(pa.array(rows))
                    found |= self._stored(table, names)
        return found

    def records(self, rows: Sequence[int]) -> list[Record]:
        """The records at ``rows``, in ascending order of rows."""
        if not rows:
            return []
        ascending = np.sort(np.asarray(rows, np.int64))
        result: list[Record] = []
        with self._opened(layout.RECORDS_FILE) as parquet:
            starts = np.cumsum([0] + [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)])
            groups = np.searchsorted(starts, ascending, "right") - 1
            for group in np.unique(groups).tolist():
                table = parquet.read_row_group(group).take(pa.array(ascending[groups == group] - starts[group]))
                self._check_hashes(table)
                result += records_of(table)
        return result

    def _check_hashes(self, table: pa.Table) -> None:
        """A fold is about to build on these records: what the pages' own checksums let pass would be written down as right."""
        for name, recomputed in zip(("content_hash", "embedding_hash"), record_digests(table), strict=True):
            if not np.array_equal(recomputed, digests(table.column(name))):
                key = layout.segment_file_key(self._cid, self._segment.id, layout.RECORDS_FILE)
                raise Corrupt(f"I4 broken: records do not match their hashes column={name} key={key}", key=key)

    def _stored(self, table: pa.Table, names: set[str]) -> dict[str, Stored]:
        content, embedding = digests(table.column("content_hash")), digests(table.column("embedding_hash"))
        result: dict[str, Stored] = {}
        columns = (table.column(name).to_pylist() for name in ("id", "row", "seq"))
        for i, (record_id, row, seq) in enumerate(zip(*columns, strict=True)):
            if record_id in names and not self._is_dead(row):
                result[record_id] = Stored(self._position, row, seq, content[i].tobytes(), embedding[i].tobytes())
        return result

    def _is_dead(self, row: int) -> bool:
        at = int(np.searchsorted(self._dead, row))
        return at < len(self._dead) and int(self._dead[at]) == row

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        """One of the segment's files. A small one is read whole, and its SHA-256 checked; of a larger one parts are read, and the
        checksums of its tail and of their pages checked."""
        key, ref = layout.segment_file_key(self._cid, self._segment.id, name), self._segment.files[name]
        try:
            if ref.size <= TAIL_BYTES:
                body = checked_body(self._store, key, ref)
                read_footer(body)
                file = pq.ParquetFile(arrow_reader(body))
            else:
                source = pa.PythonFile(RangedFile(self._store, key, ref), mode="r")
                file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
            check_shape(file, RECORD_TYPES if name == layout.RECORDS_FILE else ID_TYPES, self._segment.rows)
            yield file
        except (NotFound, Unavailable):
            raise
        except MemoryError as error:  # which pyarrow's own is too: no damage
            raise Unavailable(f"not enough memory to read a part of an object key={key}") from error
        except _DAMAGE as error:
            # ValueError is also the port's Invalid: a range behind the end of an object that was cut.
            raise Corrupt(f"a stored object is damaged key={key}", hint="see `chromalith snapshot list`", key=key) from error


def _groups_that_may_hold(parquet: pq.ParquetFile, wanted: npt.NDArray[np.uint64]) -> list[int]:
    """The row groups whose range of hashes has one of ``wanted`` (ascending)."""
    column = parquet.schema_arrow.get_field_index("id_hash")
    groups = []
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(column).statistics
        if statistics is None:
            groups.append(group)
            continue
        low, high = np.uint64(statistics.min), np.uint64(statistics.max)
        at = int(np.searchsorted(wanted, low))
        if at < len(wanted) and wanted[at] <= high:
            groups.append(group)
    return groups
