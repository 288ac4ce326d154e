"""What one life of an actor sees of the world: a store whose every request the scheduler decides, a clock that is wrong,
chance from the seed.

The session that a :class:`Machine` opens is the product's own, with the retries that ``open_store`` gives it; only
threads, time, chance and the store below them are the simulation's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from chromalith.read.reader import ReadLevel
from chromalith.session import Session
from chromalith.store.port import Condition, Entry, ETag, Store
from chromalith.store.retry import RetryingStore, RetryPolicy
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.checkers.ledger import Ledger
from chromalith.testing.history import SECOND_US
from chromalith.testing.in_line import InLineExecutor
from chromalith.testing.remote_like import RemoteLikeStore
from chromalith.testing.simulator.schedule import Life
from chromalith.threads import NewExecutor

Result = TypeVar("Result")


class LifeClock:
    """The clock of one life: its wall time is wrong by the machine's error, its monotonic time is not."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._born_us = life.schedule.now_us

    def now_us(self) -> int:
        return self._life.schedule.now_us + self._life.skew_us

    def monotonic_s(self) -> float:
        return (self._life.schedule.now_us - self._born_us) / SECOND_US

    def sleep(self, seconds: float) -> None:
        self._life.sleep(seconds)

    def random_hex(self, digits: int) -> str:
        return f"{self._life.chance.getrandbits(4 * digits):0{digits}x}"

    def random_uuid(self) -> str:
        return str(uuid.UUID(int=self._life.chance.getrandbits(128), version=4))

    def uniform(self, low: float, high: float) -> float:
        return self._life.chance.uniform(low, high)


class LifeStore(EveryCallStore):
    """The shared store, as one life reaches it: each request waits for the scheduler, and each effect is entered in the ledger."""

    def __init__(self, shared: RemoteLikeStore, life: Life, ledger: Ledger) -> None:
        super().__init__(shared)
        self._shared = shared
        self._life = life
        self._ledger = ledger

    def call(self, verb: str, key: str, request: object) -> object:  # type: ignore[override]
        return self._life.call_store(verb, key, request)  # type: ignore[arg-type]

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        sent, author = bytes(body), self._life.call

        def request() -> ETag:
            etag = self._shared.put(key, sent, condition)
            self._ledger.put(self._shared.objects[key], self._life.schedule.now_us, author)
            return etag

        return self._life.call_store("put", key, request)

    def copy(self, source: str, target: str) -> None:
        author = self._life.call

        def request() -> None:
            self._shared.copy(source, target)
            self._ledger.put(self._shared.objects[target], self._life.schedule.now_us, author)

        self._life.call_store("copy", target, request)

    def delete(self, key: str) -> None:
        def request() -> None:
            self._ledger.delete(key, self._life.schedule.now_us)
            self._shared.delete(key)

        self._life.call_store("delete", key, request)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        # Not as in the base class: there a page is fetched before `call` is asked, here it must show the store when the call is made.
        more = True
        while more:
            after = start_after
            page, more = self._life.call_store("list", prefix, lambda after=after: self._shared.page(prefix, after))  # type: ignore[misc]
            if page:
                yield page
                start_after = page[-1].key


class Machine:
    """Opens sessions for the lives of one actor; its cache survives them, as a disk does.

    Args:
        shared: the store of the history.
        ledger: what really happened to it.
        directory: for caches.
        attempts: how often the product's own retries try a request.
        staleness_s: of the sessions' lagging reads.
    """

    def __init__(self, shared: RemoteLikeStore, ledger: Ledger, directory: Path, attempts: int, staleness_s: float = 30.0) -> None:
        self.shared = shared
        self.ledger = ledger
        self._directory = directory
        self._attempts = attempts
        self.staleness_s = staleness_s

    def store(self, life: Life) -> Store:
        """The store as this life reaches it."""
        store: Store = LifeStore(self.shared, life, self.ledger)
        if self._attempts > 1:
            store = RetryingStore(store, LifeClock(life), RetryPolicy(attempts=self._attempts))
        return store

    def session(self, life: Life, *, read_level: ReadLevel = ReadLevel.INDEX_AND_WAL) -> Session:
        """A new process: nothing in memory."""
        return Session(
            self.store(life),
            read_level=read_level,
            cache_dir=self._directory / life.actor.name,
            clock=LifeClock(life),
            max_staleness_s=self.staleness_s,
            executor=self.executor(life),
        )

    def executor(self, life: Life) -> NewExecutor:
        """What a life does side by side, one after the other, in an order that chance decides."""
        return lambda threads, name: InLineExecutor(lambda: life.chance.random() < 0.5)


