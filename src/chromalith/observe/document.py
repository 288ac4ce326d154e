"""The generated parts of ``docs/metrics.md``: ``python -m chromalith.observe.document docs/metrics.md`` writes them anew.

They stand between the lines ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test compares them.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from chromalith.clock import ManualClock
from chromalith.model.ids import CollectionId
from chromalith.observe.emf import EmfObserver
from chromalith.observe.events import Compacted
from chromalith.observe.metrics import METRICS
from chromalith.observe.otel import UNITS

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def parts() -> Mapping[str, str]:
    """The generated parts, by name."""
    return {
        "table": _table("namespace · name", "unit", "look at", "what it says", "from", rows=_metrics()),
        "names": _table("in OpenTelemetry", "instrument", "unit", rows=_dotted()),
        "line": f"```json\n{_line()}\n```",
        "count": f"**{len(METRICS)} metrics** of one dimension: {len(METRICS)} custom metrics for each service.",
    }


def regenerated(text: str) -> str:
    """The document with its generated parts as they should be."""
    found = parts()
    return _PART.sub(lambda match: f"{match[1]}{found[match[2]]}\n{match[3]}", text)


def _metrics() -> Iterator[tuple[str, ...]]:
    for each in METRICS:
        source = ", ".join(f"`{name}`" for name in each.source.split(", "))
        yield f"`{each.namespace}` · `{each.name}`", each.unit, each.statistic, each.meaning, source


def _dotted() -> Iterator[tuple[str, ...]]:
    return ((f"`{each.dotted}`", each.shape, f"`{UNITS[each.unit]}`") for each in METRICS)


def _table(*columns: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line() -> str:
    """A line as one compaction writes it, broken for reading."""
    stream = io.StringIO()
    observe = EmfObserver("chromalith-dev", stream=stream, clock=ManualClock())
    observe(
        Compacted(
            collection=CollectionId("3f0c4a52-9a7e-4f0e-8f43-52c2ad1cf6a1"),
            seconds=1.75,
            published=1,
            deltas=120,
            lost_races=0,
            backlog=2,
            oldest_delta_s=1.5,
            quarantined=0,
            bytes_written=1_984_512,
            live=60_000,
            left=False,
        )
    )
    blob = json.loads(stream.getvalue())
    inner = blob["_aws"]["CloudWatchMetrics"][0]
    definitions = ",\n     ".join(json.dumps(each) for each in inner["Metrics"])
    head = (
        f'{{"_aws": {{"Timestamp": {blob["_aws"]["Timestamp"]}, "CloudWatchMetrics": [\n'
        f'   {{"Namespace": {json.dumps(inner["Namespace"])}, "Dimensions": {json.dumps(inner["Dimensions"])}, "Metrics": [\n'
        f"     {definitions}]}}]}},\n "
    )
    rest = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in blob.items() if name != "_aws")
    return f"{head}{rest}}}"


def main(path: str) -> None:
    """Write the generated parts of the document at ``path`` anew."""
    document = Path(path)
    document.write_text(regenerated(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
