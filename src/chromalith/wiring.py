"""The public verbs without ``chromadb``: a URL in, a writer, a reader or a compaction out.

Nothing is decided here: each name opens a store and puts the parts together.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.coord.catalog import Named
from chromalith.coord.lease import LEASE_S_MAX, Sightings
from chromalith.coord.pins import At, Pins, check_at
from chromalith.errors import Invalid, LeaseHeld, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.session_token import SessionToken
from chromalith.observe.hooks import Observer, silent
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
    storage_options: StorageOptions | None = None,
    clock: Clock = SYSTEM_CLOCK,
    observe: Observer = silent,
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
        observe=observe,
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


def compact(
    url: str | None = None,
    collection: str | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    settings: CompactionSettings | None = None,
    storage_options: StorageOptions | None = None,
    progress: Callable[[str, Outcome], None] = lambda step, outcome: None,
    ignore_lease: bool = False,
    merge_executor: Executor | None = None,
    sightings: Sightings | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Outcome]:
    """Compact one collection, or all that have deltas (found by one LIST of the whole store; the others cost nothing).

    What somebody else has the lease of is left to them, and said in ``Outcome.held_by``. Whether they live is waited for, at most one lease
    time (30 s): a killed compactor's lease is taken over. A caller that comes again and again shares ``sightings`` between its
    calls instead; then no call waits. ``ignore_lease`` works without any. ``merge_executor`` runs independent merges side by side.

    With the setting ``stock_snapshot``, each collection of this database that got a new version then gets a stock snapshot of it.

    Raises ``NotFound`` (no such collection), ``LeaseHeld`` (nothing could be done for the collection that was named: somebody else is at
    it), ``Conflict`` (others published first: try later), ``Unknown`` (look first), ``Invalid`` (stock snapshots without ``chromadb``).
    """
    configured = Settings()
    settings = settings or CompactionSettings(index_threshold=configured.index_threshold)
    settings = replace(settings, lease=False) if ignore_lease else settings
    stock = configured.stock_snapshot
    if stock and importlib.util.find_spec("chromadb") is None:  # said before anything is compacted
        raise Invalid("stock snapshots need chromadb", hint="pip install 'chromalith[chroma]', or unset CHROMALITH_STOCK_SNAPSHOT")
    with _Opened(open_session(url, storage_options=storage_options, clock=clock), tenant, database) as opened:
        compactor = opened.session.compactor(
            settings, progress=progress, merge_executor=merge_executor, sightings=sightings, storage_options=storage_options
        )
        outcomes = _compact(opened, compactor, collection, patient=sightings is None)
        if stock:
            from chromalith.chroma.stock_snapshot import publish_stock_snapshots  # chromadb takes a second to import

            publish_stock_snapshots(opened.session, tenant, database, [each.collection for each in outcomes if each.published])
        return outcomes


def _compact(opened: _Opened, compactor: Compactor, collection: str | None, *, patient: bool) -> list[Outcome]:
    if collection is not None:
        outcome = opened._on(collection, lambda cid: _patiently(compactor, compactor.run_once(cid), patient))
        if outcome.held_by is not None and outcome.idle:
            raise LeaseHeld(
                f"somebody else compacts it collection={collection!r} owner={outcome.held_by.owner}",
                hint="let them; `chromalith lock status` tells more, and --ignore-lease works beside them",
            )
        return [outcome]
    outcomes = []
    for cid in compactor.waiting():
        with suppress(NotFound):  # deleted: its deltas are garbage, and the sweep's
            outcomes.append(compactor.run_once(cid))
    # Whose lease is held is known now for all; so the waits below overlap, and take one lease time together.
    return [_patiently(compactor, outcome, patient) for outcome in outcomes]


def _patiently(compactor: Compactor, outcome: Outcome, patient: bool) -> Outcome:
    """Wait until it is known whether who has the lease lives, and do what they left."""
    if not patient or outcome.held_by is None or outcome.held_by.alive:
        return outcome
    try:
        return outcome.then(compactor.run_once(outcome.collection, wait_s=2 * LEASE_S_MAX))
    except NotFound:
        return outcome  # deleted meanwhile
