"""The fold job: deltas into a new version, up to the publish.

1. Read the chosen deltas. One that is corrupt after two whole reads is *quarantined*: kept, named in the manifest, blocking nothing. One of
   a newer format ends the prefix before it: skipping it would change the order.
2. Look up the touched ids in the stored segments (ranged GETs), and the records of those that an operation builds on.
3. ``fold``, the pure function that readers use too.
4. Leave out records that came out as they were: an upsert of what is there already writes nothing.
5. Write the changed records as one new segment, new deletes for the segments that held them before, and the checksums by bucket.

Nothing refers to what it writes until the manifest that it returns is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chromalith.clock import Clock
from chromalith.compaction.bucket_sidecar import buckets_of, write_buckets
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.lookup import SegmentLookup
from chromalith.compaction.next_version import child_of
from chromalith.compaction.pace import OutOfTime, TimeLeft, fold_s, forever, may_take_s
from chromalith.compaction.segment_reader import read_deletes
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.coord.folded_parts import Folded
from chromalith.coord.pointer import Current
from chromalith.errors import Corrupt, Invalid
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.checksum import Digests, Setsum
from chromalith.model.delta import Delta, decode_delta
from chromalith.model.fold import fold, needs_record, touched
from chromalith.model.folded import State
from chromalith.model.ids import JobId
from chromalith.model.invariants import Change, i4_buckets_add_up
from chromalith.model.manifest import BucketsRef, Manifest, Quarantined, Segment
from chromalith.model.operation import Op, Operations
from chromalith.model.order import Listed
from chromalith.model.record import Record, Stored
from chromalith.model.segment import digests, id_hash, segment_table
from chromalith.store.port import Store


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A finished fold: the version to publish, what it changed, and what could not be read."""

    manifest: Manifest
    change: Change
    deltas: int
    operations: int
    quarantined: tuple[Quarantined, ...]
    bytes_written: int


@dataclass(frozen=True, slots=True)
class FoldJob:
    """One fold of one collection onto the version ``current``.

    Attributes:
        store, clock, pool: where, chance, and threads for reading deltas.
        writer: how segments are written.
        folded: how the folded set is extended.
        current: the version that the job reads.
        date_us: the store's date before the LIST.
        listed: every delta that the LIST showed; for the expiry of the folded set.
        time_left: until the fold must be published; asked when the deltas are read.
    """

    store: Store
    clock: Clock
    pool: Executor
    writer: SegmentWriter
    folded: FoldedWriter
    current: Current
    date_us: int
    listed: Sequence[Listed]
    time_left: TimeLeft = forever

    def run(self, chosen: Sequence[Listed]) -> FoldResult | None:
        """Fold ``chosen``, a prefix of the order, or as much of it as there is time for. ``None`` if nothing of it can be folded now.

        Raises ``NotFound`` if a delta was swept meanwhile (another compactor folded it), ``Invalid`` if the first delta
        is of a newer format, ``OutOfTime`` if there is no time for the first delta.
        """
        deltas, quarantined = self._read(chosen)
        if not deltas and not quarantined:
            return None
        batches = [delta.operations for delta in deltas if delta.operations is not None]
        manifest = self.current.manifest
        dead = {s.id: read_deletes(self.store, manifest.collection, s) for s in manifest.segments}
        stored, records = self._look_up(batches, dead)
        folded = fold({i: records.get(i) for i in stored}, batches, manifest.next_seq)
        written, removed = self._changes(folded.records, stored)
        return self._assemble(deltas, quarantined, batches, dead, written, removed, folded.next_seq)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read(self, chosen: Sequence[Listed]) -> tuple[list[Delta], list[Quarantined]]:
        dimension = self.current.manifest.dimension
        deltas: list[Delta] = []
        quarantined: list[Quarantined] = []
        read = list(self.pool.map(self._read_one, chosen))
        left_s = self.time_left()
        writes = deletes = 0
        for listed, found in zip(chosen, read, strict=True):
            if isinstance(found, Corrupt):
                quarantined.append(Quarantined(str(listed.id), found.message))
                continue
            if isinstance(found, Invalid):  # a newer format
                if not deltas and not quarantined:
                    raise found
                break
            width = None if found.operations is None else found.operations.dimension
            if width is not None and dimension is not None and width != dimension:
                quarantined.append(Quarantined(str(listed.id), f"another dimension dimension={width} expected={dimension}"))
                continue
            dimension = dimension or width
            if found.operations is not None:
                gone = found.operations.ops.count(Op.DELETE)
                writes, deletes = writes + len(found.operations) - gone, deletes + gone
            several = bool(deltas or quarantined)
            if fold_s(writes, deletes, dimension, self.writer.index_threshold) > may_take_s(left_s, several=several):
                if not several:
                    raise OutOfTime
                break
            deltas.append(found)
        return deltas, quarantined

    def _read_one(self, listed: Listed) -> Delta | Corrupt | Invalid:
        cid = self.current.manifest.collection
        key = layout.delta_key(cid, listed.id)
        for attempt in (1, 2):
            try:
                return decode_delta(cid, listed.id, self.store.get(key).body)
            except Corrupt as error:
                if attempt == 2:  # the second whole read says the same: it is the object, not the transfer
                    return error
            except Invalid as error:
                return error
        raise AssertionError("unreachable")

    def _look_up(
        self, batches: Sequence[Operations], dead: dict[JobId, npt.NDArray[np.uint32]]
    ) -> tuple[dict[str, Stored], dict[str, Record]]:
        ids = list(touched(batches))
        needed = needs_record(batches)
        manifest = self.current.manifest
        stored: dict[str, Stored] = {}
        records: dict[str, Record] = {}
        for position, segment in enumerate(manifest.segments):
            lookup = SegmentLookup(self.store, manifest.collection, position, segment, dead[segment.id])
            found = lookup.find(ids)
            both = found.keys() & stored.keys()
            if both:
                raise Corrupt(f"I1 broken: an id is live in two segments id={min(both)!r} version={manifest.version}")
            stored |= found
            rows = [where.row for record_id, where in found.items() if record_id in needed]
            records |= {record.id: record for record in lookup.records(rows)}
        return stored, records

    # -- writing -------------------------------------------------------------------------------------------------------

    def _changes(
        self, records: dict[str, Record | None], stored: dict[str, Stored]
    ) -> tuple[pa.Table | None, dict[str, Stored]]:
        """The table of the records to write, and the stored rows that die, by id."""
        kept = [record for record in records.values() if record is not None]
        table = segment_table(kept) if kept else None
        removed = {i: stored[i] for i, record in records.items() if record is None and i in stored}
        if table is None:
            return None, removed
        content, embedding = digests(table.column("content_hash")), digests(table.column("embedding_hash"))
        changed = np.ones(table.num_rows, np.bool_)
        for row, (record_id, seq) in enumerate(zip(table.column("id").to_pylist(), table.column("seq").to_pylist(), strict=True)):
            old = stored.get(record_id)
            if old is None:
                continue
            hashes = (content[row].tobytes(), embedding[row].tobytes())
            if old.seq == seq and hashes == (old.content_hash, old.embedding_hash):
                changed[row] = False
            else:
                removed[record_id] = old
        table = table.filter(pa.array(changed))
        return (table if table.num_rows else None), removed

    def _assemble(
        self,
        deltas: Sequence[Delta],
        quarantined: Sequence[Quarantined],
        batches: Sequence[Operations],
        dead: dict[JobId, npt.NDArray[np.uint32]],
        written: pa.Table | None,
        removed: dict[str, Stored],
        next_seq: int,
    ) -> FoldResult:
        parent = self.current.manifest
        segments = [segment for segment in self._without(list(removed.values()), dead) if segment.live > 0]
        bytes_written = sum(s.deletes.file.size for s in segments if s.deletes is not None and s not in parent.segments)
        content = Setsum() - Setsum.of(_stacked([where.content_hash for where in removed.values()]))
        embedding = Setsum() - Setsum.of(_stacked([where.embedding_hash for where in removed.values()]))
        added = 0
        if written is not None:
            new = self.writer.segment(parent.version, written)
            segments.append(new)
            added, bytes_written = new.rows, bytes_written + new.bytes
            content, embedding = content + new.content, embedding + new.embedding
        states = [(delta.id, State.VOID if delta.operations is None else State.FOLDED) for delta in deltas]
        widths = [batch.dimension for batch in batches if batch.dimension is not None]
        manifest = child_of(self.current, self.clock, "fold", self.date_us, [listed.id for listed in self.listed])
        manifest = replace(
            manifest,
            next_seq=next_seq,
            dimension=parent.dimension or (widths[0] if widths else None),
            segments=tuple(segments),
            content=parent.content + content,
            embedding=parent.embedding + embedding,
            quarantined=(*parent.quarantined, *quarantined),
        )
        manifest = self.folded.remember(manifest, states, listed=[listed.id for listed in self.listed])
        bytes_written += sum(ref.file.size for ref in manifest.folded_parts if ref not in parent.folded_parts)
        manifest = replace(manifest, buckets=self._buckets(manifest, dead, written, removed))
        if manifest.buckets is not None and manifest.buckets != parent.buckets:
            bytes_written += manifest.buckets.file.size
        before, after = (Folded(version, self.folded.parts) for version in (parent, manifest))
        change = Change([delta.id for delta in deltas], added - len(removed), content, embedding, before, after)
        operations = sum(len(batch) for batch in batches)
        return FoldResult(manifest, change, len(deltas), operations, tuple(quarantined), bytes_written)

    def _buckets(
        self,
        child: Manifest,
        dead: dict[JobId, npt.NDArray[np.uint32]],
        written: pa.Table | None,
        removed: dict[str, Stored],
    ) -> BucketsRef | None:
        """The child's checksums by bucket: the parent's, plus what is written, minus what dies; the parent's own if that is nothing."""
        parent = self.current.manifest
        if not child.segments:
            return None
        if written is None and not removed and parent.buckets is not None:
            return parent.buckets
        buckets = buckets_of(self.store, parent, dead) - Buckets.of(
            id_hash(list(removed)),
            _stacked([where.content_hash for where in removed.values()]),
            _stacked([where.embedding_hash for where in removed.values()]),
        )
        if written is not None:
            ids = id_hash(written.column("id").to_pylist())
            content, embedding = digests(written.column("content_hash")), digests(written.column("embedding_hash"))
            buckets = buckets + Buckets.of(ids, content, embedding)
        i4_buckets_add_up(child, buckets)
        return write_buckets(self.store, self.clock, child.collection, parent.version, buckets)

    def _without(self, removed: Sequence[Stored], dead: dict[JobId, npt.NDArray[np.uint32]]) -> Iterator[Segment]:
        """The parent's segments, with the removed rows dead."""
        parent = self.current.manifest
        by_segment: dict[int, list[Stored]] = {}
        for where in removed:
            by_segment.setdefault(where.segment, []).append(where)
        for position, segment in enumerate(parent.segments):
            gone = by_segment.get(position)
            if gone is None:
                yield segment
                continue
            rows = np.union1d(dead[segment.id], np.array([where.row for where in gone], np.uint32)).astype(np.uint32)
            content = Setsum.of(_stacked([where.content_hash for where in gone]))
            embedding = Setsum.of(_stacked([where.embedding_hash for where in gone]))
            if len(rows) == segment.rows:  # nothing of it is live: it leaves the manifest, and needs no deletes object
                continue
            deletes = self.writer.deletes(parent.version, segment.id, rows)
            yield replace(segment, deletes=deletes, content=segment.content - content, embedding=segment.embedding - embedding)


def _stacked(hashes: Sequence[bytes]) -> Digests:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
