"""The verbs about tenants, databases and collections: Chroma's semantics and words over our catalog.

What a name, a configuration or a schema may be, Chroma decides (:mod:`chromalith.client.stock_rules`); where it is
kept, and who wins a race, the catalog decides (:mod:`chromalith.coord.catalog`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from chromadb.api.collection_configuration import CreateCollectionConfiguration, UpdateCollectionConfiguration
from chromadb.api.types import Schema
from chromadb.errors import InvalidArgumentError, NotFoundError
from chromadb.types import Collection as CollectionModel
from chromadb.types import Database, Tenant

from chromalith.client.errors import chroma_errors
from chromalith.client.stock_rules import Definition, StockRules
from chromalith.compaction.fork import forks_of
from chromalith.coord.catalog import Catalog, Named
from chromalith.coord.collection_object import CollectionObject
from chromalith.errors import NotFound
from chromalith.model.ids import CollectionId
from chromalith.session import Session

NAME_LENGTH_MIN = 3
"""Of a tenant's or database's name, as in Chroma."""


class CatalogVerbs:
    """Answers the catalog half of Chroma's ServerAPI. Safe to share between threads."""

    def __init__(self, catalog: Callable[[], Catalog], rules: StockRules) -> None:
        self._catalog_now = catalog  # another one after a reset
        self._rules = rules

    @property
    def _catalog(self) -> Catalog:
        return self._catalog_now()

    # Tenants and databases -----------------------------------------------------------------------------------------

    def create_tenant(self, name: str) -> None:
        _check_length("tenant", name)
        with chroma_errors(taken=f"Tenant [{name}] already exists"):
            self._catalog.databases.create_tenant(name)

    def get_tenant(self, name: str) -> Tenant:
        with chroma_errors(missing=f"Tenant [{name}] not found"):
            self._catalog.databases.all(name)
        return Tenant(name=name)

    def create_database(self, name: str, tenant: str) -> None:
        _check_length("database", name)
        with chroma_errors(taken=f"Database [{name}] already exists", missing=f"Tenant [{tenant}] not found"):
            self._catalog.databases.create(tenant, name)

    def get_database(self, name: str, tenant: str) -> Database:
        _check_length("database", name)
        with chroma_errors(missing=f"Database [{name}] not found. Are you sure it exists?"):
            found = self._catalog.databases.get_id(tenant, name)
        return Database(id=UUID(found), name=name, tenant=tenant)

    def delete_database(self, name: str, tenant: str) -> None:
        with chroma_errors(missing=f"Database [{name}] not found"):
            self._catalog.delete_database(tenant, name)

    def list_databases(self, tenant: str, limit: int | None, offset: int | None) -> list[Database]:
        try:
            found = self._catalog.databases.all(tenant)
        except NotFound:
            return []  # as Chroma answers for a tenant that does not exist
        start, stop = _window(limit, offset)
        return [Database(id=UUID(each), name=name, tenant=tenant) for name, each in list(found.items())[start:stop]]

    # Collections ---------------------------------------------------------------------------------------------------

    def count_collections(self, tenant: str, database: str) -> int:
        with chroma_errors():
            return self._catalog.count(tenant, database)

    def list_collections(
        self, limit: int | None, offset: int | None, tenant: str, database: str
    ) -> list[CollectionModel]:
        start, stop = _window(limit, offset)
        with chroma_errors():
            found = self._catalog.listing(tenant, database, offset=start, limit=None if stop is None else stop - start)
        return [_model(each, tenant, database) for each in found]

    def create_collection(
        self,
        name: str,
        schema: Schema | None,
        configuration: CreateCollectionConfiguration | None,
        metadata: Mapping[str, Any] | None,
        get_or_create: bool,
        tenant: str,
        database: str,
    ) -> CollectionModel:
        definition = self._rules.created(name, schema, configuration, metadata)
        try:
            with chroma_errors(taken=f"Collection [{name}] already exists"):
                found = self._catalog.create(
                    tenant,
                    database,
                    name,
                    configuration=definition.configuration,
                    schema=definition.schema,
                    metadata=definition.metadata,
                    get_or_create=get_or_create,
                )
        except NotFoundError as error:
            # Chroma's class for a missing database, and only here: everywhere else it is NotFoundError.
            raise InvalidArgumentError(f"Database [{database}] does not exist") from error
        return _model(found, tenant, database)

    def get_collection(self, name: str, tenant: str, database: str) -> CollectionModel:
        with chroma_errors(missing=f"Collection [{name}] does not exist"):
            return _model(self._catalog.lookup(tenant, database, name), tenant, database)

    def get_collection_by_id(self, cid: UUID, tenant: str, database: str) -> CollectionModel:
        with chroma_errors(missing=f"Collection [{cid}] does not exist"):
            return _model(self._catalog.lookup_id(tenant, database, CollectionId(str(cid))), tenant, database)

    def delete_collection(self, name: str, tenant: str, database: str) -> CollectionId:
        with chroma_errors(missing=f"Collection [{name}] does not exist"):
            return self._catalog.delete(tenant, database, name)

    def modify(
        self,
        cid: UUID,
        new_name: str | None,
        new_metadata: Mapping[str, Any] | None,
        new_configuration: UpdateCollectionConfiguration | None,
        tenant: str,
        database: str,
    ) -> CollectionObject:
        """Two conditional writes where both the name and the rest change: the name first, because it can be taken."""
        key = CollectionId(str(cid))
        taken = f"Collection [{new_name}] already exists"
        with chroma_errors(missing=f"Collection [{cid}] does not exist", taken=taken):
            found = self._catalog.get(key)
            # Asked before anything is written, so that a refusal changes nothing; then again under the conditional
            # write, about what stands there.
            self._rules.modified(_definition(found), new_name, new_metadata, new_configuration)
            if new_name is not None:
                self._catalog.rename(tenant, database, key, new_name)
            if new_metadata is None and new_configuration is None:
                return found

            def change(current: CollectionObject) -> CollectionObject:
                changed = self._rules.modified(_definition(current), None, new_metadata, new_configuration)
                return replace(
                    current, configuration=changed.configuration, schema=changed.schema, metadata=changed.metadata
                )

            return self._catalog.modify(key, change)

    def fork(self, session: Session, cid: UUID, new_name: str, tenant: str, database: str) -> CollectionModel:
        """A new collection with the records of this one, as a default read sees them now."""
        key = CollectionId(str(cid))
        taken = f"Collection [{new_name}] already exists"
        with chroma_errors(missing=f"Collection [{cid}] does not exist", taken=taken):
            found = self._catalog.lookup_id(tenant, database, key).collection
            self._rules.modified(_definition(found), new_name, None, None)  # whether it can be a name
            made = session.fork(key, (tenant, database, new_name))
        return _model(made.named, tenant, database)

    def fork_count(self, cid: UUID, tenant: str, database: str) -> int:
        """As Chroma counts: all forks of the lineage, whichever of its collections is asked. Those that were deleted are not counted."""
        with chroma_errors(missing=f"Collection [{cid}] does not exist"):
            return len(forks_of(self._catalog, tenant, database, CollectionId(str(cid))))

    def stop(self) -> None:
        """Release what the verbs hold."""
        self._rules.stop()


def _model(found: Named, tenant: str, database: str) -> CollectionModel:
    collection = found.collection
    return CollectionModel(
        id=UUID(collection.id),
        name=found.name,
        configuration_json=dict(collection.configuration),
        serialized_schema=None if collection.schema is None else dict(collection.schema),
        metadata=None if collection.metadata is None else dict(collection.metadata),
        dimension=collection.dimension,
        tenant=tenant,
        database=database,
    )


def _definition(found: CollectionObject) -> Definition:
    return Definition(found.configuration, found.schema, found.metadata)


def _check_length(what: str, name: str) -> None:
    if len(name) < NAME_LENGTH_MIN:
        raise InvalidArgumentError(f"{what} name must be at least {NAME_LENGTH_MIN} characters")


def _window(limit: int | None, offset: int | None) -> tuple[int, int | None]:
    """``[start, stop)`` for Chroma's limit and offset. Raises ``InvalidArgumentError`` for a negative one."""
    start = offset or 0
    if start < 0 or (limit is not None and limit < 0):
        raise InvalidArgumentError(f"limit and offset must not be negative limit={limit} offset={offset}")
    return start, None if limit is None else start + limit
