"""From a URL to a side of a migration, and back to a name under which another process finds it.

=====================================  ===============================================================================
``chroma:PATH``                        a Chroma directory
``http://host:port``, ``https://…``    a Chroma server
``cloud://tenant/database``            Chroma Cloud, with the key in ``CHROMA_API_KEY``
``chromalith:URL``                     a Chromalith store
``s3://``, ``gs://``, ``az://``,       a Chromalith store
``file://``, ``memory://``
a path                                 a Chroma directory if it has ``chroma.sqlite3``, else a Chromalith directory store
=====================================  ===============================================================================

``?tenant=…&database=…`` may follow each. Secrets never stand in a URL: it is written to the migration's state. A server's token is in
``CHROMALITH_CHROMA_TOKEN``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from chromalith.chroma.private_copy import DATABASE
from chromalith.chroma.side import ChromaSide
from chromalith.chroma.side_errors import side_errors
from chromalith.chroma.side_opening import READ_ROWS, cloud_side, directory_side, held_by_client, server_side
from chromalith.client.client import Client
from chromalith.client.opened_store import session_of
from chromalith.compaction.bucket_sidecar import read_buckets
from chromalith.errors import ChromalithError, Invalid, NotFound
from chromalith.migrate.port import Limits, Side, SideKind
from chromalith.migrate.state import SideName
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.delta import OPERATIONS_MAX
from chromalith.model.ids import CollectionId
from chromalith.read.reader import ReadLevel
from chromalith.session import Session
from chromalith.store.url import canonical_url, options_taken
from chromalith.transfer.port import Definition

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
KEY_VARIABLE = "CHROMA_API_KEY"
TOKEN_VARIABLE = "CHROMALITH_CHROMA_TOKEN"
"""For a Chroma server, or a proxy before it, that asks for a token: sent as ``Authorization: Bearer …`` and as ``x-chroma-token``."""
CHROMALITH_LIMITS = Limits(
    records_per_write=OPERATIONS_MAX,
    records_per_read=5_000,
    writes_at_once=4,
    bytes_per_write=32 * 2**20,  # half of what a delta may have
    bytes_per_read=64 * 2**20,
)
SUPPORTED = "a path, chroma:PATH, http://host:port, cloud://tenant/database, chromalith:URL, s3://bucket/prefix, gs://…, az://…, memory://name"
_BARE_SERVER = re.compile(r"[A-Za-z0-9.\-]+:\d{1,5}(/.*)?")
_IN_URL = {"tenant", "database"}


@dataclass(frozen=True, slots=True)
class _Form:
    """A URL taken apart. ``where`` is the path of a directory, the URL of a server or a store, without tenant and database."""

    kind: SideKind
    where: str
    tenant: str
    database: str
    options: Mapping[str, object] | None = field(default=None, repr=False)

    @property
    def name(self) -> SideName:
        if self.kind is SideKind.DIRECTORY:
            url = f"chroma:{self.where}"
        elif self.kind is SideKind.CHROMALITH:
            url = f"chromalith:{self.where}"
        else:
            url = self.where
        return SideName(self.kind, url, self.tenant, self.database)


def open_side(
    url: str,
    *,
    storage_options: Mapping[str, object] | None = None,
    tenant: str | None = None,
    database: str | None = None,
    headers: Mapping[str, str] | None = None,
    write: bool = True,
    look: bool = False,
) -> Side:
    """Open one side.

    Args:
        url: see the table at the head of this module.
        storage_options: credentials and endpoint of a Chromalith store.
        tenant, database: in it; what the URL says of them, or Chroma's defaults, if not given.
        headers: of each request to a Chroma server; by default those that carry the token of ``CHROMALITH_CHROMA_TOKEN``.
        write: whether it will be written. A Chroma directory is opened by one process at a time then; a Chromalith store that is only
            read must be there, as a path that was mistyped would be a source without collections.
        look: show what ``write`` would open, for a dry run: a Chroma directory is not made, and not written.

    Raises:
        Invalid: the URL means no side, or the side refuses, or is not there.
        NotFound: it has no such tenant or database.
        Conflict: another process has the Chroma directory.
        Unavailable: it does not answer.
    """
    form = _form(url, storage_options, tenant, database)
    if form.kind is SideKind.DIRECTORY:
        return directory_side(Path(form.where), tenant=form.tenant, database=form.database, write=write, look=look)
    if form.kind is SideKind.CLOUD:
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            raise Invalid(f"Chroma Cloud asks for a key url={url}", hint=f"set {KEY_VARIABLE}")
        return cloud_side(form.tenant, form.database, api_key=key)
    if form.kind is SideKind.SERVER:
        parts = urlsplit(form.where)
        return server_side(
            parts.hostname or "",
            parts.port or 0,
            ssl=parts.scheme == "https",
            path=parts.path,
            headers=_token_headers() if headers is None else headers,
            tenant=form.tenant,
            database=form.database,
        )
    return _chromalith(form, write)


def side_name(
    url: str,
    *,
    storage_options: Mapping[str, object] | None = None,
    tenant: str | None = None,
    database: str | None = None,
) -> SideName:
    """The one name of the side that ``url`` means: ``open_side(name.url, tenant=name.tenant, database=name.database)`` opens it again.
    Opens nothing. Raises ``Invalid``."""
    return _form(url, storage_options, tenant, database).name


def unsaid(url: str, *, tenant: str | None, database: str | None) -> dict[str, Any]:
    """Those of ``tenant`` and ``database`` that the URL leaves open, as :func:`open_side` and :func:`side_name` take them."""
    said = _IN_URL if url.partition(":")[0].lower() == "cloud" else {name for name, _ in _without_database(url)[1]}
    given = {"tenant": tenant, "database": database}
    return {name: value for name, value in given.items() if value is not None and name not in said}


def side_of_client(client: object, place: str = "", *, close: bool = False) -> ChromaSide:
    """A side over a ``chromadb`` client that is open, ``chromalith.Client`` among them.

    Args:
        client: of ``chromadb``: its server half, tenant and database are used.
        place: what to call it.
        close: whether closing the side closes the client.

    Raises ``Invalid`` for what is no such client, ``Conflict`` if it has a Chroma directory open that a tool writes now.
    """
    server, at = getattr(client, "_server", None), (getattr(client, "tenant", None), getattr(client, "database", None))
    if server is None or None in at:
        raise Invalid(
            f"not a chromadb client type={type(client).__name__}",
            hint="give what chromadb.PersistentClient, HttpClient or chromalith.Client returned, or a URL",
        )
    tenant, database = str(at[0]), str(at[1])
    ending = getattr(client, "close", None) if close else None
    if hasattr(server, "running_store"):
        return _over_session(server, place or "chromalith client", tenant, database, ending)
    limits = Limits(records_per_write=max(1, server.get_max_batch_size()), records_per_read=READ_ROWS, writes_at_once=1)
    with ExitStack() as stack:
        if ending is not None:
            stack.callback(ending)
        stack.callback(held_by_client(server))
        let_go = stack.pop_all().close
    return ChromaSide(server, SideKind.CLIENT, place or "chromadb client", limits, tenant, database, let_go)


def _token_headers() -> dict[str, str]:
    token = os.environ.get(TOKEN_VARIABLE)
    return {"Authorization": f"Bearer {token}", "x-chroma-token": token} if token else {}


# Chromalith ----------------------------------------------------------------------------------------------------------


def _chromalith(form: _Form, write: bool) -> ChromaSide:
    # Opened at the defaults, which always exist: Chroma's client says of a missing tenant, and of a store that does not answer, the same.
    try:
        client = Client(form.where, storage_options=form.options)
    except Exception as error:  # Chroma's client has classes of its own: no credentials are a wrong argument
        if isinstance(error.__context__, ChromalithError):
            raise error.__context__ from error
        raise
    try:
        place = form.name.url
        if not write:
            _check_store(client, form.where)
        with side_errors(place, "find the database", writes=False):
            client._server.get_database(form.database, tenant=form.tenant)
    except NotFound as error:
        client.close()
        raise NotFound(
            f"no such database tenant={form.tenant!r} database={form.database!r} url={form.where}",
            hint="create it there, or correct ?tenant=…&database=…",
        ) from error
    except BaseException:
        client.close()
        raise
    return _over_session(client._server, place, form.tenant, form.database, client.close)


def _check_store(client: object, url: str) -> None:
    try:
        session_of(client).store.head(layout.store_key())
    except NotFound as error:
        raise Invalid(
            f"there is no Chromalith store here, or it never had a collection url={url}",
            hint="check the URL; a Chroma directory is one with chroma.sqlite3 in it",
        ) from error


def _over_session(server: Any, place: str, tenant: str, database: str, close: Callable[[], None] | None) -> ChromaSide:
    def create(name: str, definition: Definition) -> None:
        session_of(server).catalog.create(
            tenant,
            database,
            name,
            configuration=definition.configuration,
            schema=definition.schema,
            metadata=definition.metadata,
            get_or_create=True,
        )

    def buckets(cid: UUID) -> Buckets | None:
        return _buckets(session_of(server), CollectionId(str(cid)))

    return ChromaSide(
        server, SideKind.CHROMALITH, place, CHROMALITH_LIMITS, tenant, database, close, creator=create, buckets=buckets
    )


def _buckets(session: Session, cid: CollectionId) -> Buckets | None:
    """The checksums of everything acknowledged, if all of it is folded: those of the version."""
    view = session.view(cid, ReadLevel.INDEX_AND_WAL)
    if view.overlay:
        return None
    if not view.manifest.segments:
        return Buckets.empty()
    ref = view.manifest.buckets
    return None if ref is None else read_buckets(session.store, cid, ref)


# URLs ----------------------------------------------------------------------------------------------------------------


def _form(url: str, options: Mapping[str, object] | None, tenant: str | None, database: str | None) -> _Form:
    if not url or "\0" in url:
        raise Invalid(f"this URL means no side url={url!r}", hint=SUPPORTED)
    where, asked = _without_database(url)
    in_url = dict(asked)
    for name, given in (("tenant", tenant), ("database", database)):
        if given is not None and in_url.get(name, given) != given:
            raise Invalid(f"the URL names another {name} url={url} {name}={given!r}", hint="say it once")
    at_tenant, at_database = tenant or in_url.get("tenant"), database or in_url.get("database")
    scheme, colon, rest = where.partition(":")
    scheme = scheme.lower() if colon else ""
    if scheme == "cloud":
        return _cloud(url, rest, at_tenant, at_database)
    at_tenant, at_database = at_tenant or DEFAULT_TENANT, at_database or DEFAULT_DATABASE
    if scheme in ("http", "https"):
        return _Form(SideKind.SERVER, _server(where), at_tenant, at_database)
    if scheme == "chroma":
        return _Form(SideKind.DIRECTORY, _directory(url, rest), at_tenant, at_database)
    if scheme == "chromalith":
        where = rest
    elif _BARE_SERVER.fullmatch(where) and not Path(where).exists():
        raise Invalid(f"this URL means no side url={url!r}", hint=f"did you mean http://{where}; {SUPPORTED}")
    else:
        path = Path(where.removeprefix("file://")).expanduser()
        if (scheme == "file" or "://" not in where) and (path / DATABASE).is_file():
            return _Form(SideKind.DIRECTORY, os.path.realpath(path), at_tenant, at_database)
        if path.name == DATABASE:
            raise Invalid(
                f"this is a file of a Chroma directory path={where}", hint=f"name the directory: {path.parent}"
            )
    taken = options_taken(where, options)
    return _Form(SideKind.CHROMALITH, canonical_url(where, storage_options=taken), at_tenant, at_database, taken)


def _without_database(url: str) -> tuple[str, list[tuple[str, str]]]:
    """The URL without tenant and database, and these; other parts of its query stay where they are."""
    before, mark, query = url.rpartition("?")
    if not mark:
        return url, []
    parts = parse_qsl(query, keep_blank_values=True)
    ours = [(name, value) for name, value in parts if name in _IN_URL]
    if not ours:
        return url, []
    for name, value in ours:
        if not value:
            raise Invalid(f"the URL names no {name} url={url}", hint=f"write ?{name}=NAME, or leave it out")
    rest = [part for part in parts if part[0] not in _IN_URL]
    return (f"{before}?{urlencode(rest, safe=':/')}" if rest else before), ours


def _server(where: str) -> str:
    parts = urlsplit(where)
    try:
        port = parts.port
    except ValueError as error:
        raise Invalid(f"not the address of a Chroma server url={where}", hint="use http://host:port") from error
    if not parts.hostname or parts.fragment:
        raise Invalid(f"not the address of a Chroma server url={where}", hint="use http://host:port")
    if parts.username or parts.password:
        raise Invalid("the URL of a Chroma server holds a secret", hint="give it as a header; a URL is written down")
    if parts.query:
        raise Invalid(f"not the address of a Chroma server url={where}", hint="only ?tenant=…&database=… may follow it")
    if parts.hostname.endswith("trychroma.com"):
        raise Invalid(f"this is Chroma Cloud url={where}", hint="use cloud://tenant/database")
    path = parts.path.rstrip("/")
    for api in ("/api/v1", "/api/v2"):
        path = path.removesuffix(api)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme.lower()}://{host}:{port or (443 if parts.scheme == 'https' else 8000)}{path}"


def _directory(url: str, rest: str) -> str:
    if rest.startswith("//"):
        rest = rest.removeprefix("//")
        if not rest.startswith("/"):
            raise Invalid(f"a Chroma directory is named by its path url={url}", hint=f"did you mean chroma:{rest}")
    if not rest:
        raise Invalid(f"the URL names no directory url={url}", hint="write chroma:PATH")
    path = Path(rest).expanduser()
    if path.name == DATABASE:
        raise Invalid(f"this is a file of a Chroma directory path={rest}", hint=f"name the directory: {path.parent}")
    return os.path.realpath(path)


def _cloud(url: str, rest: str, tenant: str | None, database: str | None) -> _Form:
    parts = [part for part in rest.strip("/").split("/") if part]
    if not rest.startswith("//") or len(parts) != 2:
        raise Invalid(f"not a database of Chroma Cloud url={url}", hint="use cloud://tenant/database")
    for name, given, in_path in (("tenant", tenant, parts[0]), ("database", database, parts[1])):
        if given is not None and given != in_path:
            raise Invalid(f"the URL names another {name} url={url} {name}={given!r}", hint="say it once")
    return _Form(SideKind.CLOUD, f"cloud://{parts[0]}/{parts[1]}", parts[0], parts[1])
