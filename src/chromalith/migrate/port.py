"""The two sides of a migration: what each of them must be able to do, whatever it is.

A *side* is one database of something that holds collections: a Chroma directory, a Chroma server, Chroma Cloud, or a Chromalith
store. Each can be source or target, so that leaving is as easy as coming. Nothing here knows which of the two it is.

What an implementation must keep:

1. ``read`` answers records as the side has them now, values unchanged (embeddings float32, metadata with its types).
2. ``ids`` is one answer of one moment, in the order of insertion; ``read`` of ids that are gone leaves them out.
3. A write that returns is acknowledged by the side. One that raises ``Unknown`` may have happened.
4. Calls are cut into pieces of ``limits`` by the implementation, never by its callers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chromalith.model.buckets import Buckets
from chromalith.transfer.port import Batch, Definition
from chromalith.transfer.sides import Limits, SideKind, WriteOp

__all__ = ["Limits", "Role", "Side", "SideCollection", "SideKind", "Sides", "WriteOp"]


class Role(StrEnum):
    """Which of the two sides."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Role:
        """The other one."""
        return Role.TARGET if self is Role.SOURCE else Role.SOURCE


class SideCollection(Protocol):
    """One collection of a side. Safe to share between threads."""

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> str:
        """What the side itself calls it: made with the collection, so two places have the same one only by a copy of files."""
        ...

    @property
    def definition(self) -> Definition: ...

    @property
    def dimension(self) -> int | None:
        """The length of its embeddings; ``None``: not fixed yet, because it never held a record."""
        ...

    def count(self) -> int:
        """How many records. Raises ``NotFound`` (the collection is gone), ``Unavailable``, as all verbs below."""
        ...

    def ids(self) -> list[str]:
        """All ids, in the order of insertion."""
        ...

    def read(self, ids: Sequence[str]) -> Batch:
        """The records among ``ids`` that there are, whole, in the side's own order."""
        ...

    def present(self, ids: Sequence[str]) -> set[str]:
        """Which of ``ids`` there are."""
        ...

    def write(
        self,
        op: WriteOp,
        ids: Sequence[str],
        embeddings: npt.NDArray[np.float32] | None = None,
        documents: Sequence[str | None] | None = None,
        uris: Sequence[str | None] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """``add``, ``update`` or ``upsert`` with Chroma's meaning: absent columns are kept, metadata is merged, a ``None`` value removes
        its key. Raises ``Invalid`` (the side refuses it for good), ``Unavailable``, ``Unknown``."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove; what is absent is already removed."""
        ...

    def buckets(self) -> Buckets | None:
        """The checksums by bucket of what it holds now, if the side knows them without reading its records; else ``None``."""
        ...


class Side(Protocol):
    """One database of one side. Safe to share between threads, not between processes."""

    @property
    def kind(self) -> SideKind: ...

    @property
    def place(self) -> str:
        """Where it is, without secrets: for messages, reports and the migration's state."""
        ...

    @property
    def limits(self) -> Limits: ...

    def names(self) -> list[str]:
        """The names of its collections."""
        ...

    def collection(self, name: str) -> SideCollection:
        """One of them. Raises ``NotFound`` with the names that there are."""
        ...

    def create(self, name: str, definition: Definition) -> SideCollection:
        """The collection, made if it is not there. Raises ``Invalid`` if one with another distance is there."""
        ...

    def drop(self, name: str) -> None:
        """Remove a collection; one that is absent is already removed."""
        ...

    def describe(self, name: str, metadata: Mapping[str, Any] | None) -> None:
        """Set a collection's own metadata. Raises ``NotFound``."""
        ...

    def close(self) -> None:
        """Let go of it; calling it again is allowed."""
        ...


@dataclass(frozen=True, slots=True)
class Sides:
    """Both."""

    source: Side
    target: Side

    def __getitem__(self, role: Role) -> Side:
        return self.source if role is Role.SOURCE else self.target
