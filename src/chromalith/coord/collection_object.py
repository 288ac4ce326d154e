"""``collection/<cid>.json``: what a collection is, apart from its name and its data.

It holds Chroma's own configuration, schema and metadata exactly as Chroma prints them, the dimension once it is
fixed, and whether the collection was deleted. Writers read it (conditionally) with every write: a deleted collection
takes none. It
holds no name: names live in the catalog only, so that a name is never two things.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chromalith.coord.register import decode
from chromalith.errors import Corrupt, Invalid
from chromalith.model import manifest_fields as fields
from chromalith.model.ids import CollectionId, collection_id

FORMAT = 1
DIMENSION_MAX = 2**20
"""16 vectors of it are a delta of the largest size: no embedding is that wide, and a wrong number must not size an array."""


@dataclass(frozen=True, slots=True)
class ForkedFrom:
    """Where a fork came from.

    Attributes:
        collection, version: the collection that it was forked from, and its version.
        root: the collection that this and all other forks of its lineage go back to; it is kept here, because what lies between
            may be deleted.
    """

    collection: CollectionId
    version: int
    root: CollectionId


@dataclass(frozen=True, slots=True)
class CollectionObject:
    """One collection.

    Attributes:
        id: its UUID.
        configuration: Chroma's ``configuration_json``, as Chroma prints it.
        schema: Chroma's serialized schema, or ``None``.
        metadata: of the collection itself, or ``None``.
        dimension: of its embeddings; ``None`` until the first write fixes it.
        deleted: whether it takes no more writes and answers no more reads.
        created_us: when it was created by its creator's clock, microseconds since 1970-01-01 UTC; for people only.
        forked_from: or ``None`` for one that is no fork. An older release ignores it, and loses it when it changes the object: then
            the fork is not counted any more, and nothing else. So it is no new format.
        abandoned: the mark of a sweep that found no name for it a day after it was made, and is about to delete it
            (:mod:`chromalith.compaction.reclaim`); chance, so that no two marks are alike. Until then it lives; who relies on it
            (who names it, or writes to it) takes the mark off first. Every change does.
    """

    id: CollectionId
    configuration: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    dimension: int | None
    deleted: bool
    created_us: int
    forked_from: ForkedFrom | None = None
    abandoned: str | None = None

    @property
    def root(self) -> CollectionId:
        """The collection that its lineage of forks goes back to; itself, if it is no fork."""
        return self.id if self.forked_from is None else self.forked_from.root

    @property
    def space(self) -> str:
        """The distance: ``l2``, ``cosine`` or ``ip``. Chroma's default is ``l2``."""
        for index in ("hnsw", "spann"):
            settings = self.configuration.get(index)
            if isinstance(settings, Mapping) and settings.get("space"):
                return str(settings["space"])
        return "l2"

    def value(self) -> dict[str, Any]:
        """The body, without its ``write_id``. Raises ``Invalid`` for a number that JSON has no word for."""
        _refuse_non_finite(self.metadata or {})
        origin = self.forked_from
        return {
            "format": FORMAT,
            "id": self.id,
            "configuration": dict(self.configuration),
            "schema": None if self.schema is None else dict(self.schema),
            "metadata": None if self.metadata is None else dict(self.metadata),
            "dimension": self.dimension,
            "deleted": self.deleted,
            "created_us": self.created_us,
            **({} if origin is None else {"forked_from": asdict(origin)}),
            **({} if self.abandoned is None else {"abandoned": self.abandoned}),
        }

    @classmethod
    def parse(cls, key: str, body: bytes) -> CollectionObject:
        """What ``body``, read at ``key``, says. Raises ``Corrupt``; ``Invalid`` if a newer release wrote it."""
        return cls.of(key, decode(key, body))

    @classmethod
    def of(cls, key: str, value: Mapping[str, Any]) -> CollectionObject:
        """As :meth:`parse`, from decoded JSON."""
        check_format(key, value, FORMAT)
        try:
            dimension, origin, mark = value["dimension"], value.get("forked_from"), value.get("abandoned")
            return cls(
                id=collection_id(value["id"]),
                configuration=fields.mapping(value["configuration"]),
                schema=None if value["schema"] is None else fields.mapping(value["schema"]),
                metadata=None if value["metadata"] is None else fields.mapping(value["metadata"]),
                dimension=None if dimension is None else _dimension(dimension),
                deleted=fields.flag(value["deleted"]),
                created_us=fields.number(value["created_us"]),
                forked_from=None if origin is None else _forked_from(origin),
                abandoned=None if mark is None else str(mark),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"not a collection object key={key}", hint="restore it from the bucket's versions") from error


def _forked_from(value: Mapping[str, Any]) -> ForkedFrom:
    return ForkedFrom(collection_id(value["collection"]), fields.number(value["version"]), collection_id(value["root"]))


def _dimension(value: object) -> int:
    found = fields.number(value, DIMENSION_MAX)
    if not found:
        raise ValueError("a dimension is at least 1")
    return found


def check_format(key: str, value: Mapping[str, Any], newest: int) -> None:
    """Raise ``Invalid`` if ``value`` is of a format that this release does not know, ``Corrupt`` if it names none."""
    found = value.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise Corrupt(f"no format version key={key}", hint="restore the object from the bucket's versions")
    if found > newest:
        raise Invalid(
            f"written by a newer chromalith key={key} format={found} known={newest}",
            hint="upgrade chromalith in this process",
        )


def _refuse_non_finite(metadata: Mapping[str, Any]) -> None:
    for name, value in metadata.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(item, float) and not math.isfinite(item) for item in values):
            raise Invalid(f"a collection's metadata takes finite numbers only metadata_key={name!r}")
