"""A sweep beside everything else: it runs as a whole between any two store calls of a reader, a fold, a merge, a tag, a restore,
another sweep, and each of these between any two calls of a sweep. Nobody misses anything, and nothing is kept for ever."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from tests.story.sweeps import NOTHING_KEPT, Between, check_whole, sweep, unnamed, versions, with_history
from tests.worlds import World, keys, merging

from chromalith.compaction.next_version import child_of
from chromalith.compaction.restore import Restorer
from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import Current, pointer_body, read_current
from chromalith.coord.tags import find_tag, put_tag, release_tag
from chromalith.errors import Conflict, NotFound
from chromalith.model import layout
from chromalith.model.manifest import Manifest, encode_manifest
from chromalith.model.retention import Retention
from chromalith.read.reader import ReadLevel
from chromalith.store.port import Matches, Store
from chromalith.store.wrappers import CountingStore
from chromalith.testing.in_line import InLineExecutor

RECORDS = {"a": "2", "b": "2", "c": "9"}


def prepared() -> World:
    """Three folds, a delta that waits, and settings that merge."""
    world = with_history(3)
    world.upsert("c", 9)
    world.settings = merging()
    return world


def calls_of(act: Callable[[World, Store], object]) -> int:
    with prepared() as world:
        store = Between(world.store, 0, lambda: None)
        act(world, store)
        return len(store.calls)


def compact_and_sweep(world: World) -> None:
    """Fold, delete the deltas that were folded, merge, and sweep as harshly as can be."""
    world.compact(fold_grace_s=0)
    world.compact(fold_grace_s=0)
    sweep(world)
    assert len(versions(world)) == 2  # what was merged, and the sweep's own


def finished(world: World) -> None:
    """After two more rounds there is no garbage left."""
    for _ in range(2):
        world.clock.advance(100)
        world.compact()
        sweep(world)
    assert unnamed(world) == set()
    assert sweep(world).garbage == ()
    check_whole(world)


@pytest.mark.parametrize("level", [ReadLevel.INDEX_AND_WAL, ReadLevel.INDEX_ONLY])
def test_a_reader_that_just_started_is_overtaken(level: ReadLevel) -> None:
    """At whatever call a compaction and a sweep overtake a cold reader, it refreshes and answers."""

    def read(world: World, store: Store) -> None:
        found = world.session(store, executor=lambda n, name: InLineExecutor()).view(world.cid, level).get(include=("documents",))
        expected = RECORDS if level is ReadLevel.INDEX_AND_WAL else {"a": "2", "b": "2"}
        answer = dict(zip(found.ids, found.documents or (), strict=True))
        assert answer in (expected, RECORDS)

    total = calls_of(read)
    assert total > 3
    for number in range(1, total + 1):
        with prepared() as world:
            read(world, Between(world.store, number, lambda world=world: compact_and_sweep(world)))


def test_a_warm_reader_is_overtaken() -> None:
    """The same for a reader that had read before: between its view and its answer, and at each call of its next read."""
    for number in range(8):
        with prepared() as world:
            store = Between(world.store, 0, lambda world=world: compact_and_sweep(world))
            session = world.session(store, executor=lambda n, name: InLineExecutor())
            view = session.view(world.cid)
            assert view.count() == 3  # counted from the manifest: nothing of the segments is here yet
            if number == 0:
                compact_and_sweep(world)
            else:
                store._at = len(store.calls) + number
            again = view if number % 2 == 0 else session.view(world.cid)
            found = again.get(include=("documents",))
            assert dict(zip(found.ids, found.documents or (), strict=True)) == RECORDS


@pytest.mark.parametrize("grace_s", [0, 3_600])
def test_a_compaction_is_overtaken(grace_s: float) -> None:
    """A fold and merges between whose calls a sweep runs start again or rebase: the version that stands names nothing that is gone."""

    def compact(world: World, store: Store) -> None:
        with suppress(Conflict):
            world.compactor(store).run_once(world.cid)

    for number in range(1, calls_of(compact) + 1):
        with prepared() as world:
            retention = replace(NOTHING_KEPT, job_grace_s=grace_s)
            compact(world, Between(world.store, number, lambda world=world, r=retention: sweep(world, r)))
            assert world.documents() == RECORDS, number
            check_whole(world)
            finished(world)
            assert world.documents() == RECORDS, number


@pytest.mark.parametrize(("grace_s", "written"), [(0, 2), (3_600, 1)])
def test_a_merge_survives_a_sweep_within_the_grace(grace_s: float, written: int) -> None:
    """A merge whose segment is written when a sweep runs is published if it is younger than the grace, else it is made again."""
    with prepared() as world:
        world.compact(merge=World().settings.merge)
        world.clock.advance(7_200)
        before = set(keys(world.store, layout.SEGMENT_ROOT, layout.RECORDS_FILE))
        retention = replace(NOTHING_KEPT, job_grace_s=grace_s, keep_versions=1)

        class AfterTheSegment(Between):
            def put(self, key: str, body: bytes, condition: object = None) -> str:
                tag = super().put(key, body, condition)  # type: ignore[arg-type]
                if key.endswith(layout.IDS_FILE) and not self.swept:
                    self.swept = True
                    sweep(world, retention)
                return tag

            swept = False

        store = AfterTheSegment(world.store, 0, lambda: None)
        act = world.compactor(store)
        outcome = act.run_once(world.cid)
        assert store.swept
        if not outcome.merged:  # it was abandoned: the next round merges
            outcome = act.run_once(world.cid)
        assert outcome.merged
        puts = [key for verb, key in store.calls if verb == "put" and key.endswith(layout.RECORDS_FILE)]
        assert len(puts) == written
        assert len(world.current().segments) == 1
        assert before
        check_whole(world)
        finished(world)


def test_a_sweep_is_overtaken_by_a_compaction() -> None:
    """A fold and merges that publish between any two calls of a sweep are not touched by it."""

    def act(world: World, store: Store) -> None:
        with suppress(Conflict):
            sweep(world, NOTHING_KEPT, store)

    for number in range(1, calls_of(act) + 1):
        with prepared() as world:
            act(world, Between(world.store, number, lambda world=world: world.compact()))
            assert world.documents() == RECORDS, number
            check_whole(world)
            finished(world)


def test_a_manifest_that_may_still_become_current_is_left_alone() -> None:
    """A publisher that read the sweep's version, and has written its manifest but not the pointer when the sweep looks, can publish."""

    def half(world: World) -> None:
        current = read_current(world.store, world.cid)
        child = child_of(current, world.clock, "merge", world.clock.now_us(), None)
        world.store.put(child.key, encode_manifest(child))
        begun.append((current, child))

    finished_later = 0
    for number in range(1, calls_of(_sweep) + 1):
        begun: list[tuple[Current, Manifest]] = []
        with prepared() as world:
            with suppress(Conflict):
                _sweep(world, Between(world.store, number, lambda world=world: half(world)))
            [(parent, child)] = begun
            if read_current(world.store, world.cid).manifest.key == parent.manifest.key:
                world.store.put(layout.pointer_key(world.cid), pointer_body(child), Matches(parent.pointer.etag))
                finished_later += 1
            assert world.documents() == RECORDS
            check_whole(world)
            finished(world)
    assert finished_later > 3


def test_two_sweeps_at_once() -> None:
    """A harsher sweep, and a milder one, between any two calls of a sweep: what either keeps by its published horizon is whole."""
    mild, harsh = replace(NOTHING_KEPT, keep_versions=2), NOTHING_KEPT
    for first, second in ((mild, harsh), (harsh, mild)):
        for number in range(1, calls_of(lambda world, store, r=first: sweep(world, r, store)) + 1):
            with prepared() as world:
                store = Between(world.store, number, lambda world=world, r=second: sweep(world, r))
                with suppress(Conflict):
                    sweep(world, first, store)
                assert world.documents() == RECORDS
                check_whole(world)
                finished(world)


@pytest.mark.parametrize("sweep_inside", [True, False])
def test_a_tag_and_a_sweep(sweep_inside: bool) -> None:
    """Whichever comes between the calls of the other: the tag says that it does not hold, or the version is whole and stays so."""

    def tag(world: World, store: Store, manifest: object = None) -> None:
        put_tag(store, world.clock, world.cid, "kept", world.kept)  # type: ignore[attr-defined]

    def act(world: World, store: Store) -> None:
        world.kept = manifest_at(world.store, world.cid, 1)  # type: ignore[attr-defined]
        outer, inner = (tag, _sweep) if sweep_inside else (_sweep, tag)
        if isinstance(store, Between):
            store._act = lambda: _quietly(lambda: inner(world, world.store))
        _quietly(lambda: outer(world, store))
        try:
            found = find_tag(world.store, world.cid, "kept")
        except NotFound:
            sweep(world)
            assert 1 not in versions(world)
            return
        held.append(found.version)
        check_whole(world)
        sweep(world)
        check_whole(world)
        view = world.session().reader.view_of(world.kept)  # type: ignore[attr-defined]
        assert view.get(ids=["a"]).documents == ["0"]

    held: list[int | None] = []
    total = calls_of(act)
    held.clear()
    for number in range(1, total + 1):
        with prepared() as world:
            act(world, Between(world.store, number, lambda: None))
    assert len(held) > 0


def _sweep(world: World, store: Store) -> None:
    sweep(world, NOTHING_KEPT, store)


def _quietly(act: Callable[[], object]) -> None:
    with suppress(Conflict, NotFound):
        act()


@pytest.mark.parametrize("sweep_inside", [True, False])
@pytest.mark.parametrize("release", [False, True])
def test_a_restore_and_a_sweep(release: bool, sweep_inside: bool) -> None:
    """A restore of a version that a sweep takes, or whose tag is released meanwhile, names nothing that is gone, or does not happen."""

    def restore(world: World, store: Store) -> None:
        put = world.writer(world.store).put
        Restorer(store, world.clock, put, executor=lambda n, name: InLineExecutor()).run(world.cid, "kept" if release else 2)

    def disturb(world: World, store: Store) -> None:
        if release:
            release_tag(store, world.clock, world.cid, "kept")
        _sweep(world, store)

    def start(world: World) -> None:
        if release:
            put_tag(world.store, world.clock, world.cid, "kept", manifest_at(world.store, world.cid, 2))
            sweep(world)

    def act(world: World, store: Store) -> None:
        outer, inner = (restore, disturb) if sweep_inside else (disturb, restore)
        if isinstance(store, Between):
            store._act = lambda: _quietly(lambda: inner(world, world.store))
        _quietly(lambda: outer(world, store))

    def whole(world: World) -> None:
        check_whole(world)
        happened.append(world.documents() == {"a": "1", "b": "1"})
        assert happened[-1] or world.documents() == RECORDS
        sweep(world)
        check_whole(world)

    happened: list[bool] = []
    with prepared() as world:
        start(world)
        store = Between(world.store, 0, lambda: None)
        act(world, store)
        total = len(store.calls)
    for number in range(1, total + 2):  # the last one: nobody comes between
        with prepared() as world:
            start(world)
            act(world, Between(world.store, number, lambda: None))
            whole(world)
    assert {True, False} <= set(happened)


def test_a_write_is_never_in_the_way() -> None:
    """Deltas that are written between any two calls of a sweep are read and folded: a sweep deletes no delta."""
    for number in range(1, calls_of(_sweep) + 1):
        with prepared() as world:
            waiting = keys(world.store, layout.DELTA_ROOT)
            _sweep(world, Between(world.store, number, lambda world=world: world.upsert("d", 5)))
            assert set(waiting) < set(keys(world.store, layout.DELTA_ROOT))
            assert world.documents() == RECORDS | {"d": "5"}


def test_readers_pay_nothing_for_a_sweep() -> None:
    """After a sweep, a warm read is a LIST, the pointer and the new manifest; no segment is read again."""
    with prepared() as world:
        store = CountingStore(world.store)
        session = world.session(store)
        session.view(world.cid).get()
        sweep(world, Retention(keep_versions=1, keep_age_s=0))
        store.reset()
        session.view(world.cid).get()
        assert store.counts.kinds.keys() == {("list", "delta"), ("get_if_changed", "snapshot"), ("get", "snapshot")}
