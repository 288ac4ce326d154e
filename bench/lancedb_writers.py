"""The peer of ``bench/writers.py``: the same writers on one LanceDB table. Runs in an environment of its own, with lancedb and numpy only.

Reads its request as JSON on stdin, prints one JSON object.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections import Counter
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

DIMENSION = 384
SCHEMA = pa.schema({"id": pa.string(), "vector": pa.list_(pa.float32(), DIMENSION)})


def member(request: dict[str, Any], number: int, barrier: Any, reports: Any) -> None:
    vectors = np.random.default_rng(number).standard_normal((request["rows"], DIMENSION), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
    tables = [
        lancedb.connect(request["uri"], storage_options=request["options"]).open_table("words")
        for _ in range(request["threads"])
    ]
    latencies: list[float] = []
    in_time: list[bool] = []
    calls: list[str] = []
    failures: list[str] = []
    barrier.wait(300)
    end = time.perf_counter() + request["seconds"]

    def work(thread: int) -> None:
        count = 0
        while time.perf_counter() < end:
            name = f"{number}-{thread}-{count}"
            ids = pa.array([f"{name}-{row}" for row in range(request["rows"])])
            start = time.perf_counter()
            try:
                tables[thread].add(pa.table([ids, column], schema=SCHEMA))
            except Exception as error:
                failures.append(str(error).partition(", /")[0][:160])  # without where it was compiled
            else:
                ended = time.perf_counter()
                latencies.append(ended - start)
                in_time.append(ended <= end)
                calls.append(name)
            count += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(request["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports.put((latencies, calls, failures, sum(in_time)))


def main() -> None:
    request = json.load(sys.stdin)
    lancedb.connect(request["uri"], storage_options=request["options"]).create_table("words", schema=SCHEMA)
    context = multiprocessing.get_context("spawn")
    barrier, reports = context.Barrier(request["processes"]), context.SimpleQueue()
    members = [context.Process(target=member, args=(request, n, barrier, reports)) for n in range(request["processes"])]
    for each in members:
        each.start()
    found = [reports.get() for _ in members]
    for each in members:
        each.join()
    latencies = [latency for report in found for latency in report[0]]
    wanted = {f"{name}-{row}" for report in found for name in report[1] for row in range(request["rows"])}
    table = lancedb.connect(request["uri"], storage_options=request["options"]).open_table("words")
    stored = Counter(table.to_arrow().column("id").to_pylist())
    print(
        json.dumps(
            {
                "commits": len(latencies),
                "commits_per_s": round(sum(report[3] for report in found) / request["seconds"], 1),
                "p50_ms": round(1000 * statistics.median(latencies), 1),
                "p99_ms": round(1000 * sorted(latencies)[int(0.99 * len(latencies))], 1),
                "failed": sum(len(report[2]) for report in found),
                "failure": next((report[2][0] for report in found if report[2]), None),
                "lost": len(wanted - stored.keys()),
                "duplicated": stored.total() - len(stored),
            }
        )
    )


if __name__ == "__main__":
    main()
