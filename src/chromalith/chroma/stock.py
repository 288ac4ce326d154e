"""Stock Chroma, opened and closed properly, at the level below ``Collection``.

``Collection`` builds the embedding function that a collection names, which may ask for packages, keys and downloads.
Moving records needs none of it, so everything here talks to Chroma's ``ServerAPI``, the same for a directory and for a
server.

Opening a directory writes to it, always (Chroma takes a write lock in its SQLite file). So only directories that are
ours are opened: a private copy (:mod:`chromalith.chroma.private_copy`) or one that we build. ``close()`` is needed:
forgetting a client leaks its engine, with its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import chromadb
import numpy as np
from chromadb.api import ServerAPI
from chromadb.api.client import Client
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from chromadb.errors import ChromaError, NotFoundError
from chromadb.types import Collection as CollectionModel

from chromalith.chroma.definitions import definition_of
from chromalith.errors import Corrupt, Invalid, NotFound, Unavailable
from chromalith.transfer.port import Batch, Definition, Sums

IDS_MAX = 2_000
"""Ids of one ``get``: below SQLite's limit on the values of a statement (32,766) with room, and a few MB an answer."""


@contextmanager
def opened(directory: Path) -> Iterator[ServerAPI]:
    """The engine over a Chroma directory that is ours to write. Closed with the block."""
    # Chroma keys its engines by the path as text: two spellings would be two engines on one directory.
    client = cast(Client, chromadb.PersistentClient(str(directory.resolve()), Settings(anonymized_telemetry=False)))
    try:
        yield client._server
    finally:
        client.close()


@contextmanager
def connected(
    host: str, port: int, *, ssl: bool, headers: dict[str, str] | None, tenant: str, database: str
) -> Iterator[ServerAPI]:
    """A Chroma server over HTTP. Raises ``Unavailable`` if none answers there, ``NotFound`` without that tenant or database."""
    try:
        settings = Settings(anonymized_telemetry=False)
        client = cast(Client, chromadb.HttpClient(host, port, ssl, headers, settings, tenant=tenant, database=database))
    except NotFoundError as error:
        raise NotFound(f"no such database tenant={tenant!r} database={database!r}") from error
    except (ChromaError, ValueError, OSError) as error:
        raise Unavailable(f"no Chroma server answers host={host} port={port}", hint=str(error)[:200]) from error
    try:
        yield client._server
    finally:
        client.close()
        # 1.5.9 leaves the sockets of both halves to the garbage collector.
        for half in (client, getattr(client, "_admin_client", None)):
            session = getattr(getattr(half, "_server", None), "_session", None)
            if session is not None:
                session.close()


class ChromaSource:
    """One collection of stock Chroma as a source, while its engine is open.

    Chroma has no way to read on from a key, and pages by offset shift under a writer. So all ids are taken once, and
    then the records by id.

    Args:
        server: the open engine.
        model: the collection, as Chroma names it.
        place: where it is, for messages.
        live: whether others may be writing: then records that are gone by the time they are read are left out.
            Otherwise that is ``Corrupt``.
    """

    def __init__(
        self,
        server: ServerAPI,
        model: CollectionModel,
        place: str,
        *,
        live: bool,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        self._server = server
        self._model = model
        self._place = place
        self._live = live
        self._at: dict[str, Any] = {"tenant": tenant, "database": database}

    @property
    def name(self) -> str:
        return str(self._model.name)

    @property
    def definition(self) -> Definition:
        return definition_of(self._model)

    @property
    def version(self) -> int | None:
        return None

    @property
    def sums(self) -> Sums | None:
        return None

    def total(self) -> int | None:
        return self._server._count(self._model.id, **self._at)

    def batches(self, rows: int) -> Iterator[Batch]:
        try:
            ids = self._server._get(self._model.id, include=[], **self._at)["ids"]
            waiting: Batch | None = None
            for start in range(0, len(ids), IDS_MAX):
                found = self._read(ids[start : start + IDS_MAX])
                waiting = found if waiting is None else _joined(waiting, found)
                while len(waiting) >= rows:
                    yield waiting.part(0, rows)
                    waiting = waiting.part(rows, len(waiting))
            if waiting is not None and len(waiting):
                yield waiting
        except (ChromaError, ValueError) as error:
            if isinstance(error, Invalid):
                raise
            raise Corrupt(
                f"Chroma can't read its own records place={self._place} collection={self.name!r}",
                hint=f"a directory written by two processes loses vectors; Chroma says: {str(error)[:300]}",
            ) from error

    def _read(self, ids: list[str]) -> Batch:
        found = self._server._get(
            self._model.id, ids=ids, include=["embeddings", "documents", "metadatas", "uris"], **self._at
        )
        if len(found["ids"]) != len(ids) and not self._live:
            raise Corrupt(f"records are missing place={self._place} collection={self.name!r} missing={len(ids) - len(found['ids'])}")
        embeddings = found["embeddings"]
        if embeddings is None or any(row is None for row in embeddings):
            raise Corrupt(f"records have no embedding place={self._place} collection={self.name!r}")
        empty: list[Any] = [None] * len(found["ids"])
        matrix = np.asarray(embeddings, np.float32)
        return Batch(
            ids=list(found["ids"]),
            embeddings=matrix if matrix.ndim == 2 else np.empty((0, self._model.dimension or 0), np.float32),
            documents=list(found["documents"] or empty),
            uris=list(found["uris"] or empty),
            metadatas=[_plain(metadata) for metadata in found["metadatas"] or empty],
        )


def collections(server: ServerAPI, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> list[CollectionModel]:
    """All collections of a database, in the order in which Chroma lists them."""
    try:
        return list(server.list_collections(tenant=tenant, database=database))
    except NotFoundError as error:
        raise NotFound(f"no such database tenant={tenant!r} database={database!r}") from error


def collection(server: ServerAPI, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> CollectionModel:
    """One collection. Raises ``NotFound`` with the names that there are."""
    try:
        return server.get_collection(name, tenant=tenant, database=database)
    except (NotFoundError, ValueError) as error:
        names = ",".join(str(model.name) for model in collections(server, tenant, database)[:20])
        raise NotFound(f"no such collection in Chroma name={name!r} there={names}") from error


def _joined(a: Batch, b: Batch) -> Batch:
    if not len(a):
        return b
    return Batch(
        a.ids + b.ids,
        np.concatenate([a.embeddings, b.embeddings]) if len(b) else a.embeddings,
        a.documents + b.documents,
        a.uris + b.uris,
        a.metadatas + b.metadatas,
    )


def _plain(metadata: Any) -> dict[str, Any] | None:
    """Chroma answers an empty dictionary for a record that has a uri and no metadata."""
    return dict(metadata) if metadata else None
