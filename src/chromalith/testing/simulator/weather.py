"""What goes wrong in a history, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of one call."""

    DONE = "done"
    BEFORE = "before"
    LOST = "lost"
    LATE = "late"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    CRASH_LATE = "crash_late"
    TWICE = "twice"
    STALL_AFTER = "stall_after"


@dataclass(frozen=True, slots=True)
class Weather:
    """How much goes wrong in one history.

    Attributes:
        fault: the probability that a call meets one of the fates below, by their weights.
        weights: of the fates.
        target: only calls on keys that contain this meet them.
        stall: the probability that a process stalls before a call.
        stall_s: for how long at most, seconds.
        stick: the probability that the process that ran last goes on: low interleaves finely, high lets one run ahead.
        staller: only actors whose names begin so stall.
        pace_s: how much time passes between two calls, at most, mostly.
        pause: the probability that it is up to three seconds.
        leap: the probability that it is a minute or two.
        far: the probability that days pass, while nobody is at work.
        far_s: how long that is, seconds.
        land: the probability, at each call, that a late one lands.
        lives: how often an actor may die.
    """

    fault: float = 0.05
    weights: tuple[tuple[Fate, float], ...] = (
        (Fate.BEFORE, 2.0),
        (Fate.LOST, 3.0),
        (Fate.LATE, 2.0),
        (Fate.CRASH_BEFORE, 1.0),
        (Fate.CRASH_AFTER, 1.5),
        (Fate.CRASH_LATE, 1.0),
        (Fate.TWICE, 1.0),
        (Fate.STALL_AFTER, 1.0),
    )
    target: str = ""
    stall: float = 0.03
    stall_s: float = 100.0
    staller: str = ""
    stick: float = 0.3
    pace_s: float = 0.15
    pause: float = 0.1
    leap: float = 0.02
    far: float = 0.0
    far_s: tuple[float, float] = (600.0, 100_000.0)
    land: float = 0.05
    lives: int = 4


CALM = Weather(fault=0.0, stall=0.0, leap=0.0, stick=0.0)
