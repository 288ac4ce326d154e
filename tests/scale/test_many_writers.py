"""Many writer processes and a compactor on one collection of a real S3 server: nothing lost, nothing doubled, nobody in the way."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
from tests.scale.crew import Job, Written, compact_until, ids_of, write
from tests.servers import Server

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.verify import verify
from chromalith.coord.catalog import Catalog
from chromalith.store.url import open_store

# Two minutes and a half: run it with -m slow.
ONLY_WHEN_ASKED = pytest.mark.skipif("'slow' not in config.option.markexpr", reason="long: run with -m slow")


@pytest.mark.server
@pytest.mark.parametrize(
    ("writers", "calls", "rows", "rest_s"),
    [
        # The rests make it last longer than a delta takes to settle, so that folds and merges happen meanwhile.
        pytest.param(4, 25, 50, 0.2, id="short"),
        pytest.param(16, 200, 50, 0.0, id="full", marks=[pytest.mark.slow, ONLY_WHEN_ASKED]),
    ],
)
def test_many_writers_lose_and_double_nothing(
    seaweed: Server, writers: int, calls: int, rows: int, rest_s: float
) -> None:
    """Each acknowledged record is there exactly once; a call costs one PUT and one conditional GET; no condition ever fails."""
    url = f"s3://{seaweed.new_bucket()}"
    store = open_store(url, storage_options=seaweed.storage_options)
    cid = Catalog(store).create(
        "default_tenant", "default_database", "words", configuration={"hnsw": {"space": "l2"}}
    ).collection.id
    job = Job(url, seaweed.storage_options, cid, calls, rows, rest_s)
    spawn = multiprocessing.get_context("spawn")
    stop, results, compacted = spawn.Event(), spawn.Queue(), spawn.Queue()
    compactor = spawn.Process(target=compact_until, args=(job, stop, compacted))
    crew = [spawn.Process(target=write, args=(job, number, results)) for number in range(writers)]
    for process in (compactor, *crew):
        process.start()
    written: list[Written] = [results.get(timeout=1_200) for _ in crew]
    for process in crew:
        process.join(60)
        assert process.exitcode == 0
    stop.set()
    versions, merged, swept, errors = compacted.get(timeout=300)
    compactor.join(60)
    assert errors == []
    assert versions > 0
    settle_and_compact(job)
    check_nothing_lost(job, writers)
    report = verify(store, cid)
    assert report.live == writers * calls * rows
    for each in written:
        assert each.acknowledged == list(range(calls))
        assert each.conflicts == 0
        assert each.requests["put", "delta"] == calls
        assert each.requests["get_if_changed", "collection"] == calls - 1
        # The first call asks for the whole collection object; who came first has fixed the dimension as well.
        assert sum(each.requests.values()) <= 2 * calls + 6
        assert {kind for _, kind in each.requests} <= {"delta", "collection"}
    took_s = max(each.ended_s for each in written) - min(each.began_s for each in written)
    print(
        f"\nwriters={writers} records={report.live} took_s={took_s:.1f} records_per_s={report.live / took_s:.0f}"
        f" calls_per_s={writers * calls / took_s:.0f} slowest_call_s={max(each.slowest_s for each in written):.2f}"
        f" versions={report.version} while_writing={versions} merged={merged} swept={swept} segments={report.segments}"
    )


def settle_and_compact(job: Job) -> None:
    session = job.opened()
    SYSTEM_CLOCK.sleep(session.store.settle_s + 1.5)
    outcome = session.compactor().run_once(job.collection)
    assert outcome.waiting == 0
    session.close()


def check_nothing_lost(job: Job, writers: int) -> None:
    session = job.opened()
    view = session.view(job.collection)
    found: Any = view.get(include=("documents",))
    expected = {i for w in range(writers) for call in range(job.calls) for i in ids_of(w, call, job.rows)}
    assert view.count() == len(found.ids) == len(expected)
    assert set(found.ids) == expected
    assert found.documents == [f"text of {i}" for i in found.ids]
    session.close()
