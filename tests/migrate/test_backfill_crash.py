"""A backfill that is killed at any call of the store or of a side goes on when it is said again, and nothing is lost, doubled or stale.

The sides are memory sides with Chroma's meaning of each verb, the store is the real one in memory, and one thread works, so that each call
has a number. The kill is a death: nothing of the process runs after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from tests.migrate.backfill_world import BackfillWorld
from tests.migrate.memory_side import WRITES, Faults, MemorySide, Row

from chromalith.clock import ManualClock
from chromalith.errors import ChromalithError, Unavailable
from chromalith.migrate.journal import Journal
from chromalith.migrate.port import Limits, Role
from chromalith.migrate.state import Freeze
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.port import Definition

RECORDS = 12
CHUNK = 4
DYING = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)


class Clock(ManualClock):
    """A manual clock on which something may happen while somebody sleeps."""

    after_sleep: Callable[[], object] = staticmethod(lambda: None)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.after_sleep()


class Scene:
    """A source of twelve records, a target with one stale record and one too much, and a client that deletes one record in between."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.faults = Faults()
        limits = Limits(300, 300)
        self.source, self.target = (
            MemorySide(name, limits=limits, faults=self.faults) for name in ("source", "target")
        )
        words = self.source.create("words", Definition.of_space("l2"))
        words.rows = {f"id-{n:02d}": Row((float(n),), f"document {n}", None, {"n": n}) for n in range(RECORDS)}
        there = self.target.create("words", Definition.of_space("l2"))
        there.rows = {"id-05": Row((5.5,), "stale", None, {"old": True}), "extra": Row((0.0,))}
        self.store = FaultyStore(MemoryStore(self.clock), lambda call: None, self.clock)
        self.world = BackfillWorld(self.source, self.target, store=self.store, clock=self.clock)
        self.store.calls.clear()
        self.faults.calls.clear()

    def backfill(self) -> None:
        self.world.backfill(executor=lambda workers, name: InLineExecutor(), workers=1, chunk_rows=CHUNK)

    def calls(self) -> int:
        return len(self.store.calls) + len(self.faults.calls)

    def at_call(self, number: int, fault: Fault) -> None:
        """The ``number``-th call of all, whoever gets it, meets ``fault``."""
        before = self.calls()

        def choose(call: Call) -> Fault | None:
            return fault if self.calls() == before + number else None

        self.store._choose = choose
        self.faults.choose = choose

    def heal(self) -> None:
        self.store._choose = self.faults.choose = lambda call: None
        self.clock.advance(self.world.states.get().timing.abandoned_s + 60.0)

    def check(self) -> None:
        """Everything is copied, nothing too much, and the journal gets empty."""
        self.world.reconcile()
        assert self.world.reconcile(), "the journal is not empty"
        assert self.target.collections["words"].rows == self.source.collections["words"].rows
        assert self.world.states.get().backfill["finished"] is True


def counted() -> int:
    scene = Scene()
    scene.backfill()
    scene.check()
    return len(scene.store.calls) + len(scene.faults.calls)


@pytest.mark.parametrize("fault", DYING)
def test_a_backfill_that_died_at_any_call_goes_on_and_ends_well(fault: Fault) -> None:
    total = counted()
    assert total > 40
    struck = 0
    for number in range(1, total + 1):
        scene = Scene()
        scene.at_call(number, fault)
        with suppress(Crash):
            scene.backfill()
        struck += bool(scene.store.struck or scene.faults.struck)
        scene.heal()
        scene.backfill()
        scene.check()
    assert struck >= total - 15, "nearly every call was struck; a resumed run makes a few fewer"


@pytest.mark.parametrize("fault", [Fault.LOST, pytest.param(Fault.BEFORE, marks=pytest.mark.slow)])
def test_a_call_that_fails_or_whose_answer_is_lost_changes_nothing_in_the_end(fault: Fault) -> None:
    total = counted()
    for number in range(1, total + 1):
        scene = Scene()
        scene.at_call(number, fault)
        with suppress(ChromalithError):
            scene.backfill()
        scene.heal()
        scene.backfill()
        scene.check()


def test_a_record_deleted_on_both_sides_between_reading_and_adding_does_not_come_back() -> None:
    """The client's delete finds nothing at the target; the chunk, which has read the record, adds it; the second look finds it gone."""
    scene = Scene()
    deleted: list[str] = []

    def delete(call: Call) -> None:
        if call.verb == "add" and not deleted:  # once: at the next chunk's, it would remove what came back
            deleted.append("id-02")
            for side in (scene.source, scene.target):
                side.collections["words"].rows.pop("id-02", None)

    on_call(scene, delete)
    scene.backfill()
    assert deleted
    assert "id-02" not in scene.target.collections["words"].rows
    scene.check()


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=() if number % 4 == 1 else pytest.mark.slow) for number in range(1, 30)]
)
def test_a_client_that_writes_under_the_journal_at_any_moment_wins(number: int) -> None:
    """At each call of the copy a client deletes one record, updates another, and adds a third, each with its entry in the journal."""
    scene = Scene()
    seen = [0]

    def act(call: Call) -> None:
        seen[0] += 1
        if seen[0] == number:
            client_writes(scene)

    on_call(scene, act)
    scene.backfill()
    assert seen[0] >= number
    scene.check()
    rows = scene.target.collections["words"].rows
    assert "id-03" not in rows
    assert rows["id-07"].document == "updated"
    assert rows["new"].document == "added"


def client_writes(scene: Scene) -> None:
    chosen, scene.faults.choose = scene.faults.choose, lambda call: None
    journal = Journal(scene.world.place, client="application", executor=lambda workers, name: InLineExecutor())
    source, target = (side.collection("words") for side in (scene.source, scene.target))
    for op, record_id in (("delete", "id-03"), ("update", "id-07"), ("add", "new")):
        entry = journal.open("words", [record_id], authority=Role.SOURCE, op=op)
        for collection in (source, target):
            if op == "delete":
                collection.delete([record_id])
            else:
                collection.write(
                    op, [record_id], np.array([[9.0]], np.float32), ["updated" if op == "update" else "added"]
                )  # type: ignore[arg-type]
        journal.close(entry, "ok")
    journal.stop()
    scene.faults.choose = chosen


def on_call(scene: Scene, act: Callable[[Call], None]) -> None:
    """``act`` before each call of a side, by the copy."""
    busy = [False]

    def choose(call: Call) -> Fault | None:
        if not busy[0]:
            busy[0] = True
            try:
                act(call)
            finally:
                busy[0] = False
        return None

    scene.faults.choose = choose


def test_a_source_collection_that_is_made_anew_meanwhile_is_copied_as_it_is_then() -> None:
    scene = Scene()
    done = [False]

    def act(call: Call) -> None:
        if call.verb == "read" and not done[0]:
            done[0] = True
            for side in (scene.source, scene.target):
                side.collections.pop("words")
            anew = scene.source.create("words", Definition.of_space("l2"))
            anew.rows = {"fresh": Row((1.0,), "fresh")}

    on_call(scene, act)
    scene.backfill()
    assert scene.target.collections["words"].rows == {"fresh": Row((1.0,), "fresh")}


def test_a_source_collection_that_is_dropped_meanwhile_is_told_as_gone() -> None:
    scene = Scene()
    scene.source.create("other", Definition.of_space("l2")).rows = {"x": Row((1.0,))}
    done = [False]

    def act(call: Call) -> None:
        if call.verb == "read" and call.key == "words" and not done[0]:
            done[0] = True
            scene.source.collections.pop("words")

    on_call(scene, act)
    scene.backfill()
    assert scene.world.states.get().backfill["gone_collections"] == ["words"]
    assert scene.target.collections["other"].rows.keys() == {"x"}


def test_a_freeze_is_waited_out() -> None:
    """Nothing is written to the target while it stands."""
    scene = Scene()
    scene.world.change(freeze=Freeze("f", "ramp", "somebody", 0))
    writes: list[str] = []

    def act(call: Call) -> None:
        if call.verb in WRITES and call.verb != "create":
            writes.append(call.verb)
            assert scene.world.states.get().freeze is None

    on_call(scene, act)
    scene.clock.after_sleep = lambda: scene.world.change(freeze=None) if scene.world.states.get().freeze else None
    scene.backfill()
    assert writes
    scene.check()


def test_pieces_that_stand_although_the_call_failed_keep_their_entry() -> None:
    """A call is cut in pieces; the first stands, the second fails. Until it is tried again, somebody must know of the first."""
    scene = Scene()
    words = scene.target.collections["words"]
    fails = [True]
    whole = words.write

    def write(op: Any, ids: Sequence[str], *columns: Any) -> None:
        if op == "add" and fails[0]:
            fails[0] = False
            whole(op, ids[:1], *(None if column is None else column[:1] for column in columns))
            raise Unavailable("the second piece failed")
        whole(op, ids, *columns)

    words.write = write  # type: ignore[method-assign]
    scene.backfill()
    assert fails == [False]
    assert not scene.world.journal_is_empty(), "the entry of the failed call waits for a reconciliation"
    scene.check()
