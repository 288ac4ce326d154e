"""The whole job on a real S3 server: an unmodified chromadb client, a writer without it, a compaction, another process, a way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chromadb
import numpy as np
import pytest
from scripts.export_chromadb_to_s3 import main as export_script
from tests.servers import Server

import chromalith
from chromalith.chroma.stock_snapshot import fetch_stock_snapshot, publish_stock_snapshot
from chromalith.cli.app import run
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.verify import verify
from chromalith.wiring import open_session

pytestmark = pytest.mark.server

VECTORS = np.random.default_rng(7).standard_normal((60, 4)).astype(np.float32)

ELSEWHERE = """
import sys, chromalith
words = chromalith.Client(sys.argv[1], cache_dir=sys.argv[2]).get_collection("words")
found = words.query(query_embeddings=[[float(x) for x in sys.argv[3].split(",")]], n_results=3, where={"n": {"$gte": 10}})
print(words.count(), *found["ids"][0])
"""


@pytest.fixture
def url(seaweed: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, with credentials and endpoint where the AWS chain looks for them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(seaweed.storage_options["access_key_id"]))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(seaweed.storage_options["secret_access_key"]))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://{seaweed.new_bucket()}"


def compacted(url: str) -> chromalith.Outcome:
    """Compact until everything is folded: on S3 a delta waits two seconds, until its timestamp is settled."""
    for _ in range(100):
        (outcome,) = chromalith.compact(url, "words")
        if outcome.waiting == 0:
            return outcome
        SYSTEM_CLOCK.sleep(0.2)
    raise AssertionError("the deltas were never folded")


def fill(url: str) -> chromadb.Collection:
    words = chromalith.Client(url).create_collection("words", embedding_function=None)
    words.add(ids=[f"c{i}" for i in range(30)], embeddings=VECTORS[:30], metadatas=[{"n": i} for i in range(30)])
    with chromalith.Writer(url) as writer:
        metadatas = [{"n": i} for i in range(30, 60)]
        writer.upsert("words", ids=[f"w{i}" for i in range(30, 60)], embeddings=VECTORS[30:], metadatas=metadatas)
    return words


def test_two_processes_see_the_same_before_and_after_a_compaction(url: str, tmp_path: Path) -> None:
    words = fill(url)
    words.delete(ids=["c29"])
    query = ",".join(str(x) for x in VECTORS[40])
    expected = words.query(query_embeddings=[VECTORS[40]], n_results=3, where={"n": {"$gte": 10}})["ids"][0]
    assert expected[0] == "w40"
    for cache in ("before", "after"):
        command = [sys.executable, "-c", ELSEWHERE, url, str(tmp_path / cache), query]
        seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
        assert seen == ["59", *expected]
        outcome = compacted(url)
    assert outcome.version >= 1
    with open_session(url, cache_dir=tmp_path / "verify") as session:
        assert verify(session.store, outcome.collection).live == 59


def test_the_way_in_and_the_ways_out(url: str, tmp_path: Path) -> None:
    """A Chroma directory goes to the bucket and into a collection; a version comes back as a directory that stock Chroma opens."""
    with chromadb.PersistentClient(str(tmp_path / "old")) as stock:
        old = stock.create_collection("words", embedding_function=None)
        old.add(ids=[f"c{i}" for i in range(60)], embeddings=VECTORS, documents=[f"text {i}" for i in range(60)])
    assert export_script(["--source-path", str(tmp_path / "old"), "--bucket", url]) == 0
    assert run(["import", f"{url}/snapshot/migration/", "--store", f"{url}/store"]) == 0
    store = f"{url}/store"
    outcome = compacted(store)
    assert run(["export", "words", "--to", str(tmp_path / "new"), "--store", store]) == 0
    with open_session(store, cache_dir=tmp_path / "cache") as session:
        assert publish_stock_snapshot(session, "words", outcome.collection) is not None
        assert fetch_stock_snapshot(session.store, outcome.collection, tmp_path / "snapshot") == outcome.version
    for directory in ("new", "snapshot"):
        with chromadb.PersistentClient(str(tmp_path / directory)) as stock:
            found = stock.get_collection("words", embedding_function=None).get(include=["documents", "embeddings"])
            assert found["ids"] == [f"c{i}" for i in range(60)]
            assert found["documents"] == [f"text {i}" for i in range(60)]
            assert np.array_equal(np.asarray(found["embeddings"], np.float32), VECTORS)
