"""What doctor finds about deltas, compaction and the catalog: each finding is planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.doctor.examined import examined, findings
from tests.worlds import DATABASE, NAME, TENANT, World, altered, keys

from chromalith.coord.lease_table import LeaseRecord
from chromalith.doctor import compaction_checks, delta_checks
from chromalith.doctor.finding import Verdict
from chromalith.model import layout
from chromalith.model.folded import FoldedSet
from chromalith.model.ids import CollectionId, DeltaId, JobId, body_digest
from chromalith.model.manifest import AsideRef, FileRef, FoldedPartRef, IndexRef, Manifest, encode_manifest
from chromalith.store.port import Entry

STRANGER = CollectionId("11111111-1111-4111-8111-111111111111")


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def plant(world: World, **fields: object) -> Manifest:
    """Alter the current version in place, with a sound hash."""
    changed: Manifest = replace(world.current(), **fields)  # type: ignore[arg-type]
    world.store.put(changed.key, encode_manifest(changed))
    return changed


# Deltas ----------------------------------------------------------------------------------------------------------------


def test_deltas_waiting_many(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_checks, "PAGE", 2)
    for text in "abc":
        world.upsert(text)
    found = findings(world, tmp_path)
    assert found["deltas_waiting_many"].collection == NAME
    assert "deltas_waiting_long" not in found
    world.compact()
    assert "deltas_waiting_many" not in findings(world, tmp_path)


def test_deltas_waiting_long(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    world.clock.advance(7_200)
    found = findings(world, tmp_path)
    assert "2.0 hours" in found["deltas_waiting_long"].message
    assert "deltas_waiting_many" not in found


def test_deltas_late(world: World, tmp_path: Path) -> None:
    """A delta is put back in time to before one that was folded."""
    world.upsert("a")
    world.compact()
    world.upsert("b")
    assert "deltas_late" not in findings(world, tmp_path)

    class Backdated(type(world.store)):  # type: ignore[misc]
        def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
            for page in super().list(prefix, start_after=start_after):
                last = max((entry.modified_us for entry in page if entry.key.startswith("delta/")), default=0)
                yield [replace(entry, modified_us=1) if entry.modified_us == last else entry for entry in page]

    world.store.__class__ = Backdated
    assert "deltas_late" in findings(world, tmp_path)


def test_delta_corrupt(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    altered(world.store, keys(world.store, "delta/")[0], lambda body: body[:-1] + b"?")
    assert "do not match" in findings(world, tmp_path)["delta_corrupt"].message


def test_delta_newer_format(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    key = keys(world.store, "delta/")[0]
    table = pq.read_table(pa.BufferReader(world.store.get(key).body))
    newer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"chromalith.delta.format": b"9"}), newer)
    body = newer.getvalue().to_pybytes()
    world.store.delete(key)
    _, delta = layout.parse_delta_key(key)
    world.store.put(layout.delta_key(world.cid, replace(delta, digest=body_digest(body))), body)
    assert "format=9" in findings(world, tmp_path)["delta_newer_format"].message


def test_deltas_folded_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in "abc":
        world.upsert(text)
    world.compact()
    assert "deltas_folded_kept" not in findings(world, tmp_path)
    monkeypatch.setattr(delta_checks, "PAGE", 2)
    assert "deltas_folded_kept" in findings(world, tmp_path)


def test_deltas_quarantined(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    key = keys(world.store, "delta/")[0]
    altered(world.store, key, lambda body: b"damaged")
    world.compact()
    found = findings(world, tmp_path)
    assert str(layout.parse_delta_key(key)[1]) in found["deltas_quarantined"].message
    assert "delta_corrupt" not in found


def test_deltas_aside(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    world.compact()
    plant(world, aside=(AsideRef(JobId(0, "0" * 32), 3),))
    assert "3 deltas" in findings(world, tmp_path)["deltas_aside"].message


# Compaction ------------------------------------------------------------------------------------------------------------


def lease(world: World, released: bool = False) -> None:
    record = LeaseRecord("host/1/nonce", "token", 30.0, "fold", released)
    world.store.put(layout.lease_key(world.cid), record.encode())


def test_lease_held_then_lease_stale(world: World, tmp_path: Path) -> None:
    lease(world)
    assert "lease_held" in findings(world, tmp_path)
    world.clock.advance(400)
    found = findings(world, tmp_path)
    assert "lease_held" not in found
    assert "--expect-owner 'host/1/nonce'" in found["lease_stale"].remedy
    lease(world, released=True)
    assert "lease_stale" not in findings(world, tmp_path)


def test_lease_corrupt(world: World, tmp_path: Path) -> None:
    world.store.put(layout.merge_lease_key(world.cid), b"[")
    assert "merge.json" in findings(world, tmp_path)["lease_corrupt"].message


def test_folded_set_large(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.upsert("a")
    world.compact()
    part = FileRef(compaction_checks.FOLDED_BYTES_MAX, "0" * 64)
    plant(world, folded_parts=(FoldedPartRef(JobId(0, "0" * 32), 9, 1, 1, part),), folded=FoldedSet())
    assert "folded_set_large" in findings(world, tmp_path)


def test_sweep_overdue(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_checks, "UNSWEPT_VERSIONS_MAX", 2)
    for number in range(14):
        world.upsert("a", number)
        world.compact()
    assert "sweep_overdue" not in findings(world, tmp_path), "all of them are young"
    world.clock.advance(3 * 86_400)
    assert "sweep_overdue" in findings(world, tmp_path)


def test_index_kind_unknown(world: World, tmp_path: Path) -> None:
    world.upsert("a")
    world.compact()
    segment = world.current().segments[0]
    for kind, library, code in (
        ("annoy", "annoy 1", "index_kind_unknown"),
        ("usearch", "usearch 99.1", "index_library_newer"),
    ):
        plant(world, segments=(replace(segment, index=IndexRef(kind, library, {}, FileRef(1, "0" * 64))),))
        assert library in findings(world, tmp_path)[code].message


# The catalog -----------------------------------------------------------------------------------------------------------


def test_catalog_object_corrupt(world: World, tmp_path: Path) -> None:
    world.store.put(layout.database_key(TENANT, DATABASE), b'{"format": 1}')
    assert "catalog_object_corrupt" in findings(world, tmp_path)


def test_collection_object_corrupt(world: World, tmp_path: Path) -> None:
    world.store.put(layout.collection_key(world.cid), b"{}")
    assert findings(world, tmp_path)["collection_object_corrupt"].collection == NAME


def test_collection_object_missing(world: World, tmp_path: Path) -> None:
    world.store.delete(layout.collection_key(world.cid))
    found = findings(world, tmp_path)
    assert found["collection_object_missing"].collection == NAME
    assert "data_of_no_collection" not in found


def test_collection_name_dangling(world: World, tmp_path: Path) -> None:
    """A crash after the first step of a delete."""
    altered(world.store, layout.collection_key(world.cid), lambda body: body.replace(b'"deleted":false', b'"deleted":true'))
    found = findings(world, tmp_path)
    assert found["collection_name_dangling"].collection == NAME
    assert "collection_deleted_not_swept" in found


def test_collection_deleted_not_swept(world: World, tmp_path: Path) -> None:
    world.catalog.delete(TENANT, DATABASE, NAME)
    found = findings(world, tmp_path)
    assert "collection_deleted_not_swept" in found
    assert "collection_name_dangling" not in found


def test_collection_unnamed(world: World, tmp_path: Path) -> None:
    """A creator that crashed before the name; an hour is given to one that is at work."""
    world.store.put(layout.database_key(TENANT, DATABASE), world.store.get(layout.database_key(TENANT, DATABASE)).body.replace(
        b'"words":', b'"other":').replace(world.cid.encode(), STRANGER.encode()))
    assert "collection_unnamed" not in findings(world, tmp_path)
    world.clock.advance(7_200)
    assert world.cid in findings(world, tmp_path)["collection_unnamed"].message


def test_data_of_no_collection(world: World, tmp_path: Path) -> None:
    world.store.put(layout.tag_key(STRANGER, "name"), b"{}")
    assert findings(world, tmp_path)["data_of_no_collection"].collection == STRANGER


@pytest.mark.parametrize(
    "key",
    ["delta/readme.txt", "segment/{cid}/x", "snapshot/{cid}/notes.json", "catalog/x.json", "collection/x.json", "lease/x.json",
     "folded/{cid}/x.parquet", "tag/{cid}/x.json", "quarantine/{cid}/x", "delta/{cid}/x.parquet", "snapshot/{cid}/buckets/x.bin"],
)  # fmt: skip
def test_foreign_objects(world: World, tmp_path: Path, key: str) -> None:
    world.store.put(key.format(cid=world.cid), b"x")
    found = findings(world, tmp_path)
    assert set(found) == {"foreign_objects"}
    assert key.format(cid=world.cid) in found["foreign_objects"].message


def test_every_object_that_chromalith_writes_is_known(world: World, tmp_path: Path) -> None:
    """None of our own keys counts as foreign."""
    delta = DeltaId(1, "0" * 32, 1, "0" * 16)
    job = JobId(0, "0" * 32)
    own = [
        layout.store_key(), layout.tag_key(world.cid, "t"), layout.lease_key(world.cid), layout.merge_lease_key(world.cid),
        layout.date_key(world.cid), layout.aside_key(world.cid, job, 0, delta), layout.folded_key(world.cid, job),
        layout.buckets_key(world.cid, job), layout.stock_key(world.cid), f"{layout.stock_prefix(world.cid, 3)}run/chroma.sqlite3",
        layout.deletes_key(world.cid, job, job), layout.segment_file_key(world.cid, job, layout.index_file("usearch")),
        "snapshot/migration/x", "probe/x/y",
    ]  # fmt: skip
    for key in own:
        if key != layout.store_key():
            world.store.put(key, b"{}")
    assert "foreign_objects" not in findings(world, tmp_path)


def test_object_corrupt(world: World, tmp_path: Path) -> None:
    """What a check must read and cannot believe is an error, not a check that was left out."""
    world.upsert("a")
    world.compact()
    world.upsert("b")
    key = layout.folded_key(world.cid, JobId(0, "0" * 32))
    world.store.put(key, b"x")
    plant(world, folded_parts=(FoldedPartRef(JobId(0, "0" * 32), 1, 1, 1, FileRef(1, "0" * 64)),))
    report = examined(world.store, world.clock, tmp_path)
    assert "object_corrupt" in {each.code for each in report.findings}
    assert report.verdict is Verdict.ILL


def test_one_collection(world: World, tmp_path: Path) -> None:
    """With a name, only that collection is looked at."""
    other = world.create("other")
    world.store.delete(layout.pointer_key(other))
    assert examined(world.store, world.clock, tmp_path).verdict is Verdict.ILL
    report = examined(world.store, world.clock, tmp_path, only=world.catalog.lookup(TENANT, DATABASE, NAME))
    assert (report.verdict, report.collections) == (Verdict.HEALTHY, 1)
