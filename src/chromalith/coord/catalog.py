"""The catalog: names to collections, and what each collection is. Conditional writes only.

Creating a collection, in this order (data first, root last):

1. ``store.json``, if this is the store's first collection: probe that the store keeps conditional writes, then put it
   ``Absent``.
2. ``collection/<cid>.json``, ``Absent``.
3. Version 0 of its data, so that a collection that has a name always has a pointer.
4. The name, by compare-and-set of the database's object. *Only this makes the collection exist.* Who finds the name
   taken has lost: what it wrote is marked deleted, and is garbage for sweep.
5. Look at the collection's object again. A sweep may have taken the nameless collection for what a crash left: it marks the object
   *abandoned*, then looks for a name, then deletes it if its mark still stands. So: abandoned? take the mark off. Deleted? take the
   name off again, and fail.

Deleting one, in this order:

1. Mark ``collection/<cid>.json`` deleted: from here on no write to it is acknowledged.
2. Take the name out of the database's object, if it still maps to this collection.
3. Put a tombstone in place of the data's pointer.

After a crash between 1 and 2 the name maps to a deleted collection: every lookup treats that as absent, and a create
may take the name over. Renaming is one compare-and-set of the database's object; metadata, configuration, schema and
dimension change by compare-and-set of the collection's object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.coord.collection_object import CollectionObject, check_format
from chromalith.coord.databases import Database, Databases
from chromalith.coord.pointer import publish_version_zero, tombstone_pointer
from chromalith.coord.register import Register
from chromalith.errors import Conflict, Invalid, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.ids import CollectionId, collection_id
from chromalith.store.port import Store
from chromalith.store.probe import probe

STORE_FORMAT = 1
LIST_THREADS = 16
"""How many collection objects a listing reads at once: enough to hide latency, few enough not to be throttled."""


@dataclass(frozen=True, slots=True)
class Named:
    """A collection together with the name that its database gives it."""

    name: str
    collection: CollectionObject


class Catalog:
    """Tenants, databases, names and collections of one store. Safe to share between threads; keeps nothing in memory.

    Args:
        store: where it is.
        clock: for ids, dates and waiting.
    """

    def __init__(self, store: Store, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._clock = clock
        self.databases = Databases(store, clock)

    # Lookups -------------------------------------------------------------------------------------------------------

    def get(self, cid: CollectionId) -> CollectionObject:
        """The collection with this id. Raises ``NotFound`` if it is absent or deleted, ``Corrupt``."""
        key = layout.collection_key(cid)
        try:
            found = CollectionObject.parse(key, self._store.get(key).body)
        except NotFound as error:
            raise NotFound(f"no such collection id={cid}") from error
        if found.deleted:
            raise NotFound(f"the collection was deleted id={cid}")
        return found

    def lookup(self, tenant: str, database: str, name: str) -> Named:
        """The collection of this name. Raises ``NotFound``, also where the database does not exist."""
        found = self.databases.peek(tenant, database)
        if found is None or name not in found.collections:
            raise NotFound(f"no such collection name={name!r} tenant={tenant!r} database={database!r}")
        return Named(name, self.get(CollectionId(found.collections[name])))

    def lookup_id(self, tenant: str, database: str, cid: CollectionId) -> Named:
        """The collection with this id, if this database names it. Raises ``NotFound``."""
        found = self.databases.peek(tenant, database)
        for name, named in (found.collections if found else {}).items():
            if named == cid:
                return Named(name, self.get(cid))
        raise NotFound(f"no such collection id={cid} tenant={tenant!r} database={database!r}")

    def listing(self, tenant: str, database: str, *, limit: int | None = None, offset: int = 0) -> list[Named]:
        """The collections of a database in the order of their creation; empty if there is no such database."""
        found = self.databases.peek(tenant, database)
        stop = None if limit is None else offset + limit
        names = list((found.collections if found else {}).items())[offset:stop]
        if len(names) < 2:
            listed = [self._try_get(CollectionId(cid)) for _, cid in names]
        else:
            with ThreadPoolExecutor(min(LIST_THREADS, len(names)), "chromalith-catalog") as pool:
                listed = list(pool.map(self._try_get, (CollectionId(cid) for _, cid in names)))
        return [Named(name, each) for (name, _), each in zip(names, listed, strict=True) if each is not None]

    def count(self, tenant: str, database: str) -> int:
        """How many collections a database names: one request, whatever their number."""
        found = self.databases.peek(tenant, database)
        return 0 if found is None else len(found.collections)

    # Changes -------------------------------------------------------------------------------------------------------

    def create(
        self,
        tenant: str,
        database: str,
        name: str,
        *,
        configuration: Mapping[str, Any],
        schema: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        dimension: int | None = None,
        get_or_create: bool = False,
    ) -> Named:
        """Create a collection, or with ``get_or_create`` return the one that has the name, unchanged.

        Raises ``Conflict`` if the name is taken, ``NotFound`` if there is no such database, ``Invalid``, ``Unknown``.
        """
        found = self.databases.get(tenant, database)
        taken = self._holder(found, layout.check_name(name))
        if taken is not None:
            return self._take_or_refuse(taken, name, get_or_create)
        fresh = CollectionObject(
            id=collection_id(self._clock.random_uuid()),
            configuration=configuration,
            schema=schema,
            metadata=metadata,
            dimension=dimension,
            deleted=False,
            created_us=self._clock.now_us(),
        )
        self.add_unnamed(fresh)
        publish_version_zero(self._store, fresh.id, self._clock)
        return self.give_name(found, name, fresh, get_or_create=get_or_create)

    def check_free(self, tenant: str, database: str, name: str) -> Database:
        """The database, if no living collection has ``name`` in it. Raises ``Conflict``, ``NotFound`` (no such database)."""
        found = self.databases.get(tenant, database)
        taken = self._holder(found, layout.check_name(name))
        if taken is not None:
            raise Conflict(f"the name is taken name={name!r} id={taken.id}", hint="choose another name, or delete that collection")
        return found

    def add_unnamed(self, fresh: CollectionObject) -> None:
        """Write the object of a collection that is being made: without a name it does not exist yet. Raises ``Unknown``."""
        self._ensure_store_object()
        if not self._register(fresh.id).create(fresh.value()):
            raise Conflict(f"a random collection id is taken id={fresh.id}", hint="try again")

    def give_name(self, database: Database, name: str, fresh: CollectionObject, *, get_or_create: bool = False) -> Named:
        """Make a collection whose data is complete exist. Who finds the name taken has lost, and ends what it made.

        Raises ``Conflict`` (taken), ``NotFound`` (the database was deleted), ``Unknown``.
        """
        winner = self._link(database, name, fresh)
        if winner.id != fresh.id:
            self._mark_deleted(fresh.id)
            tombstone_pointer(self._store, fresh.id, self._clock)
            return self._take_or_refuse(winner, name, get_or_create)
        try:
            claimed = self._claimed(fresh.id)
        except Unavailable as error:  # it has its name
            raise Unknown(f"it can't be told whether the collection exists name={name!r} id={fresh.id}", hint="look for it") from error
        if not claimed:
            self.take_name(database.tenant, database.name, fresh.id)
            raise Unavailable(
                f"a sweep took the nameless collection for what a crash had left name={name!r} id={fresh.id}",
                hint="it does not exist: make it again",
            )
        return Named(name, fresh)

    def claim(self, cid: CollectionId) -> CollectionObject:
        """The collection, without a sweep's mark that it is abandoned: from here on none deletes it.

        Must be called by whoever relies on a collection whose object has the mark (``CollectionObject.abandoned``), before anything is
        acknowledged. The sweep deletes it on condition that its mark stands as it was when it looked for a name.

        Raises ``NotFound`` (the sweep was first), ``Conflict``, ``Unknown``.
        """
        return self.modify(cid, lambda found: found)

    def _claimed(self, cid: CollectionId) -> bool:
        """Whether a collection that was just named stays: ``False`` if a sweep was deleting it for having no name."""
        held = self._register(cid).read().value
        found = None if held is None else CollectionObject.of(layout.collection_key(cid), held)
        if found is None or (found.deleted and found.abandoned is not None):
            return False
        if found.abandoned is not None:
            try:
                self.claim(cid)
            except NotFound:
                return False
        return True  # also if somebody has deleted it by its name already: then it did exist

    def rename(self, tenant: str, database: str, cid: CollectionId, new_name: str) -> None:
        """Give a collection another name, in its place. Raises ``Conflict`` if it is taken, ``NotFound``, ``Invalid``."""
        layout.check_name(new_name)
        register = self.databases.register(tenant, database)

        def change(value: dict[str, Any] | None) -> dict[str, Any]:
            found = None if value is None else Database.of(register.key, value)
            if found is None or found.deleted or cid not in found.collections.values():
                raise NotFound(f"no such collection id={cid} tenant={tenant!r} database={database!r}")
            holder = self._holder(found, new_name)
            if holder is not None and holder.id != cid:
                raise Conflict(f"the name is taken name={new_name!r}", hint="choose another name")
            kept = {n: c for n, c in found.collections.items() if n != new_name or c == cid}
            renamed = {(new_name if c == cid else n): c for n, c in kept.items()}
            return replace(found, collections=renamed).value()

        register.update(change)

    def modify(self, cid: CollectionId, change: Callable[[CollectionObject], CollectionObject]) -> CollectionObject:
        """Change a collection's object by compare-and-set; ``change`` is pure, and called again when it lost a race.

        Raises ``NotFound`` if the collection is absent or deleted, ``Conflict``, ``Unknown``, and what ``change``
        raises.
        """
        register = self._register(cid)

        def apply(value: dict[str, Any] | None) -> dict[str, Any]:
            if value is None:
                raise NotFound(f"no such collection id={cid}")
            found = CollectionObject.of(register.key, value)
            if found.deleted:
                raise NotFound(f"the collection was deleted id={cid}")
            return replace(change(found), abandoned=None).value()

        return CollectionObject.of(register.key, register.update(apply) or {})

    def fix_dimension(self, cid: CollectionId, dimension: int) -> CollectionObject:
        """Fix the dimension of a collection's embeddings, once. Raises ``Invalid`` if it is fixed to another."""

        def change(found: CollectionObject) -> CollectionObject:
            if found.dimension is None:
                return replace(found, dimension=dimension)
            if found.dimension != dimension:
                raise Invalid(
                    f"the collection has another dimension id={cid} dimension={found.dimension} given={dimension}",
                    hint="embed with the model that the collection was filled with",
                )
            return found

        return self.modify(cid, change)

    def delete(self, tenant: str, database: str, name: str) -> CollectionId:
        """Delete the collection of this name, and return its id. Raises ``NotFound``."""
        found = self.databases.peek(tenant, database)
        if found is None or name not in found.collections:
            raise NotFound(f"no such collection name={name!r} tenant={tenant!r} database={database!r}")
        cid = CollectionId(found.collections[name])
        alive = self._mark_deleted(cid)
        self.take_name(tenant, database, cid)
        tombstone_pointer(self._store, cid, self._clock)
        if not alive:
            raise NotFound(f"the collection was deleted already name={name!r} id={cid}")
        return cid

    def take_name(self, tenant: str, database: str, cid: CollectionId) -> None:
        """Let no name of the database lead to this collection."""
        register = self.databases.register(tenant, database)

        def unlink(value: dict[str, Any] | None) -> dict[str, Any] | None:
            current = None if value is None else Database.of(register.key, value)
            if current is None or cid not in current.collections.values():
                return None
            return replace(current, collections={n: c for n, c in current.collections.items() if c != cid}).value()

        register.update(unlink)

    def delete_database(self, tenant: str, database: str) -> None:
        """Delete a database with its collections. Raises ``NotFound``."""
        closed = self.databases.close(tenant, database)
        for cid in map(CollectionId, closed.collections.values()):
            self._mark_deleted(cid)
            tombstone_pointer(self._store, cid, self._clock)
        self.databases.unlink(closed)

    # Parts ---------------------------------------------------------------------------------------------------------

    def _register(self, cid: CollectionId) -> Register:
        return Register(self._store, layout.collection_key(cid), self._clock)

    def _try_get(self, cid: CollectionId) -> CollectionObject | None:
        try:
            return self.get(cid)
        except NotFound:  # deleted while we listed
            return None

    def _holder(self, database: Database, name: str) -> CollectionObject | None:
        """The living collection that holds ``name``; a deleted one holds nothing."""
        cid = database.collections.get(name)
        return None if cid is None else self._try_get(CollectionId(cid))

    def _take_or_refuse(self, taken: CollectionObject, name: str, get_or_create: bool) -> Named:
        if get_or_create:
            return Named(name, taken if taken.abandoned is None else self.claim(taken.id))
        raise Conflict(
            f"the collection exists already name={name!r} id={taken.id}", hint="use get_or_create_collection"
        )

    def _link(self, database: Database, name: str, fresh: CollectionObject) -> CollectionObject:
        """Give ``fresh`` the name, unless a living collection has it; return who holds the name afterwards."""
        register = self.databases.register(database.tenant, database.name)
        holder = fresh

        def change(value: dict[str, Any] | None) -> dict[str, Any] | None:
            nonlocal holder
            current = database if value is None else Database.of(register.key, value)
            if current.deleted:
                raise NotFound(f"the database was deleted tenant={database.tenant!r} database={database.name!r}")
            holder = self._holder(current, name) or fresh
            if holder.id != fresh.id:
                return None
            kept = {n: c for n, c in current.collections.items() if n != name}
            return replace(current, collections={**kept, name: fresh.id}).value()

        register.update(change)
        return holder

    def _mark_deleted(self, cid: CollectionId) -> bool:
        """Mark a collection deleted; whether it was alive."""
        alive = False
        register = self._register(cid)

        def change(value: dict[str, Any] | None) -> dict[str, Any] | None:
            nonlocal alive
            found = None if value is None else CollectionObject.of(register.key, value)
            if found is None or found.deleted:
                return None
            alive = True  # and stays so if we meet our own mark, whose reply was lost
            return replace(found, deleted=True).value()

        register.update(change)
        return alive

    def _ensure_store_object(self) -> None:
        """``store.json``: written once, after a probe showed that this store can keep the promises."""
        register = Register(self._store, layout.store_key(), self._clock)
        held = register.read().value
        if held is not None:
            check_format(register.key, held, STORE_FORMAT)
        else:
            register.create(
                {
                    "format": STORE_FORMAT,
                    "id": self._clock.random_uuid(),
                    "created_us": self._clock.now_us(),
                    "probe": probe(self._store, self._clock).as_json(),
                }
            )
