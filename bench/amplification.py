"""Claim: under sustained load the bytes written stay within six times the bytes taken in.

Folds of 1,000 records each, one after the other, with the default merge policy, up to ``--to`` records. Every byte that reaches the
store is counted: deltas, segments, indexes, id tables, deletes, manifests, leases, pointers. The peer is arithmetic: publishing the whole
snapshot again after each of the same folds.
"""

from __future__ import annotations

from dataclasses import replace

from bench.dataset import synthetic
from bench.fill import create
from bench.outcome import Figure, Options, Outcome, run, say, work_directory

from chromalith.compaction.compactor import CompactionSettings
from chromalith.model import layout
from chromalith.session import Session
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore

FOLD_ROWS = 1_000
GOAL = 6.0
DRAWN_AT_ONCE = 20_000


def measure(options: Options) -> Outcome:
    rows = 10_000 if options.small else options.to
    ingested, rewritten = 0, 0
    curve: list[tuple[int, float]] = []
    with work_directory("amplification") as directory:
        store = CountingStore(open_store(str(directory / "store")))
        session = Session(store)
        cid = create(session)
        # No grace: the deltas go at once, so that the disk holds one load's worth of garbage less. It costs no write.
        compactor = session.compactor(replace(CompactionSettings(), fold_grace_s=0.0))
        named: set[str] = set()
        for start in range(0, rows, DRAWN_AT_ONCE):
            data = synthetic(min(DRAWN_AT_ONCE, rows - start), start=start)
            for columns in data.calls(FOLD_ROWS):
                ingested += session.writer.write(cid, "upsert", **columns).bytes
                compactor.run_once(cid)
                view = session.view(cid)
                rewritten += sum(segment.bytes for segment in view.manifest.segments)
                named = _drop_replaced(store, cid, named, {str(segment.id) for segment in view.manifest.segments})
                curve.append((view.count(), round(store.counts.bytes_written / ingested, 4)))
            say(f"amplification: {curve[-1][0]:,} records, {curve[-1][1]:.2f} bytes written a byte taken in")
        written = store.counts.bytes_written
        segments = [(segment.rows, segment.index is not None) for segment in view.manifest.segments]
        if view.count() != rows:
            raise AssertionError(f"records were lost count={view.count()} written={rows}")
        session.close()
    load = f"{len(curve)} folds of {FOLD_ROWS:,} records"
    figures = [
        Figure(load, written, float(ingested), "bytes", "the bytes of the deltas", goal=GOAL),
        Figure(load, written, float(rewritten), "bytes", "the whole snapshot rewritten by each fold (computed)"),
    ]
    details = {"curve": curve, "segments_at_the_end": segments}
    return Outcome(
        "amplification",
        f"synthetic: {rows} records around 500 centres, seed fixed",
        figures,
        {"records": rows, "dimension": 384, "rows_a_fold": FOLD_ROWS},
        details,
    )


def _drop_replaced(store: CountingStore, cid: layout.CollectionId, before: set[str], now: set[str]) -> set[str]:
    """Delete the segments that merges replaced, as a sweep would, so that a long load fits a small disk; which are named now."""
    for gone in before - now:
        for page in list(store.list(f"{layout.segment_prefix(cid)}{gone}/")):
            for entry in page:
                store.delete(entry.key)
    return now


if __name__ == "__main__":
    run("amplification", measure, __doc__)
