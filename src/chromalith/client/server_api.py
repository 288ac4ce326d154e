"""Chroma's ``ServerAPI`` over Chromalith: what the real ``chromadb`` Client and Collection talk to.

By composition: this class only takes Chroma's arguments apart and hands them on, the catalog half to
:class:`~chromalith.client.catalog_verbs.CatalogVerbs` and the records half to
:class:`~chromalith.client.data_verbs.DataVerbs`. Nothing of Chroma's is inherited but the interface.

A newer Chroma adds abstract methods. Those that this release does not know are filled in at the end, and refuse when they
are called (:mod:`chromalith.client.missing_verbs`): so a new Chroma opens, and only what is new in it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import chromadb
from chromadb.api import ServerAPI
from chromadb.api.collection_configuration import CreateCollectionConfiguration, UpdateCollectionConfiguration
from chromadb.api.types import (
    IDs,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IncludeMetadataDocumentsEmbeddings,
    IndexingStatus,
    ReadLevel,
    Schema,
    SearchResult,
)
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, System
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import InvalidArgumentError
from chromadb.types import Collection as CollectionModel
from chromadb.types import Database, Tenant

from chromalith.client.catalog_verbs import CatalogVerbs
from chromalith.client.data_verbs import Columns, DataVerbs
from chromalith.client.errors import chroma_errors
from chromalith.client.missing_verbs import fill_in, not_yet, verb
from chromalith.client.opened_store import OpenedStore
from chromalith.client.stock_rules import StockRules
from chromalith.client.system import opener_of
from chromalith.model.delta import OPERATIONS_MAX
from chromalith.read.reader import ReadLevel as Level

if TYPE_CHECKING:
    from chromadb.api.models.AttachedFunction import AttachedFunction
    from chromadb.api.types import DeleteResult, GetResult, QueryResult


class ChromalithAPI(ServerAPI):
    """See the module's docstring. Safe to share between threads, not between processes."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._opener = opener_of(system)
        self._opened: OpenedStore | None = None

    # Lifecycle -----------------------------------------------------------------------------------------------------

    @verb
    def start(self) -> None:
        super().start()
        if self._opened is None:
            self._opened = self._opener()
            self._catalog_verbs = CatalogVerbs(lambda: self.running_store().session.catalog, StockRules())
            self._data_verbs = DataVerbs(self._opened, OPERATIONS_MAX)

    @verb
    def stop(self) -> None:
        super().stop()
        if self._opened is not None:
            self._catalog_verbs.stop()
            self._opened.close()
            self._opened = None

    @property
    def _catalog(self) -> CatalogVerbs:
        self.running_store()
        return self._catalog_verbs

    @property
    def _writable_catalog(self) -> CatalogVerbs:
        with chroma_errors():
            self.running_store().check_writable()
        return self._catalog_verbs

    @property
    def _data(self) -> DataVerbs:
        self.running_store()
        return self._data_verbs

    def running_store(self) -> OpenedStore:
        """The open store. Raises Chroma's error if the client is closed."""
        if self._opened is None:
            raise InvalidArgumentError("the client is closed (hint: open a new one)")
        return self._opened

    @verb
    def reset(self) -> bool:
        if not self._system.settings.allow_reset:
            raise ValueError(
                "Resetting is not allowed by this configuration (to enable it, set `allow_reset` to `True` in your "
                "Settings() or include `ALLOW_RESET=TRUE` in your environment variables)"
            )
        with chroma_errors():
            self.running_store().check_writable()
        self.running_store().erase()
        return True

    @verb
    def heartbeat(self) -> int:
        return self.running_store().session.clock.now_us() * 1_000

    @verb
    def get_version(self) -> str:
        return chromadb.__version__

    @verb
    def get_settings(self) -> ChromaSettings:
        return self._system.settings

    @verb
    def get_max_batch_size(self) -> int:
        return OPERATIONS_MAX

    @verb
    def get_user_identity(self) -> UserIdentity:
        return UserIdentity(user_id="", tenant=DEFAULT_TENANT, databases=[DEFAULT_DATABASE])

    # Tenants and databases -----------------------------------------------------------------------------------------

    @verb
    def create_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        self._writable_catalog.create_database(name, tenant)

    @verb
    def get_database(self, name: str, tenant: str = DEFAULT_TENANT) -> Database:
        return self._catalog.get_database(name, tenant)

    @verb
    def delete_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        self._writable_catalog.delete_database(name, tenant)

    @verb
    def list_databases(
        self, limit: int | None = None, offset: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> Sequence[Database]:
        return self._catalog.list_databases(tenant, limit, offset)

    @verb
    def create_tenant(self, name: str) -> None:
        self._writable_catalog.create_tenant(name)

    @verb
    def get_tenant(self, name: str) -> Tenant:
        return self._catalog.get_tenant(name)

    # Collections ---------------------------------------------------------------------------------------------------

    @verb
    def count_collections(self, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> int:
        return self._catalog.count_collections(tenant, database)

    @verb
    def list_collections(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> Sequence[CollectionModel]:
        return self._catalog.list_collections(limit, offset, tenant, database)

    @verb
    def create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: Any = None,
        get_or_create: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self._writable_catalog.create_collection(
            name, schema, configuration, metadata, get_or_create, tenant, database
        )

    @verb
    def get_or_create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self._writable_catalog.create_collection(name, schema, configuration, metadata, True, tenant, database)

    @verb
    def get_collection(
        self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        return self._catalog.get_collection(name, tenant, database)

    @verb
    def get_collection_by_id(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        return self._catalog.get_collection_by_id(collection_id, tenant, database)

    @verb
    def delete_collection(self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> None:
        self._writable_catalog.delete_collection(name, tenant, database)

    @verb
    def _modify(
        self,
        id: UUID,
        new_name: str | None = None,
        new_metadata: Any = None,
        new_configuration: UpdateCollectionConfiguration | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        self._writable_catalog.modify(id, new_name, new_metadata, new_configuration, tenant, database)

    # Records -------------------------------------------------------------------------------------------------------

    @verb
    def _add(
        self,
        ids: IDs,
        collection_id: UUID,
        embeddings: Any,
        metadatas: Any = None,
        documents: Any = None,
        uris: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._data.write("add", collection_id, Columns(ids, embeddings, metadatas, documents, uris))

    @verb
    def _update(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Any = None,
        metadatas: Any = None,
        documents: Any = None,
        uris: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._data.write("update", collection_id, Columns(ids, embeddings, metadatas, documents, uris))

    @verb
    def _upsert(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Any,
        metadatas: Any = None,
        documents: Any = None,
        uris: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._data.write("upsert", collection_id, Columns(ids, embeddings, metadatas, documents, uris))

    @verb
    def _delete(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Any = None,
        where_document: Any = None,
        limit: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> DeleteResult:
        return self._data.delete(collection_id, ids, where, where_document, limit)

    @verb
    def _count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> int:
        return self._data.count(collection_id, Level[read_level.name])

    @verb
    def _peek(
        self,
        collection_id: UUID,
        n: int = 10,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> GetResult:
        return self._data.get(collection_id, None, None, None, n, 0, IncludeMetadataDocumentsEmbeddings)

    @verb
    def _get(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: Any = None,
        include: Include = IncludeMetadataDocuments,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> GetResult:
        return self._data.get(collection_id, ids, where, where_document, limit, offset, include)

    @verb
    def _query(
        self,
        collection_id: UUID,
        query_embeddings: Any,
        ids: IDs | None = None,
        n_results: int = 10,
        where: Any = None,
        where_document: Any = None,
        include: Include = IncludeMetadataDocumentsDistances,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> QueryResult:
        return self._data.query(collection_id, query_embeddings, ids, n_results, where, where_document, include)

    @verb
    def _get_indexing_status(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> IndexingStatus:
        return self._data.indexing_status(collection_id)

    # Forks ---------------------------------------------------------------------------------------------------------

    @verb
    def _fork(
        self, collection_id: UUID, new_name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        session = self.running_store().session
        return self._writable_catalog.fork(session, collection_id, new_name, tenant, database)

    @verb
    def _fork_count(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> int:
        return self._catalog.fork_count(collection_id, tenant, database)

    # What Chroma has and this release has not ----------------------------------------------------------------------

    @verb
    def _search(self, *arguments: Any, **named: Any) -> SearchResult:
        return not_yet("hybrid search", "use query()")

    @verb
    def attach_function(self, *arguments: Any, **named: Any) -> tuple[AttachedFunction, bool]:
        return not_yet("attaching functions")

    @verb
    def get_attached_function(self, *arguments: Any, **named: Any) -> AttachedFunction:
        return not_yet("attaching functions")

    @verb
    def detach_function(self, *arguments: Any, **named: Any) -> bool:
        return not_yet("attaching functions")


UNKNOWN_VERBS = fill_in(ChromalithAPI)
"""The verbs of the installed Chroma that this release does not know; empty with the versions that it is tested with."""
