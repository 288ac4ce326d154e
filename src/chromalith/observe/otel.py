"""The same metrics through OpenTelemetry's API: whatever exporter the program has configured gets them.

The names are those of the table with dots (``chromadb.compaction.backlog_deltas``). The service is not said here: OpenTelemetry keeps it in
the resource (``service.name``). The collection is an attribute, because a gauge without it would be overwritten by the next collection;
``by_collection=False`` leaves it out where series are dear, and then gauges are histograms, whose maximum says the same.

A gauge keeps its last value until the process ends, also of a collection that was deleted: alarm on it only while the process runs.

Needs the extra ``otel``. Without a configured SDK, the API does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from chromalith.errors import Invalid
from chromalith.observe.events import Event
from chromalith.observe.metrics import METRICS, Metric, Shape, Unit, properties, values

SCOPE = "chromalith"
UNITS = {Unit.COUNT: "1", Unit.BYTES: "By", Unit.SECONDS: "s", Unit.MILLISECONDS: "ms"}
"""As UCUM has them, which OpenTelemetry asks for."""
_ATTRIBUTES = {"collection": "chromalith.collection", "kind": "error.type"}

_Record = Callable[[float, dict[str, str]], None]


class OtelObserver:
    """Records metrics with OpenTelemetry. Safe to share between threads.

    Args:
        meter_provider: where meters come from; else the program's global one.
        by_collection: whether each collection has series of its own.

    Raises ``Invalid`` where OpenTelemetry's API is not installed.
    """

    def __init__(self, meter_provider: Any = None, *, by_collection: bool = True) -> None:
        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise Invalid("OpenTelemetry is not installed", hint="pip install 'chromalith[otel]'") from error
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._by_collection = by_collection
        self._lock = threading.Lock()
        self._record = {metric.name: _instrument(meter, metric, gauges=by_collection) for metric in METRICS}

    def __call__(self, event: Event) -> None:
        attributes = {
            _ATTRIBUTES[name]: said
            for name, said in properties(event).items()
            if name in _ATTRIBUTES and (self._by_collection or name != "collection")
        }
        for metric, value in values(event):
            self._record[metric.name](value, attributes)


def _instrument(meter: Any, metric: Metric, *, gauges: bool) -> _Record:
    described = {"unit": UNITS[metric.unit], "description": metric.meaning}
    if metric.shape is Shape.COUNTER:
        add: _Record = meter.create_counter(metric.dotted, **described).add
        return add
    if metric.shape is Shape.GAUGE and gauges:
        put: _Record = meter.create_gauge(metric.dotted, **described).set
        return put
    record: _Record = meter.create_histogram(metric.dotted, **described).record
    return record
