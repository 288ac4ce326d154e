"""I1–I8: what every version keeps. A publish checks what it adds and the totals; ``verify`` checks everything.

Each predicate is a function, raises ``Bug`` (at publish: our mistake) or ``Corrupt`` (at verify: the store's contents), and
has a test with a version that breaks it and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chromalith.errors import Bug, Corrupt
from chromalith.model.buckets import Buckets
from chromalith.model.checksum import Digests, Setsum
from chromalith.model.folded import FoldedLookup
from chromalith.model.ids import DeltaId
from chromalith.model.manifest import Manifest, Segment


@dataclass(frozen=True, slots=True)
class Change:
    """What a job claims to have done to its parent.

    Attributes:
        deltas: those that it folded, voided or set aside.
        live: how many live records it added, minus those it removed.
        content, embedding: the checksums of what it added minus what it removed.
        before, after: the whole folded sets of the parent and of the child, parts included; needed where they have parts.
    """

    deltas: Sequence[DeltaId] = ()
    live: int = 0
    content: Setsum = Setsum()
    embedding: Setsum = Setsum()
    before: FoldedLookup | None = None
    after: FoldedLookup | None = None


def check_publish(parent: Manifest, child: Manifest, change: Change) -> None:
    """Everything that a publisher can check without reading the segments again."""
    i2_versions_rise_by_one(parent, child)
    i3_folded_once(parent, child, change)
    i4_checksums_change_by_what_was_done(parent, child, change)
    i6_counts_add_up(parent, child, change)
    i7_sequence_numbers_only_rise(parent, child)
    i8_boundary_and_horizon_only_rise(parent, child)


def _require(holds: bool, invariant: str, message: str) -> None:
    if not holds:
        raise Bug(f"{invariant} broken: {message}", hint="please report this; nothing was published")


def i2_versions_rise_by_one(parent: Manifest, child: Manifest) -> None:
    """Versions rise by one along parents."""
    holds = child.version == parent.version + 1 and child.parent == parent.key and child.collection == parent.collection
    _require(holds, "I2", f"version={child.version} parent={parent.version}")


def i3_folded_once(parent: Manifest, child: Manifest, change: Change) -> None:
    """A folded delta is never folded again, and is remembered."""
    if not change.deltas:
        return
    before = parent.folded if change.before is None else change.before
    after = child.folded if change.after is None else change.after
    blind = (parent.folded_parts and change.before is None) or (child.folded_parts and change.after is None)
    _require(not blind, "I3", f"the older parts of the folded set were not looked at version={child.version}")
    found = (before.find_all(change.deltas), after.find_all(change.deltas))
    for delta, was, run in zip(change.deltas, *found, strict=True):
        _require(was is None, "I3", f"a delta is folded again delta={delta}")
        _require(run is not None, "I3", f"a folded delta is not remembered delta={delta}")


def i4_checksums_change_by_what_was_done(parent: Manifest, child: Manifest, change: Change) -> None:
    """Checksums change by exactly what the job added and removed, and are the sums of the segments'."""
    _require(child.content == parent.content + change.content, "I4", f"content checksum version={child.version}")
    _require(child.embedding == parent.embedding + change.embedding, "I4", f"embedding checksum version={child.version}")
    content, embedding = Setsum(), Setsum()
    for segment in child.segments:
        content, embedding = content + segment.content, embedding + segment.embedding
    _require(child.content == content, "I4", f"segments' content checksums do not add up version={child.version}")
    _require(child.embedding == embedding, "I4", f"segments' embedding checksums do not add up version={child.version}")
    if child.buckets is not None and child.buckets == parent.buckets:
        same = (child.content, child.embedding) == (parent.content, parent.embedding)
        _require(same, "I4", f"the parent's checksums by bucket are not the child's version={child.version}")


def i4_buckets_add_up(child: Manifest, buckets: Buckets) -> None:
    """The checksums by bucket that a fold is about to write for its child add up to the child's totals."""
    holds = buckets.total() == (child.content, child.embedding)
    _require(holds, "I4", f"checksums by bucket do not add up version={child.version}")


def i6_counts_add_up(parent: Manifest, child: Manifest, change: Change) -> None:
    """Live rows are rows minus deletes, and their sum changes by what the job did."""
    for segment in child.segments:
        _require(0 <= segment.live <= segment.rows, "I6", f"segment={segment.id} rows={segment.rows} live={segment.live}")
    _require(child.live == parent.live + change.live, "I6", f"live={child.live} parent={parent.live} change={change.live}")


def i7_sequence_numbers_only_rise(parent: Manifest, child: Manifest) -> None:
    """Sequence numbers are never given out again."""
    _require(child.next_seq >= parent.next_seq, "I7", f"next_seq={child.next_seq} parent={parent.next_seq}")


def i8_boundary_and_horizon_only_rise(parent: Manifest, child: Manifest) -> None:
    """Boundary and horizon only rise."""
    holds = child.boundary >= parent.boundary and child.horizon >= parent.horizon
    _require(holds, "I8", f"boundary={child.boundary} horizon={child.horizon}")


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """What ``verify`` read of one segment's live rows: ids, sequence numbers int64 (n,), recomputed digests uint8 (n, 32)."""

    segment: Segment
    ids: Sequence[str]
    seq: npt.NDArray[np.int64]
    content: Digests
    embedding: Digests


def breaches(manifest: Manifest, segments: Sequence[SegmentRows]) -> Iterator[tuple[str, str]]:
    """What of I1, I4, I6 and I7 does not hold over everything that a version holds: the invariant, and what is wrong."""
    seen: set[str] = set()
    for part in segments:
        if len(part.ids) != part.segment.live:
            yield "I6", f"rows segment={part.segment.id} live={part.segment.live} found={len(part.ids)}"
        for record_id in part.ids:
            if record_id in seen:
                yield "I1", f"an id is live twice id={record_id!r}"
            seen.add(record_id)
        if Setsum.of(part.content) != part.segment.content:
            yield "I4", f"content checksum segment={part.segment.id}"
        if Setsum.of(part.embedding) != part.segment.embedding:
            yield "I4", f"embedding checksum segment={part.segment.id}"
    seqs = np.concatenate([part.seq for part in segments]) if segments else np.empty(0, np.int64)
    if len(np.unique(seqs)) != len(seqs) or (len(seqs) and int(seqs.max()) >= manifest.next_seq):
        yield "I7", f"sequence numbers version={manifest.version}"


def check_version(manifest: Manifest, segments: Sequence[SegmentRows]) -> None:
    """I1, I4, I6, I7 over everything that a version holds. Raises ``Corrupt`` with the first that fails."""
    for invariant, message in breaches(manifest, segments):
        raise Corrupt(f"{invariant} broken: {message}")
