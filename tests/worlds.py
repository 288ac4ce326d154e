"""A small world for tests: one store with one collection, writers, readers and compactors on it, and a clock that is held.

Each actor gets a store of its own (a wrapper around the shared one), so that a test can let one of them fail, or count what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import numpy as np

from chromalith.clock import ManualClock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.coord.pointer import read_current
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.plan import MergePolicy
from chromalith.read.reader import ReadLevel
from chromalith.read.view import Records, View
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Entry, ETag, Object, Store
from chromalith.store.wrappers import DelegatingStore
from chromalith.write.writer import DeltaWriter, Receipt

TENANT, DATABASE, NAME = "default_tenant", "default_database", "words"
DIMENSION = 3
NEVER = 1_000_000_000
"""A merge policy's floor or fan-in that no test reaches."""


class World:
    """One collection in one store.

    Args:
        remote: whether the shared store is as a remote one (:class:`Settling`), and not only a memory store.
        settings: of compactors; without merges and leases when left out (a crashed one must not keep the next from going on).
    """

    def __init__(
        self, *, remote: bool = False, space: str = "l2", settings: CompactionSettings | None = None
    ) -> None:
        self.clock = ManualClock()
        self.store: Store = MemoryStore(self.clock)
        if remote:
            self.store = Settling(self.store)
        never = MergePolicy(fan_in=64, rows_floor=NEVER, deleted_fraction_max=1)
        self.settings = settings or CompactionSettings(merge=never, lease=False)
        self.catalog = Catalog(self.store, self.clock)
        self.space = space
        self.cid = self.create()
        self._exit = ExitStack()
        self._writer: DeltaWriter | None = None

    def create(self, name: str = NAME) -> CollectionId:
        """Create a collection; the world's own unless named."""
        configuration = {"hnsw": {"space": self.space}}
        return self.catalog.create(TENANT, DATABASE, name, configuration=configuration).collection.id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def session(self, store: Store | None = None, **options: Any) -> Session:
        """A process: its own writer, reader and cache."""
        session = Session(store or self.store, clock=self.clock, **options)
        self._exit.callback(session.close)
        return session

    def writer(self, store: Store | None = None) -> DeltaWriter:
        store = store or self.store
        writer = DeltaWriter(store, Collections(store, Catalog(store, self.clock)), self.clock)
        self._exit.callback(writer.close)
        return writer

    def compactor(self, store: Store | None = None, settings: CompactionSettings | None = None) -> Compactor:
        store = store or self.store
        return Compactor(store, Collections(store, Catalog(store, self.clock)), self.clock, settings or self.settings)

    def compact(self, **settings: Any) -> Outcome:
        """What a compactor that just started does now; ``settings`` differ from the world's."""
        return self.compactor(settings=replace(self.settings, **settings)).run_once(self.cid)

    def current(self) -> Manifest:
        """The current version."""
        return read_current(self.store, self.cid).manifest

    def view(self, store: Store | None = None) -> View:
        """What a process that just started sees."""
        return self.session(store).view(self.cid, ReadLevel.INDEX_AND_WAL)

    def upsert(self, ids: str | Sequence[str], value: float = 0.0, writer: DeltaWriter | None = None, **columns: Any) -> Receipt:
        """Upsert records whose documents say ``value``, by the world's own writer unless another is given."""
        if self._writer is None:
            self._writer = self.writer()
        ids = list(ids)
        columns = {"documents": [f"{value:g}"] * len(ids)} | columns
        return (writer or self._writer).write(self.cid, "upsert", ids, vectors(len(ids), value), **columns)

    def documents(self, store: Store | None = None) -> dict[str, str | None]:
        """Documents by id, in the order of ``get``, as a process that just started sees them."""
        return documents(self.view(store))


def vectors(rows: int, value: float) -> Any:
    return np.full((rows, DIMENSION), value, np.float32)


def documents(view: View) -> dict[str, str | None]:
    found: Records = view.get(include=("documents",))
    assert found.documents is not None
    assert view.count() == len(found.ids) == len(set(found.ids))
    return dict(zip(found.ids, found.documents, strict=True))


def merging(**settings: Any) -> CompactionSettings:
    """Settings that merge at every opportunity, without leases."""
    return CompactionSettings(**({"merge": MergePolicy(fan_in=2, rows_floor=NEVER), "lease": False} | settings))


def keys(store: Store, prefix: str = "", suffix: str = "") -> list[str]:
    """The keys in a store with this beginning and end."""
    return [entry.key for page in store.list(prefix) for entry in page if entry.key.endswith(suffix)]


def altered(store: Store, key: str, change: Callable[[bytes], bytes]) -> None:
    """Damage an object in place."""
    store.put(key, change(store.get(key).body))


class Settling(DelegatingStore):
    """As a remote store: timestamps are whole seconds, and an object may be missing from listings for ``settle_s`` after its own.

    ``hidden`` holds the keys that listings do not show yet.
    """

    settle_s = 2.0

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.hidden: set[str] = set()

    def get(self, key: str) -> Object:
        found = self.inner.get(key)
        return replace(found, modified_us=whole_seconds(found.modified_us))

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        found = self.inner.get_if_changed(key, etag)
        return None if found is None else replace(found, modified_us=whole_seconds(found.modified_us))

    def head(self, key: str) -> Entry:
        found = self.inner.head(key)
        return replace(found, modified_us=whole_seconds(found.modified_us))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        for page in self.inner.list(prefix, start_after=start_after):
            shown = [replace(e, modified_us=whole_seconds(e.modified_us)) for e in page if e.key not in self.hidden]
            if shown:
                yield shown


class Paging(DelegatingStore):
    """Listings of the deltas come in pages of ``entries``, each read when it is asked for; ``between`` runs before each but the first."""

    def __init__(self, inner: Store, entries: int, between: Callable[[int], None] = lambda page: None) -> None:
        super().__init__(inner)
        self._entries = entries
        self._between = between

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        page = 0
        while True:
            if page:
                self._between(page)
            found = [entry for part in self.inner.list(prefix, start_after=start_after) for entry in part][: self._entries]
            if not found:
                return
            yield found
            page += 1
            start_after = found[-1].key


def whole_seconds(us: int) -> int:
    return us // 1_000_000 * 1_000_000
