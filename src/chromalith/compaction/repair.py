"""Repair: what is a function of the records is made again from the records.

1. Verify deeply. Findings without a cure stay findings: records, deletes and the folded set can't be made from anything else.
2. A segment whose index or id table is damaged is rewritten from its records, as by a merge of that one segment. Its records are checked
   against their hashes first: nothing is made from what is not whole.
3. Checksums by bucket are summed up again from the records of all segments.
4. Each is published as a version of kind ``merge``: no record changes. Whoever published first is rebased onto.
5. Verify deeply again: what is still found is reported. Older versions keep naming the damaged object until they are swept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.clock import Clock
from chromalith.compaction.bucket_sidecar import write_buckets
from chromalith.compaction.compactor import index_config
from chromalith.compaction.findings import Finding, Progress, VerifyReport
from chromalith.compaction.merge_job import Merged, rebase, write_merge
from chromalith.compaction.next_version import child_of
from chromalith.compaction.segment_reader import checked_body, read_deletes
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.compaction.verify import examine
from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.pointer import Current, Published, UnknownEnding, publish, read_current, unknown
from chromalith.coord.store_date import store_date
from chromalith.engine.index import IndexConfig
from chromalith.engine.space import check_space
from chromalith.errors import ChromalithError, Conflict, Corrupt, Unknown
from chromalith.model import layout
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.buckets import Buckets
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.invariants import Change
from chromalith.model.manifest import Manifest
from chromalith.model.segment import id_hash, record_digests
from chromalith.store.port import Store

RACES_MAX = 8


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        before, after: what was found, and what is still found.
        published: the versions that it published.
        failed: the findings whose cure did not work, each with the reason.
    """

    before: VerifyReport
    after: VerifyReport
    published: tuple[int, ...]
    failed: tuple[tuple[Finding, str], ...]


def repair(
    store: Store,
    clock: Clock,
    collection: CollectionObject,
    index_threshold: int,
    *,
    progress: Progress = lambda step, done, total: None,
) -> Repaired:
    """Repair the current version of a collection. Raises as :meth:`Repair.run`.

    ``index_threshold``: rows at which a segment gets an index.
    """
    config = index_config(collection.configuration, IndexConfig())
    writer = SegmentWriter(store, collection.id, clock, check_space(collection.space), index_threshold, config)
    return Repair(store, clock, collection.id, writer, progress).run()


@dataclass(frozen=True, slots=True)
class Repair:
    """Repairs the current version of a collection.

    Attributes:
        store, clock, cid: where, time and chance, and which.
        writer: how its segments are written: index threshold and configuration are the collection's.
        progress: told what is being read.
    """

    store: Store
    clock: Clock
    cid: CollectionId
    writer: SegmentWriter
    progress: Progress = lambda step, done, total: None

    def run(self) -> Repaired:
        """Repair what can be. Raises as :func:`~chromalith.compaction.verify.examine`; ``Conflict`` if others publish first, again and
        again; ``Unknown`` if it can't be told whether a version was published."""
        before = examine(self.store, self.cid, deep=True, progress=self.progress)
        published: list[int] = []
        failed: list[tuple[Finding, str]] = []
        done: set[JobId | None] = set()
        for finding in before.findings:
            if finding.cure is None or finding.segment in done:
                continue
            done.add(finding.segment)  # ``None`` stands for the buckets
            try:
                version = self._publish(self._cured_buckets() if finding.segment is None else self._rewritten(finding.segment))
            except (Conflict, Unknown):
                raise
            except ChromalithError as error:  # what it would be made from is damaged itself
                failed.append((finding, error.message))
                continue
            if version is not None:
                published.append(version)
        after = examine(self.store, self.cid, deep=True, progress=self.progress) if published else before
        return Repaired(before, after, tuple(published), tuple(failed))

    def _publish(self, make: Callable[[Current], tuple[Manifest, Change] | None]) -> int | None:
        """Publish what ``make`` makes of the current version; ``None``: it is not needed any more."""
        for _ in range(RACES_MAX):
            current = read_current(self.store, self.cid)
            made = make(current)
            if made is None:
                return None
            ending = publish(self.store, self.clock, current, *made)
            if isinstance(ending, UnknownEnding):
                raise unknown(made[0], ending, "verify again: it looks first")
            if isinstance(ending, Published):
                return made[0].version
        raise Conflict(f"others published first, {RACES_MAX} times collection={self.cid}", hint="stop the compaction, then repair")

    def _rewritten(self, segment: JobId) -> Callable[[Current], tuple[Manifest, Change] | None]:
        written: Merged | None = None

        def make(current: Current) -> tuple[Manifest, Change] | None:
            nonlocal written
            manifest = current.manifest
            positions = [position for position, each in enumerate(manifest.segments) if each.id == segment]
            if not positions:
                return None  # merged, or all of it deleted, meanwhile
            if written is None or written.base < manifest.boundary:
                written = write_merge(self.store, self.writer, manifest, positions)
            date_us = store_date(self.store, self.cid, self.clock)
            return rebase(self.store, self.clock, self.writer, written, current, date_us)

        return make

    def _cured_buckets(self) -> Callable[[Current], tuple[Manifest, Change] | None]:
        def make(current: Current) -> tuple[Manifest, Change] | None:
            manifest = current.manifest
            if not manifest.segments:
                return None
            found = Buckets.empty()
            for segment in manifest.segments:
                key = layout.segment_file_key(self.cid, segment.id, layout.RECORDS_FILE)
                table = pq.read_table(arrow_reader(checked_body(self.store, key, segment.files[layout.RECORDS_FILE])))
                live = np.setdiff1d(np.arange(segment.rows, dtype=np.int64), read_deletes(self.store, self.cid, segment))
                table = table.take(pa.array(live))
                found = found + Buckets.of(id_hash(table.column("id").to_pylist()), *record_digests(table))
            if found.total() != (manifest.content, manifest.embedding):
                raise Corrupt(f"I4 broken: the records do not add up to the total version={manifest.version}")
            ref = write_buckets(self.store, self.clock, self.cid, manifest.version, found)
            child = child_of(current, self.clock, "merge", store_date(self.store, self.cid, self.clock), None)
            return replace(child, buckets=ref), Change()

        return make
