"""A compactor's leases: one for folds and the prompt sweep, one for merges, because a long merge must not keep others from folding.

A block under a lease gets a :class:`Right`, or :class:`~chromalith.coord.lease.HeldBy` if somebody else has it. The right tells the
store's date (by leases in the store it costs a beat: one write serves both), and whether it was lost meanwhile. Without leases everything
works as well: the date then comes from an object of its own. Compactors that keep their leases in different places do not see each
other: as if they worked without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from chromalith.aws.dynamodb_lease import DynamoLeases
from chromalith.clock import Clock
from chromalith.coord.heartbeat import Heartbeat
from chromalith.coord.lease import HeldBy, Lease, Sightings, Tenure
from chromalith.coord.lease_table import LeaseTable
from chromalith.coord.object_leases import ObjectLeases
from chromalith.coord.store_date import store_date
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

FOLD, MERGE = "fold", "merge"
PROCESS_ROWS = 20_000
"""Rows from which building an index gets a heartbeat of its own: about 3 s at 8,000 rows/s, and four times that for vectors that need a
second effort, on the machine of docs/benchmarks.md; a slower one has a third of the lease time to spare."""


def lease_key(cid: CollectionId, purpose: str) -> str:
    """The key of one of a collection's two leases."""
    return layout.merge_lease_key(cid) if purpose == MERGE else layout.lease_key(cid)


def open_leases(
    store: Store, clock: Clock, table: str | None = None, storage_options: Mapping[str, object] | None = None
) -> LeaseTable:
    """Where a store's leases are: in a table of DynamoDB if one is named, else in the store. Makes no request.

    Args:
        store, clock: whose leases, and time and chance.
        table: the DynamoDB table's name; empty is as none.
        storage_options: of the store; those of an S3 store also say where the table is (:mod:`chromalith.aws.clients`).
    """
    if table:
        return DynamoLeases(table, storage_options, store, clock)
    return ObjectLeases(store, clock, storage_options=storage_options)


@dataclass(frozen=True, slots=True)
class Right:
    """The right to work on one collection, advisory as it is.

    Attributes:
        date: the store's date, microseconds since 1970-01-01 UTC; ``None`` once the lease is lost.
        before_index: called with the number of rows before an index is built.
        lost_to: who has the lease now, after ``date`` was ``None``.
    """

    date: Callable[[], int | None]
    before_index: Callable[[int], None]
    lost_to: Callable[[], HeldBy]


@dataclass(frozen=True, slots=True)
class Leasing:
    """How one compactor takes leases.

    Attributes:
        store, clock: what is compacted, and time and chance.
        table: where the leases are.
        sightings: what was seen of other holders, also in earlier rounds.
        owner: host and process in words; ``None``: this one's.
        enabled: ``False``: work without, whoever else does.
        lease_s: see :mod:`chromalith.coord.lease`.
        heartbeat: whether to beat in a thread, and in a process where the table's address allows it.
    """

    store: Store
    clock: Clock
    table: LeaseTable
    sightings: Sightings
    owner: str | None
    enabled: bool
    lease_s: float
    heartbeat: bool

    @contextmanager
    def hold(self, cid: CollectionId, purpose: str, wait_s: float) -> Iterator[Right | HeldBy]:
        """Hold a lease while the block runs. ``wait_s``: for how long to find out whether its present holder lives.

        Raises ``Unavailable``, ``Invalid`` (the lease table is missing, or may not be used)."""
        if not self.enabled:
            yield Right(lambda: self.date(cid), lambda rows: None, _nobody)
            return
        lease = Lease(
            self.table,
            lease_key(cid, purpose),
            self.clock,
            purpose=purpose,
            owner=self.owner,
            lease_s=self.lease_s,
            sightings=self.sightings,
        )
        tenure = lease.acquire(wait_s) if wait_s > 0 else lease.try_acquire()
        if isinstance(tenure, HeldBy):
            yield tenure
            return
        try:
            with Heartbeat(tenure, self.table.address, enabled=self.heartbeat) as beating:
                yield _right(tenure, beating)
        finally:
            tenure.release()

    def date(self, cid: CollectionId) -> int:
        """The store's date for whoever holds no lease."""
        return store_date(self.store, cid, self.clock)


def _right(tenure: Tenure, beating: Heartbeat) -> Right:
    def before_index(rows: int) -> None:
        if rows >= PROCESS_ROWS:
            beating.before_long_call()

    return Right(tenure.date_us, before_index, lambda: tenure.lost_to)


def _nobody() -> HeldBy:
    return HeldBy("nobody", "none", 0.0, alive=False)
