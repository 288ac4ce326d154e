"""Migrations as evidence: values for the checklist and the report, and the same written into a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chromalith.clock import ManualClock
from chromalith.cost.prices import packaged_prices
from chromalith.cost.workload import Deployment, Workload
from chromalith.migrate.evidence.cost import CostFound, compare
from chromalith.migrate.evidence.gather import Evidence, Part
from chromalith.migrate.evidence.record import SCAN, Record, record
from chromalith.migrate.latencies import Histogram, bucket
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.presence import PART, Presence
from chromalith.migrate.shadow_stats import Counts, ShadowStats
from chromalith.migrate.state import Change, Percent, SideName, State
from chromalith.migrate.states import States
from chromalith.migrate.workflow.ports import Lag
from chromalith.store.memory import MemoryStore

BEGIN_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
STEPS = (
    ("start", "", "direct", 0),
    ("dual", "direct", "dual", 1),
    ("backfill", "dual", "backfill", 2),
    ("verify", "backfill", "verify", 5),
    ("ramp", "verify", "ramp reads=5 writes=0 shadow=10", 6),
    ("ramp", "ramp reads=5 writes=0 shadow=10", "ramp reads=50 writes=0 shadow=10", 8),
    ("switch", "ramp reads=50 writes=0 shadow=10", "cutover", 10),
    ("complete", "cutover", "complete", 34),
)
"""Verb, before, after, hour."""
NOW_US = BEGIN_US + 35 * HOUR_US


def state(phase: Phase = Phase.COMPLETE, **fields: Any) -> State:
    """The sample's state when it stood in ``phase``."""
    last = max(n for n, step in enumerate(STEPS) if step[2].split()[0] == phase)
    history = tuple(
        Change(epoch, BEGIN_US + hour * HOUR_US, "ann@host", verb, before, after)
        for epoch, (verb, before, after, hour) in enumerate(STEPS[: last + 1], 1)
    )
    values: dict[str, Any] = {
        "phase": phase,
        "epoch": last + 1,
        "history": history,
        "percent": Percent(50, 0, 10) if phase is Phase.RAMP else Percent(),
        "verify": {
            "at_us": BEGIN_US + 33 * HOUR_US,
            "clean": True,
            "matching": 200_000,
            "missing": 0,
            "extra": 0,
            "different": 0,
            "collections": 3,
            "epoch": 7,
        },
        "backfill": {"finished": True, "records": 199_000},
    }
    source = SideName(SideKind.SERVER, "http://db:8000", "default_tenant", "default_database")
    target = SideName(SideKind.CHROMALITH, "s3://bucket", "default_tenant", "default_database")
    return State("default", source, target, **(values | fields))


def latency(*pairs: tuple[float, int]) -> Histogram:
    """Milliseconds, and how many."""
    return Histogram({bucket(ms / 1000): count for ms, count in pairs})


def shadow(source: Histogram, target: Histogram, **counts: int) -> ShadowStats:
    found = Counts(**(counts or {"matches": 5_000, "lag": 3, "mismatches": 2, "stored": 2}))
    pairs = {("query", Role.SOURCE): source, ("query", Role.TARGET): target}
    return ShadowStats(5, {("query", "words"): found}, {}, {}, pairs)


SHADOW = shadow(latency((4, 100), (8, 4_000), (16, 900)), latency((2, 300), (4, 4_000), (8, 700)))


def producer(number: int, **fields: Any) -> Presence:
    minute = NOW_US // 60_000_000 - 5
    values: dict[str, Any] = {
        "id": f"c{number}",
        "app": "shop",
        "host": f"host-{number}",
        "epoch": len(STEPS),
        "phase": "complete",
        "started_us": BEGIN_US,
        "seen_us": NOW_US - 5_000_000,
        "seen_s": 5.0,
        "writes": {"source": 900, "target": 1_000},
        "reads": {"source": 4_000, "target": 6_000},
        "write_minutes": {str(minute): 3, str(minute - number): 1},
        "second_failures": 1,
    }
    return Presence(**(values | fields))


def scanned(**found: Any) -> Record:
    values = {
        "root": "shop",
        "commit": "a" * 40,
        "digest": "d" * 64,
        "files": 40,
        "errors": 0,
        "warnings": 0,
        "allowed": 2,
        "unreadable": 0,
    }
    return Record("key", NOW_US - 60_000_000, "ci@host", values | found)


def cheaper() -> CostFound:
    found = compare(
        Workload(writes_per_s=0.01, reads_per_s=0.5, records=200_000),
        "given",
        Deployment(),
        packaged_prices(),
        None,
        80.0,
    )
    assert isinstance(found, CostFound)
    return found


def whole() -> Evidence:
    """Everything that a migration can show, all of it good."""
    return Evidence(
        now_us=NOW_US,
        store="s3://bucket",
        state=state(),
        producers=[producer(1), producer(2)],
        lag=Lag(),
        shadow=SHADOW,
        scans=[scanned()],
        cost=cheaper(),
        stack=[Part("bucket chromadb-vectors-prod-1"), Part("queue chromadb-delta-queue")],
    )


def stored(e: Evidence) -> Place:
    """A store that holds the same."""
    clock = ManualClock(e.now_us)
    place = Place(MemoryStore(clock), e.state.name, clock)
    States(place).create(e.state)
    for number, each in enumerate(e.producers):
        stats = e.shadow.encode() if number == 0 else {}
        place.store.put(f"{place.prefix(PART)}{each.id}.json", replace(each, shadow=stats).encode())
    for scan in e.scans:
        record(place, SCAN, scan.found)
    return place
