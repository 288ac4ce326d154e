"""One open store, with everything that a client needs of it: catalog, writer, reader, and their shared memory.

The writer notes what it wrote and the reader asks for it, so a process always sees its own writes, whatever its read
level.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chromalith.client.pins import At, version_at, version_number
from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.coord.catalog import Catalog
from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.collections import Collections
from chromalith.errors import Invalid, NotFound
from chromalith.model import layout
from chromalith.model.delta import decode_delta
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.manifest import Manifest
from chromalith.read.reader import DEFAULT_STALENESS_S, CollectionReader, ReadLevel
from chromalith.read.view import View
from chromalith.store.cache import Cache
from chromalith.store.port import Store
from chromalith.write.writer import DeltaWriter, OwnWrites

CACHE_DIR_VARIABLE = "CHROMALITH_CACHE_DIR"


def default_cache_dir() -> Path:
    """Where hydrated segments go if nobody says: ``CHROMALITH_CACHE_DIR``, else ``chromalith`` in the user's cache."""
    named = os.environ.get(CACHE_DIR_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chromalith"


@dataclass(frozen=True, slots=True)
class Pinned:
    """What an ``at=`` client reads: when, and in which database the names of its versions are looked up."""

    at: At
    tenant: str
    database: str


class OpenedStore:
    """A store and what works on it. Safe to share between threads, not between processes.

    Args:
        store: where everything is.
        read_level, max_staleness_s: of reads that name no level.
        cache_dir: where segments are hydrated to; ``None``: a directory of its own, removed by :meth:`close`.
        pinned: older versions to read; then nothing may be written.
        clock: time and chance.
    """

    def __init__(
        self,
        store: Store,
        *,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
        max_staleness_s: float = DEFAULT_STALENESS_S,
        cache_dir: Path | None = None,
        pinned: Pinned | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.store = store
        self.clock = clock
        self._read_level = read_level
        self._max_staleness_s = max_staleness_s
        self._pinned = pinned
        self._own_dir = tempfile.TemporaryDirectory(prefix="chromalith-") if cache_dir is None else None
        self._cache = Cache(store, Path(self._own_dir.name) if self._own_dir else cache_dir or Path(), clock)
        self.catalog = Catalog(store, clock)
        self._assemble()

    def _assemble(self) -> None:
        self._own = OwnWrites()
        self._manifests: dict[CollectionId, Manifest | None] = {}
        self._collections = Collections(self.store, self.catalog)
        self.writer = DeltaWriter(self.store, self._collections, self.clock, self._own)
        self._reader = CollectionReader(
            self.store,
            self._collections,
            self._cache,
            self.clock,
            pending=self._own.pending,
            forget=self._own.forget,
        )

    def view(self, cid: CollectionId, level: ReadLevel | None = None) -> View:
        """A state of the collection at ``level``, or at this client's. Raises as ``CollectionReader.view``."""
        if self._pinned is not None:
            manifest = self._manifest(cid, self._pinned)
            if manifest is not None:
                return self._reader.view_of(manifest)
        return self._reader.view(cid, level=level or self._read_level, max_staleness_s=self._max_staleness_s)

    def _manifest(self, cid: CollectionId, pinned: Pinned) -> Manifest | None:
        """The pinned version of a collection; ``None`` if it is not pinned. Looked up once."""
        if cid not in self._manifests:
            if isinstance(pinned.at, datetime):
                self._manifests[cid] = version_at(self.store, cid, pinned.at)
            else:
                name = self.catalog.lookup_id(pinned.tenant, pinned.database, cid).name
                version = pinned.at.get(name)
                self._manifests[cid] = None if version is None else version_number(self.store, cid, version)
        return self._manifests[cid]

    def check_writable(self) -> None:
        """Raise ``Invalid`` if this client reads the past."""
        if self._pinned is not None:
            raise Invalid("a client that was opened with at= is read-only", hint="open one without at= to write")

    def collection(self, cid: CollectionId) -> CollectionObject:
        """The collection's object as last seen, once it has a dimension: schema and dimension stay what they are."""
        known = self._collections.known(cid)
        return self._collections.refresh(cid) if known is None or known.dimension is None else known

    def known(self, cid: CollectionId) -> CollectionObject | None:
        """The collection's object as this process last saw it. No request."""
        return self._collections.known(cid)

    def operations(self, deltas: Sequence[DeltaId], cid: CollectionId) -> int:
        """How many operations these deltas carry; one that was swept since has been folded, and counts as none."""
        count = 0
        for delta in deltas:
            with suppress(NotFound):
                body = self.store.get(layout.delta_key(cid, delta)).body
                operations = decode_delta(cid, delta, body).operations
                count += 0 if operations is None else len(operations)  # a void delta stands for none
        return count

    def erase(self) -> None:
        """Delete every object of the store: the catalog first, so that nothing leads to what is going."""
        for prefix in ("catalog/", ""):
            for page in list(self.store.list(prefix)):
                for entry in page:
                    self.store.delete(entry.key)
        self._assemble()

    def close(self) -> None:
        """Release what is held on this machine. Nothing is written: an acknowledged write is durable already."""
        if self._own_dir is not None:
            self._own_dir.cleanup()
