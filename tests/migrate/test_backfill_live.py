"""A backfill while people write: several threads add, update, upsert and delete on both sides all the time, each call under the journal.

Writers follow the protocol by themselves (entry, source, target, closing), so that this tests the copy and not the client. What a
record must be in the end is what the writers did last: each id has one writer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.migrate.backfill_world import BackfillWorld, differing, fill, memory_side, until
from tests.servers import ChromaServer

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import ChromalithError
from chromalith.migrate.journal import Journal
from chromalith.migrate.opening import open_side
from chromalith.migrate.port import Role, Side, WriteOp

WRITERS = 3
RECORDS = 600


class Writer:
    """One thread of an application: it owns every ``WRITERS``-th id, and remembers what each must be."""

    def __init__(self, world: BackfillWorld, number: int) -> None:
        self.number = number
        self.journal = Journal(world.place, client=f"application {number}")
        self.sides = [side.collection("words") for side in (world.source, world.target)]
        self.documents: dict[str, str | None] = {}
        self.calls = 0
        self.errors: list[BaseException] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self.ended.is_set():
                self._once(self.calls)
                self.calls += 1
                SYSTEM_CLOCK.sleep(0.02)  # each call is an object of a Chromalith side, and nobody folds them here
        except BaseException as error:
            self.errors.append(error)

    def _once(self, call: int) -> None:
        # 7 shares no factor with the number of ids, so that calls wander all over them, before and behind the copy.
        ids = [f"id-{(call * 7 + k) * WRITERS % RECORDS + self.number:05d}" for k in range(3)]
        kind = call % 4
        if kind == 0:
            self._journaled("delete", ids)
            self.documents.update(dict.fromkeys(ids))
            return
        op: WriteOp = ("upsert", "update", "add")[kind - 1]  # type: ignore[assignment]
        text = f"writer {self.number} call {call}"
        absent = {record_id for record_id in ids if self.documents.get(record_id, "") is None}
        self._journaled(op, ids, text)
        for record_id in ids:
            applies = op == "upsert" or (op == "update") != (record_id in absent)
            if applies:
                self.documents[record_id] = text

    def _journaled(self, op: Any, ids: list[str], text: str = "") -> None:
        entry = self.journal.open("words", ids, authority=Role.SOURCE, op=op)
        for collection in self.sides:
            if op == "delete":
                collection.delete(ids)
            else:
                rows = np.full((len(ids), 4), hash(text) % 97, np.float32)
                collection.write(op, ids, rows, [text] * len(ids), None, [{"by": self.number}] * len(ids))
        self.journal.close(entry, "ok")

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()
        self.journal.stop()
        assert self.errors == []


@pytest.fixture(params=["server", pytest.param("directory", marks=pytest.mark.slow), "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "server":
        server: ChromaServer = request.getfixturevalue("chroma_server")
        side = open_side(server.url, database=server.new_database())
    elif request.param == "directory":
        side = open_side(f"chroma:{tmp_path / 'chroma'}")
    else:
        side = memory_side("source")
    yield side
    side.close()


def test_writers_and_deleters_during_the_copy_are_neither_lost_nor_undone(source: Side, tmp_path: Path) -> None:
    world = BackfillWorld(source, open_side(str(tmp_path / "store")))
    fill(source, "words", RECORDS)
    fill(world.target, "words", 0)
    writers = [Writer(world, number) for number in range(WRITERS)]
    for writer in writers:
        writer.thread.start()
    until(lambda: all(writer.calls > 3 for writer in writers))
    before = sum(writer.calls for writer in writers)
    world.backfill(chunk_rows=25, workers=4)
    during = sum(writer.calls for writer in writers) - before
    for writer in writers:
        writer.stop()
    assert during > 0, "somebody wrote while it was copied"
    for _ in range(5):
        if world.reconcile():
            break
    assert world.journal_is_empty()
    assert differing(world.source.collection("words"), world.target.collection("words")) == []
    there = world.target.collection("words")
    found = there.read(there.ids())
    documents = dict(zip(found.ids, found.documents, strict=True))
    for writer in writers:
        for record_id, text in writer.documents.items():
            assert (record_id in documents) == (text is not None), record_id
            if text is not None:
                assert documents[record_id] == text
    world.target.close()


def test_it_pauses_by_the_state_and_goes_on_and_settings_of_its_speed_hold() -> None:
    world = BackfillWorld(memory_side("source"), memory_side("target"))
    fill(world.source, "words", 200)
    world.change(paused=True)
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(world.backfill(chunk_rows=20).counts.copied))
    thread.start()
    until(lambda: any(each.paused for each in world.told))
    assert not world.target.names() or world.target.collection("words").count() == 0
    world.change(paused=False)
    thread.join(30)
    assert done == [200]
    assert world.told[-1].paused is None


def test_a_pause_file_holds_it_up_too(tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    world = BackfillWorld(memory_side("source"), memory_side("target"))
    fill(world.source, "words", 50)
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(world.backfill(pause_file=pause).counts.copied))
    thread.start()
    until(lambda: any(each.paused and str(pause) in each.paused for each in world.told))
    pause.unlink()
    thread.join(30)
    assert done == [50]


def test_a_server_that_is_killed_in_the_middle_is_waited_for(own_chroma_server: ChromaServer) -> None:
    """The copy tries again with growing waits, and ends when the server is back."""
    source = open_side(own_chroma_server.url)
    world = BackfillWorld(source, memory_side("target"))
    fill(source, "words", 400)
    done: list[int] = []
    failed: list[ChromalithError] = []

    def work() -> None:
        try:
            done.append(world.backfill(chunk_rows=20, workers=2, rate=200).counts.copied)
        except ChromalithError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: any(each.done >= 40 for each in world.told))
    own_chroma_server.kill()
    SYSTEM_CLOCK.sleep(0.5)
    own_chroma_server.start()
    thread.join(60)
    assert failed == []
    assert done == [400]
    assert world.differing("words") == []
    source.close()
