"""One part of a collection on two sides: which of its records differ now, with as few reads as the checksums allow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from chromalith.migrate.diff_kept import Found, Hashes, among, hashed, hashes_of
from chromalith.migrate.mend import space_of
from chromalith.migrate.mend_catalog import same_description
from chromalith.migrate.port import SideCollection
from chromalith.migrate.records import Difference, differences
from chromalith.model.buckets import Buckets, bucket_of
from chromalith.model.checksum import content_digest, embedding_digest
from chromalith.model.segment import id_hash
from chromalith.transfer.port import Batch, Progress

PIECE = 2_000
"""Records in memory at once, of each side and thread: 25 MB of embeddings of 3,072 dimensions."""

Known = tuple[Buckets | None, Buckets | None]
"""The checksums that the source and the target know of themselves."""


class Parts:
    """Compares parts of one collection. Safe to share between threads.

    Args:
        source, target: the collection.
        known: their checksums.
        lonely: ids that only one side listed. They are read whatever the checksums say, which are of an earlier moment.
        done: told of each piece of ids that is settled, how many.
    """

    def __init__(
        self, source: SideCollection, target: SideCollection, known: Known, lonely: Hashes, done: Callable[[int], None]
    ) -> None:
        self._source = source
        self._target = target
        self._known = known
        self._lonely = lonely
        self._done = done

    def part(self, ids: Sequence[str]) -> Found:
        """What differs among ``ids``, which are all ids of some buckets on either side."""
        return Found(tuple(self._read(ids, self._suspects(ids))), hashes_of(ids))

    def rest(self, ids: Sequence[str], before: Found) -> Found:
        """The same for a part that an interrupted run has compared: only what that had not seen, or one side lacks now, is read."""
        new = ~among(ids, before.compared) | among(ids, self._lonely)
        suspects = [record_id for record_id, is_new in zip(ids, new.tolist(), strict=True) if is_new]
        found = self._read(ids, suspects)
        read = set(suspects)
        return Found((*(each for each in before.differences if each.id not in read), *found), hashes_of(ids))

    def _read(self, ids: Sequence[str], suspects: Sequence[str]) -> list[Difference]:
        self._done(len(ids) - len(suspects))
        found: list[Difference] = []
        for start in range(0, len(suspects), PIECE):
            some = suspects[start : start + PIECE]
            found += look_again(self._source, self._target, some)
            self._done(len(some))
        return found

    def _suspects(self, ids: Sequence[str]) -> Sequence[str]:
        source, target = self._known
        if source is not None and target is not None:
            return self._chosen(ids, set(source.differing(target)))
        known = source or target
        # What stock Chroma returns of a cosine collection never adds up, so there sums would only cost a read.
        if known is None or space_of(self._source, self._target) == "cosine":
            return ids
        return self._chosen(ids, self._differing(ids, known, self._target if source is not None else self._source))

    def _chosen(self, ids: Sequence[str], buckets: set[int]) -> list[str]:
        """Those of some buckets, and those that only one side listed."""
        hashes = hashed(ids)
        chosen = np.isin(bucket_of(hashes), list(buckets)) | np.isin(hashes, self._lonely)
        return [record_id for record_id, is_chosen in zip(ids, chosen.tolist(), strict=True) if is_chosen]

    @staticmethod
    def _differing(ids: Sequence[str], known: Buckets, other: SideCollection) -> set[int]:
        """The buckets of ``ids`` in which what ``other`` holds does not add up to what is known of its opposite."""
        sums = Buckets.empty()
        for start in range(0, len(ids), PIECE):
            sums = sums + sums_of(other.read(ids[start : start + PIECE]))
        mine = set(bucket_of(id_hash(ids)).tolist()) if len(ids) else set()
        return mine & set(sums.differing(known))


class Meter:
    """How many records are settled, told from several threads.

    Args:
        progress: told the records done, and all of those that are known of so far.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._seen = 0
        self._total = 0

    def expect(self, records: int) -> None:
        """There are as many more."""
        self._tell(0, records)

    def done(self, records: int) -> None:
        """As many more are settled."""
        self._tell(records, 0)

    def _tell(self, seen: int, total: int) -> None:
        with self._lock:
            self._seen += seen
            self._total += total
            self._progress(self._seen, self._total)


def sums_of(batch: Batch) -> Buckets:
    """The checksums by bucket of some records."""
    if not len(batch):
        return Buckets.empty()
    columns = zip(batch.ids, batch.documents, batch.uris, batch.metadatas, strict=True)
    content = np.frombuffer(b"".join(content_digest(*record) for record in columns), np.uint8).reshape(-1, 32)
    rows = zip(batch.ids, batch.embeddings, strict=True)
    embedding = np.frombuffer(b"".join(embedding_digest(i, row) for i, row in rows), np.uint8).reshape(-1, 32)
    return Buckets.of(id_hash(batch.ids), content, embedding)


def look_again(source: SideCollection, target: SideCollection, ids: Sequence[str]) -> list[Difference]:
    """What differs among ``ids`` now; the records of one piece at a time are in memory."""
    space = space_of(source, target)
    found: list[Difference] = []
    for start in range(0, len(ids), PIECE):
        some = ids[start : start + PIECE]
        found += differences(source.read(some), target.read(some), space)
    return found


def definition_of_both(source: SideCollection, target: SideCollection) -> tuple[str, ...]:
    """What of the collections themselves differs: ``space``, ``metadata``, ``embedding_function``."""
    found = []
    if source.definition.space != target.definition.space:
        found.append("space")
    if not same_description(source, target):
        found.append("metadata")
    if (name := _embeds(source)) is not None and name != _embeds(target):
        found.append("embedding_function")
    return tuple(found)


def _embeds(collection: SideCollection) -> object:
    """The embedding function that a collection names for whoever gives texts; ``None``: none, which is Chroma's default one."""
    named = collection.definition.configuration.get("embedding_function")
    is_own = isinstance(named, Mapping) and named.get("type") == "known" and named.get("name") != "default"
    return named if is_own else None
