"""Fold: apply operations, in order, to records. A pure function, used by the compactor and by the overlay alike.

The caller looks up the touched ids first (:func:`touched`), and reads the old records of those whose first effective operation
keeps something of them (:func:`needs_record`); the rest are replaced or removed unread.

Semantics are Chroma's, verified with stock Chroma as the oracle of the property tests: ``upsert`` merges metadata, ``None``
removes a key, ``add`` of an existing id and ``update`` of a missing one do nothing, and order is by first insertion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chromalith.errors import Bug
from chromalith.model.metadata import patch_metadata
from chromalith.model.operation import Op, Operations
from chromalith.model.record import Record


@dataclass(frozen=True, slots=True)
class Folded:
    """The state of every touched id after a fold.

    Attributes:
        records: the record of each id that was written or rewritten; ``None`` for one that does not exist any more (or
            still does not). Ids that nothing happened to are not in it.
        next_seq: the sequence number that the next insertion gets.
    """

    records: dict[str, Record | None]
    next_seq: int


def touched(batches: Iterable[Operations]) -> dict[str, Op]:
    """Every id that the batches name, in order of first mention, with the first operation on it."""
    first: dict[str, Op] = {}
    for batch in batches:
        for record_id, op in zip(batch.ids, batch.ops, strict=True):
            first.setdefault(record_id, op)
    return first


def needs_record(batches: Iterable[Operations]) -> set[str]:
    """The ids whose stored record, if there is one, must be read: those that an update or upsert meets before a delete."""
    deleted: set[str] = set()
    needed: set[str] = set()
    for batch in batches:
        for record_id, op in zip(batch.ids, batch.ops, strict=True):
            if op is Op.DELETE:
                deleted.add(record_id)
            elif op is not Op.ADD and record_id not in deleted:
                needed.add(record_id)
    return needed


def fold(
    stored: Mapping[str, Record | None],
    batches: Iterable[Operations],
    next_seq: int,
    *,
    before: Mapping[str, Record | None] | None = None,
) -> Folded:
    """Apply ``batches`` in order.

    Args:
        stored: the live stored ids among the touched ones; the value may be ``None`` where :func:`needs_record` did not
            ask for the record. An id that is not in it does not exist.
        batches: the operations of each delta, in the order of the deltas.
        next_seq: the sequence number of the first insertion.
        before: the ``records`` of an earlier fold that this one continues; they come before ``stored``.

    Raises ``Bug`` if a record is needed that was not read.
    """
    state = dict(before) if before else {}
    for batch in batches:
        embeddings = batch.embeddings
        for row, (record_id, op) in enumerate(zip(batch.ids, batch.ops, strict=True)):
            current = state[record_id] if record_id in state else stored.get(record_id)
            exists = current is not None or (record_id not in state and record_id in stored)
            if op is Op.DELETE:
                if exists:
                    state[record_id] = None
                continue
            if op is (Op.ADD if exists else Op.UPDATE):
                continue  # an add of what exists, an update of what does not
            embedding = embeddings[row] if embeddings is not None and batch.has_embedding[row] else None
            if not exists:
                if embedding is None:
                    continue  # refused at write; here it would be a record without a vector
                metadata = patch_metadata(None, batch.metadata[row])
                state[record_id] = Record(record_id, next_seq, embedding, batch.documents[row], batch.uris[row], metadata)
                next_seq += 1
                continue
            if current is None:
                raise Bug(f"a stored record was needed and not read id={record_id!r}")
            document, uri = batch.documents[row], batch.uris[row]
            state[record_id] = Record(
                record_id,
                current.seq,
                current.embedding if embedding is None else embedding,
                current.document if document is None else document,
                current.uri if uri is None else uri,
                patch_metadata(current.metadata, batch.metadata[row]),
            )
    return Folded(state, next_seq)
