"""How fast a copy may go: it reads from a database that serves people, so it gives way.

- *Rate*: at most so many records a second, over all threads.
- *Latency*: no read of the source should take longer than a ceiling. Reads that do are made smaller, down to :data:`ROWS_MIN` records, and
  from there on each is followed by a rest as long as itself; reads that stay below grow again, slowly (as TCP does).
- *Pause*: while a file is there, or the migration's state says so, nothing is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from chromalith.clock import Clock
from chromalith.migrate.port import SideCollection
from chromalith.transfer.port import Batch

ROWS = 1_000
"""Records of one read. Measured on stock Chroma with documents, 128 dimensions: 1,000 are read as fast as 2,000, and 300 slower."""
ROWS_MIN = 50
GROWTH = 1.25
POLL_S = 1.0


class Throttle:
    """Paces the reads of one copy. Safe to share between threads.

    Args:
        clock: whose time it is.
        rate: records a second; ``None``: as fast as it goes.
        max_source_ms: the ceiling of one read; ``None``: none.
        pause_file: while it exists, nothing is read.
        tick: called before each read and while waiting: raises if the copy must end, and says whether it is paused and why.
        rows: records of one read at most.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rate: float | None = None,
        max_source_ms: float | None = None,
        pause_file: Path | None = None,
        tick: Callable[[], str | None] = lambda: None,
        rows: int = ROWS,
    ) -> None:
        self.on_pause: Callable[[str | None], None] = lambda reason: None
        """Called when a pause begins, with the reason, and when it ends."""
        self._clock = clock
        self._pause_file = pause_file
        self._tick = tick
        self._rows_max = max(1, rows)
        self._rows = float(self._rows_max)
        self._lock = threading.Lock()
        self._next_s = clock.monotonic_s()
        self.rate = rate
        self.max_source_ms = max_source_ms
        self.source_ms: float | None = None
        """How long the last read took."""
        self.paused: str | None = None
        """Why nothing is read now."""

    @property
    def rows(self) -> int:
        """Records of the next read: with a rate, no more than are allowed in a second, so that nobody waits long for his turn."""
        return max(1, int(self._rows if not self.rate else min(self._rows, self.rate)))

    def read(self, collection: SideCollection, ids: Sequence[str]) -> Iterator[Batch]:
        """The records among ``ids``, piece by piece, as fast as is allowed. Raises what the source raises, and what ``tick`` does."""
        start = 0
        while start < len(ids):
            piece, batch, rest_s = self._read(collection, ids, start)
            start += piece
            if len(batch):
                yield batch
            self._wait(rest_s)

    def read_for(self, collection: SideCollection, ids: Sequence[str], seconds: float) -> tuple[int, list[Batch]]:
        """As :meth:`read`, but no read is begun after so many seconds: of how many ids, and their records."""
        stop_s = self._clock.monotonic_s() + seconds
        start, found = 0, []
        while start < len(ids) and (not start or self._clock.monotonic_s() < stop_s):
            piece, batch, rest_s = self._read(collection, ids, start)
            start += piece
            found.append(batch)
            self._wait(rest_s)
        return start, [batch for batch in found if len(batch)]

    def _read(self, collection: SideCollection, ids: Sequence[str], start: int) -> tuple[int, Batch, float]:
        """One read, when it is allowed: of how many ids, the records, and how long to rest."""
        piece = ids[start : start + self.rows]
        self.admit(len(piece))
        began_s = self._clock.monotonic_s()
        batch = collection.read(piece)
        return len(piece), batch, self.took(self._clock.monotonic_s() - began_s)

    def admit(self, records: int) -> None:
        """Wait until ``records`` more may be read."""
        while (reason := self._reason()) is not None:
            self._say(reason)
            self._clock.sleep(POLL_S)
        self._say(None)
        if not self.rate:
            return
        with self._lock:
            now_s = self._clock.monotonic_s()
            begin_s = max(now_s, self._next_s)
            self._next_s = begin_s + records / self.rate
        self._wait(begin_s - now_s)

    def took(self, seconds: float) -> float:
        """Note how long a read took; returns how long to rest after it, in seconds."""
        self.source_ms = seconds * 1_000
        ceiling_ms = self.max_source_ms
        if ceiling_ms is None:
            return 0.0
        with self._lock:
            if self.source_ms <= ceiling_ms:
                self._rows = min(self._rows_max, self._rows * GROWTH)
                return 0.0
            least = min(ROWS_MIN, self._rows_max)
            if self._rows <= least:
                return seconds
            self._rows = max(least, self._rows / 2)
            return 0.0

    def _reason(self) -> str | None:
        if self._pause_file is not None and self._pause_file.exists():
            self._tick()
            return f"there is a file {self._pause_file}"
        return self._tick()

    def _say(self, reason: str | None) -> None:
        with self._lock:
            before, self.paused = self.paused, reason
        if before != reason:
            self.on_pause(reason)

    def _wait(self, seconds: float) -> None:
        """Sleep, but not through a request to end."""
        stop_s = self._clock.monotonic_s() + seconds
        while (left_s := stop_s - self._clock.monotonic_s()) > 0:
            self._clock.sleep(min(POLL_S, left_s))
            self._tick()
