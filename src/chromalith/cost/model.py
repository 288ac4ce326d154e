"""From a workload to counts, and from counts to a bill. Pure: the prices come in as a value.

1. :func:`activity` says how often each role does what in a month: writes, folds, looks, merges, reads.
2. :func:`usage` turns that into lines: requests by the formulas of :mod:`chromalith.cost.requests`, bytes by those of
   :mod:`chromalith.cost.sizes`, and what the functions, the queue, the lock and the watching take.
3. Each line is a quantity and a price's name; :class:`Line` multiplies.

A month is 730 hours. Where the truth lies between two numbers, the larger is taken: waking by a window is counted as if windows stood
one after another from the month's beginning, and nothing is deducted for free tiers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chromalith.cost import sizes
from chromalith.cost.merging import Merging, merging, rewritten_by_updates
from chromalith.cost.prices import Prices
from chromalith.cost.requests import (
    IDLE_TICK,
    LEASED_FOLD,
    LEASED_LOOK,
    LEASED_MERGE,
    POINTER_READ,
    TABLE_INSTEAD,
    WARM_READ,
    WRITE,
    Requests,
    fold,
    look,
    lookup,
    merge,
    told,
)
from chromalith.cost.workload import Deployment, Level, Workload

MONTH_S = 730 * 3_600.0
GB = 1e9
GRACE_S = 60.0
"""How long a folded delta stays (docs/protocol.md 7.1)."""
POLLERS, POLL_S = 5, 20.0
"""An event source asks an empty queue with five long polls at a time, of twenty seconds each."""
DELETE_BATCH = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill.

    Attributes:
        group: what causes it.
        price: the name of its price.
        quantity: a month's, in the price's unit.
        why: the arithmetic in words.
    """

    group: str
    price: str
    quantity: float
    why: str

    def cost(self, prices: Prices) -> float:
        """In the list's currency, a month."""
        return prices[self.price].of(self.quantity)


@dataclass(frozen=True, slots=True)
class Activity:
    """How often what happens in a month.

    Attributes:
        writes: calls.
        wakes: runs of the compactor that find something new.
        busy: the same, of one collection, all collections together.
        ticks: of the schedule.
        folds, looks: runs on one collection, all collections together.
        fold_rows, fold_deltas: records and deltas in one fold.
        records: live records of one collection.
        merging: what comes with one fold.
        rewritten: records written again by merges in the month, all collections together.
        reads, cold: calls that read; readers that start.
    """

    writes: float
    wakes: float
    busy: float
    ticks: float
    folds: float
    looks: float
    fold_rows: float
    fold_deltas: float
    records: float
    merging: Merging
    rewritten: float
    reads: float
    cold: float


def activity(load: Workload, deployment: Deployment) -> Activity:
    """How often each role does what."""
    writes = load.writes_per_s * MONTH_S
    each_s = load.writes_per_s / load.collections
    interval_s = deployment.window_s if deployment.hints else deployment.schedule_s
    ticks = MONTH_S / deployment.schedule_s
    intervals = MONTH_S / interval_s
    busy = load.collections * intervals * _any(each_s * interval_s)
    # A run by hints waits until what it was told of has settled; another folds, and then waits once for what is too young.
    again = 0.0 if deployment.hints else _any(each_s * deployment.settle_s)
    folds = busy * (1 + again)
    listed = load.collections * ticks * _any(each_s * (GRACE_S + deployment.schedule_s))
    looks = listed if deployment.hints else max(0.0, listed - folds)
    fold_deltas = writes / folds if folds else 0.0
    born = writes * load.rows * (1 - load.updates)
    records = (born if load.records is None else load.records) / load.collections
    per_fold = merging(round(fold_deltas * load.rows), math.ceil(records)) if folds else Merging(0, 0, 0, 0, 1, 1)
    rewritten = folds * per_fold.rows + writes * load.rows * load.updates * rewritten_by_updates()
    return Activity(
        writes,
        intervals * _any(load.writes_per_s * interval_s),
        busy,
        ticks,
        folds,
        looks,
        fold_deltas * load.rows,
        fold_deltas,
        records,
        per_fold,
        rewritten,
        load.reads_per_s * MONTH_S,
        load.cold_starts_per_day * MONTH_S / 86_400,
    )


def _any(expected: float) -> float:
    """The chance that something happens which is expected so many times."""
    return -math.expm1(-expected)


def usage(load: Workload, deployment: Deployment) -> list[Line]:
    """The lines of a month's bill, by what causes them. Quantities of zero are left out."""
    done = activity(load, deployment)
    lines = [
        *_storage(load, deployment, done),
        *_requests("writes", done.writes * WRITE, "one PUT of the delta and one conditional GET a call"),
        *_compaction(load, deployment, done),
        *_requests("idle", done.ticks * IDLE_TICK, "one LIST a tick of the schedule, for the whole store"),
        *_reads(load, done),
        *_queue(deployment, done),
        *_functions(deployment, done),
        *_watching(deployment, done),
    ]
    return [line for line in lines if line.quantity > 0]


def _requests(group: str, made: Requests, why: str) -> Iterator[Line]:
    yield Line(group, "s3_put", made.puts, why)
    yield Line(group, "s3_list", made.lists, why)
    yield Line(group, "s3_get", made.gets, why)
    yield Line(group, "s3_delete", made.deletes, why)


# -- bytes -------------------------------------------------------------------------------------------------------------


def written_bytes(load: Workload, done: Activity) -> float:
    """Bytes that reach the store in a month."""
    segment = sizes.segment_bytes(done.fold_rows, load.dimension, load.text_bytes)
    again = done.rewritten * sizes.record_bytes(load.dimension, load.text_bytes, indexed=_mostly_indexed(done))
    publish = sizes.publish_bytes(done.merging.segments, with_buckets=True)
    publish += done.merging.merges * sizes.publish_bytes(done.merging.segments, with_buckets=False)
    delta = sizes.delta_bytes(load.rows, load.dimension, load.text_bytes)
    return done.writes * delta + done.folds * (segment + publish) + again


def live_bytes(load: Workload, done: Activity) -> float:
    """Bytes of the current versions."""
    if load.stored_bytes is not None:
        return load.stored_bytes
    record = sizes.record_bytes(load.dimension, load.text_bytes, indexed=_mostly_indexed(done))
    return load.collections * (done.records * record + sizes.publish_bytes(done.merging.segments, with_buckets=True))


def _mostly_indexed(done: Activity) -> bool:
    """Whether most records lie in segments with an index."""
    return sizes.has_index(done.records / max(1.0, done.merging.segments / 3))


def _storage(load: Workload, deployment: Deployment, done: Activity) -> Iterator[Line]:
    live = live_bytes(load, done)
    kept_days = deployment.noncurrent_days + deployment.keep_days
    born = done.writes * load.rows * (1 - load.updates) if load.records is None else 0.0
    replaced = max(0.0, written_bytes(load, done) - born * sizes.record_bytes(load.dimension, load.text_bytes, indexed=False))
    old = replaced * kept_days * 86_400 / MONTH_S
    tiering = deployment.intelligent_tiering
    price = "s3_int_frequent" if tiering else "s3_storage"
    cold = live * deployment.infrequent if tiering else 0.0
    yield Line("storage", price, (live - cold) / GB, "the current versions: records, id tables, indexes")
    yield Line("storage", "s3_int_infrequent", cold / GB, "the part of them that nobody reads")
    why = f"what was written and replaced: kept {deployment.keep_days:g} d, then {deployment.noncurrent_days:g} d as noncurrent versions"
    yield Line("storage", price, old / GB, why)
    if tiering:
        objects = load.collections * 3 * done.merging.segments
        yield Line("storage", "s3_int_monitoring", objects, "at most three large objects a segment")


# -- requests ----------------------------------------------------------------------------------------------------------


def _compaction(load: Workload, deployment: Deployment, done: Activity) -> Iterator[Line]:
    per = done.merging
    lookups = _lookups(load, done)
    touched = min(per.segments, done.fold_rows * load.updates)
    indexed = float(sizes.has_index(done.fold_rows))
    one = fold(done.fold_deltas, swept=done.fold_deltas, lookups=lookups, touched=touched, indexed=indexed)
    made = done.folds * one + done.looks * look()
    if deployment.hints:
        made += done.busy * told()
    if per.merges:
        made += done.folds * per.merges * merge(per.inputs / per.merges, indexed=per.indexed / per.merges)
    if deployment.dynamodb:
        items = done.folds * (LEASED_FOLD + per.merges * LEASED_MERGE) + done.looks * LEASED_LOOK
        made = made + done.folds * (1 + per.merges) * TABLE_INSTEAD + done.looks * TABLE_INSTEAD
        yield Line("compaction", "dynamodb_write", items.puts, "the lease: taken, beaten, released")
        yield Line("compaction", "dynamodb_read", items.gets, "the lease: looked at")
    why = f"{done.folds:,.0f} folds of {done.fold_deltas:,.1f} deltas, {done.folds * per.merges:,.0f} merges"
    yield from _requests("compaction", made, why)


def _lookups(load: Workload, done: Activity) -> float:
    """GETs of one fold to find the ids that it touches: in every older segment, unless ids are ordered and none is touched again."""
    per = done.merging
    if done.records <= done.fold_rows or (load.ordered_ids and not load.updates):
        return 0.0
    asked = done.fold_rows * (load.updates if load.ordered_ids else 1.0)
    large = max(1.0, per.large)
    each = lookup(asked / (large if load.ordered_ids else 1.0), done.records / large, hits=done.fold_rows * load.updates / large)
    return max(0.0, per.segments - large) + large * each


def _reads(load: Workload, done: Activity) -> Iterator[Line]:
    one = POINTER_READ if load.level is Level.INDEX else WARM_READ
    looks = done.reads
    if load.level is not Level.FRESH:
        looks = min(done.reads, load.readers * load.collections * MONTH_S / load.staleness_s)
    yield from _requests("reads", looks * one, f"{looks:,.0f} looks at the store for {done.reads:,.0f} reads")
    seen = min(load.readers * done.folds, looks)  # versions that a warm reader notices: it cannot notice more than it looks
    refresh = seen * (1 + 2 + done.merging.merges * 2)
    overlay = 0.0
    if load.level is not Level.INDEX:
        overlay = min(load.readers * done.writes, looks * max(1.0, done.fold_deltas))
    if looks:
        yield Line("reads", "s3_get", refresh + overlay, "new deltas, manifests and segments, once for each warm reader")
    cold = done.cold * (3 + 3 * done.merging.segments + min(done.fold_deltas, done.writes))
    yield Line("reads", "s3_get", cold, "readers that start with an empty cache")


# -- what stands around it ---------------------------------------------------------------------------------------------


def _queue(deployment: Deployment, done: Activity) -> Iterator[Line]:
    if not deployment.hints:
        return
    yield Line("queue", "sqs_request", done.writes, "sending: one hint a call, at worst one by one")
    yield Line("queue", "sqs_request", 2 * done.writes / DELETE_BATCH, "receiving and deleting, by tens")
    yield Line("queue", "sqs_request", POLLERS * MONTH_S / POLL_S, "the event source asks whether there is anything")


def _functions(deployment: Deployment, done: Activity) -> Iterator[Line]:
    duration = "lambda_gb_s_arm" if deployment.arm else "lambda_gb_s"
    if deployment.lambda_compactor:
        rows = done.folds * done.fold_rows + done.rewritten
        wakes = done.wakes if deployment.hints else min(done.ticks, done.wakes)
        runs = wakes + (done.ticks if deployment.hints else max(0.0, done.ticks - wakes))
        seconds = wakes * deployment.compact_base_s + done.ticks * 0.2 + rows / deployment.compact_rows_per_s
        yield Line("functions", "lambda_request", runs, "compactor: woken by hints and by the schedule")
        why = f"compactor: {deployment.compact_base_s:g} s a run, {deployment.compact_rows_per_s:,.0f} records a second"
        yield Line("functions", duration, seconds * deployment.compactor_gb, f"{why}, {deployment.compactor_gb:g} GB")
    for name, wanted, calls, seconds, memory in (
        ("producer", deployment.lambda_producer, done.writes, deployment.produce_s, deployment.producer_gb),
        ("query", deployment.lambda_query, done.reads, deployment.query_s, deployment.query_gb),
    ):
        if wanted:
            yield Line("functions", "lambda_request", calls, f"{name}: one a call")
            yield Line("functions", duration, calls * seconds * memory, f"{name}: {seconds:g} s, {memory:g} GB")


def _watching(deployment: Deployment, done: Activity) -> Iterator[Line]:
    calls = done.wakes + done.ticks if deployment.lambda_compactor else 0.0
    calls += done.writes * deployment.lambda_producer + done.reads * deployment.lambda_query
    yield Line("watching", "cloudwatch_metric", deployment.metrics if calls else 0, "custom metrics, one dimension")
    yield Line("watching", "cloudwatch_alarm", deployment.alarms, "alarms")
    yield Line("watching", "cloudwatch_dashboard", deployment.dashboards, "the dashboard")
    why = f"{deployment.log_bytes:,.0f} bytes an invocation, metrics included"
    yield Line("watching", "cloudwatch_logs", calls * deployment.log_bytes / GB, why)
