"""The sweep of a whole store: each collection's garbage, and what belongs to no living collection.

One walk over the listings of all roots, collection by collection (keys begin with their id, so all listings have one order). For each:

*It lives and has a name*: its own sweep (:mod:`chromalith.compaction.sweep`).

*It was deleted*, and the mark on its object is a day old: the name is taken off and the pointer ended, if whoever deleted it crashed
before that; then everything goes, the pointer last but one, the object last. While the object is there, late writers read
that the collection is deleted, and a sweep that crashed is continued; once the pointer is gone, nothing can be published.

*It has no name*, and nothing of it was written for a day: who made it crashed, or is stalled and names it later. So:

1. Mark the object ``abandoned``. Whoever names the collection, or writes to it, looks at the object *after that*, and takes the mark off.
2. Then read the catalog. It has a name now: take the mark off. It has none: mark it deleted, on condition that 1 still stands.
3. It goes a day later, as whatever was deleted.

Without the first mark, a collection could be named, acknowledged to its creator, and then be deleted by a sweep that had looked for its
name just before. No two marks are alike: one that was taken off and set again by another sweep is not the one of 1.

*There is no object* for it, and nothing of it was written for a day: what landed after the collection was gone.

Besides: what a crashed probe left, and leftovers outside of the objects (:mod:`chromalith.store.leftovers`), when they are a day old.

All dates are the store's. Objects outside of these roots are not looked at, and nothing is ever deleted of ``catalog/``, ``migration/``,
``snapshot/migration/`` and ``store.json``, nor whatever else has no collection's id in its key.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from chromalith.clock import Clock
from chromalith.compaction.garbage import LEFTOVER_AGE_US, Garbage, Reason
from chromalith.compaction.pace import TimeLeft, forever
from chromalith.compaction.sweep import THREADS, Progress, Sweep, SweepOutcome, delete_all
from chromalith.compaction.sweep_eyes import swept_prefixes
from chromalith.coord.catalog import Catalog
from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.databases import Database
from chromalith.coord.pointer import tombstone_pointer
from chromalith.coord.register import Register, decode
from chromalith.errors import ChromalithError, Conflict, Corrupt, Invalid, NotFound, Unknown
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.retention import Retention
from chromalith.store.leftovers import Leftovers
from chromalith.store.port import Entry, Store
from chromalith.threads import NewExecutor

_ROOTS = (
    layout.COLLECTION_ROOT,  # first: what a collection is decides what is to be known of the rest
    layout.DELTA_ROOT,
    layout.FOLDED_ROOT,
    layout.LEASE_ROOT,
    layout.QUARANTINE_ROOT,
    layout.SEGMENT_ROOT,
    layout.SNAPSHOT_ROOT,
    layout.TAG_ROOT,
)

COLLECTION_S = 20.0
"""What does not have this left is not begun: reading a collection's manifests, publishing, and a first 1,000 deletes."""

Names = dict[CollectionId, tuple[str, str]]
"""The tenant and database that name a collection."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the walk found of one collection: its object as it was read (``None``: there is none), and all its objects."""

    cid: CollectionId
    held: tuple[Entry, CollectionObject] | None
    entries: Sequence[Entry]

    @property
    def latest_us(self) -> int:
        """When the last of its objects was written, by the store's clock."""
        return max(entry.modified_us for entry in self.entries)

    def unnamed(self, names: Names) -> bool:
        """Whether it lives, and no database names it."""
        return self.held is not None and not self.held[1].deleted and self.cid not in names


class StoreSweep:
    """A sweep of a whole store. See the module's docstring.

    Args:
        store, clock: where; and time and chance.
        catalog: of this store.
        retention: what is kept of living collections.
        delete: whether to delete; else it only chooses, and writes nothing.
        leftovers: what to clean up besides objects.
        executor: where threads come from.
        progress: told steps, see :data:`chromalith.compaction.sweep.Progress`.
        time_left: until it must have ended, seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        catalog: Catalog,
        retention: Retention,
        *,
        delete: bool,
        leftovers: Sequence[Leftovers] = (),
        executor: NewExecutor = ThreadPoolExecutor,
        progress: Progress = lambda step, done, total: None,
        time_left: TimeLeft = forever,
    ) -> None:
        self._store = store
        self._clock = clock
        self._catalog = catalog
        self._retention = retention
        self._delete = delete
        self._leftovers = leftovers
        self._executor = executor
        self._progress = progress
        self._time_left = time_left

    def run(self) -> list[SweepOutcome]:
        """One outcome for each collection that is alive or goes, and one (of no collection) for the rest.

        Raises what :func:`chromalith.compaction.sweep.run_sweep` raised for a collection, after the others were swept.
        """
        outcomes: list[SweepOutcome] = []
        failures: list[ChromalithError] = []
        with self._executor(THREADS, "chromalith-sweep") as pool:
            date_us = self._date()
            names = named_collections(self._store)
            unnamed: list[_Found] = []
            for cid, entries in walk(self._store):
                if self._time_left() < COLLECTION_S:
                    outcomes.append(SweepOutcome(None, skipped=(f"there was no time from collection {cid} on",), out_of_time=True))
                    break
                try:
                    found = self._read(cid, entries)
                    if found.unnamed(names):
                        if found.latest_us <= date_us - LEFTOVER_AGE_US:
                            unnamed.append(found)
                        continue  # else it is being made
                    outcome = self._sweep(found, names, date_us, pool)
                except (Conflict, Unknown, Corrupt, Invalid) as error:  # of this collection; that the store is away concerns all
                    failures.append(error)
                    continue
                if outcome is not None:
                    outcomes.append(outcome)
            else:
                outcomes += self._abandon(unnamed)
                outcomes.append(self._rest(date_us, pool))
        if failures:
            raise failures[0]
        return outcomes

    def _date(self) -> int:
        """The store's date; a dry run, which writes nothing, takes this machine's."""
        if not self._delete:
            return self._clock.now_us()
        key = layout.sweep_date_key()
        self._store.put(key, json.dumps({"format": 1, "write_id": self._clock.random_hex(32)}).encode())
        return self._store.head(key).modified_us

    # -- one collection ------------------------------------------------------------------------------------------------

    def _read(self, cid: CollectionId, entries: Sequence[Entry]) -> _Found:
        """With the collection's object as it stands, if it was listed and is still there.

        Its date is that of what was read: it may have been marked deleted since it was listed, which may be hours ago.
        """
        key = layout.collection_key(cid)
        if entries[0].key == key:
            with suppress(NotFound):  # reclaimed by another sweep
                found = self._store.get(key)
                entry = replace(entries[0], modified_us=found.modified_us)
                return _Found(cid, (entry, CollectionObject.parse(key, found.body)), entries)
        return _Found(cid, None, entries)

    def _sweep(self, found: _Found, names: Names, date_us: int, pool: Executor) -> SweepOutcome | None:
        stale_us = date_us - LEFTOVER_AGE_US
        if found.held is None:
            if found.latest_us > stale_us or not self._is_gone(found.cid):
                return None
            return self._reclaim(found, Reason.NO_COLLECTION, pool)
        entry, collection = found.held
        if not collection.deleted:
            return self._sweep_living(found, date_us, pool)
        if entry.modified_us > stale_us:
            return None
        if self._delete:
            if found.cid in names:
                self._catalog.take_name(*names[found.cid], found.cid)
            if any(each.key == layout.pointer_key(found.cid) for each in found.entries):
                with suppress(Corrupt):  # nobody can follow a pointer that can't be read either
                    tombstone_pointer(self._store, found.cid, self._clock)
        reason = Reason.DELETED_COLLECTION if collection.abandoned is None else Reason.ABANDONED_COLLECTION
        return self._reclaim(found, reason, pool)

    def _sweep_living(self, found: _Found, date_us: int, pool: Executor) -> SweepOutcome | None:
        sweep = Sweep(self._store, self._clock, found.cid, self._retention, pool, self._progress, self._time_left)
        prefixes = swept_prefixes(found.cid)
        try:
            plan = sweep.plan(date_us, [entry for entry in found.entries if entry.key.startswith(prefixes)])
            if self._delete and (plan.garbage or plan.stale_tags):
                return sweep.run()
        except NotFound:
            return None  # deleted meanwhile
        return SweepOutcome(
            found.cid, plan.version, plan.boundary, plan.horizon, plan.versions, garbage=plan.garbage, deleted=self._delete
        )

    def _reclaim(self, found: _Found, reason: Reason, pool: Executor) -> SweepOutcome:
        """Everything of a collection that is gone: the pointer last but one, the collection's object last."""
        last = (layout.pointer_key(found.cid), layout.collection_key(found.cid))
        garbage = {entry.key: Garbage(entry.key, entry.size, reason) for entry in found.entries}
        ended = True
        if self._delete:
            rest = [each for key, each in garbage.items() if key not in last]
            ended = delete_all(self._store, rest, pool, self._progress, self._time_left)
            for key in last if ended else ():
                if key in garbage:
                    self._store.delete(key)
        ordered = sorted(garbage.values(), key=lambda each: last.index(each.key) if each.key in last else -1)
        return SweepOutcome(found.cid, garbage=tuple(ordered), deleted=self._delete, out_of_time=not ended)

    def _is_gone(self, cid: CollectionId) -> bool:
        """Whether a collection without a listed object has none: it may have been made while other roots were listed."""
        try:
            self._store.head(layout.collection_key(cid))
        except NotFound:
            return True
        return False

    # -- collections without a name ------------------------------------------------------------------------------------

    def _abandon(self, unnamed: Sequence[_Found]) -> list[SweepOutcome]:
        """Steps 1 and 2 of the module's docstring. They go in a later sweep: the outcomes say what that will delete."""
        if self._delete and unnamed:
            mark = self._clock.random_hex(32)
            marked = [found.cid for found in unnamed if self._mark(found.cid, mark)]
            names = named_collections(self._store)
            for cid in marked:
                if cid not in names:
                    self._delete_marked(cid, mark)
                else:
                    with suppress(NotFound):  # deleted by its new name
                        self._catalog.claim(cid)
        return [
            SweepOutcome(
                found.cid,
                garbage=tuple(Garbage(e.key, e.size, Reason.ABANDONED_COLLECTION) for e in found.entries),
                deleted=False,
            )
            for found in unnamed
        ]

    def _mark(self, cid: CollectionId, mark: str) -> bool:
        """Mark a living collection abandoned; whether the mark stands."""
        register = Register(self._store, layout.collection_key(cid), self._clock)

        def change(value: dict[str, object] | None) -> dict[str, object] | None:
            found = None if value is None else CollectionObject.of(register.key, value)
            if found is None or found.deleted:
                return None
            return replace(found, abandoned=mark).value()

        after = register.update(change)
        return after is not None and CollectionObject.of(register.key, after).abandoned == mark

    def _delete_marked(self, cid: CollectionId, mark: str) -> None:
        """Mark it deleted, unless somebody took this sweep's mark off since."""
        register = Register(self._store, layout.collection_key(cid), self._clock)

        def change(value: dict[str, object] | None) -> dict[str, object] | None:
            found = None if value is None else CollectionObject.of(register.key, value)
            if found is None or found.deleted or found.abandoned != mark:
                return None
            return replace(found, deleted=True).value()

        register.update(change)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _rest(self, date_us: int, pool: Executor) -> SweepOutcome:
        stale_us = date_us - LEFTOVER_AGE_US
        probes = [
            Garbage(entry.key, entry.size, Reason.PROBE)
            for page in self._store.list(layout.PROBE_ROOT)
            for entry in page
            if entry.modified_us <= stale_us
        ]
        if self._delete:
            delete_all(self._store, probes, pool, self._progress)
        skipped: list[str] = []
        for kind in self._leftovers:
            try:
                old = [entry for entry in kind.find() if entry.modified_us <= stale_us]
                for entry in old if self._delete else ():
                    kind.remove(entry)
                probes += [Garbage(entry.key, entry.size, Reason(kind.kind)) for entry in old]
            except ChromalithError as error:  # it costs space, nothing else: the rest is swept all the same
                skipped.append(f"{kind.kind}: {error}")
        return SweepOutcome(None, garbage=tuple(probes), deleted=self._delete, skipped=tuple(skipped))


# Looking --------------------------------------------------------------------------------------------------------------


def named_collections(store: Store) -> Names:
    """Every collection that a database names, those of databases that are being deleted too. One LIST, one GET for each database.

    Raises ``Corrupt``, ``Invalid`` if a database can't be read: then it is not known what has a name.
    """
    found: Names = {}
    for page in store.list(layout.CATALOG_ROOT):
        for entry in page:
            if entry.key.endswith("/tenant.json"):
                continue
            try:
                database = Database.of(entry.key, decode(entry.key, store.get(entry.key).body))
            except NotFound:
                continue
            found |= {CollectionId(cid): (database.tenant, database.name) for cid in database.collections.values()}
    return found


def walk(store: Store) -> Iterator[tuple[CollectionId, list[Entry]]]:
    """The objects of each collection, by id, its own object first: one LIST of each root, read side by side, page by page."""
    listings = [_of_root(store, rank, root) for rank, root in enumerate(_ROOTS)]
    for cid, group in itertools.groupby(heapq.merge(*listings, key=lambda item: item[:2]), key=lambda item: item[0]):
        yield cid, [entry for _, _, entry in group]


def _of_root(store: Store, rank: int, root: str) -> Iterator[tuple[CollectionId, int, Entry]]:
    for page in store.list(root):
        yield from _of_collections(page, rank)


def _of_collections(page: Iterable[Entry], rank: int) -> Iterator[tuple[CollectionId, int, Entry]]:
    for entry in page:
        cid = layout.collection_in(entry.key)
        if cid is not None:
            yield cid, rank, entry
