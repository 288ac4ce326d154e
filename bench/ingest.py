"""Claim: eight writer processes take in fifty times what a Chroma server takes in from eight clients.

The same records, 500 a call, to one collection. Ours: eight processes with a ``Writer`` each, no server; the clock stops when the last call
is acknowledged, which means durable, and a count at the default level then sees every record (and is timed too). Peer: eight
processes with an ``HttpClient`` each, to ``chroma run`` on a directory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.crew import work_together
from bench.dataset import Dataset, load
from bench.outcome import Options, Outcome, rates_figure, run, say, timed, work_directory
from bench.servers import Place, chroma_server, seaweed

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import NotFound
from chromalith.model.delta import encode_delta
from chromalith.model.ids import CollectionId
from chromalith.model.operation import Op
from chromalith.store.port import Absent
from chromalith.store.url import open_store
from chromalith.wiring import Reader, Writer
from chromalith.write.validate import operations

PROCESSES = 8
CALL_ROWS = 500
GOAL = 50.0


def measure(options: Options) -> Outcome:
    rows = 4_000 if options.small else 60_000
    data = load(options.data, rows)
    rates: dict[str, list[float]] = {"directory": [], "seaweed": [], "chroma": []}
    counted: dict[str, list[float]] = {"directory": [], "seaweed": []}
    raw: dict[str, list[float]] = {"directory": [], "seaweed": []}
    with work_directory("ingest") as directory, seaweed() as server:
        for repetition in range(options.repetitions):
            for name in ("directory", "seaweed"):
                place = Place(str(directory / f"store-{repetition}")) if name == "directory" else server.place()
                took, until_counted = _ours(place, data, options)
                rates[name].append(rows / took)
                counted[name].append(rows / until_counted)
                raw[name].append(rows / _raw(place, data, options))
                say(f"ingest: {name} {rows / took:,.0f} records/s, {rows / until_counted:,.0f} until counted, raw {raw[name][-1]:,.0f}")
            rates["chroma"].append(rows / _peer(data, options))
            say(f"ingest: chroma run {rates['chroma'][-1]:,.0f} records/s")
    figures = []
    for name, title in (("directory", "directory"), ("seaweed", "SeaweedFS, loopback")):
        ceiling = statistics.median(raw[name])
        for ours, until, goal in (
            (rates, "until the last acknowledgement", GOAL),
            (counted, "until a count at the default level saw all", None),
        ):
            figures.append(
                rates_figure(
                    f"{title}, {until}",
                    ours[name],
                    rates["chroma"],
                    unit="records/s",
                    against="`chroma run`, 8 HTTP clients",
                    goal=goal,
                    note=f"the same processes with raw PUTs of the same bytes, nothing validated or encoded: {ceiling:,.0f} records/s",
                )
            )
    sizes = {"records": rows, "dimension": 384, "rows_a_call": CALL_ROWS, "processes": PROCESSES}
    return Outcome("ingest", data.source, figures, sizes, {"raw_puts_records_per_s": raw})


def _slices(rows: int) -> list[tuple[int, int]]:
    share = rows // PROCESSES
    return [(share * member, share * (member + 1) if member < PROCESSES - 1 else rows) for member in range(PROCESSES)]


def _ours(place: Place, data: Dataset, options: Options) -> tuple[float, float]:
    """Seconds until all was acknowledged, and until a fresh reader had counted it."""
    with Writer(place.url, storage_options=place.options) as writer:
        writer.create("words")
    took, _ = work_together(
        _write, [(place, options.data, len(data), start, stop) for start, stop in _slices(len(data))]
    )
    with Reader(place.url, storage_options=place.options) as reader:
        counts: list[int] = []
        counting = timed(lambda: counts.append(reader.count("words")))
    if counts != [len(data)]:
        raise AssertionError(f"acknowledged records are missing counted={counts[0]} acknowledged={len(data)}")
    return took, took + counting


def _raw(place: Place, data: Dataset, options: Options) -> float:
    """Seconds that the same processes take for PUTs of the same bytes: what the store and the machine allow."""
    took, _ = work_together(_put, [(place, options.data, len(data), start, stop) for start, stop in _slices(len(data))])
    return took


def _peer(data: Dataset, options: Options) -> float:
    with chroma_server() as port:
        _chroma(port).create_collection("words")
        took, _ = work_together(
            _upsert, [(port, options.data, len(data), start, stop) for start, stop in _slices(len(data))]
        )
        count = _chroma(port).get_collection("words").count()
    if count != len(data):
        raise AssertionError(f"the peer lost records counted={count} acknowledged={len(data)}")
    return took


def _write(argument: tuple[Place, Path | None, int, int, int], ready: Callable[[], None]) -> int:
    place, directory, rows, start, stop = argument
    data = load(directory, rows)
    calls = [data.columns(at, min(at + CALL_ROWS, stop)) for at in range(start, stop, CALL_ROWS)]
    with Writer(place.url, storage_options=place.options) as writer:
        writer._resolve("words")
        ready()
        for columns in calls:
            writer.upsert("words", **columns)
    return stop - start


def _put(argument: tuple[Place, Path | None, int, int, int], ready: Callable[[], None]) -> int:
    place, directory, rows, start, stop = argument
    data = load(directory, rows)
    cid = CollectionId(SYSTEM_CLOCK.random_uuid())
    batches = [operations(Op.UPSERT, **data.columns(at, min(at + CALL_ROWS, stop))) for at in range(start, stop, CALL_ROWS)]
    bodies = [encode_delta(cid, batch) for batch in batches]
    store = open_store(place.url, storage_options=place.options)
    with suppress(NotFound):
        store.head("probe/connect")
    ready()
    for number, body in enumerate(bodies):
        store.put(f"probe/{cid}-{number}", body, Absent())
    return stop - start


def _upsert(argument: tuple[int, Path | None, int, int, int], ready: Callable[[], None]) -> int:
    port, directory, rows, start, stop = argument
    data = load(directory, rows)
    calls = [data.columns(at, min(at + CALL_ROWS, stop)) for at in range(start, stop, CALL_ROWS)]
    collection = _chroma(port).get_collection("words")
    ready()
    for columns in calls:
        collection.upsert(**columns)
    return stop - start


def _chroma(port: int) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.HttpClient(host="127.0.0.1", port=port, settings=Settings(anonymized_telemetry=False))


if __name__ == "__main__":
    run("ingest", measure, __doc__)
