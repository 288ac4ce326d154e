"""Compactors under leases: who has one works, the others leave it to them; and whatever happens to a lease, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lease_places import held, in_store
from tests.worlds import World, keys, merging

from chromalith.compaction.compactor import Compactor
from chromalith.compaction.outcome import CompactionSettings
from chromalith.compaction.verify import verify
from chromalith.coord.history import published_keys
from chromalith.coord.lease import Lease, Tenure, break_lease
from chromalith.coord.lease_table import LEASE_S
from chromalith.model import layout
from chromalith.store.port import Store
from chromalith.store.wrappers import CountingStore, EveryCallStore

LEASED = CompactionSettings(merge=World().settings.merge, heartbeat=False)


def leased_world(**changed: Any) -> World:
    world = World(settings=replace(LEASED, **changed))
    world.upsert("ab", 1)
    return world


def other_holder(world: World, *, merge: bool = False, owner: str = "other") -> Tenure:
    key = layout.merge_lease_key(world.cid) if merge else layout.lease_key(world.cid)
    return held(Lease(in_store(world.store), key, world.clock, purpose="merge" if merge else "fold", owner=owner).try_acquire())


def test_a_fold_works_under_its_lease() -> None:
    """From before its LIST until it has published; then the lease is released."""
    with leased_world() as world:
        owners: list[str] = []

        class Looking(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                seen = in_store(world.store).look(layout.lease_key(world.cid))
                if verb == "put" and key == layout.pointer_key(world.cid):
                    assert seen is not None
                    assert not seen.record.released
                    owners.append(seen.record.owner)
                return request()

        assert world.compactor(Looking(world.store)).run_once(world.cid).folded == 1
        assert len(owners) == 1
        seen = in_store(world.store).look(layout.lease_key(world.cid))
        assert seen is not None
        assert seen.record.released


def test_what_somebody_else_has_is_left_to_them() -> None:
    """A fold lease held by another leaves the fold to them; the outcome says who, and nothing is raised or published."""
    with leased_world() as world:
        other = other_holder(world)
        outcome = world.compactor().run_once(world.cid)
        assert outcome.idle
        assert outcome.held_by is not None
        assert outcome.held_by.owner == other.record.owner
        assert world.current().version == 0
        other.release()
        assert world.compact().folded == 1


def test_a_held_merge_does_not_keep_others_from_folding() -> None:
    """And a held fold does not keep others from merging: the two leases are apart."""
    with leased_world() as world:
        world.compact()
        world.upsert("bc", 2)
        world.settings = replace(merging(), lease=True, heartbeat=False)
        merger = other_holder(world, merge=True)
        outcome = world.compactor().run_once(world.cid)
        assert (outcome.folded, outcome.merged) == (1, 0)
        assert outcome.held_by is not None
        assert (outcome.held_by.owner, outcome.held_by.purpose) == (merger.record.owner, "merge")
        merger.release()
        other_holder(world)
        world.upsert("d", 3)
        outcome = world.compactor().run_once(world.cid)
        assert (outcome.folded, outcome.merged) == (0, 2)
        assert outcome.held_by is not None
        assert outcome.held_by.purpose == "fold"


def test_an_idle_run_takes_no_lease() -> None:
    """Nothing to fold, to sweep or to merge: nothing is written."""
    with leased_world() as world:
        world.compact()
        world.clock.advance(100)
        world.compact()
        counting = CountingStore(world.store)
        assert world.compactor(counting).run_once(world.cid).idle
        assert not any(verb == "put" for verb, _ in counting.counts.kinds)
        assert {kind for _, kind in counting.counts.kinds} <= {"delta", "snapshot", "collection"}


def test_a_watcher_takes_over_without_waiting() -> None:
    """Rounds that share what they saw need not wait in any of them: the round after the lease time takes over from the dead."""
    with leased_world() as world:
        other_holder(world)
        compactor = world.compactor()
        slept_s = world.clock.slept_s
        for _ in range(int(LEASE_S / 5)):
            assert compactor.run_once(world.cid).held_by is not None
            world.clock.advance(5)
        assert compactor.run_once(world.cid).folded == 1
        assert world.clock.slept_s == slept_s


def test_a_single_run_waits_and_takes_over() -> None:
    """A run that will not come back finds out in one go that the holder is dead, and does the work."""
    with leased_world() as world:
        other_holder(world)
        assert world.compactor().run_once(world.cid, wait_s=1000).folded == 1
        assert world.documents() == {"a": "1", "b": "1"}


def test_a_broken_lease_stops_the_next_round_only() -> None:
    """What is under way when a lease is broken is published, if it wins the race; nothing new is begun."""
    with leased_world(fold_deltas_max=1) as world:
        world.upsert("c", 2)

        class Breaking(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key == layout.pointer_key(world.cid):
                    seen = in_store(world.store).look(layout.lease_key(world.cid))
                    assert seen is not None
                    break_lease(in_store(world.store), layout.lease_key(world.cid), world.clock, expected_owner=seen.record.owner, by="p")
                return request()

        outcome = world.compactor(Breaking(world.store)).run_once(world.cid)
        assert outcome.folded == 1
        assert outcome.held_by is not None
        assert outcome.held_by.owner == "p"
        assert world.compact().folded == 1
        assert world.documents() == {"a": "1", "b": "1", "c": "2"}
        verify(world.store, world.cid)


def test_a_finished_merge_is_published_without_its_lease() -> None:
    """A merge whose lease was broken while it wrote is published all the same: the work is done, and the pointer decides."""
    with leased_world(merge=merging().merge) as world:
        for value, ids in enumerate(("ab", "b", "c")):
            world.upsert(ids, value)
            world.compact(merge=LEASED.merge)
        assert len(world.current().segments) == 3
        written = 0

        class Breaking(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                nonlocal written
                if verb == "put" and key.endswith("records.parquet"):
                    written += 1
                    if written == 2:
                        seen = in_store(world.store).look(layout.merge_lease_key(world.cid))
                        assert seen is not None
                        assert not seen.record.released
                        break_lease(in_store(world.store), layout.merge_lease_key(world.cid), world.clock, expected_owner=seen.record.owner)
                return request()

        assert len(world.compactor(Breaking(world.store)).run_once(world.cid).published) == 2
        assert len(world.current().segments) == 1
        assert world.documents() == {"a": "0", "b": "1", "c": "2"}


class At(EveryCallStore):
    """At one call of its actor, something happens first."""

    def __init__(self, inner: Store, number: int, happens: Callable[[], object]) -> None:
        super().__init__(inner)
        self.number = number
        self.happens = happens
        self.calls = 0

    def call(self, verb, key, request):  # type: ignore[no-untyped-def]
        self.calls += 1
        if self.calls == self.number:
            self.happens()
        return request()


def test_two_that_both_believe_lose_nothing() -> None:
    """Two compactors that hold the lease at once (one overslept, and publishes late) fold each delta once, at whatever call the other
    comes in, and both notice. What the other folded meanwhile stays."""
    noticed = lost_races = 0
    for number in range(1, 100):
        with leased_world(merge=merging().merge) as world:
            world.compact()
            world.upsert("bc", 2)
            other = world.compactor()
            published: list[str] = []

            def take_over(world: World = world, other: Compactor = other, published: list[str] = published) -> None:
                world.upsert("d", 3)
                other.run_once(world.cid)
                world.clock.advance(LEASE_S)
                other.run_once(world.cid)
                published.append(world.current().key)

            store = At(world.store, number, take_over)
            outcome = world.compactor(store).run_once(world.cid)
            noticed += outcome.held_by is not None
            lost_races += outcome.idle
            world.clock.advance(LEASE_S)
            other.run_once(world.cid)
            meanwhile = {"d": "3"} if store.calls >= number else {}
            assert world.documents() == {"a": "1", "b": "2", "c": "2"} | meanwhile, number
            assert world.current().next_seq == 4 + len(meanwhile)
            assert set(published) <= set(published_keys(world.store, world.cid).values()), f"a published version is gone call={number}"
            verify(world.store, world.cid)
            if store.calls < number:
                break
    assert 30 < number < 99
    assert noticed
    assert lost_races


def test_without_leases_nothing_else_differs() -> None:
    """No lease object is read or written; the store's date comes from an object of its own, written before the LIST."""
    with World() as world:
        world.upsert("ab", 1)
        counting = CountingStore(world.store)
        other_holder(world)
        before = world.store.get(layout.lease_key(world.cid)).body
        assert world.compactor(counting, replace(LEASED, lease=False)).run_once(world.cid).folded == 1
        assert world.store.get(layout.lease_key(world.cid)).body == before
        assert layout.date_key(world.cid) in keys(world.store)
