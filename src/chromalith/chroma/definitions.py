"""What a stock collection is: its configuration as Chroma's engine acts on it, which is not always the one that it shows.

Before Chroma 1.0 a collection's distance and its index's settings stood in its metadata (``hnsw:space`` …). Chroma 1.5.9 shows such a
collection with the default configuration, distance l2, and a schema made of it; its engine goes by the metadata: wherever the
configuration is the default, the old keys count. Without this rule a cosine collection of an older Chroma would become an l2 one.

Not covered: an older collection whose metadata was replaced later. Its engine still goes by a copy of the old keys, which no API shows.
"""

from __future__ import annotations

from typing import Any

from chromadb.types import Collection as CollectionModel

from chromalith.transfer.port import Definition

_DEFAULT = {
    "space": "l2",
    "ef_construction": 100,
    "ef_search": 100,
    "max_neighbors": 16,
    "resize_factor": 1.2,
    "sync_threshold": 1000,
}
_OLD_KEYS = {
    "hnsw:space": "space",
    "hnsw:construction_ef": "ef_construction",
    "hnsw:search_ef": "ef_search",
    "hnsw:M": "max_neighbors",
    "hnsw:resize_factor": "resize_factor",
    "hnsw:sync_threshold": "sync_threshold",
}


def definition_of(model: CollectionModel) -> Definition:
    """The definition of a collection as Chroma's API shows it, with the old keys of its metadata where they count."""
    configuration: dict[str, Any] = dict(model.configuration_json)
    metadata = dict(model.metadata) if model.metadata else None
    old = {name: (metadata or {})[key] for key, name in _OLD_KEYS.items() if key in (metadata or {})}
    shown = configuration.get("hnsw")
    if not old or shown != _DEFAULT or all(shown[name] == value for name, value in old.items()):
        return Definition(configuration, model.serialized_schema, metadata)
    # The schema was made of the configuration that is shown, so it is as wrong.
    return Definition(configuration | {"hnsw": shown | old}, None, metadata)


def to_create(definition: Definition) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Configuration and schema as Chroma takes them of a new collection: one of the two is ``None``.

    Since 1.5 Chroma derives the one from the other, and refuses both; old keys in the metadata count as a configuration for it."""
    old = any(key in _OLD_KEYS for key in definition.metadata or {})
    if definition.schema is None or old:
        return dict(definition.configuration), None
    return None, dict(definition.schema)
