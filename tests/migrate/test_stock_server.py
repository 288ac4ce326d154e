"""The stock Chroma server that the tests of this directory migrate from does what they rely on."""

from __future__ import annotations

import pytest
from tests.servers import ChromaServer

pytestmark = pytest.mark.server


def test_what_was_acknowledged_is_there_after_a_kill_on_the_same_port(own_chroma_server: ChromaServer) -> None:
    """A restart keeps the files and the port; a client that was open goes on."""
    client = own_chroma_server.client()
    collection = client.create_collection("words")
    collection.add(ids=["a"], embeddings=[[1.0, 2.0]], documents=["x"])
    url = own_chroma_server.url
    own_chroma_server.restart()
    assert own_chroma_server.url == url
    assert collection.get(ids=["a"])["documents"] == ["x"]


def test_databases_of_a_shared_server_are_apart(chroma_server: ChromaServer) -> None:
    """Each test may name its collections as it likes."""
    first, second = (chroma_server.client(chroma_server.new_database()) for _ in range(2))
    first.create_collection("words")
    assert [c.name for c in first.list_collections()] == ["words"]
    assert list(second.list_collections()) == []
