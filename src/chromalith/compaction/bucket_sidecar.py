"""The sidecar of checksums by bucket: read, built from a version's id tables, and written for the next version.

A fold reads its parent's 16 KiB and writes its own. A merge and a sweep change no record and carry the parent's reference; a restore
takes that of the version that it restores. A version that has none (of format 1) is summed up from the id tables of its segments,
once, by the first fold onto it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.clock import Clock
from chromalith.compaction.segment_reader import checked_body
from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.buckets import Buckets
from chromalith.model.ids import WRITE_ID_DIGITS, CollectionId, JobId
from chromalith.model.manifest import BucketsRef, FileRef, Manifest, Segment
from chromalith.model.segment import digests
from chromalith.store.port import Store

REPAIR_HINT = "`chromalith verify COLLECTION --repair` writes it again from the records"


def buckets_of(store: Store, manifest: Manifest, dead: Mapping[JobId, npt.NDArray[np.uint32]]) -> Buckets:
    """The checksums by bucket of a version: what its sidecar says, or, without one, what its id tables say of the rows that are
    not in ``dead`` (by segment). Checked against the version's totals.

    Raises ``Swept`` if an object is gone, ``Corrupt``.
    """
    if not manifest.segments:
        return Buckets.empty()
    ref = manifest.buckets
    if ref is None:
        found = Buckets.empty()
        for segment in manifest.segments:
            found = found + _of_segment(store, manifest.collection, segment, dead[segment.id])
        key = None
    else:
        key = layout.buckets_key(manifest.collection, ref.id)
        found = read_buckets(store, manifest.collection, ref)
    if found.total() != (manifest.content, manifest.embedding):
        raise Corrupt(
            f"I4 broken: the buckets do not add up to the total version={manifest.version} key={key}", hint=REPAIR_HINT, key=key
        )
    return found


def read_buckets(store: Store, cid: CollectionId, ref: BucketsRef) -> Buckets:
    """A sidecar as it is stored. Raises ``Swept``, ``Corrupt``."""
    key = layout.buckets_key(cid, ref.id)
    return Buckets.decode(checked_body(store, key, ref.file, hint=REPAIR_HINT), key)


def write_buckets(store: Store, clock: Clock, cid: CollectionId, base: int, buckets: Buckets) -> BucketsRef:
    """Write a sidecar, for a job that read version ``base``."""
    job = JobId(base, clock.random_hex(WRITE_ID_DIGITS))
    body = buckets.encode()
    store.put(layout.buckets_key(cid, job), body)
    return BucketsRef(job, FileRef.of(body))


def _of_segment(store: Store, cid: CollectionId, segment: Segment, dead: npt.NDArray[np.uint32]) -> Buckets:
    key = layout.segment_file_key(cid, segment.id, layout.IDS_FILE)
    body = checked_body(store, key, segment.files[layout.IDS_FILE])
    try:
        table = pq.read_table(arrow_reader(body), columns=["id_hash", "row", "content_hash", "embedding_hash"])
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"not an id table key={key}", key=key) from error
    live = ~np.isin(table.column("row").to_numpy(), dead)
    content, embedding = digests(table.column("content_hash")), digests(table.column("embedding_hash"))
    return Buckets.of(table.column("id_hash").to_numpy()[live], content[live], embedding[live])
