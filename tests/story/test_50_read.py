"""Reading: list, then pointer, then what they name; levels; own writes; and a sweep that overtakes a read."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest
from tests.worlds import Settling, World, documents, keys, merging, vectors

from chromalith.errors import Corrupt, NotFound, Unavailable
from chromalith.model import layout
from chromalith.read.reader import PARALLEL_READ_MAX_S, ReadLevel
from chromalith.read.view import View
from chromalith.store.port import Absent, Store
from chromalith.store.wrappers import CountingStore, DelegatingStore, EveryCallStore
from chromalith.testing.faulty import FaultyStore


def recording(world: World, store: Any = None) -> FaultyStore:
    return FaultyStore(store or world.store, lambda call: None, world.clock)


def list_and_pointer(store: FaultyStore) -> list[str]:
    """The order of listings of deltas and reads of the pointer among a store's calls."""
    kinds = {"list": "list", "get": "pointer", "get_if_changed": "pointer"}
    return [
        kinds[call.verb]
        for call in store.calls
        if (call.key.startswith("delta/") and call.verb == "list") or call.key.endswith("pointer.txt")
    ]


def test_lists_before_it_reads_the_pointer() -> None:
    """The order that hides nothing: with the pointer first, a fold and its sweep in between would hide deltas."""
    with World() as world:
        store = recording(world)
        session = world.session(store)
        for _ in range(3):
            store.calls.clear()
            session.view(world.cid)
            assert list_and_pointer(store) == ["list", "pointer"]


def test_a_fold_and_a_sweep_between_the_two_requests_hide_nothing() -> None:
    """Whatever happens between the listing and the pointer, an acknowledged write is seen."""

    class Between(EveryCallStore):
        armed = False

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            found = request()
            if self.armed and verb in ("list", "get", "get_if_changed") and not key.startswith("segment/"):
                self.armed = False
                world.compact(fold_grace_s=0)
                world.compact(fold_grace_s=0)
                assert keys(world.store, layout.DELTA_ROOT) == []
            return found

    with World() as world:
        store = Between(world.store)
        session = world.session(store)
        session.view(world.cid)
        for value in range(4):
            world.upsert("a", value)
            store.armed = True
            assert documents(session.view(world.cid)) == {"a": f"{value}"}


def test_parallel_requests_that_took_long_are_repeated_in_order() -> None:
    """On a remote store the two go out together, and are believed only if both ended well within the grace."""

    class Slow(DelegatingStore):
        slow_s = 0.0

        def list(self, prefix, *, start_after=""):  # type: ignore[no-untyped-def]
            world.clock.advance(self.slow_s)
            self.slow_s = 0.0
            return self.inner.list(prefix, start_after=start_after)

    with World() as world:
        world.upsert("a", 1)
        slow = Slow(Settling(world.store))
        store = recording(world, slow)
        session = world.session(store)
        session.view(world.cid)
        store.calls.clear()
        session.view(world.cid)
        assert sorted(list_and_pointer(store)) == ["list", "pointer"]
        store.calls.clear()
        slow.slow_s = PARALLEL_READ_MAX_S + 1
        session.view(world.cid)
        assert list_and_pointer(store)[2:] == ["list", "pointer"]
        assert len(list_and_pointer(store)) == 4


def test_a_read_that_a_sweep_overtook_starts_again() -> None:
    """A 404 on a delta that a listing named is no error: the read begins anew, and sees at least as much."""

    class SweptUnderneath(EveryCallStore):
        armed = True

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            if self.armed and verb == "get" and key.startswith("delta/"):
                self.armed = False
                world.compact(fold_grace_s=0)
                world.compact(fold_grace_s=0)
            return request()

    with World() as world:
        world.upsert("ab", 1)
        assert world.documents(SweptUnderneath(world.store)) == {"a": "1", "b": "1"}


@pytest.mark.parametrize("level", [ReadLevel.INDEX_AND_WAL, ReadLevel.INDEX_ONLY])
def test_a_manifest_that_was_swept_is_looked_for_again(level: ReadLevel) -> None:
    """A 404 on the manifest that the pointer named a moment ago restarts the read, at every level."""

    class SweptUnderneath(EveryCallStore):
        armed = True

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            if self.armed and verb == "get" and key.endswith(".json") and key.startswith("snapshot/"):
                self.armed = False
                world.upsert("b", 2)
                world.compact()
                world.store.delete(key)
            return request()

    with World() as world:
        world.upsert("a", 1)
        world.compact()
        session = world.session(SweptUnderneath(world.store))
        assert documents(session.view(world.cid, level)) == {"a": "1", "b": "2"}


def test_a_view_starts_again_when_its_segments_were_swept() -> None:
    """A view whose segment was merged away and swept before it was hydrated answers from a newer state."""
    with World() as world:
        for value, ids in enumerate(("ab", "bc")):
            world.upsert(ids, value)
            world.compact()
        view = world.view()
        world.compactor(settings=merging()).run_once(world.cid)
        kept = {key for segment in world.current().segments for key in segment.objects(world.cid)}
        for key in keys(world.store, layout.SEGMENT_ROOT):
            if key not in kept:
                world.store.delete(key)
        assert documents(view) == {"a": "0", "b": "1", "c": "1"}


@pytest.mark.parametrize("name", ["records.parquet", "ids.parquet"])
def test_an_object_that_the_current_version_names_and_that_is_gone_is_corrupt(name: str) -> None:
    """Nobody may have swept it: the read says so with the key, and does not go on looking."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        (key,) = keys(world.store, layout.SEGMENT_ROOT, name)
        world.store.delete(key)
        with pytest.raises(Corrupt, match=key):
            world.view().get(ids=["a"])


def test_a_process_always_sees_its_own_writes() -> None:
    """While something that this process wrote is not in what a level would answer from, the default level is used."""
    with World() as world:
        session = world.session(max_staleness_s=1e9)
        levels = (ReadLevel.INDEX_ONLY, ReadLevel.INDEX_AND_BOUNDED_WAL)
        for level in levels:
            assert session.view(world.cid, level).count() == 0
        for value in range(3):
            session.writer.write(world.cid, "upsert", ["a"], vectors(1, value), documents=[f"{value}"])
            for level in levels:
                assert documents(session.view(world.cid, level))["a"] == f"{value}"
            world.upsert("b", value)
            world.compact()
            for level in levels:
                assert documents(session.view(world.cid, level))["a"] == f"{value}"


def test_levels_are_as_fresh_as_they_say() -> None:
    """Within the bound the weaker levels repeat what they had; past it they look again."""
    with World() as world:
        world.upsert("a", 1)
        session = world.session(max_staleness_s=10)
        assert documents(session.view(world.cid, ReadLevel.INDEX_AND_BOUNDED_WAL)) == {"a": "1"}
        assert documents(session.view(world.cid, ReadLevel.INDEX_ONLY)) == {}
        world.upsert("b", 2)
        world.compact()
        world.upsert("c", 3)
        world.clock.advance(9)
        assert documents(session.view(world.cid, ReadLevel.INDEX_AND_BOUNDED_WAL)) == {"a": "1"}
        assert documents(session.view(world.cid, ReadLevel.INDEX_ONLY)) == {}
        world.clock.advance(2)
        assert documents(session.view(world.cid, ReadLevel.INDEX_ONLY)) == {"a": "1", "b": "2"}
        assert documents(session.view(world.cid, ReadLevel.INDEX_AND_BOUNDED_WAL)) == {"a": "1", "b": "2", "c": "3"}
        assert documents(session.view(world.cid)) == {"a": "1", "b": "2", "c": "3"}


def test_a_view_does_not_change() -> None:
    """What a view shows stays the same, whatever is written, folded and merged after it was taken."""
    with World() as world:
        session = world.session()
        views: list[tuple[View, Any]] = []
        for value, ids in enumerate(("ab", "bc", "a", "cd")):
            world.upsert(ids, value)
            view = session.view(world.cid)
            views.append((view, view.get()))
            if value % 2:
                world.compactor(settings=merging()).run_once(world.cid)
                view = session.view(world.cid)
                views.append((view, view.get()))
        for view, shown in views:
            assert view.get() == shown
            assert view.count() == len(shown.ids)


def test_the_overlay_is_extended_and_not_read_again() -> None:
    """A reader that has applied some deltas reads only the new ones."""
    with World() as world:
        counting = CountingStore(world.store)
        session = world.session(counting)
        for value in range(5):
            world.upsert("ab", value)
            assert documents(session.view(world.cid)) == {"a": f"{value}", "b": f"{value}"}
        assert counting.counts.kinds["get", "delta"] == 5
        world.compact()
        session.view(world.cid)
        assert counting.counts.kinds["get", "delta"] == 5


def test_many_threads_share_one_reader() -> None:
    """Readers in many threads, with a compactor that merges all the time, always see a whole state, and never an older one."""
    with World() as world:
        session = world.session()
        failures: list[BaseException] = []
        stop = threading.Event()

        def read() -> None:
            latest = -1
            try:
                while not stop.is_set():
                    shown = documents(session.view(world.cid))
                    values = set(shown.values())
                    assert len(values) <= 1, shown  # one call is seen as a whole
                    value = int(values.pop() or 0) if values else -1
                    assert value >= latest
                    latest = value
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for value in range(25):
            world.upsert("abcd", value)
            if value % 3 == 0:
                world.compactor(settings=merging()).run_once(world.cid)
                world.clock.advance(61)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]


def test_a_deleted_collection_is_not_found_at_every_level() -> None:
    """A reader that knows the collection learns from the pointer's tombstone that it is gone."""
    with World() as world:
        world.upsert("a", 1)
        session = world.session(max_staleness_s=0)
        session.view(world.cid)
        world.catalog.delete("default_tenant", "default_database", "words")
        world.clock.advance(1)
        for level in ReadLevel:
            with pytest.raises(NotFound):
                session.view(world.cid, level)
        with pytest.raises(NotFound):
            world.store.put("never/used", b"", Absent()) and world.view()


class Failing(EveryCallStore):
    """From ``begin`` to ``end``, the call ``number`` fails."""

    def __init__(self, inner: Store, number: int) -> None:
        super().__init__(inner)
        self._number = number
        self._calls = -1
        self.struck = False

    def begin(self) -> None:
        self._calls = 0

    def end(self) -> None:
        self._calls = -1

    def call(self, verb: str, key: str, request: Any) -> Any:
        if self._calls >= 0:
            self._calls += 1
            if self._calls == self._number:
                self.struck = True
                raise Unavailable(f"it fails once verb={verb} key={key}")
        return request()


@pytest.mark.parametrize("fold", [False, True], ids=["a delta", "a version"])
@pytest.mark.parametrize("level", [ReadLevel.INDEX_AND_WAL, ReadLevel.INDEX_ONLY])
def test_a_read_that_failed_half_way_leaves_nothing_stale(fold: bool, level: ReadLevel) -> None:
    """A request that fails in the middle of a read fails that read: the next one shows what is there, and not what was there before.

    The simulation found it: profile ``deleting``, seed 131864210201."""
    for number in range(1, 20):
        with World() as world:
            world.upsert("a", 1)
            world.compact()
            failing = Failing(world.store, number)
            session = world.session(failing, max_staleness_s=0)
            assert documents(session.view(world.cid, level)) == {"a": "1"}
            world.upsert("b", 2)
            if fold:
                world.compact()
            session.collections._known.clear()  # as after a write that found the collection deleted
            failing.begin()
            world.clock.advance(1)
            with suppress(Unavailable):
                session.view(world.cid, level)
            struck = failing.struck
            failing.end()
            world.clock.advance(1)
            seen = level is ReadLevel.INDEX_AND_WAL or fold
            assert documents(session.view(world.cid, level)) == ({"a": "1", "b": "2"} if seen else {"a": "1"}), number
        if not struck:
            break
    assert 1 < number < 19
