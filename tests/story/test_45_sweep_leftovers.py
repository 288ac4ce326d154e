"""What killed processes leave outside of the objects: a sweep of the store cleans it up when it is a day old."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.story.sweeps import DAY_S, in_line, with_history
from tests.worlds import DATABASE, TENANT

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.compaction.garbage import Reason, totals
from chromalith.compaction.reclaim import StoreSweep
from chromalith.compaction.sweep import SweepOutcome
from chromalith.coord.catalog import Catalog
from chromalith.errors import NotFound, Unavailable
from chromalith.model.retention import Retention
from chromalith.store.directory import DirectoryStore
from chromalith.store.leftovers import leftovers_of
from chromalith.store.port import Entry
from chromalith.store.url import open_store


def test_temporary_files_of_killed_processes_go(tmp_path: Path) -> None:
    """In a directory store, a temporary file that is a day old goes, and one that is at work does not."""
    store = open_store(str(tmp_path / "store"))
    Catalog(store).create(TENANT, DATABASE, "words", configuration={})
    folder = tmp_path / "store" / ".chromalith" / "temporary"
    old, young = folder / "0-1-2", folder / "3-4-5"
    old.write_bytes(b"old")
    young.write_bytes(b"young")
    then = SYSTEM_CLOCK.now_us() / 1e6 - DAY_S - 60
    os.utime(old, (then, then))
    leftovers = leftovers_of(store)

    def run(delete: bool) -> Sequence[SweepOutcome]:
        return StoreSweep(store, SYSTEM_CLOCK, Catalog(store), Retention(), delete=delete, leftovers=leftovers).run()

    assert totals(run(False)[-1].garbage) == {Reason.TEMPORARY: (1, 3)}
    assert old.exists()
    run(True)
    assert not old.exists()
    assert young.exists()
    assert not run(True)[-1].garbage


def test_a_temporary_file_that_is_written_again_stays(tmp_path: Path) -> None:
    """What was found is removed only as it was found; and whoever loses its file is told that nothing was written."""
    clock = ManualClock()
    store = DirectoryStore(tmp_path / "store", clock)
    store.put("a", b"1")
    file = tmp_path / "store" / ".chromalith" / "temporary" / "0-1-2"
    file.write_bytes(b"old")
    [entry] = store.temporary_files()
    file.write_bytes(b"newer")
    store.remove_temporary_file(entry)
    assert file.exists()

    original = store._write_temporary

    def swept_meanwhile(body: bytes) -> str:
        path = original(body)
        for each in store.temporary_files():
            store.remove_temporary_file(each)
        return path

    store._write_temporary = swept_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        store.put("b", b"2")
    with pytest.raises(NotFound):
        store.get("b")


def test_leftovers_that_can_not_be_listed_stop_nothing() -> None:
    """A permission that is missing is reported; the rest is swept."""

    class Refused:
        kind = "unfinished_upload"

        def find(self) -> Sequence[Entry]:
            raise Unavailable("not allowed", hint="allow it")

        def remove(self, entry: Entry) -> None:
            raise AssertionError

    with with_history(5) as world:
        catalog = Catalog(world.store, world.clock)
        sweep = StoreSweep(world.store, world.clock, catalog, Retention(1, 0, 0), delete=True, leftovers=[Refused()], executor=in_line)
        outcomes = sweep.run()
        assert outcomes[0].published
        assert "not allowed" in outcomes[-1].skipped[0]
