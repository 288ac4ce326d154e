"""The merges of one collection, until the policy is content. Independent groups can run side by side, on any executor.

1. Read the current version; plan. Nothing to merge: no lease is taken, nothing is written.
2. Under the merge lease: write each group's output. One after the other, planned anew each time; or, with an executor, all groups of a
   plan at once. In threads they share this store. Any other executor gets a :class:`MergeOrder`, which can be sent to another process or
   machine, and opens the store there.
3. Publish each when it is done; whoever comes later rebases onto the earlier ones.

Who publishes is always the process that planned. A worker that dies leaves an orphan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.leasing import MERGE, Leasing, Right
from chromalith.compaction.merge_job import Merged, rebase, write_merge
from chromalith.compaction.outcome import Outcome, Progress
from chromalith.compaction.pace import MERGE_SHARE, TimeLeft, forever, merge_s
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.coord.lease import HeldBy
from chromalith.coord.pointer import Current, Published, UnknownEnding, publish, read_current, read_manifest, unknown
from chromalith.engine.index import INDEX_THRESHOLD, IndexConfig
from chromalith.engine.space import Space
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.plan import MergePolicy, plan_merges
from chromalith.store.address import StoreAddress
from chromalith.store.cache import Swept
from chromalith.store.port import Store
from chromalith.store.url import open_store

RACES_MAX = 8
RUN_AGAIN = "run it again: it looks first, and folds nothing twice"
"""What to do when it is not known whether a fold or merge was published."""


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """One merge, as it is sent to another process.

    Attributes:
        url, storage_options: of the store; the options may hold credentials, and are not shown.
        manifest_key: the version to read.
        positions: of its segments, which to merge.
        space, index_threshold, index_config: as of :class:`~chromalith.compaction.segment_writer.SegmentWriter`.
    """

    url: str
    manifest_key: str
    positions: tuple[int, ...]
    space: Space
    index_threshold: int
    index_config: IndexConfig
    storage_options: Mapping[str, object] = field(default_factory=dict, repr=False)


def run_order(order: MergeOrder) -> Merged:
    """Do what the order says, in whatever process this is. Raises ``Swept``, ``Corrupt``, ``Unavailable``."""
    store = open_store(order.url, storage_options=order.storage_options, clock=SYSTEM_CLOCK)
    manifest = read_manifest(store, order.manifest_key)
    writer = SegmentWriter(
        store, manifest.collection, SYSTEM_CLOCK, order.space, order.index_threshold, order.index_config
    )
    return write_merge(store, writer, manifest, order.positions)


@dataclass(frozen=True, slots=True)
class Merges:
    """Merges the segments of collections.

    Attributes:
        store, clock: where, and time and chance.
        leasing: how the merge lease is taken.
        policy: what to merge.
        writer: how segments are written: of a version, given what to call before an index is built.
        executor: runs the groups of a plan side by side; ``None``: one after the other.
        progress: called after each merge.
        address: opens the store in the executor's processes; ``None``: merges run in threads of it.
        time_left: see :class:`~chromalith.compaction.compactor.Compactor`.
        index_threshold: rows at which a segment gets an index, which takes most of a merge's time.
    """

    store: Store
    clock: Clock
    leasing: Leasing
    policy: MergePolicy
    writer: Callable[[Current, Callable[[int], None]], SegmentWriter]
    executor: Executor | None
    progress: Progress
    address: StoreAddress | None = None
    time_left: TimeLeft = forever
    index_threshold: int = INDEX_THRESHOLD

    def run(self, cid: CollectionId, outcome: Outcome, wait_s: float) -> None:
        """Merge what the policy says, if nobody else does. ``wait_s``: for how long to find out whether the lease's holder lives."""
        manifest = read_current(self.store, cid).manifest
        outcome.saw(manifest)
        if not self._plan(manifest, outcome):
            return
        with self.leasing.hold(cid, MERGE, min(wait_s, self.time_left())) as right:
            if isinstance(right, HeldBy):
                outcome.held_by = outcome.held_by or right
                return
            while True:
                current = read_current(self.store, cid)
                groups = self._plan(current.manifest, outcome)
                if not groups or not self._round(current, groups, right, outcome):
                    return

    def _plan(self, manifest: Manifest, outcome: Outcome) -> list[list[int]]:
        """What to merge of a version, as far as there is time for it."""
        groups = plan_merges(manifest.segments, self.policy)
        left_s = self.time_left()
        if math.isinf(left_s):
            return groups
        fitting = [
            group
            for group in groups
            if merge_s([manifest.segments[position] for position in group], manifest.dimension, self.index_threshold)
            <= MERGE_SHARE * left_s
        ]
        outcome.merges_left = len(fitting) < len(groups)
        return fitting

    def _round(self, current: Current, groups: Sequence[Sequence[int]], right: Right, outcome: Outcome) -> bool:
        """Write and publish groups of one plan; whether any was published, so that planning again makes sense."""
        writer = self.writer(current, right.before_index)
        done = False
        with _overtaken(outcome):
            for merged in self._written(current, groups, writer, right, outcome):
                with _overtaken(outcome):
                    done |= self._publish(merged, writer, right, outcome)
        return done

    def _written(
        self, current: Current, groups: Sequence[Sequence[int]], writer: SegmentWriter, right: Right, outcome: Outcome
    ) -> Iterator[Merged]:
        if self.executor is None:
            yield write_merge(self.store, writer, current.manifest, groups[0])
            return
        right.before_index(sum(current.manifest.segments[position].live for group in groups for position in group))
        jobs = [self._submit(self.executor, current, group, writer) for group in groups]
        try:
            for job in as_completed(jobs):
                with _overtaken(outcome):  # that group only
                    yield job.result()
        finally:
            for job in jobs:
                job.cancel()
            wait(jobs)  # nothing goes on behind the caller's back

    def _submit(self, executor: Executor, current: Current, group: Sequence[int], writer: SegmentWriter) -> Future[Merged]:
        address = self.address
        if address is None or isinstance(executor, ThreadPoolExecutor):
            return executor.submit(write_merge, self.store, writer, current.manifest, group)
        order = MergeOrder(
            address.url,
            current.manifest.key,
            tuple(group),
            writer.space,
            writer.index_threshold,
            writer.index_config,
            address.storage_options,
        )
        return executor.submit(run_order, order)

    def _publish(self, merged: Merged, writer: SegmentWriter, right: Right, outcome: Outcome) -> bool:
        """Publish a written merge onto whatever is current; ``False``: it was abandoned. A lost lease does not stop it: it is done."""
        date_us = right.date() or self.leasing.date(writer.cid)
        for _ in range(RACES_MAX):
            current = read_current(self.store, writer.cid)
            rebased = rebase(self.store, self.clock, writer, merged, current, date_us)
            if rebased is None:
                outcome.lost_races += 1
                return False
            manifest, change = rebased
            ending = publish(self.store, self.clock, current, manifest, change)
            if isinstance(ending, UnknownEnding):
                raise unknown(manifest, ending, RUN_AGAIN)
            if isinstance(ending, Published):
                outcome.saw(manifest)
                outcome.published.append(manifest.version)
                outcome.merged += len(merged.inputs)
                outcome.bytes_written += merged.output.bytes if merged.output is not None else 0
                self.progress("merge", outcome)
                return True
            outcome.lost_races += 1
        return False


@contextmanager
def _overtaken(outcome: Outcome) -> Iterator[None]:
    """Give up what needs an object that is gone: another compactor was faster."""
    try:
        yield
    except Swept:
        outcome.lost_races += 1
