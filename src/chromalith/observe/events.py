"""What happened, as values: emitted by the writer, the compactor and the reader, and turned into metrics, spans or hints by observers.

An event says what is known at no cost where it is emitted. No request is ever made for the sake of an event.
"""

from __future__ import annotations

from dataclasses import dataclass

from chromalith.errors import Kind
from chromalith.model.ids import CollectionId, DeltaId


@dataclass(frozen=True, slots=True)
class DeltaWritten:
    """A call was acknowledged: its delta is durable.

    Attributes:
        collection, delta: which.
        rows: operations in it.
        bytes: its size.
    """

    collection: CollectionId
    delta: DeltaId
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HintsFailed:
    """Hints that were not sent; their deltas are durable, and the next scheduled compaction finds them.

    Attributes:
        count: how many.
        reason: why, for people.
    """

    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Compacted:
    """A run of one collection ended as it should, also if there was nothing to do.

    Attributes:
        collection: which.
        seconds: how long it took.
        deltas: folded by it.
        lost_races: jobs of it that somebody else's publish overtook.
        backlog: deltas that were listed and are not folded yet.
        oldest_delta_s: age of the oldest of these by the store's clock; 0 if there is none.
        quarantined: deltas that it found corrupt.
        bytes_written: segments, indexes and deletes.
        live: records of the version that is current afterwards.
    """

    collection: CollectionId
    seconds: float
    deltas: int
    lost_races: int
    backlog: int
    oldest_delta_s: float
    quarantined: int
    bytes_written: int
    live: int


@dataclass(frozen=True, slots=True)
class CompactionFailed:
    """A run of one collection raised.

    Attributes:
        collection: which.
        seconds: how long it took.
        kind: what to do about it.
    """

    collection: CollectionId
    seconds: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Queried:
    """A query was answered.

    Attributes:
        collection: which.
        seconds: from the call to the answer.
        hydration_s: of these, fetching objects into the local cache; 0 when it was warm.
        overlay_rows: records of the answer's state that came from deltas not folded yet.
        snapshot_age_s: how long ago, by this machine's clock, the version that was read was published.
    """

    collection: CollectionId
    seconds: float
    hydration_s: float
    overlay_rows: int
    snapshot_age_s: float


Event = DeltaWritten | HintsFailed | Compacted | CompactionFailed | Queried
