"""Restore: make the records of an older version current again, as a new version. Nothing that was acknowledged is lost by it.

1. Take the store's date, list the deltas, *then* read the pointer and its manifest.
2. Look up the version that is restored: it must not be below that manifest's horizon, or a tag must hold it that is read *after* the
   pointer (:mod:`chromalith.coord.tags` says why). Choose what is *set aside*: every listed delta that the current records show and the
   restored ones will not, the pending ones among them.
3. Copy these, in the protocol's order, to ``quarantine/<collection>/aside/<restore>/``.
4. Publish the version: segments, deletes and checksums are the restored version's; the folded set, the sequence numbers, the boundary
   and the horizon are the current ones. The pending deltas enter the folded set as *set aside*: no overlay shows them, no fold takes
   them, and the prompt sweep deletes their objects; the copies stay until they are dropped on purpose.
5. Lost the race: start again from 1. A delta that was pending may have been folded by the winner.
6. If asked, write what was set aside again, as new deltas: the records are the restored ones with those calls applied to them.

The folded set is *not* rewound: with the restored version's own, a delta whose object is still there would look new, and would be applied
again. A delta that is written while this runs is not listed, and stays pending: it applies to the restored records.

A crash before 4: copies that nothing names. After 4: the version stands; what was to be replayed is listed as set aside, and
replaying it again counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from chromalith.clock import Clock
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.next_version import child_of
from chromalith.compaction.unapplied import AsideDelta, Put, Replayed, list_aside, replay_aside
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.history import manifest_at, tagged_version
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import Current, LostRace, UnknownEnding, publish, read_current, unknown
from chromalith.coord.store_date import store_date
from chromalith.errors import Conflict, Invalid, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.folded import DAY_US, INLINE_BYTES_MAX, KEPT_DAYS, State
from chromalith.model.folded_part import FoldedPart, united
from chromalith.model.ids import CollectionId, DeltaId, JobId
from chromalith.model.invariants import Change
from chromalith.model.lineage import Calls, folded_since, undone
from chromalith.model.manifest import AsideRef, Manifest
from chromalith.model.order import Listed, in_order
from chromalith.store.cache import Swept
from chromalith.store.port import Store
from chromalith.threads import NewExecutor

RACES_MAX = 16
RESTORES_MAX = 64
"""Restores that a manifest remembers: about 16 bytes each. Only what a restore undoes is computed from them."""
_COPY_ATTEMPTS = 4
_COPY_THREADS = 8


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do now.

    Attributes:
        current: the version that it would be built on.
        target: the version whose records would be current again.
        date_us: the store's date before the LIST; of a plan that is only shown, this machine's.
        listed: every delta that the LIST showed.
        aside: the deltas that would be set aside, in order: those that are folded after the target and still stored, and the pending ones.
        pending: the latter.
        gone: calls folded after the target of which no object is left: they are in the versions between the two, and can't be replayed.
        certain: whether ``gone`` is all there is to tell; not where a version between the two was swept, or they are so far apart
            that folded deltas were forgotten.
        excepted: what a replay leaves out.
    """

    current: Current
    target: Manifest
    date_us: int
    listed: tuple[Listed, ...]
    aside: tuple[Listed, ...]
    pending: frozenset[DeltaId]
    gone: tuple[Calls, ...]
    certain: bool
    excepted: frozenset[DeltaId]

    @property
    def needless(self) -> bool:
        """Whether the target is the current version, and nothing is pending."""
        return self.target.key == self.current.manifest.key and not self.aside

    @property
    def replayable(self) -> list[DeltaId]:
        """What a replay would write again, in order."""
        return [delta.id for delta in self.aside if delta.id not in self.excepted]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        plan: what it was based on when it was published.
        version: the version that it published; ``None`` if it was needless, or only asked for.
        restore: the name of the restore: its set-aside deltas are listed under it. ``None`` if there are none.
        replayed: what was written again; ``None`` if that was not asked for.
    """

    plan: RestorePlan
    version: int | None
    restore: JobId | None
    replayed: Replayed | None


class Restorer:
    """Restores older versions of the collections of one store.

    Args:
        store, clock: where, and time and chance.
        put: writes operations as a new delta, under a name of the call (``DeltaWriter.put``).
        executor: where threads come from.
        folded_inline_bytes_max: how much of the folded set stays in the manifest, as JSON; tests lower it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        put: Put,
        *,
        executor: NewExecutor = ThreadPoolExecutor,
        folded_inline_bytes_max: int = INLINE_BYTES_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._put = put
        self._executor = executor
        self._parts = FoldedParts.from_store(store)
        self._folded = FoldedWriter(store, clock, self._parts, folded_inline_bytes_max)

    def choose(
        self, cid: CollectionId, to: int | str, *, replay: bool = False, excepted: Collection[DeltaId] = ()
    ) -> RestorePlan:
        """What a restore would do now. Writes nothing, so it dates by this machine's clock.

        Args:
            cid: the collection.
            to: the version, or the name of a tag.
            replay: whether what is undone must be replayable: refuse if it is not.
            excepted: deltas that a replay leaves out.

        Raises:
            NotFound: no such version (any more); with ``replay`` also: a delta that would have to be replayed has no object left.
            Invalid: ``excepted`` without ``replay``, or one that would not be replayed anyway.
        """
        return self._choose(cid, to, self._clock.now_us(), replay=replay, excepted=excepted)

    def _choose(
        self, cid: CollectionId, to: int | str, date_us: int, *, replay: bool, excepted: Collection[DeltaId]
    ) -> RestorePlan:
        if excepted and not replay:
            raise Invalid("deltas were excepted from a replay that was not asked for", hint="add --replay, or leave out --except")
        listed = list_deltas(self._store, cid)
        current = read_current(self._store, cid)
        target = self._target(current, to)
        calls, certain = self._undone(current.manifest, target)
        aside, pending = self._set_aside(current.manifest, listed, calls if certain else None, target)
        plan = RestorePlan(
            current, target, date_us, tuple(listed), aside, pending, _gone(calls, aside), certain, frozenset(excepted)
        )
        if replay:
            _check_replay(plan)
        return plan

    def run(self, cid: CollectionId, to: int | str, *, replay: bool = False, excepted: Collection[DeltaId] = ()) -> Restored:
        """Restore. Arguments and errors as for :meth:`choose`.

        Raises also ``Conflict`` (others published first, again and again; or the tag was moved), ``Unknown`` (it can't be told whether the
        version was published), ``Corrupt`` (a delta that was to be replayed; it stays set aside).
        """
        target = ""
        for _ in range(RACES_MAX):
            date_us = store_date(self._store, cid, self._clock)
            try:
                plan = self._choose(cid, to, date_us, replay=replay, excepted=excepted)
            except Swept:
                continue  # a part of the folded set: somebody published, and swept
            if target and plan.target.key != target:
                raise Conflict(f"the tag was moved while its version was being restored tag={to!r}", hint="look, then decide again")
            target = plan.target.key
            if plan.needless:
                return Restored(plan, None, None, None)
            child = child_of(plan.current, self._clock, "restore", plan.date_us, [delta.id for delta in plan.listed])
            restore = JobId(plan.current.manifest.version, child.write_id)
            copied = self._copy(plan, restore, replay=replay)
            if copied is None or not self._publish(copied, restore, child):
                continue
            replayed = None
            if replay:
                chosen = [each for each, _ in list_aside(self._store, cid, {restore}) if each.id not in copied.excepted]
                replayed = replay_aside(self._store, cid, chosen, self._put)
            return Restored(copied, child.version, restore if copied.aside else None, replayed)
        raise Conflict(f"others published first, {RACES_MAX} times collection={cid}", hint="run it again, or stop the compactors meanwhile")

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _target(self, current: Current, to: int | str) -> Manifest:
        """The version to restore, held by the history or by a tag; to be called after ``current`` was read."""
        cid = current.manifest.collection
        target = tagged_version(self._store, cid, to) if isinstance(to, str) else manifest_at(self._store, cid, to)
        if target.version > current.manifest.version:  # published after the pointer was read
            raise Conflict(f"someone published meanwhile collection={cid} version={target.version}", hint="try again")
        return target

    def _undone(self, current: Manifest, target: Manifest) -> tuple[list[Calls], bool]:
        """The calls whose folds the current records show and the target's do not, and whether that can still be told."""
        restores = current.restores
        certain = len(restores) < RESTORES_MAX or target.version >= restores[0][0]
        calls: list[Calls] = []
        for versions in undone(current.version, target.version, restores):
            # Never from version 0 on, which is in every lineage: there is an earlier one.
            later = self._version(versions.stop - 1, current, target)
            earlier = self._version(versions.start - 1, current, target)
            if later is None or earlier is None:
                certain = False
                continue
            certain &= later.created_us - earlier.created_us < (KEPT_DAYS - 1) * DAY_US
            calls += self._folded_since(later, earlier)
        return calls, certain

    def _version(self, version: int, *known: Manifest) -> Manifest | None:
        for manifest in known:
            if manifest.version == version:
                return manifest
        try:
            return manifest_at(self._store, known[0].collection, version)
        except NotFound:
            return None

    def _folded_since(self, later: Manifest, earlier: Manifest) -> list[Calls]:
        both = {ref.id for ref in later.folded_parts} & {ref.id for ref in earlier.folded_parts}

        def runs(manifest: Manifest) -> FoldedPart:
            parts = [self._parts.get(manifest.collection, ref) for ref in manifest.folded_parts if ref.id not in both]
            return united([FoldedPart.of(manifest.folded), *parts])

        return folded_since(runs(later).items(), runs(earlier).items())

    def _set_aside(
        self, current: Manifest, listed: Sequence[Listed], calls: Sequence[Calls] | None, target: Manifest
    ) -> tuple[tuple[Listed, ...], frozenset[DeltaId]]:
        """The listed deltas that go aside, in order, and which of them are pending.

        ``calls``: what is undone; ``None`` where it can't be told: then whatever the target had not folded goes aside.
        """
        quarantined = {each.delta for each in current.quarantined}
        ordered = in_order(delta for delta in listed if str(delta.id) not in quarantined)
        ids = [delta.id for delta in ordered]
        runs = Folded(current, self._parts).find_all(ids)
        before = Folded(target, self._parts).find_all(ids) if calls is None else ()
        by_writer: dict[str, list[Calls]] = {}
        for each in calls or ():
            by_writer.setdefault(each.writer, []).append(each)
        aside: list[Listed] = []
        for position, (delta, run) in enumerate(zip(ordered, runs, strict=True)):
            if run is not None and calls is None and (before[position] is not None or run.state is not State.FOLDED):
                continue
            if run is not None and calls is not None and not any(delta.id in each for each in by_writer.get(delta.id.writer, ())):
                continue
            aside.append(delta)
        known = {delta for delta, run in zip(ids, runs, strict=True) if run is not None}
        return tuple(aside), frozenset(delta.id for delta in aside if delta.id not in known)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _copy(self, plan: RestorePlan, restore: JobId, *, replay: bool) -> RestorePlan | None:
        """Copy what is set aside. ``None``: a delta was folded and swept meanwhile, so start again.

        A folded one that the prompt sweep was faster with is gone, as it would have been a moment later; the plan that is returned says so.
        """
        copies = _copies(plan, restore)
        if self._store.settle_s > 0 and len(copies) > 1:  # remote: the requests' latency is worth threads
            with self._executor(_COPY_THREADS, "chromalith-restore") as pool:
                there = list(pool.map(self._copy_one, copies))
        else:
            there = [self._copy_one(each) for each in copies]
        missing = {each.id for each, copied in zip(copies, there, strict=True) if not copied}
        if not missing:
            return plan
        if missing & plan.pending or (replay and missing - plan.excepted):
            return None
        # Copies keep the places that they have: what is left is in order still.
        gone = (*plan.gone, *(Calls(delta.writer, delta.counter, delta.counter + 1) for delta in missing))
        return replace(plan, aside=tuple(delta for delta in plan.aside if delta.id not in missing), gone=gone)

    def _copy_one(self, copy: AsideDelta) -> bool:
        source = layout.delta_key(copy.collection, copy.id)
        for attempt in range(_COPY_ATTEMPTS):
            try:
                self._store.copy(source, copy.key)
                return True
            except NotFound:
                return False
            except Unknown as error:  # the same copy again is harmless
                if attempt == _COPY_ATTEMPTS - 1:
                    raise Unavailable(f"a delta could not be set aside key={source}", hint="nothing was published; try again") from error
        raise AssertionError("unreachable")

    def _publish(self, plan: RestorePlan, restore: JobId, child: Manifest) -> bool:
        """Publish the restored version; whether it won."""
        parent, target = plan.current.manifest, plan.target
        states = [(delta.id, State.ASIDE) for delta in plan.aside if delta.id in plan.pending]
        child = replace(
            self._folded.remember(child, states, listed=[delta.id for delta in plan.listed]),
            dimension=parent.dimension or target.dimension,
            segments=target.segments,
            content=target.content,
            embedding=target.embedding,
            buckets=target.buckets,
            aside=(*parent.aside, *([AsideRef(restore, len(plan.aside))] if plan.aside else ())),
            restores=(*parent.restores, (child.version, target.version))[-RESTORES_MAX:],
        )
        change = Change(
            [delta for delta, _ in states],
            target.live - parent.live,
            target.content - parent.content,
            target.embedding - parent.embedding,
            before=Folded(parent, self._parts),
            after=Folded(child, self._parts),
        )
        ending = publish(self._store, self._clock, plan.current, child, change, restored=target)
        if isinstance(ending, UnknownEnding):
            hint = (
                f"see `chromalith snapshot list`; if version {child.version} restores {target.version}, it was: "
                f"`chromalith delta replay --all --restore {restore}` replays what it set aside"
            )
            raise unknown(child, ending, hint)
        return not isinstance(ending, LostRace)


def _copies(plan: RestorePlan, restore: JobId) -> list[AsideDelta]:
    """The copies of what is set aside, in order."""
    cid = plan.current.manifest.collection
    return [AsideDelta(cid, restore, position, delta.id, delta.size) for position, delta in enumerate(plan.aside)]


def _gone(calls: Sequence[Calls], aside: Sequence[Listed]) -> tuple[Calls, ...]:
    stored: dict[str, list[int]] = {}
    for delta in aside:
        stored.setdefault(delta.id.writer, []).append(delta.id.counter)
    return tuple(left for each in calls for left in each.without(stored.get(each.writer, ())))


def _check_replay(plan: RestorePlan) -> None:
    """Refuse a replay that could not write everything again."""
    hint = (
        "folded deltas are kept for a minute only; roll back without --replay, "
        "then `chromalith delta replay --all` writes again those that are left"
    )
    span = f"version={plan.current.manifest.version} to={plan.target.version}"
    if not plan.certain:
        raise NotFound(f"it can't be told any more which deltas were folded in between {span}", hint=hint)
    excepted = {(delta.writer, delta.counter) for delta in plan.excepted}
    left = [part for each in plan.gone for part in each.without(counter for writer, counter in excepted if writer == each.writer)]
    if left:
        first = left[0]
        raise NotFound(
            f"deltas folded since have no object left to replay {span} deltas={sum(map(len, left))} "
            f"first={first.writer}-{first.start:08x}",
            hint=hint,
        )
    known = {delta.id for delta in plan.aside} | {delta for delta in plan.excepted if any(delta in each for each in plan.gone)}
    unknown = plan.excepted - known
    if unknown:
        raise Invalid(f"it would not be replayed anyway delta={min(unknown)}", hint="see `chromalith delta list`, and --dry-run")
