"""What moves between a collection and the world: batches of records, from a source to a target.

A *source* yields the records of one collection in the order of their insertion; a *target* takes a source and keeps it.
A version of our own collection is a source too (:mod:`chromalith.transfer.export`), so importing, exporting, and going
from one foreign format to another are the same few parts.

Nothing here holds more than one batch in memory, and a source is read as often as it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chromalith.model import manifest_fields as fields
from chromalith.model.checksum import Digests, Setsum, content_digest, embedding_digest

ROWS_DEFAULT = 5_000
"""Records a batch: 5,000 x 1,536 float32 are 31 MB, and it is below the most that stock Chroma takes at once (5,461)."""

Progress = Callable[[int, int | None], None]
"""Called with the records done so far and all that there are (``None``: not known beforehand)."""


def silent(done: int, total: int | None) -> None:
    """The progress of whoever does not want to know."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records, as columns of one length; ids are unique within it.

    Attributes:
        ids: text.
        embeddings: float32, (n, dim).
        documents, uris: text, or ``None`` for a record that has none.
        metadatas: a dictionary that is not empty, or ``None``.
    """

    ids: list[str]
    embeddings: npt.NDArray[np.float32]
    documents: list[str | None]
    uris: list[str | None]
    metadatas: list[dict[str, Any] | None]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory and in a delta; metadata is guessed at 32 bytes a key."""
        texts = sum(len(text) for column in (self.ids, self.documents, self.uris) for text in column if text)
        keys = sum(_guess(metadata) for metadata in self.metadatas if metadata)
        return int(self.embeddings.nbytes) + texts + keys

    def part(self, start: int, stop: int) -> Batch:
        """The rows ``[start, stop)``."""
        rows = slice(start, stop)
        return Batch(self.ids[rows], self.embeddings[rows], self.documents[rows], self.uris[rows], self.metadatas[rows])


@dataclass(frozen=True, slots=True)
class Definition:
    """What a collection is besides its name and its records, as Chroma prints it: ``configuration_json``, the schema, its metadata."""

    configuration: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def space(self) -> str:
        """The distance: ``l2``, ``cosine`` or ``ip``."""
        for index in ("hnsw", "spann"):
            settings = self.configuration.get(index)
            if isinstance(settings, Mapping) and settings.get("space"):
                return str(settings["space"])
        return "l2"

    @classmethod
    def of_fields(cls, value: Mapping[str, Any]) -> Definition:
        """From decoded JSON with ``configuration``, ``schema`` and ``metadata``. Raises ``KeyError``, ``ValueError``."""
        schema, metadata = (None if value[name] is None else fields.mapping(value[name]) for name in ("schema", "metadata"))
        return cls(fields.mapping(value["configuration"]), schema, metadata)

    @classmethod
    def of_space(cls, space: str) -> Definition:
        """The definition of a collection of which only the distance is known."""
        return cls({"hnsw": {"space": space}})


@dataclass(frozen=True, slots=True)
class Sums:
    """The checksums of a set of records (:mod:`chromalith.model.checksum`)."""

    content: Setsum = Setsum()
    embedding: Setsum = Setsum()

    def plus(self, batch: Batch) -> Sums:
        """These, with the records of ``batch`` added."""
        if not len(batch):
            return self
        columns = zip(batch.ids, batch.documents, batch.uris, batch.metadatas, strict=True)
        content = [content_digest(*record) for record in columns]
        embedding = [embedding_digest(i, row) for i, row in zip(batch.ids, batch.embeddings, strict=True)]
        return Sums(self.content + Setsum.of(_rows(content)), self.embedding + Setsum.of(_rows(embedding)))


class Source(Protocol):
    """The records of one collection, to be read."""

    @property
    def name(self) -> str:
        """What to call it: the collection's name, or the file's."""
        ...

    @property
    def definition(self) -> Definition: ...

    @property
    def version(self) -> int | None:
        """The version that it is, where it comes from a Chromalith collection."""
        ...

    @property
    def sums(self) -> Sums | None:
        """What its records must add up to, where it says so."""
        ...

    def total(self) -> int | None:
        """The number of records, if it can be known before they are read."""
        ...

    def batches(self, rows: int) -> Iterator[Batch]:
        """The records in the order of their insertion, at most ``rows`` at once.

        Raises ``Invalid`` with the file and the row of what is wrong, ``Unavailable``, ``Corrupt``."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a target was given: how many records, of how many bytes, adding up to what, and by which way (``how``)."""

    records: int
    bytes: int
    sums: Sums
    how: str


class Target(Protocol):
    """A place outside that keeps the records of one collection."""

    def check(self) -> None:
        """Raise ``Invalid`` if it can't be written: there is something already."""
        ...

    def write(self, source: Source, progress: Progress = silent) -> Written:
        """Write all of it, or leave nothing under the final name. Raises what the source raises, and ``Unavailable``."""
        ...


def _guess(metadata: Mapping[str, Any]) -> int:
    return sum(32 + (len(value) * 8 if isinstance(value, str | list) else 8) for value in metadata.values())


def _rows(digests: list[bytes]) -> Digests:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
