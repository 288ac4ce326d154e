"""I1–I8: what every version keeps. A publish checks what it adds and the totals; ``verify`` checks everything.

Each predicate is a function, raises ``Bug`` (at publish: our mistake) or ``Corrupt`` (at verify: the store's contents), and
has a test with a version that breaks it and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chromalith.errors import Bug, Corrupt
from chromalith.model.checksum import Digests, Setsum
from chromalith.model.ids import DeltaId
from chromalith.model.manifest import Manifest, Segment


@dataclass(frozen=True, slots=True)
class Change:
    """What a job claims to have done to its parent.

    Attributes:
        deltas: those that it folded, voided or set aside.
        live: how many live records it added, minus those it removed.
        content, embedding: the checksums of what it added minus what it removed.
    """

    deltas: Sequence[DeltaId] = ()
    live: int = 0
    content: Setsum = Setsum()
    embedding: Setsum = Setsum()


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
    for delta in change.deltas:
        _require(delta not in parent.folded, "I3", f"a delta is folded again delta={delta}")
        _require(delta in child.folded, "I3", f"a folded delta is not remembered delta={delta}")


def i4_checksums_change_by_what_was_done(parent: Manifest, child: Manifest, change: Change) -> None:
    """Checksums change by exactly what the job added and removed, and are the sums of the segments'."""
    _require(child.content == parent.content + change.content, "I4", f"content checksum version={child.version}")
    _require(child.embedding == parent.embedding + change.embedding, "I4", f"embedding checksum version={child.version}")
    content, embedding = Setsum(), Setsum()
    for segment in child.segments:
        content, embedding = content + segment.content, embedding + segment.embedding
    _require(child.content == content, "I4", f"segments' content checksums do not add up version={child.version}")
    _require(child.embedding == embedding, "I4", f"segments' embedding checksums do not add up version={child.version}")


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


def check_version(manifest: Manifest, segments: Sequence[SegmentRows]) -> None:
    """I1, I4, I6, I7 over everything that a version holds. Raises ``Corrupt`` with the first that fails."""
    seen: set[str] = set()
    for part in segments:
        if len(part.ids) != part.segment.live:
            raise Corrupt(f"I6 broken: rows segment={part.segment.id} live={part.segment.live} found={len(part.ids)}")
        for record_id in part.ids:
            if record_id in seen:
                raise Corrupt(f"I1 broken: an id is live twice id={record_id!r}")
            seen.add(record_id)
        if Setsum.of(part.content) != part.segment.content:
            raise Corrupt(f"I4 broken: content checksum segment={part.segment.id}")
        if Setsum.of(part.embedding) != part.segment.embedding:
            raise Corrupt(f"I4 broken: embedding checksum segment={part.segment.id}")
    seqs = np.concatenate([part.seq for part in segments]) if segments else np.empty(0, np.int64)
    if len(np.unique(seqs)) != len(seqs) or (len(seqs) and int(seqs.max()) >= manifest.next_seq):
        raise Corrupt(f"I7 broken: sequence numbers version={manifest.version}")
