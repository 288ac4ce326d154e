"""The producer handler: what it writes, what it answers, and what counts once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.lambdas.invocations import Context, write

from chromalith import Reader
from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.lambdas.producer import handler
from chromalith.lambdas.written import write_of


def embed(texts: list[str]) -> list[list[float]]:
    """Texts to vectors, for ``CHROMALITH_EMBED``: their length, and 1."""
    if "fail" in texts:
        raise ConnectionError("the model's service is away")
    return [[float(len(text)), 1.0] for text in texts]


EMBED = f"{__name__}:embed"


def records(store_url: str, name: str = "words") -> dict[str, tuple[Any, ...]]:
    """What a reader sees, by id: embedding, document, metadata."""
    with Reader(store_url) as reader:
        found = reader.get(name, include=("embeddings", "documents", "metadatas"))
    columns = zip(found.embeddings.tolist(), found.documents, found.metadatas, strict=True)
    return dict(zip(found.ids, columns, strict=True))


def test_a_payload_becomes_one_delta(store_url: str) -> None:
    """The answer names the delta and where it is; the collection is created if it may be; a reader sees the records."""
    answer = handler(write("a", "b"), Context())
    assert (answer["status"], answer["item_count"], answer["collection"], answer["queued"]) == ("success", 2, "words", False)
    body = (Path(store_url) / answer["delta_key"]).read_bytes()
    assert len(body) == answer["delta_size_bytes"]
    assert answer["token"].endswith(answer["delta_id"])
    assert records(store_url)["b"] == ([0.0, 1.0], "text b", {"id": "b"})


@pytest.mark.parametrize("op", ["add", "update", "upsert", "delete"])
def test_each_operation(store_url: str, op: str) -> None:
    """add leaves what exists, update and upsert change it, delete removes it."""
    handler(write("a"), Context(aws_request_id="first"))
    payload = {"ids": ["a"], "op": op} if op == "delete" else {"ids": ["a"], "op": op, "embeddings": [[9.0, 9.0]]}
    handler(payload, Context(aws_request_id="second"))
    found = records(store_url)
    assert {op: [row[0] for row in found.values()]} == {
        op: {"add": [[1.0, 0.0]], "update": [[9.0, 9.0]], "upsert": [[9.0, 9.0]], "delete": []}[op]
    }


def test_a_repeated_invocation_counts_once(store_url: str) -> None:
    """Lambda repeats a failed asynchronous invocation under the same id: it is the same call, also for another process."""
    handler(write("a"), Context(aws_request_id="same"))
    handler({"ids": ["a"], "op": "delete"}, Context(aws_request_id="other"))
    handler(write("a"), Context(aws_request_id="same"))
    assert records(store_url) == {}


def test_a_call_that_is_named_counts_once_whoever_sends_it(store_url: str) -> None:
    """``call_id`` stands before the invocation's id."""
    handler(write("a", call_id="x"), Context(aws_request_id="1"))
    handler({"ids": ["a"], "op": "delete"}, Context(aws_request_id="2"))
    handler(write("a", call_id="x"), Context(aws_request_id="3"))
    assert records(store_url) == {}


def test_sending_the_same_again_on_purpose_is_a_new_call(store_url: str) -> None:
    """A receipt that is sent, corrected, and sent as at first, is as at first."""
    first = {"words": ["MILK"], "receipt_id": "r", "embeddings": [[1.0, 2.0]]}
    second = {**first, "words": ["MLIK"]}
    for number, payload in enumerate((first, second, first)):
        handler(payload, Context(aws_request_id=str(number)))
    assert [row[1] for row in records(store_url).values()] == ["MILK"]


def test_the_guides_words(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts get ids of the receipt and their place, the receipt in their metadata, and their vectors from the configured function."""
    monkeypatch.setenv("CHROMALITH_EMBED", EMBED)
    answer = handler({"words": ["milk", "bread"], "receipt_id": "test-001"}, Context())
    assert answer["collection"] == "words"
    assert records(store_url) == {
        "RECEIPT#test-001#WORD#00001": ([4.0, 1.0], "milk", {"receipt_id": "test-001"}),
        "RECEIPT#test-001#WORD#00002": ([5.0, 1.0], "bread", {"receipt_id": "test-001"}),
    }


def test_words_as_objects(store_url: str) -> None:
    """What a word says of itself makes its id, or becomes metadata; a number has five digits in an id; an own id wins."""
    words = [
        {"text": "milk", "line_id": 3, "word_id": 7, "confidence": 0.5, "embedding": [1, 2]},
        {"text": "tea", "id": "mine", "metadata": {"label": "DRINK"}, "embedding": [3, 4]},
    ]
    handler({"words": words, "receipt_id": 12, "image_id": "img"}, Context())
    assert records(store_url) == {
        "IMAGE#img#RECEIPT#00012#LINE#00003#WORD#00007": (
            [1.0, 2.0],
            "milk",
            {"image_id": "img", "receipt_id": 12, "line_id": 3, "word_id": 7, "confidence": 0.5},
        ),
        "mine": ([3.0, 4.0], "tea", {"image_id": "img", "receipt_id": 12, "label": "DRINK"}),
    }


@pytest.mark.parametrize("wrapped", [True, False])
def test_records_one_by_one(store_url: str, wrapped: bool) -> None:
    """The same by records, in an object or as a bare list."""
    listed = [{"id": "a", "embedding": [1, 2], "document": "x"}, {"id": "b", "embedding": [3, 4], "metadata": {"k": 1}}]
    handler({"records": listed} if wrapped else listed, Context())
    assert records(store_url) == {"a": ([1.0, 2.0], "x", None), "b": ([3.0, 4.0], None, {"k": 1})}


def test_documents_are_embedded_where_there_are_no_vectors(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function that CHROMALITH_EMBED names."""
    monkeypatch.setenv("CHROMALITH_EMBED", EMBED)
    handler({"ids": ["a"], "documents": ["four"]}, Context())
    assert records(store_url)["a"][0] == [4.0, 1.0]


@pytest.mark.parametrize(
    ("payload", "kind", "said"),
    [
        ({"ids": ["a"], "documents": ["x"]}, Invalid, "CHROMALITH_EMBED"),
        ({"ids": ["a"], "embedings": [[1, 2]]}, Invalid, "did you mean embeddings"),
        ({"embeddings": [[1, 2]]}, Invalid, "field=ids"),
        ({"ids": "a", "embeddings": [[1, 2]]}, Invalid, "field=ids"),
        ({"ids": ["a"], "embeddings": [[1, 2]], "op": "replace"}, Invalid, "field=op"),
        ({"ids": ["a", "b"], "embeddings": [[1, 2]]}, Invalid, "embeddings"),
        ({"ids": ["a", "a"], "embeddings": [[1, 2], [1, 2]]}, Invalid, "a"),
        ({"ids": ["a"], "op": "delete", "collection": "nothing"}, NotFound, "nothing"),
        ({"words": ["x"], "embeddings": [[1, 2]]}, Invalid, "field=receipt_id"),
        ({"words": [{"word_id": 1}], "receipt_id": 1}, Invalid, "position=0"),
        ({"words": ["x", "y"], "receipt_id": 1, "embeddings": [[1, 2]]}, Invalid, "1 embeddings for 2 words"),
        ({"records": [{"id": "a", "embedding": [1]}, {"id": "b"}]}, Invalid, "some records"),
        ({"records": [{"id": "a", "vector": [1]}]}, Invalid, "records.0.vector"),
        ("text", Invalid, "not a JSON object"),
        (None, Invalid, "not a JSON object"),
    ],
)
def test_a_wrong_payload_says_what_is_wrong(store_url: str, payload: Any, kind: type[Exception], said: str) -> None:
    """And nothing is written."""
    with pytest.raises(kind) as raised:
        handler(payload, Context())
    assert said in str(raised.value)
    assert not list(Path(store_url).rglob("*.parquet"))


def test_another_dimension_is_refused(store_url: str) -> None:
    """The collection's dimension stands in the error."""
    handler(write("a"), Context())
    with pytest.raises(Invalid, match="dimension"):
        handler({"ids": ["b"], "embeddings": [[1, 2, 3]]}, Context(aws_request_id="2"))


def test_what_an_embedding_function_raises_is_told_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not called a defect of ours."""
    monkeypatch.setenv("CHROMALITH_EMBED", EMBED)
    with pytest.raises(Unavailable, match="the model's service is away"):
        handler({"ids": ["a"], "documents": ["fail"]}, Context())


def test_ids_of_words_do_not_depend_on_the_invocation() -> None:
    """The same receipt sent again addresses the same records."""
    payload = {"words": ["x", "y"], "receipt_id": 3}
    assert write_of(payload).ids == write_of(dict(payload)).ids == ["RECEIPT#00003#WORD#00001", "RECEIPT#00003#WORD#00002"]


def test_an_emulator_with_one_id_for_all_does_not_make_one_call_of_them(store_url: str) -> None:
    """The name of a call is the invocation's id together with what is written."""
    for name in ("a", "b"):
        handler(write(name), Context(aws_request_id="always-the-same"))
    assert set(records(store_url)) == {"a", "b"}
