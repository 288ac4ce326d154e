"""Verify: whatever is damaged, missing or wrong is found, each by its own invariant, with the versions that it affects."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.damage import JOB, file_key, file_of, flip, forge, parent_of, prepared, stored_buckets, with_buckets
from tests.worlds import World, altered, keys

from chromalith.compaction.findings import Cure, Finding, VerifyReport
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.verify import examine, verify
from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import read_manifest
from chromalith.coord.tags import put_tag
from chromalith.errors import Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.checksum import Setsum
from chromalith.model.folded import FoldedSet
from chromalith.model.folded_part import FoldedPart, encode_part
from chromalith.model.manifest import (
    AsideRef,
    DeletesRef,
    FileRef,
    FoldedPartRef,
    Quarantined,
    encode_manifest,
)
from chromalith.model.retention import Retention
from chromalith.model.segment import encode_deletes
from chromalith.store.wrappers import CountingStore, EveryCallStore

GARBAGE = Setsum((1,) * 8)


def look(world: World, *, deep: bool) -> VerifyReport:
    return examine(world.store, world.cid, deep=deep)


def found(world: World, *, deep: bool) -> list[Finding]:
    return list(look(world, deep=deep).findings)


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_whole_is_whole(deep: bool) -> None:
    """No finding; and it says what it looked at."""
    with prepared() as world:
        report = look(world, deep=deep)
        assert (report.findings, report.whole, report.kept) == ((), 3, (0, 1, 2, 3))
        assert (report.version, report.live, report.segments, report.indexes, report.deep) == (3, 7, 3, 3, deep)
        assert report.objects == len([key for key in keys(world.store) if key.startswith("segment/") or "/buckets/" in key])
        before = keys(world.store)
        look(world, deep=deep)
        assert keys(world.store) == before


def test_the_cheap_form_reads_no_record() -> None:
    """Its requests: listings, the pointer, and for each version its manifest and its buckets; and what it needs of the collection."""
    with prepared() as world:
        counting = CountingStore(world.store)
        examine(counting, world.cid)
        kinds = dict(counting.reset().kinds)
        assert kinds.pop(("get", "collection")) == 1
        # 1 pointer, 4 manifests, 3 sidecars; the listings are of tags, snapshots, segments, folded parts and set-aside deltas.
        assert kinds == {("get", "snapshot"): 8, ("list", "tag"): 1, ("list", "snapshot"): 1, ("list", "segment"): 1,
                         ("list", "folded"): 1, ("list", "quarantine"): 1}  # fmt: skip


DAMAGE: dict[str, Callable[[bytes], bytes] | None] = {"changed": flip, "cut": lambda body: body[:-1], "missing": None}


def damage(world: World, key: str, how: str) -> None:
    change = DAMAGE[how]
    if change is None:
        world.store.delete(key)
    else:
        altered(world.store, key, change)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["records.parquet", "ids.parquet", "index.usearch", "deletes", "buckets"])
def test_i5_any_damage_to_any_object_is_found(name: str, how: str) -> None:
    """With the versions that need the object, and the newest that does not; a change of the same length of a large object only deep."""
    with prepared() as world:
        segment = world.current().segments[0]
        whole = 0
        if name == "deletes":
            assert segment.deletes is not None
            key, versions, whole = layout.deletes_key(world.cid, segment.id, segment.deletes.id), (2, 3), 1
        elif name == "buckets":
            buckets = world.current().buckets
            assert buckets is not None
            key, versions, whole = layout.buckets_key(world.cid, buckets.id), (3,), 2
        else:
            key, versions = file_key(world, name), (1, 2, 3)
        damage(world, key, how)
        for deep in (False, True):
            findings = [each for each in found(world, deep=deep) if each.key == key]
            if how == "changed" and not deep and name != "buckets":
                assert findings == []
                continue
            assert [(each.invariant, each.versions) for each in findings] in ([("I5", versions)], [("I4", versions)])
            assert findings[0].cure == {"buckets": Cure.BUCKETS, "records.parquet": None, "deletes": None}.get(name, Cure.SEGMENT)
            assert look(world, deep=deep).whole == whole
        with pytest.raises(Corrupt, match=key):
            verify(world.store, world.cid)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", ["current", "older", "object of an older version"])
def test_i5_older_versions_are_checked_too(which: str, how: str) -> None:
    """A damaged manifest affects its own version; what lies below it is still checked."""
    with prepared() as world:
        if which == "object of an older version":
            world.writer().write(world.cid, "delete", list("abcdefg"))
            world.compact()
            key, versions = file_of(world, 3, "records.parquet"), (3,)
        elif which == "current":
            key, versions = world.current().key, (3,)
        else:
            key, versions = parent_of(world).key, (2,)
        damage(world, key, how)
        report = look(world, deep=True)
        assert [(each.invariant, each.key, each.versions) for each in report.findings] == [("I5", key, versions)]
        assert report.whole == {"current": 2, "older": 3}.get(which, 4)
        if which != "object of an older version":
            assert set(report.kept) == {0, 1, 2, 3} - set(versions)


def test_a_missing_pointer_is_found() -> None:
    """And which version is whole can still be said by whoever looks at the listing; here only that there is no chain."""
    with prepared() as world:
        world.store.delete(layout.pointer_key(world.cid))
        assert [(each.invariant, each.key) for each in found(world, deep=False)] == [("I2", layout.pointer_key(world.cid))]


def invariants(findings: list[Finding]) -> set[str]:
    return {each.invariant for each in findings}


def test_i1_an_id_in_two_segments() -> None:
    with prepared() as world:
        current = world.current()
        twice = current.segments[1]
        forge(
            world,
            current,
            segments=(*current.segments, twice),
            content=current.content + twice.content,
            embedding=current.embedding + twice.embedding,
            buckets=None,
        )
        assert "I1" not in invariants(found(world, deep=False))
        assert invariants(found(world, deep=True)) == {"I1", "I7"}  # its sequence numbers are there twice, too


def test_i2_a_chain_that_ends_before_version_0() -> None:
    with prepared() as world:
        forge(world, parent_of(world), parent=None)
        assert [(each.invariant, each.versions) for each in found(world, deep=False)] == [("I2", (2,))]


def test_i3_a_forgotten_delta() -> None:
    with prepared() as world:
        forge(world, world.current(), folded=FoldedSet())
        assert [(each.invariant, each.versions) for each in found(world, deep=False)] == [("I3", (3,))]


def test_i3_a_delta_that_was_folded_again() -> None:
    with prepared() as world:
        current = world.current()
        runs = {writer: tuple(replace(run, version=3) for run in runs) for writer, runs in current.folded.runs.items()}
        forge(world, current, folded=FoldedSet(runs))
        (finding,) = found(world, deep=False)
        assert (finding.invariant, finding.versions) == ("I3", (3,))
        assert "folded again" in finding.message


def test_i3_a_damaged_older_part_of_the_folded_set() -> None:
    with prepared() as world:
        current = world.current()
        body = encode_part(FoldedPart.of(current.folded))
        ref = FoldedPartRef(JOB, len(current.folded), current.version, 0, FileRef.of(body))
        world.store.put(layout.folded_key(world.cid, JOB), body)
        forge(world, current, folded=FoldedSet(), folded_parts=(ref,))
        assert found(world, deep=True) == []
        world.store.put(layout.folded_key(world.cid, JOB), flip(body))
        assert {(each.key, each.versions) for each in found(world, deep=False)} == {(layout.folded_key(world.cid, JOB), (3,))}
        world.store.delete(layout.folded_key(world.cid, JOB))
        assert {each.invariant for each in found(world, deep=False)} == {"I5"}


def test_i4_totals_that_are_not_the_segments() -> None:
    with prepared() as world:
        forge(world, world.current(), content=GARBAGE)
        assert invariants(found(world, deep=False)) == {"I4"}


def test_i4_a_merge_that_changes_the_records() -> None:
    with prepared() as world:
        forge(world, world.current(), kind="merge")
        (finding,) = found(world, deep=False)
        assert (finding.invariant, "merge changed the records" in finding.message) == ("I4", True)


def test_i4_buckets_that_do_not_add_up() -> None:
    with prepared() as world:
        key = with_buckets(world, stored_buckets(world) + stored_buckets(world))
        assert [(each.invariant, each.key, each.cure) for each in found(world, deep=False)] == [("I4", key, Cure.BUCKETS)]


def test_i4_buckets_that_add_up_but_are_in_the_wrong_places() -> None:
    """Only the records say so."""
    with prepared() as world:
        key = with_buckets(world, Buckets(stored_buckets(world).lanes[::-1].copy()))
        assert found(world, deep=False) == []
        assert [(each.invariant, each.key, each.cure) for each in found(world, deep=True)] == [("I4", key, Cure.BUCKETS)]


def rewritten(world: World, name: str, change: Callable[[pa.Table], pa.Table]) -> str:
    """Other contents of a segment's file, with the right hash in the manifest: as a defect of a writer would leave them."""
    current = world.current()
    segment = current.segments[0]
    key = file_key(world, name)
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(pa.BufferReader(world.store.get(key).body))), sink)
    world.store.put(key, sink.getvalue())
    files = segment.files | {name: FileRef.of(sink.getvalue())}
    for manifest in (parent_of(world), current):
        changed = tuple(replace(s, files=files) if s.id == segment.id else s for s in manifest.segments)
        forge(world, manifest, segments=changed)
    first = next(key for key in keys(world.store, layout.snapshot_prefix(world.cid)) if "/0000000000000001-" in key)
    one = read_manifest(world.store, first)
    forge(world, one, segments=tuple(replace(s, files=files) for s in one.segments))
    return key


def test_i4_records_that_do_not_match_their_hashes() -> None:
    with prepared() as world:
        key = rewritten(
            world, layout.RECORDS_FILE, lambda table: table.set_column(table.schema.get_field_index("uri"), "uri", pa.array(["?"] * 4))
        )
        assert found(world, deep=False) == []
        assert [(each.invariant, each.key, each.cure) for each in found(world, deep=True)] == [("I4", key, None)]


def test_an_id_table_that_is_not_that_of_its_records() -> None:
    """It is derived: it can be written again."""
    with prepared() as world:
        key = rewritten(
            world, layout.IDS_FILE, lambda table: table.set_column(table.schema.get_field_index("seq"), "seq", pa.array([9, 9, 9, 9]))
        )
        assert [(each.invariant, each.key, each.cure) for each in found(world, deep=True)] == [("derived", key, Cure.SEGMENT)]


def test_an_index_that_is_not_that_of_its_records() -> None:
    with prepared() as world:
        current = world.current()
        segment, other = current.segments[0], current.segments[1]
        assert segment.index is not None
        assert other.index is not None
        body = world.store.get(file_key(world, "index.usearch", 1)).body
        key = file_key(world, "index.usearch")
        world.store.put(key, body)
        lying = replace(segment, index=replace(segment.index, file=FileRef.of(body)))
        forge(world, current, segments=(lying, *current.segments[1:]))
        findings = found(world, deep=True)
        assert ("derived", key, Cure.SEGMENT) in [(each.invariant, each.key, each.cure) for each in findings]
        assert invariants(findings) == {"derived", "I5"}  # I5: of the older versions it is not the object that they name


def test_i6_deletes_that_are_not_as_many_as_stated() -> None:
    with prepared() as world:
        current = world.current()
        segment = current.segments[0]
        assert segment.deletes is not None
        body = encode_deletes(np.array([0, 1], np.uint32))
        world.store.put(layout.deletes_key(world.cid, segment.id, JOB), body)
        lying = replace(segment, deletes=DeletesRef(JOB, 1, FileRef.of(body)))
        forge(world, current, segments=(lying, *current.segments[1:]))
        assert found(world, deep=False) == []
        assert invariants(found(world, deep=True)) == {"I6"}


def test_i7_sequence_numbers_that_fall() -> None:
    with prepared() as world:
        forge(world, world.current(), next_seq=2)
        assert invariants(found(world, deep=False)) == {"I7"}
        assert len(found(world, deep=True)) == 2  # below the parent's, and below what is given out


@pytest.mark.parametrize("field", ["boundary", "horizon"])
def test_i8_boundary_and_horizon_that_fall(field: str) -> None:
    with prepared() as world:
        forge(world, parent_of(world), **{field: 1})
        forge(world, world.current(), **{field: 0})
        assert [(each.invariant, each.versions) for each in found(world, deep=False)] == [("I8", (3,))]


def test_set_aside_and_quarantined_deltas_are_there_and_readable() -> None:
    """What was set aside must decode; what is quarantined is corrupt already, and must only be there."""
    with prepared() as world:
        waiting = world.upsert("z", 9)
        (pending,) = [key for key in keys(world.store, layout.DELTA_ROOT) if str(waiting.delta) in key]
        copy = layout.aside_key(world.cid, JOB, 0, waiting.delta)
        world.store.put(copy, world.store.get(pending).body)
        forge(world, world.current(), aside=(AsideRef(JOB, 1),), quarantined=(Quarantined(str(waiting.delta), "?"),))
        assert found(world, deep=True) == []
        altered(world.store, copy, flip)
        assert found(world, deep=False) == []
        assert [(each.invariant, each.key, each.versions) for each in found(world, deep=True)] == [("I5", copy, (3,))]
        world.store.delete(copy)
        world.store.delete(pending)
        keys_of = {each.key for each in found(world, deep=False)}
        assert keys_of == {layout.aside_prefix(world.cid, JOB), pending}


def test_a_tagged_version_below_the_horizon_is_checked() -> None:
    """And untagged ones below it are not missed."""
    with prepared() as world:
        first = manifest_at(world.store, world.cid, 1)
        put_tag(world.store, world.clock, world.cid, "keep", first)
        zero, two = manifest_at(world.store, world.cid, 0), manifest_at(world.store, world.cid, 2)
        forge(world, world.current(), horizon=3, boundary=3)
        for swept in (zero, two):
            world.store.delete(swept.key)
        report = look(world, deep=True)
        assert (report.findings, report.kept) == ((), (1, 3))
        altered(world.store, first.key, flip)
        assert [(each.key, each.versions) for each in found(world, deep=False)] == [(first.key, (1,))]


def test_all_findings_are_told() -> None:
    """Not only the first."""
    with prepared() as world:
        damaged = [file_key(world, name, position) for name in ("records.parquet", "ids.parquet") for position in range(3)]
        for key in damaged:
            altered(world.store, key, flip)
        assert {each.key for each in found(world, deep=True)} >= set(damaged)


@pytest.mark.parametrize("verb", ["list", "get"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_sweep_that_overtakes_a_verify_is_no_damage(deep: bool, verb: str) -> None:
    """What was swept meanwhile is not missing: it starts again, and says what is kept now."""

    class Meanwhile(EveryCallStore):
        happened = 0

        def call(self, verb_: str, key: str, request: Callable[[], Any]) -> Any:
            found = request()
            if verb_ == verb and key.startswith("snapshot/") and "pointer" not in key and not self.happened:
                self.happened = 1
                world.writer().write(world.cid, "delete", list("abcdefg"))
                world.compact()
                run_sweep(world.store, world.clock, world.cid, Retention(keep_versions=1, keep_age_s=0, job_grace_s=0))
            return found

    with prepared() as world:
        store = Meanwhile(world.store)
        report = examine(store, world.cid, deep=deep)
        assert store.happened
        assert (report.findings, report.version, report.kept) == ((), 5, (4, 5))


def test_requests_side_by_side_find_the_same() -> None:
    """A pool of threads changes nothing but the time that it takes; rivals of published versions are not believed."""
    with prepared() as world:
        two = parent_of(world)
        world.store.put(layout.manifest_key(world.cid, 2, "a" * 32), encode_manifest(replace(two, write_id="a" * 32, content=GARBAGE)))
        with ThreadPoolExecutor(4) as pool:
            assert examine(world.store, world.cid, pool=pool) == examine(world.store, world.cid)
            altered(world.store, two.key, flip)
            report = examine(world.store, world.cid, pool=pool)
            assert report == examine(world.store, world.cid)
            # Which of two manifests was published is not known without the one above them.
            assert (report.kept, report.whole) == ((3,), 3) or report.kept == (0, 1, 3)


def test_a_named_version_can_be_recomputed() -> None:
    """An older one that is kept; one that is not is ``NotFound``."""
    with prepared() as world:
        report = examine(world.store, world.cid, deep=True, version=1)
        assert (report.version, report.live, report.findings) == (1, 4, ())
        with pytest.raises(NotFound):
            examine(world.store, world.cid, deep=True, version=9)
