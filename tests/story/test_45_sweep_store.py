"""The sweep of a whole store: collections that were deleted, that never got a name, that left something behind; and what is nobody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
from tests.story.sweeps import DAY_S, Between, check_whole, in_line, with_history
from tests.worlds import DATABASE, TENANT, World, documents, keys, vectors

from chromalith.compaction.garbage import Reason
from chromalith.compaction.reclaim import StoreSweep, named_collections
from chromalith.compaction.sweep import SweepOutcome
from chromalith.coord.catalog import Catalog
from chromalith.coord.pointer import publish_version_zero, read_pointer
from chromalith.errors import ChromalithError, Corrupt, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.ids import CollectionId, collection_id
from chromalith.model.retention import Retention
from chromalith.store.port import Object, Store
from chromalith.store.wrappers import CountingStore, DelegatingStore
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls


def sweep_store(
    world: World, *, delete: bool = True, retention: Retention | None = None, store: Store | None = None
) -> Sequence[SweepOutcome]:
    """Sweep the world's store, with the default retention unless another is given."""
    store = store or world.store
    catalog = Catalog(store, world.clock)
    return StoreSweep(store, world.clock, catalog, retention or Retention(), delete=delete, executor=in_line).run()


def of(world: World, cid: CollectionId) -> list[str]:
    return [key for key in keys(world.store) if layout.collection_in(key) == cid]


def filled(world: World, name: str) -> CollectionId:
    """Another collection with one version and a delta that waits."""
    cid = world.create(name)
    world.writer().write(cid, "upsert", ["x"], vectors(1, 1))
    world.compactor().run_once(cid)
    world.writer().write(cid, "upsert", ["y"], vectors(1, 2))
    return cid


def reasons(outcomes: Sequence[SweepOutcome]) -> dict[CollectionId | None, set[Reason]]:
    return {each.collection: {g.reason for g in each.garbage} for each in outcomes if each.garbage}


def test_living_collections_are_swept() -> None:
    """Each collection of every database is swept by its own history, and stays whole."""
    with with_history(5) as world:
        other = world.create("other")
        for value in range(4):
            world.writer().write(other, "upsert", ["x"], vectors(1, value))
            world.compactor().run_once(other)
        outcomes = sweep_store(world, retention=Retention(2, 0, 0))
        assert {each.collection for each in outcomes} == {world.cid, other, None}
        assert all(each.deleted and each.published for each in outcomes if each.collection)
        check_whole(world)
        again = sweep_store(world, retention=Retention(2, 0, 0))
        assert not reasons(again)
        assert {each.published for each in again} == {None}


def test_a_deleted_collection_goes_after_a_day() -> None:
    """Nothing of it goes within a day of the deletion by the store's date; then everything, its object last; and its name stays free."""
    with with_history(2) as world:
        cid = filled(world, "gone")
        world.catalog.delete(TENANT, DATABASE, "gone")
        before = of(world, cid)
        world.clock.advance(DAY_S - 60)
        assert not reasons(sweep_store(world))
        assert of(world, cid) == before
        world.clock.advance(120)
        dry = sweep_store(world, delete=False)
        assert reasons(dry) == {cid: {Reason.DELETED_COLLECTION}}
        assert of(world, cid) == before
        outcomes = sweep_store(world)
        assert reasons(outcomes) == reasons(dry)
        assert of(world, cid) == []
        [swept] = [each for each in outcomes if each.garbage]
        assert [each.key for each in swept.garbage][-2:] == [layout.pointer_key(cid), layout.collection_key(cid)]
        assert set(before) == {each.key for each in swept.garbage}
        world.create("gone")
        assert world.documents() == {"a": "1", "b": "1"}


def test_one_that_is_deleted_while_the_sweep_runs_has_its_day() -> None:
    """The day counts from the deletion, and not from when the sweep listed the collection's object, which was written long before."""
    with with_history(2) as world:
        cid = filled(world, "gone")
        world.clock.advance(3 * DAY_S)
        before = of(world, cid)
        object_key = layout.collection_key(cid)

        class DeletedOnceListed(DelegatingStore):
            read = False

            def get(self, key: str) -> Object:
                if key == object_key and not self.read:
                    self.read = True
                    world.catalog.delete(TENANT, DATABASE, "gone")
                return self.inner.get(key)

        assert not reasons(sweep_store(world, store=DeletedOnceListed(world.store)))
        assert of(world, cid) == before
        world.clock.advance(DAY_S + 60)
        sweep_store(world)
        assert of(world, cid) == []


def test_a_reader_that_slept_is_told_that_the_collection_is_gone() -> None:
    """Who opened a collection before it was deleted, and comes back after it was reclaimed, is told so: it is not called damage."""
    with with_history(2) as world:
        cid = filled(world, "gone")
        session = world.session()
        assert session.view(cid).count() == 2
        world.catalog.delete(TENANT, DATABASE, "gone")
        world.clock.advance(DAY_S + 60)
        sweep_store(world)
        with pytest.raises(NotFound):
            session.view(cid)
        with pytest.raises(NotFound):
            read_pointer(world.store, cid)
        with pytest.raises(NotFound):
            session.writer.write(cid, "upsert", ["z"], vectors(1, 3))
        with pytest.raises(NotFound):
            session.compactor().run_once(cid)


def test_a_missing_pointer_of_a_living_collection_is_damage() -> None:
    """Only the collection's object says that it is gone."""
    with with_history(1) as world:
        world.store.delete(layout.pointer_key(world.cid))
        with pytest.raises(Corrupt):
            read_pointer(world.store, world.cid)
        before = keys(world.store, layout.SEGMENT_ROOT)
        with pytest.raises(Corrupt):
            sweep_store(world)
        assert keys(world.store, layout.SEGMENT_ROOT) == before


def test_one_damaged_collection_does_not_keep_the_others_from_being_swept() -> None:
    """What a collection raises is raised when the others are done."""
    with with_history(5) as world:
        first = sorted([world.cid, world.create("other")])[0]
        world.store.put(layout.collection_key(first), b"no JSON")
        doomed = filled(world, "gone")
        world.catalog.delete(TENANT, DATABASE, "gone")
        world.clock.advance(DAY_S + 60)
        with pytest.raises(Corrupt):
            sweep_store(world)
        assert of(world, doomed) == []
        assert of(world, first)


def test_a_deletion_that_crashed_is_finished() -> None:
    """A collection that was marked, but kept its name and its pointer, loses both before anything else of it goes."""
    with with_history(2) as world:
        cid = filled(world, "half")
        world.catalog._mark_deleted(cid)
        world.clock.advance(DAY_S + 60)
        store = Between(world.store, 0, lambda: None)
        sweep_store(world, store=store)
        changes = [(verb, key) for verb, key in store.calls if verb in ("put", "delete")]
        assert [verb for verb, _ in changes[:3]] == ["put", "put", "put"]  # the date's object, the name, the pointer
        assert changes[2] == ("put", layout.pointer_key(cid))
        assert changes[-1] == ("delete", layout.collection_key(cid))
        assert cid not in named_collections(world.store)
        assert of(world, cid) == []


def test_what_landed_after_the_collection_was_gone() -> None:
    """A delta or segment without a collection goes when it is a day old; a younger one may be of a collection that is being made."""
    with with_history(2) as world:
        lost = collection_id(world.clock.random_uuid())
        keys_of_it = [f"{layout.delta_prefix(lost)}late.parquet", f"{layout.segment_prefix(lost)}x/records.parquet"]
        for key in keys_of_it:
            world.store.put(key, b"late")
        assert not reasons(sweep_store(world))
        world.clock.advance(DAY_S + 60)
        world.store.put(layout.lease_key(lost), b"{}")
        assert not reasons(sweep_store(world))
        world.clock.advance(DAY_S + 60)
        assert reasons(sweep_store(world)) == {lost: {Reason.NO_COLLECTION}}
        assert of(world, lost) == []


def test_what_belongs_to_people_stays() -> None:
    """Migrations, the catalog, the store's object and foreign objects are never touched, however old they are."""
    with with_history(2) as world:
        foreign = [
            "store.json", "migration/words.json", "snapshot/migration/words/000.parquet", "snapshot/notes.txt", "delta/notes.txt",
            "mine/a.txt", "tag/readme", "lease/other.json", "collection/list.txt",
        ]  # fmt: skip
        for key in foreign[1:]:
            world.store.put(key, b"a person's")
        world.clock.advance(400 * DAY_S)
        before = [*foreign, *keys(world.store, layout.CATALOG_ROOT)]
        sweep_store(world, retention=Retention(1, 0, 0))
        assert set(before) <= set(keys(world.store))


def test_probes_that_crashed_go() -> None:
    """What a probe left goes when it is a day old; one that is at work is left alone."""
    with with_history(1) as world:
        world.store.put("probe/old/first", b"left")
        world.clock.advance(DAY_S + 60)
        world.store.put("probe/new/first", b"at work")
        assert reasons(sweep_store(world)) == {None: {Reason.PROBE}}
        assert keys(world.store, layout.PROBE_ROOT) == ["probe/new/first"]


def test_requests() -> None:
    """A sweep of a store that finds nothing: one LIST for each root; for each collection its object, tags, pointer and manifests."""
    with with_history(2) as world:
        world.create("other")
        store = CountingStore(world.store)
        sweep_store(world, delete=False, store=store)
        counts = store.counts
        assert counts.requests.keys() == {"list", "get"}
        assert counts.requests["list"] == 8 + 1 + 1 + 2  # eight roots, the catalog, probes; the tags of two collections
        manifests = 3 + 1
        assert counts.requests["get"] == 1 + 2 * 2 + manifests  # a database; objects and pointers
        store.reset()
        sweep_store(world, store=store)
        assert store.counts.requests == counts.requests + Counter(put=1, head=1)


# Collections without a name ---------------------------------------------------------------------------------------------


def nameless(world: World) -> CollectionId:
    """What a creator leaves that crashed before it gave the name."""
    cid = filled(world, "nameless")
    world.catalog.take_name(TENANT, DATABASE, cid)
    return cid


def test_a_collection_without_a_name_goes_in_three_days() -> None:
    """Not within a day of its last object; then it is marked, and a day later it goes as one that was deleted."""
    with with_history(2) as world:
        cid = nameless(world)
        assert not reasons(sweep_store(world))
        world.clock.advance(DAY_S + 60)
        before = of(world, cid)
        assert reasons(sweep_store(world, delete=False)) == {cid: {Reason.ABANDONED_COLLECTION}}
        assert reasons(sweep_store(world)) == {cid: {Reason.ABANDONED_COLLECTION}}
        assert of(world, cid) == before
        with pytest.raises(NotFound):
            world.catalog.get(cid)
        world.clock.advance(DAY_S + 60)
        outcome = sweep_store(world)
        assert reasons(outcome) == {cid: {Reason.ABANDONED_COLLECTION}}
        assert of(world, cid) == []


def test_one_that_is_still_being_made_is_left_alone() -> None:
    """As long as anything of it is written, a fork may go on for days without a name."""
    with with_history(2) as world:
        cid = nameless(world)
        for number in range(5):
            world.clock.advance(DAY_S - 60)
            world.store.put(layout.segment_file_key(cid, world.current().segments[0].id, f"index.{number}"), b"copied")
            assert not reasons(sweep_store(world))
        world.catalog.get(cid)


def later(world: World, days: int = 4) -> None:
    """Sweeps of the next days."""
    for _ in range(days):
        world.clock.advance(DAY_S + 60)
        sweep_store(world)


def calls_of_a_creator() -> int:
    with with_history(1) as world:
        store = Between(world.store, 0, lambda: None)
        Catalog(store, world.clock).create(TENANT, DATABASE, "new", configuration={})
        return len(store.calls)


@pytest.mark.parametrize("days", [1, 2, 3])
def test_a_creator_that_stalls(days: int) -> None:
    """A creator that sleeps for days at any of its calls either made a collection that lives on, or says that it made none."""
    made = 0
    total = calls_of_a_creator()
    for number in range(1, total + 1):
        with with_history(1) as world:
            store = Between(world.store, number, lambda world=world: later(world, days))
            try:
                cid = Catalog(store, world.clock).create(TENANT, DATABASE, "new", configuration={}).collection.id
            except ChromalithError:
                with pytest.raises(NotFound):
                    world.catalog.lookup(TENANT, DATABASE, "new")
                world.create("new")
                continue
            made += 1
            world.writer().write(cid, "upsert", ["x"], vectors(1, 1))
            later(world)
            assert world.catalog.lookup(TENANT, DATABASE, "new").collection.id == cid
            assert documents(world.session().view(cid)) == {"x": None}
    assert 0 < made < total


@pytest.mark.parametrize("another", [False, True])
def test_a_sweep_that_meets_a_creator_who_wakes_up(another: bool) -> None:
    """A creator that gives the name, and others who write, between any two calls of the sweep that is about to take it for abandoned:
    what was acknowledged lives, also if another sweep, which had looked before, marks it again."""

    def start() -> tuple[World, CollectionId]:
        world = with_history(1)
        cid = nameless(world)
        world.clock.advance(DAY_S + 60)
        return world, cid

    def wake(world: World, cid: CollectionId, *, writes: bool, ends: bool) -> None:
        catalog = Catalog(world.store, world.clock)
        home = catalog.databases.get(TENANT, DATABASE)
        try:
            fresh = catalog.get(cid)
        except NotFound:
            return
        with suppress(Unavailable):
            if ends:
                catalog.give_name(home, "nameless", fresh)
                acknowledged.append("named")
            else:
                catalog._link(home, "nameless", fresh)  # it dies before it looks again
        with suppress(NotFound):
            if writes:
                found = catalog.lookup(TENANT, DATABASE, "nameless").collection.id
                world.writer().write(found, "delete", ["x"])
                acknowledged.append("written")
        if another:
            sweep = StoreSweep(world.store, world.clock, catalog, Retention(), delete=True, executor=in_line)
            sweep._mark(cid, world.clock.random_hex(32))

    world, cid = start()
    with world:
        store = Between(world.store, 0, lambda: None)
        sweep_store(world, store=store)
        total = len(store.calls)
    alive, gone = 0, 0
    for writes, ends in ((False, True), (True, False), (True, True)):
        for number in range(1, total + 1):
            acknowledged: list[str] = []
            world, cid = start()
            with world:
                act = lambda w=world, c=cid, a=writes, b=ends: wake(w, c, writes=a, ends=b)  # noqa: E731
                sweep_store(world, store=Between(world.store, number, act))
                later(world)
                if acknowledged:
                    alive += 1
                    assert world.catalog.lookup(TENANT, DATABASE, "nameless").collection.id == cid, (writes, ends, number)
                    assert world.session().view(cid).count() == (1 if "written" in acknowledged else 2)
                elif not of(world, cid):
                    gone += 1
    assert alive > 10
    assert gone > 0


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST])
def test_a_creator_that_crashes_leaves_nothing_for_ever(fault: Fault) -> None:
    """Wherever a creator dies, the name can be given again, and the sweeps of the next days leave only what has a name."""
    for number in range(1, calls_of_a_creator() + 1):
        with with_history(1) as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, ChromalithError):
                Catalog(store, world.clock).create(TENANT, DATABASE, "new", configuration={})
            with suppress(ChromalithError):
                world.create("new")
            later(world)
            named = named_collections(world.store)
            assert len(named) == 2
            assert {layout.collection_in(key) for key in keys(world.store)} - {None} == named.keys()


def test_a_pointer_without_a_manifest_is_no_reason_to_delete() -> None:
    """A collection that lives and can't be read is left for a person: only the object says that it is dead."""
    with with_history(1) as world:
        cid = filled(world, "odd")
        for key in keys(world.store, layout.snapshot_prefix(cid), ".json"):
            world.store.delete(key)
        world.clock.advance(40 * DAY_S)
        before = of(world, cid)
        with pytest.raises(Corrupt):
            sweep_store(world)
        assert of(world, cid) == before


def test_version_zero_of_an_unnamed_collection_goes_too() -> None:
    """A creator that died right after its first objects leaves nothing for ever."""
    with with_history(1) as world:
        cid = collection_id(world.clock.random_uuid())
        publish_version_zero(world.store, cid, world.clock)
        world.clock.advance(DAY_S + 60)
        assert reasons(sweep_store(world)) == {cid: {Reason.NO_COLLECTION}}
        assert of(world, cid) == []
