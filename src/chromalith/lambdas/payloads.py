"""What the handlers take: one model for each payload, whose fields are the ones of ``docs/lambdas.md``.

A field that nobody knows is an error that names it: a misspelt ``n_result`` that was ignored would answer something else than was asked.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chromalith.errors import Invalid
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT

WORDS = "words"
"""The guide's collection, where a payload names none."""

Op = Literal["upsert", "add", "update", "delete"]
Column = Literal["embeddings", "documents", "uris", "metadatas", "distances"]
Texts = list[str | None]
Metadatas = list[dict[str, Any] | None]


class Payload(BaseModel):
    """The fields of every payload."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tenant: str = Field(default=DEFAULT_TENANT, description="where the collection is named")
    database: str = Field(default=DEFAULT_DATABASE, description="where the collection is named")


class Write(Payload):
    """The producer's: one atomic call on one collection, by columns."""

    collection: str = Field(default=WORDS, description="its name")
    ids: list[str] = Field(description="unique, non-empty")
    embeddings: Any = Field(default=None, description="a list of numbers for each id")
    documents: Texts | None = Field(default=None, description="a text for each id; embedded where there are no `embeddings`")
    uris: Texts | None = Field(default=None, description="one for each id")
    metadatas: Metadatas | None = Field(default=None, description="an object for each id; it is merged, and a null removes its key")
    op: Op = Field(default="upsert", description="`upsert`, `add`, `update` or `delete`")
    call_id: str | None = Field(default=None, description="a name for this call: calls of one name count once; else the invocation's id")


class Record(BaseModel):
    """One of ``records``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    embedding: Any = None
    document: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] | None = None


class Records(Payload):
    """The producer's: the same, record by record. All records have the same fields, or leave them out together."""

    collection: str = Field(default=WORDS, description="its name")
    records: list[Record] = Field(description="objects with `id`, `embedding`, `document`, `uri`, `metadata`")
    op: Op = Field(default="upsert", description="`upsert`, `add`, `update` or `delete`")
    call_id: str | None = Field(default=None, description="as above")


class Words(Payload):
    """The producer's: the words of a receipt, as the migration guide sends them."""

    collection: str = Field(default=WORDS, description="its name")
    words: list[str | dict[str, Any]] = Field(description="texts, or objects with `text` and perhaps `id`, `embedding`, `word_id`, …")
    receipt_id: str | int = Field(description="of which receipt; stands in each id and in each metadata")
    image_id: str | int | None = Field(default=None, description="of which image; the same")
    embeddings: Any = Field(default=None, description="a list of numbers for each word")
    call_id: str | None = Field(default=None, description="as above")


class Query(Payload):
    """The query handler's. With ``query_text`` or ``query_embeddings`` the nearest records; with ``count`` their number; else records."""

    collection: str = Field(default=WORDS, description="its name")
    query_text: str | list[str] | None = Field(default=None, description="a text, or several, to be embedded")
    query_embeddings: Any = Field(default=None, description="a list of numbers, or several")
    n_results: int = Field(default=10, ge=1, description="how many nearest records for each")
    ids: list[str] | None = Field(default=None, description="only among these")
    where: dict[str, Any] | None = Field(default=None, description="Chroma's filter of metadata")
    where_document: dict[str, Any] | None = Field(default=None, description="Chroma's filter of documents")
    include: list[Column] | None = Field(
        default=None, description="columns of the answer; `documents`, `metadatas` and, where something was near, `distances`"
    )
    limit: int | None = Field(default=None, ge=0, description="of records without a query: how many at most")
    offset: int = Field(default=0, ge=0, description="of records without a query: after how many")
    count: bool = Field(default=False, description="only the number of live records")
    read_level: Literal["INDEX_AND_WAL", "INDEX_AND_BOUNDED_WAL", "INDEX_ONLY"] | None = Field(
        default=None, description="how fresh: `INDEX_AND_WAL` (every acknowledged write), `INDEX_AND_BOUNDED_WAL`, `INDEX_ONLY`"
    )
    max_staleness_s: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="of the two lower levels: how old an answer may be"
    )
    at: str | int | None = Field(default=None, description="an older version: its number, a tag, or a time with a time zone")
    after: str | None = Field(default=None, description="the `token` of a write: wait until it is in the answer")


class Compact(Payload):
    """The compactor's, by hand or by the schedule."""

    source: Literal["manual", "scheduled"] = Field(description="who asks")
    action: Literal["compact"] = Field(default="compact", description="what for")
    collection: str | None = Field(default=None, description="its name; else every collection that has deltas")


class Migration(Payload):
    """The compactor's: import what ``scripts/export_chromadb_to_s3.py`` or ``chromalith export`` put below a prefix, then compact it."""

    source: Literal["migration"] = Field(description="`migration`")
    snapshot_path: str = Field(description="the prefix in the function's bucket, or the URL of another place")
    collection: str | None = Field(default=None, description="which to take; else all that are there")
    as_: str | None = Field(default=None, alias="as", description="the name to give it, if `collection` names one")


class Sweep(Payload):
    """The sweep handler's."""

    source: Literal["manual", "scheduled"] = Field(default="manual", description="who asks")
    action: Literal["sweep"] = Field(default="sweep", description="what for")
    collection: str | None = Field(default=None, description="its name; else the whole store")
    dry_run: bool = Field(default=False, description="only say what would be deleted; writes nothing")


class Health(Payload):
    """The health handler's."""

    source: Literal["manual", "scheduled"] = Field(default="manual", description="who asks")
    action: Literal["health"] = Field(default="health", description="what for")
    collection: str | None = Field(default=None, description="its name; else every collection of the database")


P = TypeVar("P", bound=Payload)


def read(kind: type[P], value: Any) -> P:
    """``value`` as a payload of this kind. Raises ``Invalid``, which names the field."""
    check_object(value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _told(kind, error) from error


def check_object(value: Any) -> None:
    """Raise ``Invalid`` unless ``value`` is a JSON object."""
    if not isinstance(value, dict):
        raise Invalid(
            f"the payload is not a JSON object type={type(value).__name__}", hint='send an object, such as {"collection": "words", …}'
        )


def _told(kind: type[Payload], error: ValidationError) -> Invalid:
    wrong = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in wrong["loc"])
    known = [field.alias or name for name, field in kind.model_fields.items()]
    if wrong["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}" if near else f"it may have {', '.join(known)}"
        return Invalid(f"unknown field in the payload field={name}", hint=hint)
    if wrong["type"] == "missing":
        return Invalid(f"the payload lacks a field field={name}", hint="docs/lambdas.md has the payloads")
    return Invalid(f"a field of the payload is wrong field={name}: {_lower(wrong['msg'])}", hint="docs/lambdas.md has the payloads")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
