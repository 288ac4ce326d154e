"""From a caller's arguments to operations, or one clear ``Invalid`` before anything is written.

Accepts what Chroma accepts and refuses what Chroma refuses, with two differences, both on purpose. A NaN or an infinity in
metadata is refused: stock Chroma drops such a value silently. And a metadata list with one is refused here, where stock Chroma
fails later, on every following call (seen with 1.5.9). An integer outside 64 bits becomes a float, as in Chroma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.errors import Invalid
from chromalith.model.metadata import encode_metadata
from chromalith.model.operation import Embeddings, Op, Operations

_INT64 = range(-(2**63), 2**63)
_RESERVED = "chroma:document"
_SCALARS = "str, int, float or bool"


def operations(
    op: Op,
    ids: Sequence[str],
    embeddings: Any = None,
    documents: Sequence[str | None] | None = None,
    uris: Sequence[str | None] | None = None,
    metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    dimension: int | None = None,
) -> Operations:
    """The operations of one call.

    Args:
        op: the same for every row.
        ids: non-empty, unique, each a non-empty string.
        embeddings: anything that numpy makes float32 (n, dim) of, or a sequence of rows of which some are ``None``
            (``update`` only); required for ``add`` and ``upsert``.
        documents, uris, metadatas: one entry a row, ``None`` for "not given".
        dimension: of the collection, if it is fixed.

    Raises ``Invalid``.
    """
    ids = _ids(ids)
    lengths = {"ids": len(ids)}
    for name, column in (("embeddings", embeddings), ("documents", documents), ("uris", uris), ("metadatas", metadatas)):
        if column is not None:
            lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        described = " ".join(f"{name}={length}" for name, length in lengths.items())
        raise Invalid(f"the columns have different lengths {described}", hint="give one entry for each id in every column")
    if op is Op.DELETE and len(lengths) > 1:
        raise Invalid("a delete takes ids only")
    matrix, has_embedding = _embeddings(embeddings, len(ids), dimension)
    if op in (Op.ADD, Op.UPSERT) and not has_embedding.all():
        missing = int(np.argmin(has_embedding))
        raise Invalid(
            f"{op.label} needs an embedding for every id id={ids[missing]!r}",
            hint="embed the documents first, or use the chromadb client with an embedding function",
        )
    return Operations(
        ops=[op] * len(ids),
        ids=ids,
        embeddings=matrix,
        has_embedding=has_embedding,
        documents=_texts("document", documents, ids),
        uris=_texts("uri", uris, ids),
        metadata=_metadatas(metadatas, ids, removing=op is not Op.ADD),
    )


def _ids(ids: Sequence[str]) -> list[str]:
    if isinstance(ids, str):
        ids = [ids]
    if len(ids) == 0:
        raise Invalid("no ids were given", hint="give at least one id")
    seen: set[str] = set()
    for record_id in ids:
        if not isinstance(record_id, str):
            raise Invalid(f"an id is not a string id={record_id!r}", hint="convert ids with str()")
        if not record_id:
            raise Invalid("an id is the empty string", hint="an id has at least one character")
        if record_id in seen:
            raise Invalid(f"an id occurs twice in one call id={record_id!r}", hint="one call is atomic: give each id once")
        seen.add(record_id)
        _utf8("an id", record_id)
    return list(ids)


def _embeddings(
    embeddings: Any, rows: int, dimension: int | None
) -> tuple[Embeddings | None, npt.NDArray[np.bool_]]:
    none = np.zeros(rows, np.bool_)
    if embeddings is None:
        return None, none
    present = none if isinstance(embeddings, np.ndarray) else np.array([row is not None for row in embeddings], np.bool_)
    if isinstance(embeddings, np.ndarray) and embeddings.dtype != object:
        matrix = _float32(embeddings)
        present = np.ones(rows, np.bool_)
    else:
        if isinstance(embeddings, np.ndarray):
            present = np.array([row is not None for row in embeddings], np.bool_)
        if not present.any():
            return None, none
        matrix = values = _float32([row for row in embeddings if row is not None])
        if not present.all() and values.ndim == 2:
            matrix = np.zeros((rows, values.shape[1]), np.float32)
            matrix[present] = values
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise Invalid(f"the embeddings have the wrong shape shape={matrix.shape}", hint="give a float32 array of shape (n, dim)")
    if dimension is not None and matrix.shape[1] != dimension:
        # Chroma's own words, because programs look for them.
        raise Invalid(
            f"Collection expecting embedding with dimension of {dimension}, got {matrix.shape[1]}",
            hint="embed with the model that the collection was made with",
        )
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise Invalid(
            f"an embedding has a NaN or an infinity, or is too large for float32 row={int(np.argmin(finite))}",
            hint="check the model's output",
        )
    return np.ascontiguousarray(matrix), present


def _float32(values: Any) -> Embeddings:
    try:
        with np.errstate(over="ignore"):  # it becomes an infinity, which is refused by name
            return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise Invalid(
            "the embeddings are not rows of numbers of one length", hint="give a float32 array of shape (n, dim)"
        ) from error


def _texts(name: str, column: Sequence[str | None] | None, ids: Sequence[str]) -> list[str | None]:
    if column is None:
        return [None] * len(ids)
    for record_id, text in zip(ids, column, strict=True):
        if text is None:
            continue
        if not isinstance(text, str):
            raise Invalid(f"a {name} is not a string id={record_id!r} type={type(text).__name__}")
        _utf8(f"a {name}", text)
    return list(column)


def _utf8(what: str, text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"{what} is not valid Unicode text={text!r}", hint="it holds half of a surrogate pair") from error


def _metadatas(
    column: Sequence[Mapping[str, Any] | None] | None, ids: Sequence[str], *, removing: bool
) -> list[str | None]:
    if column is None:
        return [None] * len(ids)
    good_keys: set[str] = set()
    return [
        None if metadata is None else encode_metadata(_metadata(metadata, record_id, removing, good_keys))
        for record_id, metadata in zip(ids, column, strict=True)
    ]


def _metadata(metadata: Mapping[str, Any], record_id: str, removing: bool, good_keys: set[str]) -> dict[str, Any]:
    """The metadata of one record. ``good_keys`` are those found good before: a call names the same few again and again."""
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        raise Invalid(f"metadata is not a dictionary id={record_id!r} type={type(metadata).__name__}")
    if not metadata:
        raise Invalid(f"metadata is an empty dictionary id={record_id!r}", hint="give None instead")
    result: dict[str, Any] = {}
    for key, value in metadata.items():
        if key not in good_keys:
            _check_key(key, record_id)
            good_keys.add(key)
        if value is None and not removing:
            raise Invalid(f"a metadata value is None id={record_id!r} key={key!r}", hint="leave the key out")
        kind = type(value)
        if (kind is str and value.isascii()) or kind is bool or value is None:
            result[key] = value  # most values: without a call for each, a thousand records take half the time
        else:
            result[key] = _value(value, record_id, key)
    return result


def _check_key(key: Any, record_id: str) -> None:
    if not key or not isinstance(key, str):
        raise Invalid(f"a metadata key is not a non-empty string id={record_id!r} key={key!r}")
    if key == _RESERVED:
        raise Invalid(f"a metadata key is reserved id={record_id!r} key={key!r}", hint="give it as the document")
    _utf8("a metadata key", key)


def _value(value: Any, record_id: str, key: str) -> Any:
    if not isinstance(value, list | tuple):
        return _scalar(value, record_id, key)
    if not value:
        raise Invalid(f"a metadata list is empty id={record_id!r} key={key!r}", hint="leave the key out")
    if len({type(item) for item in value}) > 1:
        raise Invalid(f"a metadata list mixes types id={record_id!r} key={key!r}", hint=f"its items are all {_SCALARS}")
    items = [_scalar(item, record_id, key) for item in value]
    # One integer too large for 64 bits makes the list one of floats: a list has one type.
    return [float(item) for item in items] if len({type(item) for item in items}) > 1 else items


def _scalar(value: Any, record_id: str, key: str) -> Any:
    if isinstance(value, bool | str):
        if isinstance(value, str):
            _utf8("a metadata value", value)
        return value
    if isinstance(value, int):
        return int(value) if value in _INT64 else float(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"a metadata value is not finite id={record_id!r} key={key!r} value={value}")
        return float(value)
    raise Invalid(
        f"a metadata value has a type that cannot be stored id={record_id!r} key={key!r} type={type(value).__name__}",
        hint=f"use {_SCALARS}, or a list of one of them",
    )
