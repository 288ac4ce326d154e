"""Claim: a warm query through the ``chromadb`` client is 2 times as fast as stock Chroma's, 10 with a filter, 3 with ``$contains``.

Both sides are used through the same client class and the same call, one query at a time, ten results with documents and metadata. The
queries are questions and held-out records. Recall is against exact distances over the records that pass the filter. Peer:
``PersistentClient`` with its default settings. Ours: a directory at the default level, which looks for new writes before each answer;
SeaweedFS at ``INDEX_ONLY``, which does not, and at the default level, are reported beside it.
"""

from __future__ import annotations

import cProfile
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.compaction import chroma_upserts
from bench.dataset import Dataset, load
from bench.fill import fill
from bench.outcome import Figure, Options, Outcome, run, say, work_directory
from bench.servers import Place, seaweed
from bench.write import top

from chromalith.client.client import Client

K = 10
EXACT_QUERIES_MAX = 200


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of query: its filters as the client takes them and as a predicate for the ground truth, and how much faster it must be."""

    name: str
    filters: dict[str, Any]
    passes: Callable[[str, dict[str, Any]], bool]
    goal: float


CASES = (
    Case("no filter", {}, lambda document, metadata: True, 2.0),
    Case(
        "section = science",
        {"where": {"section": "science"}},
        lambda document, metadata: metadata["section"] == "science",
        10.0,
    ),
    Case(
        "installed_kib > 1000",
        {"where": {"installed_kib": {"$gt": 1000}}},
        lambda document, metadata: metadata["installed_kib"] > 1000,
        10.0,
    ),
    Case(
        "$contains library",
        {"where_document": {"$contains": "library"}},
        lambda document, metadata: "library" in document,
        3.0,
    ),
)


def measure(options: Options) -> Outcome:
    rows = 12_000 if options.small else 60_000
    data = load(options.data, rows)
    queries = data.queries[: 12 if options.small else EXACT_QUERIES_MAX]
    with work_directory("query") as directory, seaweed() as server:
        say("query: filling both sides")
        chroma_upserts(directory / "chroma", data)
        places = {"directory": Place(str(directory / "store")), "seaweed": server.place()}
        for place in places.values():
            fill(place, data)
        sides = {
            "chroma": _chroma(directory / "chroma"),
            "directory": _ours(places["directory"], directory / "cache", "INDEX_AND_WAL"),
            "SeaweedFS at INDEX_ONLY": _ours(places["seaweed"], directory / "cache", "INDEX_ONLY"),
            "SeaweedFS at the default level": _ours(places["seaweed"], directory / "cache-2", "INDEX_AND_WAL"),
        }
        figures, details = [], {}
        for case in CASES:
            found, details[case.name] = _case(case, sides, queries, data, options.repetitions)
            figures += found
        profiles = {case.name: _profile(sides["directory"], case, queries) for case in CASES}
    sizes = {"records": rows, "dimension": 384, "queries": len(queries), "n_results": K}
    return Outcome("query", data.source, figures, sizes, {"cases": details, "profiles": profiles})


def _chroma(directory: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(directory), settings=Settings(anonymized_telemetry=False)).get_collection(
        "words"
    )


def _ours(place: Place, cache: Path, level: str) -> Any:
    client = Client(place.url, storage_options=place.options, cache_dir=cache, read_level=level)
    return client.get_collection("words")


def _case(
    case: Case, sides: dict[str, Any], queries: np.ndarray, data: Dataset, repetitions: int
) -> tuple[list[Figure], dict[str, Any]]:
    passing = np.array([case.passes(*row) for row in zip(data.documents, data.metadatas, strict=True)])
    truth = [_nearest(data, passing, query) for query in queries]
    p50: dict[str, list[float]] = {name: [] for name in sides}
    p95: dict[str, list[float]] = {name: [] for name in sides}
    recall: dict[str, float] = {}
    for side in sides.values():
        for query in queries[:3]:
            _ask(side, query, case)
    for _ in range(repetitions):
        for name, side in sides.items():
            times, answers = [], []
            for query in queries:
                start = time.perf_counter()
                answer = _ask(side, query, case)
                times.append(time.perf_counter() - start)
                answers.append(set(answer["ids"][0]))
            p50[name].append(float(np.percentile(times, 50)))
            p95[name].append(float(np.percentile(times, 95)))
            recall[name] = round(sum(len(a & b) for a, b in zip(answers, truth, strict=True)) / sum(map(len, truth)), 4)
    say(f"query: {case.name}: " + ", ".join(f"{name} {1000 * statistics.median(p50[name]):.2f} ms" for name in sides))
    figures = []
    for name in list(sides)[1:]:
        goal = None if name.endswith("default level") else case.goal
        worse = recall[name] < recall["chroma"]
        note = f"recall@{K} {recall[name]:.3f}, Chroma's {recall['chroma']:.3f}" + (
            ": below the peer's" if worse else ""
        )
        figures.append(
            Figure(
                f"{case.name}, {name}", statistics.median(p50[name]), statistics.median(p50["chroma"]),
                "s", "stock Chroma, `PersistentClient`",
                goal=goal, at_least=True, inverse=True, repetitions={"ours": p50[name], "peer": p50["chroma"]}, note=note,
            )
        )  # fmt: skip
    summary = {
        name: {"p50_ms": _ms(p50[name]), "p95_ms": _ms(p95[name]), f"recall@{K}": recall[name]} for name in sides
    }
    return figures, {"passing": round(float(passing.mean()), 4), "sides": summary}


def _ask(side: Any, query: np.ndarray, case: Case) -> Any:
    return side.query(query_embeddings=query[None, :], n_results=K, **case.filters)


def _nearest(data: Dataset, passing: np.ndarray, query: np.ndarray) -> set[str]:
    distances = ((data.embeddings - query) ** 2).sum(axis=1, dtype=np.float64)
    distances[~passing] = np.inf
    order = np.argsort(distances, kind="stable")[:K]
    return {data.ids[row] for row in order.tolist() if np.isfinite(distances[row])}


def _profile(side: Any, case: Case, queries: np.ndarray) -> list[str]:
    profiler = cProfile.Profile()
    profiler.enable()
    for query in queries[:50]:
        _ask(side, query, case)
    profiler.disable()
    return top(profiler)


def _ms(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 3)


if __name__ == "__main__":
    run("query", measure, __doc__)
