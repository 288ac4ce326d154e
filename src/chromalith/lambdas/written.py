"""From the producer's three payloads to one write by columns: ids, vectors, texts, metadata, and the name of the call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chromalith.errors import ChromalithError, Invalid, Unavailable
from chromalith.guide import embedded
from chromalith.lambdas.payloads import Record, Records, Words, Write, check_object, read

_OWN = ("id", "text", "embedding", "metadata")
"""Fields of a word that are no metadata."""
DIGITS = 5
"""Of a number in an id: ``RECEIPT#00007``. Ids then sort as the numbers do, up to 99,999."""


def write_of(payload: Any) -> Write:
    """The write that a payload asks for. Raises ``Invalid``.

    A list is taken for ``records`` of the collection ``words``."""
    if isinstance(payload, list):
        payload = {"records": payload}
    check_object(payload)
    if "words" in payload or "receipt_id" in payload:
        return _of_words(read(Words, payload))
    if "records" in payload:
        return _of_records(read(Records, payload))
    return read(Write, payload)


def vectors_of(write: Write) -> Any:
    """The vectors to write: those given, else those of the documents, else ``None``.

    As in Chroma, a document that is written without a vector gets the vector of its text. Raises ``Invalid``, also without a function."""
    if write.embeddings is not None or write.documents is None or write.op == "delete":
        return write.embeddings
    texts = [text for text in write.documents if text is not None]
    if len(texts) < len(write.documents):
        raise Invalid("a document is missing, so that it can't be embedded", hint="give a text for each id, or give embeddings")
    with embedding_failures_told():
        return embedded(texts)


@contextmanager
def embedding_failures_told() -> Iterator[None]:
    """What an embedding function raises is not ours: it is somebody else's code, and often a service behind it."""
    try:
        yield
    except ChromalithError:
        raise
    except Exception as error:
        raise Unavailable(
            f"the embedding function failed: {type(error).__name__}: {error}", hint="nothing was written; look at CHROMALITH_EMBED"
        ) from error


def _of_records(payload: Records) -> Write:
    def column(name: str) -> list[Any] | None:
        values = [getattr(record, name) for record in payload.records]
        return None if all(value is None for value in values) else values

    vectors = column("embedding")
    if vectors is not None and any(vector is None for vector in vectors):
        raise Invalid("some records have an embedding and some have none", hint="send them in two calls")
    return Write(
        tenant=payload.tenant,
        database=payload.database,
        collection=payload.collection,
        ids=[record.id for record in payload.records],
        embeddings=vectors,
        documents=column("document"),
        uris=column("uri"),
        metadatas=column("metadata"),
        op=payload.op,
        call_id=payload.call_id,
    )


def _of_words(payload: Words) -> Write:
    words = [{"text": word} if isinstance(word, str) else word for word in payload.words]
    for position, word in enumerate(words):
        if not isinstance(word.get("text"), str):
            raise Invalid(f"a word has no text position={position}", hint='a word is a text, or an object with "text"')
    if payload.embeddings is not None and len(payload.embeddings) != len(words):
        raise Invalid(f"there are {len(payload.embeddings)} embeddings for {len(words)} words", hint="one for each")
    vectors = payload.embeddings if payload.embeddings is not None else [word.get("embedding") for word in words]
    records = [
        Record(
            id=_id(payload, word, position),
            embedding=vectors[position],
            document=word["text"],
            metadata=_metadata(payload, word),
        )
        for position, word in enumerate(words)
    ]
    return _of_records(
        Records(
            tenant=payload.tenant,
            database=payload.database,
            collection=payload.collection,
            records=records,
            call_id=payload.call_id,
        )
    )


def _id(payload: Words, word: dict[str, Any], position: int) -> str:
    """The word's own id, or one made of what it belongs to and its number or place: the same each time the receipt is sent."""
    if isinstance(word.get("id"), str):
        return str(word["id"])
    image = word.get("image_id", payload.image_id)
    parts: Sequence[tuple[str, Any]] = (
        ("IMAGE", image),
        ("RECEIPT", payload.receipt_id),
        ("LINE", word.get("line_id")),
        ("WORD", word.get("word_id", position + 1)),
    )
    return "#".join(f"{name}#{_number(value)}" for name, value in parts if value is not None)


def _number(value: Any) -> str:
    return f"{value:0{DIGITS}d}" if isinstance(value, int) else str(value)


def _metadata(payload: Words, word: dict[str, Any]) -> dict[str, Any]:
    given = word.get("metadata") or {}
    if not isinstance(given, dict):
        raise Invalid("a word's metadata is not an object", hint='{"text": …, "metadata": {…}}')
    own = {name: value for name, value in word.items() if name not in _OWN}
    image = {} if payload.image_id is None else {"image_id": payload.image_id}
    return {**image, **own, **given, "receipt_id": payload.receipt_id}
