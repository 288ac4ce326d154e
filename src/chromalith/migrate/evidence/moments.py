"""Times and ages in sentences. Wall clocks of several machines: for people, never to decide anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at_us: int) -> str:
    """``2026-01-31 12:00 UTC``."""
    return f"{(_EPOCH + timedelta(microseconds=at_us)):%Y-%m-%d %H:%M} UTC"


def age(now_us: int, at_us: int) -> str:
    """``3 h ago``."""
    return f"{length((now_us - at_us) / 1e6)} ago"


def length(seconds: float) -> str:
    """``90 s``, ``5 min``, ``3 h``, ``2 days``."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def latency(seconds: float) -> str:
    """``6.98 ms``, ``1.79 s``."""
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{1000 * seconds:.3g} ms"
