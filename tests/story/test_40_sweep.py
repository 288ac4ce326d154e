"""The prompt sweep: a folded delta goes once its grace is over, by the store's clock, and nobody misses it."""

from __future__ import annotations

import pytest
from tests.worlds import World, keys

from chromalith.compaction import compactor
from chromalith.compaction.compactor import FOLD_GRACE_S
from chromalith.coord.collections import Collections
from chromalith.model import layout
from chromalith.model.folded import DAY_US, KEPT_DAYS
from chromalith.read.reader import PARALLEL_READ_MAX_S


def test_a_folded_delta_stays_for_the_grace() -> None:
    """A delta is deleted only when its fold was published the whole grace ago by the store's timestamps."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        published_us = world.store.head(layout.pointer_key(world.cid)).modified_us
        world.clock.wall_us = published_us + round(FOLD_GRACE_S * 1e6) - 1_000
        assert world.compact().swept == 0
        world.clock.wall_us = published_us + round(FOLD_GRACE_S * 1e6) + 1_000
        assert world.compact().swept == 1
        assert keys(world.store, layout.DELTA_ROOT) == []
        assert world.documents() == {"a": "1"}


def test_the_grace_is_that_of_the_version_that_folded_it() -> None:
    """A later publish neither shortens nor lengthens the grace of what an earlier one folded."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(50)
        world.upsert("b", 2)
        world.compact()
        world.clock.advance(15)
        assert world.compact().swept == 1
        world.clock.advance(50)
        assert world.compact().swept == 1


def test_versions_are_forgotten_only_after_the_grace() -> None:
    """What a manifest remembers of recent publishes is bounded, and is dropped only when no sweep asks for it."""
    with World() as world:
        for value in range(30):
            world.upsert("a", value)
            world.compact()
            world.clock.advance(20)
        current = world.current()
        assert 6 <= len(current.published) <= 8
        assert len(keys(world.store, layout.DELTA_ROOT)) <= 5
        assert sum(len(runs) for runs in current.folded.runs.values()) <= 8


def test_a_sweep_of_folded_deltas_stops_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go some at a time; what is left when the time is over is told, and goes in the next run."""
    monkeypatch.setattr(compactor, "SWEPT_AT_ONCE", 2)
    with World() as world:
        for value in range(5):
            world.upsert("a", value)
        world.compact()
        world.clock.advance(61)

        def time_left() -> float:
            return 60.0 if len(keys(world.store, layout.DELTA_ROOT)) > 3 else 0.0

        collections = Collections(world.store, world.catalog)
        outcome = compactor.Compactor(world.store, collections, world.clock, world.settings, time_left=time_left).run_once(world.cid)
        assert (outcome.swept, outcome.out_of_time) == (2, True)
        assert world.compact().swept == 3


def test_an_unfolded_delta_is_never_swept() -> None:
    """However old a delta is, it goes only after it was folded."""
    with World() as world:
        world.upsert("a", 1)
        world.clock.advance(90 * 86_400)
        assert world.compact().swept == 0
        assert world.documents() == {"a": "1"}


def test_the_folded_set_remembers_after_the_sweep() -> None:
    """A delta that comes back from the dead (a bucket's old version, a late copy) is not applied again, and is swept again."""
    with World() as world:
        receipt = world.upsert("a", 1)
        key = layout.delta_key(world.cid, receipt.delta)
        body = world.store.get(key).body
        world.compact()
        world.clock.advance(61)
        world.compact()
        world.writer().write(world.cid, "delete", ["a"])
        world.compact()
        world.store.put(key, body)
        assert world.documents() == {}
        assert world.compact().folded == 0
        assert world.documents() == {}
        world.clock.advance(200)
        world.compact()
        assert key not in keys(world.store)


def test_an_entry_expires_after_thirty_days_if_its_object_is_gone() -> None:
    """Entries expire, so that manifests stay small, but none whose object a listing still shows."""
    with World() as world:
        kept = world.upsert("a", 1)
        gone = world.upsert("b", 1, writer=world.writer())
        key = layout.delta_key(world.cid, kept.delta)
        body = world.store.get(key).body
        world.compact()
        world.clock.advance(200)
        world.compact()
        world.clock.advance((KEPT_DAYS + 2) * DAY_US / 1e6)
        world.store.put(key, body)
        world.upsert("c", 3, writer=world.writer())
        world.compact()
        folded = world.current().folded
        assert kept.delta in folded
        assert gone.delta not in folded
        assert world.documents() == {"a": "1", "b": "1", "c": "3"}


def test_the_reader_stays_well_within_the_grace() -> None:
    """The bound on parallel reads is at most half of what a sweep waits."""
    assert PARALLEL_READ_MAX_S <= FOLD_GRACE_S / 2
