"""What Chroma itself makes of a name, a configuration, a schema and collection metadata.

Chroma 1.5 validates these in its Rust core, fills in the defaults, moves settings between configuration, schema and
legacy metadata keys, and says no in its own words. Writing those rules a second time would be wrong in some corner
today and in more of them with each release. So they are not written: a private, empty Chroma engine in memory
answers. It is started at the first create or modify (about 30 ms, then 2–5 ms a question), holds no records, and is
never used to read or write.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chromadb.api.collection_configuration import (
    CreateCollectionConfiguration,
    UpdateCollectionConfiguration,
)
from chromadb.api.rust import RustBindingsAPI
from chromadb.api.types import Schema
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings, System
from chromadb.types import Collection as CollectionModel

_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Definition:
    """What defines a collection besides its name and its records, as Chroma prints it."""

    configuration: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None


class StockRules:
    """Asks the private engine. Safe to share between threads: one question at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: RustBindingsAPI | None = None

    def created(
        self,
        name: str,
        schema: Schema | None,
        configuration: CreateCollectionConfiguration | None,
        metadata: Mapping[str, Any] | None,
    ) -> Definition:
        """The definition of a collection created with these arguments. Raises whatever Chroma raises."""
        with self._lock:
            engine = self._started()
            try:
                return _definition(engine.create_collection(name, schema, configuration, _plain(metadata)))
            finally:
                self._empty(engine)

    def modified(
        self,
        found: Definition,
        new_name: str | None,
        new_metadata: Mapping[str, Any] | None,
        new_configuration: UpdateCollectionConfiguration | None,
    ) -> Definition:
        """The definition after Chroma's ``modify`` with these arguments. Raises whatever Chroma raises."""
        with self._lock:
            engine = self._started()
            try:
                scratch = self._recreate(engine, found)
                engine._modify(scratch, new_name, _plain(new_metadata), new_configuration)
                changed = _definition(engine.list_collections()[0])  # the only one, by whatever name
            finally:
                self._empty(engine)
        metadata = found.metadata if new_metadata is None else changed.metadata
        return Definition(changed.configuration, changed.schema, metadata)

    def stop(self) -> None:
        """End the private engine, if it was started; the next question starts another."""
        with self._lock:
            if self._engine is not None:
                self._engine.stop()
                self._engine = None

    def _started(self) -> RustBindingsAPI:
        if self._engine is None:
            system = System(Settings(is_persistent=False, anonymized_telemetry=False))
            self._engine = RustBindingsAPI(system)
            self._engine.start()
        return self._engine

    def _recreate(self, engine: RustBindingsAPI, found: Definition) -> UUID:
        """A scratch collection with this definition. The schema alone says it all: since 1.5 the configuration is
        derived from it, and Chroma refuses to be given both."""
        if found.schema is not None:
            created = engine.bindings.create_collection(
                _SCRATCH, None, json.dumps(found.schema), None, False, DEFAULT_TENANT, DEFAULT_DATABASE
            )
        else:
            created = engine.bindings.create_collection(
                _SCRATCH, json.dumps(found.configuration), None, None, False, DEFAULT_TENANT, DEFAULT_DATABASE
            )
        return UUID(str(created.id))

    @staticmethod
    def _empty(engine: RustBindingsAPI) -> None:
        for collection in engine.list_collections():
            engine.delete_collection(collection.name)


def _definition(model: CollectionModel) -> Definition:
    return Definition(model.configuration_json, model.serialized_schema, model.metadata)


def _plain(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if metadata is None else dict(metadata)
