"""Chroma's ``ServerAPI`` over two databases: what the real ``chromadb`` Client and Collection talk to while their data moves.

Like :mod:`chromalith.client.server_api` this class only takes Chroma's arguments apart: catalog, writes and reads are answered by the three
modules beside it. What names another database than the one that is moved goes to the source, as if there were no migration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import chromadb
from chromadb.api import ServerAPI
from chromadb.api.types import (
    IDs,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IndexingStatus,
    ReadLevel,
    Schema,
    SearchResult,
)
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, System
from chromadb.config import Settings as ChromaSettings
from chromadb.types import Collection as CollectionModel
from chromadb.types import Database, Tenant

from chromalith.client.errors import chroma_errors
from chromalith.client.missing_verbs import fill_in, verb
from chromalith.errors import Invalid
from chromalith.migrate.client.catalog import CatalogVerbs
from chromalith.migrate.client.core import Core
from chromalith.migrate.client.writes import WriteVerbs

if TYPE_CHECKING:
    from chromadb.api.models.AttachedFunction import AttachedFunction
    from chromadb.api.types import DeleteResult, GetResult, QueryResult

_MOVED = "this can't be done to a database that is migrated"


class CoreSystem(System):
    """A Chroma ``System`` whose ServerAPI is a :class:`MigratingAPI` over ``core``."""

    def __init__(self, settings: ChromaSettings, core: Core) -> None:
        super().__init__(settings)
        self.core = core

    @verb
    def instance(self, type: Any) -> Any:
        return super().instance(MigratingAPI if type is ServerAPI else type)


class MigratingAPI(ServerAPI):
    """See the module's docstring. Safe to share between threads, not between processes."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        if not isinstance(system, CoreSystem):
            raise Invalid("a migrating client is opened by chromalith.MigratingClient")
        self.core = system.core
        self._catalog = CatalogVerbs(self.core)
        self._writes = WriteVerbs(self.core)

    # Lifecycle -----------------------------------------------------------------------------------------------------

    @verb
    def stop(self) -> None:
        super().stop()
        self.core.close()

    @verb
    def reset(self) -> bool:
        with chroma_errors():
            raise Invalid("a migrating client resets nothing", hint="reset a side by a client of its own")

    @verb
    def heartbeat(self) -> int:
        return self._catalog.main()[0].heartbeat()

    @verb
    def get_version(self) -> str:
        return chromadb.__version__

    @verb
    def get_settings(self) -> ChromaSettings:
        return self._system.settings

    @verb
    def get_max_batch_size(self) -> int:
        """Of the side that is written; while both are, the smaller: the application cuts its calls to what both take."""
        state = self._catalog.view().state
        sides = self.core.sides
        most = sides.server(state.main).get_max_batch_size()
        if not state.is_dual:
            return most
        try:
            return min(most, sides[state.main.other].limits.records_per_write)
        except Exception:  # the second is not there: its limits are no reason to fail
            return most

    @verb
    def get_user_identity(self) -> UserIdentity:
        return UserIdentity(user_id="", tenant=self.core.home[0], databases=[self.core.home[1]])

    # Tenants and databases -----------------------------------------------------------------------------------------

    @verb
    def create_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        self._catalog.source().create_database(name, tenant)

    @verb
    def get_database(self, name: str, tenant: str = DEFAULT_TENANT) -> Database:
        if not self._catalog.is_home(tenant, name):
            return self._catalog.source().get_database(name, tenant)
        server, at = self._catalog.main()
        found = server.get_database(at["database"], at["tenant"])
        return Database(id=found["id"], name=name, tenant=tenant)

    @verb
    def delete_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        self._catalog.refuse_home(tenant, name, "a database can't be deleted")
        self._catalog.source().delete_database(name, tenant)

    @verb
    def list_databases(
        self, limit: int | None = None, offset: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> Sequence[Database]:
        return self._catalog.source().list_databases(limit, offset, tenant)

    @verb
    def create_tenant(self, name: str) -> None:
        self._catalog.source().create_tenant(name)

    @verb
    def get_tenant(self, name: str) -> Tenant:
        if name != self.core.home[0]:
            return self._catalog.source().get_tenant(name)
        server, at = self._catalog.main()
        server.get_tenant(at["tenant"])
        return Tenant(name=name)

    # Collections ---------------------------------------------------------------------------------------------------

    @verb
    def count_collections(self, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> int:
        return self._catalog.counted(tenant, database)

    @verb
    def list_collections(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> Sequence[CollectionModel]:
        return self._catalog.listed(tenant, database, limit, offset)

    @verb
    def create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: Any = None,
        metadata: Any = None,
        get_or_create: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self._catalog.create(name, schema, configuration, metadata, get_or_create, tenant, database)

    @verb
    def get_or_create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: Any = None,
        metadata: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self._catalog.create(name, schema, configuration, metadata, True, tenant, database)

    @verb
    def get_collection(
        self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        return self._catalog.get(name, tenant, database)

    @verb
    def get_collection_by_id(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        return self._catalog.get_by_id(collection_id, tenant, database)

    @verb
    def delete_collection(self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> None:
        self._catalog.delete(name, tenant, database)

    @verb
    def _modify(
        self,
        id: UUID,
        new_name: str | None = None,
        new_metadata: Any = None,
        new_configuration: Any = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        self._catalog.modify(id, new_name, new_metadata, new_configuration, tenant, database)

    # Records: writes -----------------------------------------------------------------------------------------------

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
        return self._write("add", collection_id, ids, (embeddings, metadatas, documents, uris), tenant, database)

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
        return self._write("update", collection_id, ids, (embeddings, metadatas, documents, uris), tenant, database)

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
        return self._write("upsert", collection_id, ids, (embeddings, metadatas, documents, uris), tenant, database)

    def _write(
        self, op: str, uuid: UUID, ids: IDs, given: tuple[Any, Any, Any, Any], tenant: str, database: str
    ) -> bool:
        columns = dict(zip(("embeddings", "metadatas", "documents", "uris"), given, strict=True))
        if self._catalog.is_home(tenant, database):
            return self._writes.write(op, uuid, ids, columns)
        of_source: Any = getattr(self._catalog.source(), f"_{op}")
        return bool(of_source(collection_id=uuid, ids=ids, **columns, tenant=tenant, database=database))

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
        if self._catalog.is_home(tenant, database):
            found: DeleteResult = self._writes.delete(collection_id, ids, where, where_document, limit)
            return found
        return self._catalog.source()._delete(
            collection_id, ids, where, where_document, limit, tenant=tenant, database=database
        )

    # Records: reads ------------------------------------------------------------------------------------------------

    def _read(self, name: str, uuid: UUID, tenant: str, database: str, **arguments: Any) -> Any:
        """The verb of this name, with the rest of its arguments, on the side that the state says."""

        def call(server: ServerAPI, here: UUID, given: dict[str, Any]) -> Any:
            return getattr(server, f"_{name}")(collection_id=here, **given)

        if not self._catalog.is_home(tenant, database):
            return call(self._catalog.source(), uuid, {**arguments, "tenant": tenant, "database": database})
        with chroma_errors():
            return self.core.read(uuid, name, call, arguments)

    @verb
    def _count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> int:
        return int(self._read("count", collection_id, tenant, database, read_level=read_level))

    @verb
    def _peek(
        self, collection_id: UUID, n: int = 10, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> GetResult:
        found: GetResult = self._read("peek", collection_id, tenant, database, n=n)
        return found

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
        found: GetResult = self._read(
            "get",
            collection_id,
            tenant,
            database,
            ids=ids,
            where=where,
            limit=limit,
            offset=offset,
            where_document=where_document,
            include=include,
        )
        return found

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
        found: QueryResult = self._read(
            "query",
            collection_id,
            tenant,
            database,
            query_embeddings=query_embeddings,
            ids=ids,
            n_results=n_results,
            where=where,
            where_document=where_document,
            include=include,
        )
        return found

    # What exists on one side only ----------------------------------------------------------------------------------

    @verb
    def _get_indexing_status(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> IndexingStatus:
        found: IndexingStatus = self._read("get_indexing_status", collection_id, tenant, database)
        return found

    @verb
    def _fork_count(self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> int:
        return int(self._read("fork_count", collection_id, tenant, database))

    @verb
    def _search(
        self,
        collection_id: UUID,
        searches: Any,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        found: SearchResult = self._read(
            "search", collection_id, tenant, database, searches=searches, read_level=read_level
        )
        return found

    @verb
    def _fork(self, *arguments: Any, **named: Any) -> CollectionModel:
        with chroma_errors():
            raise Invalid(f"{_MOVED} verb=fork", hint="fork it by a client of its own, before or after")

    @verb
    def attach_function(self, *arguments: Any, **named: Any) -> tuple[AttachedFunction, bool]:
        with chroma_errors():
            raise Invalid(f"{_MOVED} verb=attach_function", hint="by a client of its own, before or after")

    @verb
    def get_attached_function(self, *arguments: Any, **named: Any) -> AttachedFunction:
        with chroma_errors():
            raise Invalid(f"{_MOVED} verb=get_attached_function", hint="by a client of its own")

    @verb
    def detach_function(self, *arguments: Any, **named: Any) -> bool:
        with chroma_errors():
            raise Invalid(f"{_MOVED} verb=detach_function", hint="by a client of its own, before or after")


UNKNOWN_VERBS = fill_in(MigratingAPI)
"""The verbs of the installed Chroma that this release does not know; empty with the versions that it is tested with."""
