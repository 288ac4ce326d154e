"""The folded set: which deltas a collection has already taken in, whether or not their objects still exist.

Without it a late duplicate (a retried call, a queue's second delivery, an object restored from a bucket's old versions) would
be applied twice. It is keyed by writer and counter, so that a call retried under another delta id is still one call; and
kept as runs of consecutive counters, so that a busy writer costs one run, not one entry a delta.

The recent runs are *inline*, in the manifest (:class:`FoldedSet`); when they are over a limit, all of them go to an immutable part
(:mod:`chromalith.model.folded_part`). So what a fold copies and what a manifest costs is bounded, however many writers there are.

A run remembers the version that folded it for as long as the sweep needs that (the grace of folded deltas), then forgets it
(``version`` 0) and joins its neighbours; of two days the later one stays, because expiring later is safe. It expires when it is 30
days old *and* a listing did not show any of its objects: a delta whose object is still there must never look new.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from chromalith.errors import Bug
from chromalith.model.ids import DeltaId

DAY_US = 86_400_000_000
KEPT_DAYS = 30

INLINE_BYTES_MAX = 256 * 2**10
"""Of JSON. A run of a writer of its own is about 62 bytes, so these are 4,200 of them; each fold writes them, each reader of a new
version reads and parses them (8 ms)."""


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
    """The version that folded them; 0 once that is longer ago than any sweep asks. Of a part: the latest fold in the whole part."""
    day: int
    """Days since 1970 (the store's date) of the fold; of the latest, where several folds were joined."""


class FoldedLookup(Protocol):
    """Whatever can tell which deltas were taken in: the inline runs, or these and the older parts."""

    def find_all(self, deltas: Sequence[DeltaId]) -> Sequence[Run | None]:
        """For each delta the run that holds its (writer, counter), or ``None`` if it was never folded."""
        ...


@dataclass(frozen=True, slots=True)
class FoldedSet:
    """Runs by writer, ascending and disjoint. Immutable: each change makes a new one, which shares what did not change."""

    runs: dict[str, tuple[Run, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of runs."""
        return sum(map(len, self.runs.values()))

    def find(self, delta: DeltaId) -> Run | None:
        """The run that holds a delta's (writer, counter), or ``None`` if it is not here."""
        runs = self.runs.get(delta.writer, ())
        at = bisect.bisect_right(runs, delta.counter, key=lambda run: run.start) - 1
        return runs[at] if at >= 0 and delta.counter < runs[at].stop else None

    def find_all(self, deltas: Sequence[DeltaId]) -> Sequence[Run | None]:
        return [self.find(delta) for delta in deltas]

    def __contains__(self, delta: DeltaId) -> bool:
        return self.find(delta) is not None

    def add(self, deltas: Iterable[tuple[DeltaId, State]], *, version: int, date_us: int) -> FoldedSet:
        """The set with more deltas, folded by ``version`` at the store's date. Raises ``Bug`` if one is in it already."""
        day = date_us // DAY_US
        new: dict[str, list[Run]] = {}
        for delta, state in deltas:
            new.setdefault(delta.writer, []).append(Run(delta.counter, delta.counter + 1, state, version, day))
        runs = dict(self.runs)
        for writer, added in new.items():
            runs[writer] = _joined(sorted((*runs.get(writer, ()), *added), key=lambda run: run.start))
        return FoldedSet(runs)

    def settle(self, version: int) -> FoldedSet:
        """Forget versions up to ``version``, and join the runs that this makes alike."""
        changed = {
            writer: _joined(replace(run, version=0) if run.version <= version else run for run in runs)
            for writer, runs in self.runs.items()
            if any(0 < run.version <= version for run in runs)
        }
        return FoldedSet(self.runs | changed) if changed else self

    def expire(self, *, date_us: int, listed: Iterable[DeltaId]) -> FoldedSet:
        """Without the runs that are over 30 days old and of which ``listed`` (a LIST begun after the date) shows no object."""
        oldest = oldest_day(date_us)
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

    @property
    def json_bytes(self) -> int:
        """How long it is as JSON without spaces, without writing it."""
        each = [f"{r.start}{r.stop}{r.version}{r.day}" for runs in self.runs.values() for r in runs]
        # A run is [,,"s",,] and a comma; a writer is "":[] and a comma; no comma is behind the last of them; and {} around all.
        by_writer = sum(len(writer) + 6 - 1 for writer in self.runs)
        return sum(map(len, each)) + 10 * len(each) + by_writer - (1 if self.runs else 0) + 2

    def to_json(self) -> dict[str, list[list[Any]]]:
        """``{writer: [[start, stop, state, version, day], …]}``."""
        return {w: [[r.start, r.stop, str(r.state), r.version, r.day] for r in runs] for w, runs in sorted(self.runs.items())}

    @classmethod
    def from_json(cls, value: dict[str, list[list[Any]]]) -> FoldedSet:
        return cls({w: tuple(Run(a, b, State(s), v, d) for a, b, s, v, d in runs) for w, runs in value.items()})


def oldest_day(date_us: int) -> int:
    """The first day whose folds are remembered at the store's date, whatever a listing shows."""
    return date_us // DAY_US - KEPT_DAYS


def _joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Ascending runs, those that touch and are alike joined. Raises ``Bug`` if two overlap."""
    result: list[Run] = []
    for run in runs:
        last = result[-1] if result else None
        if last is not None and run.start < last.stop:
            raise Bug(f"I3 broken: a delta is folded again counter={run.start} version={run.version}", hint="please report this")
        # Of one version the day is the same; of versions that were forgotten the later day stays.
        if last is not None and last.stop == run.start and (last.state, last.version) == (run.state, run.version):
            result[-1] = Run(last.start, run.stop, run.state, run.version, max(last.day, run.day))
        else:
            result.append(run)
    return tuple(result)
