"""Stores around a store: each class delegates every verb and changes one thing.

Compose them from the adapter outward. :func:`chromalith.store.url.open_store` builds
``ProcessBoundStore(RetryingStore(PrefixStore(adapter)))``; a bench or a test puts ``CountingStore`` directly around the
adapter, where one call is one request.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from chromalith.clock import Clock
from chromalith.errors import Invalid
from chromalith.store.keys import check_key, check_prefix
from chromalith.store.port import Condition, Entry, ETag, Object, Store

Result = TypeVar("Result")


class DelegatingStore:
    """Does what ``inner`` does. The base of the other wrappers."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def settle_s(self) -> float:
        return self.inner.settle_s

    def get(self, key: str) -> Object:
        return self.inner.get(key)

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        return self.inner.get_if_changed(key, etag)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self.inner.get_range(key, start, stop)

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return self.inner.put(key, body, condition)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def head(self, key: str) -> Entry:
        return self.inner.head(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        return self.inner.list(prefix, start_after=start_after)

    def copy(self, source: str, target: str) -> None:
        self.inner.copy(source, target)


class EveryCallStore(DelegatingStore):
    """Passes each request through one method, :meth:`call`. A page of a listing is a request."""

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        """Make the request. Override to do something around it; ``verb`` is the port's name of it."""
        return request()

    def get(self, key: str) -> Object:
        return self.call("get", key, lambda: self.inner.get(key))

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        return self.call("get_if_changed", key, lambda: self.inner.get_if_changed(key, etag))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self.call("get_range", key, lambda: self.inner.get_range(key, start, stop))

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return self.call("put", key, lambda: self.inner.put(key, body, condition))

    def delete(self, key: str) -> None:
        self.call("delete", key, lambda: self.inner.delete(key))

    def head(self, key: str) -> Entry:
        return self.call("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        # That a listing has ended is known from its last page and costs no request. So only the first `next` is itself the
        # request; each later page is fetched first and then passed through `call`, which for a read comes to the same.
        pages = self.inner.list(prefix, start_after=start_after)
        page = self.call("list", prefix, lambda: next(pages, None))
        while page is not None:
            yield page
            following = next(pages, None)
            page = None if following is None else self.call("list", prefix, _value(following))

    def copy(self, source: str, target: str) -> None:
        self.call("copy", target, lambda: self.inner.copy(source, target))


class ProcessBoundStore(DelegatingStore):
    """Refuses to work in a process forked from the one that opened it.

    The network client's threads and locks do not survive a fork (the child hangs; a parent was seen to crash), a store in
    memory would silently split in two. One check here spares each adapter its own."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._process = os.getpid()
        self._bound = inner

    @property
    def inner(self) -> Store:
        """The store inside, for the process that opened it."""
        if os.getpid() != self._process:
            raise Invalid(
                f"the store was opened in another process opened_in={self._process} this={os.getpid()}",
                hint="open the store again in this process; workers must be spawned, not forked",
            )
        return self._bound

    @inner.setter
    def inner(self, store: Store) -> None:
        self._bound = store


class PrefixStore(DelegatingStore):
    """The objects below ``prefix`` of another store, as a store of their own."""

    def __init__(self, inner: Store, prefix: str) -> None:
        super().__init__(inner)
        check_key(prefix)
        self._prefix = f"{prefix}/"

    @property
    def url(self) -> str:
        base, question, query = self.inner.url.partition("?")
        return f"{base}/{self._prefix[:-1]}{question}{query}"

    def get(self, key: str) -> Object:
        return self._own(self.inner.get(self._full(key)))

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        found = self.inner.get_if_changed(self._full(key), etag)
        return None if found is None else self._own(found)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self.inner.get_range(self._full(key), start, stop)

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return self.inner.put(self._full(key), body, condition)

    def delete(self, key: str) -> None:
        self.inner.delete(self._full(key))

    def head(self, key: str) -> Entry:
        return self._own_entry(self.inner.head(self._full(key)))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        # Whatever sorts before every key (the empty string) must stay so with the prefix in front.
        after = f"{self._prefix}{start_after}" if start_after else ""
        check_prefix(prefix)
        for page in self.inner.list(self._prefix + prefix, start_after=after):
            yield [self._own_entry(entry) for entry in page]

    def copy(self, source: str, target: str) -> None:
        self.inner.copy(self._full(source), self._full(target))

    def _full(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _own(self, found: Object) -> Object:
        return Object(found.key[len(self._prefix) :], found.body, found.etag, found.modified_us)

    def _own_entry(self, entry: Entry) -> Entry:
        return Entry(entry.key[len(self._prefix) :], entry.size, entry.etag, entry.modified_us)


class LatencyStore(EveryCallStore):
    """Makes each request last longer: a distant store for a bench, on a machine that has none.

    Args:
        latency_s: added to each request, seconds.
        jitter_s: at most this much more, drawn evenly.
        bytes_per_s: the speed at which bodies move; unlimited when left out.
    """

    def __init__(
        self, inner: Store, clock: Clock, latency_s: float, *, jitter_s: float = 0.0, bytes_per_s: float | None = None
    ) -> None:
        super().__init__(inner)
        self._clock = clock
        self._latency_s = latency_s
        self._jitter_s = jitter_s
        self._bytes_per_s = bytes_per_s

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        self._clock.sleep(self._latency_s + (self._clock.uniform(0.0, self._jitter_s) if self._jitter_s else 0.0))
        result = request()
        self._transfer(body_bytes(result))
        return result

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        self._transfer(len(body))
        return super().put(key, body, condition)

    def _transfer(self, size: int) -> None:
        if self._bytes_per_s is not None and size:
            self._clock.sleep(size / self._bytes_per_s)


@dataclass(slots=True)
class Counts:
    """What a :class:`CountingStore` saw.

    ``requests`` by verb; ``kinds`` by (verb, first segment of the key); ``bytes_read`` and ``bytes_written`` of bodies."""

    requests: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


class CountingStore(EveryCallStore):
    """Counts requests and bytes, those that fail too. ``counts`` is a copy; ``reset`` returns it and begins again."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """What was counted since the beginning or the last ``reset``."""
        with self._lock:
            seen = self._counts
            return Counts(Counter(seen.requests), Counter(seen.kinds), seen.bytes_read, seen.bytes_written)

    def reset(self) -> Counts:
        """Begin again at zero, and return what had been counted."""
        with self._lock:
            seen, self._counts = self._counts, Counts()
            return seen

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        with self._lock:
            self._counts.requests[verb] += 1
            self._counts.kinds[verb, key.partition("/")[0]] += 1
        result = request()
        size = body_bytes(result)
        if size:
            with self._lock:
                self._counts.bytes_read += size
        return result

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        with self._lock:
            self._counts.bytes_written += len(body)
        return super().put(key, body, condition)


def body_bytes(result: object) -> int:
    """How many bytes of a body a request's result brought."""
    if isinstance(result, Object):
        return len(result.body)
    return len(result) if isinstance(result, bytes) else 0


def _value(value: Result) -> Callable[[], Result]:
    return lambda: value
