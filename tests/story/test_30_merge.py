"""Merging: several segments become one, no record changes, and what happened meanwhile is carried along or ends the merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.worlds import World, keys, merging

from chromalith.compaction.merge_job import write_merge
from chromalith.compaction.verify import verify
from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import LostRace, Published, publish, read_current
from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.model.invariants import Change
from chromalith.model.plan import MergePolicy
from chromalith.store.wrappers import EveryCallStore


def three_segments(world: World) -> None:
    for value, ids in enumerate(("abc", "bde", "cf")):
        world.upsert(ids, value)
        world.compact()


EXPECTED = {"a": "0", "b": "1", "c": "2", "d": "1", "e": "1", "f": "2"}


def test_a_merge_changes_no_record() -> None:
    """Content, order, checksums and count are the same before and after; only the segments are fewer."""
    with World() as world:
        three_segments(world)
        before, view = world.current(), world.view()
        assert len(before.segments) == 3
        outcome = world.compactor(settings=merging()).run_once(world.cid)
        after = world.current()
        assert outcome.merged >= 3
        assert len(after.segments) == 1
        assert (after.content, after.embedding, after.live) == (before.content, before.embedding, before.live)
        assert after.next_seq == before.next_seq
        assert after.segments[0].deletes is None
        assert world.view().get() == view.get()
        assert world.documents() == EXPECTED
        verify(world.store, world.cid)


def test_a_segment_with_many_deletes_is_rewritten() -> None:
    """Over a fifth dead, a segment is rewritten alone."""
    with World() as world:
        three_segments(world)
        world.compact(merge=MergePolicy(fan_in=99, deleted_fraction_max=0.2))
        assert all(segment.deletes is None for segment in world.current().segments)
        assert world.documents() == EXPECTED
        verify(world.store, world.cid)


class Meanwhile(EveryCallStore):
    """Something happens once, before the first put of a manifest: when the merge has written its segment."""

    def __init__(self, inner, happens: Callable[[], object]) -> None:  # type: ignore[no-untyped-def]
        super().__init__(inner)
        self.happens: Callable[[], object] | None = happens

    def call(self, verb, key, request):  # type: ignore[no-untyped-def]
        if verb == "put" and key.startswith("snapshot/") and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return request()


def test_a_merge_carries_the_deletes_that_arrived_meanwhile() -> None:
    """Records that were changed or deleted while the merge ran are not brought back by it."""
    with World() as world:
        for value, ids in enumerate(("ax", "by")):
            world.upsert(ids, value)
            world.compact()

        def happens() -> None:
            world.writer().write(world.cid, "delete", ["a"])
            world.upsert("bg", 9)
            world.compact()

        only_once = merging(merge=MergePolicy(fan_in=2, rows_floor=2, deleted_fraction_max=1))
        outcome = world.compactor(Meanwhile(world.store, happens), only_once).run_once(world.cid)
        assert outcome.merged >= 2
        assert list(world.documents().items()) == [("x", "0"), ("b", "9"), ("y", "1"), ("g", "9")]
        rebased = manifest_at(world.store, world.cid, outcome.published[0])
        assert [(segment.rows, segment.live) for segment in rebased.segments] == [(2, 2), (4, 2)]
        verify(world.store, world.cid)


def test_a_merge_of_which_everything_died_leaves_nothing() -> None:
    """If every record was deleted meanwhile, so that no input is left, the merge brings none of them back."""
    with World() as world:
        three_segments(world)

        def happens() -> None:
            world.writer().write(world.cid, "delete", list("abcdef"))
            world.compact()

        world.compactor(Meanwhile(world.store, happens), merging()).run_once(world.cid)
        assert world.current().segments == ()
        assert world.documents() == {}


def test_a_merge_whose_input_is_gone_is_abandoned() -> None:
    """If another merge took one of its inputs, the later one is not published, and nothing is lost or doubled."""
    with World() as world:
        three_segments(world)
        other = world.compactor(settings=merging())
        outcome = world.compactor(Meanwhile(world.store, lambda: other.run_once(world.cid)), merging()).run_once(world.cid)
        assert outcome.merged == 0
        assert world.documents() == EXPECTED
        verify(world.store, world.cid)


def test_a_merge_is_abandoned_when_its_dead_rows_live_again() -> None:
    """A version that brings back rows which the merge has dropped (a restore) ends the merge: they would be lost."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        whole = world.current()
        world.upsert("b", 2)
        world.compact()
        assert whole.live == 2

        def restore() -> None:
            current = read_current(world.store, world.cid)
            back = replace(
                current.manifest,
                version=current.manifest.version + 1,
                parent=current.manifest.key,
                write_id="f" * 32,
                kind="restore",
                segments=whole.segments,
                content=whole.content,
                embedding=whole.embedding,
                buckets=whole.buckets,
            )
            change = Change(
                live=whole.live - current.manifest.live,
                content=whole.content - current.manifest.content,
                embedding=whole.embedding - current.manifest.embedding,
            )
            assert isinstance(publish(world.store, world.clock, current, back, change), Published)

        alone = merging(merge=MergePolicy(fan_in=99, deleted_fraction_max=0.2))  # the first segment, whose b is dead
        outcome = world.compactor(Meanwhile(world.store, restore), alone).run_once(world.cid)
        assert outcome.merged == 0
        assert world.documents() == {"a": "1", "b": "1"}


def test_a_merge_from_before_the_boundary_is_abandoned() -> None:
    """A merge that read a version before the boundary may name objects that a sweep took for orphans: it must not be published."""
    with World() as world:
        three_segments(world)

        def raise_boundary() -> None:
            current = read_current(world.store, world.cid)
            child = replace(
                current.manifest,
                version=current.manifest.version + 1,
                parent=current.manifest.key,
                write_id="f" * 32,
                kind="sweep",
                boundary=current.manifest.version + 1,
            )
            assert isinstance(publish(world.store, world.clock, current, child, Change()), Published)

        outcome = world.compactor(Meanwhile(world.store, raise_boundary), merging()).run_once(world.cid)
        assert outcome.merged == 0
        assert len(world.current().segments) == 3
        assert world.documents() == EXPECTED


def test_records_that_do_not_match_their_hashes_are_not_merged() -> None:
    """A merge recomputes what it is about to write: bytes that changed under a valid SHA-256 are not carried on (I4)."""
    with World() as world:
        three_segments(world)
        current = read_current(world.store, world.cid)
        writer = world.compactor()._writer(current)

        class Swapping(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                return request()

        import pyarrow as pa
        import pyarrow.parquet as pq

        from chromalith.model.manifest import FileRef
        from chromalith.model.segment import encode_records

        segment = current.manifest.segments[1]
        key = layout.segment_file_key(world.cid, segment.id, layout.RECORDS_FILE)
        table = pq.read_table(pa.BufferReader(world.store.get(key).body))
        table = table.set_column(table.schema.get_field_index("document"), "document", pa.array(["?"] * table.num_rows))
        body = encode_records(table)
        world.store.put(key, body)
        lying = replace(segment, files={**segment.files, layout.RECORDS_FILE: FileRef.of(body)})
        manifest = replace(current.manifest, segments=(current.manifest.segments[0], lying))
        before = keys(world.store)
        with pytest.raises(Corrupt, match="I4"):
            write_merge(Swapping(world.store), writer, manifest, [0, 1])
        assert keys(world.store) == before


def test_who_publishes_a_stale_child_has_lost() -> None:
    """The condition on the pointer alone decides: a child of a version that is not current any more is not published."""
    with World() as world:
        stale = read_current(world.store, world.cid)
        world.upsert("a", 1)
        world.compact()
        child = replace(stale.manifest, version=1, parent=stale.manifest.key, write_id="e" * 32, kind="sweep")
        assert isinstance(publish(world.store, world.clock, stale, child, Change()), LostRace)
        assert world.documents() == {"a": "1"}
