"""The protocol, told in order. Before anything is written: a collection is version 0, and reading it leaves no trace."""

from __future__ import annotations

import pytest
from tests.worlds import World, keys

from chromalith.compaction.verify import verify
from chromalith.coord.pointer import read_current
from chromalith.errors import Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.ids import collection_id
from chromalith.read.reader import ReadLevel
from chromalith.store.wrappers import CountingStore


def test_a_new_collection_is_version_zero() -> None:
    """Creating publishes an empty version before any name leads to it."""
    with World() as world:
        current = read_current(world.store, world.cid)
        assert (current.manifest.version, current.manifest.parent, current.manifest.live) == (0, None, 0)
        pointer = world.store.get(layout.pointer_key(world.cid)).body.decode().splitlines()
        assert pointer == [current.manifest.key, current.manifest.write_id]
        assert verify(world.store, world.cid).live == 0


def test_reading_writes_nothing() -> None:
    """A read at any level makes no request that could change the store (P7)."""
    with World() as world:
        counting = CountingStore(world.store)
        session = world.session(counting)
        for level in ReadLevel:
            view = session.view(world.cid, level)
            assert (view.count(), view.get().ids, view.dimension()) == (0, [], None)
        assert counting.counts.requests.keys() <= {"get", "get_if_changed", "list"}


def test_compacting_nothing_writes_nothing() -> None:
    """A compactor that finds no deltas publishes nothing and writes nothing."""
    with World() as world:
        before = keys(world.store)
        assert world.compact().idle
        assert world.compactor().waiting() == []
        assert keys(world.store) == before


def test_a_collection_that_never_was_is_not_found() -> None:
    """An id that nobody created is ``NotFound``, for readers, writers and compactors alike."""
    with World() as world:
        stranger = collection_id("00000000-0000-4000-8000-000000000000")
        for act in (
            lambda: world.session().view(stranger),
            lambda: world.writer().write(stranger, "delete", ["a"]),
            lambda: world.compactor().run_once(stranger),
            lambda: verify(world.store, stranger),
        ):
            with pytest.raises(NotFound):
                act()


def test_a_missing_pointer_is_corrupt_and_never_empty() -> None:
    """If the pointer of an existing collection is gone, nobody takes the collection for an empty one."""
    with World() as world:
        world.upsert("a")
        world.store.delete(layout.pointer_key(world.cid))
        for act in (world.view, world.compact, lambda: verify(world.store, world.cid)):
            with pytest.raises(Corrupt):
                act()
