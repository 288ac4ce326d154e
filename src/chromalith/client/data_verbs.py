"""The verbs about records: Chroma's arguments and answers over our writer and reader.

The real ``chromadb`` Collection has validated, normalised and embedded before it calls these; what is left is to
refuse what Chroma's core refuses (a wrong dimension, a filter whose index the schema disables), to call, and to shape
the answer.

Reads use the client's level, except where the call names one (``count``). ``delete`` with a filter resolves the ids at
``INDEX_AND_WAL`` and writes one delta, so it deletes atomically what it saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from chromadb.api.types import GetResult, Include, IndexingStatus, QueryResult
from chromadb.errors import InternalError, InvalidArgumentError

from chromalith.client.errors import WRONG_DIMENSION, WrongDimension, chroma_errors
from chromalith.client.opened_store import OpenedStore
from chromalith.client.schema import check_filters, found_keys, missing_keys, with_keys
from chromalith.coord.collection_object import CollectionObject
from chromalith.errors import ChromalithError
from chromalith.model.ids import CollectionId
from chromalith.read.reader import ReadLevel
from chromalith.read.view import View

if TYPE_CHECKING:
    from chromadb.api.types import DeleteResult


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one writing call, as Chroma's Collection passes them."""

    ids: Sequence[str]
    embeddings: Any = None
    metadatas: Sequence[Mapping[str, Any] | None] | None = None
    documents: Sequence[str | None] | None = None
    uris: Sequence[str | None] | None = None


class DataVerbs:
    """Answers the records half of Chroma's ServerAPI. Safe to share between threads.

    Args:
        opened: the store, its writer and its reader.
        records_max: the most records that one call may write.
    """

    def __init__(self, opened: OpenedStore, records_max: int) -> None:
        self._opened = opened
        self._records_max = records_max

    # Writes --------------------------------------------------------------------------------------------------------

    def write(self, op: str, cid: UUID, columns: Columns) -> bool:
        """``add``, ``update`` or ``upsert``."""
        self._check_size(len(columns.ids))
        key = CollectionId(str(cid))
        with self._errors(cid):
            self._opened.check_writable()
            self._opened.session.writer.write(
                key,
                op,
                columns.ids,
                columns.embeddings,
                columns.documents,
                columns.uris,
                columns.metadatas,
            )
            self._enter_keys(key, columns.metadatas)
        return True

    def delete(
        self,
        cid: UUID,
        ids: Sequence[str] | None,
        where: Any,
        where_document: Any,
        limit: int | None,
    ) -> DeleteResult:
        filtered = bool(where) or bool(where_document)
        if not ids and not filtered:
            raise InvalidArgumentError("Validation error: ids, where: Either ids or where must be specified")
        if limit is not None and not filtered:
            raise InvalidArgumentError("limit can only be specified when a where clause is provided")
        key = CollectionId(str(cid))
        with self._errors(cid):
            self._opened.check_writable()
            if filtered:
                check_filters(self._opened.collection(key).schema, where, where_document)
                view = self._opened.view(key, ReadLevel.INDEX_AND_WAL)
                found = view.get(ids=ids, where=where, where_document=where_document, limit=limit, include=())
                ids = found.ids
            gone = list(dict.fromkeys(ids or ()))
            if gone:
                self._opened.session.writer.write(key, "delete", gone)
        return {"deleted": len(gone)}  # DeleteResult, a TypedDict that Chroma 1.5.2 does not have

    # Reads ---------------------------------------------------------------------------------------------------------

    def count(self, cid: UUID, level: ReadLevel) -> int:
        with self._errors(cid):
            return self._opened.view(CollectionId(str(cid)), level).count()

    def get(
        self,
        cid: UUID,
        ids: Sequence[str] | None,
        where: Any,
        where_document: Any,
        limit: int | None,
        offset: int | None,
        include: Include,
    ) -> GetResult:
        key = CollectionId(str(cid))
        with self._errors(cid):
            if where or where_document:
                check_filters(self._opened.collection(key).schema, where, where_document)
            found = self._opened.view(key).get(
                ids=ids,
                where=where or None,
                where_document=where_document or None,
                limit=limit,
                offset=offset or 0,
                include=_fields(include),
            )
        return GetResult(
            ids=list(found.ids),
            embeddings=_float64(found.embeddings) if "embeddings" in include else None,
            documents=_asked(found.documents, "documents" in include),
            uris=_asked(found.uris, "uris" in include),
            metadatas=_asked(found.metadatas, "metadatas" in include),
            included=list(include),
            data=None,
        )

    def query(
        self,
        cid: UUID,
        embeddings: Any,
        ids: Sequence[str] | None,
        n_results: int,
        where: Any,
        where_document: Any,
        include: Include,
    ) -> QueryResult:
        key = CollectionId(str(cid))
        with self._errors(cid):
            queries = _matrix(embeddings)
            collection = self._opened.collection(key)
            _check_dimension(collection, queries)
            check_filters(collection.schema, where, where_document)
            view = self._opened.view(key)
            if ids and not where and not where_document:
                _check_all_exist(view, ids)
            found = view.query(
                queries,
                n_results,
                ids=ids,
                where=where or None,
                where_document=where_document or None,
                include=_fields(include),
            )
        wanted = set(include)
        return QueryResult(
            ids=[list(each.ids) for each in found],
            embeddings=[_float64(each.embeddings) for each in found] if "embeddings" in wanted else None,
            documents=_column([each.documents for each in found], "documents" in wanted),
            uris=_column([each.uris for each in found], "uris" in wanted),
            metadatas=_column([each.metadatas for each in found], "metadatas" in wanted),
            distances=_column([each.distances for each in found], "distances" in wanted),
            included=list(include),
            data=None,
        )

    def indexing_status(self, cid: UUID) -> IndexingStatus:
        """How many operations wait to be folded, by a strong read, beside the live records that folds have made.

        Chroma counts operations on both sides; a manifest keeps records, not the operations that led to them.
        """
        with self._errors(cid):
            view = self._opened.view(CollectionId(str(cid)), ReadLevel.INDEX_AND_WAL)
            waiting = self._opened.operations(view.overlay, view.manifest.collection)
            folded = view.manifest.live
        total = folded + waiting
        return IndexingStatus(
            num_indexed_ops=folded,
            num_unindexed_ops=waiting,
            total_ops=total,
            op_indexing_progress=folded / total if total else 1.0,
        )

    # Parts ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _errors(cid: UUID) -> AbstractContextManager[None]:
        return chroma_errors(missing=f"Collection [{cid}] does not exist.")

    def _check_size(self, records: int) -> None:
        if records > self._records_max:
            # Chroma's words, because programs look for them. Never split in silence: one call is atomic.
            raise InvalidArgumentError(f"Batch size of {records} is greater than max batch size of {self._records_max}")

    def _enter_keys(self, cid: CollectionId, metadatas: Sequence[Mapping[str, Any] | None] | None) -> None:
        """Enter metadata keys that the schema has not seen, after the write was acknowledged, and best effort.

        They inform; nothing depends on them. So a lost race or a store that fails is no reason to fail a write that is
        already durable: the next write with such a key tries again.
        """
        found = found_keys(metadatas)
        known = self._opened.known(cid)
        if not found or (known is not None and not missing_keys(known.schema, found)):
            return

        def change(current: CollectionObject) -> CollectionObject:
            if current.schema is None or not missing_keys(current.schema, found):
                return current
            return replace(current, schema=with_keys(current.schema, found))

        with suppress(ChromalithError):
            self._opened.session.catalog.modify(cid, change)


def _fields(include: Sequence[str]) -> tuple[str, ...]:
    """What the reader must fetch: ``data`` is loaded by the Collection, from the uris."""
    return tuple(name for name in include if name != "data")


def _matrix(embeddings: Any) -> npt.NDArray[np.float32]:
    try:
        matrix = np.asarray(embeddings, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError("Inconsistent dimensions in provided embeddings") from error
    if matrix.ndim != 2:
        raise InvalidArgumentError(f"Expected query embeddings of shape (n, dimension), got shape {matrix.shape}")
    return matrix


def _check_dimension(collection: CollectionObject, queries: npt.NDArray[np.float32]) -> None:
    if collection.dimension is not None and len(queries) and queries.shape[1] != collection.dimension:
        raise WrongDimension(f"{WRONG_DIMENSION} {collection.dimension}, got {queries.shape[1]}")


def _check_all_exist(view: View, ids: Sequence[str]) -> None:
    """Chroma refuses a query among ids of which one is missing, unless a filter had already chosen among them."""
    wanted = set(ids)
    if len(view.get(ids=wanted, include=()).ids) < len(wanted):
        raise InternalError("Error executing plan: Internal error: Error finding id")


def _float64(embeddings: npt.NDArray[np.float32] | None) -> Any:
    """Chroma answers with float64, the float32 values widened; an empty answer is an empty array."""
    return np.empty((0,), np.float64) if embeddings is None else np.asarray(embeddings, np.float64)


def _asked(column: list[Any] | None, wanted: bool) -> Any:
    """A column of a ``get``, or ``None`` if it was not asked for."""
    return column if wanted else None


def _column(columns: Sequence[list[Any] | None], wanted: bool) -> Any:
    """One list a query, or ``None`` for a column that was not asked for."""
    return [each or [] for each in columns] if wanted else None
