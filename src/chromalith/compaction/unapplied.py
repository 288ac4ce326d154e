"""Deltas that are stored and not in the records: those that wait, the quarantined ones, and what restores set aside.

*Set aside* (:mod:`chromalith.compaction.restore`): copies, in the order of the protocol, under the name of the restore. Replaying one
writes its operations as a *new* delta, as a call whose name is made of the restore and the delta: so it counts once, however
often it is replayed within the 30 days that the folded set remembers. The copy stays until it is dropped.

*Quarantined*: a fold could not read it. If its bytes are good by now (restored from the bucket's versions), replaying publishes a version
that does not name it any more: then it is pending again, and the next fold takes it, under its own identity; so
it can't be applied twice, even if its call was retried meanwhile.

*Drop* is the one way in which an acknowledged write is given up, by a person who says so: a version that does not name it any more is
published, and the sweeps delete the objects. A quarantined one enters the folded set as set aside, so that it never looks new.

A crash before a publish changes nothing; after it the objects are garbage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from chromalith.clock import Clock
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.next_version import child_of
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import LostRace, UnknownEnding, publish, read_current, unknown
from chromalith.coord.store_date import store_date
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.delta import Delta, decode_delta
from chromalith.model.folded import State
from chromalith.model.ids import CollectionId, DeltaId, JobId, call_writer
from chromalith.model.invariants import Change
from chromalith.model.manifest import Manifest
from chromalith.model.operation import Operations
from chromalith.store.port import Store

RACES_MAX = 16


class Put(Protocol):
    """Writes operations as a new delta; calls of one ``call_id`` count once (``DeltaWriter.put``)."""

    def __call__(self, cid: CollectionId, batch: Operations, *, call_id: str | None = None) -> object: ...


@dataclass(frozen=True, slots=True)
class AsideDelta:
    """A delta that a restore set aside.

    Attributes:
        collection: its collection.
        restore: the restore that set it aside.
        position: its place in the order, among those of that restore.
        id, size: the delta's own id, and the size of the copy in bytes.
    """

    collection: CollectionId
    restore: JobId
    position: int
    id: DeltaId
    size: int

    @property
    def key(self) -> str:
        return layout.aside_key(self.collection, self.restore, self.position, self.id)

    @property
    def call_id(self) -> str:
        """The name of the call that replays it."""
        return f"replay {self.restore} {self.id}"


class Status(StrEnum):
    """Why a stored delta is not in the records. ``FOLDED``: it is, and goes with the prompt sweep."""

    WAITING = "waiting"
    QUARANTINED = "quarantined"
    ASIDE = "set_aside"
    FOLDED = "folded"


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """One stored delta.

    Attributes:
        id, size: its id, and bytes.
        status: what became of it.
        key: where its bytes are.
        modified_us: the store's timestamp of that object; of a copy, when it was set aside.
        reason: why it is quarantined.
        aside: as what it was set aside.
        replayed: whether a set-aside one was written again already (as far back as the folded set remembers).
    """

    id: DeltaId
    size: int
    status: Status
    key: str
    modified_us: int
    reason: str | None = None
    aside: AsideDelta | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        written: set-aside deltas that were written again, in order.
        released: quarantined ones that wait again.
        already: those that had been replayed before, or whose call was folded otherwise.
        void: those that stand for no operation.
        corrupt: those that could not be read, with the reason; they stay where they are.
    """

    written: list[DeltaId] = field(default_factory=list)
    released: list[DeltaId] = field(default_factory=list)
    already: list[DeltaId] = field(default_factory=list)
    void: list[DeltaId] = field(default_factory=list)
    corrupt: list[tuple[DeltaId, str]] = field(default_factory=list)


# -- looking -----------------------------------------------------------------------------------------------------------


def list_aside(store: Store, cid: CollectionId, restores: Collection[JobId]) -> list[tuple[AsideDelta, int]]:
    """What these restores set aside, each restore's in order, the oldest restore's first; with the copies' timestamps."""
    found: list[tuple[AsideDelta, int]] = []
    for page in store.list(layout.aside_root(cid)) if restores else ():
        for entry in page:
            try:
                _, restore, position, delta = layout.parse_aside_key(entry.key)
            except Invalid:
                continue  # not written by us; `doctor` reports it
            if restore in restores:
                found.append((AsideDelta(cid, restore, position, delta, entry.size), entry.modified_us))
    return sorted(found, key=lambda item: (item[0].restore, item[0].position))


def stored_deltas(store: Store, cid: CollectionId) -> list[StoredDelta]:
    """Every stored delta of a collection: those under its own prefix in the protocol's order, then what was set aside."""
    listed = sorted(list_deltas(store, cid))
    manifest = read_current(store, cid).manifest
    reasons = {each.delta: each.reason for each in manifest.quarantined}
    folded = Folded(manifest, FoldedParts.from_store(store))
    runs = folded.find_all([delta.id for delta in listed])
    found: list[StoredDelta] = []
    for delta, run in zip(listed, runs, strict=True):
        reason = reasons.get(str(delta.id))
        status = Status.FOLDED if run is not None else Status.WAITING
        key = layout.delta_key(cid, delta.id)
        found.append(
            StoredDelta(delta.id, delta.size, Status.QUARANTINED if reason is not None else status, key, delta.modified_us, reason)
        )
    aside = list_aside(store, cid, {each.id for each in manifest.aside})
    waiting = {delta.id.writer for delta in listed}
    calls = [DeltaId(0, call_writer(each.call_id), 0, "") for each, _ in aside]
    for (each, modified_us), call, run in zip(aside, calls, folded.find_all(calls), strict=True):
        replayed = run is not None or call.writer in waiting
        found.append(StoredDelta(each.id, each.size, Status.ASIDE, each.key, modified_us, aside=each, replayed=replayed))
    return found


def read_delta(store: Store, cid: CollectionId, delta: StoredDelta) -> Delta:
    """Its operations. Raises ``Corrupt``, ``NotFound`` (swept meanwhile), ``Invalid`` (a newer format)."""
    return decode_delta(cid, delta.id, store.get(delta.key).body)


# -- replaying ---------------------------------------------------------------------------------------------------------


def replay_aside(store: Store, cid: CollectionId, chosen: Sequence[AsideDelta], put: Put) -> Replayed:
    """Write set-aside deltas again as new deltas, one after the other, in the order given.

    One that can't be read is left out, as a fold would quarantine it. Raises as ``put``: what was written until then counts,
    and replaying all of them again writes nothing twice.
    """
    done = Replayed()
    for each in chosen:
        try:
            delta = decode_delta(cid, each.id, store.get(each.key).body)
        except Corrupt as error:
            done.corrupt.append((each.id, error.message))
            continue
        if delta.operations is None:
            done.void.append(each.id)
            continue
        put(cid, delta.operations, call_id=each.call_id)
        done.written.append(each.id)
    return done


def release(store: Store, clock: Clock, cid: CollectionId, chosen: Sequence[StoredDelta]) -> Replayed:
    """Let quarantined deltas that can be read by now be folded: publish a version that names them no more, if there is one.

    Raises ``Conflict``, ``Unknown``, ``Invalid`` (a newer format).
    """
    done = Replayed()
    good: list[DeltaId] = []
    dimension = read_current(store, cid).manifest.dimension
    for each in chosen:
        try:
            operations = read_delta(store, cid, each).operations
        except Corrupt as error:
            done.corrupt.append((each.id, error.message))
            continue
        except NotFound:
            done.corrupt.append((each.id, "its object is gone"))
            continue
        if operations is not None and dimension is not None and operations.dimension not in (None, dimension):
            done.corrupt.append((each.id, f"another dimension dimension={operations.dimension} expected={dimension}"))
            continue
        good.append(each.id)

    def change(child: Manifest, listed: Sequence[DeltaId]) -> tuple[Manifest, Change]:
        gone = {str(delta) for delta in good}
        return replace(child, quarantined=tuple(q for q in child.quarantined if q.delta not in gone)), Change()

    if good:
        published = _publish(store, clock, cid, "replay", change)
        runs = Folded(published, FoldedParts.from_store(store)).find_all(good)
        for delta, run in zip(good, runs, strict=True):
            (done.released if run is None else done.already).append(delta)
    return done


# -- dropping ----------------------------------------------------------------------------------------------------------


def drop(
    store: Store, clock: Clock, cid: CollectionId, *, restores: Collection[JobId] = (), quarantined: Collection[DeltaId] = ()
) -> Manifest:
    """Give up what restores set aside, and quarantined deltas, for good: publish a version that names them no more.

    Raises ``NotFound`` (the current version names no such thing), ``Conflict`` (also: the call of a quarantined delta was repeated, and
    that waits to be folded), ``Unknown``.
    """
    parts = FoldedParts.from_store(store)

    def change(child: Manifest, listed: Sequence[DeltaId]) -> tuple[Manifest, Change]:
        missing = [str(each) for each in restores if each not in {ref.id for ref in child.aside}]
        missing += [str(each) for each in quarantined if str(each) not in {q.delta for q in child.quarantined}]
        if missing:
            raise NotFound(f"nothing of this name is kept name={missing[0]}", hint="see `chromalith delta list`")
        gone = {str(delta) for delta in quarantined}
        ids = sorted(quarantined)
        # Its call may have been retried under another delta, and folded: then it is known already.
        new = [delta for delta, run in zip(ids, Folded(child, parts).find_all(ids), strict=True) if run is None]
        _check_not_repeated(child, new, listed)
        child = replace(
            child,
            aside=tuple(ref for ref in child.aside if ref.id not in restores),
            quarantined=tuple(q for q in child.quarantined if q.delta not in gone),
        )
        folded = FoldedWriter(store, clock, parts)
        before, child = Folded(child, parts), folded.remember(child, [(delta, State.ASIDE) for delta in new], listed=listed)
        return child, Change(new, before=before, after=Folded(child, parts))

    return _publish(store, clock, cid, "drop", change)


def _check_not_repeated(manifest: Manifest, dropped: Sequence[DeltaId], listed: Sequence[DeltaId]) -> None:
    """Refuse to give up a call that waits under another delta: the folded set knows calls, so that one would be lost with it."""
    calls = {(delta.writer, delta.counter) for delta in dropped}
    quarantined = {each.delta for each in manifest.quarantined}
    again = [delta for delta in listed if (delta.writer, delta.counter) in calls and str(delta) not in quarantined]
    if again:
        raise Conflict(
            f"the call of a quarantined delta was repeated, and waits to be folded delta={min(again)}",
            hint="`chromalith compact` first; then drop it",
        )


def _publish(
    store: Store,
    clock: Clock,
    cid: CollectionId,
    kind: str,
    change: Callable[[Manifest, Sequence[DeltaId]], tuple[Manifest, Change]],
) -> Manifest:
    """Publish a version that differs from the current one by ``change``, which gets the child and every listed delta."""
    for _ in range(RACES_MAX):
        date_us = store_date(store, cid, clock)
        listed = [delta.id for delta in list_deltas(store, cid)]
        current = read_current(store, cid)
        child, what = change(child_of(current, clock, kind, date_us, listed), listed)
        ending = publish(store, clock, current, child, what)
        if isinstance(ending, UnknownEnding):
            raise unknown(child, ending, "see `chromalith delta list`; doing it again is safe")
        if not isinstance(ending, LostRace):
            return child
    raise Conflict(f"others published first, {RACES_MAX} times collection={cid}", hint="run it again")


def by_restore(deltas: Sequence[StoredDelta]) -> Mapping[JobId, list[StoredDelta]]:
    """The set-aside ones, by restore, the oldest restore first."""
    found: dict[JobId, list[StoredDelta]] = {}
    for delta in deltas:
        if delta.aside is not None:
            found.setdefault(delta.aside.restore, []).append(delta)
    return found
