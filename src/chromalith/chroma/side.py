"""A side of a migration over any of Chroma's ``ServerAPI``: a directory's engine, a server, Chroma Cloud, Chromalith, or a caller's client.

The shape is that of ``Side`` and ``SideCollection`` in :mod:`chromalith.migrate.port`, which is above this package; so nothing here names
them. It stays below ``Collection``, which would build embedding functions and check what its caller checked.

Calls are cut into pieces of the side's :class:`~chromalith.transfer.sides.Limits`, in records and in bytes. Pieces go one after another:
who wants several at once has several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from chromadb.api import ServerAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.types import Collection as CollectionModel

from chromalith.chroma.definitions import definition_of
from chromalith.chroma.side_create import create_through
from chromalith.chroma.side_errors import side_errors
from chromalith.chroma.side_pieces import column, joined, nothing, pieces, rows_of, written_pieces
from chromalith.errors import Corrupt, Invalid, NotFound, Unavailable
from chromalith.model.buckets import Buckets
from chromalith.transfer.port import Batch, Definition
from chromalith.transfer.sides import Denied, Limits, SideKind, WriteOp

Creator = Callable[[str, Definition], None]
"""Creates a collection unless it is there."""
BucketsOf = Callable[[UUID], Buckets | None]
"""The checksums by bucket of a collection, where a side knows them."""

OVERLAP = 10
"""Ids that a page has in common with the one before it, where ids can't be had in one answer."""
LISTINGS_MAX = 5
_TEXT_BYTES = 1_000
"""Of a record, besides its embedding: a guess, until records were read that have more."""
_EVERYTHING: Any = ["embeddings", "documents", "metadatas", "uris"]


class ChromaSide:
    """One database behind a ``ServerAPI``. Safe to share between threads.

    Args:
        server: open, and left open by everything but ``close``.
        kind, place: what and where it is; ``place`` holds no secret.
        limits: of one call.
        tenant, database: in it.
        close: what letting go of it takes; by default nothing.
        creator: how a collection is made from a definition; by default as the kind of ``server`` asks for.
        buckets: the checksums of a collection by its UUID, where they are known.
        cut_listings: whether one answer never lists all ids (Chroma Cloud).
        damaged: collections whose vectors can't be read, and why.
        still_true: given if the side is a copy of a directory, which nobody may write: asked after each read; raises if the directory was
            written since.
    """

    def __init__(
        self,
        server: ServerAPI,
        kind: SideKind,
        place: str,
        limits: Limits,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        close: Callable[[], None] | None = None,
        *,
        creator: Creator | None = None,
        buckets: BucketsOf | None = None,
        cut_listings: bool = False,
        damaged: Mapping[UUID, str] | None = None,
        still_true: Callable[[], None] | None = None,
    ) -> None:
        self.server = server
        self.tenant = tenant
        self.database = database
        self.cut_listings = cut_listings
        self.buckets_of = buckets
        self._kind = kind
        self._place = place
        self._limits = limits
        self._close = close
        self._creator = creator
        self._damaged = damaged or {}
        self._still_true = still_true
        self._lock = threading.Lock()

    @property
    def kind(self) -> SideKind:
        return self._kind

    @property
    def place(self) -> str:
        return self._place

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def at(self) -> dict[str, Any]:
        """Tenant and database, as every verb of ``ServerAPI`` takes them."""
        return {"tenant": self.tenant, "database": self.database}

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Chroma's errors of a read as ours. Raises ``Conflict`` after it if what was read is of the past."""
        with side_errors(self._place, what, writes=False, local=self._kind is SideKind.DIRECTORY):
            yield
        if self._still_true is not None:
            self._still_true()

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Chroma's errors of a write as ours. Raises ``Denied`` before it if it would go to a copy, and be lost with that."""
        if self._still_true is not None:
            raise Denied(
                f"this Chroma directory was opened to be read only place={self._place} doing={what!r}",
                hint="the migration's phase changed meanwhile: say the command again",
            )
        with side_errors(self._place, what, writes=True):
            yield

    def names(self) -> list[str]:
        """The names of its collections, as Chroma orders them."""
        with self.reading("list the collections"):
            page = self._limits.records_per_read if self.cut_listings else None
            found: list[str] = []
            while True:
                models = self.server.list_collections(limit=page, offset=len(found) if page else None, **self.at)
                found += [str(model.name) for model in models]
                if page is None or len(models) < page:
                    return list(dict.fromkeys(found))

    def collection(self, name: str) -> ChromaSideCollection:
        """One of them. Raises ``NotFound`` with the names that there are, ``Corrupt`` if its files are damaged."""
        try:
            with self.reading(f"open the collection {name}"):
                model = self.server.get_collection(name, **self.at)
        except NotFound as error:
            names = self.names()
            if name in names:
                raise Unavailable(f"the collection appeared only now name={name!r}", hint="try again") from error
            raise NotFound(
                f"no such collection name={name!r} place={self._place}",
                hint=f"there are: {', '.join(sorted(names)[:20]) or 'none'}",
            ) from error
        if (why := self._damaged.get(model.id)) is not None:
            raise Corrupt(
                f"the vectors of a Chroma collection are damaged collection={name!r} place={self._place} {why}",
                hint="the directory was not copied whole, or a disk failed: take it from a backup, or delete this collection",
            )
        return ChromaSideCollection(self, model)

    def create(self, name: str, definition: Definition) -> ChromaSideCollection:
        """The collection, made if it is not there. Raises ``Invalid`` if one with another distance is there."""
        try:
            found = self.collection(name)
        except NotFound:
            with self.writing(f"create the collection {name}"):
                if self._creator is not None:
                    self._creator(name, definition)
                else:
                    create_through(self.server, name, definition, self.tenant, self.database)
            found = self.collection(name)
        if found.definition.space != definition.space:
            raise Invalid(
                f"the collection measures another distance name={name!r} place={self._place}"
                f" there={found.definition.space} wanted={definition.space}",
                hint="delete it there, or migrate to another database",
            )
        return found

    def drop(self, name: str) -> None:
        """Remove a collection; one that is absent is already removed."""
        try:
            with self.writing(f"delete the collection {name}"):
                self.server.delete_collection(name, **self.at)
        except NotFound:
            return

    def describe(self, name: str, metadata: Mapping[str, Any] | None) -> None:
        """Set a collection's own metadata. Raises ``NotFound``.

        Chroma has no way to empty it: ``None`` leaves what is there."""
        model = self.collection(name).model
        if not metadata:
            return
        with self.writing(f"describe the collection {name}"):
            self.server._modify(model.id, new_metadata=dict(metadata), **self.at)

    def close(self) -> None:
        """Let go of it; calling it again is allowed. Raises ``Conflict`` if a directory that was only read was written meanwhile."""
        with self._lock:
            close, self._close = self._close, None
        if close is not None:
            close()


class ChromaSideCollection:
    """One collection of a :class:`ChromaSide`. Safe to share between threads.

    It is held by its UUID: one that was dropped and made again under its name is another, and every verb then raises ``NotFound``.
    """

    def __init__(self, side: ChromaSide, model: CollectionModel) -> None:
        self._side = side
        self.model = model
        self._id: UUID = model.id
        self._dimension = model.dimension
        self._text_bytes = _TEXT_BYTES

    @property
    def name(self) -> str:
        return str(self.model.name)

    @property
    def id(self) -> str:
        return str(self._id)

    @property
    def definition(self) -> Definition:
        return definition_of(self.model)

    @property
    def dimension(self) -> int | None:
        """The length of its embeddings; looked up again until there is one. Raises as a read."""
        if self._dimension is None:
            with self._errors("look at"):
                found = self._side.server.get_collection(self.name, **self._side.at)
            if found.id == self._id:
                self._dimension = found.dimension
        return self._dimension

    def count(self) -> int:
        """How many records. Raises ``NotFound``, ``Unavailable``."""
        with self._errors("count"):
            return self._side.server._count(self._id, **self._side.at)

    def ids(self) -> list[str]:
        """All ids, in the order of insertion. One answer of one moment, except where answers are cut (Chroma Cloud): there, pages that
        overlap, so that a delete meanwhile is noticed."""
        with self._errors("list the ids"):
            if not self._side.cut_listings:
                return list(self._side.server._get(self._id, include=[], **self._side.at)["ids"])
            for _ in range(LISTINGS_MAX):
                found = self._paged_ids()
                if found is not None:
                    return found
        raise Unavailable(
            f"too many records are deleted while the ids are listed collection={self.name!r} place={self._side.place}",
            hint="try again when there are fewer deletes",
        )

    def read(self, ids: Sequence[str]) -> Batch:
        """The records among ``ids`` that there are, whole, in the side's own order. Raises ``Corrupt`` if one has no embedding."""
        parts, start = [], 0
        while start < len(ids):
            piece = list(ids[start : start + self._rows_per_read()])
            parts.append(self._read(piece))
            start += len(piece)
        return joined([part for part in parts if len(part)], self._dimension or 0)

    def present(self, ids: Sequence[str]) -> set[str]:
        """Which of ``ids`` there are."""
        found: set[str] = set()
        for piece in pieces(ids, self._side.limits.records_per_read):
            with self._errors("look for ids"):
                found.update(self._side.server._get(self._id, ids=piece, include=[], **self._side.at)["ids"])
        return found

    def write(
        self,
        op: WriteOp,
        ids: Sequence[str],
        embeddings: npt.NDArray[np.float32] | None = None,
        documents: Sequence[str | None] | None = None,
        uris: Sequence[str | None] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """``add``, ``update`` or ``upsert``; see the port. Pieces that were written before one fails stay written."""
        server = self._side.server
        verb: Any = {"add": server._add, "update": server._update, "upsert": server._upsert}[op]
        for rows in written_pieces(self._side.limits, ids, embeddings, documents, metadatas):
            with self._errors(op, writes=True):
                verb(
                    collection_id=self._id,
                    ids=list(ids[rows]),
                    embeddings=None if embeddings is None else rows_of(embeddings[rows]),
                    metadatas=column(metadatas, rows, lambda metadata: dict(metadata) if metadata else None),
                    documents=column(documents, rows),
                    uris=column(uris, rows),
                    **self._side.at,
                )

    def delete(self, ids: Sequence[str]) -> None:
        """Remove; what is absent is already removed."""
        for piece in pieces(ids, self._side.limits.records_per_write):
            with self._errors("delete", writes=True):
                self._side.server._delete(self._id, ids=piece, **self._side.at)

    def buckets(self) -> Buckets | None:
        """The checksums by bucket of what it holds now, if the side knows them without reading its records."""
        if self._side.buckets_of is None:
            return None
        with self._errors("read the checksums"):
            return self._side.buckets_of(self._id)

    def _errors(self, what: str, *, writes: bool = False) -> Any:
        text = f"{what}: {self.name}"
        return self._side.writing(text) if writes else self._side.reading(text)

    def _rows_per_read(self) -> int:
        limits = self._side.limits
        row_bytes = 4 * (self._dimension or 0) + self._text_bytes
        return max(1, min(limits.records_per_read, limits.bytes_per_read // row_bytes))

    def _read(self, ids: list[str]) -> Batch:
        with self._errors("read"):
            found = self._side.server._get(self._id, ids=ids, include=_EVERYTHING, **self._side.at)
        there = list(found["ids"])
        empty: list[Any] = [None] * len(there)
        embeddings: Any = found["embeddings"]
        if not there:
            return nothing(self._dimension or 0)
        if embeddings is None or any(row is None for row in embeddings):
            raise Corrupt(
                f"records have no embedding collection={self.name!r} place={self._side.place}",
                hint="a directory that two processes wrote loses vectors; add these records again, or delete them",
            )
        matrix = np.asarray(embeddings, np.float32)
        self._dimension = self._dimension or int(matrix.shape[1])
        batch = Batch(
            ids=there,
            embeddings=matrix,
            documents=list(found["documents"] or empty),
            uris=list(found["uris"] or empty),
            # An empty dictionary is what Chroma answers for a record that has a uri and no metadata.
            metadatas=[dict(metadata) if metadata else None for metadata in found["metadatas"] or empty],
        )
        self._text_bytes = max(_TEXT_BYTES, (batch.size_bytes - matrix.nbytes) // len(batch))
        return batch

    def _paged_ids(self) -> list[str] | None:
        """All ids by pages; ``None``: a page did not continue the one before it."""
        page = self._side.limits.records_per_read
        found: list[str] = []
        seen: set[str] = set()
        offset = 0
        while True:
            got = list(self._side.server._get(self._id, include=[], limit=page, offset=offset, **self._side.at)["ids"])
            if found and found[-1] not in got:
                return None
            fresh = got[got.index(found[-1]) + 1 :] if found else got
            found += [record_id for record_id in fresh if record_id not in seen]
            seen.update(fresh)
            if len(got) < page:
                return found
            offset += page - min(OVERLAP, page - 1)
