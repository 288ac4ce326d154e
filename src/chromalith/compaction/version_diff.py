"""What changed between two versions: ids added, removed and changed, from the id tables alone.

Equal checksums mean equal records: nothing is read. Else only what the two do not share is: of a segment that only one of them names its
live rows, of one that both name the rows that are live in one of them (none, where the deletes are the same). A row that is
live in both is the same record. So the cost follows the change, but for merges, which rewrite what they keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.compaction.segment_reader import checked_body, read_deletes
from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.ids import JobId
from chromalith.model.manifest import Manifest, Segment
from chromalith.model.segment import digests
from chromalith.store.port import Store

_COLUMNS = ["id", "row", "content_hash", "embedding_hash"]


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What the newer of two versions has that the older has not, and so on.

    Attributes:
        before, after: the versions.
        added, removed: ids that only the second, or only the first, has; in order of their code points.
        changed: ids that both have, with another content or embedding.
        segments_read: how many id tables had to be read.
    """

    before: Manifest
    after: Manifest
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    segments_read: int

    @property
    def same(self) -> bool:
        return not (self.added or self.removed or self.changed)


def diff_versions(store: Store, before: Manifest, after: Manifest) -> VersionDiff:
    """Compare the records of two versions of a collection.

    Raises ``Swept`` (one of them was swept meanwhile), ``Corrupt``.
    """
    if (before.content, before.embedding) == (after.content, after.embedding):
        return VersionDiff(before, after, (), (), (), 0)
    differ = _Side(store, before), _Side(store, after)
    old, new = differ[0].records(differ[1]), differ[1].records(differ[0])
    changed = sorted(record_id for record_id in old.keys() & new.keys() if old[record_id] != new[record_id])
    return VersionDiff(
        before,
        after,
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(changed),
        differ[0].read + differ[1].read,
    )


class _Side:
    """One of the versions."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._dead: dict[JobId, npt.NDArray[np.uint32]] = {}
        self.segments = {segment.id: segment for segment in manifest.segments}
        self.read = 0

    def dead(self, segment: Segment) -> npt.NDArray[np.uint32]:
        if segment.id not in self._dead:
            self._dead[segment.id] = read_deletes(self._store, self._manifest.collection, segment)
        return self._dead[segment.id]

    def records(self, other: _Side) -> dict[str, bytes]:
        """The ids that are live here in rows that are not live in ``other``, with both hashes."""
        found: dict[str, bytes] = {}
        for segment, rows in self._differing(other):
            if len(rows):
                self.read += 1
                found |= self._hashes(segment, rows)
        return found

    def _differing(self, other: _Side) -> Iterator[tuple[Segment, npt.NDArray[np.int64]]]:
        for segment in self._manifest.segments:
            theirs = other.segments.get(segment.id)
            if theirs is None:
                yield segment, np.setdiff1d(np.arange(segment.rows), self.dead(segment))
            elif theirs.deletes != segment.deletes:
                yield segment, np.setdiff1d(other.dead(theirs), self.dead(segment)).astype(np.int64)

    def _hashes(self, segment: Segment, rows: npt.NDArray[np.int64]) -> dict[str, bytes]:
        key = layout.segment_file_key(self._manifest.collection, segment.id, layout.IDS_FILE)
        body = checked_body(self._store, key, segment.files[layout.IDS_FILE])
        try:
            table = pq.read_table(arrow_reader(body), columns=_COLUMNS)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise Corrupt(f"not an id table key={key}", hint="see `chromalith snapshot list`") from error
        wanted = np.isin(table.column("row").to_numpy(), rows)
        table = table.filter(pa.array(wanted))
        both = np.hstack([digests(table.column("content_hash")), digests(table.column("embedding_hash"))])
        return {record_id: both[i].tobytes() for i, record_id in enumerate(table.column("id").to_pylist())}
