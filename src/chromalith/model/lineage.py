"""Which folds a version's records come from: its own and its parents', but for what a restore undid. Pure.

The folded set says what a collection has ever taken in; after a restore that is more than its records show. Where versions 1 to
5 were folded and version 6 restores version 2, the records of version 7 come from the folds of 1, 2 and 7. So a lineage is a
few ranges of versions, and what a restore undoes is the difference of two lineages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chromalith.model.folded import Run, State
from chromalith.model.ids import DeltaId

Restores = Sequence[tuple[int, int]]
"""(version, the version that it restored), ascending."""


def lineage(version: int, restores: Restores) -> list[range]:
    """The versions whose folds are in the records of ``version``, latest first."""
    ranges: list[range] = []
    stop = version + 1
    while True:
        latest = max((each for each in restores if each[0] < stop), default=None)
        if latest is None:
            return [*ranges, range(stop)]
        ranges.append(range(latest[0] + 1, stop))  # a restore itself folds nothing
        stop = min(latest[1], latest[0] - 1) + 1


def undone(current: int, target: int, restores: Restores) -> list[range]:
    """The versions whose folds are in the records of ``current``, and not in those of ``target``, latest first."""
    left = lineage(current, restores)
    for kept in lineage(target, restores):
        left = [part for each in left for part in _without(each, kept)]
    return [each for each in left if each]


def _without(versions: range, kept: range) -> list[range]:
    return [range(versions.start, min(versions.stop, kept.start)), range(max(versions.start, kept.stop), versions.stop)]


@dataclass(frozen=True, slots=True)
class Calls:
    """Consecutive calls of one writer: counters ``[start, stop)``."""

    writer: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, delta: DeltaId) -> bool:
        return delta.writer == self.writer and self.start <= delta.counter < self.stop

    def without(self, counters: Iterable[int]) -> list[Calls]:
        """The calls but for these counters."""
        left, start = [], self.start
        for counter in sorted(set(counters)):
            if start <= counter < self.stop:
                left.append(Calls(self.writer, start, counter))
                start = counter + 1
        return [calls for calls in (*left, Calls(self.writer, start, self.stop)) if len(calls)]


def folded_since(later: Iterable[tuple[str, Run]], earlier: Iterable[tuple[str, Run]]) -> list[Calls]:
    """The calls that the runs of ``later`` hold as folded, and those of ``earlier`` do not hold, by writer."""
    known: dict[str, list[Run]] = {}
    for writer, run in earlier:
        known.setdefault(writer, []).append(run)
    result: list[Calls] = []
    for writer, run in later:
        if run.state is not State.FOLDED:
            continue
        start = run.start
        for old in sorted(known.get(writer, ()), key=lambda old: old.start):
            if old.stop <= start or old.start >= run.stop:
                continue
            if start < old.start:
                result.append(Calls(writer, start, old.start))
            start = old.stop
        if start < run.stop:
            result.append(Calls(writer, start, run.stop))
    return result
