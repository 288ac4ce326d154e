"""Folding with an end: a run comes to its own, where writing does not stop, and where time is limited."""

from __future__ import annotations

import pytest
from tests.worlds import NEVER, World, merging

from chromalith.compaction import pace
from chromalith.compaction.compactor import Compactor, Outcome
from chromalith.coord.collections import Collections
from chromalith.model.plan import MergePolicy


def test_a_run_ends_where_writing_does_not() -> None:
    """What is written while a run folds is the next run's: else a busy collection would never be swept or merged, nor any other folded."""
    with World() as world:
        world.upsert("a", 0)
        written: list[int] = []

        def while_it_folds(step: str, outcome: Outcome) -> None:
            assert len(written) < 5
            written.append(1)
            world.clock.advance(1)
            world.upsert("a", len(written))

        compactor = Compactor(
            world.store, Collections(world.store, world.catalog), world.clock, world.settings, progress=while_it_folds
        )
        outcome = compactor.run_once(world.cid)
        assert (outcome.folded, outcome.published, outcome.waiting) == (1, [1], 1)


def test_a_backlog_of_several_folds_is_one_run() -> None:
    """All that was settled when a run began is folded by it, however many folds that takes."""
    with World() as world:
        for value in range(5):
            world.upsert("a", value)
        outcome = world.compact(fold_deltas_max=2)
        assert (outcome.folded, outcome.published, outcome.waiting) == (5, [1, 2, 3], 0)


def test_many_deletes_are_folded_where_time_is_short() -> None:
    """A call may delete as much as a filter finds; nothing behind it could be folded before, so it must not look like so many rows."""
    with World() as world:
        world.upsert("a", 1)
        world.writer().write(world.cid, "delete", ["a", *(f"r{number}" for number in range(60_000))])
        world.upsert("b", 1)
        collections = Collections(world.store, world.catalog)
        outcome = Compactor(world.store, collections, world.clock, world.settings, time_left=lambda: 60.0).run_once(world.cid)
        assert (outcome.folded, outcome.waiting, outcome.out_of_time) == (3, 0, False)
        assert world.documents() == {"b": "1"}


def test_a_backlog_leaves_time_to_merge() -> None:
    """A backlog for which there is no time is folded in part; what was folded is merged, so that segments do not pile up."""
    with World(settings=merging(fold_deltas_max=1)) as world:
        for value in range(20):
            world.upsert([f"r{value}"], value)
        stop_s = world.clock.monotonic_s() + 100

        def a_step_takes_time(step: str, outcome: Outcome) -> None:
            world.clock.advance(10)

        outcome = Compactor(
            world.store, Collections(world.store, world.catalog), world.clock, world.settings,
            progress=a_step_takes_time, time_left=lambda: stop_s - world.clock.monotonic_s(),
        ).run_once(world.cid)  # fmt: skip
        assert (outcome.out_of_time, outcome.folded) == (True, 8)
        assert outcome.merged > 0


def test_a_fold_of_several_deltas_has_time_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that is killed is begun again, of the same deltas: so it takes a part of the time, and only one delta may take all of it."""
    monkeypatch.setattr(pace, "ROWS_PER_S", 1)
    with World() as world:
        for value in range(4):
            world.upsert([f"r{value}-{number}" for number in range(10)], value)
        world.upsert([f"r{number}" for number in range(50)], 4)
        collections = Collections(world.store, world.catalog)
        outcome = Compactor(world.store, collections, world.clock, world.settings, time_left=lambda: 75.0).run_once(world.cid)
        assert (outcome.folded, outcome.published, outcome.out_of_time) == (5, [1, 2, 3, 4], False)


def test_small_deltas_are_one_fold_however_short_the_time() -> None:
    """What each fold costs however small it is comes before the share: else a function of ten seconds would publish a version a delta."""
    with World() as world:
        for value in range(3):
            world.upsert(f"r{value}", value)
        collections = Collections(world.store, world.catalog)
        outcome = Compactor(world.store, collections, world.clock, world.settings, time_left=lambda: 6.0).run_once(world.cid)
        assert (outcome.folded, outcome.published) == (3, [1])


def test_one_delta_that_does_not_fit_keeps_nothing_from_being_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for somebody with more time, and all behind it do; what was folded before goes all the same."""
    monkeypatch.setattr(pace, "ROWS_PER_S", 1)
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(61)
        world.upsert([f"r{number}" for number in range(100)], 2)
        collections = Collections(world.store, world.catalog)
        outcome = Compactor(world.store, collections, world.clock, world.settings, time_left=lambda: 60.0).run_once(world.cid)
        assert (outcome.out_of_time, outcome.folded, outcome.swept, outcome.waiting) == (True, 0, 1, 1)


@pytest.mark.parametrize(("time_s", "merged"), [(59.0, 0), (61.0, 2)])
def test_a_merge_has_time_to_spare(monkeypatch: pytest.MonkeyPatch, time_s: float, merged: int) -> None:
    """One that is killed is begun again, and takes the time of all collections each time: so it is expected to need half of it at most."""
    with World(settings=merging(merge=MergePolicy(fan_in=64, rows_floor=NEVER))) as world:
        for value in range(2):
            world.upsert([f"r{value}"], value)
            world.compact()
        monkeypatch.setattr(pace, "MERGE_ROWS_PER_S", 2 / (30 - pace.START_S))
        settings = merging()
        outcome = Compactor(
            world.store, Collections(world.store, world.catalog), world.clock, settings, time_left=lambda: time_s
        ).run_once(world.cid)
        assert (outcome.merged, outcome.merges_left) == (merged, merged == 0)
