"""How long calls took, as counts in fixed buckets: small, and exactly mergeable over processes.

Bucket ``i`` holds what took from ``2**(i/4)`` to ``2**((i+1)/4)`` times 100 µs, so a percentile is right to within 10 %
from 0.1 ms to some minutes. All processes use the same buckets: adding two histograms is adding their counts, and
nothing is lost by it. A mean of percentiles, which is the other way to sum up clients, means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from chromalith.errors import Corrupt

SMALLEST_S = 0.0001
PER_DOUBLING = 4
BUCKETS = 88
"""The last one begins at 100 µs x 2**(87/4), which is about six minutes; what takes longer is counted there."""
_LONGEST_S = 1e6


def bucket(seconds: float) -> int:
    """Where a duration is counted. What is no duration (negative, not a number) is the shortest."""
    if not seconds > SMALLEST_S:
        return 0
    doublings = math.log2(min(seconds, _LONGEST_S) / SMALLEST_S)
    return min(BUCKETS - 1, int(PER_DOUBLING * doublings))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket; buckets without any are left out."""

    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many durations."""
        return sum(self.counts.values())

    def __add__(self, other: Histogram) -> Histogram:
        merged = dict(self.counts)
        for index, count in other.counts.items():
            merged[index] = merged.get(index, 0) + count
        return Histogram(merged)

    def percentile_s(self, percent: float) -> float | None:
        """What ``percent`` (0 to 100) of the calls did not exceed: the middle of its bucket, in seconds; ``None``: no calls."""
        wanted = max(1, math.ceil(self.total * percent / 100))
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted:
                return float(SMALLEST_S * 2 ** ((index + 0.5) / PER_DOUBLING))
        return None

    def encode(self) -> dict[str, int]:
        """As JSON."""
        return {str(index): self.counts[index] for index in sorted(self.counts)}

    @classmethod
    def decode(cls, value: Mapping[str, int]) -> Histogram:
        """The inverse of :meth:`encode`. Raises ``Corrupt``."""
        try:
            counts = {int(index): int(count) for index, count in value.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise Corrupt("not a histogram of latencies", hint="the object was written by something else") from error
        if any(not 0 <= index < BUCKETS or count < 0 for index, count in counts.items()):
            raise Corrupt("a histogram with other buckets", hint="use the newest chromalith")
        return cls(counts)
