"""What processes that were killed leave outside of the objects: things that take space and that no listing shows.

A store that can have such things says so by a capability of its own, not by the port: it has :class:`Leftovers`. There are two: temporary
files of a directory store, and multipart uploads that nobody finished (:mod:`chromalith.store.multipart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from chromalith.store.port import Entry, Store


class Leftovers(Protocol):
    """One kind of things to clean up."""

    @property
    def kind(self) -> str:
        """``temporary_file`` or ``unfinished_upload``."""
        ...

    def find(self) -> Sequence[Entry]:
        """What there is, whatever its age: ``key`` says where, ``etag`` tells two of one key apart, ``modified_us`` is when it began."""
        ...

    def remove(self, entry: Entry) -> None:
        """Remove one; what is gone already is removed."""
        ...


@runtime_checkable
class KeepsTemporaryFiles(Protocol):
    """A store with temporary files of its own."""

    def temporary_files(self) -> Sequence[Entry]:
        """The temporary files that are there, of processes that are at work too."""
        ...

    def remove_temporary_file(self, entry: Entry) -> None:
        """Remove one. A process that still wants to name it fails, and has written nothing."""
        ...


class TemporaryFiles:
    """The temporary files of a directory store as leftovers."""

    kind = "temporary_file"

    def __init__(self, store: KeepsTemporaryFiles) -> None:
        self._store = store

    def find(self) -> Sequence[Entry]:
        return self._store.temporary_files()

    def remove(self, entry: Entry) -> None:
        self._store.remove_temporary_file(entry)


def leftovers_of(store: Store) -> list[Leftovers]:
    """What an open store can leave behind by itself, looked for through its wrappers."""
    inner: object = store
    while inner is not None:
        if isinstance(inner, KeepsTemporaryFiles):
            return [TemporaryFiles(inner)]
        inner = getattr(inner, "inner", None)
    return []
