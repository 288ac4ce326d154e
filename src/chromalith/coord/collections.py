"""What a process knows of the collections that it works on: one conditional GET tells whether that still holds."""

from __future__ import annotations

import threading

from chromalith.coord.catalog import Catalog
from chromalith.coord.collection_object import CollectionObject
from chromalith.errors import NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import ETag, Store


class Collections:
    """Collection objects by id, with the entity tags they were read under. Safe to share between threads."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._lock = threading.Lock()
        self._known: dict[CollectionId, tuple[CollectionObject, ETag]] = {}

    def known(self, cid: CollectionId) -> CollectionObject | None:
        """What was last read of a collection, or ``None``. No request."""
        held = self._known.get(cid)
        return None if held is None else held[0]

    def get(self, cid: CollectionId) -> CollectionObject:
        """The collection as the store has it now: one GET. Raises ``NotFound`` if it does not exist or was deleted."""
        key = layout.collection_key(cid)
        try:
            found = self._store.get(key)
        except NotFound as error:
            raise NotFound(f"the collection does not exist collection={cid}") from error
        return self._keep(cid, CollectionObject.parse(key, found.body), found.etag)

    def refresh(self, cid: CollectionId) -> CollectionObject:
        """As :meth:`get`, by a conditional GET where something is known."""
        held = self._known.get(cid)
        if held is None:
            return self.get(cid)
        key = layout.collection_key(cid)
        found = self._store.get_if_changed(key, held[1])
        return held[0] if found is None else self._keep(cid, CollectionObject.parse(key, found.body), found.etag)

    def check_alive(self, cid: CollectionId) -> CollectionObject:
        """As :meth:`refresh`, for a writer: the collection takes what is about to be acknowledged, and no sweep deletes it as abandoned."""
        found = self.refresh(cid)
        if found.abandoned is None:
            return found
        self._catalog.claim(cid)
        return self.get(cid)

    def fix_dimension(self, cid: CollectionId, dimension: int) -> CollectionObject:
        """Fix the dimension of a collection that has none. Raises ``Invalid`` if another writer fixed another one."""
        self._catalog.fix_dimension(cid, dimension)
        return self.get(cid)

    def _keep(self, cid: CollectionId, collection: CollectionObject, etag: ETag) -> CollectionObject:
        with self._lock:
            if collection.deleted:
                self._known.pop(cid, None)
                raise NotFound(f"the collection was deleted collection={cid}")
            self._known[cid] = (collection, etag)
        return collection
