"""A fork: the records of a collection as another one, copied inside the store. Neither sees the other write; a crash leaves no half."""

from __future__ import annotations

import pytest
from tests.forks import RECORDS, SHORTEST, Meanwhile, id_of, make, prepared, shown, whole
from tests.worlds import DATABASE, TENANT, World, altered, keys

from chromalith.compaction.fork import Forked, fork, forks_of, plan_fork, tag_name
from chromalith.compaction.sweep import run_sweep
from chromalith.coord.collection_object import ForkedFrom
from chromalith.coord.pointer import read_current
from chromalith.coord.tags import list_tags, put_tag
from chromalith.errors import Conflict, Corrupt, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.delta import VOID
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.store.wrappers import CountingStore
from chromalith.testing.faulty import FaultyStore

# What a fork is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [10_000, 1])
@pytest.mark.parametrize("remote", [False, True])
def test_a_fork_holds_what_a_default_read_sees(remote: bool, threshold: int) -> None:
    """Same records in the same order, with the same sequence numbers and checksums, folded or not; with an index, too."""
    with prepared(remote=remote, index_threshold=threshold) as world:
        made = make(world)
        assert list(shown(world, id_of(made)).items()) == list(world.documents().items()) == list(RECORDS.items())
        assert (made.source, made.version, made.deltas, made.operations, made.quarantined) == (world.cid, 2, 2, 3, 0)
        for cid in (world.cid, id_of(made)):
            whole(world, cid)
        ours, theirs = (read_current(world.store, cid).manifest for cid in (world.cid, id_of(made)))
        assert (ours.next_seq, ours.live, ours.content, ours.embedding) == (theirs.next_seq, 4, theirs.content, theirs.embedding)
        assert all(segment.index is not None for segment in theirs.segments) is (threshold == 1)


def test_version_zero_of_a_fork() -> None:
    """It is the source's version under names with base 0, of kind ``fork``, at the store's date, and without the source's history."""
    with prepared() as world:
        source = world.current()
        made = make(world)
        key = keys(world.store, layout.snapshot_prefix(id_of(made)), ".json")[0]
        first = read_current(world.store, id_of(made)).manifest
        assert (first.key, first.version, first.kind, first.parent, first.boundary, first.horizon) == (key, 0, "fork", None, 0, 0)
        assert (first.content, first.embedding, first.next_seq) == (source.content, source.embedding, source.next_seq)
        assert not first.folded.runs
        assert {segment.id.base for segment in first.segments} == {0}
        copies = {key: world.store.get(key).body for key in first.objects}
        assert all(first.objects[key].holds(body) for key, body in copies.items())
        assert made.bytes == sum(map(len, copies.values()))
        assert made.objects == len(copies)
        assert first.created_us <= world.store.head(key).modified_us


def test_a_fork_is_what_its_source_is() -> None:
    """Configuration, schema, metadata and dimension are the source's; its own object says where it came from."""
    with World() as world:
        source = world.catalog.create(
            TENANT, DATABASE, "rich", configuration={"hnsw": {"space": "cosine"}}, schema={"keys": {}}, metadata={"owner": "me"}
        ).collection
        world.writer().write(source.id, "upsert", ["a"], [[1.0, 0.0]])
        made = make(world, source=source.id).named
        found = world.catalog.lookup(TENANT, DATABASE, "copy").collection
        assert made.collection == found
        assert (found.configuration, found.schema, found.metadata) == (source.configuration, {"keys": {}}, {"owner": "me"})
        assert found.dimension == 2
        assert found.forked_from == ForkedFrom(source.id, 0, source.id)
        assert world.catalog.get(source.id).forked_from is None


def test_neither_sees_the_others_writes() -> None:
    """Writes, deletes, compactions and the end of one change nothing in the other."""
    with prepared() as world:
        made = make(world)
        cid = id_of(made)
        world.upsert("bz", 7)
        world.writer().write(cid, "delete", ["a", "e"])
        world.writer().write(cid, "upsert", ["f"], [[9.0, 9.0, 9.0]], documents=["9"])
        assert world.documents() == RECORDS | {"b": "7", "z": "7"}
        assert shown(world, cid) == {"b": "0", "d": "0", "f": "9"}
        for each in (world.cid, cid):
            whole(world, each)
        world.catalog.delete(TENANT, DATABASE, "words")
        whole(world, cid)
        assert shown(world, cid) == {"b": "0", "d": "0", "f": "9"}


def test_a_fork_of_a_fork_and_of_nothing() -> None:
    """An empty collection can be forked, also before it has a dimension; a fork can be forked; each counts in the lineage."""
    with World() as world:
        empty = make(world, "empty")
        assert (empty.objects, empty.deltas) == (0, 0)
        assert shown(world, id_of(empty)) == {}
        assert world.catalog.get(id_of(empty)).dimension is None
        world.upsert("a", 1)
        first = make(world, "first")
        second = make(world, "second", source=id_of(first))
        world.compactor().run_once(id_of(second))
        third = make(world, "third", source=id_of(second))
        assert shown(world, id_of(third)) == {"a": "1"}
        whole(world, id_of(third))
        assert third.named.collection.forked_from == ForkedFrom(id_of(second), 1, world.cid)
        family = ["empty", "first", "second", "third"]
        for cid in (world.cid, id_of(second), id_of(third)):
            assert [each.name for each in forks_of(world.catalog, TENANT, DATABASE, cid)] == family
        world.catalog.delete(TENANT, DATABASE, "second")  # the lineage does not break where a link is gone
        assert [each.name for each in forks_of(world.catalog, TENANT, DATABASE, id_of(third))] == ["empty", "first", "third"]
        assert forks_of(world.catalog, TENANT, DATABASE, world.create("other")) == []


def test_an_older_version_can_be_forked() -> None:
    """By number, by tag, and below the horizon as long as a tag holds it; what waits on top of the present one is not in it."""
    with prepared() as world:
        put_tag(world.store, world.clock, world.cid, "good", world.session().view(world.cid).manifest)
        old = {"a": "0", "b": "0", "d": "0"}
        assert shown(world, id_of(make(world, "by-number", at=1))) == old
        assert shown(world, id_of(make(world, "by-tag", at="good"))) == old | {"c": "0"}
        world.clock.advance(10)
        world.compact()
        run_sweep(world.store, world.clock, world.cid, SHORTEST)
        assert world.current().horizon > 2
        below = make(world, "below", at="good")
        assert below.version == 2
        whole(world, id_of(below))
        assert shown(world, id_of(below)) == old | {"c": "0"}
        with pytest.raises(NotFound):
            make(world, "gone", at=1)
        with pytest.raises(NotFound):
            make(world, "gone", at="bad")


def test_a_call_counts_once_in_the_fork_too() -> None:
    """Of a call that was repeated under its ``call_id``, and of a call that was given up, the fork has what the source has."""
    with World() as world:
        world.upsert("a", 1, call_id="one")
        world.clock.advance(1)
        world.upsert("a", 2)
        world.upsert("a", 1, call_id="one", writer=world.writer())
        given_up = DeltaId(world.clock.now_us() << 12, "f" * 32, 0, "0" * 16)
        world.store.put(layout.delta_key(world.cid, given_up), VOID)
        made = make(world)
        assert (made.deltas, shown(world, id_of(made))) == (2, {"a": "2"} | world.documents())
        whole(world, id_of(made))


def test_the_order_of_what_waits_is_kept() -> None:
    """On a store of whole seconds: of several calls on one id the last one wins in the fork too, folded or not."""
    with World(remote=True) as world:
        for value in range(9):
            world.upsert("a", value)
        cid = id_of(make(world))
        assert shown(world, cid) == world.documents() == {"a": "8"}
        whole(world, cid)


# Refusals and damage --------------------------------------------------------------------------------------------------


def test_a_taken_name_is_refused_before_anything_is_written() -> None:
    """Nor does a dry run write."""
    with prepared() as world:
        make(world)
        store = CountingStore(world.store)
        with pytest.raises(Conflict, match="copy"):
            make(world, store=store)
        plan = plan_fork(store, world.cid)
        assert (len(plan.pending), plan.manifest.version) == (2, 2)
        assert not store.counts.requests.keys() & {"put", "copy", "delete"}
        with pytest.raises(NotFound):
            make(world, "new", source=CollectionId("00000000-0000-4000-8000-000000000000"))


def test_who_is_late_with_the_name_has_lost() -> None:
    """Two forks at once under one name: the first to name its collection wins, and the other one's is ended."""
    with prepared() as world:
        winner: list[Forked] = []
        store = Meanwhile(world.store, lambda verb, key: verb == "copy", lambda: winner.append(make(world)))
        with pytest.raises(Conflict):
            make(world, store=store)
        assert world.catalog.lookup(TENANT, DATABASE, "copy").collection.id == id_of(winner[0])
        whole(world, id_of(winner[0]))
        assert not [tag for tag in list_tags(world.store, world.cid) if tag.manifest is not None]
        alive = [key for key in keys(world.store, "collection/") if b'"deleted":false' in world.store.get(key).body]
        assert len(alive) == 2


def test_a_copy_is_looked_at_before_it_is_named() -> None:
    """A store that copies something else, once, makes the fork copy again; one that always does makes it fail, and nothing is published."""

    class Cutting(FaultyStore):
        times = 1

        def copy(self, source: str, target: str) -> None:
            if self.times:
                self.times -= 1
                self.inner.put(target, self.inner.get(source).body[:-1])
            else:
                self.inner.copy(source, target)

    with prepared() as world:
        store = Cutting(world.store, lambda call: None, world.clock)
        whole(world, id_of(make(world, store=store)))
        store.times = 1_000
        with pytest.raises(Unavailable):
            make(world, "another", store=store)
        assert world.catalog.count(TENANT, DATABASE) == 2


@pytest.mark.parametrize("name", ["records.parquet", "ids.parquet"])
def test_damage_of_the_source_is_not_copied(name: str) -> None:
    """An object that is not what the manifest says ends the fork, with its name; so does one that is missing although it is held."""
    with prepared() as world:
        key = keys(world.store, layout.segment_prefix(world.cid), name)[0]
        altered(world.store, key, lambda body: body[:-1] + bytes([body[-1] ^ 1]))
        with pytest.raises(Corrupt, match=key):
            make(world)
        world.store.delete(key)
        with pytest.raises(Corrupt, match=key):
            make(world)
        assert world.catalog.count(TENANT, DATABASE) == 1


def test_a_damaged_delta() -> None:
    """One that is not quarantined yet ends a fork as it ends a default read; once it is, the fork says that it left it out."""
    with prepared() as world:
        delta = keys(world.store, layout.delta_prefix(world.cid))[-1]
        altered(world.store, delta, lambda body: body[:-1])
        with pytest.raises(Corrupt, match="delta"):
            make(world)
        world.clock.advance(10)
        world.compact()
        made = make(world)
        assert made.quarantined == 1
        assert shown(world, id_of(made)) == world.documents()
        whole(world, id_of(made))


def test_a_dimension_that_is_fixed_meanwhile() -> None:
    """The first write of the source's life, between the fork's first look and its listing, is in the fork, and so is its dimension."""
    with World() as world:
        store = Meanwhile(world.store, lambda verb, key: verb == "list", lambda: world.upsert("a", 1))
        cid = id_of(make(world, store=store))
        assert store.happened
        assert (shown(world, cid), world.catalog.get(cid).dimension) == ({"a": "1"}, 3)


def test_the_tag_says_which_fork() -> None:
    """Two forks of one source at once have tags of their own."""
    assert tag_name(CollectionId("a")) != tag_name(CollectionId("b"))
    assert fork.__module__ == "chromalith.compaction.fork"
