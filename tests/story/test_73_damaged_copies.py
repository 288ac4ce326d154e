"""Damage to a local copy is repaired from the store, unasked; damage to the store is told, with the version that is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.damage import file_key, flip, prepared
from tests.worlds import World, altered, vectors

from chromalith.coord.whole import newest_without
from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.read.reader import ReadLevel
from chromalith.read.view import View
from chromalith.session import Session
from chromalith.store.wrappers import CountingStore

LOCAL: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: path.write_bytes(flip(path.read_bytes())),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}
FILES = ["records.parquet", "ids.parquet", "index.usearch", "vectors.npy", "content.arrow", "columns.arrow", "deletes"]


def ask(view: View) -> object:
    found = view.get(where={"n": 1}, include=("documents", "embeddings", "metadatas"))
    assert found.embeddings is not None
    near = view.query(vectors(1, 0.5), 2)
    return found.ids, found.documents, found.embeddings.tolist(), [(each.ids, each.distances) for each in near], view.count()


def damaged_world() -> World:
    world = prepared()
    world.upsert("hi", 5, metadatas=[{"n": 1}, {"n": 2}])
    world.compact(merge=World().settings.merge)
    world.upsert("bi", 6)  # an overlay: the id tables and the deletes are needed
    return world


def hydrated(world: World, directory: Path) -> object:
    """What a process answers that leaves all files behind in ``directory``."""
    session = Session(world.store, clock=world.clock, cache_dir=directory)
    answer = ask(session.view(world.cid, ReadLevel.INDEX_AND_WAL))
    session.close()
    return answer


@pytest.mark.parametrize("how", LOCAL)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_local_copy_is_never_answered_from(tmp_path: Path, name: str, how: str) -> None:
    """Whatever is written over a file of the cache, the next process answers as before, and what it used is right again."""
    with damaged_world() as world:
        expected = hydrated(world, tmp_path)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and (path.name == name or path.parent.name == name)]
        assert files, sorted(path.name for path in tmp_path.rglob("*"))
        right = {path: path.read_bytes() for path in files}
        for path in files:
            LOCAL[how](path)
        assert hydrated(world, tmp_path) == expected
        if name in ("ids.parquet", "index.usearch", "deletes"):  # the others are asked for later, or made again behind the caller's back
            assert {path: path.read_bytes() for path in files} == right


@pytest.mark.parametrize("name", ["records.parquet", "ids.parquet", "index.usearch", "content.arrow", "deletes"])
def test_damage_that_leaves_no_trace_is_found_where_the_file_is_decoded(tmp_path: Path, name: str) -> None:
    """As of a disk that lost bytes by itself: the file's times are as they were. It is downloaded again."""
    with damaged_world() as world:
        expected = hydrated(world, tmp_path)
        for path in tmp_path.rglob("*"):
            if path.name in ("vectors.npy", "content.arrow", "columns.arrow") and name == "records.parquet":
                path.unlink()
            elif path.is_file() and (path.name == name or path.parent.name == name):
                status = path.stat()
                path.write_bytes(bytes(status.st_size))
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert hydrated(world, tmp_path) == expected


def test_an_undamaged_copy_is_not_asked_for_again(tmp_path: Path) -> None:
    """A warm start of another process downloads no file; a changed one costs that file."""
    with damaged_world() as world:
        hydrated(world, tmp_path)
        for change, downloads in ((False, 0), (True, 1)):
            if change:
                (index,) = [p for p in tmp_path.rglob("index.usearch") if str(world.current().segments[0].id) in str(p)]
                index.write_bytes(flip(index.read_bytes()))
            counting = CountingStore(world.store)
            session = Session(counting, clock=world.clock, cache_dir=tmp_path)
            ask(session.view(world.cid, ReadLevel.INDEX_AND_WAL))
            session.close()
            assert counting.counts.kinds.get(("get", "segment"), 0) == downloads


def test_a_file_whose_times_were_lost_is_hashed_and_kept(tmp_path: Path) -> None:
    """As after a copy of the cache's directory: the objects are right, so none is downloaded again."""
    with damaged_world() as world:
        expected = hydrated(world, tmp_path)
        for path in tmp_path.rglob("*"):
            os.utime(path)
        counting = CountingStore(world.store)
        session = Session(counting, clock=world.clock, cache_dir=tmp_path)
        assert ask(session.view(world.cid, ReadLevel.INDEX_AND_WAL)) == expected
        session.close()
        assert ("get", "segment") not in counting.counts.kinds


def test_an_error_about_a_stored_object_names_the_version_that_is_whole() -> None:
    """To readers and to compactors: the newest version that does not name the object, and how to go back to it."""
    with prepared() as world:
        altered(world.store, file_key(world, "records.parquet", 2), flip)
        with pytest.raises(Corrupt) as raised:
            ask(world.view())
        assert "snapshot rollback COLLECTION 2" in str(raised.value.hint)
        segment = world.current().segments[0]
        assert segment.deletes is not None
        altered(world.store, layout.deletes_key(world.cid, segment.id, segment.deletes.id), flip)
        world.upsert("x", 1)
        with pytest.raises(Corrupt) as raised:
            world.compact()
        assert "snapshot rollback COLLECTION 1" in str(raised.value.hint)


def test_an_error_about_what_is_derived_names_the_repair() -> None:
    with prepared() as world:
        altered(world.store, file_key(world, "index.usearch", 2), flip)
        with pytest.raises(Corrupt, match="verify COLLECTION --repair"):
            ask(world.view())


@pytest.mark.parametrize("missing", [False, True])
def test_an_error_about_the_current_manifest_names_the_version_below_it(missing: bool) -> None:
    with prepared() as world:
        if missing:
            world.store.delete(world.current().key)
        else:
            altered(world.store, world.current().key, flip)
        with pytest.raises(Corrupt, match="version 2 is whole"):
            world.view()


def test_a_missing_object_of_the_current_version_is_corrupt() -> None:
    """Not a race, to whoever meets it; and the version that is whole is named."""
    with prepared() as world:
        world.store.delete(file_key(world, "records.parquet", 2))
        with pytest.raises(Corrupt, match="version 2 is whole"):
            ask(world.view())
        segment = world.current().segments[0]
        assert segment.deletes is not None
        world.store.delete(layout.deletes_key(world.cid, segment.id, segment.deletes.id))
        world.upsert("x", 1)
        with pytest.raises(Corrupt, match="version 1 is whole"):
            world.compact()


def test_rivals_are_not_named_as_whole() -> None:
    """Of two manifests of one version the published one counts, which its child names; if that can't be read, neither does."""
    with prepared() as world:
        key = file_key(world, "records.parquet", 2)
        assert newest_without(world.store, world.cid, key) == 2
        two = world.current().parent or ""
        world.store.put(two[:-37] + "f" * 32 + ".json", world.store.get(two).body)
        assert newest_without(world.store, world.cid, key) == 2
        altered(world.store, world.current().key, flip)
        assert newest_without(world.store, world.cid, key) == 1
