"""The drop-in client: opened on a store, it is a chromadb client, and the store is all that there is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.api import ServerAPI
from chromadb.api.client import Client as ChromaClient
from chromadb.errors import (
    InternalError,
    InvalidArgumentError,
    InvalidDimensionException,
    NotFoundError,
    UniqueConstraintError,
)
from chromadb.utils.embedding_functions import EmbeddingFunction, register_embedding_function

from chromalith.client.client import Client
from chromalith.client.missing_verbs import fill_in
from chromalith.client.server_api import UNKNOWN_VERBS, ChromalithAPI
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid
from chromalith.store.memory import forget_memory_store, named_memory_store

VECTORS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


@register_embedding_function
class Lengths(EmbeddingFunction):  # type: ignore[type-arg]
    """Embeds a text as its length and the given scale."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, input: Any) -> Any:
        return [np.array([len(text), self.scale], np.float32) for text in input]

    @staticmethod
    def name() -> str:
        return "chromalith_test_lengths"

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Lengths:
        return Lengths(config["scale"])


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"client-{abs(hash(request.node.nodeid))}"
    yield f"memory://{name}"
    forget_memory_store(name)


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[ChromaClient]:
    with Client(url, cache_dir=tmp_path, allow_reset=True) as opened:
        yield opened


def keys(url: str) -> list[str]:
    store = named_memory_store(url.removeprefix("memory://"), SYSTEM_CLOCK)
    return [entry.key for page in store.list("") for entry in page]


def test_it_is_a_chromadb_client(client: ChromaClient) -> None:
    assert isinstance(client, chromadb.ClientAPI)
    assert client.get_version() == chromadb.__version__
    assert client.heartbeat() > 10**18


def test_opening_listing_and_failing_to_find_write_nothing(client: ChromaClient, url: str) -> None:
    assert client.list_collections() == []
    assert client.count_collections() == 0
    with pytest.raises(NotFoundError, match=r"Collection \[words\] does not exist"):
        client.get_collection("words")
    assert keys(url) == []


def test_a_record_is_read_back_as_chroma_would_give_it(client: ChromaClient) -> None:
    words = client.create_collection("words", metadata={"hnsw:space": "cosine"}, embedding_function=None)
    words.add(["a", "b", "c"], VECTORS, [{"n": 1}, None, {"n": 2.5}], ["x", None, "z"], uris=["u", "v", "w"])
    got = words.get(include=["embeddings", "documents", "metadatas", "uris"])
    assert got["ids"] == ["a", "b", "c"]
    assert got["documents"] == ["x", None, "z"]
    assert got["metadatas"] == [{"n": 1}, None, {"n": 2.5}]
    assert got["uris"] == ["u", "v", "w"]
    assert isinstance(got["embeddings"], np.ndarray)
    assert got["embeddings"].dtype == np.float64
    assert got["embeddings"].tolist() == VECTORS
    found = words.query(query_embeddings=[[1.0, 0.1]], n_results=2)
    assert found["ids"] == [["a", "c"]]
    assert found["embeddings"] is None
    assert words.configuration_json["hnsw"]["space"] == "cosine"


def test_an_embedding_function_is_kept_and_rebuilt(client: ChromaClient) -> None:
    client.create_collection("words", embedding_function=Lengths(7.0)).add(["a"], documents=["four"])
    again = client.get_collection("words")
    again.add(["b"], documents=["five5"])
    assert again.get(include=["embeddings"])["embeddings"].tolist() == [[4.0, 7.0], [5.0, 7.0]]  # type: ignore[union-attr]


def test_equal_places_share_one_engine_and_the_last_close_ends_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one = Client(str(tmp_path / "db"), cache_dir=tmp_path / "cache")
    two = Client(f"file://{tmp_path}/sub/../db", cache_dir=tmp_path / "cache")
    assert one._server is two._server
    one.close()
    two.create_collection("words", embedding_function=None).add(["a"], [[1.0]])
    two.close()
    with pytest.raises(InvalidArgumentError, match="closed"):
        two._server.count_collections()
    with Client(str(tmp_path / "db"), cache_dir=tmp_path / "cache") as three:
        assert three._server is not two._server
        assert three.get_collection("words").count() == 1


def test_two_engines_on_one_directory_see_each_others_writes(tmp_path: Path) -> None:
    with (
        Client(str(tmp_path / "db"), cache_dir=tmp_path / "one") as one,
        Client(str(tmp_path / "db"), cache_dir=tmp_path / "two") as two,
    ):
        assert one._server is not two._server
        here = one.create_collection("words", embedding_function=None)
        there = two.get_collection("words")
        for number in range(5):
            here.add([f"h{number}"], [[float(number), 0.0]])
            there.add([f"t{number}"], [[float(number), 1.0]])
            assert here.count() == there.count() == 2 * (number + 1)
        two.delete_collection("words")
        with pytest.raises(NotFoundError):
            here.add(["late"], [[0.0, 0.0]])
        with pytest.raises(NotFoundError):
            here.count()


def test_one_client_serves_many_threads(client: ChromaClient) -> None:
    words = client.create_collection("words", embedding_function=None)

    def work(thread: int) -> int:
        for number in range(5):
            words.upsert([f"{thread}-{number}"], [[float(thread), float(number)]], [{"thread": thread}])
            assert f"{thread}-{number}" in words.get(where={"thread": thread})["ids"]
        return len(words.query(query_embeddings=[[0.0, 0.0]], n_results=3)["ids"][0])

    with ThreadPoolExecutor(8) as pool:
        assert all(found >= 1 for found in pool.map(work, range(8)))
    assert words.count() == 40


def test_mistakes_are_refused_in_chromas_words_and_classes(client: ChromaClient) -> None:
    words = client.create_collection("words", embedding_function=None)
    words.add(["a"], [[1.0, 2.0]])
    for kind in (UniqueConstraintError, InternalError):
        with pytest.raises(kind, match=r"Collection \[words\] already exists"):
            client.create_collection("words", embedding_function=None)
    for kind in (InvalidArgumentError, InvalidDimensionException):
        with pytest.raises(kind, match="expecting embedding with dimension of 2, got 3"):
            words.add(["b"], [[1.0, 2.0, 3.0]])
        with pytest.raises(kind, match="expecting embedding with dimension of 2, got 1"):
            words.query(query_embeddings=[[1.0]])
    with pytest.raises(InvalidArgumentError, match="name: Expected a name containing 3-512 characters"):
        client.create_collection("no")
    with pytest.raises(InternalError, match="Error finding id"):
        words.query(query_embeddings=[[1.0, 2.0]], ids=["missing"])
    with pytest.raises(InvalidArgumentError, match="Batch size of 10001 is greater than max batch size of 10000"):
        words.add([str(n) for n in range(10_001)], np.zeros((10_001, 2), np.float32))
    assert words.count() == 1


def test_a_delete_by_filter_deletes_what_it_saw_and_says_how_many(client: ChromaClient) -> None:
    words = client.create_collection("words", embedding_function=None)
    words.add(["a", "b", "c"], VECTORS, [{"n": 1}, {"n": 2}, {"n": 2}])
    assert words.delete(where={"n": 2}, limit=1) == {"deleted": 1}
    assert words.delete(where={"n": 3}) == {"deleted": 0}
    assert words.delete(ids=["a", "unknown"]) == {"deleted": 2}
    assert words.get()["ids"] == ["c"]


def test_modifying_changes_name_metadata_and_configuration_for_everybody(client: ChromaClient, url: str) -> None:
    words = client.create_collection("words", metadata={"a": 1}, embedding_function=None)
    client.create_collection("taken", embedding_function=None)
    with pytest.raises(UniqueConstraintError):
        words.modify(name="taken", metadata={"b": 2})
    assert client.get_collection("words").metadata == {"a": 1}
    words.modify(name="names", metadata={"b": 2}, configuration={"hnsw": {"ef_search": 77}})
    again = client.get_collection("names")
    assert again.id == words.id
    assert again.metadata == {"b": 2}
    assert again.configuration_json["hnsw"]["ef_search"] == 77
    with pytest.raises(NotFoundError):
        client.get_collection("words")


def test_metadata_keys_are_entered_in_the_schema(client: ChromaClient) -> None:
    words = client.create_collection("words", embedding_function=None)
    words.add(["a"], [[1.0]], [{"topic": "x"}])
    schema = client.get_collection("words").schema
    assert schema is not None
    assert schema.keys["topic"].string.string_inverted_index.enabled  # type: ignore[union-attr]


def test_the_indexing_status_counts_what_is_not_folded(client: ChromaClient) -> None:
    words = client.create_collection("words", embedding_function=None)
    assert words.get_indexing_status().op_indexing_progress == 1.0
    words.add(["a", "b"], VECTORS[:2])
    words.upsert(["a"], VECTORS[:1])
    status = words.get_indexing_status()
    assert (status.num_indexed_ops, status.num_unindexed_ops, status.total_ops) == (0, 3, 3)


def test_reset_deletes_everything_and_only_where_it_is_allowed(client: ChromaClient, url: str, tmp_path: Path) -> None:
    words = client.create_collection("words", embedding_function=None)
    words.add(["a"], [[1.0]])
    with Client(url, cache_dir=tmp_path) as careful, pytest.raises(ValueError, match="not allowed"):
        careful.reset()
    assert client.reset()
    assert keys(url) == []
    with pytest.raises(NotFoundError):
        words.count()
    assert client.create_collection("words", embedding_function=None).count() == 0


def test_a_pinned_client_reads_the_past_and_writes_nothing(client: ChromaClient, url: str, tmp_path: Path) -> None:
    client.create_collection("words", embedding_function=None).add(["a"], [[1.0]])
    before = keys(url)
    for at in ({"words": 0}, datetime.now(UTC)):
        with Client(url, cache_dir=tmp_path, at=at) as past:  # type: ignore[arg-type]
            words = past.get_collection("words")
            assert words.count() == 0, "version 0 has no folded record"
            for change in (
                lambda words=words: words.add(["b"], [[1.0]]),
                lambda words=words: words.delete(["a"]),
                lambda past=past: past.create_collection("more"),
                lambda past=past: past.delete_collection("words"),
            ):
                with pytest.raises(InvalidArgumentError, match="read-only"):
                    change()
    assert keys(url) == before


def test_what_cannot_be_pinned_is_refused(client: ChromaClient, url: str, tmp_path: Path) -> None:
    client.create_collection("words", embedding_function=None)
    with pytest.raises(Invalid, match="time zone"):
        Client(url, cache_dir=tmp_path, at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(Invalid, match="not versions"):
        Client(url, cache_dir=tmp_path, at={"words": "7"})  # type: ignore[dict-item]
    with Client(url, cache_dir=tmp_path, at={"words": 7}) as past, pytest.raises(NotFoundError):
        past.get_collection("words").count()
    with Client(url, cache_dir=tmp_path, at=datetime(2001, 1, 1, tzinfo=UTC)) as past, pytest.raises(NotFoundError):
        past.get_collection("words").count()


def test_a_read_level_is_known_by_chromas_name(url: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no such read level"):
        Client(url, cache_dir=tmp_path, read_level="SOON")
    with Client(url, cache_dir=tmp_path, read_level=chromadb.ReadLevel.INDEX_ONLY) as client:  # type: ignore[attr-defined]
        words = client.create_collection("words", embedding_function=None)
        words.add(["a"], [[1.0]])
        assert words.get()["ids"] == ["a"], "a process sees its own writes at every level"


def test_a_tenant_or_database_that_does_not_exist_is_not_opened(url: str, tmp_path: Path) -> None:
    for where in ({"tenant": "acme"}, {"database": "nowhere"}):
        with pytest.raises((ValueError, NotFoundError)):
            Client(url, cache_dir=tmp_path, **where)  # type: ignore[arg-type]
    assert keys(url) == []


def test_no_verb_of_the_installed_chroma_is_unknown_and_a_newer_ones_would_be_refused() -> None:
    assert frozenset() == UNKNOWN_VERBS
    newer = type("Newer", (ChromalithAPI,), {})
    newer.__abstractmethods__ = frozenset({"_teleport"})
    assert fill_in(newer) == {"_teleport"}
    with pytest.raises(NotImplementedError, match="_teleport"):
        newer._teleport(None)
    assert issubclass(newer, ServerAPI)
