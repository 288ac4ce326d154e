"""Making a collection from its definition, through any ``ServerAPI``, without building the embedding function that it names."""

from __future__ import annotations

import json
from typing import Any

from chromadb.api import ServerAPI
from chromadb.api.fastapi import FastAPI
from chromadb.api.rust import RustBindingsAPI
from chromadb.api.types import Schema

from chromalith.chroma.definitions import to_create
from chromalith.transfer.port import Definition


def create_through(server: ServerAPI, name: str, definition: Definition, tenant: str, database: str) -> None:
    """Create it unless it is there. Raises what ``server`` raises.

    Configuration and schema travel as the text that they are: the classes would build the embedding function, which may ask for
    packages and keys."""
    configuration, schema = to_create(definition)
    metadata = dict(definition.metadata) if definition.metadata else None
    if isinstance(server, RustBindingsAPI):
        server.bindings.create_collection(
            name,
            None if configuration is None else json.dumps(configuration),
            None if schema is None else json.dumps(schema),
            metadata,
            True,
            tenant,
            database,
        )
    elif isinstance(server, FastAPI):
        asked: Any = {
            "name": name, "metadata": metadata, "configuration": configuration, "schema": schema, "get_or_create": True
        }  # fmt: skip
        server._make_request("post", f"/tenants/{tenant}/databases/{database}/collections", json=asked)
    else:  # somebody's own: the classes, and of a configuration what matters
        given: Any = {"hnsw": {"space": definition.space}} if schema is None else None
        made = None if schema is None else Schema.deserialize_from_json(schema)
        server.create_collection(name, made, given, metadata, True, tenant=tenant, database=database)
