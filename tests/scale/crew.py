"""What the processes of the scale test do. They are spawned, so it must be importable, and must not import pytest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import ChromalithError
from chromalith.model.ids import CollectionId
from chromalith.session import Session
from chromalith.store.port import PreconditionFailed, Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore

Result = TypeVar("Result")
DIMENSION = 8


@dataclass(frozen=True)
class Job:
    """Where, how much, and how long each writer rests between calls."""

    url: str
    storage_options: dict[str, object]
    collection: CollectionId
    calls: int
    rows: int
    rest_s: float = 0.0

    def opened(self, store: Store | None = None) -> Session:
        return Session(store or open_store(self.url, storage_options=self.storage_options))


@dataclass(frozen=True)
class Written:
    """What a writer did: the calls that were acknowledged, its requests by verb and kind, and the conditions that failed."""

    acknowledged: list[int]
    requests: Counter[tuple[str, str]]
    conflicts: int
    began_s: float
    ended_s: float
    slowest_s: float


class Conditions(CountingStore):
    """Counts failed conditions as well."""

    conflicts = 0

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        try:
            return super().call(verb, key, request)
        except PreconditionFailed:
            self.conflicts += 1
            raise


def write(job: Job, number: int, results: Any) -> None:
    """Upsert ``job.rows`` records in each of ``job.calls`` calls; tell what was acknowledged."""
    store = Conditions(open_store(job.url, storage_options=job.storage_options))
    session = job.opened(store)
    random = np.random.default_rng(number)
    acknowledged: list[int] = []
    slowest = 0.0
    began = SYSTEM_CLOCK.now_us() / 1e6
    for call in range(job.calls):
        ids = ids_of(number, call, job.rows)
        vectors = random.standard_normal((job.rows, DIMENSION)).astype(np.float32)
        start = SYSTEM_CLOCK.monotonic_s()
        session.writer.write(job.collection, "upsert", ids, vectors, documents=[f"text of {i}" for i in ids])
        slowest = max(slowest, SYSTEM_CLOCK.monotonic_s() - start)
        acknowledged.append(call)
        SYSTEM_CLOCK.sleep(job.rest_s)
    counts = store.counts.kinds
    results.put(Written(acknowledged, counts, store.conflicts, began, SYSTEM_CLOCK.now_us() / 1e6, slowest))
    session.close()


def load(job: Job, number: int, ready: Any, go: Any, seconds: float, results: Any) -> None:
    """Write calls for ``seconds``, all writers at once; tell how long each took to be acknowledged, in seconds."""
    session = job.opened()
    session.collections.get(job.collection)
    random = np.random.default_rng(number)
    took: list[float] = []
    ready.release()
    go.wait()
    stop = SYSTEM_CLOCK.monotonic_s() + seconds
    while SYSTEM_CLOCK.monotonic_s() < stop:
        ids = ids_of(number, len(took), job.rows)
        vectors = random.standard_normal((job.rows, DIMENSION)).astype(np.float32)
        began = SYSTEM_CLOCK.monotonic_s()
        session.writer.write(job.collection, "upsert", ids, vectors, documents=[f"text of {i}" for i in ids])
        took.append(SYSTEM_CLOCK.monotonic_s() - began)
    results.put((number, took))
    session.close()


def compact_until(job: Job, stop: Any, results: Any) -> None:
    """Fold and merge all the time; tell how many versions were published, and what went wrong."""
    session = job.opened()
    compactor = session.compactor()
    versions = merged = swept = 0
    errors: list[str] = []
    while not stop.is_set():
        try:
            outcome = compactor.run_once(job.collection)
            versions += len(outcome.published)
            merged += outcome.merged
            swept += outcome.swept
        except ChromalithError as error:
            errors.append(f"{type(error).__name__}: {error}")
        stop.wait(0.5)
    results.put((versions, merged, swept, errors))
    session.close()


def ids_of(writer: int, call: int, rows: int) -> list[str]:
    return [f"w{writer}-{call}-{row}" for row in range(rows)]
