"""What one client process did, in numbers: for its presence object, and for tests. Counting must not be in any call's way."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from chromalith.migrate.entries import said_of
from chromalith.migrate.port import Role

MINUTES_MAX = 120


@dataclass(slots=True)
class Tally:
    """Counts since the client was opened. Safe to share between threads.

    Attributes:
        writes, reads: calls that a side answered.
        failures: writes to the second that failed, or can't be told.
        late: callers that did not wait for the second any longer.
        skipped: seconds that were not begun because others hang.
        fallbacks: reads that the target failed and the source answered, during a ramp.
        last_failure: of a second, and its kind.
        minutes: calls that wrote, by the minute since 1970 in which they ended; of the last :data:`MINUTES_MAX`.
    """

    writes: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    reads: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    failures: int = 0
    late: int = 0
    skipped: int = 0
    fallbacks: int = 0
    last_failure: str | None = None
    minutes: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self, role: Role) -> None:
        """A side took a write."""
        with self._lock:
            self.writes[role] += 1

    def called(self, now_us: int) -> None:
        """A call that writes was acknowledged."""
        minute = now_us // 60_000_000
        with self._lock:
            self.minutes[minute] = self.minutes.get(minute, 0) + 1
            while len(self.minutes) > MINUTES_MAX:
                del self.minutes[min(self.minutes)]

    def read(self, role: Role) -> None:
        """A side answered a read."""
        with self._lock:
            self.reads[role] += 1

    def second_failed(self, error: BaseException) -> None:
        """The second did not take a write, or nobody knows."""
        with self._lock:
            self.failures += 1
            self.last_failure = said_of(error)

    def was_late(self) -> None:
        """A caller did not wait for the second any longer."""
        with self._lock:
            self.late += 1

    def was_skipped(self) -> None:
        """A second was not begun."""
        with self._lock:
            self.skipped += 1

    def fell_back(self) -> None:
        """The source answered a read for the target."""
        with self._lock:
            self.fallbacks += 1

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        with self._lock:
            return {
                "writes": {role.value: count for role, count in self.writes.items()},
                "reads": {role.value: count for role, count in self.reads.items()},
                "second_failures": self.failures,
                "second_late": self.late,
                "second_skipped": self.skipped,
                "read_fallbacks": self.fallbacks,
                "last_failure": self.last_failure,
                "write_minutes": {str(minute): count for minute, count in self.minutes.items()},
            }
