"""The compactor: folds deltas, sweeps what was folded, merges segments. One visible loop; the protocol of DESIGN §5.

``run_once`` for one collection:

1. List the deltas, read the pointer and its manifest. Nothing listed that is new, nothing to sweep, nothing to merge: idle, after
   one LIST and two GETs; no lease is taken, and nothing is written.
2. Take the lease. Somebody else has it: leave this to them, and say so. Read the lease's timestamp back: the store's date. *Then* list and
   read again: a fold must take only deltas that were settled (``settle_s``) at that date, and must take a prefix of the order.
3. Fold them into a new version, and publish it. Lost the race to a version that changes nothing the fold had built on (a sweep's): publish
   the same onto it. To any other: start again from 2 (what was folded may have been folded by the winner). The ending is unknown: stop,
   and say so.
4. Prompt sweep: delete the deltas whose fold was published more than the grace ago, by the store's clock. A reader that listed
   one of them just before has had that long to read the pointer. Release the lease.
5. Merge what the policy says, under a lease of its own; a merge that lost the race rebases (:mod:`chromalith.compaction.merges`).

Crash anywhere: objects that nothing names, and a lease that runs out. Two compactors at once, because a lease was broken, lost, or is
believed by both: one of them publishes, the other rebases or starts again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chromalith.clock import Clock
from chromalith.compaction.fold_job import FoldJob, FoldResult
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.leasing import FOLD, Leasing, Right, open_leases
from chromalith.compaction.merges import RACES_MAX, RUN_AGAIN, Merges
from chromalith.compaction.observed import observed
from chromalith.compaction.outcome import FOLD_GRACE_S, CompactionSettings, Outcome, Progress
from chromalith.compaction.pace import START_S, OutOfTime, TimeLeft, forever, that_fit
from chromalith.compaction.retarget import retarget
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.coord.collections import Collections
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.lease import HeldBy, Sightings
from chromalith.coord.lease_table import LeaseTable
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import Current, Published, UnknownEnding, named_jobs, publish, read_current, unknown
from chromalith.coord.whole import naming_what_is_whole
from chromalith.engine.index import IndexConfig
from chromalith.engine.space import check_space
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.folded import FoldedLookup
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.order import Listed, pending, settled_prefix
from chromalith.model.rebase import StartAgain, rebase_fold
from chromalith.observe.events import Looked
from chromalith.observe.hooks import Observer, silent, together
from chromalith.store.address import StoreAddress
from chromalith.store.cache import Swept
from chromalith.store.port import Store
from chromalith.threads import NewExecutor

__all__ = [
    "FOLD_GRACE_S",
    "CompactionSettings",
    "Compactor",
    "Outcome",
    "Progress",
    "index_config",
    "sweepable",
]


SWEPT_AT_ONCE = 160
"""Deletes between two looks at the time: 16 side by side, a second where each takes 100 ms."""
AFTER_FOLDS = 0.25
"""Of a run's time, what folds after its first leave for the sweep and for merges: else a backlog of hours would have none of them."""


class Compactor:
    """Compacts the collections of one store. One instance is used by one thread at a time; any number of instances may work at once.

    Args:
        store, clock: where, and time and chance.
        collections: what is known of the collections.
        settings: see there.
        progress: called after each step with its name and what was done so far.
        executor: where threads come from. If it is given, no other thread is made: leases are renewed between jobs only.
        observe: told of the end of each run.
        merge_executor: runs independent merges side by side; ``None``: one after the other.
        sightings: what was seen of other holders of leases; share one between compactors that live for one round each.
        owner: this process in words, for others to read in its leases.
        leases: where its leases are; ``None``: in the store.
        storage_options: what opens the store again in another process, for the heartbeat and for merges.
        time_left: until the work must have ended; what is not expected to end by then is not begun (:mod:`chromalith.compaction.pace`).
    """

    def __init__(
        self,
        store: Store,
        collections: Collections,
        clock: Clock,
        settings: CompactionSettings | None = None,
        *,
        progress: Progress = lambda step, outcome: None,
        executor: NewExecutor = ThreadPoolExecutor,
        observe: Observer = silent,
        merge_executor: Executor | None = None,
        sightings: Sightings | None = None,
        owner: str | None = None,
        leases: LeaseTable | None = None,
        storage_options: Mapping[str, object] | None = None,
        time_left: TimeLeft = forever,
    ) -> None:
        self._store = store
        self._collections = collections
        self._clock = clock
        self._time_left = time_left
        self._settings = settings or CompactionSettings()
        self._progress = progress
        self._observe = together(observe)
        self._pool = executor(16, "chromalith-compact")
        self._parts = FoldedParts.from_store(store)
        self._folded = FoldedWriter(store, clock, self._parts, self._settings.folded_inline_bytes_max)
        self._leasing = Leasing(
            store,
            clock,
            leases or open_leases(store, clock, None, storage_options),
            sightings or Sightings(clock),
            owner,
            enabled=self._settings.lease,
            lease_s=self._settings.lease_s,
            heartbeat=self._settings.heartbeat and executor is ThreadPoolExecutor,
        )
        address = StoreAddress.of(store.url, storage_options)
        self._merges = Merges(
            store,
            clock,
            self._leasing,
            self._settings.merge,
            self._writer,
            merge_executor,
            progress,
            address,
            time_left,
            self._settings.index_threshold,
        )

    def waiting(self) -> list[CollectionId]:
        """The collections that have deltas, folded or not: one LIST for the whole store."""
        found: dict[CollectionId, None] = {}
        for page in self._store.list(layout.DELTA_ROOT):
            for entry in page:
                with suppress(Invalid):  # not written by us: it must not keep the others from being compacted
                    found[layout.parse_delta_key(entry.key)[0]] = None
        self._observe(Looked(len(found)))
        return list(found)

    def run_once(self, cid: CollectionId, *, wait_s: float = 0.0) -> Outcome:
        """Do whatever there is to do for one collection now, and leave to others what they have the lease of.

        Args:
            cid: which.
            wait_s: if somebody has the lease, for how long to find out whether they live; 0: never wait. A dead holder's lease is
                taken over once it was seen unchanged for its lease time, in this call or, with shared sightings, over several.

        Raises:
            NotFound: the collection does not exist, or was deleted.
            Conflict: others published first, again and again: try later.
            Unknown: it can't be told whether a version was published: look before acting.
            Corrupt, Unavailable: from the store.
        """
        outcome = Outcome(cid)
        with observed(self._observe, self._clock, outcome), naming_what_is_whole(self._store, cid):
            self._run_once(cid, wait_s, outcome)
        return outcome

    def _run_once(self, cid: CollectionId, wait_s: float, outcome: Outcome) -> None:
        # A collection that never was, or is gone with its pointer, is NotFound; only of one that exists is a missing pointer Corrupt.
        self._collections.known(cid) or self._collections.get(cid)
        try:
            if self._anything_to_do(cid, outcome):
                self._fold_leased(cid, wait_s, outcome)
        except OutOfTime:
            outcome.out_of_time = True
        self._merges.run(cid, outcome, wait_s)

    # -- fold ----------------------------------------------------------------------------------------------------------

    def _fold_leased(self, cid: CollectionId, wait_s: float, outcome: Outcome) -> None:
        if self._time_left() < START_S:
            raise OutOfTime
        with self._leasing.hold(cid, FOLD, min(wait_s, self._time_left() - START_S)) as right:
            if isinstance(right, HeldBy):
                outcome.held_by = right
            else:
                self._fold_until_done(cid, right, outcome)

    def _fold_until_done(self, cid: CollectionId, right: Right, outcome: Outcome) -> None:
        missing: str | None = None
        for _ in range(RACES_MAX):
            try:
                if self._fold_and_sweep(cid, right, outcome):
                    return
            except Swept as error:  # another compactor was faster
                missing = error.key
                outcome.lost_races += 1
        if missing is not None and missing in read_current(self._store, cid).manifest.objects:
            raise Corrupt(f"what the current version names is missing key={missing}", hint="see `chromalith verify`", key=missing)
        raise Conflict(f"other compactors published first, {RACES_MAX} times collection={cid}", hint="run it again, or let them")

    def _fold_and_sweep(self, cid: CollectionId, right: Right, outcome: Outcome) -> bool:
        """Fold all that was settled when it began; whether it ended (``False``: a race was lost, start again).

        What settles meanwhile is the next run's: where writing never stops, this one would not end, and nothing would be swept or merged.
        Where time is limited, folds after the first leave a part of it for that, too.
        """
        began_us: int | None = None
        time_left, limit_s = self._time_left, self._time_left()
        while True:
            date_us = right.date()
            if date_us is None:  # somebody else is at it; going on would only repeat their work
                outcome.held_by = right.lost_to()
                return True
            listed = list_deltas(self._store, cid)
            current = read_current(self._store, cid)
            outcome.saw(current.manifest)
            folded = Folded(current.manifest, self._parts)
            new = pending(listed, folded, {q.delta for q in current.manifest.quarantined})
            began_us = date_us if began_us is None else began_us
            chosen = settled_prefix(
                new,
                date_us=began_us,
                settle_s=self._store.settle_s,
                deltas_max=self._settings.fold_deltas_max,
                bytes_max=self._settings.fold_bytes_max,
            )
            outcome.left(new)  # until a fold of them is published
            if not chosen:
                self._sweep_folded(current, folded, listed, date_us, outcome)
                return True
            taken = outcome.folded + len(outcome.quarantined)
            try:
                if not self._fold(current, chosen, listed, date_us, right, outcome, time_left):
                    return False
            except OutOfTime:
                self._sweep_folded(current, folded, listed, date_us, outcome)
                raise
            if not math.isinf(limit_s):
                time_left = self._leaving(AFTER_FOLDS * limit_s)
            outcome.left(new[outcome.folded + len(outcome.quarantined) - taken :])  # what it took is a prefix

    def _leaving(self, seconds: float) -> TimeLeft:
        return lambda: self._time_left() - seconds

    def _anything_to_do(self, cid: CollectionId, outcome: Outcome) -> bool:
        listed = list_deltas(self._store, cid)
        outcome.left(sorted(listed))  # all that is known, if the manifest can't be read
        current = read_current(self._store, cid)
        outcome.saw(current.manifest)
        quarantined = {q.delta for q in current.manifest.quarantined}
        outcome.left(pending(listed, current.manifest.folded, quarantined))  # without the older parts, which would be a request
        return any(str(delta.id) not in quarantined for delta in listed)

    def _fold(
        self,
        current: Current,
        chosen: Sequence[Listed],
        listed: Sequence[Listed],
        date_us: int,
        right: Right,
        outcome: Outcome,
        time_left: TimeLeft,
    ) -> bool:
        fitting = that_fit(list(chosen), time_left())
        if not fitting:
            raise OutOfTime
        writer = self._writer(current, right.before_index)
        job = FoldJob(self._store, self._clock, self._pool, writer, self._folded, current, date_us, listed, time_left)
        try:
            result = job.run(fitting)
        except Swept:
            raise
        except NotFound as error:
            raise Swept("a delta was folded and swept by another compactor") from error
        if result is None:
            return True
        published = self._publish_fold(current, result, outcome)
        if published is None:
            return False
        outcome.saw(published)
        outcome.published.append(published.version)
        outcome.folded += result.deltas
        outcome.operations += result.operations
        outcome.quarantined += [(q.delta, q.reason) for q in result.quarantined]
        outcome.bytes_written += result.bytes_written
        self._progress("fold", outcome)
        return True

    def _publish_fold(self, read: Current, result: FoldResult, outcome: Outcome) -> Manifest | None:
        """Publish a finished fold onto the version that it read, or onto a later one that differs in nothing that matters to it.

        Returns it; ``None``: start again from LIST."""
        onto, manifest = read, result.manifest
        for _ in range(RACES_MAX):
            ending = publish(self._store, self._clock, onto, manifest, result.change)
            if isinstance(ending, UnknownEnding):
                raise unknown(manifest, ending, RUN_AGAIN)
            if isinstance(ending, Published):
                return manifest
            outcome.lost_races += 1
            onto = read_current(self._store, manifest.collection)
            added = named_jobs(result.manifest) - named_jobs(read.manifest)
            if isinstance(rebase_fold(added, read.manifest, onto.manifest), StartAgain):
                return None
            manifest = retarget(result.manifest, onto, self._clock)
        return None

    def _sweep_folded(
        self, current: Current, folded: FoldedLookup, listed: Sequence[Listed], date_us: int, outcome: Outcome
    ) -> None:
        """Delete the folded deltas whose grace is over, side by side: they must go as fast as others come.

        A crash here, or the end of the time, leaves some of them: the next run finds them."""
        over = sweepable(current, folded, listed, date_us, self._settings.fold_grace_s)
        keys = [layout.delta_key(current.manifest.collection, delta.id) for delta in over]
        for start in range(0, len(keys), SWEPT_AT_ONCE):
            if self._time_left() <= 0:
                outcome.out_of_time = True
                break
            for _ in self._pool.map(self._store.delete, keys[start : start + SWEPT_AT_ONCE]):
                outcome.swept += 1
        if outcome.swept:
            self._progress("sweep", outcome)

    def _writer(self, current: Current, before_index: Callable[[int], None] = lambda rows: None) -> SegmentWriter:
        cid = current.manifest.collection
        collection = self._collections.known(cid) or self._collections.get(cid)
        return SegmentWriter(
            self._store,
            cid,
            self._clock,
            check_space(collection.space),
            self._settings.index_threshold,
            index_config(collection.configuration, self._settings.index),
            before_index,
        )


def index_config(configuration: Mapping[str, Any], least: IndexConfig) -> IndexConfig:
    """How to build a collection's index: its own HNSW numbers, but at least ``least``."""
    own = configuration.get("hnsw") or {}
    numbers = {name: max(own.get(name) or 0, getattr(least, name)) for name in ("max_neighbors", "ef_construction", "ef_search")}
    return replace(least, **numbers)


def sweepable(
    current: Current, folded: FoldedLookup, listed: Sequence[Listed], date_us: int, grace_s: float
) -> list[Listed]:
    """The listed deltas that were folded by a version published at least ``grace_s`` before ``date_us``. Chooses; deletes nothing.

    ``folded`` is the whole folded set of ``current``. A quarantined delta is not in it, and is never chosen.
    """
    quarantined = {q.delta for q in current.manifest.quarantined}
    asked = [delta for delta in listed if str(delta.id) not in quarantined]
    published = dict(current.manifest.published) | {current.manifest.version: current.pointer.modified_us}
    latest_us = date_us - round(grace_s * 1_000_000)
    result = []
    for delta, run in zip(asked, folded.find_all([delta.id for delta in asked]), strict=True):
        # Version 0 in a run means: longer ago than any grace. A version that is not remembered was published before those that are.
        if run is not None and (run.version == 0 or published.get(run.version, 0) <= latest_us):
            result.append(delta)
    return result

