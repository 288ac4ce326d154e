"""Opening stock Chroma as a side of a migration: a directory, a server, Chroma Cloud.

A server is talked to by an engine of our own, never by one that Chroma shares in the process: its connections, time limits and end
are then nobody else's. A directory that is written is opened by the engine that Chroma shares, because two engines on one directory
destroy it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx
from chromadb.api import ServerAPI
from chromadb.api.rust import RustBindingsAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings, System

from chromalith.chroma.private_copy import DATABASE, check_directory, check_not_written, private_copy, writes_of
from chromalith.chroma.side import ChromaSide
from chromalith.chroma.side_errors import side_errors
from chromalith.chroma.stock import opened
from chromalith.chroma.vector_files import damaged_collections
from chromalith.errors import Conflict, Invalid, NotFound, Unavailable
from chromalith.transfer.sides import Limits, SideKind

READ_ROWS = 2_000
"""Ids of one read: below SQLite's limit on the values of a statement (32,766) with room."""
CONNECT_S = 10.0
REQUEST_S = 60.0
"""No request may take longer: half of the age at which an entry of a migration's journal counts as abandoned."""
SERVER_WRITES_AT_ONCE = 4
CLOUD_HOST = "api.trychroma.com"
CLOUD_LIMITS = Limits(
    records_per_write=300,
    records_per_read=300,
    writes_at_once=8,
    metadata_key_bytes=36,
    document_bytes=16_384,
    bytes_per_write=4 * 2**20,
)
"""Chroma Cloud's quotas as it publishes them; of its 10 concurrent requests a collection two are left to the application."""
SERVER_BYTES = 6 * 2**20
"""Of one write: a server takes bodies up to 40 MB, and an embedding may travel as text, five times as long."""


def directory_side(
    path: Path,
    *,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    write: bool = True,
    look: bool = False,
) -> ChromaSide:
    """A Chroma directory.

    Args:
        path: of the directory. If it is to be written, it may also be empty, or not be there.
        tenant, database: in it.
        write: open it itself, alone: another process that asks so is refused (one that is stock Chroma can't be kept out). Otherwise
            through a private copy of what opening would change; each read, and ``close``, then raises ``Conflict`` if the directory
            was written since: nobody may decide by an old value what is right at the other side.
        look: show what ``write`` would open, and change nothing: as not to be written, and one that is not there yet is empty.

    Raises ``Invalid`` (no Chroma directory), ``Conflict`` (somebody has it), ``NotFound`` (no such database).
    """
    path = path.resolve()
    still_true: Callable[[], None] | None = None
    with ExitStack() as stack:
        if look and not (path / DATABASE).exists():
            _check_free(path)
            still_true = partial(_check_free, path)
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="chromalith-chroma-")))
        elif write and not look:
            _make(path)
            stack.callback(_lock(path, fcntl.LOCK_EX))
            directory = path
        else:
            check_directory(path)
            still_true = partial(check_not_written, path, writes_of(path))
            directory = stack.enter_context(private_copy(path))
        server = stack.enter_context(opened(directory))
        damaged = damaged_collections(directory)  # Chroma reads these files when a collection is first asked for
        place = f"chroma:{path}"
        limits = Limits(records_per_write=_batch_max(server, place), records_per_read=READ_ROWS, writes_at_once=1)
        _check_database(server, place, tenant, database)
        return ChromaSide(
            server,
            SideKind.DIRECTORY,
            place,
            limits,
            tenant,
            database,
            stack.pop_all().close,
            damaged=damaged,
            still_true=still_true,
        )


def server_side(
    host: str,
    port: int,
    *,
    ssl: bool = False,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    request_s: float = REQUEST_S,
) -> ChromaSide:
    """A Chroma server. ``headers`` carry its token; ``path`` is where a proxy has put it.

    Raises ``Unavailable`` (nobody answers), ``Invalid`` (denied), ``NotFound`` (no such database)."""
    place = f"{'https' if ssl else 'http'}://{host}:{port}{path}"
    settings = Settings(
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=place if path else host,
        chroma_server_http_port=port,
        chroma_server_ssl_enabled=ssl,
        chroma_server_headers=dict(headers or {}),
        anonymized_telemetry=False,
    )
    return _remote(settings, SideKind.SERVER, place, tenant, database, request_s)


def cloud_side(
    tenant: str, database: str, *, api_key: str, host: str = CLOUD_HOST, port: int = 443, ssl: bool = True
) -> ChromaSide:
    """A database of Chroma Cloud. ``host``, ``port`` and ``ssl`` are for tests, which have a stock server that keeps Cloud's limits: it was
    never tried against the service itself. Raises as :func:`server_side`."""
    settings = Settings(
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=host,
        chroma_server_http_port=port,
        chroma_server_ssl_enabled=ssl,
        chroma_server_headers={"x-chroma-token": api_key},
        anonymized_telemetry=False,
    )
    return _remote(settings, SideKind.CLOUD, f"cloud://{tenant}/{database}", tenant, database, REQUEST_S)


def _remote(settings: Settings, kind: SideKind, place: str, tenant: str, database: str, request_s: float) -> ChromaSide:
    system = System(settings)
    with side_errors(place, "connect", writes=False):
        server: Any = system.instance(cast(Any, ServerAPI))
        system.start()

    def close() -> None:
        system.stop()
        server._session.close()  # 1.5.9 leaves its sockets to the garbage collector

    with ExitStack() as stack:
        stack.callback(close)
        server._session.timeout = httpx.Timeout(request_s, connect=CONNECT_S)  # stock waits forever
        if kind is SideKind.CLOUD:
            limits = CLOUD_LIMITS
        else:
            limits = Limits(
                records_per_write=_batch_max(server, place),
                records_per_read=READ_ROWS,
                writes_at_once=SERVER_WRITES_AT_ONCE,
                bytes_per_write=SERVER_BYTES,
            )
        _check_database(server, place, tenant, database)
        cut = kind is SideKind.CLOUD
        return ChromaSide(server, kind, place, limits, tenant, database, stack.pop_all().close, cut_listings=cut)


def _batch_max(server: ServerAPI, place: str) -> int:
    with side_errors(place, "connect", writes=False):
        return max(1, server.get_max_batch_size())


def _check_database(server: ServerAPI, place: str, tenant: str, database: str) -> None:
    try:
        with side_errors(place, "find the database", writes=False):
            server.get_database(database, tenant=tenant)
    except NotFound as error:
        raise NotFound(
            f"no such database tenant={tenant!r} database={database!r} place={place}",
            hint="create it there, or correct ?tenant=…&database=…",
        ) from error


def _make(path: Path) -> None:
    """Chroma makes a directory where there is none; what is no Chroma directory must not become one."""
    if (path / DATABASE).exists():
        check_directory(path)
        return
    _check_free(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the directory can't be made path={path}", hint=str(error)) from error


def _check_free(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Invalid(f"not a Chroma directory path={path}", hint=f"name the directory that has {DATABASE} in it")


def held_by_client(server: ServerAPI) -> Callable[[], None]:
    """Say that this process has a directory open, if ``server`` is the engine of one: no tool opens it to write then. Returns what takes
    that back.

    Raises ``Conflict`` if a tool has it open just now."""
    if not isinstance(server, RustBindingsAPI):
        return lambda: None
    settings = server.get_settings()
    return _lock(Path(settings.persist_directory).resolve(), fcntl.LOCK_SH) if settings.is_persistent else lambda: None


def _lock(path: Path, kind: int) -> Callable[[], None]:
    """Take the directory, among those who ask, alone (``LOCK_EX``) or with other applications; returns what lets go of it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Conflict(
            f"another process has this Chroma directory open path={path}",
            hint="a Chroma directory has one process; run `chroma run` over it and let all use the server",
        ) from error
    except OSError as error:  # a file system without locks: an application must not fail for it
        os.close(handle)
        if kind == fcntl.LOCK_EX:
            raise Unavailable(f"the directory can't be locked path={path}", hint=str(error)) from error
        return lambda: None

    def release() -> None:
        with suppress(OSError):
            os.close(handle)

    return release
