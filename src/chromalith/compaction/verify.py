"""Verify: read everything that the current version names, and recompute whatever it states.

1. The pointer and its manifest; the parent's, if it is still stored: versions, boundary and horizon against it (I2, I8).
2. Every object that the manifest names, whole: there, with its size and SHA-256 (I5).
3. Each segment: the digests recomputed from the records, the id table against the records, the deletes within the rows, and the
   index against the vectors.
4. The version: each live id once (I1), the checksums of segments and totals (I4), the counts (I6), the sequence numbers (I7).

Nothing is repaired here, and nothing is written. A sweep that overtakes it makes it start again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chromalith.compaction.segment_reader import checked_body, read_deletes
from chromalith.coord.catalog import Catalog
from chromalith.coord.pointer import read_current, read_manifest
from chromalith.engine.index import IndexConfig, check_index
from chromalith.engine.space import Space, check_space
from chromalith.engine.usearch_index import open_index
from chromalith.errors import Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.arrow import matrix
from chromalith.model.checksum import Setsum
from chromalith.model.ids import CollectionId
from chromalith.model.invariants import SegmentRows, check_version
from chromalith.model.manifest import Manifest, Segment
from chromalith.model.segment import digests, id_hash, record_digests
from chromalith.store.cache import Swept
from chromalith.store.port import Store

_RESTARTS_MAX = 5


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found whole: the version, its live records, and the objects that were read with their bytes."""

    collection: CollectionId
    version: int
    live: int
    segments: int
    indexes: int
    objects: int
    bytes: int


def verify(store: Store, cid: CollectionId) -> VerifyReport:
    """Check the current version of a collection, deeply.

    Raises ``Corrupt`` with the first thing that does not hold, ``NotFound`` (no such collection), ``Invalid`` (a newer format).
    """
    space = check_space(Catalog(store).get(cid).space)
    manifest = read_current(store, cid).manifest
    for _ in range(_RESTARTS_MAX):
        try:
            return _verify_version(store, manifest, space)
        except Swept as error:
            newer = read_current(store, cid).manifest
            if newer.key == manifest.key:
                raise Corrupt(f"I5 broken: {error.message}", hint="see `chromalith snapshot list`") from error
            manifest = newer
    raise Corrupt(f"versions come and go faster than they can be read collection={cid}", hint="stop the compaction, then verify")


def _verify_version(store: Store, manifest: Manifest, space: Space) -> VerifyReport:
    cid = manifest.collection
    _check_parent(store, manifest)
    objects = {key: ref for segment in manifest.segments for key, ref in segment.objects(cid).items()}
    rows = [_verify_segment(store, cid, segment, space) for segment in manifest.segments]
    check_version(manifest, rows)
    content, embedding = Setsum(), Setsum()
    for segment in manifest.segments:
        content, embedding = content + segment.content, embedding + segment.embedding
    if (content, embedding) != (manifest.content, manifest.embedding):
        raise Corrupt(f"I4 broken: the segments' checksums do not add up to the total version={manifest.version}")
    return VerifyReport(
        cid,
        manifest.version,
        manifest.live,
        len(manifest.segments),
        sum(segment.index is not None for segment in manifest.segments),
        len(objects),
        sum(ref.size for ref in objects.values()),
    )


def _check_parent(store: Store, manifest: Manifest) -> None:
    if manifest.parent is None:
        if manifest.version != 0:
            raise Corrupt(f"I2 broken: a version without a parent version={manifest.version}")
        return
    try:
        parent = read_manifest(store, manifest.parent)
    except NotFound:
        return  # swept
    if manifest.version != parent.version + 1:
        raise Corrupt(f"I2 broken: version={manifest.version} parent={parent.version}")
    if manifest.next_seq < parent.next_seq:
        raise Corrupt(f"I7 broken: next_seq={manifest.next_seq} parent={parent.next_seq}")
    if manifest.boundary < parent.boundary or manifest.horizon < parent.horizon:
        raise Corrupt(f"I8 broken: boundary={manifest.boundary} horizon={manifest.horizon} version={manifest.version}")


def _verify_segment(store: Store, cid: CollectionId, segment: Segment, space: Space) -> SegmentRows:
    def read(name: str) -> pa.Table:
        key = layout.segment_file_key(cid, segment.id, name)
        return pq.read_table(pa.BufferReader(checked_body(store, key, segment.files[name])))

    table = read(layout.RECORDS_FILE)
    content, embedding = record_digests(table)
    same = np.array_equal(content, digests(table.column("content_hash")))
    if not (same and np.array_equal(embedding, digests(table.column("embedding_hash")))):
        raise Corrupt(f"I4 broken: records do not match their hashes segment={segment.id}")
    seq = table.column("seq").to_numpy()
    if table.num_rows != segment.rows or not bool((np.diff(seq) > 0).all()):
        raise Corrupt(f"I7 broken: rows are not in ascending order of seq segment={segment.id} rows={table.num_rows}")
    bounds = pc.min_max(table.column("id")).as_py()
    if (bounds["min"], bounds["max"]) != (segment.id_min, segment.id_max):
        raise Corrupt(f"the range of ids is not that of the records segment={segment.id}")
    _check_id_table(segment, table, read(layout.IDS_FILE))
    _verify_index(store, cid, segment, matrix(table.column("embedding"))[0], space)
    dead = read_deletes(store, cid, segment)
    if len(np.unique(dead)) != segment.rows - segment.live or (len(dead) and int(dead.max()) >= segment.rows):
        raise Corrupt(f"I6 broken: deletes segment={segment.id} rows={segment.rows} live={segment.live} deletes={len(dead)}")
    live = np.setdiff1d(np.arange(segment.rows, dtype=np.int64), dead)
    return SegmentRows(segment, table.column("id").take(pa.array(live)).to_pylist(), seq[live], content[live], embedding[live])


def _check_id_table(segment: Segment, table: pa.Table, ids: pa.Table) -> None:
    """The id table is the records' own columns, in the order of (hash, id)."""
    rows = ids.column("row").to_numpy().astype(np.int64)
    hashes = ids.column("id_hash").to_numpy()
    names = ids.column("id").to_pylist()
    whole = np.array_equal(np.sort(rows), np.arange(table.num_rows))
    ordered = whole and list(zip(hashes.tolist(), names, strict=True)) == sorted(zip(hashes.tolist(), names, strict=True))
    if not ordered or not np.array_equal(hashes, id_hash(names)):
        raise Corrupt(f"the id table is not in order segment={segment.id}")
    columns = ["id", "seq", "content_hash", "embedding_hash"]
    if not ids.select(columns).combine_chunks().equals(table.select(columns).take(pa.array(rows)).combine_chunks()):
        raise Corrupt(f"the id table is not that of the records segment={segment.id}")


def _verify_index(
    store: Store, cid: CollectionId, segment: Segment, vectors: npt.NDArray[np.float32], space: Space
) -> None:
    ref = segment.index
    if ref is None:
        return
    body = checked_body(store, layout.segment_file_key(cid, segment.id, layout.index_file(ref.kind)), ref.file)
    config = IndexConfig(**ref.config)
    with tempfile.TemporaryDirectory(prefix="chromalith-verify-") as directory:
        path = Path(directory) / "index"
        path.write_bytes(body)
        check_index(open_index(path, space, config), vectors, space)
