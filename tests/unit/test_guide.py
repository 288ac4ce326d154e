"""The functions of the migration guide: what code that was written for them relies on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.servers import Server

import chromalith
from chromalith import guide
from chromalith.errors import Invalid, NotFound
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore


@pytest.fixture(autouse=True)
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store that the guide's own environment variables name, and no session left over from another test."""
    for name in list(os.environ):
        if name.startswith(("CHROMALITH_", "AWS_")):
            monkeypatch.delenv(name)
    url = str(tmp_path / "store")
    for name in ("DELTA_BUCKET", "CHROMADB_BUCKET"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    yield url
    for warm in guide._warm.values():
        warm.session.close()
    guide._warm.clear()
    for notifier in guide._notifiers.values():
        notifier.close()
    guide._notifiers.clear()


def produce(*ids: str, **more: object) -> dict[str, object]:
    embeddings = [[float(ord(each[0])), 1.0] for each in ids]
    return chromalith.produce_embedding_delta(
        list(ids), embeddings, [f"text {i}" for i in ids], [{"id": i} for i in ids], **more
    )


def test_a_delta_is_produced(bucket: str) -> None:
    """The result names the delta, where it is, and how large; the collection is created if need be."""
    result = produce("a", "b")
    assert (result["status"], result["item_count"], result["collection"], result["queued"]) == (
        "success",
        2,
        "words",
        False,
    )
    body = (Path(bucket) / str(result["delta_key"])).read_bytes()
    assert len(body) == result["delta_size_bytes"]
    assert str(result["delta_id"]) in str(result["delta_key"])
    assert str(result["token"]).endswith(str(result["delta_id"]))


def test_a_queue_is_not_pretended(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a queue that is not there the write happens, nothing claims to be queued, and the log says so; without one it is silent."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        for name, value in {"AWS_ENDPOINT_URL_SQS": nobody, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
            monkeypatch.setenv(name, value)
        assert produce("a")["queued"] is False
        assert not caplog.records
        queue = "https://sqs.us-east-1.amazonaws.com/123456789012/{}"
        assert produce("b", queue_url=queue.format("given"))["queued"] is False
        monkeypatch.setenv("DELTA_QUEUE_URL", queue.format("set"))
        assert produce("c")["queued"] is False
        for name in ("given", "set"):
            with guide._lock:
                notifier = next(each for key, each in guide._notifiers.items() if name in key)
            assert notifier.flush(60) == 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert chromalith.query_snapshot_count() == 3


def test_concurrent_producers_share_a_new_collection(bucket: str) -> None:
    """Producers that find no collection at the same moment create one, and lose nothing."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(produce, "abcdefgh"))
    assert chromalith.query_snapshot_count() == 8
    with chromalith.Reader(bucket) as reader:
        assert reader.count("words") == 8


def test_a_call_id_counts_once() -> None:
    """A queue's message that is delivered twice, and so written twice, counts once."""
    chromalith.produce_embedding_delta(["a"], [[1.0]], ["first"], call_id="message-1")
    chromalith.produce_embedding_delta(["a"], [[1.0]], ["other bytes"], call_id="message-1")
    chromalith.compact(os.environ["DELTA_BUCKET"])
    found = chromalith.query_chromadb_snapshot(query_embeddings=[1.0])
    assert found["documents"] == [["first"]]


def test_a_query_has_chromas_shape() -> None:
    """A query returns what Chroma's does: lists by query, and None for what was not included."""
    produce("a", "b", "z")
    found = chromalith.query_chromadb_snapshot(query_embeddings=[[97.0, 1.0], [122.0, 1.0]], n_results=1)
    assert found["ids"] == [["a"], ["z"]]
    assert found["documents"] == [["text a"], ["text z"]]
    assert found["metadatas"] == [[{"id": "a"}], [{"id": "z"}]]
    assert found["distances"] == [[0.0], [0.0]]
    assert found["embeddings"] is found["uris"] is found["data"] is None
    filtered = chromalith.query_chromadb_snapshot(query_embeddings=[97.0, 1.0], where={"id": {"$ne": "a"}}, n_results=1)
    assert filtered["ids"] == [["b"]]


def test_the_shape_is_chromas_own(bucket: str) -> None:
    """The keys, and the values of one and the same query, are those of the drop-in client."""
    produce("a", "b")
    theirs = chromalith.Client(bucket).get_collection("words").query(query_embeddings=[[97.0, 1.0]], n_results=2)
    ours = chromalith.query_chromadb_snapshot(query_embeddings=[97.0, 1.0], n_results=2)
    assert set(ours) == set(theirs)
    for key in ("ids", "documents", "metadatas", "distances", "embeddings", "uris", "data"):
        assert ours[key] == theirs[key], key


def test_queries_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is embedded by a function, or by the one that the environment names; without either the hint says how."""
    produce("a", "z")

    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(ord(text[0])), 1.0] for text in texts]

    assert chromalith.query_chromadb_snapshot("zebra", embed=embed, n_results=1)["ids"] == [["z"]]
    assert chromalith.query_chromadb_snapshot(["ape", "zoo"], embed=embed, n_results=1)["ids"] == [["a"], ["z"]]
    with pytest.raises(Invalid, match="needs an embedding function") as caught:
        chromalith.query_chromadb_snapshot("zebra")
    assert "CHROMALITH_EMBED" in str(caught.value.hint)
    monkeypatch.setattr(guide, "embed_of_this_test", embed, raising=False)
    monkeypatch.setenv("CHROMALITH_EMBED", "chromalith.guide:embed_of_this_test")
    assert chromalith.query_chromadb_snapshot("zebra", n_results=1)["ids"] == [["z"]]


def test_the_snapshot_is_cached_for_five_minutes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others wrote and compacted appears after five minutes, not before; this process's own writes appear at once."""
    produce("a")
    chromalith.compact(bucket)
    first = chromalith.get_latest_snapshot()
    assert (first["version"], first["records"], first["collection"]) == (1, 1, "words")
    assert (Path(bucket) / str(first["manifest_key"])).exists()
    with chromalith.Writer(bucket) as other:
        other.upsert("words", ids=["b"], embeddings=[[1.0, 1.0]])
    chromalith.compact(bucket)
    assert chromalith.get_latest_snapshot() == first
    assert chromalith.query_snapshot_count() == 1
    (warm,) = guide._warm.values()
    monkeypatch.setattr(warm.session.reader, "_clock", _Later(warm.session.clock.monotonic_s() + 301))
    assert chromalith.get_latest_snapshot()["version"] == 2
    produce("c")
    assert chromalith.query_snapshot_count() == 3


class _Later:
    def __init__(self, now_s: float) -> None:
        self.monotonic_s = lambda: now_s


def test_a_warm_query_makes_no_request(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second query of a warm process answers from what the first one read."""
    with chromalith.Writer(bucket) as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 1.0]])
    chromalith.compact(bucket)
    counting = CountingStore(open_store(bucket))
    monkeypatch.setattr("chromalith.wiring.open_store", lambda *args, **options: counting)
    chromalith.query_chromadb_snapshot(query_embeddings=[1.0, 1.0])
    assert counting.reset().requests
    chromalith.query_chromadb_snapshot(query_embeddings=[1.0, 1.0])
    assert not counting.counts.requests


def test_a_collection_made_anew_is_found(bucket: str) -> None:
    """A name that now stands for another collection is looked up again."""
    produce("a")
    session = next(iter(guide._warm.values())).session
    session.catalog.delete("default_tenant", "default_database", "words")
    produce("b")
    assert chromalith.query_chromadb_snapshot(query_embeddings=[1.0, 1.0])["ids"] == [["b"]]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket, no collection, and no query each have their own error; a query creates nothing."""
    with pytest.raises(NotFound):
        chromalith.query_snapshot_count("absent")
    with pytest.raises(Invalid, match="exactly one|either"):
        chromalith.query_chromadb_snapshot()
    with pytest.raises(Invalid, match="include"):
        chromalith.query_chromadb_snapshot(query_embeddings=[1.0], include=["colours"])
    for name in ("DELTA_BUCKET", "CHROMADB_BUCKET"):
        monkeypatch.delenv(name)
    with pytest.raises(Invalid, match="no bucket was named") as caught:
        produce("a")
    assert "DELTA_BUCKET" in str(caught.value.hint)


@pytest.mark.server
def test_a_plain_bucket_name_is_on_s3(moto: Server) -> None:
    """``bucket="name"`` is ``s3://name``, as in the guide."""
    name = moto.new_bucket()
    result = produce("a", bucket=name, storage_options=moto.storage_options)
    assert result["status"] == "success"
    assert chromalith.query_snapshot_count(bucket=name, storage_options=moto.storage_options) == 1
    assert str(chromalith.get_latest_snapshot(bucket=name, storage_options=moto.storage_options)["store"]).startswith(
        f"s3://{name}?"
    )
