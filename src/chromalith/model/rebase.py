"""Rebase: re-target a finished merge at a newer parent, or say that it must be abandoned. Pure.

A merge that lost the race carries the deletes that arrived meanwhile: each row of an input that died since the merge read it dies in the
output too. It *must* be abandoned unless every input is still in the parent, with deletes that include those that it read: else a row that
the merge dropped as dead would be live in the parent (a restore brought it back), and would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from chromalith.model.ids import JobId

Rows = npt.NDArray[np.uint32]


def carried_deletes(
    inputs: Sequence[JobId],
    read: Mapping[JobId, Rows],
    current: Mapping[JobId, Rows],
    output_row: Mapping[JobId, npt.NDArray[np.int64]],
) -> Rows | None:
    """The rows of a merge's output that are dead in the current parent, ascending; ``None``: abandon.

    Args:
        inputs: the segments that were merged.
        read: the dead rows of each input that the merge dropped.
        current: the dead rows of each segment that the parent has now; an input that is not in it is gone.
        output_row: for each input, int64 (rows,): where each of its rows is in the output, -1 for dropped ones.
    """
    dead: list[npt.NDArray[np.int64]] = []
    for segment in inputs:
        if segment not in current:
            return None
        now = current[segment]
        if not np.isin(read[segment], now).all():
            return None
        dead.append(output_row[segment][np.setdiff1d(now, read[segment])])
    return np.sort(np.concatenate(dead)).astype(np.uint32)
