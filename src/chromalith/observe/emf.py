"""Metrics for CloudWatch in embedded metric format: lines of JSON in a log, which CloudWatch makes metrics of.

No request is made for them. Any process can write them whose output ends in CloudWatch Logs: a Lambda, a container with the ``awslogs``
driver, Spark on EMR. The lines are made by aws-lambda-powertools' own provider, so they are what AWS's tools write and read.

1. An event becomes a line for each namespace that it has metrics of (in practice one), when it happens.
2. With ``hold``, events are kept until :meth:`EmfObserver.flush`, and then are one line for each namespace: one for an invocation of a
   Lambda. Before a metric has more values than a line may carry, what is kept is written by itself: nothing is dropped, and nothing grows.

Invariants: a line has at most :data:`VALUES_MAX` values of each metric, one set of dimensions (the service), and a time in milliseconds.

Needs the extra ``aws``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TextIO

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.observe.events import Event
from chromalith.observe.metrics import SERVICE_DEFAULT, Metric, properties, values

VALUES_MAX = 99
"""CloudWatch takes 100 values of a metric in a line; but at the hundredth, powertools' provider prints it by itself, past our stream."""

_log = logging.getLogger(__name__)
_Sample = tuple[Metric, float, dict[str, str]]


class EmfObserver:
    """Writes metrics in embedded metric format. Safe to share between threads.

    Args:
        service: the value of the one dimension; else ``POWERTOOLS_SERVICE_NAME``, else ``chromalith``.
        stream: where the lines go; else what is standard output when they are written.
        hold: whether to keep events until :meth:`flush`.
        clock: for the lines' time.

    ``POWERTOOLS_METRICS_DISABLED=true`` silences it, as it does powertools itself. Raises ``Invalid`` where powertools is not installed.
    """

    def __init__(
        self, service: str | None = None, *, stream: TextIO | None = None, hold: bool = False, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._powertools = _Powertools()
        self._service = service or self._powertools.service or SERVICE_DEFAULT
        self._stream = stream
        self._hold = hold
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, list[_Sample]] = defaultdict(list)  # by namespace

    def __call__(self, event: Event) -> None:
        with self._lock:
            beside = properties(event)
            for metric, value in values(event):
                held = self._held[metric.namespace]
                if sum(each is metric for each, _, _ in held) == VALUES_MAX:
                    self._write(metric.namespace)
                self._held[metric.namespace].append((metric, value, beside))
            if not self._hold:
                self._write_all()

    def flush(self) -> None:
        """Write what is held. A Lambda does so before it answers: it is frozen afterwards. Raises nothing: what was done is done."""
        try:
            with self._lock:
                self._write_all()
        except Exception:
            _log.warning("metrics could not be written", exc_info=True)

    def _write_all(self) -> None:
        for namespace in list(self._held):
            self._write(namespace)

    def _write(self, namespace: str) -> None:
        samples = self._held.pop(namespace, [])
        if not samples or self._powertools.disabled():
            return
        line = json.dumps(self._powertools.blob(namespace, self._service, samples, self._clock.now_us() // 1_000), separators=(",", ":"))
        stream = self._stream or sys.stdout
        stream.write(line + "\n")  # one call: lines of several threads and processes must not mix
        stream.flush()


class _Powertools:
    """The part of aws-lambda-powertools that is used here; imported when an observer is made, because the base install has none of it."""

    def __init__(self) -> None:
        try:
            from aws_lambda_powertools.metrics.functions import is_metrics_disabled
            from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
        except ImportError as error:
            raise Invalid("metrics for CloudWatch need aws-lambda-powertools", hint="pip install 'chromalith[aws]'") from error
        self.disabled = is_metrics_disabled
        self._provider = AmazonCloudWatchEMFProvider
        self.service: str | None = AmazonCloudWatchEMFProvider().service  # from the environment

    def blob(self, namespace: str, service: str, samples: Sequence[_Sample], time_ms: int) -> dict[str, Any]:
        """One line, as its JSON value. Raises powertools' ``SchemaValidationError`` for what is none."""
        provider = self._provider(namespace=namespace, service=service)
        provider.timestamp = time_ms
        for metric, value, _ in samples:
            provider.add_metric(metric.name, metric.unit.value, value)
        for name, said in _beside(samples).items():
            provider.add_metadata(name, said)
        return dict(provider.serialize_metric_set())


def _beside(samples: Sequence[_Sample]) -> dict[str, str | list[str]]:
    """The properties of a line: each as it is where it is one, else a list without repetitions, in the order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for _, _, beside in samples:
        for name, said in beside.items():
            found.setdefault(name, {})[said] = None
    return {name: next(iter(said)) if len(said) == 1 else list(said) for name, said in found.items()}
