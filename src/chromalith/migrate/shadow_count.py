"""Counting what becomes of shadow reads: exact under threads, and cheap enough for the caller's own path."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from chromalith.clock import Clock
from chromalith.migrate.latencies import Histogram, bucket
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_stats import DISAGREED, JUDGED, MINUTES_MAX, Counts, ShadowStats, Verdicts, newest

COLLECTIONS_MAX = 500
"""Further ones are counted together, under ``OTHERS``: the sum travels in one small object."""
OTHERS = "(others)"
FAILURES_MAX = 20


class Counting:
    """The counters of one process. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reset(0)

    def _reset(self, since: int) -> None:
        self.since = since
        self._collections: set[str] = set()
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._failures: Counter[str] = Counter()
        self._reads: dict[tuple[str, Role], Counter[int]] = {}
        self._pairs: dict[tuple[str, Role], Counter[int]] = {}
        self._minutes: dict[int, Verdicts] = {}

    def begin(self, since: int) -> None:
        """From zero."""
        with self._lock:
            self._reset(since)

    def add(self, read: ShadowRead, what: str) -> None:
        """One more of ``what``, an attribute of :class:`~chromalith.migrate.shadow_stats.Counts`."""
        with self._lock:
            collection = read.collection
            if collection not in self._collections:
                if len(self._collections) < COLLECTIONS_MAX:
                    self._collections.add(collection)
                else:
                    collection = OTHERS
            self._counts.setdefault((read.verb, collection), Counter())[what] += 1
            if what in JUDGED:
                self._judged(what)

    def _judged(self, what: str) -> None:
        minute = self._clock.now_us() // 60_000_000
        self._minutes[minute] = self._minutes.get(minute, Verdicts()) + Verdicts(1, int(what in DISAGREED))
        if len(self._minutes) > MINUTES_MAX:
            self._minutes = newest(self._minutes)

    def failed(self, read: ShadowRead, error: BaseException) -> None:
        """The other side raised. Only the class is kept: a message may hold what a record holds."""
        self.add(read, "errors")
        with self._lock:
            name = type(error).__name__
            self._failures[name if name in self._failures or len(self._failures) < FAILURES_MAX else OTHERS] += 1

    def read(self, verb: str, side: Role, took_s: float) -> None:
        """A caller's own read took so long."""
        with self._lock:
            self._reads.setdefault((verb, side), Counter())[bucket(took_s)] += 1

    def pair(self, verb: str, took_s: dict[Role, float]) -> None:
        """The same read took so long on both sides."""
        with self._lock:
            for side, seconds in took_s.items():
                self._pairs.setdefault((verb, side), Counter())[bucket(seconds)] += 1

    def stats(self) -> ShadowStats:
        """All of it, as a value."""
        with self._lock:
            return ShadowStats(
                self.since,
                {key: Counts(**counts) for key, counts in self._counts.items()},
                dict(self._failures),
                _histograms(self._reads),
                _histograms(self._pairs),
                dict(self._minutes),
            )


def _histograms(of: dict[Any, Counter[int]]) -> dict[Any, Histogram]:
    return {key: Histogram(dict(counts)) for key, counts in of.items()}
