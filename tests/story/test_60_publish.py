"""Publishing: one conditional write decides. Three endings, and the unknown one is never guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.worlds import World, keys

from chromalith.coord.pointer import Current, LostRace, Published, UnknownEnding, publish, read_current
from chromalith.errors import Bug, Unavailable
from chromalith.model import layout
from chromalith.model.ids import JobId
from chromalith.model.invariants import Change
from chromalith.model.manifest import Manifest
from chromalith.testing.faulty import Call, Fault, FaultyStore, at_verb


def child_of(current: Current, **changed: object) -> Manifest:
    fields = {
        "version": current.manifest.version + 1,
        "parent": current.manifest.key,
        "write_id": f"{current.manifest.version + 1:032x}",
        "kind": "sweep",
    }
    return replace(current.manifest, **(fields | changed))


def publish_again(world: World, times: int = 1) -> None:
    """Somebody builds ``times`` versions on what is current."""
    for _ in range(times):
        current = read_current(world.store, world.cid)
        child = child_of(current, write_id=world.clock.random_hex(32))
        assert isinstance(publish(world.store, world.clock, current, child, Change()), Published)


@pytest.mark.parametrize("fault", [None, Fault.LOST, Fault.LATE])
@pytest.mark.parametrize("built_on", [0, 1, 3])
def test_a_lost_reply_is_resolved(fault: Fault | None, built_on: int) -> None:
    """Published is published, also if the reply was lost and others have built on it before we looked."""
    with World() as world:
        current = read_current(world.store, world.cid)
        child = child_of(current)
        store = FaultyStore(world.store, at_verb("put", fault, key_prefix=layout.pointer_key(world.cid)), world.clock)
        if fault is Fault.LOST and built_on:
            # Others build on ours between our put and our look.
            original = store.get

            def get(key: str):  # type: ignore[no-untyped-def]
                nonlocal built_on
                if key == layout.pointer_key(world.cid) and built_on:
                    times, built_on = built_on, 0
                    publish_again(world, times)
                return original(key)

            store.get = get  # type: ignore[method-assign]
        ending = publish(store, world.clock, current, child, Change())
        assert ending == Published(child)
        chain = []
        key: str | None = read_current(world.store, world.cid).manifest.key
        while key is not None:
            chain.append(key)
            key = read_manifest_parent(world, key)
        assert child.key in chain


def read_manifest_parent(world: World, key: str) -> str | None:
    from chromalith.coord.pointer import read_manifest

    return read_manifest(world.store, key).parent


@pytest.mark.parametrize("rivals", [1, 4, 70])
@pytest.mark.parametrize("lost", [False, True])
def test_a_lost_race_is_lost(rivals: int, lost: bool) -> None:
    """If others published on our parent, ours is not in the chain: lost, or unknown where the chain is too long to be walked."""
    with World() as world:
        stale = read_current(world.store, world.cid)
        publish_again(world, rivals)
        child = child_of(stale, write_id="e" * 32)
        fault = Fault.LOST if lost else None
        store = FaultyStore(world.store, at_verb("put", fault, key_prefix=layout.pointer_key(world.cid)), world.clock)
        ending = publish(store, world.clock, stale, child, Change())
        assert isinstance(ending, LostRace if rivals < 64 else UnknownEnding)
        assert read_current(world.store, world.cid).manifest.version == rivals


def test_what_can_not_be_looked_up_is_unknown() -> None:
    """If the reply is lost and the pointer can't be read, nothing is claimed."""

    def choose(call: Call) -> Fault | None:
        if call.key != layout.pointer_key(world.cid):
            return None
        return Fault.LOST if call.verb == "put" else Fault.BEFORE

    with World() as world:
        current = read_current(world.store, world.cid)
        ending = publish(FaultyStore(world.store, choose, world.clock), world.clock, current, child_of(current), Change())
        assert isinstance(ending, UnknownEnding)
        assert read_current(world.store, world.cid).manifest.version == 1  # it was, as it happens


def test_a_parent_that_was_swept_leaves_it_unknown() -> None:
    """If the chain that would tell has been swept, the ending is unknown."""
    with World() as world:
        stale = read_current(world.store, world.cid)
        publish_again(world, 3)
        world.store.delete(keys(world.store, layout.snapshot_prefix(world.cid), ".json")[2])
        ending = publish(world.store, world.clock, stale, child_of(stale, write_id="e" * 32), Change())
        assert isinstance(ending, UnknownEnding)


def test_a_manifest_that_could_not_be_written_publishes_nothing() -> None:
    """A lost manifest is a publish that certainly did not happen: the pointer was not touched."""
    with World() as world:
        current = read_current(world.store, world.cid)
        child = child_of(current)
        store = FaultyStore(world.store, at_verb("put", *[Fault.LATE] * 9, key_prefix="snapshot/"), world.clock)
        with pytest.raises(Unavailable):
            publish(store, world.clock, current, child, Change())
        store.land()
        assert read_current(world.store, world.cid).manifest.version == 0


def test_an_object_from_before_the_boundary_is_not_published() -> None:
    """A job that adds an object whose base is before the parent's boundary has lost, and writes nothing."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        current = read_current(world.store, world.cid)
        raised = child_of(current, boundary=1, horizon=1)
        assert isinstance(publish(world.store, world.clock, current, raised, Change()), Published)
        current = read_current(world.store, world.cid)
        (segment,) = current.manifest.segments
        assert segment.id.base == 0
        assert isinstance(publish(world.store, world.clock, current, child_of(current), Change()), Published)  # adds nothing
        current = read_current(world.store, world.cid)
        renamed = replace(segment, id=JobId(0, "a" * 32))
        before = keys(world.store)
        ending = publish(world.store, world.clock, current, child_of(current, segments=(renamed,)), Change())
        assert isinstance(ending, LostRace)
        assert keys(world.store) == before


@pytest.mark.parametrize(
    ("invariant", "changed"),
    [
        ("I2", {"version": 7}),
        ("I2", {"parent": None}),
        ("I4", {"content": "sum"}),
        ("I4", {"embedding": "sum"}),
        ("I6", {"segments": ()}),
        ("I7", {"next_seq": 0}),
        ("I8", {"boundary": -1}),
        ("I8", {"horizon": -1}),
    ],
)
def test_a_version_that_breaks_an_invariant_is_a_bug(invariant: str, changed: dict[str, object]) -> None:
    """A child that breaks one of the invariants is refused before anything is written."""
    from chromalith.model.checksum import Setsum

    with World() as world:
        world.upsert("a", 1)
        world.compact()
        current = read_current(world.store, world.cid)
        fields = {name: Setsum((1,) * 8) if value == "sum" else value for name, value in changed.items()}
        change = Change()
        if "segments" in fields:  # keep the checksums right, so that only the count is wrong
            change = Change(content=Setsum() - current.manifest.content, embedding=Setsum() - current.manifest.embedding)
            fields |= {"content": Setsum(), "embedding": Setsum(), "buckets": None}
        before = keys(world.store)
        with pytest.raises(Bug, match=invariant):
            publish(world.store, world.clock, current, child_of(current, **fields), change)
        assert keys(world.store) == before


def test_a_delta_is_not_folded_twice() -> None:
    """A fold that claims a delta which the parent has already folded, or forgets one, is refused (I3)."""
    with World() as world:
        receipt = world.upsert("a", 1)
        fresh = read_current(world.store, world.cid)
        with pytest.raises(Bug, match="I3"):
            publish(world.store, world.clock, fresh, child_of(fresh), Change([receipt.delta]))
        world.compact()
        current = read_current(world.store, world.cid)
        with pytest.raises(Bug, match="I3"):
            publish(world.store, world.clock, current, child_of(current), Change([receipt.delta]))
