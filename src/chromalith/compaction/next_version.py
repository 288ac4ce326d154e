"""The next version of a collection, before a job puts its own changes into it: what every publisher does alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chromalith.clock import Clock
from chromalith.coord.pointer import Current
from chromalith.model.folded import FoldedSet
from chromalith.model.ids import WRITE_ID_DIGITS, DeltaId
from chromalith.model.manifest import Manifest

SETTLED_AFTER_US = 120_000_000  # twice the sweep's grace of folded deltas: nothing asks any more when such a version was published


def child_of(current: Current, clock: Clock, kind: str, date_us: int, listed: Sequence[DeltaId] | None) -> Manifest:
    """The next version of ``current``, the same but for its name, its date, and a tidied folded set.

    ``listed``, if given, are all deltas that a LIST begun after ``date_us`` showed: only then may entries expire.
    """
    parent = current.manifest
    published = (*parent.published, (parent.version, current.pointer.modified_us))
    settled = max((version for version, at_us in published if at_us <= date_us - SETTLED_AFTER_US), default=0)
    folded: FoldedSet = parent.folded.settle(settled) if settled else parent.folded
    if listed is not None:
        folded = folded.expire(date_us=date_us, listed=listed)
    return replace(
        parent,
        version=parent.version + 1,
        parent=parent.key,
        write_id=clock.random_hex(WRITE_ID_DIGITS),
        kind=kind,
        created_us=date_us,
        folded=folded,
        published=tuple(item for item in published if item[0] > settled),
    )
