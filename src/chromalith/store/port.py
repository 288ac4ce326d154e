"""The object store that Chromalith needs: seven verbs, and preconditions as values.

A store is flat: keys are ASCII, ``/`` is only a character. All verbs are synchronous, and safe to call from many threads.

What an adapter must keep, and what the contract suite (``chromalith.testing.contract``) checks:

1. ``put(Absent())`` and ``put(Matches(tag))`` are atomic between any number of processes: of those that race, one wins.
2. After ``put`` returned, every ``get``, ``head`` and ``list`` that starts later shows it (strong read-after-write).
3. An entity tag changes whenever the object is overwritten. Equal bodies may have equal tags (S3); callers that need a
   witness put a nonce into the body.
4. A failed precondition raises :class:`PreconditionFailed` and changed nothing. A request that may or may not have been
   applied raises :class:`~chromalith.errors.Unknown`; one that was certainly not applied raises
   :class:`~chromalith.errors.Unavailable`. Never the one for the other.
5. ``list`` yields keys in ascending order of their bytes, with the time at which the store says they were last written.

The verbs and names follow obspec; the precondition as a value follows its ``PutMode``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from chromalith.errors import Conflict, Invalid

ETag = str


class PreconditionFailed(Conflict):
    """The condition of a ``put`` did not hold; the store was not changed by this request."""


class NotAllowed(Invalid):
    """The store refuses this identity this request; nothing was changed.

    Args:
        message, hint: as of every error.
        key: what was asked for.
    """

    def __init__(self, message: str, *, hint: str | None = None, key: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


@dataclass(frozen=True, slots=True)
class Absent:
    """Write only if nothing has this key (HTTP ``If-None-Match: *``)."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Write only over the object that has this entity tag (HTTP ``If-Match``)."""

    etag: ETag


Condition = Absent | Matches | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing or a ``head`` tells about an object."""

    key: str
    size: int
    etag: ETag
    modified_us: int
    """When the store says the object was written: microseconds since 1970-01-01 UTC, in the store's own clock and
    resolution (whole seconds on most remote stores; strictly increasing on a directory and in memory)."""


@dataclass(frozen=True, slots=True)
class Object:
    """A whole object, as one ``get`` saw it."""

    key: str
    body: bytes
    etag: ETag
    modified_us: int


@runtime_checkable
class Store(Protocol):
    """A place for objects. See the module's docstring for what each implementation must keep."""

    @property
    def url(self) -> str:
        """The canonical URL: equal for two handles exactly when they are the same place."""
        ...

    @property
    def settle_s(self) -> float:
        """For how long after its timestamp an object may still be missing from a listing, in seconds (0: never).

        Memory and directory: 0. Remote stores: 2, because their timestamps are whole seconds taken before the commit."""
        ...

    def get(self, key: str) -> Object:
        """The whole object. Raises ``NotFound``, ``Unavailable``."""
        ...

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        """The object, or ``None`` if it still has ``etag`` (HTTP ``If-None-Match: <etag>``: one request either way).

        Raises ``NotFound``, ``Unavailable``."""
        ...

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)``, cut at the object's end; ``start`` must lie within it (else ``Invalid``).

        Raises ``NotFound``, ``Unavailable``, ``Invalid``."""
        ...

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        """Write a whole object in one request (never multipart) and return its entity tag.

        Raises ``PreconditionFailed``, ``Unknown``, ``Unavailable``."""
        ...

    def delete(self, key: str) -> None:
        """Remove; what is absent is already removed. Raises ``Unavailable``."""
        ...

    def head(self, key: str) -> Entry:
        """What ``list`` would tell of one key. Raises ``NotFound``, ``Unavailable``."""
        ...

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        """Pages of the entries whose key begins with ``prefix``, ascending, after ``start_after``; no empty page.

        One page is one request, and a snapshot of the moment it was answered; several pages are not. Raises ``Unavailable``."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy inside the store, overwriting. Raises ``NotFound``, ``Unknown``, ``Unavailable``."""
        ...
