"""Sweep: delete what no kept version of a collection names. :func:`plan_sweep` chooses, :func:`run_sweep` deletes.

The protocol of a run (``docs/protocol.md`` section 9):

1. Choose, as a dry run does. Nothing is garbage: stop, nothing is written but the object that the store's date is read from.
2. List the tags (T1). Publish a version of kind ``sweep`` with the new boundary and horizon: from here on, a job that read a version
   below the boundary is discarded, and a tag below the horizon does not hold. Lost the race: start again from 1.
3. List the tags again (T2), then the objects, then read the pointer again.
4. Choose again: what neither the chain from the horizon to the current version nor a protected tag names, and what no live job may still
   name (:mod:`chromalith.compaction.garbage`).
5. Delete: manifests first, upward, then the objects that they named. So no manifest is ever there that names what is gone.
6. Forget the released versions that T1 showed.

Without 2 before 3, an object could be listed as unnamed, then be named by a job that is slow to publish, then be deleted. Without
the tags after 2, a tag that was written between could hold a version that is being deleted.

Crash anywhere: what is left is garbage to the next sweep, by the same rules; a version is whole, or has no manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace

from chromalith.clock import Clock
from chromalith.compaction.fork import TAG_KEPT_US, TAG_PURPOSE
from chromalith.compaction.garbage import (
    LEFTOVER_AGE_US,
    Bounds,
    Garbage,
    Kept,
    Reason,
    choose,
)
from chromalith.compaction.next_version import child_of
from chromalith.compaction.pace import TimeLeft, forever
from chromalith.compaction.sweep_eyes import Eyes, Look
from chromalith.coord.pointer import LostRace, UnknownEnding, publish, unknown
from chromalith.coord.store_date import store_date
from chromalith.coord.tags import RELEASED_MAX, Tag, forget_released, protected, release_tag
from chromalith.errors import Bug, Conflict, Corrupt
from chromalith.model.ids import CollectionId
from chromalith.model.invariants import Change
from chromalith.model.manifest import Manifest
from chromalith.model.retention import Retention, boundary_of, horizon_by_age, horizon_by_count
from chromalith.store.cache import Swept
from chromalith.store.port import Entry, Store
from chromalith.threads import NewExecutor

RACES_MAX = 8
THREADS = 16
_DELETES_AHEAD = 1_000  # submitted at once: enough for all threads, little enough to hold
_DELETES_S = 10.0  # for so many: 16 at once, 100 ms each, and half as much again

Progress = Callable[[str, int, int], None]
"""Told a step (``read``, ``delete``), how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep of a collection would do now.

    Attributes:
        collection: which.
        version: the current one.
        boundary, horizon: that it would publish.
        versions: how many versions it keeps, tagged ones included.
        garbage: what it would delete.
        stale_tags: tags of forks that did not end within a day: they are released first.
    """

    collection: CollectionId
    version: int
    boundary: int
    horizon: int
    versions: int
    garbage: tuple[Garbage, ...]
    stale_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What a sweep found, and did if it was to.

    Attributes:
        collection: which; ``None``: what belongs to no collection.
        version: the current version afterwards; ``None`` where there is none.
        boundary, horizon: of that version, or as they would be.
        versions: how many versions are kept.
        published: the version that the sweep published; ``None``: a dry run, or there was nothing to delete.
        garbage: what it deleted, or would.
        deleted: whether it did.
        skipped: what could not be looked at, and why.
        out_of_time: whether something was left because the time was over; what was not deleted is garbage to the next sweep.
    """

    collection: CollectionId | None
    version: int | None = None
    boundary: int | None = None
    horizon: int | None = None
    versions: int = 0
    published: int | None = None
    garbage: tuple[Garbage, ...] = ()
    deleted: bool = False
    skipped: tuple[str, ...] = ()
    out_of_time: bool = False


class Sweep:
    """One sweep of one collection: what it has read is kept, so that no manifest is read twice.

    Args:
        store, clock: where, and chance.
        cid: the collection.
        retention: what is kept.
        pool: for reading manifests and deleting side by side.
        progress: see :data:`Progress`.
        time_left: until it must have ended, seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        cid: CollectionId,
        retention: Retention,
        pool: Executor,
        progress: Progress = lambda step, done, total: None,
        time_left: TimeLeft = forever,
    ) -> None:
        self._store = store
        self._clock = clock
        self._cid = cid
        self._retention = retention
        self._pool = pool
        self._progress = progress
        self._time_left = time_left
        self._eyes = Eyes(store, cid, pool, lambda done, total: progress("read", done, total))

    # -- choosing ------------------------------------------------------------------------------------------------------

    def plan(self, date_us: int, entries: Sequence[Entry] | None = None) -> SweepPlan:
        """What there is to do at the store's date. Writes nothing.

        ``entries``: the collection's objects under segments, snapshots, folded parts and quarantine, if they are listed already.
        """
        for _ in range(RACES_MAX):
            try:
                return self._plan(self._eyes.look(entries), date_us)
            except Swept:  # by another sweep, meanwhile
                entries = None
        raise self._overtaken()

    def _plan(self, look: Look, date_us: int) -> SweepPlan:
        parent = look.current.manifest
        horizon = self._horizon(look, date_us)
        boundary = max(
            parent.boundary,
            boundary_of(look.published_us, date_us, self._retention.job_grace_s, parent.version + 1),
        )
        stale = [tag for tag, us in look.tags if _is_stale(tag, us, date_us)]
        tags = [tag for tag, _ in look.tags if tag not in stale]
        kept = self._kept(look, horizon, tags, tags)
        bounds = Bounds(boundary, horizon, parent.version, date_us - LEFTOVER_AGE_US)
        garbage = choose(look.entries, kept, bounds, self._eyes.stock(look.entries))
        names = tuple(tag.name for tag in stale)
        return SweepPlan(self._cid, parent.version, boundary, horizon, len(kept.manifests), tuple(garbage), names)

    def _horizon(self, look: Look, date_us: int) -> int:
        """The lowest version to keep. Reads the manifests from there on, and no other."""
        lowest = look.current.manifest.horizon
        by_age = max(lowest, horizon_by_age(look.published_us, date_us, self._retention.keep_age_s))
        floor = by_age
        while True:
            chain = self._eyes.chain(look, floor)
            by_count = horizon_by_count([(each.version, each.kind) for each in chain], self._retention.keep_versions)
            if by_count is not None:
                return min(by_age, by_count)
            if floor == lowest:
                return lowest
            floor = max(lowest, floor - self._retention.keep_versions + sum(each.kind != "sweep" for each in chain))

    def _kept(self, look: Look, horizon: int, before: Sequence[Tag], after: Sequence[Tag]) -> Kept:
        footprints = {each.key: each for each in self._eyes.chain(look, horizon)}
        held = {tag.manifest for tag in after if tag.held}
        for key in sorted(protected(before, after) - footprints.keys()):
            try:
                footprints[key] = self._eyes.read(key)
            except Swept as error:
                if key not in held:
                    continue  # a tag that was too late to hold anything
                self._check_still_held(key, error)
        return Kept.of(list(footprints.values()))

    def _check_still_held(self, key: str, missing: Swept) -> None:
        if any(tag.held and tag.manifest == key for tag, _ in self._eyes.tags()):
            raise Corrupt(
                f"I5 broken: a tagged version is missing key={key}",
                hint="nothing was deleted; `chromalith snapshot untag` it, or restore the object from the bucket's versions",
            ) from missing
        raise missing  # released, and swept by another sweep

    # -- deleting ------------------------------------------------------------------------------------------------------

    def run(self) -> SweepOutcome:
        """Publish, choose again, delete. Raises as :func:`run_sweep`."""
        for _ in range(RACES_MAX):
            try:
                outcome = self._run_once(store_date(self._store, self._cid, self._clock))
            except Swept:
                continue
            if outcome is not None:
                return outcome
        raise self._overtaken()

    def _run_once(self, date_us: int) -> SweepOutcome | None:
        """``None``: somebody else published first."""
        look = self._eyes.look()
        plan = self._plan(look, date_us)
        before = [tag for tag, _ in look.tags]
        if not plan.garbage and not plan.stale_tags and all(len(tag.released) < RELEASED_MAX // 2 for tag in before):
            return SweepOutcome(self._cid, plan.version, plan.boundary, plan.horizon, plan.versions)
        for name in plan.stale_tags:
            release_tag(self._store, self._clock, self._cid, name)
        if plan.stale_tags:
            before = [tag for tag, _ in self._eyes.tags()]
        parent = look.current
        own = child_of(parent, self._clock, "sweep", max(date_us, parent.manifest.created_us), None)
        own = replace(own, boundary=plan.boundary, horizon=plan.horizon)
        ending = publish(self._store, self._clock, parent, own, Change())
        if isinstance(ending, UnknownEnding):
            raise unknown(own, ending, "nothing was deleted; run it again")
        if isinstance(ending, LostRace):
            return None
        self._eyes.remember(own)
        look = self._eyes.look()
        after = [tag for tag, _ in look.tags]
        kept = self._kept(look, own.horizon, before, after)
        bounds = Bounds(own.boundary, own.horizon, own.version, date_us - LEFTOVER_AGE_US)
        garbage = choose(look.entries, kept, bounds, self._eyes.stock(look.entries))
        self._check_current(look.current.manifest, garbage)
        ended = delete_all(self._store, garbage, self._pool, self._progress, self._time_left)
        if ended:
            forget_released(self._store, self._clock, self._cid, before)
        return SweepOutcome(
            self._cid,
            look.current.manifest.version,
            own.boundary,
            own.horizon,
            len(kept.manifests),
            own.version,
            tuple(garbage),
            deleted=True,
            out_of_time=not ended,
        )

    def _check_current(self, current: Manifest, garbage: Sequence[Garbage]) -> None:
        wrong = ({current.key} | current.objects.keys()) & {each.key for each in garbage}
        if wrong:
            raise Bug(f"I5 would break: the sweep chose what the current version names key={min(wrong)}", hint="please report this")

    def _overtaken(self) -> Conflict:
        return Conflict(f"others published first, {RACES_MAX} times collection={self._cid}", hint="run it again, or let them")


def plan_sweep(
    store: Store,
    clock: Clock,
    cid: CollectionId,
    retention: Retention,
    *,
    executor: NewExecutor = ThreadPoolExecutor,
    progress: Progress = lambda step, done, total: None,
) -> SweepPlan:
    """What a sweep of this collection would delete now, and why. A dry run: it writes nothing, so it dates by this machine's clock.

    Raises ``NotFound`` (no such collection), ``Corrupt`` (a kept manifest can't be read: what it names is not known), ``Conflict``.
    """
    with executor(THREADS, "chromalith-sweep") as pool:
        return Sweep(store, clock, cid, retention, pool, progress).plan(clock.now_us())


def dry_run(
    store: Store,
    clock: Clock,
    cid: CollectionId,
    retention: Retention,
    *,
    executor: NewExecutor = ThreadPoolExecutor,
    progress: Progress = lambda step, done, total: None,
) -> SweepOutcome:
    """As :func:`plan_sweep`, in the form of an outcome."""
    plan = plan_sweep(store, clock, cid, retention, executor=executor, progress=progress)
    return SweepOutcome(cid, plan.version, plan.boundary, plan.horizon, plan.versions, garbage=plan.garbage)


def run_sweep(
    store: Store,
    clock: Clock,
    cid: CollectionId,
    retention: Retention,
    *,
    executor: NewExecutor = ThreadPoolExecutor,
    progress: Progress = lambda step, done, total: None,
    time_left: TimeLeft = forever,
) -> SweepOutcome:
    """Sweep a collection. Any number of sweeps may run at once, beside everything else.

    Raises:
        NotFound: no such collection.
        Conflict: others published first, again and again.
        Unknown: it can't be told whether the sweep's version was published; nothing was deleted.
        Corrupt: a kept manifest can't be read: what it names is not known, so nothing is deleted.
    """
    with executor(THREADS, "chromalith-sweep") as pool:
        return Sweep(store, clock, cid, retention, pool, progress, time_left).run()


def delete_all(
    store: Store, garbage: Sequence[Garbage], pool: Executor, progress: Progress, time_left: TimeLeft = forever
) -> bool:
    """Delete manifests, then the rest, side by side. A crash, or the end of the time, leaves some of them: the next sweep finds them.

    Returns whether all were deleted.
    """
    roots = [each.key for each in garbage if each.reason in (Reason.VERSION, Reason.RIVAL)]
    rest = [each.key for each in garbage if each.reason not in (Reason.VERSION, Reason.RIVAL)]
    done = 0
    for keys in (roots, rest):
        for start in range(0, len(keys), _DELETES_AHEAD):
            if time_left() < _DELETES_S:
                return False
            for _ in pool.map(store.delete, keys[start : start + _DELETES_AHEAD]):
                done += 1
                progress("delete", done, len(garbage))
    return True


def _is_stale(tag: Tag, modified_us: int, date_us: int) -> bool:
    """Whether it is the tag of a fork that crashed."""
    return tag.purpose == TAG_PURPOSE and tag.manifest is not None and modified_us <= date_us - TAG_KEPT_US
