"""The only place where a request is made again because it failed.

Clients' own retries are switched off, because a client that repeats a conditional write meets its own success and reports
it as a conflict. What may be repeated is one table, :data:`RETRIED`:

- A read, and a delete, change nothing by being repeated.
- A put that was certainly not applied (``Unavailable``) may be repeated whatever its condition.
- A put without condition, or a copy, whose reply was lost (``Unknown``) may be repeated: the same bytes end at the same key.
- A *conditional* put whose reply was lost must not be repeated blindly: :mod:`chromalith.store.readback` looks first.

When attempts run out after one of them was ``Unknown``, the outcome is ``Unknown``, whatever the last error said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Unavailable, Unknown
from chromalith.store.port import Condition, Entry, ETag, Object, Store
from chromalith.store.wrappers import DelegatingStore

Page = list[Entry]
Result = TypeVar("Result")

CONDITIONAL_PUT = "conditional put"

RETRIED: dict[str, tuple[type[ChromalithError], ...]] = {
    "get": (Unavailable,),
    "get_if_changed": (Unavailable,),
    "get_range": (Unavailable,),
    "head": (Unavailable,),
    "list": (Unavailable,),
    "delete": (Unavailable, Unknown),
    "put": (Unavailable, Unknown),
    "copy": (Unavailable, Unknown),
    CONDITIONAL_PUT: (Unavailable,),
}
"""Which errors of which verb are worth another attempt."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently.

    The wait before attempt ``n`` (from 2) is drawn evenly from 0 to ``min(cap_s, base_s * 2**(n - 2))`` (full jitter: many
    clients that failed together do not come back together). With the defaults the waits are 6 s on average and 12.7 s at
    most: longer than a failover of a partition of S3, shorter than a caller's patience."""

    attempts: int = 8
    base_s: float = 0.1
    cap_s: float = 10.0

    def wait_s(self, failures: int, clock: Clock) -> float:
        """How long to wait after the ``failures``-th failure (from 1), seconds."""
        return clock.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))


DEFAULT_POLICY = RetryPolicy()


class RetryingStore(DelegatingStore):
    """Repeats what :data:`RETRIED` allows, with exponential backoff and full jitter."""

    def __init__(self, inner: Store, clock: Clock, policy: RetryPolicy = DEFAULT_POLICY) -> None:
        super().__init__(inner)
        self._clock = clock
        self._policy = policy

    def get(self, key: str) -> Object:
        return self._repeat("get", lambda: self.inner.get(key))

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        return self._repeat("get_if_changed", lambda: self.inner.get_if_changed(key, etag))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self._repeat("get_range", lambda: self.inner.get_range(key, start, stop))

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        verb = "put" if condition is None else CONDITIONAL_PUT
        return self._repeat(verb, lambda: self.inner.put(key, body, condition))

    def delete(self, key: str) -> None:
        self._repeat("delete", lambda: self.inner.delete(key))

    def head(self, key: str) -> Entry:
        return self._repeat("head", lambda: self.inner.head(key))

    def copy(self, source: str, target: str) -> None:
        self._repeat("copy", lambda: self.inner.copy(source, target))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        # An iterator that has raised is finished, so each attempt begins a new listing after the last key that was handed out.
        pages = self.inner.list(prefix, start_after=start_after)
        begun_anew = False

        def next_page() -> Page | None:
            nonlocal pages, begun_anew
            if begun_anew:
                pages = self.inner.list(prefix, start_after=start_after)
            begun_anew = True
            page = next(pages, None)
            begun_anew = False
            return page

        while (page := self._repeat("list", next_page)) is not None:
            start_after = page[-1].key
            yield page

    def _repeat(self, verb: str, request: Callable[[], Result]) -> Result:
        failures = 0
        maybe_applied: Unknown | None = None
        while True:
            try:
                return request()
            except RETRIED[verb] as error:
                failures += 1
                if isinstance(error, Unknown):
                    maybe_applied = error
                if failures >= self._policy.attempts:
                    if maybe_applied is not None and maybe_applied is not error:
                        raise maybe_applied from error
                    raise
                self._clock.sleep(self._policy.wait_s(failures, self._clock))
