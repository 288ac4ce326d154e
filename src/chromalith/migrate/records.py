"""Are two records equal? One answer for backfill, reconciliation, verify and shadow reads.

Content is compared by value *and* type: ``1``, ``1.0``, ``True`` and ``"1"`` are four values. No metadata and empty metadata are one:
Chroma can't tell them apart. Embeddings are compared bit by bit, except in a cosine collection, which stock Chroma stores
normalised times length: what it gives back differs in the last bits from what was written (:data:`COSINE_TOLERANCE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chromalith.transfer.port import Batch

COSINE_TOLERANCE = 1e-6
"""Of the vector's length: the largest difference of one component between what is written to a cosine collection and what is read."""

DifferenceKind = Literal["missing", "extra", "different"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that is not the same on both sides.

    Attributes:
        id: the record's.
        kind: ``missing`` (not at the other side), ``extra`` (only there), ``different``.
        fields: what differs: ``embedding``, ``document``, ``uri``, ``metadata.<key>``; empty unless ``different``.
    """

    id: str
    kind: DifferenceKind
    fields: tuple[str, ...] = ()


def differences(authority: Batch, other: Batch, space: str) -> list[Difference]:
    """What differs between two sets of records: first in the authority's order, then what only the other has."""
    rows = {record_id: row for row, record_id in enumerate(other.ids)}
    found = []
    for row, record_id in enumerate(authority.ids):
        at = rows.pop(record_id, None)
        if at is None:
            found.append(Difference(record_id, "missing"))
            continue
        fields = _fields(authority, row, other, at, space)
        if fields:
            found.append(Difference(record_id, "different", fields))
    return found + [Difference(record_id, "extra") for record_id in rows]


def same_embedding(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], space: str) -> bool:
    """Whether two embeddings, shape (dim,), are the same: bit by bit, or for ``cosine`` within :data:`COSINE_TOLERANCE`."""
    if a.shape != b.shape:
        return False
    if np.array_equal(a.view(np.uint32), b.view(np.uint32)):
        return True
    if space != "cosine":
        return False
    length = float(np.linalg.norm(a.astype(np.float64)))
    return bool(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0) <= COSINE_TOLERANCE * length)


def same_value(a: Any, b: Any) -> bool:
    """Whether two metadata values are the same, types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _fields(a: Batch, row: int, b: Batch, at: int, space: str) -> tuple[str, ...]:
    fields = []
    if not same_embedding(np.ascontiguousarray(a.embeddings[row]), np.ascontiguousarray(b.embeddings[at]), space):
        fields.append("embedding")
    if a.documents[row] != b.documents[at]:
        fields.append("document")
    if a.uris[row] != b.uris[at]:
        fields.append("uri")
    one: Mapping[str, Any] = a.metadatas[row] or {}
    two: Mapping[str, Any] = b.metadatas[at] or {}
    keys = sorted(one.keys() | two.keys())
    fields += [f"metadata.{key}" for key in keys if key not in one or key not in two or not same_value(one[key], two[key])]
    return tuple(fields)
