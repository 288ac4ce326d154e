"""What annotations alone say: of what is returned, and of parameters that take several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import elsewhere
from chromadb import ClientAPI, Collection

import chromalith


class Holder(Protocol):
    """Somebody has one."""

    def collection(self) -> Collection: ...


class Base(ABC):
    """Whoever inherits opens it."""

    @property
    @abstractmethod
    def client(self) -> ClientAPI: ...

    def drop(self) -> None:
        """Forget it."""
        self.client.delete_collection("a")  # expect: direct-catalog?


def keep(holder: Holder, *more: Collection, **named: Collection) -> None:
    """One, several, and several by name."""
    holder.collection().add(ids=["a"])  # expect: direct-write?
    more[0].upsert(ids=["a"])  # expect: direct-write?
    named["a"].delete(ids=["a"])  # expect: direct-write?


def found(name: str) -> Collection:
    """Another library opens it."""
    return elsewhere.find(name)


def each() -> Iterator[Collection]:
    """A few of them."""
    yield from map(found, "ab")


found("a").update(ids=["a"])  # expect: direct-write?
for one in each():
    one.modify(name="b")  # expect: direct-catalog?


def ours() -> ClientAPI:
    """Of the migration: it is known who made it, whatever its type says."""
    return chromalith.MigratingClient("x", "s3://bucket")


ours().get_collection("a").add(ids=["a"])
