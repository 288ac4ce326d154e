"""Claim: the first answer of a fresh process with an empty cache takes 1.5 times a raw download of the bytes that it needs.

Ours: a new process opens the store and queries a collection that it never saw; the clock starts when its imports are done. Peer: a new
process downloads the very objects that the first one read, into memory, in parallel, by the same client in parts of the same size.

Two places: SeaweedFS on this machine, where its server takes its share of the cores; and the same behind a link of 1 Gbit/s and
30 ms, about what a machine in a cloud has: there the download is what counts.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from bench.crew import work_together
from bench.dataset import load
from bench.fill import fill, find
from bench.outcome import Figure, Options, Outcome, run, say, times_figure, work_directory
from bench.servers import Place, seaweed

from chromalith.session import Session
from chromalith.store.cache import PART_BYTES, THREADS
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import EveryCallStore, body_bytes

Result = TypeVar("Result")
GOAL = 1.5
LINKS: dict[str, tuple[float, float] | None] = {"loopback": None, "behind a link of 1 Gbit/s and 30 ms": (0.03, 125e6)}


class ReadsStore(EveryCallStore):
    """Notes every key that is read whole or in part."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.keys: dict[str, None] = {}

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        if verb in ("get", "get_range", "get_if_changed"):
            self.keys[key] = None
        return request()


class LinkStore(EveryCallStore):
    """A store at the other end of a link that all requests of this process share.

    Args:
        latency_s: what each request waits.
        bytes_per_s: how fast bodies move, all together.
    """

    def __init__(self, inner: Store, latency_s: float, bytes_per_s: float) -> None:
        super().__init__(inner)
        self._latency_s, self._bytes_per_s = latency_s, bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        result = request()
        with self._lock:
            start = max(began + self._latency_s, self._free_at)
            self._free_at = arrived = start + body_bytes(result) / self._bytes_per_s
        time.sleep(max(0.0, arrived - time.perf_counter()))
        return result


def measure(options: Options) -> Outcome:
    rows = 12_000 if options.small else 60_000
    data = load(options.data, rows)
    figures: list[Figure] = []
    with work_directory("cold") as directory, seaweed() as server:
        place = server.place()
        fill(place, data)
        needed = _needed(place, directory / "cache-0", data.queries[0])
        shutil.rmtree(directory / "cache-0")
        total = sum(size for _, size in needed)
        details: dict[str, Any] = {"objects": len(needed), "mb": round(total / 1e6, 1), "breakdown_s": {}}
        for name, link in LINKS.items():
            ours, peer, parts = [], [], []
            for repetition in range(2 * options.repetitions + 1):
                cache = directory / f"cache-{repetition}"
                os.sync()  # what earlier steps wrote must not be written back during this one
                _, [found] = work_together(_first_answer, [(place, link, cache, data.queries[0])])
                ours.append(found["open_s"] + found["answer_s"])
                parts.append(found)
                shutil.rmtree(cache)
                _, [took] = work_together(_download, [(place, link, needed)])
                peer.append(took)
            say(f"cold: {name}: {sorted(ours)[len(ours) // 2]:.2f} s, download {sorted(peer)[len(peer) // 2]:.2f} s")
            details["breakdown_s"][name] = sorted(parts, key=lambda part: part["answer_s"])[len(parts) // 2]
            figures.append(
                times_figure(
                    f"SeaweedFS, {name}",
                    ours,
                    peer,
                    against="a raw parallel download of the same objects",
                    at_most=GOAL,
                )
            )
    return Outcome("cold", data.source, figures, {"records": rows, "dimension": 384, "download_bytes": total}, details)


def _needed(place: Place, cache: Path, query: np.ndarray) -> list[tuple[str, int]]:
    """The objects that the first answer reads, with their sizes."""
    store = ReadsStore(open_store(place.url, storage_options=place.options))
    session = Session(store, cache_dir=cache)
    _answer(session, query)
    session.close()
    return [(key, store.head(key).size) for key in store.keys]


def _answer(session: Session, query: np.ndarray) -> None:
    cid = find(session)
    found = session.view(cid).query(query[None, :], 10)
    if len(found[0].ids) != 10:
        raise AssertionError("the first answer is not whole")


def _store(place: Place, link: tuple[float, float] | None) -> Store:
    store = open_store(place.url, storage_options=place.options)
    return store if link is None else LinkStore(store, *link)


def _first_answer(argument: Any, ready: Callable[[], None]) -> dict[str, float]:
    place, link, cache, query = argument
    ready()
    start = time.perf_counter()
    session = Session(_store(place, link), cache_dir=cache)
    opened = time.perf_counter()
    _answer(session, query)
    answered = time.perf_counter()
    _answer(session, query)
    again = time.perf_counter()
    session.close()
    return {"open_s": opened - start, "answer_s": answered - opened, "second_answer_s": again - answered}


def _download(argument: Any, ready: Callable[[], None]) -> float:
    place, link, needed = argument
    ready()
    start = time.perf_counter()
    store = _store(place, link)
    parts = [(key, at, min(at + PART_BYTES, size)) for key, size in needed for at in range(0, size, PART_BYTES)]
    with ThreadPoolExecutor(2 * THREADS) as pool:
        received = sum(len(body) for body in pool.map(lambda part: store.get_range(*part), parts))
    took = time.perf_counter() - start
    if received != sum(size for _, size in needed):
        raise AssertionError("the download is not whole")
    return took


if __name__ == "__main__":
    run("cold", measure, __doc__)
