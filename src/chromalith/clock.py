"""The only source of time, waiting and chance.

Everything that reads a clock, sleeps, or makes a random id takes a :class:`Clock`, so that a test can hold time still and
replay chance from a seed. A lint forbids ``time``, ``random``, ``uuid`` and ``secrets`` everywhere else in the package.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """Wall time (compared with nothing but the store's), monotonic time, waiting, and chance."""

    def now_us(self) -> int:
        """Wall time, microseconds since 1970-01-01 UTC. Can jump; never used to decide safety."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock of this process that never goes back, and goes on while the machine sleeps where it can."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def random_hex(self, digits: int) -> str:
        """``digits`` lowercase hexadecimal digits of chance."""
        ...

    def random_uuid(self) -> str:
        """A random UUID (version 4), as text with dashes."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A float between ``low`` and ``high``, for jitter."""
        ...


_STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""Goes on while the machine sleeps, where there is such a clock: what waited through that has waited."""


class SystemClock:
    """The machine's clock, and the operating system's randomness."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random_hex(self, digits: int) -> str:
        return f"{random.SystemRandom().getrandbits(4 * digits):0{digits}x}"

    def random_uuid(self) -> str:
        return str(uuid.uuid4())

    def uniform(self, low: float, high: float) -> float:
        return random.SystemRandom().uniform(low, high)


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told to (or when somebody sleeps), with chance drawn from ``seed``."""

    wall_us: int = 1_700_000_000_000_000
    seed: int = 0
    slept_s: float = 0.0
    _monotonic_s: float = 0.0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self.wall_us += round(seconds * 1_000_000)
        self._monotonic_s += seconds

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.advance(seconds)

    def random_hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def random_uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


SYSTEM_CLOCK = SystemClock()


def thread_cpu_s() -> float:
    """Processor time that the calling thread has used, in seconds: what a thread in the background may be bounded by."""
    return time.thread_time()


Chance = random.Random
"""Chance that a seed decides, for tests and simulations: the same seed gives the same draws, in every process."""
