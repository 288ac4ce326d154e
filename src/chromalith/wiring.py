"""The public verbs without ``chromadb``: a URL in, a writer, a reader or a compaction out.

Nothing is decided here: each name opens a store and puts the parts together.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.coord.catalog import Named
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.read.reader import DEFAULT_STALENESS_S, ReadLevel
from chromalith.read.view import Records, View
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.url import open_store
from chromalith.write.writer import Receipt

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
_DEFAULT_CONFIGURATION = {"hnsw": {"space": "l2"}}

Result = TypeVar("Result")
At = datetime | str | int | Mapping[str, int]
StorageOptions = Mapping[str, object]


def open_session(
    url: str | None = None,
    *,
    read_level: ReadLevel | str = ReadLevel.INDEX_AND_WAL,
    max_staleness_s: float = DEFAULT_STALENESS_S,
    cache_dir: str | Path | None = None,
    storage_options: StorageOptions | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Session:
    """Open the store at ``url`` (or ``CHROMALITH_STORE``) with the cache of this machine. Makes no request."""
    settings = Settings()
    return Session(
        open_store(url or settings.store_or_fail(), storage_options=storage_options, clock=clock),
        read_level=ReadLevel(read_level),
        max_staleness_s=max_staleness_s,
        cache_dir=Path(cache_dir) if cache_dir is not None else settings.cache_dir,
        cache_bytes_max=settings.cache_bytes_max,
        clock=clock,
    )


class _Opened:
    """A session, and the database that names are looked up in. Names are looked up once, and again when a collection is gone."""

    def __init__(self, session: Session, tenant: str, database: str) -> None:
        self.session = session
        self._tenant = tenant
        self._database = database
        self._ids: dict[str, CollectionId] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release threads and files. Nothing is written: what was acknowledged is durable."""
        self.session.close()

    def _resolve(self, name: str) -> CollectionId:
        if name not in self._ids:
            self._ids[name] = self.session.catalog.lookup(self._tenant, self._database, name).collection.id
        return self._ids[name]

    def _on(self, name: str, act: Callable[[CollectionId], Result]) -> Result:
        known = name in self._ids
        try:
            return act(self._resolve(name))
        except NotFound:
            self._ids.pop(name, None)
            if not known:
                raise
            return act(self._resolve(name))  # deleted and made again under the same name


class Writer(_Opened):
    """Writes to the collections of a store; needs no ``chromadb``. Any number of writers may write at once, anywhere.

    Args:
        url: of the store, or ``None`` for ``CHROMALITH_STORE``.
        tenant, database: where collections are named.
        storage_options: credentials and endpoint of a remote store (see :mod:`chromalith.store.url`).

    Every method is one atomic call, and returns once it is durable. All raise ``Invalid`` (nothing was written), ``NotFound``
    (no such collection), ``Unavailable`` (did not happen) or ``Unknown`` (can't be told).
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        storage_options: StorageOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(open_session(url, storage_options=storage_options, clock=clock), tenant, database)

    def add(self, collection: str, *, ids: Sequence[str], call_id: str | None = None, **columns: Any) -> Receipt:
        """Insert records; an id that exists is left as it is. Columns as for :meth:`upsert`."""
        return self._write("add", collection, ids, call_id, columns)

    def update(self, collection: str, *, ids: Sequence[str], call_id: str | None = None, **columns: Any) -> Receipt:
        """Change the given fields of records; an id that does not exist is ignored. Columns as for :meth:`upsert`."""
        return self._write("update", collection, ids, call_id, columns)

    def upsert(self, collection: str, *, ids: Sequence[str], call_id: str | None = None, **columns: Any) -> Receipt:
        """Insert records, or change the given fields of those that exist.

        Args:
            collection: the collection's name.
            ids: unique, non-empty strings.
            call_id: a name for this call: calls of one name count once, however often they are retried.
            columns: ``embeddings`` (anything that makes float32 (n, dim)), ``documents``, ``uris``, ``metadatas``: each with
                an entry for each id. Metadata is merged; a ``None`` in it removes its key.
        """
        return self._write("upsert", collection, ids, call_id, columns)

    def delete(self, collection: str, *, ids: Sequence[str], call_id: str | None = None) -> Receipt:
        """Delete records by id; an id that does not exist is ignored."""
        return self._write("delete", collection, ids, call_id, {})

    def create(self, collection: str, *, space: str = "l2", get_or_create: bool = False) -> Named:
        """Create a collection with the distance ``l2``, ``cosine`` or ``ip``. Raises ``Conflict`` if the name is taken."""
        configuration = {"hnsw": {**_DEFAULT_CONFIGURATION["hnsw"], "space": space}}
        return self.session.catalog.create(
            self._tenant, self._database, collection, configuration=configuration, get_or_create=get_or_create
        )

    def _write(self, op: str, name: str, ids: Sequence[str], call_id: str | None, columns: dict[str, Any]) -> Receipt:
        unknown = columns.keys() - {"embeddings", "documents", "uris", "metadatas"}
        if unknown:
            raise TypeError(f"unknown columns: {', '.join(sorted(unknown))}")
        return self._on(name, lambda cid: self.session.writer.write(cid, op, ids, **columns, call_id=call_id))


class Reader(_Opened):
    """Reads the collections of a store; needs no ``chromadb``. A read never writes to the store.

    Args:
        url, tenant, database, storage_options: as for :class:`Writer`.
        read_level, max_staleness_s: how fresh answers are (:mod:`chromalith.read.reader`).
        cache_dir: where segments are hydrated to.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel | str = ReadLevel.INDEX_AND_WAL,
        max_staleness_s: float = DEFAULT_STALENESS_S,
        cache_dir: str | Path | None = None,
        storage_options: StorageOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        session = open_session(
            url,
            read_level=read_level,
            max_staleness_s=max_staleness_s,
            cache_dir=cache_dir,
            storage_options=storage_options,
            clock=clock,
        )
        super().__init__(session, tenant, database)

    def view(self, collection: str, *, read_level: ReadLevel | str | None = None) -> View:
        """One consistent state, for several answers of the same moment."""
        level = None if read_level is None else ReadLevel(read_level)
        return self._on(collection, lambda cid: self.session.view(cid, level))

    def count(self, collection: str, *, read_level: ReadLevel | str | None = None) -> int:
        """The number of live records."""
        return self.view(collection, read_level=read_level).count()

    def get(self, collection: str, *, read_level: ReadLevel | str | None = None, **selection: Any) -> Records:
        """Records by id and filter, in the order of insertion; ``selection`` as for :meth:`chromalith.read.view.View.get`."""
        return self.view(collection, read_level=read_level).get(**selection)

    def query(
        self,
        collection: str,
        *,
        query_embeddings: Any,
        n_results: int = 10,
        where: Any = None,
        where_document: Any = None,
        ids: Collection[str] | None = None,
        include: Collection[str] = ("documents", "metadatas", "distances"),
        read_level: ReadLevel | str | None = None,
    ) -> list[Records]:
        """The nearest records to each of ``query_embeddings`` (float32, (q, dim)), nearest first."""
        queries = np.asarray(query_embeddings, np.float32)
        view = self.view(collection, read_level=read_level)
        return view.query(
            queries.reshape(1, -1) if queries.ndim == 1 else queries,
            n_results,
            ids=ids,
            where=where,
            where_document=where_document,
            include=include,
        )


def compact(
    url: str | None = None,
    collection: str | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    settings: CompactionSettings | None = None,
    storage_options: StorageOptions | None = None,
    progress: Callable[[str, Outcome], None] = lambda step, outcome: None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Outcome]:
    """Compact one collection, or all that have deltas (found by one LIST of the whole store; the others cost nothing).

    With the setting ``stock_snapshot``, each collection of this database that got a new version then gets a stock snapshot of it.

    Raises ``NotFound`` (no such collection), ``Conflict`` (others published first: try later), ``Unknown`` (look first), ``Invalid``
    (stock snapshots without ``chromadb``).
    """
    configured = Settings()
    settings = settings or CompactionSettings(index_threshold=configured.index_threshold)
    stock = configured.stock_snapshot
    if stock and importlib.util.find_spec("chromadb") is None:  # said before anything is compacted
        raise Invalid("stock snapshots need chromadb", hint="pip install 'chromalith[chroma]', or unset CHROMALITH_STOCK_SNAPSHOT")
    with _Opened(open_session(url, storage_options=storage_options, clock=clock), tenant, database) as opened:
        outcomes = _compact(opened, opened.session.compactor(settings, progress=progress), collection)
        if stock:
            from chromalith.chroma.stock_snapshot import publish_stock_snapshots  # chromadb takes a second to import

            publish_stock_snapshots(opened.session, tenant, database, [each.collection for each in outcomes if each.published])
        return outcomes


def _compact(opened: _Opened, compactor: Compactor, collection: str | None) -> list[Outcome]:
    if collection is not None:
        return [opened._on(collection, compactor.run_once)]
    outcomes = []
    for cid in compactor.waiting():
        try:
            outcomes.append(compactor.run_once(cid))
        except NotFound:
            continue  # deleted: its deltas are garbage, and the sweep's
    return outcomes
