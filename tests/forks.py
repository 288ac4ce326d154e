"""For the tests of forks: a collection to fork, forks of it, and what may happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.worlds import DATABASE, TENANT, World, documents, merging

from chromalith.compaction.fork import Forked
from chromalith.compaction.reclaim import StoreSweep
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.verify import verify
from chromalith.model.ids import CollectionId
from chromalith.model.retention import Retention
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.in_line import InLineExecutor

SHORTEST = Retention(keep_versions=1, keep_age_s=0, job_grace_s=0)
"""A sweep that keeps nothing that it need not."""
RECORDS = {"a": "2", "b": "0", "d": "0", "e": "2"}


def prepared(*, remote: bool = False, **settings: Any) -> World:
    """Two segments with deletes, folded deltas that are still there, and two that wait."""
    world = World(remote=remote, settings=merging(**settings))
    for ids in ("abd", "bc"):
        world.upsert(ids, 0)
        world.clock.advance(3)
        world.compact(merge=World().settings.merge)
    world.upsert("ae", 2)
    world.writer().write(world.cid, "delete", ["c"])
    assert len(world.current().segments) == 2
    return world


def make(world: World, name: str = "copy", *, store: Store | None = None, source: CollectionId | None = None, **options: Any) -> Forked:
    """A fork by a process of its own, without threads, so that its calls have an order."""
    place = (TENANT, DATABASE, name)
    session = world.session(store, executor=lambda threads, name: InLineExecutor())
    return session.fork(source or world.cid, place, **options)


def id_of(made: Forked) -> CollectionId:
    return made.named.collection.id


def shown(world: World, cid: CollectionId) -> dict[str, str | None]:
    """Documents by id in the order of ``get``, as a process that just started sees them."""
    return documents(world.session().view(cid))


def whole(world: World, cid: CollectionId) -> None:
    """Everything that the current version says is so; and that it still is when all is folded and merged."""
    before = shown(world, cid)
    verify(world.store, cid)
    world.clock.advance(10)
    world.compactor().run_once(cid)
    verify(world.store, cid)
    assert list(shown(world, cid).items()) == list(before.items())


class Meanwhile(EveryCallStore):
    """Lets something happen once, before the first call that ``when`` chooses."""

    def __init__(self, inner: Store, when: Callable[[str, str], bool], act: Callable[[], object]) -> None:
        super().__init__(inner)
        self._when = when
        self._act: Callable[[], object] | None = act

    def call(self, verb: str, key: str, request: Callable[[], Any]) -> Any:
        if self._act is not None and self._when(verb, key):
            act, self._act = self._act, None
            act()
        return request()

    @property
    def happened(self) -> bool:
        return self._act is None


def busy(world: World) -> None:
    """Compactions and the hardest sweep there is."""
    for _ in range(3):
        world.upsert("x", 1)
        world.clock.advance(100)
        world.compact()
    run_sweep(world.store, world.clock, world.cid, SHORTEST)


def sweep_the_store(world: World) -> None:
    StoreSweep(world.store, world.clock, world.catalog, SHORTEST, delete=True).run()
