"""Re-target a finished fold at a later version that changed nothing the fold had built on (:func:`chromalith.model.rebase.rebase_fold`).

The objects that the fold wrote stay as they are. What it calls itself changes: its version, its parent, and the version that the folded
set remembers for what it folded. (That one *must* change: the prompt sweep measures the grace of a folded delta from the publish of the
version that folded it, and the old number now belongs to a version that was published earlier.)
"""

from __future__ import annotations

from dataclasses import replace

from chromalith.clock import Clock
from chromalith.compaction.next_version import child_of
from chromalith.coord.pointer import Current
from chromalith.model.folded import FoldedSet
from chromalith.model.manifest import Manifest


def retarget(finished: Manifest, onto: Current, clock: Clock) -> Manifest:
    """``finished``, as a child of ``onto``."""
    child = child_of(onto, clock, finished.kind, finished.created_us, None)
    folded = FoldedSet(
        {
            writer: tuple(replace(run, version=child.version) if run.version == finished.version else run for run in runs)
            for writer, runs in finished.folded.runs.items()
        }
    )
    parts = tuple(
        replace(part, version=child.version) if part.version == finished.version else part for part in finished.folded_parts
    )
    return replace(
        child,
        next_seq=finished.next_seq,
        dimension=finished.dimension,
        segments=finished.segments,
        content=finished.content,
        embedding=finished.embedding,
        buckets=finished.buckets,
        quarantined=finished.quarantined,
        folded=folded,
        folded_parts=parts,
    )
