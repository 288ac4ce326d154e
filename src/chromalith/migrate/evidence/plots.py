"""Plots as inline SVG, drawn by hand: the report must open without a network, and a plotting library is no dependency of the product.

Colours are the page's variables, so that they follow light and dark; nothing is told by colour alone. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chromalith.migrate.evidence.moments import latency, length, moment
from chromalith.migrate.evidence.timeline import Span
from chromalith.migrate.latencies import PER_DOUBLING, SMALLEST_S, Histogram

WIDTH = 760
_LEFT = 90
_TICKS_S = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a bar: what it is, how much, and its colour (the name of a variable of the page)."""

    label: str
    amount: float
    colour: str


def timeline(spans: Sequence[Span]) -> str:
    """The phases as bars over time, one row each; a short one is still to be seen."""
    if not spans:
        return ""
    begin, end = spans[0].begin_us, max(span.end_us for span in spans)
    scale = (WIDTH - _LEFT - 70) / max(1, end - begin)
    parts = []
    for row, span in enumerate(spans):
        x, y = _LEFT + (span.begin_us - begin) * scale, 8 + 24 * row
        width = max(3.0, (span.end_us - span.begin_us) * scale)
        took = "" if span.end_us == span.begin_us else length(span.seconds) + (" so far" if span.is_open else "")
        parts.append(_text(_LEFT - 8, y + 13, str(span.phase), anchor="end"))
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" rx="3" fill="var(--target)"{_faint(span)}/>'
        )
        near_end = x + width > WIDTH - 80
        parts.append(
            _text(x - 6 if near_end else x + width + 6, y + 13, took, anchor="end" if near_end else "start", muted=True)
        )
    bottom = 8 + 24 * len(spans)
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - 70}" y2="{bottom}" stroke="var(--line)"/>')
    parts.append(_text(_LEFT, bottom + 16, moment(begin), muted=True))
    parts.append(_text(WIDTH - 70, bottom + 16, moment(end), anchor="end", muted=True))
    told = "; ".join(f"{span.phase} {length(span.seconds)}" for span in spans)
    return _svg(bottom + 24, f"Phases over time: {told}", parts)


def _faint(span: Span) -> str:
    return ' fill-opacity="0.45"' if span.is_open else ""


def latencies(source: Histogram, target: Histogram) -> str:
    """Two histograms, one above the other on the same axis: how many reads took how long on each side. Logarithmic."""
    used = sorted({*source.counts, *target.counts})
    if not used:
        return ""
    first, last = max(0, used[0] - 2), used[-1] + 3
    step = (WIDTH - _LEFT - 20) / (last - first)
    parts = []
    for row, (name, found, colour) in enumerate((("source", source, "--source"), ("target", target, "--target"))):
        base = 104 + 116 * row
        parts.append(_text(_LEFT - 8, base - 44, name, anchor="end"))
        parts.append(_text(_LEFT - 8, base - 28, f"{found.total:,} reads", anchor="end", muted=True))
        most = max(found.counts.values(), default=0)
        for index, count in sorted(found.counts.items()):
            height = 80 * count / most
            x = _LEFT + (index - first) * step
            said = f"{count:,} reads of {latency(_lower(index))} to {latency(_lower(index + 1))}"
            parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{base - height:.1f}" width="{max(1.0, step - 1):.1f}" height="{height:.1f}"'
                f' fill="var({colour})"><title>{escape(said)}</title></rect>'
            )
        median = found.percentile_s(50)
        if median is not None:
            x = _LEFT + (PER_DOUBLING * math.log2(median / SMALLEST_S) - first) * step
            parts.append(
                f'<line x1="{x:.1f}" y1="{base - 96}" x2="{x:.1f}" y2="{base}" stroke="currentColor" stroke-dasharray="3 3"/>'
            )
            parts.append(_text(x + 5, base - 88, f"median {latency(median)}"))
        parts.append(f'<line x1="{_LEFT}" y1="{base}" x2="{WIDTH - 20}" y2="{base}" stroke="var(--line)"/>')
    for tick in _TICKS_S:
        x = _LEFT + (PER_DOUBLING * math.log2(tick / SMALLEST_S) - first) * step
        if _LEFT <= x <= WIDTH - 20:
            parts.append(f'<line x1="{x:.1f}" y1="8" x2="{x:.1f}" y2="220" stroke="var(--line)" stroke-opacity="0.5"/>')
            parts.append(_text(x, 236, latency(tick), anchor="middle", muted=True))
    return _svg(244, "Latencies of the same reads on both sides", parts)


def _lower(index: int) -> float:
    return float(SMALLEST_S * 2 ** (index / PER_DOUBLING))


def stacked(slices: Sequence[Slice]) -> str:
    """Parts of a whole in one bar; the legend below it has the numbers."""
    whole = sum(each.amount for each in slices)
    if whole <= 0:
        return ""
    x, parts = 0.0, []
    for each in slices:
        width = WIDTH * each.amount / whole
        if width > 0:
            said = f"{each.label}: {each.amount:,.0f}"
            parts.append(
                f'<rect x="{x:.2f}" y="4" width="{max(2.0, width):.2f}" height="22" fill="var({each.colour})">'
                f"<title>{escape(said)}</title></rect>"
            )
        x += width
    return _svg(30, "; ".join(f"{each.label} {each.amount:,.0f}" for each in slices), parts)


def bars(rows: Sequence[tuple[str, float, str, str]]) -> str:
    """Horizontal bars on one scale: label, amount, what is written behind it, colour."""
    most = max((amount for _, amount, _, _ in rows), default=0.0)
    parts = []
    for row, (label, amount, said, colour) in enumerate(rows):
        y = 6 + 26 * row
        width = (WIDTH - _LEFT - 140) * amount / most if most else 0.0
        parts.append(_text(_LEFT - 8, y + 14, label, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{max(2.0, width):.1f}" height="18" rx="3" fill="var({colour})"/>'
        )
        parts.append(_text(_LEFT + width + 8, y + 14, said))
    return _svg(10 + 26 * len(rows), "; ".join(f"{label}: {said}" for label, _, said, _ in rows), parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", muted: bool = False) -> str:
    shade = ' class="muted"' if muted else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{shade}>{escape(text)}</text>' if text else ""


def _svg(height: float, told: str, parts: Sequence[str]) -> str:
    said = escape(told, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
