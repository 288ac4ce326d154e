"""Measure the engine alone: build, warm queries with and without filters, recall, and where the index begins to pay.

    python bench/engine.py RECORDS.parquet QUERIES.parquet [--rows 60000] [--skip-threshold]

RECORDS has columns id, document, metadata (JSON) and embedding; QUERIES has embedding. Without files, clustered synthetic
vectors with a fixed seed are used, whose recall says less. Prints JSON; goals are those of docs/decisions/0003.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.engine.index import IndexConfig, VectorIndex, check_index
from chromalith.engine.part import ArrowPart
from chromalith.engine.search import Hit, search
from chromalith.engine.usearch_index import build_index, open_index

K = 10
FILTERS: dict[str, dict[str, Any]] = {
    "no filter": {},
    "section = science": {"where": {"section": "science"}},
    "installed_kib > 10000": {"where": {"installed_kib": {"$gt": 10_000}}},
    "section in perl, python": {"where": {"section": {"$in": ["perl", "python"]}}},
    "installed_kib > 1000": {"where": {"installed_kib": {"$gt": 1000}}},
    "installed_kib > 250": {"where": {"installed_kib": {"$gt": 250}}},
    "$contains library": {"where_document": {"$contains": "library"}},
    "$contains compiler": {"where_document": {"$contains": "compiler"}},
    "$regex lib\\w+-dev": {"where_document": {"$regex": r"lib\w+-dev"}},
}


def load(records: str | None, queries: str | None, rows: int) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    if records is None or queries is None:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((200, 384)).astype(np.float32)
        vectors = centres[rng.integers(0, 200, rows)] + 0.3 * rng.standard_normal((rows, 384)).astype(np.float32)
        wanted = centres[rng.integers(0, 200, 30)] + 0.3 * rng.standard_normal((30, 384)).astype(np.float32)
        sections = ["science", "perl", "python", "libs", "games"]
        table = pa.table(
            {
                "id": [f"r{i}" for i in range(rows)],
                "document": [f"library number {i} of the compiler" if i % 9 == 0 else f"text {i}" for i in range(rows)],
                "metadata": [json.dumps({"section": sections[i % 5], "installed_kib": i % 3000}) for i in range(rows)],
            }
        )
        return table, vectors, wanted
    table = pq.read_table(records).slice(0, rows)
    return table, matrix(table["embedding"]), matrix(pq.read_table(queries)["embedding"])


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.reshape(len(column), -1), dtype=np.float32)


def part_of(table: pa.Table, vectors: np.ndarray, index: VectorIndex | None) -> ArrowPart:
    rows = len(vectors)
    column = {name: table[name].combine_chunks() for name in ("id", "document", "metadata")}
    return ArrowPart(
        seq=np.arange(rows, dtype=np.int64),
        ids=column["id"],
        vectors=vectors,
        documents=column["document"],
        metadata=column["metadata"],
        index=index,
    )


def timed(run: Callable[[np.ndarray], list[list[Hit]]], queries: np.ndarray) -> tuple[dict[str, float], list[set[int]]]:
    run(queries[:1])
    times, found = [], []
    for i in range(len(queries)):
        start = time.perf_counter()
        hits = run(queries[i : i + 1])[0]
        times.append(1000 * (time.perf_counter() - start))
        found.append({hit.row for hit in hits})
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}, found


def recall(found: list[set[int]], truth: list[set[int]]) -> float:
    wanted = sum(len(rows) for rows in truth)
    return round(sum(len(a & b) for a, b in zip(found, truth, strict=True)) / max(wanted, 1), 4)


def measure(
    table: pa.Table, vectors: np.ndarray, queries: np.ndarray, config: IndexConfig, place: Path
) -> dict[str, Any]:
    start = time.perf_counter()
    build_index(vectors, "l2", place, config)
    built = time.perf_counter() - start
    start = time.perf_counter()
    index = open_index(place, "l2", config)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    check_index(index, vectors, "l2")
    checked = time.perf_counter() - start
    part = part_of(table, vectors, index)
    start = time.perf_counter()
    part.columns()
    exploded = time.perf_counter() - start
    results = {}
    for name, filters in FILTERS.items():
        _, truth = timed(lambda q, f=filters: search([part], q, K, "l2", exact=True, **f), queries)
        timing, found = timed(lambda q, f=filters: search([part], q, K, "l2", **f), queries)
        results[name] = timing | {"recall": recall(found, truth)}
    return {
        "rows": len(vectors),
        "build_records_per_s": round(len(vectors) / built),
        "index_mb": round(place.stat().st_size / 1e6, 1),
        "open_ms": round(1000 * opened, 2),
        "check_ms": round(1000 * checked, 1),
        "explode_s": round(exploded, 3),
        "queries": results,
    }


def threshold(table: pa.Table, vectors: np.ndarray, queries: np.ndarray, config: IndexConfig, place: Path) -> list[Any]:
    found = []
    for rows in (1_000, 5_000, 10_000, 20_000, 60_000):
        if rows > len(vectors):
            break
        some = np.ascontiguousarray(vectors[:rows])
        start = time.perf_counter()
        build_index(some, "l2", place, config)
        built = time.perf_counter() - start
        part = part_of(table.slice(0, rows), some, open_index(place, "l2", config))
        exact, truth = timed(lambda q, p=part: search([p], q, K, "l2", exact=True), queries)
        indexed, rows_found = timed(lambda q, p=part: search([p], q, K, "l2"), queries)
        found.append(
            {
                "rows": rows,
                "build_s": round(built, 2),
                "exact": exact,
                "index": indexed | {"recall": recall(rows_found, truth)},
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="?")
    parser.add_argument("queries", nargs="?")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--skip-threshold", action="store_true")
    arguments = parser.parse_args()
    table, vectors, queries = load(arguments.records, arguments.queries, arguments.rows)
    queries = np.concatenate([queries] * max(1, 120 // len(queries)))
    config = IndexConfig()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "index.usearch"
        result: dict[str, Any] = {"engine": measure(table, vectors, queries, config, place)}
        if not arguments.skip_threshold:
            result["threshold"] = threshold(table, vectors, queries, config, place)
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
