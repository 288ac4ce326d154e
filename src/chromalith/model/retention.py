"""Which versions a sweep keeps, and which jobs it lets go on: from numbers and dates to horizon and boundary. Pure.

The *horizon* is the lowest version that is kept. A version is kept if it is

- among the newest ``keep_versions``. Versions that a sweep published are not counted: they hold the records of their parent. Without
  this, each sweep would push one more version over the edge, and so find work for the next sweep, for ever;
- or was current within the last ``keep_age_s``: so each state of that time can be opened, also the one that it began with.

The *boundary* is the lowest version that a job may be based on which is still at work: the one that was current ``job_grace_s`` ago. A job
that is older is discarded when it publishes, so that what it wrote can be told from what a live job is still going to name.

All dates are the store's. Both numbers only rise (I8), and both may be too low: that keeps more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chromalith.errors import Invalid

KEEP_VERSIONS = 10
KEEP_AGE_S = 86_400.0
JOB_GRACE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """The numbers of a sweep.

    Attributes:
        keep_versions: how many of the newest versions are kept; at least the current one.
        keep_age_s: for how long the states of the past are kept, seconds.
        job_grace_s: how long a fold or merge may take, seconds; 0: whatever is at work has to start again.
    """

    keep_versions: int = KEEP_VERSIONS
    keep_age_s: float = KEEP_AGE_S
    job_grace_s: float = JOB_GRACE_S

    def __post_init__(self) -> None:
        if self.keep_versions < 1:
            raise Invalid(f"at least one version must be kept keep_versions={self.keep_versions}", hint="the current one can't be swept")
        if not (self.keep_age_s >= 0 and self.job_grace_s >= 0):
            raise Invalid(
                f"ages are not negative keep_age_s={self.keep_age_s} job_grace_s={self.job_grace_s}", hint="0 is the shortest age"
            )


def current_at(published_us: Mapping[int, int], at_us: int) -> int:
    """The version that was current at a date: the latest published by then; the lowest that is known, if that was before it."""
    return max((version for version, us in published_us.items() if us <= at_us), default=min(published_us))


def horizon_by_age(published_us: Mapping[int, int], date_us: int, keep_age_s: float) -> int:
    """The lowest version that ``keep_age_s`` keeps.

    Args:
        published_us: when each version was published, microseconds since 1970-01-01 UTC by the store's clock.
        date_us: the store's date.
        keep_age_s: seconds.
    """
    return current_at(published_us, date_us - round(keep_age_s * 1_000_000))


def horizon_by_count(newest_first: Iterable[tuple[int, str]], keep_versions: int) -> int | None:
    """The lowest version that ``keep_versions`` keeps, of versions with their kinds; ``None`` if these are too few to tell."""
    counted = 0
    for version, kind in newest_first:
        counted += kind != "sweep"
        if counted == keep_versions:
            return version
    return None


def boundary_of(published_us: Mapping[int, int], date_us: int, job_grace_s: float, own: int) -> int:
    """The boundary that a sweep sets which is to be published as version ``own``; never above that. 0: none that is known is old enough.

    (The lowest that is known is no answer: it may be the horizon of a sweep a moment ago, and jobs that are older may still be at work.)
    """
    if job_grace_s == 0:
        return own
    at_us = date_us - round(job_grace_s * 1_000_000)
    return min(own, current_at(published_us, at_us)) if min(published_us.values()) <= at_us else 0
