"""The query handler: nearest records, records, a count; how fresh; and what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.lambdas.invocations import Context, write

from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.lambdas import answers, compactor, producer
from chromalith.lambdas.query import handler


def embed(texts: list[str]) -> list[list[float]]:
    """Texts to vectors, for ``CHROMALITH_EMBED``: of ``b`` in front of everything else."""
    return [[0.0, 1.0] if text == "b" else [1.0, 0.0] for text in texts]


@pytest.fixture
def written() -> dict[str, Any]:
    """Three records, acknowledged and not folded."""
    answer: dict[str, Any] = producer.handler(write("a", "b", "c"), Context())
    return answer


@pytest.mark.usefixtures("written")
def test_the_nearest_records_in_chromas_shape() -> None:
    """What was acknowledged is seen; a single vector is one query; the answer is plain JSON."""
    answer = handler({"query_embeddings": [1.0, 0.1], "n_results": 2}, Context())
    assert answer["ids"] == [["a", "c"]]
    assert answer["documents"] == [["text a", "text c"]]
    assert answer["metadatas"] == [[{"id": "a"}, {"id": "c"}]]
    assert answer["included"] == ["documents", "metadatas", "distances"]
    assert (answer["embeddings"], answer["uris"], answer["data"], answer["version"]) == (None, None, None, 0)
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.usefixtures("written")
def test_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are embedded by the configured function; without one the error says what to set."""
    with pytest.raises(Invalid, match="CHROMALITH_EMBED"):
        handler({"query_text": "b"}, Context())
    monkeypatch.setenv("CHROMALITH_EMBED", f"{__name__}:embed")
    answer = handler({"query_text": ["b", "x"], "n_results": 1, "include": ["embeddings"]}, Context())
    assert (answer["ids"], answer["embeddings"]) == ([["b"], ["a"]], [[[0.0, 1.0]], [[1.0, 0.0]]])


@pytest.mark.usefixtures("written")
def test_filters() -> None:
    """Of metadata, of documents, and among ids."""
    near = {"query_embeddings": [[1.0, 0.0]]}
    assert handler({**near, "where": {"id": {"$in": ["b", "c"]}}}, Context())["ids"] == [["c", "b"]]
    assert handler({**near, "where_document": {"$contains": "text b"}}, Context())["ids"] == [["b"]]
    assert handler({**near, "ids": ["b"]}, Context())["ids"] == [["b"]]


@pytest.mark.usefixtures("written")
def test_records_and_their_number() -> None:
    """Without a query: by id, by filter, by page; and the count."""
    assert handler({"ids": ["c", "a", "nobody"]}, Context())["ids"] == ["a", "c"]
    assert handler({"where": {"id": "b"}, "include": ["metadatas"]}, Context())["metadatas"] == [{"id": "b"}]
    assert handler({"limit": 1, "offset": 1}, Context())["ids"] == ["b"]
    assert handler({"count": True}, Context()) == {"collection": "words", "version": 0, "count": 3}


def test_read_levels(written: dict[str, Any]) -> None:
    """``INDEX_ONLY`` shows the snapshot, and not what waits; a token is waited for, and where it can't be seen that is said."""
    from tests.unit.lambdas.invocations import forget_what_is_warm

    forget_what_is_warm()  # a process sees its own writes at every level
    assert handler({"count": True, "read_level": "INDEX_ONLY"}, Context())["count"] == 0
    assert handler({"count": True, "read_level": "INDEX_AND_BOUNDED_WAL"}, Context())["count"] == 3
    assert handler({"count": True, "after": written["token"]}, Context())["count"] == 3
    with pytest.raises(Unavailable):
        handler({"count": True, "read_level": "INDEX_ONLY", "after": written["token"]}, Context(left_s=9.0))
    compactor.handler({"source": "manual"}, Context())
    assert handler({"count": True, "read_level": "INDEX_ONLY", "max_staleness_s": 0}, Context())["count"] == 3


@pytest.mark.usefixtures("written")
def test_older_versions() -> None:
    """By number or by time; one that never was is not found."""
    compactor.handler({"source": "manual"}, Context())
    assert [handler({"count": True, "at": at}, Context())["count"] for at in (0, 1, "0", "1", "2999-01-01T00:00:00Z")] == [0, 3, 0, 3, 3]
    with pytest.raises(NotFound):
        handler({"count": True, "at": 7}, Context())
    with pytest.raises(Invalid, match="time zone"):
        handler({"count": True, "at": "2026-01-31T12:00:00"}, Context())


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("payload", "kind", "said"),
    [
        ({}, Invalid, "nothing was asked for"),
        ({"query_embeddings": [1, 2], "query_text": "x"}, Invalid, "exactly one"),
        ({"query_embeddings": [1, 2], "n_result": 3}, Invalid, "did you mean n_results"),
        ({"query_embeddings": [1, 2], "n_results": 0}, Invalid, "field=n_results"),
        ({"query_embeddings": [1, 2], "n_results": "3"}, Invalid, "field=n_results"),
        ({"query_embeddings": [1, 2], "include": ["vectors"]}, Invalid, "field=include"),
        ({"query_embeddings": [1, 2, 3]}, Invalid, "dimension"),
        ({"query_embeddings": ["x", "y"]}, Invalid, "no vectors"),
        ({"query_embeddings": [1, 2], "where": {"$nonsense": 1}}, Invalid, "nonsense"),
        ({"query_embeddings": [1, 2], "collection": "nothing"}, NotFound, "nothing"),
        ({"query_embeddings": [1, 2], "read_level": "EVENTUALLY"}, Invalid, "field=read_level"),
        ({"count": True, "where": {"id": "a"}}, Invalid, "count takes neither"),
        ({"ids": ["a"], "include": ["distances"]}, Invalid, "no distance"),
        ({"query_embeddings": [1, 2], "limit": 1}, Invalid, "n_results"),
        ({"count": True, "at": 0, "read_level": "INDEX_ONLY"}, Invalid, "read level"),
        ({"count": True, "after": "not a token"}, Invalid, "token"),
    ],
)
def test_a_wrong_query_says_what_is_wrong(payload: dict[str, Any], kind: type[Exception], said: str) -> None:
    """By field, before anything is read, or by what the collection is."""
    with pytest.raises(kind) as raised:
        handler(payload, Context())
    assert said in str(raised.value)


@pytest.mark.usefixtures("written")
def test_an_answer_that_lambda_would_refuse_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit's very byte it passes; one byte less, and the error says what to ask for instead."""
    size = len(json.dumps(handler({"limit": 3}, Context())).encode())
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", size)
    assert len(handler({"limit": 3}, Context())["ids"]) == 3
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", size - 1)
    with pytest.raises(Invalid, match="too large") as raised:
        handler({"limit": 3}, Context())
    assert "include" in str(raised.value)
