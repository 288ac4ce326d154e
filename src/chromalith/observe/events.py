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
class Looked:
    """A look over the whole store for deltas, folded or not: the one request that a tick of the schedule costs.

    If there are none, nothing waits anywhere, and this says so: no run follows that could. If there are some, each of their collections
    is told of by a run of its own.

    Attributes:
        collections: how many have deltas.
    """

    collections: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one collection, as far as it came. ``None`` stands for what it did not come to know: it is never guessed.

    Attributes:
        collection: which.
        seconds: how long it took, waiting for a lease included.
        published: versions that it published.
        deltas: folded by these.
        lost_races: how often somebody else's publish came first, so that a job was put onto it, started again or given up.
        backlog: deltas that wait to be folded. Where a run did not come to look at the whole folded set (somebody else has the lease; the
            manifest can't be read), those that are not known to be folded: rather too many than too few.
        oldest_delta_s: age of the oldest of these by this machine's clock; 0 if there are none.
        quarantined: deltas that the current version has set aside as corrupt: until a person replays or drops them.
        bytes_written: segments, indexes and deletes.
        live: records of the current version.
    """

    collection: CollectionId
    seconds: float
    published: int
    deltas: int
    lost_races: int
    backlog: int | None
    oldest_delta_s: float | None
    quarantined: int | None
    bytes_written: int
    live: int | None


@dataclass(frozen=True, slots=True)
class Compacted(Run):
    """A run of one collection ended as it should, also if there was nothing to do.

    Attributes:
        left: whether something was to be done and all of it was left: to somebody else, who has the lease (they are counted, not this), or
            to a later run, because it would not have ended in time.
    """

    left: bool


@dataclass(frozen=True, slots=True)
class CompactionFailed(Run):
    """A run of one collection raised. What it published before counts all the same.

    Of a collection that was deleted nothing is said: what is left of its deltas is garbage, and the sweep's.

    Attributes:
        kind: what to do about it; ``bug`` for an error that is not Chromalith's own.
    """

    kind: Kind


@dataclass(frozen=True, slots=True)
class Queried:
    """A query was answered.

    Attributes:
        collection: which.
        seconds: from the call to the answer.
            The first answer of a view takes in what it took to open it, without the wait for a session token.
        hydration_s: of these, fetching objects into the local cache, or waiting until another thread has; 0 when it was warm.
        overlay_rows: live records of the state that was asked that came from deltas not folded yet.
        snapshot_age_s: how long ago, by this machine's clock, the version under them was published.
    """

    collection: CollectionId
    seconds: float
    hydration_s: float
    overlay_rows: int
    snapshot_age_s: float


Event = DeltaWritten | HintsFailed | Looked | Compacted | CompactionFailed | Queried
