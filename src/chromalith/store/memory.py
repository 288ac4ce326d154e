"""A store in this process's memory: the reference implementation of the port, for tests, demos and simulations.

Its timestamps rise strictly (``max(now, last + 1 µs)``), its entity tags never recur, and one lock makes each verb atomic,
so a listing's page is a snapshot and ``settle_s`` is 0. Nothing survives the process.

``memory://name`` means the same store everywhere in one process: :func:`named_memory_store` keeps the register.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from chromalith.clock import Clock
from chromalith.errors import NotFound
from chromalith.store.keys import check_key, check_prefix, check_range
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, Object, PreconditionFailed

Page = list[Entry]

PAGE_ENTRIES = 1_000
"""As on S3, so that what pages there pages here."""

_unnamed = itertools.count(1)
_named: dict[str, MemoryStore] = {}
_named_lock = threading.Lock()


class MemoryStore:
    """Objects in a dictionary. Safe to use from many threads.

    Args:
        clock: gives the timestamps.
        name: what follows ``memory://`` in the URL; a new one of its own when left out.
    """

    def __init__(self, clock: Clock, name: str | None = None) -> None:
        self._url = f"memory://{name if name is not None else f'unnamed-{next(_unnamed)}'}"
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._keys: list[str] = []
        self._last_us = 0
        self._puts = 0

    @property
    def url(self) -> str:
        return self._url

    @property
    def settle_s(self) -> float:
        return 0.0

    def get(self, key: str) -> Object:
        check_key(key)
        with self._lock:
            return self._existing(key)

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        found = self.get(key)
        return None if found.etag == etag else found

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        body = self.get(key).body
        check_range(start, stop, len(body), key)
        return body[start:stop]

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        check_key(key)
        with self._lock:
            check_condition(key, self._objects.get(key), condition)
            self._puts += 1
            self._last_us = max(self._clock.now_us(), self._last_us + 1)
            if key not in self._objects:
                insort(self._keys, key)
            written = Object(key, bytes(body), f"m{self._puts:x}", self._last_us)
            self._objects[key] = written
            return written.etag

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def head(self, key: str) -> Entry:
        return entry_of(self.get(key))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        check_prefix(prefix)
        return self._pages(prefix, start_after)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self.get(source).body)

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        while True:
            page = self._page(prefix, start_after)
            if page:
                yield page
            if len(page) < PAGE_ENTRIES:
                return
            start_after = page[-1].key

    def _page(self, prefix: str, start_after: str) -> Page:
        with self._lock:
            first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
            keys = itertools.takewhile(
                lambda key: key.startswith(prefix), itertools.islice(self._keys, first, first + PAGE_ENTRIES)
            )
            return [entry_of(self._objects[key]) for key in keys]

    def _existing(self, key: str) -> Object:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"no such object key={key} store={self._url}") from None


def check_condition(key: str, current: Object | None, condition: Condition) -> None:
    """Raise ``PreconditionFailed`` if ``condition`` does not hold for what stands at ``key`` (``None``: nothing)."""
    match condition:
        case Absent() if current is not None:
            raise PreconditionFailed(f"the object exists already key={key} etag={current.etag}")
        case Matches(etag) if current is None:
            raise PreconditionFailed(f"the object to overwrite is absent key={key} expected={etag}")
        case Matches(etag) if current is not None and current.etag != etag:
            raise PreconditionFailed(f"the object has changed key={key} expected={etag} etag={current.etag}")
        case _:
            pass


def named_memory_store(name: str, clock: Clock) -> MemoryStore:
    """The store that ``memory://name`` means in this process; the first caller's clock is the one it keeps."""
    with _named_lock:
        if name not in _named:
            _named[name] = MemoryStore(clock, name)
        return _named[name]


def forget_memory_store(name: str) -> None:
    """Drop a named store, so that the next use of its name begins empty; those who hold it keep it."""
    with _named_lock:
        _named.pop(name, None)


def entry_of(found: Object) -> Entry:
    """What a listing tells of an object."""
    return Entry(found.key, len(found.body), found.etag, found.modified_us)
