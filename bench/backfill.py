"""Claim: a backfill, with all that makes it safe, is no slower than half the speed of merely reading its source.

200,000 records with documents and metadata, from a Chroma server and from a Chroma directory, into a directory store: the whole protocol
(ids kept, every chunk under an entry of the journal, a second look at the source). Peers, in the same run: reading alone,
``collection.get(limit=1000, offset=…)`` page by page with nothing written (which misses and repeats records when others write), and what
a script would do, such pages upserted into the same kind of store.

Each measurement is a process of its own: its peak memory is that of the whole process, libraries included, and with a directory also
Chroma's engine with its index.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.dataset import synthetic
from bench.outcome import WORK, Figure, Options, Outcome, rates_figure, run, say, work_directory
from bench.servers import chroma_server

from chromalith.chroma.directory_builder import build_directory
from chromalith.transfer.port import Batch, Definition, Sums

DIMENSION = 128
PAGE = 1_000
NAME = "words"
WORDS = 40
GOAL = 0.5


def measure(options: Options) -> Outcome:
    rows = 4_000 if options.small else 200_000
    source = _source_directory(rows)
    rates: dict[tuple[str, str], list[float]] = {}
    memory: dict[tuple[str, str], list[float]] = {}
    with work_directory("backfill") as work:
        served = work / "served"
        shutil.copytree(source, served)
        with chroma_server(served) as port:
            places = {"server": f"http://127.0.0.1:{port}", "directory": f"chroma:{source}"}
            for repetition in range(options.repetitions):
                for place, url in places.items():
                    for how in ("backfill", "paging", "script"):
                        found = _measured(how, url, work / f"store-{place}-{how}-{repetition}", rows)
                        rates.setdefault((place, how), []).append(rows / found["seconds"])
                        memory.setdefault((place, how), []).append(found["peak_mb"])
                        say(
                            f"backfill: {place} {how} {rows / found['seconds']:,.0f} records/s, {found['peak_mb']:,.0f} MB"
                        )
    figures: list[Figure] = []
    for place in ("server", "directory"):
        peak = statistics.median(memory[place, "backfill"])
        for how, against, goal in (
            ("paging", "`collection.get(limit, offset)` alone, nothing written", GOAL),
            ("script", "those pages upserted by a script, no journal", None),
        ):
            figures.append(
                rates_figure(
                    f"{rows:,} x {DIMENSION} from a Chroma {place}, against {'reading' if how == 'paging' else 'a script'}",
                    rates[place, "backfill"],
                    rates[place, how],
                    unit="records/s",
                    against=against,
                    goal=goal,
                    note=f"peak memory of the process {peak:,.0f} MB, of the peer's {statistics.median(memory[place, how]):,.0f} MB",
                )
            )
    sizes = {"records": rows, "dimension": DIMENSION, "document_words": WORDS, "page": PAGE}
    details = {"peak_mb": {f"{place} {how}": values for (place, how), values in memory.items()}}
    return Outcome(
        "backfill",
        f"synthetic: {rows} records of {DIMENSION} dimensions, documents of {WORDS} words",
        figures,
        sizes,
        details,
    )


class _Records:
    """The records as a source, to build a stock directory from."""

    name = NAME
    definition = Definition.of_space("l2")
    version = None
    sums: Sums | None = None

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def total(self) -> int | None:
        return self._rows

    def batches(self, rows: int) -> Iterator[Batch]:
        words = [f"word{number}" for number in range(2_000)]
        for start in range(0, self._rows, rows):
            count = min(rows, self._rows - start)
            data = synthetic(count, start=start, queries=1)
            documents: list[str | None] = [
                " ".join(words[(n * 31 + k * k * 7) % 2_000] for k in range(WORDS)) for n in range(start, start + count)
            ]
            metadatas: list[dict[str, Any] | None] = [*data.metadatas]
            yield Batch(data.ids, data.embeddings[:, :DIMENSION].copy(), documents, [None] * count, metadatas)


def _source_directory(rows: int) -> Path:
    """A stock Chroma directory with the records; built once, which takes minutes, and kept for the next run."""
    place = WORK / f"backfill-source-{rows}"
    if not (place / "whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        say(f"backfill: building a Chroma directory of {rows:,} records")
        build_directory(place / "chroma", _Records(rows))
        (place / "whole").touch()
    return place / "chroma"


def _measured(how: str, url: str, target: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.backfill", "--measure", how, url, str(target), str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1])
    found: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def _one(how: str, url: str, target: str, rows: int) -> None:
    """One measurement, in this process."""
    from chromalith.migrate.opening import open_side

    side = open_side(url, write=False)
    began = time.perf_counter()
    count = _backfill(url, side, target) if how == "backfill" else _pages(side, None if how == "paging" else target)
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    side.close()
    counted = count if how == "paging" else _count(target)  # afterwards: it reads all that was written
    if (count, counted) != (rows, rows):
        raise AssertionError(f"records are missing copied={count} counted={counted} wanted={rows}")
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def _backfill(url: str, source: Any, target: str) -> int:
    from chromalith.migrate.backfill import Backfill
    from chromalith.migrate.opening import open_side, side_name
    from chromalith.migrate.phases import Phase
    from chromalith.migrate.places import Place
    from chromalith.migrate.port import Sides
    from chromalith.migrate.state import State
    from chromalith.migrate.states import States
    from chromalith.store.url import open_store

    there = open_side(target)
    place = Place(open_store(target))
    States(place).create(State(place.name, side_name(url), side_name(target), phase=Phase.BACKFILL))
    outcome = Backfill(place, Sides(source, there)).run()
    there.close()
    return outcome.counts.copied


def _count(target: str) -> int:
    from chromalith.wiring import Reader

    with Reader(target) as reader:
        return reader.count(NAME)


def _pages(source: Any, target: str | None) -> int:
    """``collection.get`` page by page; each page upserted into ``target``, if there is one."""
    import chromadb

    import chromalith

    client = chromadb.api.client.Client.from_system(source.server._system)
    collection = client.get_collection(NAME, embedding_function=None)
    out = None if target is None else chromalith.Client(target).create_collection(NAME, embedding_function=None)
    count = 0
    while True:
        page: Any = collection.get(limit=PAGE, offset=count, include=["embeddings", "documents", "metadatas", "uris"])
        if not page["ids"]:
            return count
        count += len(page["ids"])
        if out is not None:
            out.upsert(page["ids"], page["embeddings"], page["metadatas"], page["documents"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _one(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        run("backfill", measure, __doc__)
