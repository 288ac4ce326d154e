"""Checksums by bucket: each fold carries them on, for one small GET and one small PUT; nothing else touches them."""

from __future__ import annotations

import random
from collections import Counter

from tests.damage import stored_buckets
from tests.worlds import World, merging

from chromalith.compaction.verify import verify
from chromalith.model import layout
from chromalith.model.buckets import SIDECAR_BYTES, bucket_of
from chromalith.model.segment import id_hash
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore


def test_every_fold_s_buckets_are_those_of_its_records() -> None:
    """Through inserts, updates, deletes and merges: verify sums them up from the records, each time."""
    chance = random.Random(7)
    with World(settings=merging()) as world:
        writer = world.writer()
        for turn in range(12):
            names = [f"id-{chance.randrange(40)}" for _ in range(10)]
            if turn % 3 == 2:
                writer.write(world.cid, "delete", sorted(set(names)))
            else:
                world.upsert(sorted(set(names)), turn)
            world.compact()
            verify(world.store, world.cid)
        assert world.current().live > 0


def test_a_changed_record_changes_its_bucket_only() -> None:
    with World() as world:
        world.upsert([f"id-{n}" for n in range(100)], 1)
        world.compact()
        before = stored_buckets(world)
        world.writer().write(world.cid, "update", ["id-7"], documents=["new"])
        world.compact()
        assert stored_buckets(world).differing(before) == [int(bucket_of(id_hash(["id-7"]))[0])]


def test_equal_records_have_equal_buckets_however_they_came() -> None:
    """In one call or many, with detours, merged or not: so two collections are compared by 16 KiB each."""
    with World() as direct, World(settings=merging()) as winding:
        direct.upsert("abcdef", 1)
        direct.compact()
        for name in "fedcba":
            winding.upsert(name, 0)
            winding.compact()
        winding.upsert("xyzabcdef", 1)
        winding.compact()
        winding.writer().write(winding.cid, "delete", list("xyz"))
        winding.compact()
        assert stored_buckets(direct) == stored_buckets(winding)


def test_the_sidecar_costs_a_fold_one_get_and_one_put() -> None:
    """A fold that changes no record, a merge, and a fold of everything away write none."""

    class Seeing(EveryCallStore):
        def __init__(self, inner: Store) -> None:
            super().__init__(inner)
            self.seen: Counter[str] = Counter()

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            if "/buckets/" in key:
                self.seen[verb] += 1
            return request()

    with World() as world:
        store = Seeing(world.store)

        def compact(**settings: object) -> dict[str, int]:
            store.seen.clear()
            world.compactor(store, merging() if settings else world.settings).run_once(world.cid)
            return dict(store.seen)

        world.upsert("ab", 1)
        assert compact() == {"put": 1}
        world.upsert("bc", 2)
        assert compact() == {"get": 1, "put": 1}
        ref = world.current().buckets
        assert ref is not None
        assert ref.file.size == SIDECAR_BYTES
        assert world.store.head(layout.buckets_key(world.cid, ref.id)).size == SIDECAR_BYTES
        world.upsert("bc", 2)
        assert compact() == {}  # an upsert of what is there
        assert compact(merge=True) == {}
        assert (world.current().kind, world.current().buckets) == ("merge", ref)
        world.writer().write(world.cid, "delete", list("abc"))
        assert compact() == {}
        assert world.current().buckets is None
        world.upsert("d", 3)
        assert compact() == {"put": 1}
        verify(world.store, world.cid)
