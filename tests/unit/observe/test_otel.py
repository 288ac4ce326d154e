"""The same values through OpenTelemetry, read back by its own SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from tests.unit.observe.test_metrics import CID, EVENTS, RUN, WRITTEN

from chromalith.errors import Kind
from chromalith.observe.events import Compacted, CompactionFailed, Looked
from chromalith.observe.metrics import BY_NAME, METRICS, Shape
from chromalith.observe.otel import OtelObserver

DOTTED = {metric.dotted: metric for metric in METRICS}


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    found = InMemoryMetricReader()
    yield found
    found.shutdown()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], shutdown_on_exit=False)


def read(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    return {} if data is None else {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}


def points(reader: InMemoryMetricReader, name: str) -> dict[str | None, float]:
    """The value of each series, by collection: a counter's sum, a gauge's last value, the sum of a histogram."""
    found = read(reader)[BY_NAME[name].dotted].data.data_points
    return {p.attributes.get("chromalith.collection"): getattr(p, "sum", None) if hasattr(p, "sum") else p.value for p in found}


@pytest.mark.parametrize(("event", "said"), EVENTS, ids=[type(event).__name__ for event, _ in EVENTS])
def test_each_event_is_recorded(event: Any, said: dict[str, float], reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """The metrics of the table and no other, with its units and its kinds of instruments."""
    OtelObserver(provider)(event)
    found = read(reader)
    assert set(found) == {BY_NAME[name].dotted for name in said}
    kinds = {Shape.COUNTER: Sum, Shape.GAUGE: Gauge, Shape.DISTRIBUTION: Histogram}
    units = {"Count": "1", "Bytes": "By", "Seconds": "s", "Milliseconds": "ms"}
    for name, value in said.items():
        metric = found[BY_NAME[name].dotted]
        assert isinstance(metric.data, kinds[BY_NAME[name].shape])
        assert (metric.unit, metric.description) == (units[BY_NAME[name].unit], BY_NAME[name].meaning)
        assert list(points(reader, name).values()) == [value]


def test_counters_add_up_and_gauges_do_not(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A gauge says the last value, of each collection apart; the whole store's is one of its own."""
    observe = OtelObserver(provider)
    for cid, backlog in (("a", 5), ("b", 7), ("a", 2)):
        observe(Compacted(**RUN | {"collection": cid, "backlog": backlog}, left=False))  # type: ignore[arg-type]
    observe(Looked(0))
    assert points(reader, "BacklogDeltas") == {"a": 2, "b": 7, None: 0}
    assert points(reader, "DeltasFolded") == {"a": 8, "b": 4}
    assert points(reader, "CompactionSuccess") == {"a": 2, "b": 1}
    assert points(reader, "CompactionDuration") == {"a": 5.0, "b": 2.5}


def test_a_failure_says_its_kind(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """By OpenTelemetry's own name for it."""
    OtelObserver(provider)(CompactionFailed(**RUN, kind=Kind.CORRUPT))  # type: ignore[arg-type]
    (point,) = read(reader)["chromadb.compaction.compaction_failure"].data.data_points
    assert dict(point.attributes) == {"chromalith.collection": CID, "error.type": "corrupt"}


def test_collections_can_be_left_out(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Then there is one series of each, and what would be overwritten is a histogram."""
    observe = OtelObserver(provider, by_collection=False)
    for cid, backlog in (("a", 5), ("b", 7)):
        observe(Compacted(**RUN | {"collection": cid, "backlog": backlog}, left=False))  # type: ignore[arg-type]
    (point,) = read(reader)[BY_NAME["BacklogDeltas"].dotted].data.data_points
    assert (dict(point.attributes), point.count, point.max) == ({}, 2, 7)


def test_without_an_sdk_nothing_happens() -> None:
    """The API alone takes everything and keeps nothing."""
    code = """
from tests.unit.observe.test_metrics import EVENTS
from chromalith import OtelObserver
observe = OtelObserver()
for event, _ in EVENTS:
    observe(event)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_opentelemetry_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from chromalith import OtelObserver
from chromalith.errors import Invalid
try:
    OtelObserver()
except Invalid as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'chromalith[otel]'" in done.stdout


def test_the_table_is_told_in_dots() -> None:
    """Every metric has an instrument."""
    assert len(DOTTED) == len(METRICS)
    assert DOTTED["chromadb.producer.delta_bytes"].name == "DeltaBytes"
    assert WRITTEN.bytes == 700
