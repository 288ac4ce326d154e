"""The folded set outside of the manifest: what is in a part is remembered as what is inline is, by everybody who asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.worlds import World, altered, keys, vectors

from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.next_version import child_of
from chromalith.compaction.verify import verify
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.pointer import publish, read_current
from chromalith.errors import Bug, Corrupt, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.folded import DAY_US, KEPT_DAYS, State
from chromalith.model.ids import DeltaId
from chromalith.model.invariants import Change
from chromalith.model.plan import MergePolicy
from chromalith.read.reader import ReadLevel
from chromalith.store.wrappers import CountingStore
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls

NEVER = MergePolicy(fan_in=64, rows_floor=1_000_000_000, deleted_fraction_max=1)
EACH_FOLD = CompactionSettings(merge=NEVER, lease=False, folded_inline_bytes_max=0)
"""Every fold moves all of the folded set to a part."""


def world_with_parts() -> World:
    return World(settings=EACH_FOLD)


def parts(world: World) -> int:
    return len(world.current().folded_parts)


def test_a_late_duplicate_of_what_is_in_a_part_is_ignored_and_swept() -> None:
    """Folded, moved to a part, swept, and back again under the same key: it is not applied, not folded, and deleted again."""
    with world_with_parts() as world:
        receipt = world.upsert("a", 1)
        key = layout.delta_key(world.cid, receipt.delta)
        body = world.store.get(key).body
        world.compact()
        assert parts(world) == 1
        assert len(world.current().folded) == 0
        world.clock.advance(61)
        world.compact()
        assert key not in keys(world.store)
        world.upsert("a", 2)
        world.compact()
        world.store.put(key, body)
        assert world.documents() == {"a": "2"}
        outcome = world.compact()
        assert (outcome.folded, outcome.waiting) == (0, 0)
        world.clock.advance(200)
        assert world.compact().folded == 0
        assert key not in keys(world.store)
        assert world.documents() == {"a": "2"}
        verify(world.store, world.cid)


def test_the_grace_of_what_is_in_a_part_is_that_of_the_latest_fold_in_it() -> None:
    """A delta whose run went to a part stays at least as long as one whose run is inline."""
    with world_with_parts() as world:
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(50)
        world.upsert("b", 2)
        world.compact()
        assert parts(world) == 1
        world.clock.advance(15)
        assert world.compact().swept == 0
        world.clock.advance(50)
        assert world.compact().swept == 2


def test_a_call_repeated_by_name_counts_once_after_its_delta_went_to_a_part() -> None:
    """A ``call_id`` that was folded long ago still names one call, whichever process repeats it, with whatever body."""
    with world_with_parts() as world:
        world.writer().write(world.cid, "upsert", ["a"], vectors(1, 1), documents=["first"], call_id="nightly")
        world.compact()
        world.clock.advance(100)
        world.compact()
        assert keys(world.store, layout.DELTA_ROOT) == []
        world.upsert("a", 2)
        world.compact()
        world.writer().write(world.cid, "upsert", ["a"], vectors(1, 3), documents=["again"], call_id="nightly")
        assert world.documents() == {"a": "2"}
        assert world.compact().folded == 0
        assert world.documents() == {"a": "2"}


def test_a_void_delta_is_known_as_void() -> None:
    """What a writer gave up keeps its state in a part, and stands for no operation."""
    with world_with_parts() as world:
        delta = DeltaId(7, "ab" * 16, 0, "0" * 16)
        world.store.put(layout.delta_key(world.cid, delta), b"VOID")
        world.upsert("a", 1)
        world.compact()
        run = Folded(world.current(), FoldedParts.from_store(world.store)).find(delta)
        assert run is not None
        assert run.state is State.VOID
        assert world.documents() == {"a": "1"}


def test_what_a_restore_set_aside_is_not_pending_from_a_part_either() -> None:
    """A delta that entered the folded set as set aside is neither shown nor folded, once its run is in a part."""
    with world_with_parts() as world:
        receipt = world.upsert("a", 1)
        current = read_current(world.store, world.cid)
        parts_there = FoldedParts.from_store(world.store)
        writer = FoldedWriter(world.store, world.clock, parts_there, 0)
        child = child_of(current, world.clock, "restore", world.clock.now_us(), [receipt.delta])
        child = writer.remember(child, [(receipt.delta, State.ASIDE)], listed=[receipt.delta])
        change = Change([receipt.delta], after=Folded(child, parts_there))
        publish(world.store, world.clock, current, child, change)
        assert parts(world) == 1
        assert world.documents() == {}
        assert world.compact().folded == 0
        run = Folded(world.current(), FoldedParts.from_store(world.store)).find(receipt.delta)
        assert run is not None
        assert run.state is State.ASIDE


def test_reads_ask_for_a_part_once_and_only_when_something_new_is_listed() -> None:
    """Nothing listed: no request for parts. A new delta: each part is read once. From then on: none, until there is another part."""
    with world_with_parts() as world:
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(61)
        world.compact()
        counting = CountingStore(world.store)
        session = world.session(counting)
        session.view(world.cid).get()
        assert ("get", "folded") not in counting.reset().kinds
        session.view(world.cid).get()
        assert dict(counting.reset().kinds) == {("list", "delta"): 1, ("get_if_changed", "snapshot"): 1}
        world.upsert("b", 2)
        session.view(world.cid).get()
        assert dict(counting.reset().kinds) == {
            ("list", "delta"): 1,
            ("get_if_changed", "snapshot"): 1,
            ("get", "folded"): 1,
            ("get", "delta"): 1,
            ("get", "segment"): 1,  # the id table, for the overlay
        }
        world.upsert("c", 3)
        session.view(world.cid).get()
        assert ("get", "folded") not in counting.reset().kinds
        world.compact()
        for _ in range(3):
            session.view(world.cid).get()
        assert dict(counting.reset().kinds)["get", "folded"] == 1


def test_recent_deltas_need_no_part() -> None:
    """Folded deltas that are still listed, and whose runs are inline, are looked up without the parts."""
    with world_with_parts() as world:
        world.upsert("a", 1)
        world.compact()
        world.clock.advance(100)
        world.compact()
        world.upsert("b", 2, writer=world.writer())
        world.compact(folded_inline_bytes_max=10_000)
        assert (parts(world), len(world.current().folded), len(keys(world.store, layout.DELTA_ROOT))) == (1, 1, 1)
        counting = CountingStore(world.store)
        assert world.documents(counting) == {"a": "1", "b": "2"}
        assert ("get", "folded") not in counting.counts.kinds


def test_a_process_sees_its_own_writes_through_parts() -> None:
    """At the cheapest level a process that wrote, and whose writes went to a part, sees them, and then stops asking."""
    with world_with_parts() as world:
        counting = CountingStore(world.store)
        session = world.session(counting, read_level=ReadLevel.INDEX_ONLY)
        session.view(world.cid)
        world.upsert("a", 1, writer=session.writer)
        assert session.view(world.cid).get().ids == ["a"]
        world.compact()
        world.clock.advance(1_000)
        session.view(world.cid)
        assert session.view(world.cid).get().ids == ["a"]
        counting.reset()
        session.view(world.cid)
        assert dict(counting.reset().kinds) == {}


def test_merges_carry_the_parts() -> None:
    """A merge changes nothing of what is remembered, and writes no part."""
    with world_with_parts() as world:
        for value in range(3):
            world.upsert("ab"[value % 2], value, writer=world.writer())
            world.compact()
        before = world.current()
        assert world.compact(merge=MergePolicy(fan_in=2, rows_floor=1_000_000_000)).merged > 0
        after = world.current()
        assert after.version > before.version
        assert after.folded_parts == before.folded_parts
        verify(world.store, world.cid)


def test_a_part_expires_with_its_deltas() -> None:
    """30 days after its last fold a part is dropped, unless a listing shows one of its deltas."""
    with world_with_parts() as world:
        receipt = world.upsert("a", 1)
        key = layout.delta_key(world.cid, receipt.delta)
        body = world.store.get(key).body
        world.compact()
        world.clock.advance(200)
        world.compact()
        world.store.put(key, body)
        world.clock.advance((KEPT_DAYS + 2) * DAY_US / 1e6)
        world.upsert("b", 2, writer=world.writer())
        world.compact(folded_inline_bytes_max=10_000)
        assert parts(world) == 1
        assert world.documents() == {"a": "1", "b": "2"}
        world.compact()
        assert key not in keys(world.store)
        world.upsert("b", 3, writer=world.writer())
        world.compact(folded_inline_bytes_max=10_000)
        assert parts(world) == 0
        assert receipt.delta not in Folded(world.current(), FoldedParts.from_store(world.store))


@pytest.mark.parametrize("change", [lambda body: body[:-3], lambda body: b"", lambda body: body[:30] + b"x" + body[31:]])
def test_a_damaged_part_stops_whoever_needs_it(change: Callable[[bytes], bytes]) -> None:
    """Without its part, a version can't tell what is new: reads and folds of new deltas say ``Corrupt``; nothing is applied twice."""
    with world_with_parts() as world:
        world.upsert("a", 1)
        world.compact()
        (key,) = keys(world.store, layout.FOLDED_ROOT)
        world.clock.advance(100)
        world.compact()
        altered(world.store, key, change)
        assert world.documents() == {"a": "1"}, "nothing is listed: it is not needed"
        world.upsert("b", 2)
        version = world.current().version
        with pytest.raises(Corrupt, match="folded"):
            world.documents()
        with pytest.raises(Corrupt, match="folded"):
            world.compact()
        assert world.current().version == version


def test_a_part_that_is_gone_is_never_taken_for_empty() -> None:
    """A part that the current version names and nobody has: ``Corrupt`` for a reader, nothing is folded."""
    with world_with_parts() as world:
        world.upsert("a", 1)
        world.compact()
        (key,) = keys(world.store, layout.FOLDED_ROOT)
        world.store.delete(key)
        with pytest.raises(Corrupt, match="missing"):
            world.documents()
        with pytest.raises(Exception, match="compactors published first|folded"):
            world.compact()
        assert world.current().version == 1


def test_a_delta_in_a_part_is_not_folded_again() -> None:
    """I3 at the publish looks into parts: a job that claims such a delta, or does not look, is refused before anything is written."""
    with world_with_parts() as world:
        receipt = world.upsert("a", 1)
        world.compact()
        current = read_current(world.store, world.cid)
        child = child_of(current, world.clock, "fold", world.clock.now_us(), None)
        looked = Folded(current.manifest, FoldedParts.from_store(world.store))
        before = keys(world.store)
        for change in (Change([receipt.delta]), Change([receipt.delta], before=looked, after=looked)):
            with pytest.raises(Bug, match="I3"):
                publish(world.store, world.clock, current, child, change)
        other = DeltaId(7, "cd" * 16, 0, "0" * 16)
        with pytest.raises(Bug, match="not remembered"):
            publish(world.store, world.clock, current, child, Change([other], before=looked, after=looked))
        assert keys(world.store) == before


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE])
def test_a_fold_that_writes_a_part_can_end_at_any_call(fault: Fault) -> None:
    """Somebody else goes on; everything is there exactly once, and remembered; what the first one wrote is named by nothing."""

    def prepared() -> World:
        world = world_with_parts()
        world.upsert("ab", 1)
        world.compact()
        world.clock.advance(100)
        world.upsert("b", 2, writer=world.writer())
        world.writer().write(world.cid, "delete", ["a"])
        return world

    with prepared() as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        world.compactor(store).run_once(world.cid)
        total = len(store.calls)
        assert any(call.verb == "put" and call.key.startswith("folded/") for call in store.calls)
    for number in range(1, total + 1):
        with prepared() as world:
            written = [layout.parse_delta_key(key)[1] for key in keys(world.store, layout.DELTA_ROOT)]
            assert len(written) == 3
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown):
                world.compactor(store).run_once(world.cid)
            for _ in range(3):
                world.clock.advance(100)
                world.compact()
                assert world.documents() == {"b": "2"}, number
                store.land()
            assert keys(world.store, layout.DELTA_ROOT) == [], number
            folded = Folded(world.current(), FoldedParts.from_store(world.store))
            assert all(delta in folded for delta in written), number
            verify(world.store, world.cid)
