"""Every store call could be the last: a process dies, or a reply is lost, at each call of a write, a fold, a sweep and a merge in turn.
Then somebody else goes on, and everything acknowledged is there exactly once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.worlds import Settling, World, merging

from chromalith.compaction.verify import verify
from chromalith.errors import ChromalithError, Conflict, Unavailable, Unknown
from chromalith.store.port import Store
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE]
BEFORE = {"a": "0", "b": "1", "c": "1", "d": "0"}
AFTER = {"a": "2", "b": "1", "d": "0", "e": "2"}


def prepared(*, threshold: int = 10_000) -> World:
    """Two segments, one delete, deltas that are folded and old, and some that wait."""
    world = World(settings=merging(index_threshold=threshold))
    world.upsert("abd", 0)
    world.compact(merge=World().settings.merge)
    world.upsert("bc", 1)
    world.compact(merge=World().settings.merge)
    world.clock.advance(100)
    assert world.documents() == {"a": "0", "b": "1", "d": "0", "c": "1"}
    world.upsert("ae", 2)
    world.writer().write(world.cid, "delete", ["c"])
    assert len(world.current().segments) == 2
    return world


def calls_of(act: Callable[[World, Store], object], *, remote: bool = False) -> int:
    """How many store calls ``act`` makes when nothing goes wrong."""
    with prepared() as world:
        store = FaultyStore(Settling(world.store) if remote else world.store, lambda call: None, world.clock)
        act(world, store)
        return len(store.calls)


def compact(world: World, store: Store) -> None:
    world.clock.advance(10)
    outcome = world.compactor(store).run_once(world.cid)
    assert outcome.folded + outcome.merged + outcome.swept > 0


def finish(world: World) -> None:
    """Somebody else does what is left to do."""
    world.clock.advance(10)
    world.compact()
    world.clock.advance(200)
    world.compact()
    assert world.compact().idle
    assert len(world.current().segments) == 1
    verify(world.store, world.cid)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_compaction_can_end_at_any_call(fault: Fault) -> None:
    """A fold, a sweep and two merges that end, or go blind, at any of their calls leave nothing lost and nothing doubled."""
    total = calls_of(compact)
    assert total > 25
    struck = set()
    for number in range(1, total + 1):
        with prepared() as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                compact(world, store)
            struck |= {call.verb for call, _ in store.struck}
            assert world.documents() == AFTER, number
            store.land()
            assert world.documents() == AFTER, number
            finish(world)
            store.land()
            assert world.documents() == AFTER, number
    assert {"put", "get", "list", "delete"} <= struck


def test_a_compaction_with_an_index_can_end_at_any_call() -> None:
    """The same where segments have an index."""
    for number in range(1, calls_of(compact) + 3):
        with prepared(threshold=1) as world:
            store = FaultyStore(world.store, at_calls({number: Fault.CRASH_AFTER}), world.clock)
            with suppress(Crash):
                compact(world, store)
            assert world.documents() == AFTER
            finish(world)
            assert verify(world.store, world.cid).indexes == 1


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_can_end_at_any_call(fault: Fault, known: bool, remote: bool) -> None:
    """A write that ends at any call has happened as a whole or not at all; if it was acknowledged, it has; if refused, it has not."""

    def write(world: World, store: Store) -> None:
        world.upsert("xy", 5, writer=world.writer(store))

    for number in range(1, calls_of(write, remote=remote) + 2):
        with prepared() as world:
            inner = Settling(world.store) if remote else world.store
            store = FaultyStore(inner, lambda call: None, world.clock)
            writer = world.writer(store)
            if known:
                world.upsert("a", 2, writer=writer)
            store = FaultyStore(inner, at_calls({number: fault}), world.clock)
            if known:
                writer._store = writer._collections._store = store
            else:
                writer = world.writer(store)
            happened: bool | None = None  # can't be told
            try:
                world.upsert("xy", 5, writer=writer)
                happened = True
            except Unavailable:
                happened = False
            except (Unknown, Crash):
                pass
            store.land()
            seen = world.documents(inner).items() >= {"x": "5", "y": "5"}.items()
            assert seen or not {"x", "y"} & world.documents(inner).keys(), number
            assert happened is None or seen is happened, (number, happened)
            finish(world)
            assert world.documents() == AFTER | ({"x": "5", "y": "5"} if seen else {})


def test_a_compaction_survives_two_faults() -> None:
    """Any two of its replies lost, in one run, change nothing either."""
    total = calls_of(compact)
    for first in range(1, total, 7):
        for second in range(first + 1, total, 6):
            with prepared() as world:
                store = FaultyStore(world.store, at_calls({first: Fault.LOST, second: Fault.LATE}), world.clock)
                with suppress(ChromalithError):
                    compact(world, store)
                store.land()
                assert world.documents() == AFTER, (first, second)
                finish(world)
                assert world.documents() == AFTER, (first, second)
