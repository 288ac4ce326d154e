"""Every store call of a sweep could be its last: it dies, or goes blind, before or after each of them in turn. Then others go on:
a reader, a fold, another sweep. Nothing that is named is missing, and the second sweep leaves nothing over."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache as once

import pytest
from tests.story.sweeps import (
    DAY_S,
    NOTHING_KEPT,
    check_whole,
    copy_of,
    in_line,
    sweep,
    unnamed,
    versions,
    with_history,
)
from tests.worlds import World, keys

from chromalith.compaction.fork import tag_name
from chromalith.compaction.reclaim import StoreSweep
from chromalith.compaction.sweep import SweepOutcome
from chromalith.coord.catalog import Catalog
from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import read_current, read_manifest
from chromalith.coord.tags import list_tags, put_tag, release_tag
from chromalith.errors import Conflict, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.ids import CollectionId, collection_id
from chromalith.model.manifest import encode_manifest
from chromalith.model.retention import Retention
from chromalith.store.port import Store
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE]
RECORDS = {"a": "4", "b": "4", "c": "9"}
KEPT = replace(NOTHING_KEPT, keep_versions=2)


def prepared() -> World:
    """Versions to sweep, one of them tagged; tags of a fork that crashed, and one released; a rival, an orphan, a delta that waits."""
    world = with_history(5)
    other = collection_id(world.clock.random_uuid())
    put_tag(world.store, world.clock, world.cid, tag_name(other), manifest_at(world.store, world.cid, 1), purpose="fork")
    world.clock.advance(DAY_S + 1)
    put_tag(world.store, world.clock, world.cid, "kept", manifest_at(world.store, world.cid, 2))
    put_tag(world.store, world.clock, world.cid, "released", manifest_at(world.store, world.cid, 3))
    release_tag(world.store, world.clock, world.cid, "released")
    rival = replace(manifest_at(world.store, world.cid, 5), write_id="f" * 32)
    world.store.put(rival.key, encode_manifest(rival))
    world.store.put(layout.segment_file_key(world.cid, rival.segments[0].id, layout.index_file("left")), b"left")
    world.upsert("c", 9)
    return world


def no_manifest_is_broken(world: World) -> None:
    """Whatever manifest is still stored, in the chain, below the horizon or of a lost race, everything that it names is stored."""
    stored = set(keys(world.store))
    for key in keys(world.store, layout.snapshot_prefix(world.cid), ".json"):
        assert not read_manifest(world.store, key).objects.keys() - stored, key


def others_go_on(world: World) -> None:
    """A reader, a fold, and a second sweep."""
    assert world.documents() == RECORDS
    world.clock.advance(10)
    assert world.compact().folded == 1
    sweep(world, KEPT)
    assert unnamed(world) == set()
    assert sweep(world, KEPT).garbage == ()
    stored = versions(world)
    kinds = [manifest_at(world.store, world.cid, v).kind for v in stored if v >= world.current().horizon]
    assert stored[0] == 2
    assert sum(kind != "sweep" for kind in kinds) == 2
    assert world.session().reader.view_of(manifest_at(world.store, world.cid, world.current().horizon)).count() == 2
    assert [tag.name for tag in list_tags(world.store, world.cid) if tag.manifest] == ["kept"]
    assert world.documents() == RECORDS
    check_whole(world)


@once
def a_world() -> World:
    return prepared()


def calls() -> int:
    with copy_of(a_world()) as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        sweep(world, KEPT, store)
        assert {call.verb for call in store.calls} == {"put", "head", "get", "list", "delete"}
        others_go_on(world)
        return len(store.calls)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sweep_can_end_at_any_call(fault: Fault) -> None:
    """No stored manifest names what is gone, at any moment; and whoever comes next finishes."""
    struck = set()
    for number in range(1, calls() + 1):
        with copy_of(a_world()) as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                sweep(world, KEPT, store)
            struck |= {call.verb for call, _ in store.struck}
            no_manifest_is_broken(world)
            if store.land():
                no_manifest_is_broken(world)
            others_go_on(world)
    assert {"put", "list", "delete", "get", "head"} <= struck


def test_two_faults() -> None:
    """A sweep that crashes where another one has crashed before leaves no more than that one."""
    total = calls()
    for first in range(4, total, 9):
        for second in range(2, total, 7):
            with copy_of(a_world()) as world:
                for number in (first, second):
                    store = FaultyStore(world.store, at_calls({number: Fault.CRASH_AFTER}), world.clock)
                    with suppress(Crash):
                        sweep(world, KEPT, store)
                no_manifest_is_broken(world)
                others_go_on(world)


# The sweep of a whole store ---------------------------------------------------------------------------------------------


def sweep_store(world: World, store: Store | None = None, *, delete: bool = True) -> Sequence[SweepOutcome]:
    store = store or world.store
    catalog = Catalog(store, world.clock)
    retention = Retention(keep_versions=2, keep_age_s=0, job_grace_s=0)
    return StoreSweep(store, world.clock, catalog, retention, delete=delete, executor=in_line).run()


def with_the_dead() -> tuple[World, list[CollectionId]]:
    """A living collection with garbage, one that was deleted, one whose deletion crashed, one without a name, and a probe: a day old."""
    world = with_history(3)
    dead = []
    for name in ("deleted", "half"):
        cid = world.create(name)
        world.writer().write(cid, "upsert", ["x"], [[1, 2, 3]])
        world.compactor().run_once(cid)
        dead.append(cid)
    world.catalog.delete("default_tenant", "default_database", "deleted")
    world.catalog._mark_deleted(dead[1])
    dead.append(world.create("nameless"))
    world.catalog.take_name("default_tenant", "default_database", dead[2])
    lost = collection_id(world.clock.random_uuid())
    world.store.put(f"{layout.segment_prefix(lost)}{'0' * 16}-{'e' * 32}/records.parquet", b"late")
    world.store.put(f"{layout.PROBE_ROOT}{'e' * 16}/first", b"left")
    world.clock.advance(DAY_S + 60)
    return world, [*dead, lost]


def of(world: World, cid: CollectionId) -> list[str]:
    return [key for key in keys(world.store) if layout.collection_in(key) == cid]


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.BEFORE])
def test_a_sweep_of_a_store_can_end_at_any_call(fault: Fault) -> None:
    """What lives is whole, what is dead stays dead, and the sweeps of the next days leave nothing of it."""
    start, dead = with_the_dead()
    with copy_of(start) as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        sweep_store(world, store)
        total = len(store.calls)
    for number in range(1, total + 1):
        with copy_of(start) as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                sweep_store(world, store)
            for cid in dead[:2]:
                with pytest.raises(NotFound):
                    world.session().view(cid)
                with pytest.raises(NotFound):
                    world.writer().write(cid, "upsert", ["y"], [[1, 2, 3]])
            with pytest.raises(NotFound):
                read_current(world.store, dead[0])
            for _ in range(2):
                sweep_store(world)
                world.clock.advance(DAY_S + 60)
            sweep_store(world)
            assert [key for cid in dead for key in of(world, cid)] == []
            assert keys(world.store, layout.PROBE_ROOT) == []
            assert [each.name for each in world.catalog.listing("default_tenant", "default_database")] == ["words"]
            assert all(not outcome.garbage for outcome in sweep_store(world))
            assert world.documents() == {"a": "2", "b": "2"}
            check_whole(world)
