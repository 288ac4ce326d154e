"""The reference model: what a collection must hold after operations, as a dictionary. Nothing of the product computes here.

Chroma's semantics: ``add`` of an id that exists and ``update`` of one that does not are ignored; ``upsert`` is one or the other; a
change leaves what it does not name; in metadata, ``None`` removes a key; ``delete`` of what is absent is ignored. Each
insertion takes the next sequence number, a change keeps it; the order of a collection is the order of these numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One operation on one id: ``add``, ``update``, ``upsert`` or ``delete``; ``None`` is a field that is not given."""

    op: str
    id: str
    embedding: tuple[float, ...] | None = None
    document: str | None = None
    uri: str | None = None
    metadata: Metadata | None = None

    @property
    def is_blind(self) -> bool:
        """Whether what it leaves behind does not depend on what was there: a delete, or an upsert of every field.

        Metadata is a patch: keys that an upsert does not name stay. So upserts are blind among those that name the same keys.
        """
        fields = (self.embedding, self.document, self.uri, self.metadata)
        return self.op == "delete" or (self.op == "upsert" and all(field is not None for field in fields))


@dataclass(frozen=True, slots=True)
class Row:
    """What one id holds. ``embedding`` as numbers that float32 keeps exactly."""

    seq: int
    embedding: tuple[float, ...]
    document: str | None
    uri: str | None
    metadata: Metadata | None


@dataclass(frozen=True, slots=True)
class Contents:
    """A collection: rows by id, and the sequence number that the next insertion takes."""

    rows: Mapping[str, Row]
    next_seq: int = 1

    def apply(self, changes: Iterable[Change]) -> Contents:
        """These contents after one call."""
        rows, next_seq = dict(self.rows), self.next_seq
        for change in changes:
            row = rows.get(change.id)
            if change.op == "delete":
                rows.pop(change.id, None)
            elif row is None and change.op in ("add", "upsert") and change.embedding is not None:
                rows[change.id] = Row(next_seq, change.embedding, change.document, change.uri, _patched(None, change.metadata))
                next_seq += 1
            elif row is not None and change.op in ("update", "upsert"):
                rows[change.id] = replace(
                    row,
                    embedding=row.embedding if change.embedding is None else change.embedding,
                    document=row.document if change.document is None else change.document,
                    uri=row.uri if change.uri is None else change.uri,
                    metadata=_patched(row.metadata, change.metadata),
                )
        return Contents(rows, next_seq)

    def in_order(self) -> dict[str, Row]:
        """The rows in the order of insertion."""
        return dict(sorted(self.rows.items(), key=lambda item: operator.attrgetter("seq")(item[1])))


EMPTY = Contents({})


def _patched(old: Metadata | None, patch: Metadata | None) -> Metadata | None:
    if patch is None:
        return old
    merged = {**(old or {}), **patch}
    return {key: value for key, value in merged.items() if value is not None} or None
