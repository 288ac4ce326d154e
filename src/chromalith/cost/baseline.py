"""What the same collection costs where a Chroma server holds it: a machine that is always on, as large as its memory must be.

Two of them: data on a volume of its own (EBS), or on a network file system (EFS), as several machines or functions need it. One server, no
replica, no load balancer, no person who looks after it: what a bill would say at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chromalith.cost.model import GB, MONTH_S
from chromalith.cost.prices import Instance, Prices
from chromalith.cost.workload import Workload

MEMORY_FACTOR = 1.5
"""Vectors and graph of an HNSW index in memory, over the vectors alone."""
MEMORY_BASE_GB = 1.0
DISK_FACTOR = 2.5
"""On disk: the index, the log, and SQLite's tables with their full-text index, over the records' own bytes."""


@dataclass(frozen=True, slots=True)
class Own:
    """One line of a baseline.

    Attributes:
        what: for people.
        quantity: a month's.
        unit: its unit.
        cost: a month's.
    """

    what: str
    quantity: float
    unit: str
    cost: float


def memory_gb(load: Workload, records: float) -> float:
    """What a server needs to hold ``records`` in memory."""
    return MEMORY_BASE_GB + MEMORY_FACTOR * records * load.dimension * 4 / GB


def server(load: Workload, records: float, prices: Prices, *, shared: bool) -> list[Own] | None:
    """A server for ``records``; ``shared``: on EFS, else on EBS. ``None`` if no listed machine has the memory for it."""
    machine = prices.instance_for(memory_gb(load, records))
    return None if machine is None else list(_lines(load, records, machine, prices, shared))


def _lines(load: Workload, records: float, machine: Instance, prices: Prices, shared: bool) -> Iterator[Own]:
    hours = MONTH_S / 3_600
    yield Own(f"{machine.name}, {machine.memory_gb:g} GB of memory, always on", hours, "hours", hours * machine.hour)
    disk = records * (load.dimension * 4 + load.text_bytes) * DISK_FACTOR / GB
    if shared:
        moved = load.writes_per_s * MONTH_S * load.rows * (load.dimension * 4 + load.text_bytes) * 2 / GB
        for key, quantity in (("efs_storage", disk), ("efs_write", moved)):
            yield Own(prices[key].name, quantity, prices[key].unit, prices[key].of(quantity))
    else:
        volume = max(20.0, disk * 1.5)
        for key, quantity in (("ebs_gp3", volume), ("ebs_snapshot", disk)):
            yield Own(prices[key].name, quantity, prices[key].unit, prices[key].of(quantity))
