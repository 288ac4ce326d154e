"""Deleting a collection: from then on no write is acknowledged, no version follows, and the name is free."""

from __future__ import annotations

import pytest
from tests.story.test_60_publish import child_of
from tests.worlds import DATABASE, NAME, TENANT, Settling, World, vectors

from chromalith.coord.pointer import LostRace, publish, read_current
from chromalith.errors import NotFound
from chromalith.model import layout
from chromalith.model.invariants import Change
from chromalith.store.wrappers import EveryCallStore


@pytest.mark.parametrize("remote", [False, True])
def test_a_write_to_a_deleted_collection_is_not_acknowledged(remote: bool) -> None:
    """A writer that has known the collection for long is told ``NotFound``, whichever way it asks."""
    with World() as world:
        writer = world.writer(Settling(world.store) if remote else None)
        world.upsert("a", 1, writer=writer)
        world.catalog.delete(TENANT, DATABASE, NAME)
        for _ in range(2):
            with pytest.raises(NotFound):
                world.upsert("b", 2, writer=writer)
        with pytest.raises(NotFound):
            world.writer().write(world.cid, "upsert", ["b"], vectors(1, 2))


def test_no_version_follows_a_tombstone() -> None:
    """A compactor that read the collection before it was deleted can't publish into it."""
    with World() as world:
        world.upsert("a", 1)
        before = read_current(world.store, world.cid)

        class Deleting(EveryCallStore):
            done = False

            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("segment/") and not self.done:
                    self.done = True
                    world.catalog.delete(TENANT, DATABASE, NAME)
                return request()

        with pytest.raises(NotFound):
            world.compactor(Deleting(world.store)).run_once(world.cid)
        assert isinstance(publish(world.store, world.clock, before, child_of(before), Change()), LostRace)
        assert world.store.get(layout.pointer_key(world.cid)).body.startswith(b"deleted\n")
        with pytest.raises(NotFound):
            world.view()


def test_a_name_can_be_used_again() -> None:
    """A new collection under the old name is empty, and keeps nothing of the old one; the old one's deltas wake nobody."""
    with World() as world:
        world.upsert("a", 1)
        old = world.cid
        world.catalog.delete(TENANT, DATABASE, NAME)
        world.cid = world.create()
        assert world.cid != old
        assert world.documents() == {}
        world.upsert("b", 2, writer=world.writer())
        assert world.documents() == {"b": "2"}
        compactor = world.compactor()
        assert set(compactor.waiting()) == {old, world.cid}
        with pytest.raises(NotFound):
            compactor.run_once(old)
        assert compactor.run_once(world.cid).folded == 1
        with pytest.raises(NotFound):
            world.session().view(old)
