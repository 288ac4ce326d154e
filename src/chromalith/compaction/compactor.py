"""The compactor: folds deltas, sweeps what was folded, merges segments. One visible loop; the protocol of DESIGN §5.

``run_once`` for one collection:

1. List the deltas, read the pointer and its manifest. Nothing listed that is new, nothing to sweep, nothing to merge: idle, after
   one LIST and two GETs, and nothing is written.
2. Write the lease object and read its timestamp back: the store's date. *Then* list and read again: a fold must take only deltas that were
   settled (``settle_s``) at that date, and must take a prefix of the order.
3. Fold them into a new version, and publish it. Lost the race: start again from 2 (what was folded may have been folded by the winner).
   The ending is unknown: stop, and say so.
4. Prompt sweep: delete the deltas whose fold was published more than the grace ago, by the store's clock. A reader that listed
   one of them just before has had that long to read the pointer.
5. Merge what the policy says; a merge that lost the race rebases.

Crash anywhere: objects that nothing names. Two compactors at once: one of them publishes, the other starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from chromalith.clock import Clock
from chromalith.compaction.fold_job import FoldJob
from chromalith.compaction.merge_job import Merged, rebase, write_merge
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.coord.collections import Collections
from chromalith.coord.lease import announce
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import Current, LostRace, Published, UnknownEnding, publish, read_current
from chromalith.engine.index import INDEX_THRESHOLD, IndexConfig
from chromalith.engine.space import check_space
from chromalith.errors import Conflict, Invalid, NotFound, Unknown
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.order import Listed, pending, settled_prefix
from chromalith.model.plan import MergePolicy, plan_merges
from chromalith.store.cache import Swept
from chromalith.store.port import Store

FOLD_GRACE_S = 60.0
RACES_MAX = 8


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """The compactor's numbers.

    Attributes:
        index_threshold: rows at which a segment gets an index.
        index: how it is built.
        merge: the merge policy.
        fold_deltas_max, fold_bytes_max: how much one fold takes: 512 MiB of deltas are about 2 GiB of working memory.
        fold_grace_s: how long after its fold a delta stays. Readers rely on 60 s (:mod:`chromalith.read.reader`); tests shorten it.
    """

    index_threshold: int = INDEX_THRESHOLD
    index: IndexConfig = IndexConfig()
    merge: MergePolicy = MergePolicy()
    fold_deltas_max: int = 10_000
    fold_bytes_max: int = 512 * 2**20
    fold_grace_s: float = FOLD_GRACE_S


@dataclass(slots=True)
class Outcome:
    """What a run did to one collection.

    Attributes:
        collection: which.
        version: the current version afterwards.
        folded, operations: deltas folded, and operations in them.
        merged: segments that went into merges.
        swept: folded deltas deleted.
        quarantined: deltas set aside as corrupt, with the reason.
        bytes_written: segments, indexes and deletes.
        waiting: deltas that were listed and are not folded yet.
        published: the versions that were published.
    """

    collection: CollectionId
    version: int = 0
    folded: int = 0
    operations: int = 0
    merged: int = 0
    swept: int = 0
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    bytes_written: int = 0
    waiting: int = 0
    published: list[int] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not self.published and not self.swept


Progress = Callable[[str, Outcome], None]


class Compactor:
    """Compacts the collections of one store. One instance is used by one thread at a time; any number of instances may work at once.

    Args:
        store, clock: where, and time and chance.
        collections: what is known of the collections.
        settings: see there.
        progress: called after each step with its name and what was done so far.
    """

    def __init__(
        self,
        store: Store,
        collections: Collections,
        clock: Clock,
        settings: CompactionSettings | None = None,
        *,
        progress: Progress = lambda step, outcome: None,
    ) -> None:
        self._store = store
        self._collections = collections
        self._clock = clock
        self._settings = settings or CompactionSettings()
        self._progress = progress
        self._owner = clock.random_hex(16)
        self._pool = ThreadPoolExecutor(16, "chromalith-compact")

    def waiting(self) -> list[CollectionId]:
        """The collections that have deltas, folded or not: one LIST for the whole store."""
        found: dict[CollectionId, None] = {}
        for page in self._store.list(layout.DELTA_ROOT):
            for entry in page:
                with suppress(Invalid):  # not written by us: it must not keep the others from being compacted
                    found[layout.parse_delta_key(entry.key)[0]] = None
        return list(found)

    def run_once(self, cid: CollectionId) -> Outcome:
        """Do whatever there is to do for one collection now.

        Raises:
            NotFound: the collection does not exist, or was deleted.
            Conflict: others published first, again and again: try later.
            Unknown: it can't be told whether a version was published: look before acting.
            Corrupt, Unavailable: from the store.
        """
        outcome = Outcome(cid)
        # A collection that never was, or is gone with its pointer, is NotFound; only of one that exists is a missing pointer Corrupt.
        self._collections.known(cid) or self._collections.get(cid)
        for _ in range(RACES_MAX):
            try:
                ended = self._fold_and_sweep(cid, outcome)
            except Swept:
                continue  # another compactor was faster
            if ended:
                self._merge(cid, outcome)
                return outcome
        raise Conflict(f"other compactors published first, {RACES_MAX} times collection={cid}", hint="run it again, or let them")

    # -- fold ----------------------------------------------------------------------------------------------------------

    def _fold_and_sweep(self, cid: CollectionId, outcome: Outcome) -> bool:
        """Fold all that is settled; whether it ended (``False``: a race was lost, start again)."""
        if not self._anything_to_do(cid, outcome):
            return True
        while True:
            date_us = announce(self._store, cid, self._owner, self._clock)
            listed = list_deltas(self._store, cid)
            current = read_current(self._store, cid)
            outcome.version = current.manifest.version
            new = _unfolded(listed, current.manifest)
            chosen = settled_prefix(
                new,
                date_us=date_us,
                settle_s=self._store.settle_s,
                deltas_max=self._settings.fold_deltas_max,
                bytes_max=self._settings.fold_bytes_max,
            )
            outcome.waiting = len(new) - len(chosen)
            if not chosen:
                self._sweep_folded(cid, current, listed, date_us, outcome)
                return True
            if not self._fold(current, chosen, listed, date_us, outcome):
                return False

    def _anything_to_do(self, cid: CollectionId, outcome: Outcome) -> bool:
        listed = list_deltas(self._store, cid)
        current = read_current(self._store, cid)
        outcome.version = current.manifest.version
        quarantined = {q.delta for q in current.manifest.quarantined}
        return any(str(delta.id) not in quarantined for delta in listed)

    def _fold(
        self, current: Current, chosen: Sequence[Listed], listed: Sequence[Listed], date_us: int, outcome: Outcome
    ) -> bool:
        job = FoldJob(self._store, self._clock, self._pool, self._writer(current), current, date_us, listed)
        try:
            result = job.run(chosen)
        except NotFound as error:
            raise Swept("a delta was folded and swept by another compactor") from error
        if result is None:
            return True
        ending = publish(self._store, self._clock, current, result.manifest, result.change)
        if isinstance(ending, UnknownEnding):
            raise _unknown(result.manifest, ending)
        if isinstance(ending, LostRace):
            return False
        outcome.version = result.manifest.version
        outcome.published.append(result.manifest.version)
        outcome.folded += result.deltas
        outcome.operations += result.operations
        outcome.quarantined += [(q.delta, q.reason) for q in result.quarantined]
        outcome.bytes_written += result.bytes_written
        self._progress("fold", outcome)
        return True

    def _sweep_folded(
        self, cid: CollectionId, current: Current, listed: Sequence[Listed], date_us: int, outcome: Outcome
    ) -> None:
        """Delete the folded deltas whose grace is over. A crash here leaves some of them: the next run finds them."""
        for delta in sweepable(current, listed, date_us, self._settings.fold_grace_s):
            self._store.delete(layout.delta_key(cid, delta.id))
            outcome.swept += 1
        if outcome.swept:
            self._progress("sweep", outcome)

    # -- merge ---------------------------------------------------------------------------------------------------------

    def _merge(self, cid: CollectionId, outcome: Outcome) -> None:
        """Merge until the policy is content."""
        while True:
            current = read_current(self._store, cid)
            groups = plan_merges(current.manifest.segments, self._settings.merge)
            if not groups:
                return
            date_us = announce(self._store, cid, self._owner, self._clock)
            writer = self._writer(current)
            try:
                merged = write_merge(self._store, writer, current.manifest, groups[0])
                if not self._publish_merge(cid, merged, writer, date_us, outcome):
                    return
            except Swept:
                return  # another compactor was faster

    def _publish_merge(
        self, cid: CollectionId, merged: Merged, writer: SegmentWriter, date_us: int, outcome: Outcome
    ) -> bool:
        for _ in range(RACES_MAX):
            current = read_current(self._store, cid)
            rebased = rebase(self._store, self._clock, writer, merged, current, date_us)
            if rebased is None:
                return False
            manifest, change = rebased
            ending = publish(self._store, self._clock, current, manifest, change)
            if isinstance(ending, UnknownEnding):
                raise _unknown(manifest, ending)
            if isinstance(ending, Published):
                outcome.version = manifest.version
                outcome.published.append(manifest.version)
                outcome.merged += len(merged.inputs)
                outcome.bytes_written += merged.output.bytes if merged.output is not None else 0
                self._progress("merge", outcome)
                return True
        return False

    def _writer(self, current: Current) -> SegmentWriter:
        cid = current.manifest.collection
        collection = self._collections.known(cid) or self._collections.get(cid)
        return SegmentWriter(
            self._store,
            cid,
            self._clock,
            check_space(collection.space),
            self._settings.index_threshold,
            index_config(collection.configuration, self._settings.index),
        )


def index_config(configuration: Mapping[str, Any], least: IndexConfig) -> IndexConfig:
    """How to build a collection's index: its own HNSW numbers, but at least ``least``."""
    own = configuration.get("hnsw") or {}
    numbers = {name: max(own.get(name) or 0, getattr(least, name)) for name in ("max_neighbors", "ef_construction", "ef_search")}
    return replace(least, **numbers)


def _unfolded(listed: Sequence[Listed], manifest: Manifest) -> list[Listed]:
    return pending(listed, manifest.folded, {q.delta for q in manifest.quarantined})


def sweepable(current: Current, listed: Sequence[Listed], date_us: int, grace_s: float) -> list[Listed]:
    """The listed deltas that were folded by a version published at least ``grace_s`` before ``date_us``. Chooses; deletes nothing."""
    published = dict(current.manifest.published) | {current.manifest.version: current.pointer.modified_us}
    latest_us = date_us - round(grace_s * 1_000_000)
    result = []
    for delta in listed:
        run = current.manifest.folded.find(delta.id)
        # Version 0 in a run means: longer ago than any grace. A version that is not remembered was published before those that are.
        if run is not None and (run.version == 0 or published.get(run.version, 0) <= latest_us):
            result.append(delta)
    return result


def _unknown(manifest: Manifest, ending: UnknownEnding) -> Unknown:
    return Unknown(
        f"it can't be told whether a version was published collection={manifest.collection} version={manifest.version}: {ending.reason}",
        hint="run it again: it looks first, and folds nothing twice",
    )
