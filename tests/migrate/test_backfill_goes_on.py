"""A backfill that is slow, that was killed, or whose target refuses it: it goes on, says why it waits, and leaves nothing out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.migrate.backfill_world import BackfillWorld, fill, memory_side, records
from tests.migrate.memory_side import MemorySide, Row
from tests.migrate.test_backfill import Picky, PickyCollection

from chromalith.clock import ManualClock
from chromalith.coord.lease import Lease, Tenure
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import ChromalithError, Invalid, Unavailable
from chromalith.migrate.backfill_ids import attempts
from chromalith.migrate.backfill_preview import copied
from chromalith.migrate.backfill_watch import LEASE_S
from chromalith.migrate.port import Limits
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.port import Definition
from chromalith.transfer.sides import Denied


class Slow:
    """A side whose reads take so many seconds a record, on the test's clock."""

    def __init__(self, inner: Any, clock: ManualClock, seconds: float) -> None:
        self._inner, self._clock, self._seconds = inner, clock, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def collection(self, name: str) -> Any:
        return Slow(self._inner.collection(name), self._clock, self._seconds)

    def read(self, ids: list[str]) -> Any:
        self._clock.advance(len(ids) * self._seconds)
        return self._inner.read(ids)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({"rate": 10.0}, 0.0), ({"rate": 0.5}, 0.0), ({"max_source_ms": 100.0}, 0.1), ({}, 0.1)],
    ids=["rate", "a record each two seconds", "ceiling", "slow"],
)
def test_a_chunk_that_takes_longer_than_an_entry_may_be_open_is_copied(
    options: dict[str, float], seconds: float
) -> None:
    """A chunk of 500 records takes from 50 s to 17 minutes here; a write under an entry must begin within 30 s."""
    clock = ManualClock()
    limits = Limits(1_000, 100)
    source, target = (MemorySide(name, limits=limits) for name in ("source", "target"))
    source.create("words", Definition.of_space("l2")).rows = {f"r{n}": Row((float(n),)) for n in range(1_000)}
    world = BackfillWorld(Slow(source, clock, seconds), target, clock=clock)  # type: ignore[arg-type]
    outcome = world.backfill(executor=lambda workers, name: InLineExecutor(), workers=1, chunk_rows=500, **options)
    assert outcome.counts.copied == 1_000
    assert list(target.collections["words"].rows.items()) == list(source.collections["words"].rows.items())
    assert world.journal_is_empty()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_collection_that_was_made_again_is_copied_again(side: str) -> None:
    """What a killed copy had marked as copied stood in a collection that is not there any more."""
    world = BackfillWorld(memory_side("source"), memory_side("target"))
    fill(world.source, "words", 40)

    def dies(progress: Any) -> None:
        if progress.done >= 20:
            raise Unavailable("killed")

    world.told = type("Told", (list,), {"append": staticmethod(dies)})()
    with pytest.raises(ChromalithError):
        world.backfill(chunk_rows=10, workers=1)
    world.told = []
    run = str(world.states.get().backfill["run"])
    assert 20 <= copied(world.place, "words", run)[0] < 40
    again = world.source if side == "source" else world.target
    again.drop("words")
    fill(again, "words", 40 if side == "source" else 0)
    assert copied(world.place, "words", run)[0] >= 20
    outcome = world.backfill(chunk_rows=10)
    assert outcome.run == run
    assert world.differing("words") == []
    assert world.target.collection("words").count() == 40
    assert copied(world.place, "words", run) == (40, 40)


def test_a_new_copy_is_begun_when_it_is_asked_for_although_the_last_was_not_finished() -> None:
    """Its objects may be damaged, and the message about that says so."""
    world = BackfillWorld(memory_side("source"), memory_side("target"))
    fill(world.source, "words", 10)
    world.change(backfill={"run": "r1", "finished": False})
    ids = next(attempts(world.place, "words", "r1"))
    world.place.store.put(ids._prefix + "plan.json", b"{}")
    with pytest.raises(ChromalithError, match="--again"):
        world.backfill()
    assert world.backfill(again=True).counts.copied == 10


def test_whom_it_waits_for_is_told_at_once() -> None:
    """A killed backfill's lease runs out by itself; nobody must wonder for that long."""
    world = BackfillWorld(memory_side("source"), memory_side("target"), clock=ManualClock())
    fill(world.source, "words", 5)
    leases, key = ObjectLeases(world.place.store, world.clock), world.place.prefix("backfill") + "lease.json"
    dead = Lease(leases, key, world.clock, purpose="backfill", lease_s=LEASE_S).try_acquire()
    assert isinstance(dead, Tenure)
    began_s = world.clock.monotonic_s()
    assert world.backfill(executor=lambda workers, name: InLineExecutor(), workers=1).counts.copied == 5
    assert world.clock.monotonic_s() - began_s < LEASE_S + 3
    waits = [each.paused for each in world.told if each.paused]
    assert waits == [f"waits up to 15 s to see whether another backfill lives owner={dead.record.owner}"]


class Locked(Picky):
    """A target whose key was taken away after some writes."""

    def create(self, name: str, definition: Definition) -> Any:
        return LockedCollection(self._inner.create(name, definition), self._refused)


class LockedCollection(PickyCollection):
    writes = 0

    def write(self, op: str, ids: list[str], *columns: Any) -> None:
        type(self).writes += 1
        if self.writes > 2:
            raise Denied("Chroma denies it", hint="for the test")
        self._inner.write(op, ids, *columns)


def test_a_key_that_was_taken_away_is_no_reason_to_leave_records_out() -> None:
    """``--skip-rejects`` is about records that the target does not take, not about a target that takes nothing from us."""
    LockedCollection.writes = 0
    source = memory_side("source")
    fill(source, "words", 60)
    world = BackfillWorld(source, Locked(memory_side("target"), set()))
    with pytest.raises(Denied):
        world.backfill(chunk_rows=10, workers=1, skip_rejects=True)
    assert LockedCollection.writes == 3, "no record was tried alone"
    assert not world.states.get().backfill["finished"]
    LockedCollection.writes = -100
    outcome = world.backfill(chunk_rows=10, skip_rejects=True)
    assert not outcome.rejects
    assert world.differing("words") == []


def test_records_are_left_out_one_by_one_where_the_target_refuses_them_and_not_us() -> None:
    """All of a chunk may be refused for their own sake."""
    source = memory_side("source")
    fill(source, "words", 20)
    refused = set(records(20)["ids"][:10])
    world = BackfillWorld(source, Picky(memory_side("target"), refused))
    with pytest.raises(Invalid):
        world.backfill(chunk_rows=10, workers=1)
    outcome = world.backfill(chunk_rows=10, skip_rejects=True)
    assert {each.id for each in outcome.rejects} == refused
