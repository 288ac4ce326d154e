"""Extending the folded set of a version that is about to be published, and moving it out of the manifest when it is large.

1. Add what the job folded, voided or set aside to the inline runs.
2. Drop the parts that expired as a whole: the latest fold in them is over 30 days old, and none of their deltas is listed.
3. If the inline runs are over the limit, write all of them, with the trailing parts that are not much larger, as one new part. *Before* the
   manifest that names it: a crash leaves an object that nothing names, with ``base`` in its name.

Only a job that adds to the folded set does this (a fold, a restore). Merges and sweeps carry what the parent has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chromalith.clock import Clock
from chromalith.coord.folded_parts import FoldedParts
from chromalith.model import layout
from chromalith.model.folded import INLINE_BYTES_MAX, FoldedSet, State, oldest_day
from chromalith.model.folded_part import FoldedPart, encode_part, parts_kept, united
from chromalith.model.ids import WRITE_ID_DIGITS, DeltaId, JobId
from chromalith.model.manifest import FileRef, FoldedPartRef, Manifest
from chromalith.store.port import Store


@dataclass(frozen=True, slots=True)
class FoldedWriter:
    """Extends folded sets.

    Attributes:
        store, clock: where parts are written, and chance for their names.
        parts: where the parts that there are come from.
        inline_bytes_max: how much JSON stays in the manifest.
    """

    store: Store
    clock: Clock
    parts: FoldedParts
    inline_bytes_max: int = INLINE_BYTES_MAX

    def remember(
        self, child: Manifest, deltas: Iterable[tuple[DeltaId, State]], *, listed: Sequence[DeltaId]
    ) -> Manifest:
        """``child`` with ``deltas`` in its folded set.

        Args:
            child: the next version, made by :func:`chromalith.compaction.next_version.child_of`, of the date that its job began with.
            deltas: what the job took in, none of them in the folded set before.
            listed: every delta that a LIST begun after that date showed; only what is not among them may expire.

        Raises ``Swept`` if a part is gone, ``Corrupt`` if one is damaged, ``Unavailable``.
        """
        inline = child.folded.add(deltas, version=child.version, date_us=child.created_us)
        refs = [ref for ref in child.folded_parts if not self._expired(child, ref, listed)]
        if inline.json_bytes <= self.inline_bytes_max:
            return replace(child, folded=inline, folded_parts=tuple(refs))
        kept = parts_kept([ref.intervals for ref in refs], len(inline))
        return replace(child, folded=FoldedSet(), folded_parts=(*refs[:kept], *self._written(child, inline, refs[kept:], listed)))

    def _expired(self, child: Manifest, ref: FoldedPartRef, listed: Sequence[DeltaId]) -> bool:
        if ref.day >= oldest_day(child.created_us):
            return False
        missing = [delta for delta, run in zip(listed, child.folded.find_all(listed), strict=True) if run is None]
        return not missing or bool((self.parts.get(child.collection, ref).positions(missing) < 0).all())

    def _written(
        self, child: Manifest, inline: FoldedSet, merged: Sequence[FoldedPartRef], listed: Sequence[DeltaId]
    ) -> list[FoldedPartRef]:
        """Write the inline runs and those of the ``merged`` parts as one part (several, if a restore set aside a million), without what
        expired.
        """
        older = [self.parts.get(child.collection, ref).expire(date_us=child.created_us, listed=listed) for ref in merged]
        version = max([run.version for runs in inline.runs.values() for run in runs] + [each.version for each in merged])
        written = []
        for part in united([*older, FoldedPart.of(inline)]).pieces():
            body = encode_part(part)
            job = JobId(child.version - 1, self.clock.random_hex(WRITE_ID_DIGITS))
            ref = FoldedPartRef(job, len(part), version, int(part.day.max()), FileRef.of(body))
            self.store.put(layout.folded_key(child.collection, job), body)
            self.parts.hold(ref, part)
            written.append(ref)
        return written
