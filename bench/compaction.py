"""Claim: folding deltas into an indexed segment is five times as fast as stock Chroma's upsert of the same records.

Ours: the compactor's ``run_once`` over deltas of 1,000 records each that writers left, from listing them to the published version with its
index. Peer: a ``PersistentClient`` that upserts the same records in its largest batches. Both on a directory, both end durable and indexed.
"""

from __future__ import annotations

import cProfile
from pathlib import Path

from bench.dataset import Dataset, load
from bench.outcome import Options, Outcome, rates_figure, run, say, timed, work_directory
from bench.write import top

from chromalith.compacting import compact
from chromalith.wiring import Writer, open_session

CALL_ROWS = 1_000
GOAL = 5.0


def measure(options: Options) -> Outcome:
    rows = 12_000 if options.small else 60_000
    data = load(options.data, rows)
    ours, peer = [], []
    with work_directory("compaction") as directory:
        for repetition in range(options.repetitions):
            ours.append(rows / _fold(directory / f"store-{repetition}", data))
            peer.append(rows / chroma_upserts(directory / f"chroma-{repetition}", data))
            say(f"compaction: {ours[-1]:,.0f} records/s, Chroma {peer[-1]:,.0f}")
        profile = _profile(directory / "profiled", data)
    against = "stock Chroma upserting the same records"
    figures = [
        rates_figure(
            "60 deltas to one indexed segment" if not options.small else "12 deltas",
            ours,
            peer,
            unit="records/s",
            against=against,
            goal=GOAL,
        )
    ]
    sizes = {"records": rows, "dimension": 384, "rows_a_delta": CALL_ROWS}
    return Outcome("compaction", data.source, figures, sizes, {"profile_of_a_fold": profile})


def _fill(store: Path, data: Dataset) -> None:
    with Writer(str(store)) as writer:
        writer.create("words")
        for columns in data.calls(CALL_ROWS):
            writer.upsert("words", **columns)


def _fold(store: Path, data: Dataset) -> float:
    _fill(store, data)
    outcomes = []
    took = timed(lambda: outcomes.extend(compact(str(store), "words")))
    if outcomes[0].operations != len(data):
        raise AssertionError(f"not everything was folded operations={outcomes[0].operations} records={len(data)}")
    session = open_session(str(store))
    manifest = session.view(outcomes[0].collection).manifest
    session.close()
    if manifest.live != len(data) or any(segment.index is None for segment in manifest.segments):
        raise AssertionError(f"the segment is not whole or not indexed live={manifest.live}")
    return took


def _profile(store: Path, data: Dataset) -> list[str]:
    _fill(store, data)
    profiler = cProfile.Profile()
    profiler.runcall(compact, str(store), "words")
    return top(profiler)


def chroma_upserts(directory: Path, data: Dataset) -> float:
    """Fill a stock Chroma directory with the collection ``words``; how long the upserts took, in seconds."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(str(directory), settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("words")
    batch = client.get_max_batch_size()
    took = timed(lambda: [collection.upsert(**columns) for columns in data.calls(batch)])
    if collection.count() != len(data):
        raise AssertionError("the peer lost records")
    return took


if __name__ == "__main__":
    run("compaction", measure, __doc__)
