"""Sixty-four writer processes on one collection for a minute, with compaction on: acknowledged is present (``make load``)."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import pytest
from tests.scale.crew import Job, compact_until, ids_of, load
from tests.scale.test_many_writers import ONLY_WHEN_ASKED, settle_and_compact
from tests.servers import Server

from chromalith.compaction.verify import verify
from chromalith.coord.catalog import Catalog
from chromalith.store.url import open_store

WRITERS, SECONDS, ROWS = 64, 60.0, 10


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1_200)
@ONLY_WHEN_ASKED
def test_sixty_four_writers_for_a_minute(seaweed: Server) -> None:
    """Acknowledged = present, each record once; the acknowledgements' rate and latency are printed."""
    writers, seconds, rows = WRITERS, SECONDS, ROWS
    url = f"s3://{seaweed.new_bucket()}"
    store = open_store(url, storage_options=seaweed.storage_options)
    cid = Catalog(store).create("default_tenant", "default_database", "words", configuration={"hnsw": {"space": "l2"}}).collection.id
    job = Job(url, seaweed.storage_options, cid, 0, rows)
    spawn = multiprocessing.get_context("spawn")
    ready, go, stop, results, compacted = spawn.Semaphore(0), spawn.Event(), spawn.Event(), spawn.Queue(), spawn.Queue()
    crew = [spawn.Process(target=load, args=(job, number, ready, go, seconds, results)) for number in range(writers)]
    compactor = spawn.Process(target=compact_until, args=(job, stop, compacted))
    for process in crew:
        process.start()
    for _ in crew:
        assert ready.acquire(timeout=300)
    compactor.start()
    go.set()
    took: dict[int, list[float]] = dict(results.get(timeout=600) for _ in crew)
    stop.set()
    versions, merged, swept, errors = compacted.get(timeout=600)
    for process in (*crew, compactor):
        process.join(60)
        assert process.exitcode == 0
    assert errors == []
    settle_and_compact(job)
    session = job.opened()
    view = session.view(cid)
    found: Any = view.get(include=())
    expected = {i for writer, calls in took.items() for call in range(len(calls)) for i in ids_of(writer, call, rows)}
    assert len(found.ids) == len(expected) == view.count()
    assert set(found.ids) == expected
    assert verify(store, cid).live == len(expected)
    latency = np.array([each for calls in took.values() for each in calls])
    p50, p99 = np.percentile(latency, (50, 99))
    print(
        f"\nwriters={writers} seconds={seconds:g} commits={len(latency)} commits_per_s={len(latency) / seconds:.0f} rows={rows}"
        f" p50_s={p50:.3f} p99_s={p99:.3f} slowest_s={latency.max():.3f} versions_meanwhile={versions} merged={merged} swept={swept}"
    )
    session.close()
