"""Damage: whatever is cut, changed or newer is named by its key, and never answered from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.damage import prepared as history
from tests.worlds import World, altered, keys, vectors

from chromalith.compaction.verify import verify
from chromalith.errors import ChromalithError, Corrupt, Invalid
from chromalith.model import layout
from chromalith.model.manifest import FORMAT

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda body: body[: len(body) * 2 // 3],
    "empty": lambda body: b"",
    "a bit in the middle": lambda body: body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 4]) + body[len(body) // 2 + 1 :],
    "longer": lambda body: body + b"x",
    "zeros": lambda body: bytes(len(body)),
}


def prepared() -> World:
    world = history()
    segments = world.current().segments
    assert [segment.index is not None for segment in segments] == [True] * 3
    assert [segment.live for segment in segments] == [3, 2, 2]
    return world


def object_of(world: World, which: str) -> str:
    if which == "manifest":
        return world.current().key
    if which == "pointer":
        return layout.pointer_key(world.cid)
    if which == "buckets":
        buckets = world.current().buckets
        assert buckets is not None
        return layout.buckets_key(world.cid, buckets.id)
    segment = str(world.current().segments[0].id)
    (key,) = [key for key in keys(world.store, layout.SEGMENT_ROOT) if segment in key and which in key]
    return key


OBJECTS = ["manifest", "pointer", "records.parquet", "ids.parquet", "index.", "deletes/"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", [*OBJECTS, "buckets"])
def test_verify_finds_any_damage(which: str, damage: str) -> None:
    """Any change to any object that the current version names is found, and the object is named."""
    with prepared() as world:
        verify(world.store, world.cid)
        key = object_of(world, which)
        if which == "pointer" and damage == "longer":
            pytest.skip("a third line of the pointer is ignored")
        altered(world.store, key, DAMAGE[damage])
        with pytest.raises(Corrupt, match=key):
            verify(world.store, world.cid)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", OBJECTS)
def test_no_reader_answers_from_damage(which: str, damage: str) -> None:
    """A cold reader that needs the object says ``Corrupt`` with its key."""
    with prepared() as world:
        key = object_of(world, which)
        if which == "pointer" and damage == "longer":
            pytest.skip("a third line of the pointer is ignored")
        altered(world.store, key, DAMAGE[damage])
        with pytest.raises(Corrupt, match=key):
            ask(world)


def ask(world: World) -> None:
    view = world.view()
    view.query(vectors(1, 0.5), 1)
    view.get(ids=["b"])


def changed(world: World) -> None:
    world.writer().write(world.cid, "update", list("abcd"), documents=["new"] * 4)


def everything(world: World) -> tuple[object, ...]:
    found = world.view().get(include=("documents", "embeddings", "metadatas", "uris"))
    assert found.embeddings is not None
    return found.ids, found.documents, found.embeddings.tolist(), found.metadatas, found.uris


@pytest.fixture(scope="module")
def undamaged() -> tuple[object, ...]:
    with prepared() as world:
        changed(world)
        world.compact()
        return everything(world)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", [*OBJECTS, "buckets"])
def test_no_compaction_builds_on_damage(which: str, damage: str, undamaged: tuple[object, ...]) -> None:
    """A compaction that meets the damage says ``Corrupt`` with the key; one that does not need those bytes is right; nothing of the
    damage is ever in a version."""
    with prepared() as world:
        key = object_of(world, which)
        whole = world.store.get(key).body
        altered(world.store, key, DAMAGE[damage])
        changed(world)
        try:
            world.compact()
        except Corrupt as error:
            assert key in str(error)
        else:
            assert which not in ("manifest", "deletes/", "buckets")
            assert damage in ("longer", "a bit in the middle") or which == "index."
        world.store.put(key, whole)
        world.compact()
        verify(world.store, world.cid)
        assert everything(world) == undamaged


def test_a_manifest_of_a_newer_format_is_not_corrupt() -> None:
    """It says to upgrade, to readers, compactors and verify alike, and nothing is written."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        world.upsert("b", 2)
        key = world.current().key
        body = json.loads(world.store.get(key).body) | {"format": FORMAT + 1, "segments": "who knows"}
        world.store.put(key, json.dumps(body).encode())
        before = keys(world.store)
        for act in (world.view, world.compact, lambda: verify(world.store, world.cid)):
            with pytest.raises(Invalid, match=key):
                act()
        assert [k for k in keys(world.store) if not k.startswith("lease/")] == [k for k in before if not k.startswith("lease/")]


def test_a_manifest_in_the_place_of_another_is_corrupt() -> None:
    """A whole manifest that stands under another one's key (a wrong restore) is not believed."""
    with World() as world:
        old = world.current().key
        world.upsert("a", 1)
        world.compact()
        world.store.put(world.current().key, world.store.get(old).body)
        with pytest.raises(ChromalithError, match="another manifest"):
            world.view()


def test_a_pointer_to_another_collection_is_corrupt() -> None:
    """A pointer that was copied from another collection is not followed."""
    with World() as world:
        other = world.create("other")
        world.store.put(layout.pointer_key(world.cid), world.store.get(layout.pointer_key(other)).body)
        with pytest.raises(Corrupt):
            world.view()
