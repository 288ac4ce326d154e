"""Claim: an acknowledged write costs about what a raw PUT of the same bytes costs.

One writer, 1,000 x 384 with documents and metadata a call, against ``put(Absent)`` of the very bytes that the writer wrote, on the same
store. Each repetition is a pair: a write, and the raw PUT of its bytes. The goal is set for a store 100 ms away; what the writer
computes (validation, encoding) shows on a store that is not away at all, and is reported.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import time

from bench.dataset import Dataset, load
from bench.fill import create
from bench.outcome import Figure, Options, Outcome, run, say, times_figure, work_directory
from bench.servers import seaweed

from chromalith.clock import SYSTEM_CLOCK
from chromalith.model import layout
from chromalith.session import Session
from chromalith.store.port import Absent, Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import LatencyStore

ROWS = 1_000
LATENCY_S = 0.1
GOAL = 1.3


def measure(options: Options) -> Outcome:
    pairs = 3 if options.small else 40
    data = load(options.data, 3 * ROWS if options.small else 20 * ROWS)
    figures = []
    with work_directory("write") as directory, seaweed() as server:
        here = open_store(str(directory / "store"))
        there, distant = (
            open_store(place.url, storage_options=place.options) for place in (server.place(), server.place())
        )
        distant = LatencyStore(distant, SYSTEM_CLOCK, LATENCY_S)
        for name, store, goal, note in (
            ("directory", here, None, "reported: both sides end with fsync; the writer also validates and encodes"),
            ("SeaweedFS, loopback", there, None, "reported: no distance hides what the writer computes"),
            (
                "SeaweedFS, 100 ms away",
                distant,
                GOAL,
                "each request takes 100 ms more; the PUT and the conditional GET overlap",
            ),
        ):
            say(f"write: {name}")
            figures.append(_pairs(name, store, data, pairs, goal, note))
        profile = _profile(open_store(str(directory / "profiled")), data)
    sizes = {"rows_a_call": ROWS, "dimension": 384, "pairs": pairs}
    return Outcome("write", data.source, figures, sizes, {"profile_of_a_write_on_a_directory": profile})


def _pairs(name: str, store: Store, data: Dataset, pairs: int, goal: float | None, note: str) -> Figure:
    session = Session(store)
    cid = create(session)
    ours, peer = [], []
    calls = list(data.calls(ROWS))
    for number in range(pairs + 1):
        columns = calls[number % len(calls)]
        start = time.perf_counter()
        receipt = session.writer.write(cid, "upsert", **columns)
        written = time.perf_counter() - start
        body = store.get(layout.delta_key(cid, receipt.delta)).body
        start = time.perf_counter()
        store.put(f"probe/raw-{number}", body, Absent())
        put = time.perf_counter() - start
        if number:  # the first pair also fixes the dimension and opens connections
            ours.append(written)
            peer.append(put)
    session.close()
    return times_figure(name, ours, peer, against="a raw PUT of the same bytes", at_most=goal, note=note)


def _profile(store: Store, data: Dataset) -> list[str]:
    session = Session(store)
    cid = create(session)
    session.writer.write(cid, "upsert", **data.columns(0, ROWS))
    profiler = cProfile.Profile()
    profiler.enable()
    for columns in list(data.calls(ROWS))[:10]:
        session.writer.write(cid, "upsert", **columns)
    profiler.disable()
    session.close()
    return top(profiler)


def top(profiler: cProfile.Profile, count: int = 14) -> list[str]:
    """The functions with the most time of their own, as lines ``seconds calls function``."""
    profiler.create_stats()
    stats = pstats.Stats(profiler, stream=io.StringIO())
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:count]  # type: ignore[attr-defined]
    lines = []
    for (path, line, function), (_, calls, own, _, _) in rows:
        where = "/".join(path.split("/")[-2:]) if line else ""
        lines.append(
            f"{own:.4f} s {calls} x {where}:{line} {function}" if where else f"{own:.4f} s {calls} x {function}"
        )
    return lines


if __name__ == "__main__":
    run("write", measure, __doc__)
