"""The verbs about databases and collections: the main side's answer counts, and both sides have every change while both are live.

A migration moves one database. What names another is the source's alone, in every phase; so is a collection that is not one of those
that are moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any
from uuid import UUID

from chromadb.api import ServerAPI
from chromadb.errors import NotFoundError
from chromadb.types import Collection as CollectionModel

from chromalith.client.errors import chroma_errors
from chromalith.errors import Invalid
from chromalith.migrate.client.core import Core
from chromalith.migrate.dual import Write
from chromalith.migrate.entries import CREATE, DELETE_COLLECTION, MODIFY
from chromalith.migrate.follower import View
from chromalith.migrate.port import Role

Make = Callable[[ServerAPI, dict[str, Any]], Any]
"""A call on one side's engine, with its tenant and database by name."""


class CatalogVerbs:
    """Answers the catalog half of Chroma's ServerAPI. Safe to share between threads.

    Args:
        core: of the client.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    # Databases -----------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """The state to read on."""
        self._core.used()
        return self._core.follower.view()

    def is_home(self, tenant: str, database: str) -> bool:
        """Whether this is the database that is moved."""
        return (tenant, database) == self._core.home

    def main(self) -> tuple[ServerAPI, dict[str, Any]]:
        """The engine of the side that is asked about everything that is not a collection's, and its tenant and database."""
        role = self.view().state.main
        return self._core.sides.server(role), self._core.sides.at(role)

    def source(self) -> ServerAPI:
        """The source's engine."""
        self._core.used()
        return self._core.sides.server(Role.SOURCE)

    def refuse_home(self, tenant: str, database: str | None, what: str) -> None:
        """Raise for a change of the database that is moved, which is not the application's to make now."""
        if tenant == self._core.home[0] and database in (None, self._core.home[1]):
            with chroma_errors():
                raise Invalid(f"{what} while it is migrated", hint="end the migration first")

    # Collections: reads --------------------------------------------------------------------------------------------

    def listed(
        self, tenant: str, database: str, limit: int | None = None, offset: int | None = None
    ) -> list[CollectionModel]:
        """The collections of a database, as the application sees them."""
        if not self.is_home(tenant, database):
            return list(self.source().list_collections(limit, offset, tenant, database))
        view = self.view()
        roles = self._roles(view)
        if len(roles) == 1:
            return [self._seen(roles[0], model) for model in self._all(roles[0], limit, offset)]
        found = [
            self._seen(role, model) for role in roles for model in self._all(role) if view.main(model.name) is role
        ][offset or 0 :]
        return found if limit is None else found[:limit]

    def counted(self, tenant: str, database: str) -> int:
        """How many there are."""
        if not self.is_home(tenant, database):
            return self.source().count_collections(tenant=tenant, database=database)
        view = self.view()
        roles = self._roles(view)
        if len(roles) > 1:
            return len(self.listed(tenant, database))
        return self._core.sides.server(roles[0]).count_collections(**self._core.sides.at(roles[0]))

    def get(self, name: str, tenant: str, database: str) -> CollectionModel:
        """One by its name."""
        if not self.is_home(tenant, database):
            return self.source().get_collection(name, tenant=tenant, database=database)
        role = self.view().main(name)
        return self._seen(role, self._core.sides.server(role).get_collection(name, **self._core.sides.at(role)))

    def get_by_id(self, uuid: UUID, tenant: str, database: str) -> CollectionModel:
        """One by an id that the application has."""
        if not self.is_home(tenant, database):
            return self.source().get_collection_by_id(uuid, tenant=tenant, database=database)
        state = self.view().state
        role = self.view().main(self._core.bindings.name(uuid, state.main, dual=state.is_dual))
        model = self._core.on(role, uuid, lambda server, here, at: server.get_collection_by_id(here, **at))
        return self._seen(role, model, shown=uuid)

    # Collections: changes ------------------------------------------------------------------------------------------

    def create(
        self, name: str, schema: Any, configuration: Any, metadata: Any, get_or_create: bool, tenant: str, database: str
    ) -> CollectionModel:
        """A collection, on both sides while both are live."""

        def make(server: ServerAPI, at: dict[str, Any], again: bool) -> CollectionModel:
            return server.create_collection(name, schema, configuration, metadata, get_or_create or again, **at)

        if not self.is_home(tenant, database):
            return make(self.source(), {"tenant": tenant, "database": database}, False)
        self._core.used()
        metadata = deepcopy(metadata)  # the second's write may outlast the call

        def send(role: Role, _: Sequence[int] | None, second: bool) -> Any:
            # The second may have it: from a copy, or from a call of this that was tried again.
            return role, make(self._core.sides.server(role), self._core.sides.at(role), second)

        with chroma_errors():
            role, model = self._core.write(Write(name, CREATE, (), send))[0]
        return self._seen(role, model)

    def delete(self, name: str, tenant: str, database: str) -> None:
        """A collection with its records, on both sides while both are live."""
        if not self.is_home(tenant, database):
            self.source().delete_collection(name, tenant=tenant, database=database)
            return
        self._core.used()

        def send(role: Role, _: Sequence[int] | None, second: bool) -> Role:
            try:
                self._core.sides.server(role).delete_collection(name, **self._core.sides.at(role))
            except NotFoundError:
                if not second:
                    raise
            return role

        with chroma_errors():
            deleted_on = self._core.write(Write(name, DELETE_COLLECTION, (), send))[0]
        self._core.bindings.forget(name, deleted_on)

    def modify(
        self, uuid: UUID, new_name: str | None, new_metadata: Any, new_configuration: Any, tenant: str, database: str
    ) -> None:
        """A collection's name, metadata or configuration. Raises for a new name while both sides are live."""
        if not self.is_home(tenant, database):
            self.source()._modify(uuid, new_name, new_metadata, new_configuration, tenant, database)
            return

        def send(role: Role, _: Sequence[int] | None, second: bool) -> None:
            def act(server: ServerAPI, here: UUID, at: dict[str, Any]) -> None:
                server._modify(here, rename, new_metadata, new_configuration, **at)

            self._core.on(role, uuid, act)

        def refused(view: View, limit: float) -> Write:
            if rename is not None:
                raise Invalid(
                    f"a collection can't be renamed while it is migrated name={name!r}",
                    hint="its two sides are matched by name; rename it before `migrate dual` or after `migrate complete`",
                )
            return call

        new_metadata = deepcopy(new_metadata)  # the second's write may outlast the call
        with chroma_errors():
            name = self._core.name_to_write(uuid)
            rename = None if new_name == name else new_name
            if rename is not None:
                self._refuse_a_move(name, rename)
            call = Write(name, MODIFY, (), send)
            self._core.write(call, when_dual=refused)
        if rename is not None:
            self._core.bindings.renamed(uuid, rename)

    def _refuse_a_move(self, name: str, new_name: str) -> None:
        """Where chosen collections were moved, the name tells the side: another one would hide the records behind the other side."""
        view = self.view()
        if view.main(name) is not view.main(new_name):
            raise Invalid(
                f"a collection can't be renamed across the migration's choice name={name!r} new_name={new_name!r}",
                hint="only chosen collections were moved, and are found by name; rename it when this client is out of the application",
            )

    # Parts ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _roles(view: View) -> list[Role]:
        """The sides that have collections which the application sees."""
        main = view.state.main
        return [main] if main is Role.SOURCE or view.state.collections is None else [Role.TARGET, Role.SOURCE]

    def _all(self, role: Role, limit: int | None = None, offset: int | None = None) -> Sequence[CollectionModel]:
        return self._core.sides.server(role).list_collections(limit, offset, **self._core.sides.at(role))

    def _seen(self, role: Role, model: CollectionModel, *, shown: UUID | None = None) -> CollectionModel:
        """The collection as the application is to see it: in its own database, whatever the side calls that."""
        if shown is None or shown == model.id:
            self._core.bindings.note(role, model)
        values: Mapping[str, Any] = {
            "id": model.id if shown is None else shown,
            "name": model.name,
            "configuration_json": model.configuration_json,
            "serialized_schema": model.serialized_schema,
            "metadata": model.metadata,
            "dimension": model.dimension,
            "tenant": self._core.home[0],
            "database": self._core.home[1],
            "version": model.version,
            "log_position": model.log_position,
        }
        return CollectionModel(**values)
