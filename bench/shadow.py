"""Claim: shadow reads of every call, on a target that takes 200 ms a call, add less than 5 % to the median of the
callers' reads.

Source: a stock Chroma server. Target: a directory store with the same records, whose reads take 200 ms more: in one
case they sleep, in another they compute, which is the worst there is, because Python runs one thread at a time; in a
third it is as fast as it is. One caller asks one query after another, so nothing is hidden by waiting. The peer is the
same client with shadow reads of no call; the plain ``HttpClient`` is beside it. All take turns in one process, in
another order each round, each with a new client; what the one before it did behind its caller's back is over by then.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from bench.dataset import Dataset, load
from bench.fill import COLLECTION, fill
from bench.outcome import Figure, Options, Outcome, run, say, times_figure, work_directory
from bench.servers import Place, chroma_server
from chromadb.config import Settings

from chromalith.client.client import Client
from chromalith.migrate.client.open import MigratingClient, core_of
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place as Migration
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.shadow import Shadow
from chromalith.migrate.shadow_stats import Counts
from chromalith.migrate.state import Percent, SideName, State
from chromalith.migrate.states import States
from chromalith.store.url import open_store

SLOW_S = 0.2
K = 10
GOAL = 1.05
WARM = 20
VERBS: dict[str, Callable[[Any, Dataset, int], Any]] = {
    "query": lambda collection, data, n: collection.query(query_embeddings=data.queries[n % len(data.queries)][None], n_results=K),
    "get": lambda collection, data, n: collection.get(ids=data.ids[n * K % (len(data) - K) :][:K]),
}  # fmt: skip


def sleeping() -> None:
    time.sleep(SLOW_S)


def as_it_is() -> None:
    """Nothing more."""


def computing() -> None:
    """Holds the interpreter for as long, as long as others let it."""
    stop = time.thread_time() + SLOW_S
    while time.thread_time() < stop:
        sum(range(1_000))


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of client; ``shadow`` is its percentage, ``slow`` what each read of the target does first; ``None``: no migration at all."""

    name: str
    shadow: float | None
    slow: Callable[[], None] = sleeping


PLAIN = Case("HttpClient", None)
NONE = Case("shadow 0 %", 0.0)
SLEEPS = Case("shadow 100 %, target sleeps 200 ms", 100.0)
COMPUTES = Case("shadow 100 %, target computes 200 ms", 100.0, computing)
FAST = Case("shadow 100 %, target as it is", 100.0, as_it_is)


@dataclass(frozen=True, slots=True)
class Turns:
    """Cases that take turns, each for ``block_s`` a verb. A block must be as long as a shadow works and pauses, or it shows only one
    of both: what computes for 200 ms on each of two workers pauses for 8 s at its share of 5 %."""

    name: str
    cases: tuple[Case, ...]
    verbs: tuple[str, ...]
    block_s: float
    rounds: int


@dataclass(slots=True)
class Times:
    """Of one case and verb, seconds: of each call, and the median of each round."""

    calls: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)


def measure(options: Options) -> Outcome:
    rows = 1_000 if options.small else 5_000
    short, long_ = (0.2, 1.0) if options.small else (1.0, 9.0)
    many, few = (2, 1) if options.small else (10 * options.repetitions, 2 * options.repetitions)
    turns = (
        Turns("short", (PLAIN, NONE, SLEEPS, FAST), ("query", "get"), short, many),
        Turns("long", (NONE, COMPUTES), ("query",), long_, few),
    )
    data = load(options.data, rows)
    times: dict[tuple[str, str, str], Times] = {}
    counts = {case.name: Counts() for case in (PLAIN, NONE, SLEEPS, FAST, COMPUTES)}
    with work_directory("shadow") as directory, chroma_server() as port:
        say("shadow: filling both sides")
        fill(Place(str(directory / "target")), data)
        collection = _http(port).get_or_create_collection(COLLECTION)
        for columns in data.calls(1_000):
            collection.upsert(**columns)
        for each in turns:
            for number in range(each.rounds):
                for case in each.cases if number % 2 else reversed(each.cases):
                    with _client(case, port, directory) as client:
                        for verb in each.verbs:
                            _block(
                                client,
                                VERBS[verb],
                                data,
                                each.block_s,
                                times.setdefault((each.name, case.name, verb), Times()),
                            )
                    if case.shadow is not None:
                        counts[case.name] += core_of(client).shadow.stats().total
                medians = ", ".join(
                    f"{c.name} {1000 * times[each.name, c.name, 'query'].rounds[-1]:.2f} ms" for c in each.cases
                )
                say(f"shadow: round {number + 1} of {each.rounds}: {medians}")
        offering = _offering(directory, data)
    figures = [
        _figure(each, verb, case, peer, goal, times, counts)
        for each in turns
        for verb in each.verbs
        for case, peer, goal in (
            (SLEEPS, NONE, GOAL),
            (FAST, NONE, GOAL),
            (COMPUTES, NONE, GOAL),
            (SLEEPS, PLAIN, GOAL),
            (NONE, PLAIN, None),
        )
        if case in each.cases and peer in each.cases
    ]
    sizes = {
        "records": rows,
        "dimension": 384,
        "rounds": many,
        "block_s": short,
        "long_rounds": few,
        "long_block_s": long_,
        "n_results": K,
    }
    return Outcome("shadow", data.source, figures, sizes, _details(times, counts) | {"offer_us": offering})


def _figure(
    turns: Turns,
    verb: str,
    case: Case,
    peer: Case,
    goal: float | None,
    times: dict[tuple[str, str, str], Times],
    counts: dict[str, Counts],
) -> Figure:
    ours, theirs = (times[turns.name, each.name, verb] for each in (case, peer))
    p99 = [1000 * float(np.percentile(each.calls, 99)) for each in (ours, theirs)]
    note = f"p99 {p99[0]:.1f} ms, the peer's {p99[1]:.1f} ms; {_told(counts[case.name])}"
    name = f"{verb}, {case.name}"
    return times_figure(name, ours.rounds, theirs.rounds, against=_peer(peer), at_most=goal, note=note)


def _peer(case: Case) -> str:
    return "stock Chroma's `HttpClient`" if case is PLAIN else "the migrating client with shadow reads of no call"


def _told(counts: Counts) -> str:
    if not counts.judged and not counts.dropped:
        return "no shadow reads"
    offered, agreed = counts.judged + counts.dropped, counts.matches + counts.lag
    return f"of {offered} reads {counts.judged} were compared, {agreed} agreed, {counts.dropped} were dropped"


def _block(client: Any, ask: Callable[[Any, Dataset, int], Any], data: Dataset, block_s: float, times: Times) -> None:
    collection = client.get_collection(COLLECTION)
    for number in range(WARM):
        ask(collection, data, number)
    took: list[float] = []
    end = time.perf_counter() + block_s
    while (start := time.perf_counter()) < end:
        ask(collection, data, len(took))
        took.append(time.perf_counter() - start)
    times.calls += took
    times.rounds.append(statistics.median(took))


@contextmanager
def _client(case: Case, port: int, directory: Path) -> Iterator[Any]:
    """A client of its own for one block; when it is gone, so is what it did behind the caller's back."""
    with ExitStack() as stack:
        http = _http(port)
        if case.shadow is None:
            yield http
            return
        target = stack.enter_context(Client(str(directory / "target"), cache_dir=directory / "cache"))
        target.get_collection(COLLECTION).count()
        server: Any = target._server
        for verb in ("_query", "_get", "_count"):
            setattr(server, verb, _slowed(getattr(server, verb), case.slow))
        store = open_store(str(directory / "state"))
        side = SideName(SideKind.CLIENT, "bench", "default_tenant", "default_database")
        state = State(case.name, side, side, Phase.VERIFY, percent=Percent(shadow=case.shadow))
        States(Migration(store, case.name)).create(state)
        client = MigratingClient(http, target, migration=case.name, state=store)
        try:
            yield client
        finally:
            client.close()
            core_of(client).shadow.flush(10)  # closed: only what is under way


def _slowed(inner: Callable[..., Any], slow: Callable[[], None]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        slow()
        return inner(*args, **kwargs)

    return call


def _http(port: int) -> Any:
    return chromadb.HttpClient("127.0.0.1", port, settings=Settings(anonymized_telemetry=False))


def _offering(directory: Path, data: Dataset) -> dict[str, float]:
    """What a caller pays for one offer: with room in the queue, and with none."""
    answer = {
        "ids": [data.ids[:K]], "distances": [[0.5] * K], "documents": [data.documents[:K]], "metadatas": [data.metadatas[:K]],
        "embeddings": None, "uris": None,
    }  # fmt: skip
    read = ShadowRead(
        COLLECTION, "query", {"query_embeddings": [data.queries[0]], "n_results": K}, Role.SOURCE, answer, 0.005,
        lambda role, arguments: time.sleep(SLOW_S),
    )  # fmt: skip
    shadow = Shadow(Migration(open_store(str(directory / "state")), "offering"))
    took = []
    for _ in range(1_000):
        start = time.perf_counter()
        shadow.offer(read)
        took.append(1e6 * (time.perf_counter() - start))
    shadow.close()
    return {"room": round(statistics.median(took[2:60]), 1), "full": round(statistics.median(took[100:]), 1)}


def _details(times: dict[tuple[str, str, str], Times], counts: dict[str, Counts]) -> dict[str, Any]:
    cases: dict[str, Any] = {}
    for (turns, name, verb), each in times.items():
        values: dict[str, Any] = {
            f"p{n}_ms": round(1000 * float(np.percentile(each.calls, n)), 3) for n in (50, 95, 99)
        }
        cases.setdefault(name, {})[f"{verb}, {turns} blocks"] = values | {"calls": len(each.calls)}
    for name, each in counts.items():
        cases[name]["shadow"] = _told(each)
    return {"cases": cases}


if __name__ == "__main__":
    run("shadow", measure, __doc__)
