"""From stock Chroma into a store and back: the way in, the way out, and what a reader that is stock Chroma is given.

The directories here are made, read and written by Chroma itself: it is the oracle.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from tests.transfers import DATABASE, TENANT, Records, assert_same, batch, read

from chromalith.chroma.directory_builder import Way
from chromalith.chroma.export import ChromaDirectoryTarget, ChromaPrefixTarget, export_chroma_directory
from chromalith.chroma.import_ import chroma_directory, chroma_prefix, chroma_server
from chromalith.chroma.private_copy import DATABASE as SQLITE
from chromalith.chroma.private_copy import is_flushed
from chromalith.chroma.stock_snapshot import fetch_stock_snapshot, publish_stock_snapshot, read_stock
from chromalith.clock import ManualClock
from chromalith.compacting import compact
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.transfer.bundle import Bundle
from chromalith.transfer.export import export_collection, view_source
from chromalith.transfer.import_ import import_collection
from chromalith.transfer.import_bundle import import_bundle
from chromalith.transfer.port import Definition
from chromalith.wiring import Writer

HERE = (TENANT, DATABASE)
ROWS = 60
CONFIGURATION: dict[str, Any] = {"ef_construction": 120, "max_neighbors": 20, "ef_search": 70, "sync_threshold": 500, "resize_factor": 1.5}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = ManualClock()
    session = Session(MemoryStore(clock), cache_dir=tmp_path / "cache", clock=clock)
    yield session
    session.close()


def opened(directory: Path) -> Any:
    return chromadb.PersistentClient(str(directory), Settings(anonymized_telemetry=False))


def columns(rows: int, *, start: int = 0) -> dict[str, Any]:
    """As a caller of ``Collection`` gives records."""
    some = batch(rows, start=start)
    return {
        "ids": some.ids,
        "embeddings": list(some.embeddings),
        "documents": some.documents,
        "uris": some.uris,
        "metadatas": some.metadatas,
    }


def make(directory: Path, space: str = "l2", rows: int = ROWS, name: str = "words") -> Path:
    """A Chroma directory as an application leaves it: updated, with deletes, most of it still in its queue."""
    client = opened(directory)
    made = client.create_collection(
        name, metadata={"about": "words", "n": 1}, configuration={"hnsw": {"space": space, **CONFIGURATION}}
    )
    made.add(**columns(rows))
    made.add(ids=["gone"], embeddings=[[1.0] * 8], documents=["gone"])
    made.delete(ids=["gone"])
    client.close()
    return directory


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def answers(collection: Any) -> Any:
    """What Chroma answers to one of each kind of question."""
    found = collection.query(query_embeddings=list(batch(3).embeddings), n_results=5)
    filters: list[dict[str, Any]] = [
        {"where": {"integer": {"$gte": 1}}},
        {"where": {"yes": True}},
        {"where": {"texts": {"$contains": "b"}}},
        {"where": {"mixed": {"$ne": "one"}}},
        {"where": {"big": 2**63 - 1}},
        {"where_document": {"$contains": "世界"}},
        {"where_document": {"$not_contains": "plain"}},
    ]
    return found["ids"], [collection.get(**each, include=[])["ids"] for each in filters]


@pytest.mark.parametrize("way", [Way.API, Way.DIRECT])
@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_chroma_to_store_to_chroma_is_the_same_collection(session: Session, tmp_path: Path, space: str, way: Way) -> None:
    source = make(tmp_path / "source", space)
    before = digests(source)
    with chroma_directory(source) as chroma:
        cid = import_collection(session, *HERE, "words", chroma.source("words"), batch=25).collection
    assert digests(source) == before  # a source is not touched, not even as much as opening it would
    session.compactor().run_once(cid)
    report = export_collection(session, *HERE, "words", ChromaDirectoryTarget(tmp_path / "target", way=way))
    assert report.how == f"chroma-{way}"
    assert is_flushed(tmp_path / "target" / SQLITE)

    with chroma_directory(source) as one, chroma_directory(tmp_path / "target") as two:
        assert_same(read(two.source("words")), read(one.source("words")), cosine=space == "cosine")
        assert two.source("words").definition == one.source("words").definition
    old, new = opened(source), opened(tmp_path / "target")
    try:
        assert answers(new.get_collection("words")) == answers(old.get_collection("words"))
    finally:
        old.close()
        new.close()


@pytest.mark.parametrize("way", [Way.API, Way.DIRECT])
def test_an_exported_directory_is_written_like_any_other(tmp_path: Path, way: Way) -> None:
    """Everything that an application does next, past a persist of the vectors and a restart, against a collection that
    was never exported."""
    ChromaDirectoryTarget(tmp_path / "target", way=way).write(Records(batch(ROWS)))
    plain = opened(tmp_path / "plain")
    plain.create_collection("words").add(**columns(ROWS))
    plain.close()

    results, keys = [], []
    for directory in ("target", "plain"):
        client = opened(tmp_path / directory)
        schema = client._server.get_collection("words").serialized_schema
        keys.append({key: kinds for key, kinds in schema["keys"].items() if key != "#embedding"})  # found out from the records
        client.close()
        for _ in range(2):
            change(tmp_path / directory)
        client = opened(tmp_path / directory)
        words = client.get_collection("words")
        kept = words.get(include=["documents", "metadatas", "embeddings", "uris"])
        replaced = words.get(where_document={"$contains": "replaced"})["ids"]
        found = words.query(query_embeddings=[[9.0] * 8], n_results=1)["ids"]
        metadatas = [metadata or None for metadata in kept["metadatas"]]
        embeddings = kept["embeddings"].tolist()
        results.append([kept["ids"], kept["documents"], kept["uris"], metadatas, embeddings, replaced, found, answers(words)[1]])
        client.close()
    assert keys[0] == keys[1]
    assert results[0] == results[1]


def change(directory: Path) -> None:
    """What an application does to a collection in one run: more operations than its sync threshold, so that vectors are written."""
    some, vector = batch(4), [9.0] * 8
    client = opened(directory)
    words = client.get_collection("words")
    words.upsert(**columns(20, start=50))
    words.upsert(ids=[some.ids[2]], embeddings=[vector], documents=["replaced entirely"], metadatas=[{"added": 1}])
    words.update(ids=[some.ids[3]], embeddings=[some.embeddings[3]], documents=["grüße again"], metadatas=[{"texts": ["c"]}])
    words.delete(where={"yes": True})
    words.delete(where_document={"$contains": "quote"})
    words.add(**{**columns(1_100, start=100), "uris": None})
    client.close()


@pytest.mark.parametrize("way", [Way.API, Way.DIRECT])
def test_an_empty_collection_is_exported_and_takes_records(session: Session, tmp_path: Path, way: Way) -> None:
    import_collection(session, *HERE, "words", Records(batch(0)))
    assert export_collection(session, *HERE, "words", ChromaDirectoryTarget(tmp_path / "target", way=way)).records == 0
    client = opened(tmp_path / "target")
    client.get_collection("words").add(**columns(5))
    assert client.get_collection("words").count() == 5
    client.close()


def test_a_version_of_the_past_becomes_a_directory(session: Session, tmp_path: Path) -> None:
    cid = import_collection(session, *HERE, "words", Records(batch(30))).collection
    session.compactor().run_once(cid)
    session.writer.write(cid, "delete", batch(20).ids)
    session.compactor().run_once(cid)
    export_collection(session, *HERE, "words", ChromaDirectoryTarget(tmp_path / "old"), version=1)
    with chroma_directory(tmp_path / "old") as chroma:
        assert_same(read(chroma.source("words")), batch(30))


def test_nothing_appears_where_something_is_or_where_an_export_failed(session: Session, tmp_path: Path) -> None:
    import_collection(session, *HERE, "words", Records(batch(5)))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("theirs")
    with pytest.raises(Invalid, match="not empty"):
        export_collection(session, *HERE, "words", ChromaDirectoryTarget(tmp_path / "taken"))

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_collection(session, *HERE, "words", ChromaDirectoryTarget(tmp_path / "new"), progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_what_stock_chroma_does_not_read_back_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct way, broken on purpose: the check is what stands between a mistake in it and a user."""
    monkeypatch.setattr("chromalith.chroma.directory_text._documents", lambda keys, batch, skip: iter(()))
    monkeypatch.setattr("chromalith.chroma.directory_text.DOCUMENT_KEY", "chroma:elsewhere")
    with pytest.raises(Corrupt, match="other records than were written"):
        ChromaDirectoryTarget(tmp_path / "target", way=Way.DIRECT).write(Records(batch(ROWS)))
    assert list(tmp_path.iterdir()) == []


def test_an_unproven_chromadb_takes_the_slow_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromalith.chroma.directory_text.PROVEN", frozenset({"0.0.1"}))
    assert ChromaDirectoryTarget(tmp_path / "auto").write(Records(batch(5))).how == "chroma-api"
    with pytest.raises(Invalid, match="not proven"):
        ChromaDirectoryTarget(tmp_path / "direct", way=Way.DIRECT).write(Records(batch(5)))


def test_the_vectors_of_a_flushed_source_are_linked_and_those_of_another_copied(session: Session, tmp_path: Path) -> None:
    """Reading must not let Chroma write its queue into the source's files, as it does when enough of it waits."""
    source = make(tmp_path / "source", rows=1_200)
    with closing(sqlite3.connect(source / SQLITE)) as database, database:
        database.execute("UPDATE collections SET schema_str = replace(schema_str, '\"sync_threshold\":500', '\"sync_threshold\":2')")
    before = digests(source)
    assert not is_flushed(source / SQLITE)
    with chroma_directory(source) as chroma:
        assert_same(read(chroma.source("words")), batch(1_200))
    assert digests(source) == before


def test_a_source_that_is_written_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    source = make(tmp_path / "source")

    def write() -> None:
        client = opened(source)
        client.get_collection("words").delete(ids=batch(1).ids)
        client.close()

    with pytest.raises(Conflict, match="written while it was read"), chroma_directory(source):
        write()


def test_what_is_no_chroma_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(Invalid, match="not a Chroma directory"), chroma_directory(path):
            pass
    (tmp_path / "other" / SQLITE).write_bytes(b"not this")
    with pytest.raises(Invalid, match="not an SQLite file"), chroma_directory(tmp_path / "other"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["other", SQLITE]


def test_a_damaged_directory_is_corrupt_and_names_what_there_is(tmp_path: Path) -> None:
    source = make(tmp_path / "source", rows=1_200)
    with chroma_directory(source) as chroma, pytest.raises(NotFound, match="there=words"):
        chroma.source("other")
    (segment,) = [path for path in source.iterdir() if path.is_dir()]
    shutil.rmtree(segment)
    with chroma_directory(source) as chroma, pytest.raises(Corrupt, match="can't read its own records|no embedding|missing"):
        read(chroma.source("words"))


def test_a_directory_goes_to_a_prefix_as_parquet_and_comes_back(session: Session, tmp_path: Path) -> None:
    """The first step of the migration guide's cutover, with the script that it names."""
    from scripts.export_chromadb_to_s3 import main

    source = make(tmp_path / "source", "cosine")
    told: list[tuple[str, int, int | None]] = []
    store = MemoryStore(ManualClock())
    export_chroma_directory(source, store, "snapshot/migration/", progress=lambda *at: told.append(at))
    assert told == [("words", 0, ROWS), ("words", ROWS, ROWS)]
    (report,) = import_bundle(session, *HERE, store, "snapshot/migration/")
    assert (report.records, report.verified) == (ROWS, True)
    with chroma_directory(source) as chroma:
        assert_same(read(view_source(session, *HERE, "words")), read(chroma.source("words")))
        assert view_source(session, *HERE, "words").definition == chroma.source("words").definition

    arguments = ["--source-path", str(source), "--bucket", f"file://{tmp_path}/bucket", "--prefix", "p"]
    assert (main(arguments), main(arguments)) == (0, 2)
    assert (tmp_path / "bucket" / "p" / "manifest.json").exists()


def test_a_directory_goes_to_a_prefix_as_it_is_and_comes_back(session: Session) -> None:
    store = MemoryStore(ManualClock())
    import_collection(session, *HERE, "words", Records(batch(ROWS)))
    target = ChromaPrefixTarget(store, "exports/today")
    export_collection(session, *HERE, "words", target)
    with chroma_prefix(store, "exports/today") as chroma:
        assert_same(read(chroma.source("words")), batch(ROWS))
    with pytest.raises(Invalid, match="in use"):
        export_collection(session, *HERE, "words", target)
    with pytest.raises(Invalid, match="not of Parquet files"):
        Bundle(store, "exports/today")


def test_stock_txt_names_the_newest_stock_snapshot_and_never_goes_back(session: Session, tmp_path: Path) -> None:
    store = session.store
    cid = import_collection(session, *HERE, "words", Records(batch(30))).collection
    session.compactor().run_once(cid)
    first = session.view(cid).manifest
    with pytest.raises(NotFound, match="no stock snapshot"):
        fetch_stock_snapshot(store, cid, tmp_path / "none")
    import_collection(session, *HERE, "words", Records(batch(10, start=30)))
    session.compactor().run_once(cid)

    newest = publish_stock_snapshot(session, "words", cid)
    assert (newest.version, newest.published, newest.records) == (2, True, 40)
    assert not publish_stock_snapshot(session, "words", cid, manifest=first).published
    assert not publish_stock_snapshot(session, "words", cid).published
    assert read_stock(store, cid) == (2, newest.prefix)

    assert fetch_stock_snapshot(store, cid, tmp_path / "stock") == 2
    client = opened(tmp_path / "stock")
    assert client.get_collection("words").get(include=[])["ids"] == batch(40).ids
    client.close()


def test_a_compaction_is_followed_by_a_stock_snapshot_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/store"
    with Writer(url) as writer:
        cid = writer.create("words").collection.id
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])
        compact(url)
        assert read_stock(writer.session.store, cid) is None
        writer.upsert("words", ids=["b"], embeddings=[[1.0, 2.0]])
        monkeypatch.setenv("CHROMALITH_STOCK_SNAPSHOT", "1")
        compact(url)
        compact(url)  # idle: no version, no snapshot
        found = read_stock(writer.session.store, cid)
        assert found is not None
        assert found[0] == 2
        writer.upsert("words", ids=["c"], embeddings=[[1.0, 2.0]])
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(Invalid, match="need chromadb"):
            compact(url)


def test_a_slow_publisher_of_an_older_stock_snapshot_loses(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked before the newer one was there; the condition of its write is what stops it."""
    from chromalith.chroma import stock_snapshot

    cid = import_collection(session, *HERE, "words", Records(batch(5))).collection
    session.compactor().run_once(cid)
    first = session.view(cid).manifest
    import_collection(session, *HERE, "words", Records(batch(6)))
    session.compactor().run_once(cid)
    described = stock_snapshot.described

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(stock_snapshot, "described", described)
        assert publish_stock_snapshot(session, "words", cid).published
        return described(*arguments)

    monkeypatch.setattr(stock_snapshot, "described", overtaken)
    late = publish_stock_snapshot(session, "words", cid, manifest=first)
    assert (late.published, late.version) == (False, 2)
    assert read_stock(session.store, cid) == (2, late.prefix)


def wait_for(port: int) -> None:
    """Return when a Chroma server answers."""
    for _ in range(400):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()
    pytest.fail("the Chroma server did not start within 40 s")


@pytest.mark.server
def test_a_server_is_a_source(session: Session, tmp_path: Path) -> None:
    directory = make(tmp_path / "source", "cosine")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "ANONYMIZED_TELEMETRY": "False"}
    )
    try:
        wait_for(port)
        with chroma_server(f"http://127.0.0.1:{port}") as chroma:
            assert chroma.names() == ["words"]
            report = import_collection(session, *HERE, "words", chroma.source("words"))
            definition = chroma.source("words").definition
    finally:
        server.terminate()
        server.wait(20)
    with chroma_directory(directory) as chroma:
        assert_same(read(view_source(session, *HERE, "words")), read(chroma.source("words")))
        assert definition == chroma.source("words").definition
    assert report.records == ROWS


def test_an_address_without_a_server_is_named() -> None:
    from chromalith.errors import Unavailable

    with pytest.raises(Invalid, match="not the address"), chroma_server("ftp://host"):
        pass
    with pytest.raises(Unavailable, match="no Chroma server answers"), chroma_server("http://127.0.0.1:1"):
        pass


def test_embeddings_of_a_cosine_collection_stay_close(tmp_path: Path) -> None:
    ChromaDirectoryTarget(tmp_path / "target").write(Records(batch(ROWS), definition=Definition.of_space("cosine")))
    with chroma_directory(tmp_path / "target") as chroma:
        found = read(chroma.source("words")).embeddings
    assert np.abs(found - batch(ROWS).embeddings).max() <= 2.4e-7 * np.abs(batch(ROWS).embeddings).max()
