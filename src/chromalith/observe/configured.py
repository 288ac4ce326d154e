"""The observer that the setting ``CHROMALITH_METRICS`` names, so that a process emits metrics without a line of code."""

from __future__ import annotations

import sys

from chromalith.errors import Invalid
from chromalith.observe.hooks import Observer, silent

OFF, EMF, OTEL = "off", "emf", "otel"
EXPORTERS = (OFF, EMF, OTEL)


def configured(exporter: str) -> Observer:
    """What ``exporter`` names: ``emf``, ``otel`` or ``off``.

    Lines of ``emf`` go to standard error here, because the standard output of a program that was not asked may be data, as that of
    ``chromalith … --json`` is. Lambda, and containers with the ``awslogs`` driver, log both.

    Raises ``Invalid`` for another name, or if what it needs is not installed.
    """
    if exporter == EMF:
        from chromalith.observe.emf import EmfObserver  # powertools takes a tenth of a second to import

        return EmfObserver(stream=sys.stderr)
    if exporter == OTEL:
        from chromalith.observe.otel import OtelObserver

        return OtelObserver()
    if exporter != OFF:
        raise Invalid(f"no such exporter of metrics CHROMALITH_METRICS={exporter!r}", hint=f"one of {', '.join(EXPORTERS)}")
    return silent
