"""From the results to the table in ``docs/benchmarks.md``, between its markers, and to the plots.

    python -m bench.report

What the table says is what the results say: nothing is typed in by hand, and a goal that was missed is shown as missed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.outcome import HERE, RESULTS

DOCUMENT = HERE.parent / "docs" / "benchmarks.md"
IMAGES = HERE.parent / "docs" / "img"
CLAIMS = (
    "write",
    "ingest",
    "writers",
    "compaction",
    "amplification",
    "query",
    "cold",
    "refresh",
    "request_counts",
    "backfill",
    "shadow",
)
TITLES = {
    "write": "Acknowledged write",
    "ingest": "Ingest, 8 processes",
    "writers": "64 writers",
    "compaction": "Compaction",
    "amplification": "Bytes written a byte taken in",
    "query": "Warm query",
    "cold": "Cold start",
    "refresh": "Refresh after a change of 1 %",
    "request_counts": "Requests",
    "backfill": "Backfill",
    "shadow": "Shadow reads",
}


def read_results(directory: Path = RESULTS) -> list[dict[str, Any]]:
    """The results that are there, in the order of the claims."""
    return [json.loads(path.read_text()) for claim in CLAIMS if (path := directory / f"{claim}.json").exists()]


def table(results: list[dict[str, Any]]) -> str:
    """The table of all figures, in Markdown."""
    lines = ["| claim | measured | ours | peer | against | ratio | goal | |", "|---|---|--:|--:|---|--:|--:|---|"]
    for result in results:
        for figure in result["figures"]:
            lines += ["| " + " | ".join(_cells(result["claim"], figure)) + " |"]
    return "\n".join(lines)


def _cells(claim: str, figure: dict[str, Any]) -> list[str]:
    verdict = {True: "met", False: "**missed**", None: "peer not measured" if figure["peer"] is None else ""}[
        figure["passed"]
    ]
    goal = "" if figure["goal"] is None else figure["goal"].replace(">=", "≥").replace("<=", "≤") + " ×"
    goal = "0" if goal == "≤ 0 ×" else goal  # a number of faults
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.3g} ×"
    ours, peer = (_value(figure[side], figure["unit"]) for side in ("ours", "peer"))
    return [TITLES[claim], figure["name"], ours, peer, figure["against"], ratio, goal, verdict]


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
    if unit == "bytes":
        return f"{value / 1e6:,.2f} MB"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def conditions(results: list[dict[str, Any]]) -> str:
    """On what machine, with which versions, on which data and under which load each was measured, in Markdown."""
    lines = []
    machines = sorted(
        {
            f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}"
            for m in (r["machine"] for r in results)
        }
    )
    versions = sorted({", ".join(f"{name} {version}" for name, version in r["versions"].items()) for r in results})
    lines += [f"- machine: {each}" for each in machines]
    lines += [f"- versions: {each}" for each in versions]
    for result in results:
        load = f"{result['load_average_before'][0]:.1f} before, {result['load_average_after'][0]:.1f} after"
        lines.append(
            f"- {TITLES[result['claim']]}: {result['when'][:16].replace('T', ' ')} UTC, load average {load}; {result['data']}"
        )
    return "\n".join(lines)


def notes(results: list[dict[str, Any]]) -> str:
    """What each figure's own note says, in Markdown."""
    lines = []
    for result in results:
        for figure in result["figures"]:
            if figure["note"]:
                lines += [f"- {TITLES[result['claim']]}, {figure['name']}: {figure['note']}"]
    return "\n".join(lines)


def fill_markers(text: str, parts: dict[str, str]) -> str:
    """``text`` with what stands between ``<!-- name -->`` and ``<!-- end of name -->`` replaced; ``KeyError`` if one is gone."""
    for name, body in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise KeyError(f"the document has no markers for {name}")
        text = pattern.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)
    return text


def main() -> None:
    results = read_results()
    from bench.plots import draw  # matplotlib is an extra: the table does without it

    for result in results:
        if result["claim"] != "request_counts":  # ones and ones
            draw(result, IMAGES)
    parts = {"figures": table(results), "conditions": conditions(results), "notes": notes(results)}
    DOCUMENT.write_text(fill_markers(DOCUMENT.read_text(encoding="utf-8"), parts), encoding="utf-8")
    print(f"{len(results)} results, {sum(f['passed'] is False for r in results for f in r['figures'])} goals missed")


if __name__ == "__main__":
    main()
