"""The public verbs without ``chromadb``: a URL in, a writer, a reader or a compaction out.

Nothing is decided here: each name opens a store and puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from chromalith.aws.queue import queue_named
from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.coord.catalog import Named
from chromalith.coord.pins import At, Pins, check_at
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.session_token import SessionToken
from chromalith.observe.configured import configured
from chromalith.observe.hooks import Observer
from chromalith.read.reader import DEFAULT_STALENESS_S, ReadLevel
from chromalith.read.view import Records, View
from chromalith.read.waiting import DEFAULT_TIMEOUT_S
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.url import open_store
from chromalith.write.writer import Receipt

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
_DEFAULT_CONFIGURATION = {"hnsw": {"space": "l2"}}

Result = TypeVar("Result")
StorageOptions = Mapping[str, object]


def open_session(
    url: str | None = None,
    *,
    read_level: ReadLevel | str = ReadLevel.INDEX_AND_WAL,
    max_staleness_s: float = DEFAULT_STALENESS_S,
    cache_dir: str | Path | None = None,
    cache_bytes_max: int | None = None,
    storage_options: StorageOptions | None = None,
    clock: Clock = SYSTEM_CLOCK,
    observe: Observer | None = None,
    lease_table: str | None = None,
    queue_url: str | None = None,
) -> Session:
    """Open the store at ``url`` (or ``CHROMALITH_STORE``) with the cache of this machine. Makes no request.

    ``lease_table``: the DynamoDB table where compactors keep their leases; else ``CHROMALITH_LEASE_TABLE``, else the store.
    ``observe``: told of what was written, compacted and queried; else what ``CHROMALITH_METRICS`` names, else nobody.
    ``queue_url``: the SQS queue that is told of writes; else ``CHROMALITH_QUEUE_URL``; empty: none. Raises ``Invalid`` for what is none.
    """
    settings = Settings()
    queue = queue_named(queue_url, storage_options, settings.queue_url)
    return Session(
        open_store(url or settings.store_or_fail(), storage_options=storage_options, clock=clock),
        read_level=ReadLevel(read_level),
        max_staleness_s=max_staleness_s,
        cache_dir=Path(cache_dir) if cache_dir is not None else settings.cache_dir,
        cache_bytes_max=settings.cache_bytes_max if cache_bytes_max is None else cache_bytes_max,
        clock=clock,
        observe=configured(settings.metrics) if observe is None else observe,
        lease_table=lease_table or settings.lease_table,
        hints_to=None if queue is None else queue.send_batch,
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
        observe: told of each acknowledged call (:mod:`chromalith.observe`); else what ``CHROMALITH_METRICS`` names.
        queue_url: the SQS queue that compactors are told by; else ``CHROMALITH_QUEUE_URL``; empty: none. Hints are sent beside the writes,
            as well as it goes: they fail none, and slow none down.

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
        queue_url: str | None = None,
        observe: Observer | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        session = open_session(url, storage_options=storage_options, clock=clock, queue_url=queue_url, observe=observe)
        super().__init__(session, tenant, database)

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

    def create(
        self, collection: str, *, space: str = "l2", dimension: int | None = None, get_or_create: bool = False
    ) -> Named:
        """Create a collection with the distance ``l2``, ``cosine`` or ``ip``. Raises ``Conflict`` if the name is taken.

        ``dimension`` is fixed at once, also of a collection that exists and has none; without it, the first write fixes it, which a role
        that may write deltas only cannot do. Raises ``Invalid`` if the collection has another.
        """
        configuration = {"hnsw": {**_DEFAULT_CONFIGURATION["hnsw"], "space": space}}
        named = self.session.catalog.create(
            self._tenant,
            self._database,
            collection,
            configuration=configuration,
            dimension=dimension,
            get_or_create=get_or_create,
        )
        if dimension in (None, named.collection.dimension):
            return named
        return replace(named, collection=self.session.catalog.fix_dimension(named.collection.id, dimension))

    def after(self, token: str) -> None:
        """Order whatever is written from now on behind a write of another process: its session token. Makes no request.

        On stores with timestamps of whole seconds, two writes of one second are ordered by their writers' clocks; with this the later
        one wins whatever the clocks say. Raises ``Invalid`` (not a token; a clock over a day ahead).
        """
        self.session.order_after(token)

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
        at: read older versions: a moment with a time zone, a tag, or versions (or tags) by collection name. ``NotFound`` where there is no
            such version (any more).
        observe: told of each answer of ``get`` and ``query``; else what ``CHROMALITH_METRICS`` names.
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
        at: At | None = None,
        storage_options: StorageOptions | None = None,
        observe: Observer | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if at is not None:
            check_at(at)
        session = open_session(
            url,
            read_level=read_level,
            max_staleness_s=max_staleness_s,
            cache_dir=cache_dir,
            storage_options=storage_options,
            clock=clock,
            queue_url="",
            observe=observe,
        )
        super().__init__(session, tenant, database)
        self._pins = None if at is None else Pins(session.store, session.catalog, at, tenant, database)

    def view(
        self,
        collection: str,
        *,
        read_level: ReadLevel | str | None = None,
        after: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> View:
        """One consistent state, for several answers of the same moment.

        ``after``: the token of a write, of any process (:class:`~chromalith.write.writer.Receipt`): wait for it, for at most
        ``timeout_s`` (:meth:`wait` has the errors).
        """
        level = None if read_level is None else ReadLevel(read_level)
        if after is not None and self._pins is not None:
            raise Invalid("a reader of older versions has nothing to wait for", hint="leave out after=, or open a Reader without at=")
        return self._on(collection, lambda cid: self._pinned(cid) or self.session.view(cid, level, after=after, timeout_s=timeout_s))

    def _pinned(self, cid: CollectionId) -> View | None:
        manifest = None if self._pins is None else self._pins.manifest(cid)
        return None if manifest is None else self.session.reader.view_of(manifest)

    def wait(self, token: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, read_level: ReadLevel | str | None = None) -> None:
        """Wait until reads see what a session token stands for. It says itself of which collection it is.

        Raises ``Unavailable`` (not seen in time), ``Conflict`` (set aside by a restore), ``NotFound`` (its writer gave it up, or the
        collection is gone), ``Corrupt`` (quarantined), ``Invalid`` (not a token).
        """
        self.session.wait(token, timeout_s, None if read_level is None else ReadLevel(read_level))

    def count(self, collection: str, *, read_level: ReadLevel | str | None = None, **waiting: Any) -> int:
        """The number of live records. ``waiting``: ``after`` and ``timeout_s``, as for :meth:`view`."""
        return self.view(collection, read_level=read_level, **waiting).count()

    def get(
        self,
        collection: str,
        *,
        read_level: ReadLevel | str | None = None,
        after: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **selection: Any,
    ) -> Records:
        """Records by id and filter, in the order of insertion; ``selection`` as for :meth:`chromalith.read.view.View.get`."""
        return self.view(collection, read_level=read_level, after=after, timeout_s=timeout_s).get(**selection)

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
        after: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> list[Records]:
        """The nearest records to each of ``query_embeddings`` (float32, (q, dim)), nearest first."""
        queries = np.asarray(query_embeddings, np.float32)
        view = self.view(collection, read_level=read_level, after=after, timeout_s=timeout_s)
        return view.query(
            queries.reshape(1, -1) if queries.ndim == 1 else queries,
            n_results,
            ids=ids,
            where=where,
            where_document=where_document,
            include=include,
        )


def wait_for(
    where: Any, token: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, storage_options: StorageOptions | None = None
) -> None:
    """Wait until reads of ``where`` see what a session token stands for; what it writes from then on is ordered behind it.

    Args:
        where: a client that :func:`chromalith.Client` opened, a :class:`Reader`, a :class:`Writer`, or the URL of a store.
        token: of a :class:`~chromalith.write.writer.Receipt`, or :func:`last_token`.
        timeout_s: how long at most, seconds.
        storage_options: for a URL, as for :class:`Writer`.

    Raises as :meth:`Reader.wait`; ``Invalid`` also for something else than a client.
    """
    if where is None or isinstance(where, str):
        with Reader(where, storage_options=storage_options) as reader:
            reader.wait(token, timeout_s)
    else:
        _session_of(where).wait(token, timeout_s)


def last_token(collection: Any) -> str:
    """The session token of the last write that this process made through a Chroma collection, or another one of the same client.

    For :func:`wait_for`, or any ``after=``, in another process: Chroma's own methods return no receipt.

    Raises ``NotFound`` if nothing was written yet, ``Invalid`` if it is no collection of :func:`chromalith.Client`.
    """
    try:
        cid = CollectionId(str(collection.id))
        owner = collection._client
    except AttributeError as error:
        raise Invalid(f"not a collection of a chromadb client type={type(collection).__name__}", hint="give a collection") from error
    delta = _session_of(owner).last_write(cid)
    if delta is None:
        raise NotFound(f"this process has written nothing to the collection yet collection={cid}", hint="write first")
    return str(SessionToken(cid, delta))


def _session_of(where: Any) -> Session:
    if isinstance(where, _Opened):
        return where.session
    from chromalith.client.opened_store import session_of  # whoever has a client has imported chromadb

    return session_of(where)
