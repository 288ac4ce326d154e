"""What doctor finds about pointers, manifests and what they need: each finding is planted."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.doctor.examined import examined, findings
from tests.worlds import World, altered, keys, merging

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.coord.pointer import pointer_body, read_current
from chromalith.doctor.codes import Severity
from chromalith.doctor.finding import Verdict
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest, encode_manifest
from chromalith.session import Session
from chromalith.store.port import Store
from chromalith.store.url import open_store


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def folded(world: World, *texts: str) -> list[Manifest]:
    """One fold for each text; the versions."""
    found = []
    for number, text in enumerate(texts):
        world.upsert(text, number)
        world.compact()
        found.append(world.current())
    return found


def point(world: World, manifest: Manifest) -> None:
    world.store.put(layout.pointer_key(world.cid), pointer_body(manifest))


def test_a_sound_world_is_healthy(world: World, tmp_path: Path) -> None:
    """Nothing but information is said of a collection that was written, folded and merged."""
    for number in range(6):
        world.upsert("ab", number)
        world.compact(merge=merging().merge)
        world.clock.advance(120)
    report = examined(world.store, world.clock, tmp_path)
    assert report.verdict is Verdict.HEALTHY
    assert [each.code for each in report.findings if each.severity is not Severity.INFO] == []
    assert report.collections == 1


def test_pointer_missing(world: World, tmp_path: Path) -> None:
    newest = folded(world, "a", "b")[-1]
    world.store.delete(layout.pointer_key(world.cid))
    found = findings(world, tmp_path)["pointer_missing"]
    assert newest.key in found.remedy
    assert newest.write_id in found.remedy


def test_pointer_corrupt(world: World, tmp_path: Path) -> None:
    world.store.put(layout.pointer_key(world.cid), b"\xff\xfe")
    assert "pointer_corrupt" in findings(world, tmp_path)


@pytest.mark.parametrize("cut", ["nothing", "segments", "manifests"])
def test_pointer_went_back(world: World, tmp_path: Path, cut: str) -> None:
    """Proved by the manifests that were built on later ones, or by what later jobs wrote; and the remedy names the newest one."""
    versions = folded(world, "a", "b", "c")
    point(world, versions[0])
    prefix = {"nothing": None, "segments": f"segment/{world.cid}/", "manifests": f"snapshot/{world.cid}/0"}[cut]
    for key in keys(world.store, prefix) if prefix else ():
        if key != versions[0].key:
            world.store.delete(key)
    found = findings(world, tmp_path)["pointer_went_back"]
    assert "pointer=1 published=2" in found.message
    assert found.severity is Severity.ERROR
    if cut != "manifests":
        assert versions[-1].key in found.remedy


def test_pointer_went_back_by_the_cache(world: World, tmp_path: Path) -> None:
    """The last witness is what this machine downloaded."""
    versions = folded(world, "a", "b", "c")
    with Session(world.store, cache_dir=tmp_path, clock=world.clock) as session:
        assert session.view(world.cid).get(include=("documents",)).ids == ["a", "b", "c"]
    point(world, versions[0])
    needed = {*versions[0].objects, versions[0].key, layout.pointer_key(world.cid), layout.collection_key(world.cid)}
    for key in keys(world.store):
        if world.cid in key and key not in needed:
            world.store.delete(key)
    assert "this machine's cache" in findings(world, tmp_path)["pointer_went_back"].message
    assert "pointer_went_back" not in findings(world, tmp_path / "other")


def test_an_orphan_of_a_crash_is_not_a_pointer_that_went_back(world: World, tmp_path: Path) -> None:
    """A manifest that was built on the current version, and never published, proves nothing."""
    current = folded(world, "a")[0]
    orphan = replace(current, version=current.version + 1, parent=current.key, write_id="0" * 32)
    world.store.put(orphan.key, encode_manifest(orphan))
    assert examined(world.store, world.clock, tmp_path).verdict is Verdict.HEALTHY


def test_history_forked(world: World, tmp_path: Path) -> None:
    """A pointer was put back, and another version was published on it."""
    first, _, _ = folded(world, "a", "b", "c")
    point(world, first)
    folded(world, "x", "y", "z")
    assert "history_forked" in findings(world, tmp_path)


def test_a_lost_race_is_not_a_fork(world: World, tmp_path: Path) -> None:
    """A rival that nothing was built on is garbage, as every race leaves."""
    versions = folded(world, "a", "b", "c")
    rival = replace(versions[1], write_id="0" * 32)
    world.store.put(rival.key, encode_manifest(rival))
    assert examined(world.store, world.clock, tmp_path).verdict is Verdict.HEALTHY


def test_manifest_missing(world: World, tmp_path: Path) -> None:
    world.store.delete(folded(world, "a", "b")[-1].key)
    assert "manifest_missing" in findings(world, tmp_path)


def test_manifest_corrupt(world: World, tmp_path: Path) -> None:
    altered(world.store, folded(world, "a")[-1].key, lambda body: body.replace(b'"kind":"fold"', b'"kind":"fool"'))
    assert "manifest_corrupt" in findings(world, tmp_path)


def test_manifest_newer_format(world: World, tmp_path: Path) -> None:
    altered(world.store, folded(world, "a")[-1].key, lambda body: body.replace(b'"format":2', b'"format":99'))
    assert "upgrade" in findings(world, tmp_path)["manifest_newer_format"].remedy


def test_object_missing_and_object_size_differs(world: World, tmp_path: Path) -> None:
    """What the current version needs is looked for, and measured."""
    folded(world, "a", "b")
    first, second = keys(world.store, "segment/", "records.parquet")
    world.store.delete(first)
    altered(world.store, second, lambda body: body + b"x")
    found = findings(world, tmp_path)
    assert first in found["object_missing"].message
    assert second in found["object_size_differs"].message


def test_the_remedy_heals(tmp_path: Path) -> None:
    """The command that doctor gives for a pointer that went back, or is gone, makes the collection well again."""
    store = open_store(str(tmp_path / "store"))
    with Session(store, cache_dir=tmp_path / "cache") as session:
        cid = _three_versions(session, store)
    newest = read_current(store, cid).manifest
    pointer = tmp_path / "store" / layout.pointer_key(cid)
    older = next(key for key in keys(store, f"snapshot/{cid}/") if layout.parse_manifest_key(key)[1] == 1)
    pointer.write_text(f"{older}\n{layout.parse_manifest_key(older)[2]}\n")
    for code in ("pointer_went_back", "pointer_missing"):
        found = {each.code: each for each in examined(store, SYSTEM_CLOCK, tmp_path / "cache").findings}
        command = found[code].remedy.partition(": ")[2]
        assert shlex.split(command)
        subprocess.run(["sh", "-c", command], check=True)
        assert examined(store, SYSTEM_CLOCK, tmp_path / "cache").verdict is Verdict.HEALTHY
        assert read_current(store, cid).manifest == newest
        pointer.unlink()


def _three_versions(session: Session, store: Store) -> CollectionId:
    cid = session.catalog.create("default_tenant", "default_database", "words", configuration={}).collection.id
    for text in "abc":
        session.writer.write(cid, "upsert", [text], [[1.0, 2.0]])
        session.compactor(CompactionSettings()).run_once(cid)
    assert read_current(store, cid).manifest.version == 3
    assert Collections(store, Catalog(store)).get(cid).dimension == 2
    return cid
