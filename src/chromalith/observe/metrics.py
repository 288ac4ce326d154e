"""The metrics: one table, from which the exporters, ``docs/metrics.md``, the alarms and the dashboard take their names.

A metric is a name, and how its value is read off an event, if the event has one. Names, namespaces and units are CloudWatch's;
OpenTelemetry gets the same ones in its own spelling. There is one dimension, the service: each further one would multiply the bill
by its number of values. Which collection it was stands beside the numbers in the log.

A value that is not known is left out; 0 is said where 0 is known. So a sum of failures that is missing means that nothing ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chromalith.observe.events import (
    Compacted,
    CompactionFailed,
    DeltaWritten,
    Event,
    HintsFailed,
    Looked,
    Queried,
    Run,
)

PRODUCER, COMPACTION, QUERY = "ChromaDB/Producer", "ChromaDB/Compaction", "ChromaDB/Query"
DIMENSION = "service"
"""The only one; powertools' own name for it."""
SERVICE_DEFAULT = "chromalith"
"""The value of the dimension in a process that names none; deployed functions are named for their stack."""

PROPERTY_CHARS_MAX = 256  # 99 different ones of each in a line: 75 KB of the 256 KB that a log takes


class Unit(StrEnum):
    """CloudWatch's names of those units that occur."""

    COUNT = "Count"
    BYTES = "Bytes"
    SECONDS = "Seconds"
    MILLISECONDS = "Milliseconds"


class Statistic(StrEnum):
    """What of the values of a period says something, in CloudWatch's words; other statistics of the metric mostly do not."""

    SUM = "Sum"
    MAXIMUM = "Maximum"
    P99 = "p99"


class Shape(StrEnum):
    """How values of one metric go together."""

    COUNTER = "counter"
    """They add up."""
    GAUGE = "gauge"
    """Each replaces the one before it, of the same collection."""
    DISTRIBUTION = "histogram"
    """Each stands for itself."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        namespace, name, unit: in CloudWatch.
        shape: how values go together.
        statistic: which one to look at, and to alarm on.
        meaning: for people, a sentence.
        source: the events and the fields that it comes from, for people.
        read: its value in an event; ``None``: the event says nothing of it.
    """

    namespace: str
    name: str
    unit: Unit
    shape: Shape
    statistic: Statistic
    meaning: str
    source: str
    read: Callable[[Event], float | None]

    @property
    def dotted(self) -> str:
        """The name in OpenTelemetry: ``chromadb.compaction.backlog_deltas``."""
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        return f"{self.namespace.lower().replace('/', '.')}.{snake}"


def _of(kind: type[Event], read: Callable[..., float | None]) -> Callable[[Event], float | None]:
    return lambda event: read(event) if isinstance(event, kind) else None


def _of_run(read: Callable[[Run], float | None], idle: float | None = None) -> Callable[[Event], float | None]:
    """A field of a run; ``idle``: what a look says that found no delta in the whole store."""

    def value(event: Event) -> float | None:
        if isinstance(event, Looked):
            return None if event.collections else idle
        return read(event) if isinstance(event, Run) else None

    return value


def _working_s(run: Run) -> float | None:
    return run.seconds if run.published or isinstance(run, CompactionFailed) else None


_COUNTER, _GAUGE, _SPREAD = Shape.COUNTER, Shape.GAUGE, Shape.DISTRIBUTION
_SUM, _MAX, _P99 = Statistic.SUM, Statistic.MAXIMUM, Statistic.P99

METRICS: tuple[Metric, ...] = (
    Metric(
        PRODUCER, "DeltasCreated", Unit.COUNT, _COUNTER, _SUM,
        "calls that were acknowledged: each is one delta",
        "DeltaWritten", _of(DeltaWritten, lambda event: 1),
    ),
    Metric(
        PRODUCER, "DeltaBytes", Unit.BYTES, _SPREAD, _SUM,
        "size of a delta",
        "DeltaWritten.bytes", _of(DeltaWritten, lambda event: event.bytes),
    ),
    Metric(
        PRODUCER, "DeltaRows", Unit.COUNT, _SPREAD, _SUM,
        "operations in a delta",
        "DeltaWritten.rows", _of(DeltaWritten, lambda event: event.rows),
    ),
    Metric(
        PRODUCER, "HintFailures", Unit.COUNT, _COUNTER, _SUM,
        "deltas that no message announced; nothing is lost: the next scheduled compaction finds them",
        "HintsFailed.count", _of(HintsFailed, lambda event: event.count),
    ),
    Metric(
        COMPACTION, "CompactionSuccess", Unit.COUNT, _COUNTER, _SUM,
        "runs of a collection that ended as they should, idle ones too; 0: it failed, or left all to the lease's holder or for later",
        "Compacted.left, CompactionFailed", _of_run(lambda run: float(isinstance(run, Compacted) and not run.left)),
    ),
    Metric(
        COMPACTION, "CompactionFailure", Unit.COUNT, _COUNTER, _SUM,
        "runs of a collection that raised: nothing could be published, or it can't be told, or something is corrupt; the log has the kind",
        "Compacted, CompactionFailed", _of_run(lambda run: float(isinstance(run, CompactionFailed))),
    ),
    Metric(
        COMPACTION, "CompactionDuration", Unit.SECONDS, _SPREAD, _P99,
        "how long a run took that published something or failed; idle ones would hide it",
        "Compacted.seconds, CompactionFailed.seconds", _of_run(_working_s),
    ),
    Metric(
        COMPACTION, "DeltasFolded", Unit.COUNT, _COUNTER, _SUM,
        "deltas that published versions took in; each delta counts once, whoever folded it",
        "Compacted.deltas, CompactionFailed.deltas", _of_run(lambda run: run.deltas),
    ),
    Metric(
        COMPACTION, "LostRaces", Unit.COUNT, _COUNTER, _SUM,
        "how often somebody else's publish came first; work done twice, nothing lost: many mean that leases are not seen or not kept",
        "Compacted.lost_races, CompactionFailed.lost_races", _of_run(lambda run: run.lost_races),
    ),
    Metric(
        COMPACTION, "BacklogDeltas", Unit.COUNT, _GAUGE, _MAX,
        "deltas of a collection that wait to be folded when the run ended; of the whole store 0, if a look finds no delta at all",
        "Compacted.backlog, CompactionFailed.backlog, Looked.collections", _of_run(lambda run: run.backlog, idle=0),
    ),
    Metric(
        COMPACTION, "OldestDeltaAge", Unit.SECONDS, _GAUGE, _MAX,
        "age of the oldest of these; 0 if none waits",
        "Compacted.oldest_delta_s, CompactionFailed.oldest_delta_s, Looked.collections",
        _of_run(lambda run: run.oldest_delta_s, idle=0),
    ),
    Metric(
        COMPACTION, "Quarantined", Unit.COUNT, _GAUGE, _MAX,
        "deltas of a collection that are set aside as corrupt, until a person replays or drops them",
        "Compacted.quarantined, CompactionFailed.quarantined", _of_run(lambda run: run.quarantined),
    ),
    Metric(
        COMPACTION, "BytesWritten", Unit.BYTES, _COUNTER, _SUM,
        "segments, indexes and deletes of published versions; divided by DeltaBytes: the write amplification",
        "Compacted.bytes_written, CompactionFailed.bytes_written", _of_run(lambda run: run.bytes_written),
    ),
    Metric(
        COMPACTION, "LiveRecords", Unit.COUNT, _GAUGE, _MAX,
        "records of a collection's current version; the maximum is the largest collection that was run",
        "Compacted.live, CompactionFailed.live", _of_run(lambda run: run.live),
    ),
    Metric(
        QUERY, "QueryLatency", Unit.MILLISECONDS, _SPREAD, _P99,
        "from the call to the answer of a query or get",
        "Queried.seconds", _of(Queried, lambda event: 1_000 * event.seconds),
    ),
    Metric(
        QUERY, "HydrationTime", Unit.MILLISECONDS, _SPREAD, _P99,
        "of these, fetching objects into the local cache; 0 when it was warm",
        "Queried.hydration_s", _of(Queried, lambda event: 1_000 * event.hydration_s),
    ),
    Metric(
        QUERY, "OverlayRows", Unit.COUNT, _SPREAD, _MAX,
        "records of the answer's state that came from deltas not folded yet: what compaction would take off each reader",
        "Queried.overlay_rows", _of(Queried, lambda event: event.overlay_rows),
    ),
    Metric(
        QUERY, "SnapshotAge", Unit.SECONDS, _SPREAD, _MAX,
        "how long ago the version under the answer was published; it grows while nobody writes, so look at OldestDeltaAge with it",
        "Queried.snapshot_age_s", _of(Queried, lambda event: event.snapshot_age_s),
    ),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}
"""For whoever needs one of them: names are unique over the namespaces."""


def values(event: Event) -> Iterator[tuple[Metric, float]]:
    """What an event says, metric by metric."""
    for metric in METRICS:
        value = metric.read(event)
        if value is not None:
            yield metric, float(value)


def properties(event: Event) -> dict[str, str]:
    """What stands beside the numbers in a log, and is no dimension: which collection, and why something failed."""
    found: dict[str, str] = {}
    for name in ("collection", "kind", "reason"):
        value = getattr(event, name, None)
        if value is not None:
            found[name] = str(value)[:PROPERTY_CHARS_MAX]
    return found
