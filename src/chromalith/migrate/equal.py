"""Making the records of one side equal to those of the other, with no more than what Chroma's verbs can do.

``upsert`` *merges*: what it isn't given stays. So a metadata key that must go is set to ``None``, which removes it, and a record whose
document or URI must go is deleted and added again; that moves it to the end of the order of insertion (``verify --order`` sees it).

Every step may be repeated, and a step that fails leaves records that the next attempt sees as different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chromalith.migrate.port import SideCollection
from chromalith.migrate.records import differences
from chromalith.transfer.port import Batch


@dataclass(frozen=True, slots=True)
class Applied:
    """How many records were added, changed and deleted."""

    added: int = 0
    changed: int = 0
    deleted: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(self.added + other.added, self.changed + other.changed, self.deleted + other.deleted)

    @property
    def total(self) -> int:
        """All of them."""
        return self.added + self.changed + self.deleted


NOTHING = Applied()


def make_equal(collection: SideCollection, wanted: Batch, there: Batch, space: str) -> Applied:
    """Write to ``collection``, which holds ``there``, what makes it hold ``wanted`` instead.

    Args:
        collection: of the second side.
        wanted: the authority's records among some ids.
        there: the second side's records among the same ids.
        space: the collection's distance; embeddings of ``cosine`` are equal within its tolerance.

    Raises what the side raises; ``Invalid`` if it refuses one of the records: then none of a request, or some, were written.
    """
    found = differences(wanted, there, space)
    if not found:
        return Applied()
    missing = [item.id for item in found if item.kind == "missing"]
    extra = [item.id for item in found if item.kind == "extra"]
    different = [item.id for item in found if item.kind == "different"]
    at_wanted = {record_id: row for row, record_id in enumerate(wanted.ids)}
    at_there = {record_id: row for row, record_id in enumerate(there.ids)}
    anew = [i for i in different if _loses_a_text(wanted, at_wanted[i], there, at_there[i])]
    doomed = [*extra, *anew]
    if doomed:
        collection.delete(doomed)
    kept = set(different) - set(anew)
    rows = sorted(
        at_wanted[i] for i in (*missing, *different)
    )  # in the authority's order, so that new ones are added in it
    if rows:
        before = {
            wanted.ids[row]: there.metadatas[at_there[wanted.ids[row]]] for row in rows if wanted.ids[row] in kept
        }
        _upsert(collection, wanted, rows, before)
    return Applied(len(missing), len(different), len(extra))


def _upsert(
    collection: SideCollection, wanted: Batch, rows: Sequence[int], before: dict[str, dict[str, Any] | None]
) -> None:
    """Write these rows of ``wanted``. ``before``: the metadata that records have which stay."""
    metadatas = [_merging(wanted.metadatas[row], before.get(wanted.ids[row])) for row in rows]
    documents = [wanted.documents[row] for row in rows]
    uris = [wanted.uris[row] for row in rows]
    collection.write(
        "upsert",
        [wanted.ids[row] for row in rows],
        np.ascontiguousarray(wanted.embeddings[list(rows)], dtype=np.float32),
        documents if any(text is not None for text in documents) else None,
        uris if any(text is not None for text in uris) else None,
        metadatas if any(metadatas) else None,
    )


def _merging(wanted: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """What, merged into ``before``, is ``wanted``."""
    patch: dict[str, Any] = dict(wanted or {})
    for key in before or {}:
        patch.setdefault(key, None)
    return patch or None


def _loses_a_text(wanted: Batch, row: int, there: Batch, other: int) -> bool:
    return (wanted.documents[row] is None and there.documents[other] is not None) or (
        wanted.uris[row] is None and there.uris[other] is not None
    )
