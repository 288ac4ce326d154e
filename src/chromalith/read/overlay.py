"""The overlay: the deltas that are not folded yet, applied at read time with the compactor's own function.

Its records get the sequence numbers that the fold would give them (from the manifest's ``next_seq``, in the same order of deltas), so
that ``get`` answers in the same order before and after the fold. An overlay is immutable; a later one that only adds deltas at the end of
the order *extends* it, and does not apply the earlier ones again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from chromalith.errors import Corrupt
from chromalith.model.fold import fold, needs_record, touched
from chromalith.model.ids import DeltaId
from chromalith.model.operation import Operations
from chromalith.model.record import Record
from chromalith.read.hydrated import HydratedSegment


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the pending deltas change.

    Attributes:
        deltas: those applied, in order.
        records: each changed id's record, ``None`` for one that was deleted.
        next_seq: the sequence number of the next insertion.
        superseded: for each segment (by position) the rows that are not live any more.
        dimension: of the embeddings, ``None`` while there are none.
    """

    deltas: tuple[DeltaId, ...] = ()
    records: dict[str, Record | None] = field(default_factory=dict)
    next_seq: int = 0
    superseded: dict[int, set[int]] = field(default_factory=dict)
    dimension: int | None = None

    def extends(self, deltas: Sequence[DeltaId]) -> bool:
        """Whether ``deltas`` are those of this overlay, and perhaps more behind them."""
        return self.deltas == tuple(deltas[: len(self.deltas)])


def extend(
    overlay: Overlay,
    new: Sequence[tuple[DeltaId, Operations | None]],
    segments: Sequence[HydratedSegment],
    deletes: Sequence[npt.NDArray[np.uint32]],
) -> Overlay:
    """``overlay`` with more deltas applied.

    Args:
        overlay: what was applied before; for nothing, an empty one with the manifest's ``next_seq`` and ``dimension``.
        new: the deltas behind it in order, ``None`` for void ones.
        segments: the version's segments, hydrated.
        deletes: their dead rows, uint32 ascending.

    Raises ``Corrupt`` for a delta of another dimension, which a fold would quarantine.
    """
    dimension = overlay.dimension
    for delta, operations in new:
        width = None if operations is None else operations.dimension
        dimension = dimension or width
        if width is not None and width != dimension:
            raise Corrupt(f"a delta has another dimension delta={delta} dimension={width} expected={dimension}")
    batches = [operations for _, operations in new if operations is not None]
    unseen = [record_id for record_id in touched(batches) if record_id not in overlay.records]
    needed = needs_record(batches)
    stored: dict[str, Record | None] = {}
    where: dict[str, tuple[int, int]] = {}
    for position, segment in enumerate(segments):
        live = [(record_id, row) for record_id, row in segment.find(unseen) if not _contains(deletes[position], row)]
        read = [(record_id, row) for record_id, row in live if record_id in needed]
        records = segment.records([row for _, row in read]) if read else []
        for record_id, row in live:
            if record_id in where:
                raise Corrupt(f"I1 broken: an id is live in two segments id={record_id!r}")
            where[record_id] = (position, row)
            stored[record_id] = None
        stored |= {record.id: record for record in records}
    folded = fold(stored, batches, overlay.next_seq, before=overlay.records)
    superseded = {position: set(rows) for position, rows in overlay.superseded.items()}
    for record_id, (position, row) in where.items():
        if record_id in folded.records:
            superseded.setdefault(position, set()).add(row)
    deltas = (*overlay.deltas, *(delta for delta, _ in new))
    return Overlay(deltas, folded.records, folded.next_seq, superseded, dimension)


def _contains(ascending: npt.NDArray[np.uint32], row: int) -> bool:
    at = int(np.searchsorted(ascending, row))
    return at < len(ascending) and int(ascending[at]) == row
