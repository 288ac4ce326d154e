"""What each step costs in requests, counted at the store: the promises that a bill depends on."""

from __future__ import annotations

from tests.worlds import Settling, World

from chromalith.read.reader import ReadLevel
from chromalith.store.port import PreconditionFailed
from chromalith.store.wrappers import CountingStore, Counts, EveryCallStore


def kinds(counts: Counts) -> dict[tuple[str, str], int]:
    return dict(counts.kinds)


def test_a_write_is_one_put_and_one_conditional_get() -> None:
    """From the second call of a writer on; the first asks for the whole collection object. No lease, no pointer, no manifest."""
    for remote in (False, True):
        with World() as world:
            world.upsert("x")
            counting = CountingStore(Settling(world.store) if remote else world.store)
            writer = world.writer(counting)
            world.upsert("a", 1, writer=writer)
            assert kinds(counting.reset()) == {("get", "collection"): 1, ("put", "delta"): 1}
            for value in range(10):
                world.upsert("ab", value, writer=writer)
            assert kinds(counting.reset()) == {("get_if_changed", "collection"): 10, ("put", "delta"): 10}


def test_writers_never_meet() -> None:
    """However many writers there are, no condition of theirs ever fails."""

    class Meeting(EveryCallStore):
        failed = 0

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            try:
                return request()
            except PreconditionFailed:
                self.failed += 1
                raise

    with World() as world:
        store = Meeting(world.store)
        writers = [world.writer(store) for _ in range(8)]
        for value in range(5):
            for writer in writers:
                world.upsert("ab", value, writer=writer)
            world.compact()
        assert store.failed == 0


def test_a_warm_read_is_one_list_and_one_conditional_get() -> None:
    """At the default level; a new delta costs one GET more, once."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        counting = CountingStore(world.store)
        session = world.session(counting)
        session.view(world.cid).get()
        counting.reset()
        for _ in range(3):
            view = session.view(world.cid)
            view.get()
            view.count()
            view.query([[0.0, 0.0, 0.0]], 1)  # type: ignore[arg-type]
        assert kinds(counting.reset()) == {("list", "delta"): 3, ("get_if_changed", "snapshot"): 3}
        world.upsert("c", 2)
        for _ in range(3):
            session.view(world.cid).get()
        assert kinds(counting.reset()) == {
            ("list", "delta"): 3,
            ("get_if_changed", "snapshot"): 3,
            ("get", "delta"): 1,
            ("get", "segment"): 1,  # the id table of the segment, at the first overlay on it
        }


def test_within_the_bound_a_read_costs_nothing() -> None:
    """The two weaker levels make no request while what they hold is fresh enough, and one or two when it is not."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        counting = CountingStore(world.store)
        session = world.session(counting, max_staleness_s=10)
        for level in (ReadLevel.INDEX_AND_BOUNDED_WAL, ReadLevel.INDEX_ONLY):
            session.view(world.cid, level).get()
        counting.reset()
        for level in (ReadLevel.INDEX_AND_BOUNDED_WAL, ReadLevel.INDEX_ONLY):
            for _ in range(3):
                session.view(world.cid, level).get()
        assert kinds(counting.reset()) == {}
        world.clock.advance(11)
        session.view(world.cid, ReadLevel.INDEX_ONLY).get()
        assert kinds(counting.reset()) == {("get_if_changed", "snapshot"): 1}
        session.view(world.cid, ReadLevel.INDEX_AND_BOUNDED_WAL).get()
        assert kinds(counting.reset()) == {("list", "delta"): 1, ("get_if_changed", "snapshot"): 1}


def test_an_idle_tick_is_one_list_for_the_whole_store() -> None:
    """However many collections there are, a compactor learns by one request that none has anything to do."""
    with World() as world:
        for number in range(5):
            world.create(f"collection-{number}")
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(61)
        world.compact()
        counting = CountingStore(world.store)
        assert world.compactor(counting).waiting() == []
        assert kinds(counting.reset()) == {("list", "delta"): 1}


def test_counting_needs_no_records() -> None:
    """``count`` of a cold process reads the pointer, the manifest and the deltas' list, and no segment."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        counting = CountingStore(world.store)
        assert world.session(counting).view(world.cid).count() == 2
        assert {kind for _, kind in counting.counts.kinds} == {"collection", "delta", "snapshot"}


def test_a_delete_is_folded_without_the_records() -> None:
    """Deleting by id reads id tables only, and writes deletes only."""
    with World() as world:
        world.upsert("abcdef", 1)
        world.compact()
        world.writer().write(world.cid, "delete", ["a"])
        seen: list[str] = []

        class Seeing(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                seen.append(f"{verb} {key.rpartition('/')[2] if '/deletes/' not in key else 'deletes'}")
                return request()

        world.compactor(Seeing(world.store)).run_once(world.cid)
        assert not [call for call in seen if "records.parquet" in call]
        assert "put deletes" in seen
