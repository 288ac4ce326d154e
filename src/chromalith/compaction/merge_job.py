"""The merge job: several segments rewritten as one, without their dead rows, up to the publish.

A merge changes no record: ids, sequence numbers, hashes and bytes are copied, and the checksums of the total must not change (I4).
One that loses the race to another publisher rebases (:mod:`chromalith.model.rebase`): it carries the deletes that arrived
meanwhile, or is abandoned; the segment that it wrote is kept, because nothing in it depends on the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.clock import Clock
from chromalith.compaction.next_version import child_of
from chromalith.compaction.segment_reader import NO_ROWS, checked_body, read_deletes
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.coord.pointer import Current
from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.model.arrow import fixed_size_list, matrix
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.checksum import Setsum
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.invariants import Change
from chromalith.model.manifest import Manifest, Segment
from chromalith.model.rebase import Abandon, CarryDeletes, rebase_merge
from chromalith.model.segment import digests, record_digests
from chromalith.store.port import Store


@dataclass(frozen=True, slots=True)
class Merged:
    """A written merge, to be published onto the version it read or a later one.

    Attributes:
        base: the version that it read.
        inputs: the segments that it replaces.
        read: the dead rows of each input when it read them.
        output: the new segment; ``None`` if nothing was live.
        output_row: for each input, int64 (rows,): its rows' places in the output, -1 for the dropped ones.
        hashes: content and embedding digests of the output's rows, uint8 (n, 32) each.
    """

    base: int
    inputs: tuple[JobId, ...]
    read: dict[JobId, npt.NDArray[np.uint32]]
    output: Segment | None
    output_row: dict[JobId, npt.NDArray[np.int64]]
    hashes: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def write_merge(store: Store, writer: SegmentWriter, manifest: Manifest, positions: Sequence[int]) -> Merged:
    """Read the segments at ``positions`` and write their live rows as one segment, ascending by ``seq``.

    Raises ``Swept`` if one is gone (another compactor was faster), ``Corrupt`` if one is not what the manifest says.
    """
    inputs = [manifest.segments[position] for position in positions]
    read: dict[JobId, npt.NDArray[np.uint32]] = {}
    tables: list[pa.Table] = []
    kept: list[npt.NDArray[np.int64]] = []
    for segment in inputs:
        read[segment.id] = read_deletes(store, manifest.collection, segment)
        live = np.setdiff1d(np.arange(segment.rows, dtype=np.int64), read[segment.id])
        tables.append(_table(store, manifest.collection, segment).take(pa.array(live)))
        kept.append(live)
    table = pa.concat_tables(tables)
    order = np.argsort(table.column("seq").to_numpy(), kind="stable")
    table = table.take(pa.array(order))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    output_row: dict[JobId, npt.NDArray[np.int64]] = {}
    start = 0
    for segment, live in zip(inputs, kept, strict=True):
        rows = np.full(segment.rows, -1, np.int64)
        rows[live] = place[start : start + len(live)]
        output_row[segment.id] = rows
        start += len(live)
    # Recomputed from the rows as they are about to be written: copied hashes would agree with whatever happened to the rows.
    hashes = record_digests(table)
    for name, recomputed in zip(("content_hash", "embedding_hash"), hashes, strict=True):
        if not np.array_equal(recomputed, digests(table.column(name))):
            raise Corrupt(
                f"I4 broken: records do not match their hashes column={name} segments={' '.join(str(s.id) for s in inputs)}",
                hint="nothing was published; see `chromalith verify`",
            )
    output = writer.segment(manifest.version, table) if table.num_rows else None
    return Merged(manifest.version, tuple(s.id for s in inputs), read, output, output_row, hashes)


def rebase(
    store: Store, clock: Clock, writer: SegmentWriter, merged: Merged, current: Current, date_us: int
) -> tuple[Manifest, Change] | None:
    """The version that publishes ``merged`` onto ``current``, or ``None``: abandon it."""
    parent = current.manifest
    dead = {s.id: read_deletes(store, parent.collection, s) for s in parent.segments if s.id in merged.inputs}
    decision = rebase_merge(
        merged.inputs, merged.read, dead, merged.output_row, base=merged.base, boundary=parent.boundary
    )
    if isinstance(decision, Abandon):
        return None
    carried = decision.rows if isinstance(decision, CarryDeletes) else NO_ROWS
    segments = [segment for segment in parent.segments if segment.id not in merged.inputs]
    output = merged.output
    if output is not None and len(carried) < output.rows:
        if len(carried):
            output = replace(
                output,
                deletes=writer.deletes(merged.base, output.id, carried),
                content=output.content - Setsum.of(merged.hashes[0][carried]),
                embedding=output.embedding - Setsum.of(merged.hashes[1][carried]),
            )
        segments.append(output)
    return replace(child_of(current, clock, "merge", date_us, None), segments=tuple(segments)), Change()


def _table(store: Store, cid: CollectionId, segment: Segment) -> pa.Table:
    """A segment's records, whole, checked against the manifest."""
    key = layout.segment_file_key(cid, segment.id, layout.RECORDS_FILE)
    table = pq.read_table(arrow_reader(checked_body(store, key, segment.files[layout.RECORDS_FILE])))
    # Releases differ in whether they declare the embeddings nullable; tables of different schemas can't be joined.
    values, _ = matrix(table.column("embedding"))
    return table.set_column(table.column_names.index("embedding"), "embedding", fixed_size_list(values))
