"""``chromalith.Client``: a real ``chromadb`` client whose data is on object storage.

Chroma's own ``Client`` and ``Collection`` are used unmodified; a ``System`` of ours gives them our ServerAPI. So
whatever takes a Chroma client takes this one.

There is one System for each canonical URL and set of options in a process, shared by all clients of it, as Chroma does
with its directories; it is stopped when the last of them is closed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chromadb.api import ServerAPI
from chromadb.api.client import Client as ChromaClient
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.config import Settings as ChromaSettings
from chromadb.telemetry.product import ProductTelemetryClient
from overrides import override

from chromalith.aws.queue import queue_named
from chromalith.client.opened_store import OpenedStore, Pinned
from chromalith.client.server_api import ChromalithAPI
from chromalith.client.system import Opener, OpeningSystem
from chromalith.coord.pins import At, check_at
from chromalith.errors import Invalid
from chromalith.observe.configured import configured
from chromalith.observe.hooks import Observer
from chromalith.read.reader import DEFAULT_STALENESS_S, ReadLevel
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.url import canonical_url, open_store


def Client(  # noqa: N802  # the name is Chroma's
    url: str,
    *,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    read_level: str = ReadLevel.INDEX_AND_WAL,
    max_staleness_s: float = DEFAULT_STALENESS_S,
    cache_dir: str | Path | None = None,
    at: At | None = None,
    storage_options: Mapping[str, object] | None = None,
    queue_url: str | None = None,
    observe: Observer | None = None,
    allow_reset: bool = False,
) -> ChromaClient:
    """Open a store as a ``chromadb`` client. Nothing is written before the first collection is created.

    Args:
        url: ``s3://``, ``gs://``, ``az://``, ``file://``, a path, or ``memory://name``.
        tenant, database: as in Chroma; the defaults always exist.
        read_level: of ``get``, ``query`` and ``peek``: ``INDEX_AND_WAL`` (every acknowledged write is seen),
            ``INDEX_AND_BOUNDED_WAL`` (the last such state, if at most ``max_staleness_s`` old) or ``INDEX_ONLY`` (folded
            writes only). ``count`` has a parameter of its own for it. A process always sees its own writes.
        max_staleness_s: for the two weaker levels, in seconds.
        cache_dir: where segments are hydrated to; the user's cache directory if not given.
        at: read older versions, read-only: a moment with a time zone, a tag, or versions (or tags) by collection name.
        storage_options: credentials and endpoint of a remote store.
        queue_url: the SQS queue that compactors are told of writes by; else ``CHROMALITH_QUEUE_URL``; empty: none.
        observe: told of what is written and queried; else what ``CHROMALITH_METRICS`` names, else nobody.
        allow_reset: whether ``reset()`` may delete everything in the store.

    Raises:
        Invalid: the URL or an option is wrong.
        chromadb.errors.NotFoundError, ValueError: the tenant or database does not exist, in Chroma's words.
    """
    level = _level(read_level)
    if at is not None:
        check_at(at)
    settings = Settings()
    directory = settings.cache_dir if cache_dir is None else Path(cache_dir)
    place = canonical_url(url, storage_options=storage_options)
    queue = queue_named("" if at is not None else queue_url, storage_options, settings.queue_url)

    watching = configured(settings.metrics) if observe is None else observe

    def opener() -> OpenedStore:
        store = open_store(url, storage_options=storage_options)

        def open_session() -> Session:
            return Session(
                store,
                read_level=level,
                max_staleness_s=max_staleness_s,
                cache_dir=directory,
                cache_bytes_max=settings.cache_bytes_max,
                observe=watching,
                hints_to=None if queue is None else queue.send_batch,
            )

        return OpenedStore(open_session, pinned=None if at is None else Pinned(at, tenant, database))

    options = [level, max_staleness_s, str(directory), repr(at), _printed(storage_options), allow_reset, queue.url if queue else None]
    options.append(settings.metrics if observe is None else id(observe))  # a running System keeps its observer: no other has its id
    if isinstance(at, Mapping):
        options += [tenant, database]  # names are looked up there
    system = _system(place, options, opener, allow_reset=allow_reset)
    return ChromaClient.from_system(system, tenant=tenant, database=database)


class _SharedSystem(OpeningSystem):
    """A System that leaves the register of running ones when it is stopped."""

    def __init__(self, settings: ChromaSettings, opener: Opener) -> None:
        super().__init__(settings, ChromalithAPI, opener)
        self.key = settings.persist_directory

    @override
    def stop(self) -> None:
        with _lock:
            if _running.get(self.key) is self:
                del _running[self.key]
        super().stop()


_lock = threading.Lock()
_running: dict[str, _SharedSystem] = {}


def _system(place: str, options: list[Any], opener: Opener, *, allow_reset: bool) -> _SharedSystem:
    """The running System for this place and these options; a new one if there is none.

    Its identity is put where Chroma looks for a client's identity: ``persist_directory``. Options go in as a hash, because
    they may be secrets and Chroma prints its settings in an error.
    """
    digest = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]
    key = f"{place}#chromalith-{digest}"
    with _lock:
        running = _running.get(key)
        if running is not None:
            return running
        settings = ChromaSettings(
            chroma_api_impl="chromadb.api.rust.RustBindingsAPI",  # a name that Chroma knows; never instantiated
            is_persistent=True,
            persist_directory=key,
            allow_reset=allow_reset,
            anonymized_telemetry=False,
        )
        system = _SharedSystem(settings, opener)
        system.instance(ProductTelemetryClient)
        system.instance(ServerAPI)
        system.start()
        _running[key] = system
        return system


def _level(name: object) -> ReadLevel:
    """Ours for Chroma's ``ReadLevel``, ours, or either's name in any case."""
    text = str(getattr(name, "name", name)).upper()
    try:
        return ReadLevel(text)
    except ValueError as error:
        raise Invalid(
            f"no such read level read_level={name!r}", hint=f"one of {', '.join(level.value for level in ReadLevel)}"
        ) from error


def _printed(options: Mapping[str, object] | None) -> list[list[str]]:
    return sorted([name, repr(value)] for name, value in (options or {}).items())
