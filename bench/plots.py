"""One plot a claim: ours beside the peer, on a logarithmic scale because the goals are ratios; written to ``docs/img``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS, PEER, GRID = "#20639b", "#b8b8b8", "#e4e4e4"


def draw(result: dict[str, Any], directory: Path) -> Path:
    """Draw one result; returns the file."""
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"bench-{result['claim'].replace('_', '-')}.png"
    curve = result["details"].get("curve")
    figure = _curve(result, curve) if curve else _bars(result)
    # Without the date and version that matplotlib adds, the same figures give the same file.
    figure.savefig(place, dpi=100, metadata={"Software": None})
    plt.close(figure)
    return place


def _bars(result: dict[str, Any]) -> Any:
    shown = [each for each in result["figures"] if each["peer"] and each["ours"]]
    unit = shown[0]["unit"] if shown else ""
    scale, unit = (1000.0, "ms") if unit == "s" else (1.0, unit)
    figure, axes = plt.subplots(figsize=(8.0, 1.2 + 0.62 * len(shown)), layout="constrained")
    for position, each in enumerate(shown):
        for offset, side, colour in ((-0.19, "peer", PEER), (0.19, "ours", OURS)):
            value = scale * each[side]
            axes.barh(position - offset, value, 0.36, color=colour)
            axes.annotate(
                f" {value:,.3g}" if value < 1000 else f" {value:,.0f}",
                (value, position - offset),
                va="center",
                fontsize=8,
            )
    axes.set_yticks(range(len(shown)), [each["name"] for each in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (OURS, PEER)]
    against = sorted({each["against"].replace("`", "") for each in shown})
    figure.legend(
        handles, ["Chromalith", " / ".join(against)], loc="outside upper right", ncols=2, fontsize=8, frameon=False
    )
    return figure


def _curve(result: dict[str, Any], curve: list[list[float]]) -> Any:
    figure, axes = plt.subplots(figsize=(8.0, 3.0), layout="constrained")
    axes.plot([point[0] for point in curve], [point[1] for point in curve], color=OURS, label="Chromalith")
    axes.axhline(6, color="#c0392b", linewidth=1, linestyle="--", label="goal")
    axes.set_ylim(0, 7)
    axes.set_xlabel("records", fontsize=8)
    axes.set_ylabel("bytes written a byte taken in", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
