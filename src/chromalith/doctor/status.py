"""A collection's state in figures: its version, its records and segments, and the deltas that wait to be folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from chromalith.coord.catalog import Named
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.pointer import read_current
from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.order import Listed, pending
from chromalith.session import Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def deltas_by_collection(session: Session, only: CollectionId | None) -> dict[CollectionId, list[Listed]]:
    """All deltas by collection: one listing for the whole store, or for one collection."""
    found: dict[CollectionId, list[Listed]] = {}
    for page in session.store.list(layout.DELTA_ROOT if only is None else layout.delta_prefix(only)):
        for entry in page:
            try:
                cid, delta = layout.parse_delta_key(entry.key)
            except Invalid:
                continue  # not ours
            found.setdefault(cid, []).append(Listed(entry.modified_us, delta, entry.size))
    return found


def status_of(session: Session, named: Named, listed: list[Listed]) -> dict[str, Any]:
    """The figures of one collection; ``listed``: its deltas. Raises ``NotFound`` if it was deleted, or a sweep overtook the look."""
    current = read_current(session.store, named.collection.id)
    manifest = current.manifest
    waiting = pending(listed, Folded(manifest, FoldedParts.from_store(session.store)), {q.delta for q in manifest.quarantined})
    oldest_us = min((each.modified_us for each in waiting), default=None)
    kinds = sorted({segment.index.kind for segment in manifest.segments if segment.index is not None})
    return {
        "name": named.name,
        "id": named.collection.id,
        "dimension": named.collection.dimension,
        "space": named.collection.space,
        "version": manifest.version,
        "published": _moment(current.pointer.modified_us),
        "records": manifest.live,
        "segments": len(manifest.segments),
        "segments_indexed": sum(segment.index is not None for segment in manifest.segments),
        "index": kinds[0] if kinds else None,
        "bytes": manifest.bytes,
        "deltas_waiting": len(waiting),
        "deltas_waiting_bytes": sum(each.size for each in waiting),
        "oldest_waiting_s": None
        if oldest_us is None
        else round(max(0.0, (session.clock.now_us() - oldest_us) / 1e6), 1),
        "quarantined": len(manifest.quarantined),
    }


def _moment(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="seconds").replace("+00:00", "Z")
