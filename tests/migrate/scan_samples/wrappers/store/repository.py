"""Classes that hold one."""

from __future__ import annotations

from dataclasses import dataclass

from . import connection  # noqa: TID252
from .connection import borrowed  # noqa: TID252


class Base:
    """Has a method that uses what a subclass sets."""

    def save(self, ids):
        """Write."""
        self.collection.upsert(ids=ids)  # expect: direct-write


class Repository(Base):
    """Sets it."""

    def __init__(self):
        self.client, self.collection = connection.pair()

    @property
    def words(self):
        """By name."""
        return self.client.get_collection("words")

    def clear(self):
        """Through the property."""
        self.words.delete(where={})  # expect: direct-write
        with borrowed() as words:
            words.add(ids=["a"])  # expect: direct-write


@dataclass
class Job:
    """Gets it from outside."""

    target: object

    def run(self):
        """Write."""
        self.target.upsert(ids=["a"])  # expect: direct-write


def save_all(where, ids):
    """Gets it as an argument, from another module."""
    where.update(ids=ids)  # expect: direct-write
