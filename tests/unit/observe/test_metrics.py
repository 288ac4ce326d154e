"""The table of metrics: its names are the ones that were promised, and each value is read off the event that has it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chromalith.errors import Kind
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.observe.events import Compacted, CompactionFailed, DeltaWritten, Event, HintsFailed, Looked, Queried
from chromalith.observe.metrics import BY_NAME, METRICS, Shape, Statistic, properties, values

PROMISED = {
    "ChromaDB/Producer": {"DeltasCreated", "DeltaBytes", "DeltaRows", "HintFailures"},
    "ChromaDB/Compaction": {
        "CompactionSuccess", "CompactionFailure", "CompactionDuration", "DeltasFolded", "LostRaces", "BacklogDeltas", "OldestDeltaAge",
        "Quarantined", "BytesWritten", "LiveRecords",
    },
    "ChromaDB/Query": {"QueryLatency", "HydrationTime", "OverlayRows", "SnapshotAge"},
}  # fmt: skip

CID = CollectionId("e3e70682-c209-4cac-a29f-6fbed82c07cd")
WRITTEN = DeltaWritten(CID, DeltaId(1, "0" * 32, 0, "0" * 16), rows=3, bytes=700)
RUN = {
    "collection": CID,
    "seconds": 2.5,
    "published": 1,
    "deltas": 4,
    "lost_races": 1,
    "backlog": 5,
    "oldest_delta_s": 6.5,
    "quarantined": 7,
    "bytes_written": 800,
    "live": 9,
}
SAID = {
    "DeltasFolded": 4, "LostRaces": 1, "BacklogDeltas": 5, "OldestDeltaAge": 6.5, "Quarantined": 7, "BytesWritten": 800, "LiveRecords": 9,
}  # fmt: skip
EVENTS: list[tuple[Event, Mapping[str, float]]] = [
    (WRITTEN, {"DeltasCreated": 1, "DeltaBytes": 700, "DeltaRows": 3}),
    (HintsFailed(2, "away"), {"HintFailures": 2}),
    (Looked(0), {"BacklogDeltas": 0, "OldestDeltaAge": 0}),
    (Looked(3), {}),
    (Compacted(**RUN, left=False), {"CompactionSuccess": 1, "CompactionFailure": 0, "CompactionDuration": 2.5} | SAID),
    (
        Compacted(**RUN | {"published": 0, "deltas": 0}, left=False),  # idle: its seconds would hide what takes long
        {"CompactionSuccess": 1, "CompactionFailure": 0} | SAID | {"DeltasFolded": 0},
    ),
    (
        Compacted(**RUN | {"published": 0, "deltas": 0}, left=True),
        {"CompactionSuccess": 0, "CompactionFailure": 0} | SAID | {"DeltasFolded": 0},
    ),
    (
        CompactionFailed(**RUN | {"published": 0}, kind=Kind.CORRUPT),
        {"CompactionSuccess": 0, "CompactionFailure": 1, "CompactionDuration": 2.5} | SAID,
    ),
    (
        CompactionFailed(**RUN | dict.fromkeys(("backlog", "oldest_delta_s", "quarantined", "live")), kind=Kind.UNAVAILABLE),
        {"CompactionSuccess": 0, "CompactionFailure": 1, "CompactionDuration": 2.5, "DeltasFolded": 4, "LostRaces": 1, "BytesWritten": 800},
    ),
    (
        Queried(CID, seconds=0.25, hydration_s=0.125, overlay_rows=10, snapshot_age_s=60),
        {"QueryLatency": 250, "HydrationTime": 125, "OverlayRows": 10, "SnapshotAge": 60},
    ),
]  # type: ignore[arg-type]


def test_the_names_are_those_that_were_promised() -> None:
    """In their namespaces, each once."""
    assert {space: {m.name for m in METRICS if m.namespace == space} for space in {m.namespace for m in METRICS}} == PROMISED
    assert len(BY_NAME) == len(METRICS)
    assert len({metric.dotted for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize(("event", "said"), EVENTS, ids=[type(event).__name__ for event, _ in EVENTS])
def test_what_an_event_says(event: Event, said: Mapping[str, float]) -> None:
    """Each metric that it has, with its value in the metric's unit; what is not known is left out."""
    assert {metric.name: value for metric, value in values(event)} == said


def test_every_metric_comes_from_an_event() -> None:
    """There is no row that no event fills."""
    assert {name for _, said in EVENTS for name in said} == set(BY_NAME)


def test_the_sources_exist() -> None:
    """The table names events and fields that there are."""
    kinds = {kind.__name__: kind for kind in (DeltaWritten, HintsFailed, Looked, Compacted, CompactionFailed, Queried)}
    for metric in METRICS:
        for source in metric.source.split(", "):
            kind, _, name = source.partition(".")
            assert not name or name in kinds[kind].__dataclass_fields__, source
            assert kind in kinds, source


def test_a_gauge_is_not_summed() -> None:
    """Two readings of one backlog are not twice the backlog; and a counter is summed."""
    for metric in METRICS:
        assert metric.shape is not Shape.GAUGE or metric.statistic is Statistic.MAXIMUM
        assert metric.shape is not Shape.COUNTER or metric.statistic is Statistic.SUM


def test_names_in_opentelemetry() -> None:
    """Dots, and small letters with underscores."""
    assert BY_NAME["OldestDeltaAge"].dotted == "chromadb.compaction.oldest_delta_age"


def test_properties_say_which_collection_and_why() -> None:
    """They are cut where somebody puts a whole traceback into a reason."""
    assert properties(CompactionFailed(**RUN, kind=Kind.CORRUPT)) == {"collection": CID, "kind": "corrupt"}  # type: ignore[arg-type]
    assert properties(HintsFailed(1, "x" * 10_000)) == {"reason": "x" * 256}
    assert properties(Looked(0)) == {}
