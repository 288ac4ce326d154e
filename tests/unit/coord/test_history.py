"""The history is the chain of parents: a manifest that lost its race is not in it, however it is numbered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.worlds import World

from chromalith.coord.history import manifest_at, published_keys
from chromalith.coord.pointer import read_current
from chromalith.errors import NotFound
from chromalith.model.manifest import encode_manifest


def test_lost_races_are_no_history() -> None:
    """Of several manifests of one version, the one that the next version names as its parent was published."""
    with World() as world:
        expected = {0: world.current().key}
        for value in range(4):
            before = world.current()
            world.upsert("a", value)
            world.compact()
            expected[value + 1] = world.current().key
            for write_id in ("0" * 32, "f" * 32):  # one that sorts before the winner, one behind it
                orphan = replace(before, version=before.version + 1, parent=before.key, write_id=write_id)
                world.store.put(orphan.key, encode_manifest(orphan))
        assert published_keys(world.store, world.cid) == expected
        assert list(published_keys(world.store, world.cid)) == [4, 3, 2, 1, 0]
        assert read_current(world.store, world.cid).manifest.version == 4


def test_a_swept_version_is_not_found() -> None:
    """Versions before a gap are not claimed; asking for one says which are stored."""
    with World() as world:
        for value in range(3):
            world.upsert("a", value)
            world.compact()
        world.store.delete(published_keys(world.store, world.cid)[1])
        assert list(published_keys(world.store, world.cid)) == [3, 2]
        for version in (1, 0, 7):
            with pytest.raises(NotFound, match=r"2\.\.3"):
                manifest_at(world.store, world.cid, version)


def test_an_old_version_can_be_read() -> None:
    """A view of an old version shows what was there then, and stays so."""
    with World() as world:
        for value, ids in enumerate(("ab", "bc")):
            world.upsert(ids, value)
            world.compact()
        session = world.session()
        session.view(world.cid).get()
        for version, expected in ((0, []), (1, ["0", "0"]), (2, ["0", "1", "1"])):
            view = session.reader.view_of(manifest_at(world.store, world.cid, version))
            assert view.get().documents == expected
            assert view.count() == len(expected)
        assert session.view(world.cid).get().documents == ["0", "1", "1"]
