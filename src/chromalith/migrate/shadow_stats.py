"""What one process knows of its reads: how many were compared and with which result, and how long each side took.

One value, carried by the process's presence object (:mod:`chromalith.migrate.presence`) every few seconds, and summed
over processes by whoever decides or reports: counts are integers and latencies are histograms, so the sum is exact in
any order.

``since`` is the epoch of the migration's state at which counting began anew (``chromalith migrate shadow --clear``).
Values of an older one don't count any more: adding a newer and an older gives the newer.

A sum hides what has begun to go wrong behind all that went well before. So the last :data:`MINUTES_MAX` minutes are
counted by themselves, too, and the worst stretch of them that reaches to the end is what is judged beside the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from typing import Any

from chromalith.errors import Corrupt
from chromalith.migrate.latencies import Histogram
from chromalith.migrate.port import Role

MINUTES_MAX = 60
"""Minutes in which reads were judged; the newest are kept."""
SURGE_MIN = 5
"""Fewer reads that differ than this make no stretch of time suspicious: of 100 reads, of which one in 200 ranks near ties differently,
five differ in 2 of 10,000 stretches, and two in every eleventh."""
JUDGED = ("matches", "lag", "mismatches", "unchecked", "errors", "timeouts")
DISAGREED = ("mismatches", "unchecked", "errors", "timeouts")

Latencies = Mapping[tuple[str, Role], Histogram]
"""By verb and side."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of shadow reads.

    Attributes:
        matches: the two answers agreed.
        lag: they did not at first, and did (or were changing, or only tied) a second later.
        mismatches: they still did not.
        unchecked: they did not, and were not asked again, because too many others were waiting for that.
        errors: the other side raised.
        timeouts: it took longer than the limit, or has not answered yet after it.
        dropped: without a verdict: the queue was full, or was not worked off in time or before the end, or the side that had answered
            did not answer again.
        too_large: never asked: the answer was too large to be kept for so long.
        stored: mismatches that were stored for a person to look at; ``not_stored``: there were enough already, or the store failed.
    """

    matches: int = 0
    lag: int = 0
    mismatches: int = 0
    unchecked: int = 0
    errors: int = 0
    timeouts: int = 0
    dropped: int = 0
    too_large: int = 0
    stored: int = 0
    not_stored: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def compared(self) -> int:
        """Reads that both sides answered."""
        return self.judged - self.errors - self.timeouts

    @property
    def judged(self) -> int:
        """Reads that the other side was asked: it answered, raised, or was too slow."""
        return sum(getattr(self, name) for name in JUDGED)

    @property
    def disagreed(self) -> int:
        """Of these, those whose caller would not have got the same answer. ``unchecked`` ones count: where that many differ that they
        can't be looked at again, it is not lag."""
        return sum(getattr(self, name) for name in DISAGREED)

    @property
    def agreement(self) -> float | None:
        """The part of ``judged`` that agreed, 0 to 1; ``None``: nothing was judged."""
        return 1 - self.disagreed / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Reads that were judged, and those of them that disagreed (:class:`Counts`)."""

    judged: int = 0
    disagreed: int = 0

    def __add__(self, other: Verdicts) -> Verdicts:
        return Verdicts(self.judged + other.judged, self.disagreed + other.disagreed)

    @property
    def rate(self) -> float:
        """The part that disagreed, 0 to 1."""
        return self.disagreed / self.judged if self.judged else 0.0


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """See the module's docstring.

    Attributes:
        counts: by verb and collection.
        failures: what the other side raised, by the name of the error's class.
        reads: how long the callers' own reads took, shadowed or not.
        pairs: how long both sides took for the same reads. Only these compare like with like.
        minutes: how many reads were judged, and of these disagreed, by the minute since 1970 of the clock of each process.
    """

    since: int = 0
    counts: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    reads: Latencies = field(default_factory=dict)
    pairs: Latencies = field(default_factory=dict)
    minutes: Mapping[int, Verdicts] = field(default_factory=dict)

    @property
    def lately(self) -> Verdicts:
        """Of all stretches of time that reach to the newest minute, the one of which the largest part disagreed; none, if
        :data:`SURGE_MIN` reads disagreed in no stretch."""
        worst, found = Verdicts(), Verdicts()
        for minute in sorted(self.minutes, reverse=True):
            found += self.minutes[minute]
            if found.disagreed >= SURGE_MIN and found.rate >= worst.rate:
                worst = found
        return worst

    @property
    def total(self) -> Counts:
        """Over all verbs and collections."""
        return sum(self.counts.values(), Counts())

    def latency(self, role: Role, verb: str | None = None) -> Histogram:
        """How long one side took: of the reads that both were asked, if there are any, else of all that it answered."""
        for which in (self.pairs, self.reads):
            chosen = [each for (name, side), each in which.items() if side is role and verb in (None, name)]
            found = sum(chosen, Histogram())
            if found.total:
                return found
        return Histogram()

    def __add__(self, other: ShadowStats) -> ShadowStats:
        if self.since != other.since:
            return max(self, other, key=lambda each: each.since)
        return ShadowStats(
            self.since,
            _merged(self.counts, other.counts),
            _merged(self.failures, other.failures),
            _merged(self.reads, other.reads),
            _merged(self.pairs, other.pairs),
            newest(_merged(self.minutes, other.minutes)),
        )

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "since": self.since,
            "counts": [
                {"verb": verb, "collection": collection, **{name: n for name, n in asdict(counts).items() if n}}
                for (verb, collection), counts in sorted(self.counts.items())
            ],
            "failures": dict(sorted(self.failures.items())),
            "reads": _encoded(self.reads),
            "pairs": _encoded(self.pairs),
            "minutes": {str(minute): list(astuple(found)) for minute, found in sorted(self.minutes.items())},
        }

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> ShadowStats:
        """The inverse of :meth:`encode`. Raises ``Corrupt``."""
        names = {each.name for each in fields(Counts)}
        try:
            return cls(
                int(value["since"]),
                {
                    (str(row["verb"]), str(row["collection"])): Counts(
                        **{name: int(row[name]) for name in names if name in row}
                    )
                    for row in value["counts"]
                },
                {str(name): int(count) for name, count in value["failures"].items()},
                _decoded(value["reads"]),
                _decoded(value["pairs"]),
                {  # a client of an earlier release says none
                    int(minute): Verdicts(int(judged), int(disagreed))
                    for minute, (judged, disagreed) in value.get("minutes", {}).items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt("not the statistics of shadow reads", hint="it was written by something else") from error


def summed(all_stats: Iterable[ShadowStats]) -> ShadowStats:
    """Those of all clients together; of those that count anew since different moments, the newest."""
    return sum(all_stats, ShadowStats())


def newest(minutes: Mapping[int, Verdicts]) -> dict[int, Verdicts]:
    """The :data:`MINUTES_MAX` last ones. Also of a sum: what a process saw that ended long ago must not stand beside those for ever."""
    return {minute: minutes[minute] for minute in sorted(minutes)[-MINUTES_MAX:]}


def _merged(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[Any, Any]:
    merged = dict(one)
    for key, value in other.items():
        merged[key] = merged[key] + value if key in merged else value
    return merged


def _encoded(latencies: Latencies) -> list[dict[str, Any]]:
    return [
        {"verb": verb, "role": role.value, "latency": histogram.encode()}
        for (verb, role), histogram in sorted(latencies.items())
    ]


def _decoded(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, Role], Histogram]:
    return {(str(row["verb"]), Role(row["role"])): Histogram.decode(row["latency"]) for row in rows}
