"""The folded set: which deltas a collection has already taken in, whether or not their objects still exist.

Without it a late duplicate (a retried call, a queue's second delivery, an object restored from a bucket's old versions) would
be applied twice. It is keyed by writer and counter, so that a call retried under another delta id is still one call; and
kept as runs of consecutive counters, so that a busy writer costs one run, not one entry a delta.

A run remembers the version that folded it for as long as the sweep needs that (the grace of folded deltas), then forgets it
(``version`` 0) and joins its neighbours of the same day. It expires when it is 30 days old *and* a listing did not show any
of its objects: a delta whose object is still there must never look new.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chromalith.model.ids import DeltaId

DAY_US = 86_400_000_000
KEPT_DAYS = 30


class State(StrEnum):
    """What became of a delta that is not pending any more."""

    FOLDED = "f"
    VOID = "v"
    ASIDE = "a"


@dataclass(frozen=True, slots=True)
class Run:
    """Counters ``[start, stop)`` of one writer, all in one state."""

    start: int
    stop: int
    state: State
    version: int
    """The version that folded them; 0 once that is longer ago than any sweep asks."""
    day: int
    """Days since 1970 (the store's date) of the fold."""


@dataclass(frozen=True, slots=True)
class FoldedSet:
    """Runs by writer, ascending and disjoint."""

    runs: dict[str, tuple[Run, ...]] = field(default_factory=dict)

    def find(self, delta: DeltaId) -> Run | None:
        """The run that holds a delta's (writer, counter), or ``None`` if it was never folded."""
        runs = self.runs.get(delta.writer, ())
        at = bisect.bisect_right(runs, delta.counter, key=lambda run: run.start) - 1
        return runs[at] if at >= 0 and delta.counter < runs[at].stop else None

    def __contains__(self, delta: DeltaId) -> bool:
        return self.find(delta) is not None

    def add(self, deltas: Iterable[tuple[DeltaId, State]], *, version: int, date_us: int) -> FoldedSet:
        """The set with more deltas, folded by ``version`` at the store's date."""
        day = date_us // DAY_US
        runs = dict(self.runs)
        for delta, state in sorted(deltas, key=lambda item: (item[0].writer, item[0].counter)):
            new = Run(delta.counter, delta.counter + 1, state, version, day)
            runs[delta.writer] = _inserted(runs.get(delta.writer, ()), new)
        return FoldedSet(runs)

    def settle(self, version: int) -> FoldedSet:
        """Forget versions up to ``version``, and join the runs that this makes alike."""
        return FoldedSet(
            {
                writer: _joined(replace(run, version=0) if run.version <= version else run for run in runs)
                for writer, runs in self.runs.items()
            }
        )

    def expire(self, *, date_us: int, listed: Iterable[DeltaId]) -> FoldedSet:
        """Without the runs that are over 30 days old and of which ``listed`` (a LIST begun after the date) shows no object."""
        oldest = date_us // DAY_US - KEPT_DAYS
        if not any(run.day < oldest for runs in self.runs.values() for run in runs):
            return self
        alive: dict[str, list[int]] = {}
        for delta in listed:
            alive.setdefault(delta.writer, []).append(delta.counter)
        kept = {
            writer: tuple(
                run
                for run in runs
                if run.day >= oldest or any(run.start <= counter < run.stop for counter in alive.get(writer, ()))
            )
            for writer, runs in self.runs.items()
        }
        return FoldedSet({writer: runs for writer, runs in kept.items() if runs})

    def to_json(self) -> dict[str, list[list[Any]]]:
        """``{writer: [[start, stop, state, version, day], …]}``."""
        return {w: [[r.start, r.stop, str(r.state), r.version, r.day] for r in runs] for w, runs in sorted(self.runs.items())}

    @classmethod
    def from_json(cls, value: dict[str, list[list[Any]]]) -> FoldedSet:
        return cls({w: tuple(Run(a, b, State(s), v, d) for a, b, s, v, d in runs) for w, runs in value.items()})


def _inserted(runs: Sequence[Run], new: Run) -> tuple[Run, ...]:
    at = bisect.bisect_right(runs, new.start, key=lambda run: run.start)
    if at and runs[at - 1].stop == new.start and _alike(runs[at - 1], new):
        return (*runs[: at - 1], replace(runs[at - 1], stop=new.stop), *runs[at:])
    return (*runs[:at], new, *runs[at:])


def _joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    result: list[Run] = []
    for run in runs:
        if result and result[-1].stop == run.start and _alike(result[-1], run):
            result[-1] = replace(result[-1], stop=run.stop)
        else:
            result.append(run)
    return tuple(result)


def _alike(a: Run, b: Run) -> bool:
    return (a.state, a.version, a.day) == (b.state, b.version, b.day)
