"""Are two records equal? One answer for backfill, reconciliation, verify and shadow reads.

Content is compared by value *and* type: ``1``, ``1.0``, ``True`` and ``"1"`` are four values. No metadata and empty metadata are one:
Chroma can't tell them apart. Embeddings are compared bit by bit, except in a cosine collection, which stock Chroma stores
normalised beside their length: what it gives back differs in the last bits from what was written (:data:`COSINE_TOLERANCE`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chromalith.transfer.port import Batch

COSINE_TOLERANCE = 2.0**-21
"""Of the vector's length: the largest difference of one component between what is written to a cosine collection and what is read.

Stock Chroma 1.5.9 keeps it divided by its length; two roundings of float32 would be at most 2^-23 (1.2e-7) of the length.
Measured over dimensions 1 to 3072 and lengths 1e-3 to 1e4, with even, spiky and one-hot vectors: at most 0.99 x 2^-23 after one
passage, 1.57 x 2^-23 after two, in memory. This is four passages, so that a difference that no repair could mend is not reported. (Vectors
of length 1e-20 and 1e18 still pass; of those of 1e-30 and 1e25 Chroma itself makes zeros and NaN, which are reported.)
"""

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
    """What differs between two sets of records: first in the authority's order, then what only the other has.

    Args:
        authority, other: of the two sides; ids are unique within each.
        space: the collection's distance. ``l2``, ``ip``: embeddings are compared bit by bit; ``cosine``: see :data:`COSINE_TOLERANCE`.
    """
    rows = {record_id: row for row, record_id in enumerate(other.ids)}
    at = [rows.pop(record_id, None) for record_id in authority.ids]
    both = [row for row, there in enumerate(at) if there is not None]
    moved = _changed_embeddings(authority, both, other, [there for there in at if there is not None], space)
    found = []
    for row, (record_id, there) in enumerate(zip(authority.ids, at, strict=True)):
        if there is None:
            found.append(Difference(record_id, "missing"))
            continue
        fields = (("embedding",) if row in moved else ()) + _contents(authority, row, other, there)
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
    if not math.isfinite(length):  # within a part of an infinite length is everything
        return False
    return bool(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0) <= COSINE_TOLERANCE * length)


def same_value(a: Any, b: Any) -> bool:
    """Whether two metadata values are the same, types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _changed_embeddings(a: Batch, rows: Sequence[int], b: Batch, at: Sequence[int], space: str) -> set[int]:
    """Which of ``rows`` of ``a`` have another embedding than the record of ``b`` at the same place of ``at``."""
    if not rows or a.embeddings.shape[1:] != b.embeddings.shape[1:]:
        return set(rows)
    one, two = (np.ascontiguousarray(x[list(y)], np.float32) for x, y in ((a.embeddings, rows), (b.embeddings, at)))
    suspects = np.flatnonzero((one.view(np.uint32) != two.view(np.uint32)).any(axis=1)).tolist()
    return {rows[n] for n in suspects if not same_embedding(one[n], two[n], space)}


def _contents(a: Batch, row: int, b: Batch, at: int) -> tuple[str, ...]:
    fields = []
    if a.documents[row] != b.documents[at]:
        fields.append("document")
    if a.uris[row] != b.uris[at]:
        fields.append("uri")
    one: Mapping[str, Any] = a.metadatas[row] or {}
    two: Mapping[str, Any] = b.metadatas[at] or {}
    keys = sorted(one.keys() | two.keys())
    fields += [
        f"metadata.{key}" for key in keys if key not in one or key not in two or not same_value(one[key], two[key])
    ]
    return tuple(fields)
