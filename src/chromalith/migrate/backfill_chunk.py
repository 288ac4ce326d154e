"""One chunk of a backfill: some records copied under an entry of the journal, so that a copy that is overtaken, or dies, is noticed.

Where reading is slow, or slowed down, a chunk has several pieces, each with its entry: a write under an old entry is not allowed.

1. Open the entry. *Then* look at the state (no freeze, this backfill still wanted), and *then* read the source. So whatever a client
   changes after that has its own entry, and that one is compared once this one has ended.
2. ``add`` what the target lacked when the backfill began. ``add`` leaves alone what is there: a client's newer record is not overwritten.
   What it had is compared.
3. Look at the source again: which of the added ids are still there? One that was deleted meanwhile was perhaps deleted at the target
   *before* it was added here, and nobody else would remove it. (A value that changed meanwhile needs no second reading: its client's entry
   is open, or it is compared later.)
4. What differs or is gone is mended (:mod:`chromalith.migrate.mend`); equal: the entry is settled. A failure closes it as what it is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from chromalith.chroma.side_pieces import joined
from chromalith.errors import ChromalithError, Invalid, Unavailable, Unknown
from chromalith.migrate.backfill_ids import NO_COUNTS, Counts, Reject
from chromalith.migrate.backfill_turns import Turns
from chromalith.migrate.backfill_watch import check_goes_on
from chromalith.migrate.entries import BACKFILL
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender, space_of
from chromalith.migrate.permission import Refused, permit
from chromalith.migrate.port import Role, SideCollection
from chromalith.migrate.records import differences
from chromalith.migrate.renewals import Kept
from chromalith.migrate.states import States
from chromalith.migrate.throttle import Throttle
from chromalith.model.segment import id_hash
from chromalith.transfer.port import Batch
from chromalith.transfer.sides import Denied

READING = 1 / 8
"""Of the time after which an entry counts as abandoned: for so long records are read for one piece, then they are written. A write is begun
in the first half of that time, and a chunk may have waited for the one before it."""
LATE_MAX = 3
"""Pieces, one after another, whose entries grew too old to write under."""


class Rejected(Exception):
    """The target does not take some records, and they must not be left out. Never leaves this package."""

    def __init__(self, rejects: Sequence[Reject]) -> None:
        super().__init__(f"{len(rejects)} records")
        self.rejects = list(rejects)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of one chunk."""

    counts: Counts
    rejects: list[Reject] = field(default_factory=list)


class KnownIds:
    """Ids that the target had when the backfill began, as hashes of 8 bytes. An id may be taken for known that is not: it is compared."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._hashes: npt.NDArray[np.uint64] = np.sort(id_hash(ids)) if ids else np.empty(0, np.uint64)

    def among(self, ids: Sequence[str]) -> set[str]:
        """Those of ``ids`` that are known."""
        if not len(self._hashes) or not ids:
            return set()
        wanted = id_hash(ids)
        at = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return {record_id for record_id, found in zip(ids, self._hashes[at] == wanted, strict=True) if found}


class ChunkCopier:
    """Copies chunks of one collection. Safe to share between threads.

    Args:
        journal, states, mender: of the migration.
        source, target: the collection on both sides.
        throttle: of the source.
        run: of the backfill.
        known: what the target had when it began.
        left_out: ids that are known to be rejected.
        skip_rejects: whether records that the target refuses are left out, or stop the copy.
    """

    def __init__(
        self,
        journal: Journal,
        states: States,
        mender: Mender,
        source: SideCollection,
        target: SideCollection,
        throttle: Throttle,
        run: str,
        known: KnownIds,
        left_out: frozenset[str],
        *,
        skip_rejects: bool,
    ) -> None:
        self._journal = journal
        self._states = states
        self._mender = mender
        self._source = source
        self._target = target
        self._throttle = throttle
        self._run = run
        self._known = known
        self._left_out = left_out
        self._skip_rejects = skip_rejects
        self._clock = journal.place.clock
        self._opening = threading.Lock()

    def copy(self, chunk: int, ids: Sequence[str], turns: Turns) -> Chunk:
        """Copy ``ids``, in as many pieces as their reading takes. Any failure may be tried again.

        Raises ``Unavailable``, ``Unknown``, ``NotFound`` (the collection is gone on a side), ``Conflict`` (the migration went on),
        ``Corrupt``, ``Invalid`` (the target takes nothing from us), ``Rejected``."""
        rest = [record_id for record_id in ids if record_id not in self._left_out]
        counts, rejects, late = Counts(rejected=len(ids) - len(rest)), list[Reject](), 0
        while rest:
            done, found = self._piece(chunk, rest, turns)
            rest = rest[done:]
            counts, rejects = counts + found.counts, rejects + found.rejects
            late = late + 1 if not done else 0
            if late == LATE_MAX:
                raise Unavailable(
                    "reading takes longer than an entry of the journal may be open",
                    hint="it is tried again; if it lasts, copy with fewer --workers",
                )
        turns.pass_on(chunk)
        return Chunk(counts, rejects)

    def _piece(self, chunk: int, ids: Sequence[str], turns: Turns) -> tuple[int, Chunk]:
        """Copy the first of ``ids`` under one entry: how many of them, and what became of these. None, if the entry grew too old before
        anything could be written; from then on it is this chunk's turn."""
        self._throttle.admit(0)  # a pause is waited out before the entry is opened, which would grow old
        began_s = self._clock.monotonic_s()
        with (
            self._opening
        ):  # entries that are opened at once share an object, which can't be removed when one of them is settled
            entry = self._journal.open(self._source.name, ids, authority=Role.SOURCE, op=BACKFILL)
        kept, written = Kept(self._journal, entry, began_s), _Written()
        try:
            state = permit(self._states, None)
            self._journal.timing = state.timing
            check_goes_on(state, self._run)
            done, batches = self._throttle.read_for(self._source, ids, state.timing.abandoned_s * READING)
            ids = ids[:done]
            known = self._known.among(ids)
            batch = joined(batches, self._source.dimension or 0)
            fresh = _rows(batch, [row for row, record_id in enumerate(batch.ids) if record_id not in known])
            turns.wait(chunk)
            if kept.is_old():
                kept.settle()
                return 0, Chunk(NO_COUNTS)
            with self._mender.renewals.while_it_lasts(kept):
                rejects = self._add(fresh, written)
            refused = {each.id for each in rejects}
            added = [record_id for record_id in fresh.ids if record_id not in refused]
            gone = set(added) - self._source.present(added)
            different = self._differing(batch, known)
        except Refused as refusal:
            self._end(kept, written, refusal)
            raise Unavailable(f"the backfill may not write now: {refusal}", hint="it is tried again") from refusal
        except BaseException as error:
            if isinstance(error, Exception):
                self._end(kept, written, error)
            raise
        self._mend(kept, [*gone, *different])
        fixed = len(set(different) & set(batch.ids))
        counts = Counts(
            copied=len(added) - len(gone),
            equal=len(batch) - len(fresh) - fixed,
            fixed=fixed,
            gone=len(ids) - len(batch) + len(gone),
            rejected=len(rejects),
        )
        return done, Chunk(counts, rejects)

    def _add(self, batch: Batch, written: _Written) -> list[Reject]:
        """Add all that the target takes; returns what it refuses. Raises ``Rejected`` if that must not be left out."""
        waiting = [batch] if len(batch) else []
        rejects: list[Reject] = []
        while waiting:
            part = waiting.pop()
            written.done = True  # a call is cut in pieces: the first may stand although it raises
            try:
                self._target.write("add", part.ids, part.embeddings, part.documents, part.uris, part.metadatas)
            except Denied:  # that is no fault of these records
                raise
            except Invalid as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    waiting += [part.part(middle, len(part)), part.part(0, middle)]
                    continue
                rejects.append(Reject(self._source.name, part.ids[0], f"{error.message}: {error.hint or ''}"[:500]))
            except Unknown:
                written.doubtful = True
                raise
            except ChromalithError:
                raise
            except Exception:
                written.doubtful = True
                raise
        if rejects and not self._skip_rejects:
            raise Rejected(rejects)
        return rejects

    def _differing(self, batch: Batch, known: set[str]) -> list[str]:
        """Ids that the target had and that are not equal, or not at the source any more."""
        if not known:
            return []
        wanted = _rows(batch, [row for row, record_id in enumerate(batch.ids) if record_id in known])
        there = self._target.read(sorted(known))
        return [each.id for each in differences(wanted, there, space_of(self._source, self._target))]

    def _mend(self, kept: Kept, suspects: Sequence[str]) -> None:
        if suspects:
            try:
                mended = self._mender.mend(self._source.name, suspects)
            except Exception as error:
                kept.close("failed", error)
                raise
            if mended.left:
                kept.close("failed", f"records that could not be made equal: {len(mended.left)}")
                raise Unavailable(
                    f"records could not be made equal collection={self._source.name!r} records={len(mended.left)}"
                    f" first={sorted(mended.left)[0]!r}",
                    hint="; ".join(mended.reasons)[:500],
                )
        kept.settle()

    def _end(self, kept: Kept, written: _Written, error: Exception) -> None:
        """Nothing was written: nobody needs to look. A write may land later: the entry stays until it can't any more."""
        if written.doubtful:
            kept.close("unknown", error)
        elif written.done:
            kept.close("failed", error)
        else:
            kept.settle()


@dataclass(slots=True)
class _Written:
    """Whether a write was begun, and whether one may land later."""

    done: bool = False
    doubtful: bool = False


def _rows(batch: Batch, rows: list[int]) -> Batch:
    if len(rows) == len(batch):
        return batch
    return Batch(
        [batch.ids[row] for row in rows],
        batch.embeddings[rows],
        [batch.documents[row] for row in rows],
        [batch.uris[row] for row in rows],
        [batch.metadatas[row] for row in rows],
    )
