"""The functions of the migration guide, so that code that was written for them only changes its import.

They are thin: each opens the store once in a process and keeps it, so that a warm Lambda pays for a write or a query only,
not for the opening. Without arguments they take the guide's environment variables: ``DELTA_BUCKET`` and ``DELTA_QUEUE_URL`` for
producers, ``CHROMADB_BUCKET`` for queries. A bucket is a bucket's name, or the URL of any store.

Queries answer from the newest snapshot, and look for a newer one at most every five minutes, as the guide's own cache did. So what was
written meanwhile appears after its compaction and that time; this process's own writes are seen at once. For more, use
:class:`chromalith.Reader`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from chromalith.aws.queue import queue_named
from chromalith.coord.catalog import Named
from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.observe.configured import configured
from chromalith.observe.events import DeltaWritten
from chromalith.read.reader import ReadLevel
from chromalith.read.view import View
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.url import canonical_url
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, open_session
from chromalith.write.notify import Notifier
from chromalith.write.writer import Receipt

DELTA_BUCKET = "DELTA_BUCKET"
DELTA_QUEUE_URL = "DELTA_QUEUE_URL"
CHROMADB_BUCKET = "CHROMADB_BUCKET"
EMBED = "CHROMALITH_EMBED"
STORE = "CHROMALITH_STORE"

SNAPSHOT_AGE_MAX_S = 300.0  # the guide's five minutes
HAND_OVER_S = 1.0  # for the queue to take a hint, so that the result can say so; while a queue hangs, one call waits, and not the next
_INCLUDE = ("documents", "metadatas", "distances")
_COLUMNS = ("embeddings", "documents", "uris", "metadatas", "distances")

Embed = Callable[[list[str]], Any]
Result = TypeVar("Result")


@dataclass(slots=True)
class Warm:
    """A store that stays open, and the collections that were looked up in it."""

    session: Session
    ids: dict[tuple[str, str, str], CollectionId] = field(default_factory=dict)

    def on(self, tenant: str, database: str, name: str, act: Callable[[CollectionId], Result]) -> Result:
        """``act`` on the collection; a name that leads nowhere any more is looked up again, once."""
        key = (tenant, database, name)
        known = self.ids.get(key)
        if known is not None:
            try:
                return act(known)
            except NotFound:
                self.ids.pop(key, None)  # deleted, and perhaps made again
        cid = self.ids[key] = self.session.catalog.lookup(tenant, database, name).collection.id
        return act(cid)


_lock = threading.Lock()
_warm: dict[str, Warm] = {}
_notifiers: dict[str, Notifier] = {}


def produce_embedding_delta(
    ids: Sequence[str],
    embeddings: Any,
    documents: Sequence[str | None] | None = None,
    metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    bucket: str | None = None,
    queue_url: str | None = None,
    *,
    collection: str = "words",
    space: str = "l2",
    call_id: str | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Write records as one delta: one atomic, durable upsert. Any number of processes may do so at once.

    Args:
        ids: unique, non-empty strings.
        embeddings: anything that makes float32 (n, dim).
        documents, metadatas: one entry for each id, or ``None``.
        bucket: a bucket's name or a store's URL; else ``DELTA_BUCKET``, else ``CHROMALITH_STORE``.
        queue_url: the SQS queue that compactors are told by; else ``DELTA_QUEUE_URL``, else ``CHROMALITH_QUEUE_URL``; empty: none. Telling
            it fails no write; what it is not told of, a scheduled compaction finds.
        collection: created, with the distance ``space``, if it does not exist.
        call_id: a name for this call, such as the id of a queue's message: calls of one name count once.
        tenant, database, storage_options: as for :class:`chromalith.Writer`.

    Returns:
        ``status`` (``"success"``), ``delta_id``, ``delta_key``, ``item_count``, ``delta_size_bytes``, ``collection``, ``token``,
        ``queued``: whether the queue is known to have taken the message, a second after the write at the latest.

    Raises ``Invalid`` (nothing was written), ``Unavailable`` (did not happen), ``Unknown`` (can't be told).
    """
    warm = _opened(bucket, (DELTA_BUCKET, STORE), storage_options)
    notifier = queue_notifier(queue_url, storage_options)  # what is wrong with the URL is said before anything is written

    def write(cid: CollectionId) -> dict[str, Any]:
        receipt = warm.session.writer.write(cid, "upsert", ids, embeddings, documents, None, metadatas, call_id=call_id)
        return {
            "status": "success",
            "delta_id": str(receipt.delta),
            "delta_key": layout.delta_key(cid, receipt.delta),
            "item_count": receipt.rows,
            "delta_size_bytes": receipt.bytes,
            "collection": collection,
            "token": receipt.token,
            "queued": notifier is not None and handed_over(notifier, receipt),
        }

    try:
        return warm.on(tenant, database, collection, write)
    except NotFound:
        _create(warm.session, tenant, database, collection, space)
        return warm.on(tenant, database, collection, write)


def query_chromadb_snapshot(
    query_text: str | Sequence[str] | None = None,
    *,
    bucket: str | None = None,
    query_embeddings: Any = None,
    n_results: int = 10,
    collection: str = "words",
    where: Any = None,
    where_document: Any = None,
    include: Collection[str] = _INCLUDE,
    embed: Embed | str | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The nearest records of the newest snapshot, in the shape of Chroma's own query result.

    Args:
        query_text: a text or several, embedded by ``embed``; or else give ``query_embeddings``: float32 (dim,) or (q, dim).
        bucket: a bucket's name or a store's URL; else ``CHROMADB_BUCKET``, else ``CHROMALITH_STORE``.
        n_results, where, where_document, include: as in Chroma's ``query``.
        collection: its name.
        embed: a function from a list of texts to their vectors, or its name as ``module:function``; else ``CHROMALITH_EMBED``.
        tenant, database, storage_options: as for :class:`chromalith.Reader`.

    Returns:
        ``ids``, ``distances``, ``documents``, ``metadatas``, ``embeddings``, ``uris``, ``data``, ``included``: for each query a
        list, nearest first; ``None`` for what was not included.

    Raises ``Invalid``, ``NotFound`` (no such collection), ``Unavailable``, ``Corrupt``.
    """
    unknown = [name for name in include if name not in _COLUMNS]
    if unknown:
        raise Invalid(f"cannot include this include={unknown[0]!r}", hint=f"names out of {', '.join(_COLUMNS)}")
    queries = query_vectors(query_text, query_embeddings, embed)
    warm = _opened(bucket, (CHROMADB_BUCKET, STORE), storage_options)

    def ask(cid: CollectionId) -> dict[str, Any]:
        view = warm.session.view(cid)
        found = view.query(queries, n_results, where=where, where_document=where_document, include=include)
        columns = {name: [getattr(each, name) for each in found] if name in include else None for name in _COLUMNS}
        return {"ids": [each.ids for each in found], **columns, "data": None, "included": list(include)}

    return warm.on(tenant, database, collection, ask)


def query_snapshot_count(
    collection: str = "words",
    *,
    bucket: str | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: Mapping[str, object] | None = None,
) -> int:
    """How many records the newest snapshot has. Arguments and errors as for :func:`query_chromadb_snapshot`."""
    warm = _opened(bucket, (CHROMADB_BUCKET, STORE), storage_options)
    return warm.on(tenant, database, collection, lambda cid: warm.session.view(cid).count())


def get_latest_snapshot(
    collection: str = "words",
    *,
    bucket: str | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Which snapshot queries answer from: looked up at most every five minutes.

    Returns:
        ``collection``, ``store`` (its canonical URL), ``version``, ``manifest_key``, ``records``.

    Arguments and errors as for :func:`query_chromadb_snapshot`.
    """
    warm = _opened(bucket, (CHROMADB_BUCKET, STORE), storage_options)
    view: View = warm.on(tenant, database, collection, warm.session.view)
    return {
        "collection": collection,
        "store": warm.session.store.url,
        "version": view.manifest.version,
        "manifest_key": view.manifest.key,
        "records": view.manifest.live,
    }


def embedding_function(path: str) -> Embed:
    """The function that ``module:function`` names, checked to return a vector for each text. Raises ``Invalid``."""
    module_name, colon, function_name = path.partition(":")
    if not colon or not module_name or not function_name:
        raise Invalid(f"not the name of a function embed={path!r}", hint="write module:function, as in my_models:embed")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m does: a module of the current folder counts
    try:
        function: Embed = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise Invalid(
            f"the embedding function was not found embed={path!r}: {error}", hint="check module, name and PYTHONPATH"
        ) from error
    return function


def query_vectors(text: str | Sequence[str] | None, embeddings: Any, embed: Embed | str | None = None) -> Any:
    """The vectors to ask with, float32 (q, dim): given, or made of texts. Raises ``Invalid``."""
    if (text is None) == (embeddings is None):
        raise Invalid("a query needs either query_text or query_embeddings", hint="give exactly one of them")
    if text is not None:
        embeddings = embedded([text] if isinstance(text, str) else list(text), embed, instead="query_embeddings")
    try:
        queries = np.asarray(embeddings, np.float32)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"query_embeddings are no vectors of one length: {error}", hint="give float32 (q, dim)"
        ) from error
    return queries.reshape(1, -1) if queries.ndim == 1 else queries


def embedded(texts: list[str], embed: Embed | str | None = None, *, instead: str = "embeddings") -> Any:
    """A vector for each text, by ``embed`` or ``CHROMALITH_EMBED``. Raises ``Invalid``, also where there is no such function.

    ``instead``: the argument that takes ready-made vectors, for the hint.
    """
    function = embed or os.environ.get(EMBED)
    if not function:
        raise Invalid(
            "text needs an embedding function" if instead == "embeddings" else "a query by text needs an embedding function",
            hint=f"give embed=, or set {EMBED}=module:function; or embed the text yourself and give {instead}",
        )
    vectors = (embedding_function(function) if isinstance(function, str) else function)(texts)
    if len(vectors) != len(texts):
        raise Invalid(f"the embedding function returned {len(vectors)} vectors for {len(texts)} texts", hint="one for each")
    return vectors


def _create(session: Session, tenant: str, database: str, name: str, space: str) -> Named:
    try:
        return session.catalog.create(
            tenant, database, name, configuration={"hnsw": {"space": space}}, get_or_create=True
        )
    except Conflict:  # another producer creates it at this moment
        return session.catalog.lookup(tenant, database, name)


def queue_notifier(queue_url: str | None, storage_options: Mapping[str, object] | None = None) -> Notifier | None:
    """What tells the queue at ``queue_url``, or that of the environment; ``None`` if there is none. One for each queue in a process.

    Raises ``Invalid``.
    """
    settings = Settings()
    queue = queue_named(queue_url, storage_options, os.environ.get(DELTA_QUEUE_URL) or settings.queue_url)
    if queue is None:
        return None
    key = json.dumps([queue.url, sorted((k, repr(v)) for k, v in (storage_options or {}).items())])
    with _lock:
        if key not in _notifiers:
            _notifiers[key] = Notifier(queue.send_batch, observe=configured(settings.metrics))
        return _notifiers[key]


def handed_over(notifier: Notifier, receipt: Receipt) -> bool:
    """Tell of a write, and wait a moment: whether the queue is known to have taken the hint."""
    notifier(DeltaWritten(receipt.collection, receipt.delta, receipt.rows, receipt.bytes))
    return notifier.handed_over(receipt.delta, HAND_OVER_S)


def bucket_url(bucket: str | None, variables: Sequence[str]) -> str:
    """The URL of the store that ``bucket`` is, or else the first of ``variables`` that is set. Raises ``Invalid`` if none is."""
    named = bucket or next((os.environ[name] for name in variables if os.environ.get(name)), None)
    if named is None:
        raise Invalid("no bucket was named", hint=f"give bucket=, or set {' or '.join(variables)}")
    # A path can't be told from a bucket's name, but for its first character.
    return named if "://" in named or named.startswith((".", "/", "~")) else f"s3://{named}"


def _opened(bucket: str | None, variables: Sequence[str], storage_options: Mapping[str, object] | None) -> Warm:
    """The store at ``bucket``, or where the first of ``variables`` that is set says; opened once in a process."""
    url = bucket_url(bucket, variables)
    key = json.dumps(
        [
            canonical_url(url, storage_options=storage_options),
            sorted((k, repr(v)) for k, v in (storage_options or {}).items()),
        ]
    )
    with _lock:
        if key not in _warm:
            session = open_session(
                url,
                read_level=ReadLevel.INDEX_ONLY,
                max_staleness_s=SNAPSHOT_AGE_MAX_S,
                storage_options=storage_options,
                queue_url="",  # which queue is told is said with each call
            )
            _warm[key] = Warm(session)
        return _warm[key]
