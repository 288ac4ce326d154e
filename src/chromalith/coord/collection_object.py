"""``collection/<cid>.json``: what a collection is, apart from its name and its data.

It holds Chroma's own configuration, schema and metadata exactly as Chroma prints them, the dimension once it is
fixed, and whether the collection was deleted. Writers read it (conditionally) with every write: a deleted collection
takes none. It
holds no name: names live in the catalog only, so that a name is never two things.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chromalith.coord.register import decode
from chromalith.errors import Corrupt, Invalid
from chromalith.model.ids import CollectionId, collection_id

FORMAT = 1


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
    """

    id: CollectionId
    configuration: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    dimension: int | None
    deleted: bool
    created_us: int

    @property
    def space(self) -> str:
        """The distance: ``l2``, ``cosine`` or ``ip``. Chroma's default is ``l2``."""
        for index in ("hnsw", "spann"):
            space = (self.configuration.get(index) or {}).get("space")
            if space:
                return str(space)
        return "l2"

    def value(self) -> dict[str, Any]:
        """The body, without its ``write_id``. Raises ``Invalid`` for a number that JSON has no word for."""
        _refuse_non_finite(self.metadata or {})
        return {
            "format": FORMAT,
            "id": self.id,
            "configuration": dict(self.configuration),
            "schema": None if self.schema is None else dict(self.schema),
            "metadata": None if self.metadata is None else dict(self.metadata),
            "dimension": self.dimension,
            "deleted": self.deleted,
            "created_us": self.created_us,
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
            dimension = value["dimension"]
            return cls(
                id=collection_id(value["id"]),
                configuration=value["configuration"],
                schema=value["schema"],
                metadata=value["metadata"],
                dimension=None if dimension is None else int(dimension),
                deleted=bool(value["deleted"]),
                created_us=int(value["created_us"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"not a collection object key={key}", hint="restore it from the bucket's versions") from error


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
