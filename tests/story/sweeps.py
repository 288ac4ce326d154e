"""What the tests of the sweep share: worlds with a history, sweeps without threads, and a store on which others come in between."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from tests.worlds import World, keys

from chromalith.compaction.sweep import SweepOutcome, run_sweep
from chromalith.compaction.verify import verify
from chromalith.coord.pointer import read_manifest
from chromalith.coord.tags import list_tags
from chromalith.model import layout
from chromalith.model.retention import Retention
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.in_line import InLineExecutor

Result = TypeVar("Result")

NOTHING_KEPT = Retention(keep_versions=1, keep_age_s=0, job_grace_s=0)
"""The harshest sweep: only the current version is kept, and every job that is at work has to start again."""
DAY_S = 86_400


def in_line(threads: int, name: str) -> Executor:
    """No threads: the calls of a sweep come in one order."""
    return InLineExecutor()


def with_history(versions: int = 5, world: World | None = None) -> World:
    """A world with that many folds of two records, an hour apart; version ``v`` says ``v - 1``."""
    world = world or World()
    for value in range(versions):
        world.upsert("ab", value)
        world.compact()
        world.clock.advance(3_600)
    return world


def copy_of(world: World) -> World:
    """Another world in the same state: a hundred times faster than to let the same things happen again."""
    new = World(settings=world.settings)
    assert isinstance(new.store, MemoryStore)
    assert isinstance(world.store, MemoryStore)
    new.clock.wall_us, new.clock._monotonic_s = world.clock.wall_us, world.clock._monotonic_s
    new.store._objects, new.store._keys = dict(world.store._objects), list(world.store._keys)
    new.store._puts, new.store._last_us = world.store._puts, world.store._last_us
    new.cid = world.cid
    return new


def sweep(world: World, retention: Retention = NOTHING_KEPT, store: Store | None = None) -> SweepOutcome:
    """Sweep the world's collection, for real."""
    return run_sweep(store or world.store, world.clock, world.cid, retention, executor=in_line)


def versions(world: World) -> list[int]:
    """The versions whose manifests are stored, rivals too."""
    return [layout.parse_manifest_key(key)[1] for key in keys(world.store, layout.snapshot_prefix(world.cid), ".json")]


def unnamed(world: World) -> set[str]:
    """The objects of jobs that no stored manifest names."""
    named: set[str] = set()
    aside = set()
    for key in keys(world.store, layout.snapshot_prefix(world.cid), ".json"):
        manifest = read_manifest(world.store, key)
        named |= manifest.objects.keys()
        aside |= {ref.id for ref in manifest.aside}
    return {
        key
        for key in keys(world.store)
        if (job := layout.parse_job_key(key)) is not None and key not in named and job not in aside
    }


def check_whole(world: World) -> None:
    """Whatever a reader can still get at is there: the current version, all from the horizon on, and those with a tag that holds."""
    verify(world.store, world.cid)
    manifest = world.current()
    horizon = manifest.horizon
    wanted = [manifest]
    while manifest.version > horizon and manifest.parent is not None:
        manifest = read_manifest(world.store, manifest.parent)
        wanted.append(manifest)
    wanted += [read_manifest(world.store, tag.manifest) for tag in list_tags(world.store, world.cid) if tag.held and tag.manifest]
    stored = set(keys(world.store))
    for each in wanted:
        missing = each.objects.keys() - stored
        assert not missing, (each.version, missing)
        for ref in each.aside:
            assert keys(world.store, layout.aside_prefix(world.cid, ref.id)), (each.version, ref)


class Between(EveryCallStore):
    """Runs ``act`` once, before the call with the number ``at`` (from 1; 0: never). ``calls`` are those made so far."""

    def __init__(self, inner: Store, at: int, act: Callable[[], object]) -> None:
        super().__init__(inner)
        self._at = at
        self._act = act
        self.calls: list[tuple[str, str]] = []

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        self.calls.append((verb, key))
        if len(self.calls) == self._at:
            self._act()
        return request()
