"""Repair: what is a function of the records is made again from them; what is not is left alone, and the version that is whole is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.damage import file_key, flip, forge, prepared, stored_buckets, with_buckets
from tests.worlds import World, altered, keys

from chromalith.compaction.repair import Repaired, repair
from chromalith.compaction.verify import verify
from chromalith.coord.collections import Collections
from chromalith.errors import Conflict, Corrupt
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore


def mend(world: World, store: Store | None = None) -> Repaired:
    collection = Collections(world.store, world.catalog).get(world.cid)
    return repair(store or world.store, world.clock, collection, world.settings.index_threshold)


def answers(world: World) -> Any:
    found = world.view().get(include=("documents", "embeddings", "metadatas"))
    assert found.embeddings is not None
    return found.ids, found.documents, found.embeddings.tolist(), found.metadatas


def buckets_key(world: World) -> str:
    ref = world.current().buckets
    assert ref is not None
    return layout.buckets_key(world.cid, ref.id)


DERIVED: dict[str, Callable[[World], str]] = {
    "ids": lambda world: file_key(world, layout.IDS_FILE),
    "index": lambda world: file_key(world, "index.usearch"),
    "buckets": buckets_key,
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("which", DERIVED)
def test_what_is_derived_is_made_again(which: str, missing: bool) -> None:
    """By one version of kind merge; no answer changes, the current version is whole, and folds go on."""
    with prepared() as world:
        before, records = answers(world), world.current()
        key = DERIVED[which](world)
        if missing:
            world.store.delete(key)
        else:
            altered(world.store, key, flip)
        done = mend(world)
        after = world.current()
        assert (done.published, after.version, after.kind) == ((4,), 4, "merge")
        assert (after.content, after.embedding, after.live) == (records.content, records.embedding, records.live)
        assert done.after.whole == 4
        assert [each.key for each in done.before.findings] == [key]
        assert {4 in each.versions for each in done.after.findings} == {False}  # versions before it still name what is damaged
        assert answers(world) == before
        world.upsert("ax", 9)
        world.compact()
        assert world.documents()["a"] == "9"


def test_several_damages_are_repaired_at_once() -> None:
    with prepared() as world:
        before = answers(world)
        for position in range(3):
            altered(world.store, file_key(world, "index.usearch", position), flip)
        altered(world.store, buckets_key(world), flip)
        done = mend(world)
        assert (len(done.published), done.after.whole, done.failed) == (4, world.current().version, ())
        assert answers(world) == before


def test_buckets_in_the_wrong_places_are_repaired() -> None:
    with prepared() as world:
        right = stored_buckets(world)
        with_buckets(world, Buckets(right.lanes[::-1].copy()))
        assert mend(world).after.findings == ()
        assert stored_buckets(world) == right


def test_nothing_is_published_for_what_is_whole() -> None:
    with prepared() as world:
        before = keys(world.store)
        done = mend(world)
        assert (done.published, done.before.findings) == ((), ())
        assert keys(world.store) == before


@pytest.mark.parametrize("which", ["records.parquet", "deletes"])
def test_what_is_not_derived_is_left_alone(which: str) -> None:
    """Records and deletes can be made from nothing else: nothing is published, and the version is named that is whole."""
    with prepared() as world:
        segment = world.current().segments[0]
        assert segment.deletes is not None
        key = file_key(world, which) if which != "deletes" else layout.deletes_key(world.cid, segment.id, segment.deletes.id)
        altered(world.store, key, flip)
        altered(world.store, file_key(world, "index.usearch"), flip)
        before = keys(world.store)
        done = mend(world)
        assert done.published == ()
        assert done.after.whole == 0
        assert [key for key in keys(world.store) if not key.startswith("lease/")] == [k for k in before if not k.startswith("lease/")]


def test_a_repair_gives_way_to_a_merge() -> None:
    """The damaged segment is merged away while it is rewritten: the merge wins, and the repair leaves it at that."""

    class Meanwhile(EveryCallStore):
        happened = False

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            if verb == "put" and "pointer" in key and not self.happened:
                self.happened = True
                world.compact(merge=world.settings.merge)
            return request()

    with prepared() as world:
        before = answers(world)
        altered(world.store, file_key(world, "index.usearch"), flip)
        store = Meanwhile(world.store)
        done = mend(world, store)
        assert store.happened
        assert done.published in ((), (5,))
        assert len(world.current().segments) < 3
        assert answers(world) == before
        mend(world)
        world.writer().write(world.cid, "delete", ["nothing"])


def test_a_repair_that_always_loses_gives_up() -> None:
    """It says so after a few races, and nothing of it is published."""

    class Busy(EveryCallStore):
        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            if verb == "put" and "pointer" in key:
                world.upsert("h", len(keys(world.store)))
                world.compact(merge=World().settings.merge)
            return request()

    with prepared() as world:
        altered(world.store, file_key(world, "index.usearch"), flip)
        with pytest.raises(Conflict):
            mend(world, Busy(world.store))


def test_a_fold_onto_damaged_buckets_says_how_to_repair_them() -> None:
    """The error names the command and the object; after it the fold goes on."""
    with prepared() as world:
        key = buckets_key(world)
        altered(world.store, key, flip)
        world.upsert("x", 5)
        with pytest.raises(Corrupt, match="verify COLLECTION --repair") as raised:
            world.compact()
        assert raised.value.key == key
        mend(world)
        world.compact()
        assert world.documents()["x"] == "5"


def test_a_version_without_buckets_gets_them_with_the_next_fold() -> None:
    """As of a store that an older release wrote: they are summed up from the id tables."""
    with prepared() as world:
        forge(world, world.current(), buckets=None)
        world.upsert("ay", 7)
        world.compact()
        assert world.current().buckets is not None
        verify(world.store, world.cid)
