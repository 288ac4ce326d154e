"""One segment, read whole: its records against their hashes, its id table and index against the records, its deletes within the rows."""

from __future__ import annotations

import tempfile
from collections.abc import Container
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chromalith.compaction.findings import Cure, Findings
from chromalith.compaction.segment_reader import checked_body, read_deletes
from chromalith.engine.index import IndexConfig, check_index
from chromalith.engine.space import Space
from chromalith.engine.usearch_index import open_index
from chromalith.errors import Corrupt, Invalid
from chromalith.model import layout
from chromalith.model.arrow import matrix
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.ids import CollectionId
from chromalith.model.invariants import SegmentRows
from chromalith.model.manifest import Segment
from chromalith.model.segment import digests, id_hash, record_digests
from chromalith.store.port import Store


class SegmentCheck:
    """The check of one segment of one version. Findings go to ``findings``, each with the versions ``affected`` says for its object.

    Args:
        store, cid, segment: where, and which.
        space: what its index was built for.
        findings: what does not hold.
        affected: by object key, the kept versions that name it.
        known: objects of which something was found already: they are not read.
    """

    def __init__(
        self,
        store: Store,
        cid: CollectionId,
        segment: Segment,
        space: Space,
        findings: Findings,
        affected: dict[str, list[int]],
        known: Container[str | None] = (),
    ) -> None:
        self._store = store
        self._cid = cid
        self._segment = segment
        self._space = space
        self._findings = findings
        self._affected = affected
        self._known = known

    def run(self) -> SegmentRows | None:
        """Check, and return the live rows with digests recomputed; ``None`` if the records or the deletes can't be read."""
        segment = self._segment
        records_key = self._key(layout.RECORDS_FILE)
        deletes_key = records_key if segment.deletes is None else layout.deletes_key(self._cid, segment.id, segment.deletes.id)
        table: pa.Table | None = None
        if records_key not in self._known:
            with self._findings.catching("I5", key=records_key, versions=self._versions(records_key)):
                table = self._table(layout.RECORDS_FILE)
        self._check_id_table(table)
        if segment.index is not None:
            self._check_index(table)
        dead: npt.NDArray[np.uint32] | None = None
        if deletes_key not in self._known:
            with self._findings.catching("I5", key=deletes_key, versions=self._versions(deletes_key)):
                dead = read_deletes(self._store, self._cid, segment)
        if dead is not None and not self._check_deletes(dead, deletes_key):
            dead = None
        return None if table is None else self._check_records(table, records_key, dead)

    def _check_records(self, table: pa.Table, key: str, dead: npt.NDArray[np.uint32] | None) -> SegmentRows | None:
        segment = self._segment
        with self._findings.catching("I4", key=key, versions=self._versions(key)):
            try:
                content, embedding = record_digests(table)
                seq = table.column("seq").to_numpy()
                bounds = pc.min_max(table.column("id")).as_py()
                stated = digests(table.column("content_hash")), digests(table.column("embedding_hash"))
            except (pa.ArrowException, LookupError, ValueError, TypeError, AttributeError) as error:
                raise Corrupt(f"not the records of a segment key={key}") from error
            if not (np.array_equal(content, stated[0]) and np.array_equal(embedding, stated[1])):
                raise Corrupt(f"I4 broken: records do not match their hashes key={key}")
            if table.num_rows != segment.rows or not bool((np.diff(seq) > 0).all()):
                raise Corrupt(f"I7 broken: rows are not in ascending order of seq key={key} rows={table.num_rows} expected={segment.rows}")
            if (bounds["min"], bounds["max"]) != (segment.id_min, segment.id_max):
                raise Corrupt(f"I1 broken: the range of ids is not that of the records key={key}")
            if dead is None:
                return None
            live = np.setdiff1d(np.arange(segment.rows, dtype=np.int64), dead)
            names = table.column("id").take(pa.array(live)).to_pylist()
            return SegmentRows(segment, names, seq[live], content[live], embedding[live])
        return None

    def _check_id_table(self, table: pa.Table | None) -> None:
        key, cure = self._key(layout.IDS_FILE), None if table is None else Cure.SEGMENT
        if key in self._known:
            return
        with self._findings.catching("I5", key=key, versions=self._versions(key), cure=cure, segment=self._segment.id):
            ids = self._table(layout.IDS_FILE)
            if table is not None:
                self._check_ids(table, ids, key)

    def _check_ids(self, table: pa.Table, ids: pa.Table, key: str) -> None:
        """The id table is the records' own columns, in the order of (hash, id)."""
        try:
            rows = ids.column("row").to_numpy().astype(np.int64)
            hashes = ids.column("id_hash").to_numpy()
            names = ids.column("id").to_pylist()
            whole = np.array_equal(np.sort(rows), np.arange(table.num_rows))
            pairs = list(zip(hashes.tolist(), names, strict=True))
            if not whole or pairs != sorted(pairs) or not np.array_equal(hashes, id_hash(names)):
                raise Corrupt(f"derived broken: the id table is not in order key={key}")
            columns = ["id", "seq", "content_hash", "embedding_hash"]
            if not ids.select(columns).combine_chunks().equals(table.select(columns).take(pa.array(rows)).combine_chunks()):
                raise Corrupt(f"derived broken: the id table is not that of the records key={key}")
        except (pa.ArrowException, LookupError, ValueError, TypeError, AttributeError) as error:
            raise Corrupt(f"derived broken: not an id table key={key}") from error

    def _check_index(self, table: pa.Table | None) -> None:
        ref = self._segment.index
        if ref is None:
            return
        key = self._key(layout.index_file(ref.kind))
        cure = None if table is None else Cure.SEGMENT
        if key in self._known:
            return
        with self._findings.catching("I5", key=key, versions=self._versions(key), cure=cure, segment=self._segment.id):
            body = checked_body(self._store, key, ref.file)
            if table is None:
                return
            try:
                vectors, config = matrix(table.column("embedding"))[0], IndexConfig.of(ref.config)
            except (pa.ArrowException, LookupError, ValueError, TypeError) as error:
                raise Corrupt(f"derived broken: the index can't be read key={key}") from error
            with tempfile.TemporaryDirectory(prefix="chromalith-verify-") as directory:
                path = Path(directory) / "index"
                path.write_bytes(body)
                try:
                    check_index(open_index(path, self._space, config), vectors, self._space)
                except (Corrupt, Invalid) as error:
                    raise Corrupt(f"derived broken: {error.message} key={key}") from error

    def _check_deletes(self, dead: npt.NDArray[np.uint32], key: str) -> bool:
        segment = self._segment
        if len(np.unique(dead)) == segment.rows - segment.live == len(dead) and not (len(dead) and int(dead.max()) >= segment.rows):
            return True
        message = f"deletes key={key} rows={segment.rows} live={segment.live} deletes={len(dead)}"
        self._findings.add("I6", message, key=key, versions=self._versions(key))
        return False

    def _table(self, name: str) -> pa.Table:
        key = self._key(name)
        body = checked_body(self._store, key, self._segment.files[name])
        try:
            return pq.read_table(arrow_reader(body))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Corrupt(f"not a file of a segment key={key}") from error

    def _key(self, name: str) -> str:
        return layout.segment_file_key(self._cid, self._segment.id, name)

    def _versions(self, key: str) -> list[int]:
        return self._affected.get(key, [])
