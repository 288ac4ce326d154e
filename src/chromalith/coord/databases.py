"""Tenants and databases: which there are. One object per tenant, one per database, conditional writes only.

* ``catalog/<h(tenant)>/tenant.json`` maps the names of the tenant's databases to their ids: **a database exists if its
  tenant names it.**
* ``catalog/<h(tenant)>/<h(database)>.json`` maps the names of its collections to their ids.

Order (data first, root last; unlink from the root first):

1. Creating a database writes its object, then its name and id into the tenant's object.
2. Deleting one closes its object (no collection can be added any more), deletes the collections that the closed object
   maps, then takes the name out of the tenant's object, if it still has that id. After a crash in between, the tenant
   still names it, and a repeated delete carries on.

The default tenant and its default database exist before anything is written, because opening a client must not write;
the first change materialises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chromalith.clock import Clock
from chromalith.coord.collection_object import check_format
from chromalith.coord.register import Register
from chromalith.errors import Conflict, Corrupt, NotFound
from chromalith.model import layout
from chromalith.model import manifest_fields as fields
from chromalith.model.ids import collection_id
from chromalith.store.port import Store

FORMAT = 1
DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
DEFAULT_DATABASE_ID = "00000000-0000-0000-0000-000000000000"
"""The id that Chroma gives its default database."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, and the names in it.

    Attributes:
        id: its UUID.
        name, tenant: what it is called, and whose it is.
        collections: collection names to ids, in the order in which they were created.
        deleted: closed; its names are on their way out.
    """

    id: str
    name: str
    tenant: str
    collections: Mapping[str, str]
    deleted: bool = False

    def value(self) -> dict[str, Any]:
        """The body, without its ``write_id``."""
        return {
            "format": FORMAT,
            "tenant": self.tenant,
            "database": self.name,
            "id": self.id,
            "deleted": self.deleted,
            "collections": dict(self.collections),
        }

    @classmethod
    def of(cls, key: str, value: Mapping[str, Any]) -> Database:
        """What the decoded body read at ``key`` says. Raises ``Corrupt``, ``Invalid`` (newer format)."""
        check_format(key, value, FORMAT)
        try:
            collections = {name: collection_id(cid) for name, cid in fields.mapping(value["collections"]).items()}
            if not all(isinstance(value[name], str) for name in ("id", "database", "tenant")):
                raise ValueError("a name is not a text")
            return cls(value["id"], value["database"], value["tenant"], collections, fields.flag(value["deleted"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"not a database object key={key}", hint="restore it from the bucket's versions") from error


class Databases:
    """Tenants and databases of one store. Safe to share between threads; keeps nothing in memory."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def all(self, tenant: str) -> dict[str, str]:
        """A tenant's databases, names to ids, sorted by name. Raises ``NotFound`` if there is no such tenant."""
        ids = _ids(tenant, self._tenant_register(tenant).read().value)
        if ids is None:
            raise NotFound(f"no such tenant tenant={tenant!r}")
        return dict(sorted(ids.items()))

    def create_tenant(self, tenant: str) -> None:
        """Raises ``Conflict`` if it exists."""
        if tenant == DEFAULT_TENANT or not self._tenant_register(tenant).create(_tenant_value(tenant, {})):
            raise Conflict(f"the tenant exists already tenant={tenant!r}")

    def get_id(self, tenant: str, database: str) -> str:
        """The id of a database. Raises ``NotFound``."""
        ids = _ids(tenant, self._tenant_register(tenant).read().value) or {}
        if database not in ids:
            raise NotFound(f"no such database tenant={tenant!r} database={database!r}")
        return ids[database]

    def peek(self, tenant: str, database: str) -> Database | None:
        """The database's object as it stands: one request. ``None`` if it is absent or closed.

        For lookups of collections: what it maps can be used without a look at the tenant too.
        """
        register = self.register(tenant, database)
        value = register.read().value
        found = None if value is None else Database.of(register.key, value)
        return None if found is None or found.deleted else found

    def get(self, tenant: str, database: str) -> Database:
        """The database with the names in it. Raises ``NotFound`` if it does not exist, or is being deleted."""
        found_id = self.get_id(tenant, database)
        found = self.peek(tenant, database)
        if found is None and found_id == DEFAULT_DATABASE_ID:
            found = Database(found_id, database, tenant, {})  # nothing was ever created in it
        if found is None or found.id != found_id:
            raise NotFound(f"the database is being deleted tenant={tenant!r} database={database!r}")
        return found

    def create(self, tenant: str, database: str) -> Database:
        """Raises ``Conflict`` if it exists, ``NotFound`` if there is no such tenant."""
        if database in self.all(tenant):
            raise Conflict(f"the database exists already tenant={tenant!r} database={database!r}")
        fresh = Database(self._clock.random_uuid(), database, tenant, {})
        register = self.register(tenant, database)

        def open_it(value: dict[str, Any] | None) -> dict[str, Any] | None:
            # An open object that the tenant does not name is what a crashed creator left: it is taken over.
            return fresh.value() if value is None or Database.of(register.key, value).deleted else None

        opened = Database.of(register.key, register.update(open_it) or {})
        tried = False

        def name_it(value: dict[str, Any] | None) -> dict[str, Any] | None:
            nonlocal tried
            ids = _ids(tenant, value)
            if tried and ids is not None and ids.get(database) == opened.id:
                return None  # our own write, whose reply was lost
            tried = True
            if ids is None:
                raise NotFound(f"no such tenant tenant={tenant!r}")
            if database in ids:
                raise Conflict(f"the database exists already tenant={tenant!r} database={database!r}")
            return _tenant_value(tenant, {**ids, database: opened.id})

        self._tenant_register(tenant).update(name_it)
        return opened

    def close(self, tenant: str, database: str) -> Database:
        """Close a database, so that its names stay as they are, and return it. Raises ``NotFound``."""
        found_id = self.get_id(tenant, database)
        register = self.register(tenant, database)

        def close_it(value: dict[str, Any] | None) -> dict[str, Any]:
            found = Database(found_id, database, tenant, {}) if value is None else Database.of(register.key, value)
            if found.id != found_id:
                raise NotFound(f"the database was deleted already tenant={tenant!r} database={database!r}")
            return replace(found, deleted=True).value()

        return Database.of(register.key, register.update(close_it) or {})

    def unlink(self, closed: Database) -> None:
        """Take a closed database's name out of its tenant, unless the name already stands for another one."""

        def unlink_it(value: dict[str, Any] | None) -> dict[str, Any] | None:
            ids = _ids(closed.tenant, value) or {}
            if ids.get(closed.name) != closed.id:
                return None
            return _tenant_value(closed.tenant, {name: each for name, each in ids.items() if name != closed.name})

        self._tenant_register(closed.tenant).update(unlink_it)

    def register(self, tenant: str, database: str) -> Register:
        """The register of one database's object."""
        return Register(self._store, layout.database_key(tenant, database), self._clock)

    def _tenant_register(self, tenant: str) -> Register:
        return Register(self._store, layout.tenant_key(tenant), self._clock)


def _ids(tenant: str, value: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Names to ids in a tenant's object; ``None`` if there is no such tenant."""
    if value is None:
        return {DEFAULT_DATABASE: DEFAULT_DATABASE_ID} if tenant == DEFAULT_TENANT else None
    return databases_of(layout.tenant_key(tenant), value)


def databases_of(key: str, value: Mapping[str, Any]) -> dict[str, str]:
    """Names to ids in a tenant's decoded object. Raises ``Corrupt``, ``Invalid`` (newer format)."""
    check_format(key, value, FORMAT)
    ids = value.get("databases")
    if not isinstance(ids, dict) or not all(isinstance(each, str) for each in ids.values()):
        raise Corrupt(f"not a tenant object key={key}", hint="restore it from the bucket's versions")
    return ids


def _tenant_value(tenant: str, databases: Mapping[str, str]) -> dict[str, Any]:
    return {"format": FORMAT, "tenant": tenant, "databases": dict(databases)}
