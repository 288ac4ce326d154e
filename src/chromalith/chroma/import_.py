"""Sources that are stock Chroma: a directory, on a disk or below a prefix of a store, and a server. They are read, never written.

with chroma_directory("/data/chroma") as chroma:
for name in chroma.names():
import_collection(session, tenant, database, name, chroma.source(name))
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from chromadb.api import ServerAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

from chromalith.chroma.private_copy import private_copy
from chromalith.chroma.stock import ChromaSource, collection, collections, connected, opened
from chromalith.chroma.vector_files import damaged_collections
from chromalith.errors import Corrupt, Invalid
from chromalith.store.port import Store
from chromalith.transfer.directory_objects import download_directory


class Chroma:
    """The collections of one database of stock Chroma, while it is open."""

    def __init__(
        self,
        server: ServerAPI,
        place: str,
        *,
        live: bool,
        tenant: str,
        database: str,
        damaged: Mapping[UUID, str] | None = None,
    ) -> None:
        self._server = server
        self._place = place
        self._live = live
        self._tenant = tenant
        self._database = database
        self._damaged = damaged or {}

    def names(self) -> list[str]:
        """The names of its collections."""
        return [str(model.name) for model in collections(self._server, self._tenant, self._database)]

    def source(self, name: str) -> ChromaSource:
        """One of them, to read. Raises ``NotFound``, ``Corrupt``."""
        model = collection(self._server, name, self._tenant, self._database)
        if (why := self._damaged.get(model.id)) is not None:
            raise Corrupt(
                f"the vectors of a Chroma collection are damaged collection={name!r} place={self._place} {why}",
                hint="the directory was not copied whole, or a disk failed: take it from a backup",
            )
        return ChromaSource(
            self._server, model, self._place, live=self._live, tenant=self._tenant, database=self._database
        )


@contextmanager
def chroma_directory(
    path: Path | str, *, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
) -> Iterator[Chroma]:
    """A Chroma directory, through a private copy of what opening would change.

    Raises ``Invalid`` if it is none, ``Conflict`` if something wrote to it meanwhile.
    """
    with private_copy(Path(path)) as copy, opened(copy) as server:
        damaged = damaged_collections(copy)
        yield Chroma(server, str(path), live=False, tenant=tenant, database=database, damaged=damaged)


@contextmanager
def chroma_prefix(
    store: Store, prefix: str, *, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
) -> Iterator[Chroma]:
    """A Chroma directory that was exported to a prefix of a store, or a stock snapshot: downloaded and checked first.

    Raises ``NotFound`` if there is none, ``Corrupt`` if a file is not what was written.
    """
    with tempfile.TemporaryDirectory(prefix="chromalith-chroma-") as name:
        directory = Path(name) / "chroma"
        download_directory(store, prefix, directory)
        with opened(directory) as server:
            yield Chroma(server, f"{store.url}/{prefix}", live=False, tenant=tenant, database=database)


@contextmanager
def chroma_server(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
) -> Iterator[Chroma]:
    """A Chroma server, ``http://host:port`` or ``https://…``; ``headers`` carry its token, if it asks for one.

    It may be written meanwhile: each record is read as it is at some moment between the beginning and the end.
    Raises ``Unavailable`` if it does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"not the address of a Chroma server url={url!r}", hint="use http://host:port")
    ssl = parts.scheme == "https"
    port = parts.port or (443 if ssl else 8000)
    with connected(parts.hostname, port, ssl=ssl, headers=headers, tenant=tenant, database=database) as server:
        yield Chroma(server, url, live=True, tenant=tenant, database=database)
