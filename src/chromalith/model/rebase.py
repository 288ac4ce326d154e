"""Rebase: what a finished job does when it finds another current version than the one that it read. Pure.

Four answers:

- :class:`PublishOnto`: nothing that the job built on has changed; re-target it, without work.
- :class:`CarryDeletes`: re-target it, with rows of its output that died meanwhile.
- :class:`StartAgain`: what it decided may be wrong now; read again, from the LIST.
- :class:`Abandon`: what it would replace is not there any more, or somebody else's; stop.

By job, and by what was published meanwhile:

==========  =====================  ==========================  =======================  ======================
the job     a sweep's version      a fold                      a merge                  a restore
==========  =====================  ==========================  =======================  ======================
fold        onto                   again                       again                    again
merge       onto                   carries the deletes         onto if of others, else  carries the deletes if
                                                               abandons                 they include its own,
                                                                                        else abandons
restore     again                  again                       again                    again
sweep       again                  again                       again                    again
==========  =====================  ==========================  =======================  ======================

Before all that: if an object that the job adds has ``base`` < the boundary of the current version, a sweep may have taken it for an orphan,
and the job is lost whatever else is the same.

A fold does not map its deletes through a merge: it knows rows of the inputs, and not where they are in the output. It is cheap to begin
again; a merge is not, and carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chromalith.model.folded import FoldedSet, Run
from chromalith.model.ids import JobId
from chromalith.model.manifest import Manifest

Rows = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class PublishOnto:
    """Publish the same onto the current version."""


@dataclass(frozen=True, slots=True)
class CarryDeletes:
    """Publish onto the current version, with these rows of the output dead: uint32, ascending, unique, at least one."""

    rows: Rows


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Read again, and decide again. ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop. ``reason`` is for people."""

    reason: str


FoldDecision = PublishOnto | StartAgain
MergeDecision = PublishOnto | CarryDeletes | Abandon

RESTORE_DECISION = StartAgain("a restore sets aside what is pending, so it must list again")
"""Whatever was published meanwhile: what it found pending may be folded, and its version may be below the horizon."""
SWEEP_DECISION = StartAgain("a sweep's boundary and horizon belong to the version that it read")
"""Whatever was published meanwhile; it must also list the tags again *before* it publishes."""


def rebase_fold(added: Iterable[JobId], read: Manifest, now: Manifest) -> FoldDecision:
    """What a finished fold does.

    Args:
        added: every object that it adds, by the job that wrote it.
        read: the version that it read.
        now: the current version, another one.

    A fold's result follows from the segments with their deletes, the next sequence number, the dimension, and which deltas were folded. If
    these are the same, so is the result. Versions and days of folded runs may differ (a sweep forgets them, and lets entries expire):
    membership is what counts, and nothing may have come to it.
    """
    if _below(added, now.boundary):
        return StartAgain(f"the boundary has passed its objects boundary={now.boundary}")
    if (read.segments, read.content, read.embedding) != (now.segments, now.content, now.embedding):
        return StartAgain("the records have changed")
    if (read.next_seq, read.dimension) != (now.next_seq, now.dimension):
        return StartAgain("sequence numbers were given out")
    if (read.quarantined, read.aside, read.buckets, read.restores) != (now.quarantined, now.aside, now.buckets, now.restores):
        return StartAgain("deltas were quarantined or set aside")
    if read.folded_parts != now.folded_parts or not within(now.folded, read.folded):
        return StartAgain("deltas were folded")
    return PublishOnto()


def rebase_merge(
    inputs: Sequence[JobId],
    read: Mapping[JobId, Rows],
    current: Mapping[JobId, Rows],
    output_row: Mapping[JobId, npt.NDArray[np.int64]],
    *,
    base: int,
    boundary: int,
) -> MergeDecision:
    """What a finished merge does, whatever was published meanwhile.

    Args:
        inputs: the segments that were merged.
        read: the dead rows of each input that the merge dropped.
        current: the dead rows of each segment that the current version has; an input that is not in it is gone.
        output_row: for each input, int64 (rows,): where each of its rows is in the output, -1 for dropped ones.
        base: the version that the merge read.
        boundary: of the current version.

    It carries the deletes that arrived meanwhile: each row of an input that died since the merge read it dies in the output too. It *must*
    be abandoned unless every input is still there, with deletes that include those that it read: else a row that the merge dropped as dead
    would be live (a restore brought it back), and would be lost.
    """
    if base < boundary:
        return Abandon(f"the boundary has passed its objects boundary={boundary}")
    dead: list[npt.NDArray[np.int64]] = []
    for segment in inputs:
        if segment not in current:
            return Abandon(f"an input is gone segment={segment}")
        now = current[segment]
        if not np.isin(read[segment], now).all():
            return Abandon(f"rows that it dropped are live again segment={segment}")
        dead.append(output_row[segment][np.setdiff1d(now, read[segment])])
    rows = np.sort(np.concatenate(dead)).astype(np.uint32)
    return CarryDeletes(rows) if len(rows) else PublishOnto()


def within(part: FoldedSet, whole: FoldedSet) -> bool:
    """Whether every delta in ``part`` is in ``whole``, whatever is remembered of it."""
    return all(_covered(runs, whole.runs.get(writer, ())) for writer, runs in part.runs.items())


def _covered(runs: Sequence[Run], by: Sequence[Run]) -> bool:
    position = 0
    for run in runs:
        start = run.start
        while start < run.stop:
            while position < len(by) and by[position].stop <= start:
                position += 1
            if position == len(by) or by[position].start > start:
                return False
            start = by[position].stop
    return True


def _below(added: Iterable[JobId], boundary: int) -> bool:
    return any(job.base < boundary for job in added)
