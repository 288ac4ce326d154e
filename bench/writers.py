"""Claim: 64 writers on one collection lose nothing, duplicate nothing, and commit ten times as often as LanceDB on the same store.

Eight processes with eight threads each; every thread is a writer of its own, with its own connection, and commits 50 records a call for
as long as the bench lasts, on SeaweedFS. Then everything that was acknowledged is read back, from the overlay and again after folding.
Peer: the same topology with LanceDB's ``add``, in the environment that ``--lancedb PYTHON`` names (it is not a dependency).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.crew import work_together
from bench.dataset import synthetic
from bench.fill import COLLECTION, fold_all
from bench.outcome import Figure, Options, Outcome, rates_figure, run, say
from bench.servers import ACCESS_KEY, SECRET_KEY, Place, Seaweed, seaweed

from chromalith.wiring import Reader, Writer

PROCESSES, THREADS = 8, 8
CALL_ROWS = 50
GOAL = 10.0


def measure(options: Options) -> Outcome:
    seconds = 2.0 if options.small else 10.0
    ours: list[dict[str, Any]] = []
    peer: list[dict[str, Any]] = []
    with seaweed() as server:
        for _ in range(options.repetitions):
            ours.append(_ours(server.place(), seconds))
            say(f"writers: {ours[-1]}")
            if options.lancedb is not None:
                peer.append(_peer(options.lancedb, server, seconds))
                say(f"writers: LanceDB {peer[-1]}")
    rates = rates_figure(
        "64 writers on one collection, 50 records a commit",
        [found["commits_per_s"] for found in ours],
        [found["commits_per_s"] for found in peer],
        unit="commits/s",
        against="LanceDB `add` on the same store",
        goal=GOAL,
        note=f"commits that were acknowledged within the {seconds:g} s; {_note(peer)}",
    )
    broken = sum(found["lost"] + found["duplicated"] for found in ours)
    kept = Figure(
        "lost and duplicated records",
        float(broken),
        float(sum(found["lost"] + found["duplicated"] for found in peer)) if peer else None,
        "records",
        "LanceDB `add` on the same store",
        goal=0.0,
        note=f"of {sum(found['commits'] for found in ours) * CALL_ROWS:,} acknowledged records, read back by id",
    )
    sizes = {
        "writers": PROCESSES * THREADS,
        "processes": PROCESSES,
        "rows_a_commit": CALL_ROWS,
        "dimension": 384,
        "seconds": seconds,
    }
    if broken:
        raise AssertionError(f"acknowledged records were lost or duplicated: {ours}")
    return Outcome(
        "writers",
        "synthetic vectors around 500 centres, fixed seed",
        [rates, kept],
        sizes,
        {"ours": ours, "lancedb": peer or "not measured"},
    )


def _note(peer: list[dict[str, Any]]) -> str:
    if not peer:
        return "LanceDB was not measured: give --lancedb PYTHON"
    failed = sum(found["failed"] for found in peer)
    slowest = max(found["p99_ms"] for found in peer) / 1000
    return f"LanceDB: {failed} of {failed + sum(found['commits'] for found in peer)} calls failed, 99th percentile {slowest:.0f} s"


def _ours(place: Place, seconds: float) -> dict[str, Any]:
    with Writer(place.url, storage_options=place.options) as writer:
        writer.create(COLLECTION)
    _, reports = work_together(_commit, [(place, member, seconds) for member in range(PROCESSES)])
    latencies = [latency for report in reports for latency in report["latencies"]]
    acknowledged = Counter(name for report in reports for name in report["calls"])
    wanted = {f"{name}-{row}" for name in acknowledged for row in range(CALL_ROWS)}
    with Reader(place.url, storage_options=place.options) as reader:
        overlaid = Counter(reader.get(COLLECTION, include=()).ids)
    fold_all(place)
    with Reader(place.url, storage_options=place.options) as reader:
        folded = Counter(reader.get(COLLECTION, include=()).ids)
    return {
        "commits": len(latencies),
        "commits_per_s": round(sum(report["in_time"] for report in reports) / seconds, 1),
        "p50_ms": round(1000 * statistics.median(latencies), 1),
        "p99_ms": round(1000 * sorted(latencies)[int(0.99 * len(latencies))], 1),
        "lost": len(wanted - overlaid.keys()) + len(wanted - folded.keys()),
        "duplicated": overlaid.total() - len(overlaid) + folded.total() - len(folded),
        "unexpected": len((overlaid.keys() | folded.keys()) - wanted),
    }


def _commit(argument: tuple[Place, int, float], ready: Callable[[], None]) -> dict[str, Any]:
    place, member, seconds = argument
    data = synthetic(CALL_ROWS)
    writers = [Writer(place.url, storage_options=place.options) for _ in range(THREADS)]
    for writer in writers:
        writer._resolve(COLLECTION)
    latencies: list[float] = []
    in_time: list[bool] = []
    calls: list[str] = []
    ready()
    end = time.perf_counter() + seconds

    def work(thread: int) -> None:
        number = 0
        while time.perf_counter() < end:
            name = f"{member}-{thread}-{number}"
            start = time.perf_counter()
            writers[thread].upsert(
                COLLECTION, ids=[f"{name}-{row}" for row in range(CALL_ROWS)], embeddings=data.embeddings
            )
            ended = time.perf_counter()
            latencies.append(ended - start)
            in_time.append(ended <= end)
            calls.append(name)
            number += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    return {"latencies": latencies, "calls": calls, "in_time": sum(in_time)}


def _peer(python: str, server: Seaweed, seconds: float) -> dict[str, Any]:
    bucket = server.place().url
    request = {
        "uri": f"{bucket}/lance",
        "options": {
            "endpoint": server.endpoint, "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY,
            "aws_region": "us-east-1", "allow_http": "true",
        },
        "processes": PROCESSES, "threads": THREADS, "rows": CALL_ROWS, "seconds": seconds,
    }  # fmt: skip
    script = Path(__file__).with_name("lancedb_writers.py")
    found = subprocess.run(
        [python, str(script)], input=json.dumps(request), capture_output=True, text=True, timeout=900, check=True
    )
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    run("writers", measure, __doc__)
