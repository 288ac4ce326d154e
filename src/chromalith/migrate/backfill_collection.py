"""The copy of one collection: its ids, its chunks side by side, and at the end what the target has too much."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chromalith.errors import ChromalithError, Unavailable, Unknown
from chromalith.migrate.backfill_checks import Refused, is_limited, look_for_rejects
from chromalith.migrate.backfill_chunk import Chunk, ChunkCopier, KnownIds, Rejected
from chromalith.migrate.backfill_ids import Counts, IdPlan, IdStore, Reject
from chromalith.migrate.backfill_meter import Meter
from chromalith.migrate.backfill_turns import Turns
from chromalith.migrate.backfill_watch import Ended, Watch
from chromalith.migrate.equal import NOTHING, Applied
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender
from chromalith.migrate.port import Limits, SideCollection
from chromalith.migrate.states import States
from chromalith.migrate.throttle import Throttle
from chromalith.threads import NewExecutor

CHUNK_ROWS = 5_000
"""Few, because each is an object at a Chromalith target until it is folded."""
CHUNK_BYTES = 24 * 2**20
"""Of embeddings."""
ATTEMPTS = 8
BACKOFF_S = 0.5
BACKOFF_MAX_S = 20.0
MARK_S = 2.0
"""How often progress is written down. What is copied in between is compared once more after a crash."""
LIMITS_LOOK = "limits"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every collection of one backfill needs."""

    journal: Journal
    states: States
    mender: Mender
    throttle: Throttle
    watch: Watch
    executor: NewExecutor
    run: str
    workers: int
    ordered: bool
    skip_rejects: bool
    chunk_rows: int


def chunk_rows(wanted: int, source: SideCollection, target: Limits) -> int:
    """Records of one chunk: as many as wanted, as fit one write, and as fit in memory several times."""
    by_bytes = CHUNK_BYTES // (4 * (source.dimension or 1))
    return max(1, min(wanted, target.records_per_write, by_bytes))


class CollectionCopy:
    """Copies one collection. Use it once.

    Args:
        tools: of the backfill.
        ids: its objects in the migration's store.
        source, target: the collection on both sides.
        limits: of the target.
        meter: told of the records that are over.
    """

    def __init__(
        self,
        tools: Tools,
        ids: IdStore,
        source: SideCollection,
        target: SideCollection,
        limits: Limits,
        meter: Meter,
    ) -> None:
        self._tools = tools
        self._ids = ids
        self._source = source
        self._target = target
        self._limits = limits
        self._meter = meter
        self._clock = tools.journal.place.clock
        self._lock = threading.Lock()
        self._unmarked: dict[int, Counts] = {}
        self._marked_s = self._clock.monotonic_s()

    def prepare(self) -> IdPlan | None:
        """Take the ids of both sides, if that was not done before; ``None`` if it was done of other collections. Raises as a read.

        The target's first: what a client adds goes to the source first, so that it can't look like too much."""
        pair = f"{self._source.id} {self._target.id}"
        plan = self._ids.plan()
        if plan is None:
            rows = chunk_rows(self._tools.chunk_rows, self._source, self._limits)
            there = self._target.ids() if self._target.count() else []
            plan = self._ids.make(self._source.ids(), rows, there, pair)
        return plan if plan.pair == pair else None

    def look(self, plan: IdPlan) -> list[Reject]:
        """The records that the target does not take, found before anything is written; looked for once. Raises as a read."""
        if not is_limited(self._limits):
            return []
        found = self._ids.rejects(LIMITS_LOOK)
        if found is None:
            found = []
            for chunk in range(plan.chunks):
                ids = self._ids.ids(plan, chunk)
                found += look_for_rejects(self._source, ids, self._limits, self._tools.throttle)
            if self._tools.skip_rejects:  # else the source will be corrected, and must be looked at again
                self._ids.keep_rejects(LIMITS_LOOK, found)
        return found

    def copy(self, plan: IdPlan, left_out: frozenset[str]) -> None:
        """Copy what is not marked as copied. Raises what stops it; what is copied stays so."""
        done = self._ids.done()
        self._meter.already(self._source.name, sum(plan.rows(chunk) for chunk in done.chunks if chunk < plan.chunks))
        chunks = [chunk for chunk in range(plan.chunks) if chunk not in done.chunks]
        if not chunks:
            return
        known = KnownIds(self._ids.there(plan))
        tools = self._tools
        copier = ChunkCopier(
            tools.journal,
            tools.states,
            tools.mender,
            self._source,
            self._target,
            tools.throttle,
            tools.run,
            known,
            left_out,
            skip_rejects=tools.skip_rejects,
        )
        turns = Turns(chunks, tools.watch.tick, ordered=tools.ordered)
        rest = iter(chunks)

        def work() -> None:
            try:
                while (chunk := self._next(rest)) is not None:
                    self._one(copier, plan, chunk, turns)
            except BaseException:
                tools.watch.stop.set()
                raise

        try:
            self._side_by_side(work, min(tools.workers, len(chunks)))
        except (Exception, KeyboardInterrupt):
            with suppress(ChromalithError):
                self._flush()
            raise
        self._flush()

    def finish(self, plan: IdPlan) -> Applied:
        """Remove what the target had before, and the source does not have: left from an earlier attempt. Raises as a write.

        Only that can be too much: everything else at the target was copied here, or written by a client under its own entry. So the
        target isn't listed again, which would be reading all of what was copied."""
        there = self._ids.there(plan)
        if not there:
            return NOTHING
        here = KnownIds(self._source.ids())
        known = here.among(there)
        extra = [record_id for record_id in there if record_id not in known]
        mended = self._tools.mender.mend(self._source.name, extra) if extra else None
        if mended is not None and mended.left:
            raise Unavailable(
                f"records could not be removed collection={self._source.name!r} records={len(mended.left)}"
                f" first={sorted(mended.left)[0]!r}",
                hint="; ".join(mended.reasons)[:500],
            )
        return NOTHING if mended is None else mended.applied

    def _one(self, copier: ChunkCopier, plan: IdPlan, chunk: int, turns: Turns) -> None:
        """One chunk, and a note of it."""
        ids = self._ids.ids(plan, chunk)
        try:
            found = self._tried(lambda: copier.copy(chunk, ids, turns))
        except Rejected as error:
            self._ids.keep_rejects(f"{chunk:08d}", error.rejects)
            raise Refused(error.rejects) from error
        if found.rejects:
            self._ids.keep_rejects(f"{chunk:08d}", found.rejects)
        self._mark(chunk, found)
        self._meter.add(len(ids))

    def _tried(self, act: Callable[[], Chunk]) -> Chunk:
        """``act``, again while that may help."""
        for attempt in range(ATTEMPTS - 1):
            self._tools.watch.tick()
            try:
                return act()
            except (Unavailable, Unknown):
                self._wait(min(BACKOFF_MAX_S, BACKOFF_S * 2**attempt))
        return act()

    def _wait(self, seconds: float) -> None:
        stop_s = self._clock.monotonic_s() + self._clock.uniform(seconds / 2, seconds)
        while (left_s := stop_s - self._clock.monotonic_s()) > 0:
            self._clock.sleep(min(1.0, left_s))
            self._tools.watch.tick()

    def _mark(self, chunk: int, found: Chunk) -> None:
        with self._lock:
            self._unmarked[chunk] = found.counts
            if self._clock.monotonic_s() - self._marked_s < MARK_S:
                return
            self._marked_s = self._clock.monotonic_s()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            unmarked, self._unmarked = self._unmarked, {}
        try:
            self._ids.mark(unmarked)
        except ChromalithError:
            with self._lock:
                self._unmarked = unmarked | self._unmarked
            raise

    def _next(self, rest: Iterator[int]) -> int | None:
        with self._lock:
            return next(rest, None)

    def _side_by_side(self, work: Callable[[], None], workers: int) -> None:
        """``work`` in several threads, until all have ended; the first failure stops the others, and is raised."""
        pool = self._tools.executor(workers, "chromalith-backfill")
        try:
            futures = [pool.submit(work) for _ in range(workers)]
            failures = [error for future in futures if (error := future.exception()) is not None]
        except BaseException:  # a person interrupts
            self._tools.watch.stop.set()
            raise
        finally:
            pool.shutdown(wait=True)
        if failures:
            raise _worst(failures)


def _worst(failures: Sequence[BaseException]) -> BaseException:
    """Not that a thread ended because another had failed."""
    return next((error for error in failures if not isinstance(error, Ended)), failures[0])
