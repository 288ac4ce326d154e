"""A store in memory that is as awkward as a remote one: what S3, GCS and Azure allow, and a memory store never does.

- Timestamps are whole seconds, and are taken *before* the object appears: by up to ``lag_us`` as :attr:`RemoteLikeStore.stamp` decides.
  So an object can turn up in a listing with a timestamp that is not later than one that was listed before (``settle_s`` bounds that).
- Timestamps of different keys need not rise in the order of the writes.
- Entity tags are hashes of the bodies, so that a body that recurs brings its tag back.
- Listings come in pages as small as you like, and each page is a snapshot of the moment when it is asked for.

It passes the contract of :mod:`chromalith.testing.contract`. The simulator builds on it; use it by itself wherever a test with a
memory store would be too kind.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator

from chromalith.clock import Clock
from chromalith.errors import NotFound
from chromalith.store.keys import check_key, check_prefix, check_range
from chromalith.store.memory import check_condition, entry_of
from chromalith.store.port import Condition, Entry, ETag, Object

SECOND_US = 1_000_000


Page = list[Entry]


def whole_seconds(us: int) -> int:
    """A timestamp as a remote store shows it."""
    return us // SECOND_US * SECOND_US


class RemoteLikeStore:
    """Objects in a dictionary, shown as a remote store would show them. Safe to use from many threads.

    Args:
        stamp: the timestamp of an object that is being written now, microseconds; by default the clock's whole second. A function
            of yours may answer with an earlier one, by less than ``settle_s``.
        clock: for the default ``stamp``.
        settle_s: how late after its timestamp an object may turn up in a listing.
        page_entries: the size of a page.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        stamp: Callable[[], int] | None = None,
        settle_s: float = 2.0,
        page_entries: int = 1_000,
        url: str = "memory://remote-like",
    ) -> None:
        self.stamp = stamp or (lambda: whole_seconds(clock.now_us()))
        self.page_entries = page_entries
        self.objects: dict[str, Object] = {}
        """What is there now, for a test to look at."""
        self._keys: list[str] = []
        self._settle_s = settle_s
        self._url = url
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._url

    @property
    def settle_s(self) -> float:
        return self._settle_s

    def copy_of(self, clock: Clock) -> RemoteLikeStore:
        """A store with the same objects (and tags, and timestamps) that goes its own way from now on."""
        other = RemoteLikeStore(clock, settle_s=self._settle_s, page_entries=self.page_entries, url=self._url)
        with self._lock:
            other.objects, other._keys = dict(self.objects), list(self._keys)
        return other

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
            current = self.objects.get(key)
            check_condition(key, current, condition)
            if current is None:
                insort(self._keys, key)
            written = Object(key, bytes(body), hashlib.md5(body, usedforsecurity=False).hexdigest(), self.stamp())
            self.objects[key] = written
            return written.etag

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            if self.objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def head(self, key: str) -> Entry:
        return entry_of(self.get(key))

    def page(self, prefix: str, start_after: str = "") -> tuple[Page, bool]:
        """One page of a listing, by one request, and whether another one follows."""
        check_prefix(prefix)
        found: Page = []
        with self._lock:
            at = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
            while at < len(self._keys) and self._keys[at].startswith(prefix):
                if len(found) == self.page_entries:
                    return found, True
                found.append(entry_of(self.objects[self._keys[at]]))
                at += 1
        return found, False

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        check_prefix(prefix)
        return self._pages(prefix, start_after)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self.get(source).body)

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        more = True
        while more:
            page, more = self.page(prefix, start_after)
            if page:
                yield page
                start_after = page[-1].key

    def _existing(self, key: str) -> Object:
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(f"no such object key={key} store={self._url}") from None
