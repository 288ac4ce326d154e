"""A side behaves the same whatever is behind it, and says of each failure what is known of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from chromadb.errors import (
    ChromaAuthError,
    ChromaError,
    InternalError,
    InvalidArgumentError,
    InvalidDimensionException,
    NotFoundError,
    QuotaError,
    RateLimitError,
    UniqueConstraintError,
)
from tests.migrate.backfill_world import fill, memory_side, records
from tests.servers import ChromaServer

import chromalith
from chromalith.chroma.side import ChromaSide
from chromalith.chroma.side_errors import side_errors
from chromalith.chroma.side_opening import directory_side, server_side
from chromalith.chroma.side_pieces import written_pieces
from chromalith.errors import Conflict, Invalid, NotFound, Unavailable, Unknown
from chromalith.migrate.opening import open_side, side_of_client
from chromalith.migrate.port import Limits, Side, SideKind
from chromalith.transfer.port import Definition
from chromalith.transfer.sides import Denied

KINDS = ["directory", "server", "memory", "store"]


@pytest.fixture(params=KINDS)
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "directory":
        opened = open_side(f"chroma:{tmp_path / 'chroma'}")
    elif request.param == "server":
        server: ChromaServer = request.getfixturevalue("chroma_server")
        opened = open_side(server.url, database=server.new_database())
    elif request.param == "store":
        opened = open_side(str(tmp_path / "store"))
    else:
        opened = memory_side("side")
    yield opened
    opened.close()
    opened.close()


def test_every_column_comes_back_as_it_was_written(side: Side) -> None:
    collection = side.create("words", Definition.of_space("l2"))
    assert collection.dimension is None
    assert len(collection.read(["absent"])) == 0
    columns = records(20)
    collection.write("add", **columns)
    found = collection.read(columns["ids"])
    assert found.ids == collection.ids() == columns["ids"]
    assert found.embeddings.dtype == np.float32
    assert found.embeddings.tobytes() == columns["embeddings"].tobytes()
    assert (found.documents, found.uris, found.metadatas) == (
        columns["documents"],
        columns["uris"],
        columns["metadatas"],
    )
    assert all(type(value) is type(columns["metadatas"][1][key]) for key, value in found.metadatas[1].items())  # type: ignore[union-attr]
    assert side.collection("words").dimension == 4
    assert collection.count() == 20
    assert collection.present(["id-00003", "absent"]) == {"id-00003"}


def test_upsert_merges_update_leaves_and_add_keeps_what_is_there(side: Side) -> None:
    collection = fill(side, "words", 3)
    collection.write("add", ["id-00001"], np.zeros((1, 4), np.float32), ["other"])
    assert collection.read(["id-00001"]).documents == ["document 1 ☃"]
    collection.write("update", ["id-00001", "absent"], metadatas=[{"n": None, "more": 1}, {"x": 1}])
    (metadata,) = collection.read(["id-00001"]).metadatas
    assert metadata is not None
    assert "n" not in metadata
    assert metadata["more"] == 1
    assert collection.count() == 3
    collection.delete(["id-00001", "absent"])
    assert collection.ids() == ["id-00000", "id-00002"]


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_create_finds_what_is_there_and_refuses_another_distance(side: Side, space: str) -> None:
    definition = Definition({"hnsw": {"space": space}}, None, {"owner": "me"})
    made = side.create("words", definition)
    assert made.definition.space == space
    assert dict(made.definition.metadata or {}) == {"owner": "me"}
    assert side.create("words", made.definition).definition == made.definition
    with pytest.raises(Invalid, match="another distance"):
        side.create("words", Definition.of_space("ip" if space != "ip" else "l2"))
    side.describe("words", {"owner": "you"})
    assert dict(side.collection("words").definition.metadata or {}) == {"owner": "you"}


def test_a_collection_that_is_gone_is_not_found_by_any_verb(side: Side) -> None:
    collection = fill(side, "words", 2)
    fill(side, "other", 1)
    side.drop("words")
    side.drop("words")
    acts: list[Any] = [
        collection.count,
        collection.ids,
        lambda: collection.read(["id-00000"]),
        lambda: collection.present(["id-00000"]),
        lambda: collection.write("upsert", **records(1)),
        lambda: collection.delete(["id-00000"]),
    ]
    for act in acts:
        with pytest.raises(NotFound):
            act()
    with pytest.raises(NotFound, match="no such collection") as caught:
        side.collection("words")
    assert "other" in str(caught.value.hint)
    again = fill(side, "words", 1)
    assert again.count() == 1
    with pytest.raises(NotFound):
        collection.count()


def test_a_wrong_dimension_and_a_value_of_no_type_are_refused_for_good(side: Side) -> None:
    collection = fill(side, "words", 2)
    with pytest.raises(Invalid):
        collection.write("upsert", ["x"], np.ones((1, 7), np.float32))
    with pytest.raises(Invalid):
        collection.write("upsert", ["x"], np.ones((1, 4), np.float32), metadatas=[{"a": {"nested": 1}}])
    assert collection.count() == 2


def test_calls_are_cut_to_the_limits(side: Side) -> None:
    assert isinstance(side, ChromaSide)
    small = ChromaSide(side.server, side.kind, side.place, Limits(7, 5), side.tenant, side.database)
    seen: list[int] = []
    for verb in ("_add", "_get", "_delete"):
        inner = getattr(side.server, verb)

        def counted(*arguments: Any, inner: Any = inner, **named: Any) -> Any:
            seen.append(len(named.get("ids") or ()))
            return inner(*arguments, **named)

        setattr(side.server, verb, counted)
    collection = side.create("words", Definition.of_space("l2"))
    cut = small.collection("words")
    cut.write("add", **records(20))
    assert seen == [7, 7, 6]
    seen.clear()
    assert len(cut.read([f"id-{n:05d}" for n in range(20)])) == 20
    assert seen == [5, 5, 5, 5]
    seen.clear()
    cut.delete([f"id-{n:05d}" for n in range(20)])
    assert seen == [7, 7, 6]
    assert collection.count() == 0


def test_a_request_to_write_is_cut_by_bytes_too_and_a_huge_record_goes_alone() -> None:
    limits = Limits(100, 100, bytes_per_write=1_000)
    ids = [f"i{n}" for n in range(6)]
    documents = ["x" * 300, "x" * 300, "x" * 5_000, "x", "x", "x"]
    assert list(written_pieces(limits, ids, None, documents, None)) == [slice(0, 2), slice(2, 3), slice(3, 6)]


def test_records_with_long_texts_are_read_in_smaller_pieces(tmp_path: Path) -> None:
    """A thousand documents of 100 KB are no answer for one request; how long they are shows with the first piece."""
    side = directory_side(tmp_path)
    words = side.create("words", Definition.of_space("l2"))
    words.write("add", [f"r{n}" for n in range(60)], np.ones((60, 2), np.float32), ["x" * 100_000] * 60)
    side._limits = replace(side.limits, bytes_per_read=1_000_000, records_per_read=20)
    asked: list[int] = []
    get = side.server._get

    def counted(*arguments: Any, **named: Any) -> Any:
        asked.append(len(named["ids"]))
        return get(*arguments, **named)

    side.server._get = counted  # type: ignore[method-assign]
    assert len(words.read([f"r{n}" for n in range(60)])) == 60
    assert (asked[0], max(asked[1:])) == (20, 9)
    side.close()


def test_a_chromalith_store_knows_its_checksums_once_all_is_folded() -> None:
    url = "memory://buckets-of-a-side"
    side = open_side(url)
    collection = side.create("words", Definition.of_space("l2"))
    empty = collection.buckets()
    assert empty is not None
    assert not empty.lanes.any()
    collection.write("add", **records(50))
    assert collection.buckets() is None
    chromalith.compact(url)
    folded = collection.buckets()
    assert folded is not None
    assert folded.lanes.any()
    side.close()


def test_stock_chroma_knows_no_checksums(tmp_path: Path) -> None:
    side = open_side(f"chroma:{tmp_path / 'chroma'}")
    assert fill(side, "words", 1).buckets() is None
    side.close()


def test_an_open_client_is_a_side_and_stays_open(chroma_server: ChromaServer) -> None:
    client = chroma_server.client(chroma_server.new_database())
    side = side_of_client(client)
    assert side.kind is SideKind.CLIENT
    fill(side, "words", 3)
    side.close()
    assert client.get_collection("words", embedding_function=None).count() == 3
    with chromalith.Client("memory://a-client-as-a-side") as ours:
        assert side_of_client(ours).kind is SideKind.CHROMALITH
        assert fill(side_of_client(ours), "words", 3).count() == 3
    with pytest.raises(Invalid, match="not a chromadb client"):
        side_of_client(object())


# Directories ---------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_only_read_is_not_touched_and_a_writer_is_noticed(tmp_path: Path) -> None:
    place = tmp_path / "chroma"
    side = directory_side(place)
    fill(side, "words", 5)
    side.close()
    before = {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
    reading = directory_side(place, write=False)
    assert reading.collection("words").count() == 5
    reading.close()
    assert {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()} == before
    reading = directory_side(place, write=False)
    (place / "chroma.sqlite3").write_bytes(before[place / "chroma.sqlite3"] + b"x")
    with pytest.raises(Conflict, match="was written while it was read"):
        reading.close()


def test_two_writers_of_a_directory_are_refused_and_the_second_may_come_after_the_first(tmp_path: Path) -> None:
    first = directory_side(tmp_path / "chroma")
    with pytest.raises(Conflict, match="another process has"):
        directory_side(tmp_path / "chroma")
    first.close()
    directory_side(tmp_path / "chroma").close()


def test_what_is_no_chroma_directory_does_not_become_one(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("something else")
    for write in (True, False):
        with pytest.raises(Invalid, match="not a Chroma directory"):
            directory_side(tmp_path, write=write)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(Invalid, match="not a Chroma directory"):
        directory_side(tmp_path / "absent", write=False)


def test_a_database_that_is_not_there_is_not_found(tmp_path: Path, chroma_server: ChromaServer) -> None:
    for url in (
        f"chroma:{tmp_path / 'chroma'}",
        chroma_server.url,
        "memory://no-such-database",
        str(tmp_path / "store"),
    ):
        with pytest.raises(NotFound, match="no such database"):
            open_side(url, database="nope")
        with pytest.raises(NotFound, match="no such database"):
            open_side(url, tenant="nope")


# Failures ------------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="no Chroma server answers"):
            open_side(f"http://127.0.0.1:{unused.getsockname()[1]}")


def test_a_killed_server_is_unavailable_and_answers_again_after_its_restart(own_chroma_server: ChromaServer) -> None:
    side = open_side(own_chroma_server.url)
    collection = fill(side, "words", 5)
    own_chroma_server.kill()
    with pytest.raises((Unavailable, Unknown)):
        collection.write("upsert", **records(1))
    with pytest.raises(Unavailable):
        collection.read(["id-00001"])
    own_chroma_server.start()
    assert len(collection.read(["id-00001"])) == 1
    side.close()


def test_a_server_that_takes_a_request_and_never_answers_leaves_a_write_unknown(chroma_server: ChromaServer) -> None:
    side = server_side("127.0.0.1", chroma_server.port, database=chroma_server.new_database(), request_s=0.5)
    collection = fill(side, "words", 5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        side.server._api_url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api/v2"  # type: ignore[attr-defined]
        with pytest.raises(Unknown):
            collection.write("upsert", **records(1))
        with pytest.raises(Unavailable):
            collection.count()
    side.close()


def raised(error: Exception, *, writes: bool) -> type[Exception]:
    with pytest.raises(Exception, match="place=p") as caught, side_errors("p", "w", writes=writes):
        raise error
    return caught.type


def answered(status: int) -> Exception:
    """What chromadb raises for an answer that is no error of Chroma's."""
    request = httpx.Request("POST", "http://p")
    error = Exception("text")
    error.__context__ = httpx.HTTPStatusError("m", request=request, response=httpx.Response(status, request=request))
    return error


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (InvalidArgumentError("x"), Invalid, Invalid),
        (InvalidDimensionException("x"), Invalid, Invalid),
        (QuotaError("x"), Invalid, Invalid),
        (ChromaAuthError(), Denied, Denied),
        (ValueError("x"), Invalid, Invalid),
        (TypeError("x"), Invalid, Invalid),
        (ChromaError("Failed to deserialize the JSON body"), Invalid, Invalid),
        (answered(413), Invalid, Invalid),
        (answered(403), Denied, Denied),
        (NotFoundError("x"), NotFound, NotFound),
        (answered(404), NotFound, NotFound),
        (UniqueConstraintError("x"), Conflict, Conflict),
        (RateLimitError("x"), Unavailable, Unavailable),
        (answered(429), Unavailable, Unavailable),
        (httpx.ConnectError("x"), Unavailable, Unavailable),
        (httpx.ConnectTimeout("x"), Unavailable, Unavailable),
        (httpx.PoolTimeout("x"), Unavailable, Unavailable),
        (InternalError("x"), Unknown, Unavailable),
        (InvalidArgumentError("Error in compaction: Failed to pull logs from the log store"), Unknown, Unavailable),
        (ChromaError("something else"), Unknown, Unavailable),
        (httpx.ReadTimeout("x"), Unknown, Unavailable),
        (httpx.WriteError("x"), Unknown, Unavailable),
        (httpx.RemoteProtocolError("x"), Unknown, Unavailable),
        (answered(502), Unknown, Unavailable),
        (answered(503), Unknown, Unavailable),
        (answered(408), Unknown, Unavailable),
    ],
    ids=repr,
)
def test_an_error_becomes_what_is_known_of_the_call(
    error: Exception, write: type[Exception], read: type[Exception]
) -> None:
    assert raised(error, writes=True) is write
    assert raised(error, writes=False) is read


def test_a_mistake_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(AttributeError), side_errors("p", "w", writes=True):
        raise AttributeError("bug")
