"""A doctor beside writers, compactors and sweeps at full speed finds nothing that is not so."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.story.sweeps import NOTHING_KEPT
from tests.unit.doctor.examined import examined

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.sweep import run_sweep
from chromalith.coord.pointer import read_current
from chromalith.doctor.codes import Severity
from chromalith.errors import ChromalithError
from chromalith.model.plan import MergePolicy
from chromalith.session import Session
from chromalith.store.memory import MemoryStore

EXAMINATIONS = 25


def test_a_busy_collection_is_well(tmp_path: Path) -> None:
    """No error and no warning, however a listing, a pointer and a manifest are of different moments."""
    store = MemoryStore(SYSTEM_CLOCK)
    stop = threading.Event()
    with Session(store, cache_dir=tmp_path / "work") as session:
        cid = session.catalog.create("default_tenant", "default_database", "words", configuration={}).collection.id

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                SYSTEM_CLOCK.sleep(0.005)
                session.writer.write(cid, "upsert", [f"{number % 20}"], [[float(number), 1.0]])

        def compact() -> None:
            settings = CompactionSettings(merge=MergePolicy(fan_in=2, rows_floor=10**6), fold_grace_s=0)
            while not stop.is_set():
                try:
                    session.compactor(settings).run_once(cid)
                    run_sweep(store, SYSTEM_CLOCK, cid, NOTHING_KEPT)
                except ChromalithError:
                    continue  # it lost a race

        threads = [threading.Thread(target=work) for work in (write, compact, compact)]
        for each in threads:
            each.start()
        try:
            reports = [examined(store, SYSTEM_CLOCK, tmp_path / "cache", writes=number == 0) for number in range(EXAMINATIONS)]
        finally:
            stop.set()
            for each in threads:
                each.join()
    found = [each for report in reports for each in report.findings if each.severity is not Severity.INFO]
    assert found == []
    assert read_current(store, cid).manifest.version > EXAMINATIONS
