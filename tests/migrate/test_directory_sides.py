"""A Chroma directory as a side: who may have it open, whether what was read of it still holds, and whether its files are whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.migrate.backfill_world import BackfillWorld, memory_side
from tests.migrate.stock_client import stock
from tests.servers import ChromaServer

import chromalith
from chromalith.chroma.import_ import chroma_directory
from chromalith.chroma.side_opening import directory_side
from chromalith.chroma.vector_files import damaged_collections
from chromalith.cli import app
from chromalith.errors import Conflict, Corrupt, Unknown
from chromalith.migrate.journal import Journal
from chromalith.migrate.opening import open_side, side_of_client
from chromalith.migrate.port import Role, Sides
from chromalith.transfer.port import Definition
from chromalith.transfer.sides import Denied

FLUSHED = {"hnsw": {"space": "cosine", "sync_threshold": 2}}
OLD = np.array([[1.0, 2.0, 3.0]], np.float32)
NEW = np.array([[3.0, 2.0, 1.0]], np.float32)


# What was read of a directory that somebody else writes ------------------------------------------------------------------


def test_a_reconciliation_that_reads_an_old_copy_does_not_undo_a_newer_write(tmp_path: Path) -> None:
    """The tool opened the source; then the application changed a record on both sides. The old value is no reason to write anything."""
    with stock(tmp_path / "source") as application:
        words = application.create_collection("words", embedding_function=None)
        words.add(ids=["x"], embeddings=OLD)
        target = memory_side("target")
        there = target.create("words", Definition.of_space("l2"))
        there.write("add", ["x"], OLD)
        source = directory_side(tmp_path / "source", write=False)
        world = BackfillWorld(source, target)
        journal = Journal(world.place, client="application")
        entry = journal.open("words", ["x"], authority=Role.SOURCE, op="update")
        words.update(ids=["x"], embeddings=NEW)
        there.write("update", ["x"], NEW)
        journal.close(entry, "ok")
        journal.stop()
        assert not world.reconcile()
        assert there.read(["x"]).embeddings.tolist() == NEW.tolist()
        assert not world.journal_is_empty()
        with pytest.raises(Conflict, match="was written while it was read"):
            source.close()
        world.sides = Sides(directory_side(tmp_path / "source", write=False), target)
        assert world.reconcile()
        world.sides.source.close()


@pytest.mark.parametrize("read", ["names", "collection", "count", "ids", "read", "present"])
def test_no_answer_is_given_of_a_directory_that_was_written_since(read: str, tmp_path: Path) -> None:
    """Also where the writer's file has the same size and the same time of change as before."""
    with stock(tmp_path) as application:
        words = application.create_collection("words", embedding_function=None)
        words.add(ids=["x"], embeddings=OLD)
        side = directory_side(tmp_path, write=False)
        collection = side.collection("words")
        reads: dict[str, Callable[[], object]] = {
            "names": side.names,
            "collection": lambda: side.collection("words"),
            "count": collection.count,
            "ids": collection.ids,
            "read": lambda: collection.read(["x"]),
            "present": lambda: collection.present(["x"]),
        }
        assert reads[read]()
        stats = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
        words.update(ids=["x"], embeddings=NEW)
        for path, stat in stats.items():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(Conflict, match="was written while it was read"):
            reads[read]()
        with pytest.raises(Conflict):
            side.close()


def test_nothing_is_written_to_a_copy(tmp_path: Path) -> None:
    """It would be acknowledged, seen to be equal, and gone with the copy; or, through a link to the vectors, destroy the source."""
    with stock(tmp_path) as client:
        client.create_collection("words", embedding_function=None).add(ids=["x"], embeddings=OLD)
    side = directory_side(tmp_path, write=False)
    words = side.collection("words")
    for write in (
        lambda: words.write("upsert", ["x"], NEW),
        lambda: words.delete(["x"]),
        lambda: side.create("new", Definition.of_space("l2")),
        lambda: side.drop("words"),
        lambda: side.describe("words", {"about": "words"}),
    ):
        with pytest.raises(Denied, match="opened to be read only"):
            write()
    assert words.read(["x"]).embeddings.tolist() == OLD.tolist()
    side.close()


# Who has it open ---------------------------------------------------------------------------------------------------------


def test_no_tool_opens_a_directory_to_write_that_an_application_has_open(tmp_path: Path) -> None:
    """Two engines on one directory destroy it. Applications don't exclude each other: that they were there before is not ours to forbid."""
    with stock(tmp_path) as client:
        one, other = side_of_client(client), side_of_client(client)
        for side in (one, other):
            with pytest.raises(Conflict, match="another process has"):
                open_side(f"chroma:{tmp_path}")
            side.close()
        tool = directory_side(tmp_path)
        with pytest.raises(Conflict, match="another process has"):
            side_of_client(client)
        tool.close()


# Whether its files are whole ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three collections whose vectors are on disk; one of them was deleted, its files were not."""
    path = tmp_path_factory.mktemp("whole")
    with stock(path) as client:
        for name in ("words", "others", "deleted"):
            made = client.create_collection(name, configuration=FLUSHED, embedding_function=None)
            for start in (0, 50):
                numbers = range(start, start + 50)
                made.add(ids=[f"r{n}" for n in numbers], embeddings=[[float(n), 1.0, 2.0] for n in numbers])
        client.delete_collection("deleted")
    return path


def files_of(directory: Path, name: str) -> Path:
    """The folder of a collection's vectors."""
    with stock(directory) as client:
        cid = client.get_collection(name, embedding_function=None).id
    with closing(sqlite3.connect(directory / "chroma.sqlite3")) as connection:
        (segment,) = connection.execute(
            "SELECT id FROM segments WHERE scope = 'VECTOR' AND collection = ?", (str(cid),)
        ).fetchone()
    return directory / str(segment)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("file", ["data_level0.bin", "length.bin", "link_lists.bin", "header.bin"])
def test_vectors_of_which_a_part_is_missing_are_refused_and_others_are_read(
    file: str, part: float, whole: Path, tmp_path: Path
) -> None:
    """However it is opened; the collections beside it are read, and what a deleted one left does not count."""
    source = tmp_path / "source"
    shutil.copytree(whole, source)
    for folder in source.iterdir():
        if folder.is_dir() and folder not in (files_of(source, "words"), files_of(source, "others")):
            (folder / "data_level0.bin").write_bytes(b"")
    damaged = files_of(source, "words") / file
    damaged.write_bytes(damaged.read_bytes()[: int(part * damaged.stat().st_size)])
    for write in (False, True):
        side = directory_side(source, write=write)
        with pytest.raises(Corrupt, match=rf"damaged collection='words' .*{file}"):
            side.collection("words")
        assert len(side.collection("others").read(["r7", "r8"])) == 2
        side.close()
    with chroma_directory(source) as chroma, pytest.raises(Corrupt, match="damaged"):
        chroma.source("words")


def test_a_header_that_is_ahead_of_files_that_have_all_named_records_is_no_damage(whole: Path, tmp_path: Path) -> None:
    """So a process leaves them that is killed while it writes them out: Chroma adds the rest again from its queue."""
    shutil.copytree(whole, tmp_path / "source")
    folder = files_of(tmp_path / "source", "words")
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.name != "header.bin"}
    with stock(tmp_path / "source") as client:
        words = client.get_collection("words", embedding_function=None)
        words.add(ids=["late1", "late2"], embeddings=[[1.0, 2.0, 3.0]] * 2)
    assert (folder / "data_level0.bin").stat().st_size > len(kept[folder / "data_level0.bin"])
    for path, body in kept.items():
        path.write_bytes(body)
    assert damaged_collections(tmp_path / "source") == {}
    names = folder / "index_metadata.pickle"
    names.write_bytes(names.read_bytes()[:-3])
    assert list(damaged_collections(tmp_path / "source").values()) == ["file=data_level0.bin elements=100 expected=102"]


def test_a_header_that_is_older_than_the_names_is_damage(whole: Path, tmp_path: Path) -> None:
    """As a copy that was taken file by file leaves it: Chroma 1.5.9 would never end when it adds what waits in its queue."""
    shutil.copytree(whole, tmp_path / "source")
    folder = files_of(tmp_path / "source", "words")
    header = (folder / "header.bin").read_bytes()
    with stock(tmp_path / "source") as client:
        words = client.get_collection("words", embedding_function=None)
        for start in (200, 250):
            numbers = range(start, start + 50)
            words.add(ids=[f"r{n}" for n in numbers], embeddings=[[float(n), 1.0, 2.0] for n in numbers])
    assert damaged_collections(tmp_path / "source") == {}
    assert (folder / "header.bin").read_bytes() != header
    (folder / "header.bin").write_bytes(header)
    assert list(damaged_collections(tmp_path / "source").values()) == ["file=header.bin elements=100 expected=200"]


# What Chroma says --------------------------------------------------------------------------------------------------------


def test_a_write_that_chroma_noted_and_could_not_apply_is_unknown(tmp_path: Path) -> None:
    """1.5.9 takes NaN in a list into its log, can't read it back, and calls that an invalid argument."""
    side = directory_side(tmp_path)
    words = side.create("words", Definition.of_space("l2"))
    with pytest.raises(Unknown, match="whether it was written"):
        words.write("add", ["x"], OLD, metadatas=[{"list": [float("nan"), 1.0]}])
    side.close()


@pytest.mark.parametrize("space", ["ip", "cosine"])
def test_a_collection_with_settings_in_its_metadata_is_made_on_every_side(
    space: str, tmp_path: Path, chroma_server: ChromaServer
) -> None:
    """``metadata={"hnsw:space": …}``, as most applications say it: Chroma refuses that beside a schema."""
    metadata = {"hnsw:space": space, "about": "words"}
    with stock(tmp_path / "source") as client:
        client.create_collection("words", metadata=metadata, embedding_function=None)
    source = directory_side(tmp_path / "source")
    definition = source.collection("words").definition
    server = open_side(chroma_server.url, database=chroma_server.new_database())
    sides = [memory_side("between"), directory_side(tmp_path / "target"), server]
    for side in sides:
        definition = side.create("words", definition).definition
        assert definition.space == space
        assert definition.metadata == metadata
    for side in (source, *sides):
        side.close()


def test_a_collection_with_settings_in_its_metadata_is_exported(tmp_path: Path) -> None:
    """The way back to a Chroma directory, which every stock snapshot goes, too."""
    metadata = {"hnsw:space": "cosine", "about": "words"}
    ours = chromalith.Client(str(tmp_path / "store"))
    words = ours.create_collection("words", metadata=metadata, embedding_function=None)
    words.add(ids=["x"], embeddings=OLD, documents=["text"])
    ours.close()
    assert app.run(["--store", str(tmp_path / "store"), "export", "words", "--to", str(tmp_path / "out")]) == 0
    with stock(tmp_path / "out") as client:
        exported = client.get_collection("words", embedding_function=None)
        assert exported.metadata == metadata
        assert exported.configuration_json["hnsw"]["space"] == "cosine"
        assert exported.get()["documents"] == ["text"]
