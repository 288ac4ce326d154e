"""A tag keeps a version for as long as it stands, whatever sweeps at the same time; nobody believes one that was not seen to hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.restores import SHORT, restorer, with_history
from tests.worlds import World, documents

from chromalith import ChromalithError, Conflict, Invalid, NotFound
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.verify import verify
from chromalith.coord.history import manifest_at, version_of
from chromalith.coord.tags import find_tag, list_tags, put_tag, release_tag
from chromalith.model import layout
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore, at_calls


def test_a_tag_that_is_not_held_is_not_believed() -> None:
    """A tag of a version below the horizon is refused and released; one released is not found."""
    with with_history() as world:
        old = manifest_at(world.store, world.cid, 1)
        run_sweep(world.store, world.clock, world.cid, SHORT)
        with pytest.raises(NotFound, match="swept"):
            put_tag(world.store, world.clock, world.cid, "late", old)
        with pytest.raises(NotFound):
            find_tag(world.store, world.cid, "late")
        put_tag(world.store, world.clock, world.cid, "now", world.current())
        assert release_tag(world.store, world.clock, world.cid, "now")
        assert not release_tag(world.store, world.clock, world.cid, "now")
        with pytest.raises(NotFound):
            find_tag(world.store, world.cid, "now")
        with pytest.raises(Invalid, match="number"):
            put_tag(world.store, world.clock, world.cid, "12", world.current())


def test_a_tag_beside_a_sweep() -> None:
    """A sweep at any call of a tagging: either the tag holds, and its version is whole after every sweep, or it is refused and released."""
    endings = set()
    for number in range(1, 9):
        with with_history() as world:
            old = manifest_at(world.store, world.cid, 1)

            def sweep(call: Call, world: World = world, number: int = number) -> Fault | None:
                if call.number == number:
                    run_sweep(world.store, world.clock, world.cid, SHORT)
                return None

            try:
                put_tag(FaultyStore(world.store, sweep, world.clock), world.clock, world.cid, "kept", old)
                held = True
            except NotFound:
                held = False
            endings.add(held)
            world.upsert("a", 9)
            world.compact()
            run_sweep(world.store, world.clock, world.cid, SHORT)
            if held:
                assert documents(world.session().reader.view_of(version_of(world.store, world.cid, "kept"))) == {"a": "1"}
            else:
                with pytest.raises(NotFound):
                    find_tag(world.store, world.cid, "kept")
    assert endings == {True, False}


def while_tagging(world: World, before: Callable[[Call], bool], act: Callable[[], object]) -> Store:
    """The world's store for a tagger that sleeps before the first call that ``before`` says yes to, while ``act`` happens."""
    slept = False

    def sleep(call: Call) -> Fault | None:
        nonlocal slept
        if not slept and before(call):
            slept = True
            act()
        return None

    return FaultyStore(world.store, sleep, world.clock)


def test_a_tag_that_was_given_to_another_version_meanwhile_is_not_released() -> None:
    """A tagger whose tag does not hold releases what it wrote, and not what somebody else gave the name since."""
    with with_history() as world:
        old = manifest_at(world.store, world.cid, 1)

        def moved() -> None:
            run_sweep(world.store, world.clock, world.cid, SHORT)
            release_tag(world.store, world.clock, world.cid, "kept")
            put_tag(world.store, world.clock, world.cid, "kept", world.current())

        store = while_tagging(world, lambda call: call.key == layout.pointer_key(world.cid), moved)
        with pytest.raises(NotFound, match="swept"):
            put_tag(store, world.clock, world.cid, "kept", old)
        assert find_tag(world.store, world.cid, "kept").version == world.current().version


def test_a_tag_that_was_released_and_written_again_is_not_marked_by_its_first_writer() -> None:
    """What the first writer saw says nothing of the second tag: a sweep has passed between them, and the version is gone."""
    with with_history() as world:
        old = manifest_at(world.store, world.cid, 1)
        looked = False

        def crash(call: Call) -> Fault | None:
            return Fault.CRASH_BEFORE if call.key == layout.pointer_key(world.cid) else None

        def again() -> None:
            release_tag(world.store, world.clock, world.cid, "kept")
            run_sweep(world.store, world.clock, world.cid, SHORT)
            with suppress(Crash):
                put_tag(FaultyStore(world.store, crash, world.clock), world.clock, world.cid, "kept", old)

        def has_looked(call: Call) -> bool:
            nonlocal looked
            looked = looked or call.key == layout.pointer_key(world.cid)
            return looked and call.key == layout.tag_key(world.cid, "kept")

        with pytest.raises(Conflict, match="changed"):
            put_tag(while_tagging(world, has_looked, again), world.clock, world.cid, "kept", old)
        with pytest.raises(NotFound):
            find_tag(world.store, world.cid, "kept")


def test_a_tag_below_the_horizon_can_be_written_again() -> None:
    """Tagging a version again under the same name does nothing, however old it is; under another name it is held by the first tag."""
    with with_history() as world:
        old = manifest_at(world.store, world.cid, 1)
        put_tag(world.store, world.clock, world.cid, "kept", old)
        run_sweep(world.store, world.clock, world.cid, SHORT)
        assert world.current().horizon > 1
        assert put_tag(world.store, world.clock, world.cid, "kept", old).held
        assert put_tag(world.store, world.clock, world.cid, "another", old, witness="kept").held
        release_tag(world.store, world.clock, world.cid, "kept")
        with pytest.raises(NotFound):
            put_tag(world.store, world.clock, world.cid, "third", old, witness="kept")
        for _ in range(2):
            run_sweep(world.store, world.clock, world.cid, SHORT)
        assert documents(world.session().reader.view_of(version_of(world.store, world.cid, "another"))) == {"a": "1"}


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE])
def test_a_tag_can_end_at_any_call(fault: Fault) -> None:
    """What a crash leaves is believed only if it holds: a tag that was not checked is not found. The same again completes it."""
    unchecked = 0
    for number in range(1, 9):
        with with_history() as world:
            old = manifest_at(world.store, world.cid, 1)
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            acknowledged = False
            with suppress(Crash, ChromalithError):
                put_tag(store, world.clock, world.cid, "kept", old)
                acknowledged = True
            store.land()
            tags = list_tags(world.store, world.cid)
            if tags and not tags[0].held:
                unchecked += 1
                with pytest.raises(NotFound):
                    find_tag(world.store, world.cid, "kept")
            assert not acknowledged or find_tag(world.store, world.cid, "kept").version == 1
            assert put_tag(world.store, world.clock, world.cid, "kept", old).held
            run_sweep(world.store, world.clock, world.cid, SHORT)
            assert documents(world.session().reader.view_of(version_of(world.store, world.cid, "kept"))) == {"a": "1"}
    assert unchecked or fault is Fault.LATE


def test_a_tag_during_a_sweep() -> None:
    """A tagging at any call of a sweep: the tag holds and its version is whole, or it is refused."""
    endings = set()
    number = 0
    while True:
        number += 1
        with with_history() as world:
            old = manifest_at(world.store, world.cid, 1)
            held: list[bool] = []

            def tag(
                call: Call, world: World = world, number: int = number, held: list[bool] = held, old: Manifest = old
            ) -> Fault | None:
                if call.number == number:
                    with suppress(NotFound):
                        held.append(put_tag(world.store, world.clock, world.cid, "kept", old).held)
                    held.append(False)
                return None

            run_sweep(FaultyStore(world.store, tag, world.clock), world.clock, world.cid, SHORT)
            if not held:
                break  # the sweep has fewer calls
            endings.add(held[0])
            if held[0]:
                assert documents(world.session().reader.view_of(version_of(world.store, world.cid, "kept"))) == {"a": "1"}
    assert number > 10
    assert endings == {True, False}


def test_a_tag_that_came_and_went_between_the_listings_of_a_sweep() -> None:
    """A restore relies on a tag that was written after a sweep's first listing, and released before its second: its version is whole.

    The sweep stops before its second listing until the restore has read the tag; the restore stops until the sweep has ended.
    """
    with with_history() as world:
        old = manifest_at(world.store, world.cid, 1)
        tag_was_read, listings = threading.Event(), 0
        lock = threading.Lock()

        def in_sweep(call: Call) -> Fault | None:
            nonlocal listings
            if call.verb == "list" and call.key.startswith(layout.TAG_ROOT):
                with lock:
                    listings += 1
                    turn = listings
                if turn == last_listing:
                    published.set()
                    assert tag_was_read.wait(20)
            if call.verb == "put" and call.key == layout.pointer_key(world.cid):
                put_tag(world.store, world.clock, world.cid, "brief", old)
            return None

        def in_restore(call: Call) -> Fault | None:
            if call.verb == "get" and call.key == old.key and not tag_was_read.is_set():  # the tag has just been believed
                release_tag(world.store, world.clock, world.cid, "brief")
                tag_was_read.set()
                sweep.join(20)
                assert not sweep.is_alive()
            return None

        last_listing = tag_listings_of_a_sweep()
        published = threading.Event()
        store = FaultyStore(world.store, in_sweep, world.clock)
        sweep = threading.Thread(target=run_sweep, args=(store, world.clock, world.cid, SHORT))
        sweep.start()
        assert published.wait(20)
        assert world.current().horizon > 1
        restorer(world, FaultyStore(world.store, in_restore, world.clock)).run(world.cid, "brief")
        assert tag_was_read.is_set()
        assert world.documents() == {"a": "1"}
        verify(world.store, world.cid)


def tag_listings_of_a_sweep() -> int:
    """How often a sweep lists the tags; the last time is after its publish."""
    with with_history() as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        run_sweep(store, world.clock, world.cid, SHORT)
        calls = [call for call in store.calls if call.verb == "list" and call.key.startswith(layout.TAG_ROOT)]
        put = next(call.number for call in store.calls if call.verb == "put" and call.key == layout.pointer_key(world.cid))
        assert calls[-1].number > put > calls[0].number
        return len(calls)
