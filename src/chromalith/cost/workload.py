"""What is asked of a store, and how it is deployed: the input of the model. Every default is a number that a person can disagree with."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum

from chromalith.errors import Invalid


class Level(StrEnum):
    """The read levels (docs/concepts.md), in one word each."""

    FRESH = "fresh"
    """``INDEX_AND_WAL``, the default: everything that was acknowledged."""
    BOUNDED = "bounded"
    """``INDEX_AND_BOUNDED_WAL``: the same, at most so old."""
    INDEX = "index"
    """``INDEX_ONLY``: the newest version, at most so old."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A month of one store.

    Attributes:
        writes_per_s: calls, of all collections together, on average over the month.
        rows: records in a call.
        dimension: of the embeddings, float32.
        text_bytes: documents and metadata of one record, before compression.
        updates: the part of the written records that replaces older ones, 0 to 1.
        ordered_ids: whether new ids sort after all older ones (a time, a counter); with UUIDs, a fold looks into every segment.
        records: live ones, of all collections together; ``None``: what the month brings.
        stored_bytes: of the current versions, where they were measured; ``None``: computed.
        collections: among which all of this is spread evenly.
        reads_per_s: calls of query, get or count.
        level: of the reads.
        staleness_s: the bound of the two weaker levels.
        readers: processes that stay warm and read.
        cold_starts_per_day: readers that begin with an empty cache.
    """

    writes_per_s: float = 0.0
    rows: float = 100.0
    dimension: int = 384
    text_bytes: float = 200.0
    updates: float = 0.0
    ordered_ids: bool = False
    records: float | None = None
    stored_bytes: float | None = None
    collections: int = 1
    reads_per_s: float = 0.0
    level: Level = Level.FRESH
    staleness_s: float = 60.0
    readers: int = 1
    cold_starts_per_day: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        if self.updates > 1:
            raise Invalid(f"updates are a part of the writes updates={self.updates}", hint="a number from 0 to 1")
        if self.rows < 1 or self.dimension < 1 or self.collections < 1 or self.staleness_s <= 0:
            raise Invalid(
                f"at least one of each rows={self.rows} dimension={self.dimension} collections={self.collections}"
                f" staleness_s={self.staleness_s}",
                hint="a call has a record, a record a dimension",
            )


@dataclass(frozen=True, slots=True)
class Deployment:
    """How the roles run. The defaults are those of ``infra/chromadb_compaction``; the durations are assumptions.

    Attributes:
        hints: whether a message wakes the compactor; else only the schedule does.
        window_s: with hints, from the first message to the run: the queue's batch window.
        settle_s: how long the store's timestamps take to settle; a run waits for what is younger, and folds it, too.
        schedule_s: how often the schedule wakes it.
        lambda_compactor, lambda_producer, lambda_query: which roles are functions; what else runs is yours, and costs nothing here.
        compactor_gb, producer_gb, query_gb: memory of the functions.
        compact_base_s: a compaction but for its records: requests, and waiting for the settling.
        compact_rows_per_s: records folded or merged in a second.
        produce_s, query_s: one warm call.
        arm: whether the functions run on arm64.
        dynamodb: whether leases are items of a table.
        intelligent_tiering: the storage class.
        infrequent: with it, the part of the stored bytes that nobody has read for 30 days.
        noncurrent_days: how long the bucket keeps what was overwritten or deleted.
        keep_days: how long sweeps keep versions, which hold what merges replaced.
        metrics, alarms, dashboards: how many.
        log_bytes: that an invocation writes, metrics included.
    """

    hints: bool = True
    window_s: float = 5.0
    settle_s: float = 2.0
    schedule_s: float = 900.0
    lambda_compactor: bool = True
    lambda_producer: bool = False
    lambda_query: bool = False
    compactor_gb: float = 2.9375
    producer_gb: float = 1.0
    query_gb: float = 1.7275390625
    compact_base_s: float = 3.0
    compact_rows_per_s: float = 5_000.0
    produce_s: float = 0.2
    query_s: float = 0.1
    arm: bool = False
    dynamodb: bool = True
    intelligent_tiering: bool = True
    infrequent: float = 0.0
    noncurrent_days: float = 30.0
    keep_days: float = 1.0
    metrics: int = 18
    alarms: int = 8
    dashboards: int = 1
    log_bytes: float = 1_500.0

    def __post_init__(self) -> None:
        _check(self)
        if self.window_s <= 0 or self.schedule_s <= 0 or self.compact_rows_per_s <= 0 or self.infrequent > 1:
            raise Invalid("intervals and rates are above 0, parts at most 1", hint="see chromalith.cost.workload.Deployment")


def _check(value: Workload | Deployment) -> None:
    for each in fields(value):
        number = getattr(value, each.name)
        if isinstance(number, int | float) and not (math.isfinite(number) and number >= 0):
            raise Invalid(f"not a number of 0 or more {each.name}={number}", hint="give what happens on average over a month")
