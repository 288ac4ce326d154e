"""An overlay's records as parts to search, without building all of them anew after each write.

Turning records into arrays costs time in proportion to their number (60,000 of 384 dimensions: 0.1 s), and a process that writes and
reads by turns has a new overlay at each read. So the arrays of an earlier overlay of the same version are kept as a *base*: records
that have changed since are masked in it and stand in a small part of their own. When that part has grown to a quarter of the base, a
new base is built: each record is then copied a bounded number of times, as in a log-structured merge.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from chromalith.engine.part import ArrowPart, MaskedPart, Part
from chromalith.model.record import Record

TOP_RECORDS_MAX = 1_000  # below this a base is not worth its masks
TOP_FRACTION_MAX = 0.25


class OverlayParts:
    """Builds the parts of successive overlays of one version. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._base: list[Record] = []
        self._part: ArrowPart | None = None

    def of(self, records: Mapping[str, Record | None]) -> list[Part]:
        """The parts of an overlay whose changed ids map to ``records``; each live record is live in exactly one of them.

        A record is told from an older one of its id by identity: a fold keeps the object of what it does not change.
        """
        with self._lock:
            kept = [records.get(record.id) is record for record in self._base]
            base = {record.id for record, still in zip(self._base, kept, strict=True) if still}
            top = [record for record in records.values() if record is not None and record.id not in base]
            if len(top) > max(TOP_RECORDS_MAX, TOP_FRACTION_MAX * len(base)):
                self._base = _by_seq([record for record in records.values() if record is not None])
                self._part = _part(self._base)
                return [self._part]
            parts: list[Part] = []
            if self._part is not None and base:
                parts.append(self._part if all(kept) else MaskedPart(self._part, np.array(kept, np.bool_)))
            if top:
                parts.append(_part(_by_seq(top)))
            return parts


def _by_seq(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.seq)


def _part(records: list[Record]) -> ArrowPart:
    return ArrowPart(
        seq=np.array([record.seq for record in records], np.int64),
        ids=pa.array([record.id for record in records], pa.large_string()),
        vectors=np.stack([record.embedding for record in records]),
        documents=pa.array([record.document for record in records], pa.large_string()),
        uris=pa.array([record.uri for record in records], pa.large_string()),
        metadata=pa.array([record.metadata for record in records], pa.large_string()),
    )
