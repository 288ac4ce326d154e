"""Chroma's own ``fork`` and ``fork_count``, which stock Chroma has in its cloud only; and session tokens for its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromadb
import pytest
from chromadb.api.client import Client as ChromaClient
from chromadb.errors import InvalidArgumentError, NotFoundError, UniqueConstraintError

from chromalith import Reader, Writer, last_token, wait_for
from chromalith.client.client import Client
from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.model.session_token import SessionToken
from chromalith.store.memory import forget_memory_store

VECTORS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    name = f"forks-{abs(hash(request.node.nodeid))}"
    yield f"memory://{name}"
    forget_memory_store(name)


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[ChromaClient]:
    with Client(url, cache_dir=tmp_path) as client:
        yield client


# Forks ----------------------------------------------------------------------------------------------------------------


def test_a_fork_is_a_collection_of_its_own(client: ChromaClient) -> None:
    """It answers as the source does, is what the source is, and neither follows the other."""
    configuration = {"hnsw": {"space": "cosine"}}
    words = client.create_collection("words", metadata={"owner": "me"}, configuration=configuration, embedding_function=None)
    words.add(["a", "b"], VECTORS[:2], [{"topic": "x"}, {"topic": "y"}], ["one", "two"])
    fork = words.fork("words-try")
    assert type(fork) is type(words)
    assert (fork.name, fork.metadata, fork.configuration_json) == ("words-try", words.metadata, words.configuration_json)
    assert fork.id != words.id
    parent = client.get_collection("words", embedding_function=None)
    assert fork.schema is not None
    assert parent.schema is not None
    assert fork.schema.serialize_to_json() == parent.schema.serialize_to_json()
    assert fork.get() == words.get()
    assert fork.query(VECTORS[:1], where={"topic": "y"})["ids"] == [["b"]]
    fork.upsert(["c"], [VECTORS[2]])
    words.delete(["a"])
    assert (words.get()["ids"], fork.get()["ids"]) == (["b"], ["a", "b", "c"])
    assert [each.name for each in client.list_collections()] == ["words", "words-try"]
    client.delete_collection("words")
    assert client.get_collection("words-try", embedding_function=None).count() == 3


def test_forks_are_counted_as_chroma_counts(client: ChromaClient) -> None:
    """All forks of one lineage, whichever of its collections is asked; what was deleted does not exist."""
    words = client.create_collection("words", embedding_function=None)
    assert words.fork_count() == 0
    forks = [words.fork(f"fork-{n}") for n in range(3)]
    deep = forks[0].fork("fork-of-fork")
    client.create_collection("another", embedding_function=None).fork("its-own")
    assert {each.fork_count() for each in (words, *forks, deep)} == {4}
    client.delete_collection("fork-0")
    assert words.fork_count() == deep.fork_count() == 3
    with pytest.raises(NotFoundError):
        forks[0].fork_count()


def test_refused_forks(client: ChromaClient, url: str, tmp_path: Path) -> None:
    """Chroma's own exceptions: a taken name, one that can't be a name, a collection that is gone, a client of the past."""
    words = client.create_collection("words", embedding_function=None)
    words.fork("taken")
    with pytest.raises(UniqueConstraintError, match=r"Collection \[taken\] already exists"):
        words.fork("taken")
    with pytest.raises(InvalidArgumentError, match="Expected a name"):
        words.fork("x")
    with Client(url, cache_dir=tmp_path, at={"words": 0}) as past, pytest.raises(InvalidArgumentError, match="read-only"):
        past.get_collection("words", embedding_function=None).fork("from-the-past")
    client.delete_collection("words")
    for act in (lambda: words.fork("late"), words.fork_count):
        with pytest.raises(NotFoundError, match="does not exist"):
            act()
    assert [each.name for each in client.list_collections()] == ["taken"]


# Sessions -------------------------------------------------------------------------------------------------------------


def test_a_client_waits_for_what_another_wrote(client: ChromaClient, url: str, tmp_path: Path) -> None:
    """A token from a receipt, or of a Chroma client's last write, can be waited for by a client that answers from what it held."""
    words = client.create_collection("words", embedding_function=None)
    with pytest.raises(NotFound, match="nothing"):
        last_token(words)
    words.add(["a"], VECTORS[:1])
    options = {"cache_dir": tmp_path / "2", "read_level": "INDEX_AND_BOUNDED_WAL"}
    with Client(url, **options) as other:  # type: ignore[arg-type]
        seen = other.get_collection("words", embedding_function=None)
        assert seen.get()["ids"] == ["a"]
        words.add(["b"], VECTORS[1:2])
        assert seen.get()["ids"] == ["a"], "it answers from what it holds"
        wait_for(other, last_token(words))
        assert seen.get()["ids"] == ["a", "b"]
        with Writer(url) as writer:
            token = writer.delete("words", ids=["a"]).token
        wait_for(other, token)
        assert seen.get()["ids"] == ["b"]
        seen.upsert(["c"], VECTORS[2:])
        behind = SessionToken.parse(last_token(seen))
        assert behind.delta.hlc > SessionToken.parse(token).delta.hlc
        with Reader(url, cache_dir=tmp_path / "3") as reader:
            assert reader.count("words", after=str(behind)) == 2
        wait_for(url, str(behind), 0)


def test_what_cannot_wait(client: ChromaClient, tmp_path: Path) -> None:
    """A client of another store does not see the token in time; one of stock Chroma is no client of ours."""
    words = client.create_collection("words", embedding_function=None)
    words.add(["a"], VECTORS[:1])
    token = last_token(words)
    with pytest.raises(Unavailable, match="not seen in time"):
        wait_for(client, token[:-17].replace(token[-25:-17], "7" * 8) + token[-17:], 0)
    stock = chromadb.PersistentClient(str(tmp_path / "stock"))
    for where in (stock, object()):
        with pytest.raises(Invalid, match="not a client of chromalith"):
            wait_for(where, token)
    with pytest.raises(Invalid):
        last_token(stock.create_collection("words", embedding_function=None))
    with pytest.raises(Invalid, match="not a collection"):
        last_token("words")
