"""How far a backfill is, how fast, and how long the rest takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from chromalith.clock import Clock
from chromalith.migrate.throttle import Throttle

WINDOW_S = 20.0


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far it is.

    Attributes:
        collection: that is copied now.
        done, total: records of all collections.
        records_per_s: of the last 20 seconds; 0 at the beginning.
        eta_s: how long the rest takes at that rate; ``None``: not known.
        paused: why nothing is read now.
        source_ms: how long the last read of the source took.
    """

    collection: str
    done: int
    total: int
    records_per_s: float = 0.0
    eta_s: float | None = None
    paused: str | None = None
    source_ms: float | None = None


Tell = Callable[[BackfillProgress], None]


class Meter:
    """Counts records as they are over, and tells. Safe to share between threads; ``tell`` is called by one at a time.

    Args:
        clock: whose time it is.
        throttle: what it says of the source is told, too.
        tell: told after each chunk, and when a pause begins or ends.
    """

    def __init__(self, clock: Clock, throttle: Throttle, tell: Tell) -> None:
        self._clock = clock
        self._throttle = throttle
        self._tell = tell
        self._lock = threading.Lock()
        self._collection = ""
        self._done: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def total(self) -> int:
        """Records of all collections."""
        return sum(self._totals.values())

    def expect(self, collection: str, records: int) -> None:
        """So many records will be copied of this collection; what was counted of it is forgotten."""
        with self._lock:
            self._totals[collection] = records
            self._done.pop(collection, None)

    def forget(self, collection: str) -> None:
        """It is gone."""
        with self._lock:
            self._totals.pop(collection, None)
            self._done.pop(collection, None)

    def already(self, collection: str, records: int) -> None:
        """So many were copied before; that tells nothing about the rate."""
        with self._lock:
            self._collection = collection
            self._done[collection] = records
            self._samples.clear()
            self._note()

    def add(self, records: int) -> None:
        """So many more are over."""
        with self._lock:
            self._done[self._collection] = self._done.get(self._collection, 0) + records
            self._note()

    def pause(self, reason: str | None) -> None:
        """A pause begins, or ends (``None``)."""
        with self._lock:
            self._samples.clear()
            self._note()

    def _note(self) -> None:
        now_s, done, total = self._clock.monotonic_s(), sum(self._done.values()), self.total
        self._samples.append((now_s, done))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        began_s, before = self._samples[0]
        rate = (done - before) / (now_s - began_s) if now_s > began_s else 0.0
        eta_s = max(0, total - done) / rate if rate > 0 else None
        paused, source_ms = self._throttle.paused, self._throttle.source_ms
        self._tell(BackfillProgress(self._collection, done, total, rate, eta_s, paused, source_ms))
