"""The difference of two versions is that of their records, whatever segments they share."""

from __future__ import annotations

from itertools import product

from tests.restores import restorer
from tests.worlds import World, keys, merging

from chromalith.compaction.version_diff import diff_versions
from chromalith.coord.history import kept_versions
from chromalith.coord.pointer import read_manifest
from chromalith.model import layout
from chromalith.store.wrappers import CountingStore


def with_history() -> World:
    """Inserts, changes, deletes, a deleted id that comes back, merges and a restore."""
    world = World()
    writer = world.writer()
    world.upsert("abcd", 0)
    world.compact()
    world.upsert("be", 1)
    world.compact()
    writer.write(world.cid, "delete", ["c", "b"])
    world.compact()
    world.upsert("cf", 0)
    world.compact(merge=merging().merge)
    writer.write(world.cid, "update", ["a"], documents=["0"], metadatas=[{"k": 1}])
    world.compact()
    restorer(world).run(world.cid, 2)
    return world


def test_all_pairs_of_versions() -> None:
    """For each pair, added, removed and changed ids are those that a reader of both versions finds."""
    with with_history() as world:
        manifests = [read_manifest(world.store, each.key) for each in kept_versions(world.store, world.cid)]
        assert {"create", "fold", "merge", "restore"} == {manifest.kind for manifest in manifests}
        session = world.session()
        shown = {}
        for manifest in manifests:
            found = session.reader.view_of(manifest).get(include=("documents", "metadatas", "embeddings"))
            assert found.documents is not None
            assert found.metadatas is not None
            assert found.embeddings is not None
            columns = zip(found.documents, found.metadatas, found.embeddings.tolist(), strict=True)
            shown[manifest.version] = dict(zip(found.ids, columns, strict=True))
        different = 0
        for before, after in product(manifests, manifests):
            old, new = shown[before.version], shown[after.version]
            told = diff_versions(world.store, before, after)
            assert set(told.added) == new.keys() - old.keys()
            assert set(told.removed) == old.keys() - new.keys()
            assert set(told.changed) == {i for i in old.keys() & new.keys() if old[i] != new[i]}
            assert told.same == (old == new)
            different += not told.same
        assert different > len(manifests)


def test_what_is_shared_is_not_read() -> None:
    """Equal records need no request; of segments that both versions name, only those with other deletes are read."""
    with World() as world:
        for value, ids in enumerate(("abc", "def", "ghi", "a")):
            world.upsert(ids, value)
            world.compact()
        three, four = (read_manifest(world.store, each.key) for each in reversed(kept_versions(world.store, world.cid)[:2]))
        store = CountingStore(world.store)
        found = diff_versions(store, three, four)
        assert (found.changed, found.added, found.removed) == (("a",), (), ())
        assert len(keys(world.store, layout.SEGMENT_ROOT, "ids.parquet")) == 4
        assert found.segments_read == 2  # the segment that the record left, and the one that it is in now
        restorer(world).run(world.cid, 3)
        store = CountingStore(world.store)
        assert diff_versions(store, three, world.current()).same
        assert not store.counts.requests
