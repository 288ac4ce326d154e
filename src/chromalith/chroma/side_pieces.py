"""Columns of records cut into requests, and answers put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.transfer.port import Batch
from chromalith.transfer.sides import Limits


def pieces(ids: Sequence[str], rows: int) -> Iterator[list[str]]:
    """``ids``, at most ``rows`` at once."""
    for start in range(0, len(ids), rows):
        yield list(ids[start : start + rows])


def written_pieces(
    limits: Limits,
    ids: Sequence[str],
    embeddings: npt.NDArray[np.float32] | None,
    documents: Sequence[str | None] | None,
    metadatas: Sequence[Mapping[str, Any] | None] | None,
) -> Iterator[slice]:
    """The rows of one request each, within the limits of records and of bytes; a record that is larger goes alone."""
    row_bytes = 64 + (0 if embeddings is None or embeddings.ndim != 2 else 4 * embeddings.shape[1])
    start, size = 0, 0
    for row in range(len(ids)):
        text = documents[row] if documents is not None else None
        metadata = metadatas[row] if metadatas is not None else None
        own = row_bytes + len(text or "") + (_guess(metadata) if metadata else 0)
        if row > start and (row - start >= limits.records_per_write or size + own > limits.bytes_per_write):
            yield slice(start, row)
            start, size = row, 0
        size += own
    if start < len(ids):
        yield slice(start, len(ids))


def column(values: Sequence[Any] | None, rows: slice, as_sent: Callable[[Any], Any] | None = None) -> list[Any] | None:
    """A part of a column; ``None`` if it says nothing."""
    if values is None:
        return None
    part = [value if as_sent is None else as_sent(value) for value in values[rows]]
    return part if any(value is not None for value in part) else None


def rows_of(embeddings: npt.NDArray[np.float32]) -> Any:
    """A matrix as the list of vectors that Chroma takes."""
    return list(np.ascontiguousarray(embeddings, np.float32))


def nothing(dimension: int) -> Batch:
    """No record."""
    return Batch([], np.empty((0, dimension), np.float32), [], [], [])


def joined(parts: list[Batch], dimension: int) -> Batch:
    """Several answers as one, in their order."""
    if len(parts) <= 1:
        return parts[0] if parts else nothing(dimension)
    return Batch(
        [record_id for part in parts for record_id in part.ids],
        np.concatenate([part.embeddings for part in parts]),
        [text for part in parts for text in part.documents],
        [uri for part in parts for uri in part.uris],
        [metadata for part in parts for metadata in part.metadatas],
    )


def _guess(metadata: Mapping[str, Any]) -> int:
    return sum(32 + _size(value) for value in metadata.values())


def _size(value: Any) -> int:
    return (
        sum(8 + _size(each) for each in value)
        if isinstance(value, list)
        else len(value)
        if isinstance(value, str)
        else 8
    )
