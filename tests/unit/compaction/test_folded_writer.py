"""The folded set over many versions, inline and in parts, against a plain dictionary: nothing is forgotten that must be known."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.clock import ManualClock
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.next_version import SETTLED_AFTER_US, child_of
from chromalith.coord.folded_parts import Folded, FoldedParts, check_remembered
from chromalith.coord.pointer import Current, Pointer, publish_version_zero
from chromalith.errors import Corrupt
from chromalith.model.folded import DAY_US, FoldedSet, State, oldest_day
from chromalith.model.folded_part import FoldedPart, encode_part
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.layout import folded_key, folded_prefix
from chromalith.model.manifest import Manifest, decode_manifest, encode_manifest
from chromalith.store.cache import Swept
from chromalith.store.memory import MemoryStore

CID = CollectionId("00000000-0000-0000-0000-000000000001")
WRITERS = ["a1" * 16, "b2" * 16, "00" * 16]
CALLS = st.tuples(st.sampled_from(WRITERS), st.integers(0, 30))
STEP = st.tuples(
    st.lists(CALLS, max_size=6, unique=True),
    st.sampled_from(list(State)),
    st.sampled_from([0, 30, 3 * SETTLED_AFTER_US // 1_000_000, *(86_400 * days for days in (1, 16, 30, 31))]),  # seconds before it
    st.sets(CALLS, max_size=3),  # what a listing shows beside what is folded
)


def delta(writer: str, counter: int) -> DeltaId:
    return DeltaId(7, writer, counter, "0" * 16)


EVERY = [delta(writer, counter) for writer in WRITERS for counter in range(32)]


@dataclass(slots=True)
class Versions:
    """Versions of a collection, of which only the folded set changes."""

    inline_bytes_max: int = 200
    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryStore = field(init=False)
    current: Current = field(init=False)
    parts: FoldedParts = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        zero = publish_version_zero(self.store, CID, self.clock)
        self.current = Current(Pointer(zero.key, "", self.clock.now_us()), zero)
        self.parts = FoldedParts.from_store(self.store)

    def fold(self, deltas: list[DeltaId], state: State = State.FOLDED, listed: list[DeltaId] | None = None) -> Manifest:
        date_us = self.clock.now_us()
        listed = deltas if listed is None else listed
        child = child_of(self.current, self.clock, "fold", date_us, listed)
        writer = FoldedWriter(self.store, self.clock, self.parts, self.inline_bytes_max)
        child = writer.remember(child, [(each, state) for each in deltas], listed=listed)
        child = decode_manifest(encode_manifest(child), child.key)
        check_remembered(self.current.manifest, child, self.fresh())
        self.current = Current(Pointer(child.key, "", date_us), child)
        return child

    def fresh(self) -> FoldedParts:
        """As another process, which has read none of the parts."""
        return FoldedParts.from_store(self.store)

    def folded(self) -> Folded:
        return Folded(self.current.manifest, self.fresh())


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=14), st.sampled_from([60, 200, 1_000]))
def test_it_remembers_what_a_dictionary_remembers(
    steps: list[tuple[list[tuple[str, int]], State, int, set[tuple[str, int]]]], limit: int
) -> None:
    """However deltas are added, settled, moved to parts and let expire: what is 30 days young, or was listed at each fold since, is known,
    in its state; nothing else ever added is invented; inline there is never more than the limit."""
    versions = Versions(limit)
    known: dict[tuple[str, int], tuple[State, int]] = {}
    may_be_gone: set[tuple[str, int]] = set()
    for calls, state, seconds, also_listed in steps:
        versions.clock.advance(seconds)
        before = versions.folded()
        new = [delta(*call) for call in calls if delta(*call) not in before]
        day = versions.clock.now_us() // DAY_US
        may_be_gone -= {(each.writer, each.counter) for each in new}
        listed = {*calls, *also_listed}
        oldest = oldest_day(versions.clock.now_us())
        may_be_gone |= {call for call, (_, folded_on) in known.items() if folded_on < oldest and call not in listed}
        manifest = versions.fold(new, state, sorted(delta(*call) for call in listed))
        known |= {(each.writer, each.counter): (state, day) for each in new}
        may_be_gone -= {(each.writer, each.counter) for each in new}
        assert manifest.folded.json_bytes <= limit
        for each, run in zip(EVERY, versions.folded().find_all(EVERY), strict=True):
            call = (each.writer, each.counter)
            if call not in known:
                assert run is None
            elif run is None:
                assert call in may_be_gone
            else:
                assert run.state == known[call][0]
                assert run.day >= known[call][1]
                assert run.version <= manifest.version


def test_a_part_expires_whole_when_it_is_old_and_nothing_of_it_is_listed() -> None:
    """30 days after the last fold in a part, it is not named any more; one listed delta keeps all of it, one of another part does not."""
    versions = Versions(inline_bytes_max=40)
    old = [delta(WRITERS[0], counter) for counter in range(3)]
    assert len(versions.fold(old).folded_parts) == 1
    versions.clock.advance(30 * 86_400)
    assert len(versions.fold([delta(WRITERS[1], 0)], listed=[old[1]]).folded_parts) == 1, "merged: it is young still"
    versions.clock.advance(30 * 86_400)
    assert len(versions.fold([]).folded_parts) == 1, "30 days old to the day: still young"
    versions.clock.advance(86_400)
    kept = versions.fold([], listed=[old[1], delta(WRITERS[1], 0)])
    assert len(kept.folded_parts) == 1
    assert all(each in versions.folded() for each in old)
    kept = versions.fold([], listed=[delta(WRITERS[2], 9)])
    assert kept.folded_parts == ()
    assert old[1] not in versions.folded()


def test_old_runs_are_left_out_when_a_part_is_rewritten() -> None:
    """A part that is merged again and again does not keep what expired; what is listed stays in it."""
    versions = Versions(inline_bytes_max=40)
    gone, listed = delta(WRITERS[0], 0), delta(WRITERS[1], 0)
    versions.fold([gone, listed])
    versions.clock.advance(31 * 86_400)
    manifest = versions.fold([delta(WRITERS[2], 0)], listed=[listed])
    assert [ref.intervals for ref in manifest.folded_parts] == [2]
    folded = versions.folded()
    assert gone not in folded
    assert listed in folded


def test_a_part_is_read_only_when_a_delta_is_not_inline_and_only_once() -> None:
    """Lookups that the inline runs answer make no request; the others read each part once."""
    versions = Versions(inline_bytes_max=100)
    for counter in range(0, 40, 2):
        versions.fold([delta(WRITERS[0], counter)])
    manifest = versions.current.manifest
    assert manifest.folded_parts
    assert len(manifest.folded)
    asked: list[str] = []
    reading = FoldedParts(lambda key, ref: asked.append(key) or versions.store.get(key).body)  # type: ignore[func-returns-value]
    (inline,) = [run for runs in manifest.folded.runs.values() for run in runs][:1]
    assert delta(WRITERS[0], inline.start) in Folded(manifest, reading)
    assert asked == []
    assert delta(WRITERS[0], 0) in Folded(manifest, reading)
    assert delta(WRITERS[0], 1) not in Folded(manifest, reading)
    assert sorted(asked) == sorted(folded_key(CID, ref.id) for ref in manifest.folded_parts)


def test_a_part_that_is_gone_or_damaged_is_never_taken_for_empty() -> None:
    """Gone means swept, start again; other bytes than the manifest promises are corrupt, even if they are a part."""
    versions = Versions(inline_bytes_max=40)
    versions.fold([delta(WRITERS[0], counter) for counter in (0, 2)])
    (ref,) = versions.current.manifest.folded_parts
    same_size = FoldedSet().add([(delta(WRITERS[1], counter), State.FOLDED) for counter in (0, 2)], version=1, date_us=0)
    other = encode_part(FoldedPart.of(same_size))
    key = folded_key(CID, ref.id)
    body = versions.store.get(key).body
    for damaged in (body[:-1], body[:-1] + b"x", other, b""):
        versions.store.put(key, damaged)
        with pytest.raises(Corrupt, match="folded"):
            versions.folded().find(delta(WRITERS[0], 0))
    versions.store.delete(key)
    with pytest.raises(Swept, match="folded"):
        versions.folded().find(delta(WRITERS[0], 0))


def test_a_forgotten_part_is_found_out() -> None:
    """A child without one of its parent's parts, or with a part of fewer runs, breaks I3."""
    versions = Versions(inline_bytes_max=40)
    versions.fold([delta(WRITERS[0], counter) for counter in (0, 2)])
    parent = versions.current.manifest
    child = child_of(versions.current, versions.clock, "merge", versions.clock.now_us(), None)
    check_remembered(parent, child, versions.fresh())
    with pytest.raises(Corrupt, match="I3"):
        check_remembered(parent, replace(child, folded_parts=()), versions.fresh())


def test_a_delta_in_two_parts_is_found_out() -> None:
    """A child whose new part holds what a part that stayed holds, folded it twice: I3."""
    versions = Versions(inline_bytes_max=40)
    versions.fold([delta(WRITERS[0], counter) for counter in range(0, 20, 2)])
    parent = versions.current
    (kept,) = parent.manifest.folded_parts
    for counter, twice in ((4, True), (5, False)):
        child = child_of(parent, versions.clock, "fold", versions.clock.now_us(), [])
        writer = FoldedWriter(versions.store, versions.clock, versions.parts, 40)
        child = writer.remember(child, [(delta(WRITERS[0], counter), State.FOLDED)], listed=[])
        assert child.folded_parts[0] == kept
        assert len(child.folded_parts) == 2
        with pytest.raises(Corrupt, match="overlap") if twice else nullcontext():
            check_remembered(parent.manifest, child, versions.fresh())


def test_the_part_is_written_before_anything_names_it() -> None:
    """The object is in the store when the version that names it is ready to be published, with the parent's version in its name."""
    versions = Versions(inline_bytes_max=40)
    manifest = versions.fold([delta(WRITERS[0], counter) for counter in (0, 2)])
    (ref,) = manifest.folded_parts
    assert ref.id.base == manifest.version - 1
    assert [entry.key for page in versions.store.list(folded_prefix(CID)) for entry in page] == [folded_key(CID, ref.id)]
    assert manifest.objects[folded_key(CID, ref.id)] == ref.file
