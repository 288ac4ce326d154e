"""What a compaction is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chromalith.coord.lease import HeldBy
from chromalith.coord.lease_table import LEASE_S
from chromalith.engine.index import INDEX_THRESHOLD, IndexConfig
from chromalith.model.folded import INLINE_BYTES_MAX
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.order import Listed
from chromalith.model.plan import MergePolicy

FOLD_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """The compactor's numbers.

    Attributes:
        index_threshold: rows at which a segment gets an index.
        index: how it is built.
        merge: the merge policy.
        fold_deltas_max, fold_bytes_max: how much one fold takes: 512 MiB of deltas are about 2 GiB of working memory.
        folded_inline_bytes_max: how much of the folded set stays in the manifest, as JSON; tests lower it.
        fold_grace_s: how long after its fold a delta stays. Readers rely on 60 s (:mod:`chromalith.read.reader`); tests shorten it.
        lease: whether to work under a lease. Without, several compactors do the same work, and nothing else is different.
        lease_s: for how long a holder's record must stand unchanged before others take over.
        heartbeat: whether to beat while a job runs, in threads and processes; without, the lease is renewed between jobs only.
    """

    index_threshold: int = INDEX_THRESHOLD
    index: IndexConfig = IndexConfig()
    merge: MergePolicy = MergePolicy()
    fold_deltas_max: int = 10_000
    fold_bytes_max: int = 512 * 2**20
    folded_inline_bytes_max: int = INLINE_BYTES_MAX
    fold_grace_s: float = FOLD_GRACE_S
    lease: bool = True
    lease_s: float = LEASE_S
    heartbeat: bool = True


@dataclass(slots=True)
class Outcome:
    """What a run did to one collection.

    Attributes:
        collection: which.
        version: the current version afterwards.
        folded, operations: deltas folded, and operations in them.
        merged: segments that went into merges.
        swept: folded deltas deleted.
        quarantined: deltas set aside as corrupt, with the reason.
        bytes_written: segments, indexes and deletes.
        waiting: deltas that were listed and are not folded yet; those that are not known to be, where that was all that was looked at.
        oldest_waiting_us: the store's timestamp of the first of these; ``None``: there are none.
        looked: whether the deltas were listed at all.
        live: records of the version.
        quarantined_now: deltas that the version has set aside as corrupt, by whichever run. Both are ``None`` before a version was read.
        lost_races: how often somebody else's publish came first, and a job was put onto it, started again or given up.
        published: the versions that were published.
        held_by: who has the lease of what was to be done and was left to them; ``None``: nothing was left.
        out_of_time: whether a fold, or the sweep of what was folded, was left because it is not expected to end in time
            (:mod:`chromalith.compaction.pace`).
        merges_left: the same of merges: reads are slower until somebody with more time does them.
    """

    collection: CollectionId
    version: int = 0
    folded: int = 0
    operations: int = 0
    merged: int = 0
    swept: int = 0
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    bytes_written: int = 0
    waiting: int = 0
    published: list[int] = field(default_factory=list)
    held_by: HeldBy | None = None
    oldest_waiting_us: int | None = None
    looked: bool = False
    live: int | None = None
    quarantined_now: int | None = None
    lost_races: int = 0
    out_of_time: bool = False
    merges_left: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing was done."""
        return not self.published and not self.swept

    def saw(self, manifest: Manifest) -> None:
        """Note which version is current."""
        self.version = manifest.version
        self.live = manifest.live
        self.quarantined_now = len(manifest.quarantined)

    def left(self, waiting: Sequence[Listed]) -> None:
        """Note which deltas wait, in their order."""
        self.looked = True
        self.waiting = len(waiting)
        self.oldest_waiting_us = waiting[0].modified_us if waiting else None

    def then(self, later: Outcome) -> Outcome:
        """What this run and a later one did together."""
        return Outcome(
            self.collection,
            max(self.version, later.version),
            self.folded + later.folded,
            self.operations + later.operations,
            self.merged + later.merged,
            self.swept + later.swept,
            [*self.quarantined, *later.quarantined],
            self.bytes_written + later.bytes_written,
            later.waiting,
            [*self.published, *later.published],
            later.held_by,
            later.oldest_waiting_us,
            later.looked,
            later.live,
            later.quarantined_now,
            self.lost_races + later.lost_races,
            later.out_of_time,
            later.merges_left,
        )


def as_json(outcome: Outcome, name: str | None) -> dict[str, Any]:
    """An outcome for JSON; ``name``: the collection's, if somebody knows it."""
    return {
        "result": "compacted" if not outcome.idle
        else "held" if outcome.held_by is not None
        else "out_of_time" if outcome.out_of_time
        else "waiting" if outcome.waiting
        else "already_compacted",
        "collection": name,
        "id": outcome.collection,
        "version": outcome.version,
        "published": outcome.published,
        "deltas_folded": outcome.folded,
        "operations": outcome.operations,
        "segments_merged": outcome.merged,
        "deltas_swept": outcome.swept,
        "deltas_waiting": outcome.waiting,
        "quarantined": [{"delta": delta, "reason": reason} for delta, reason in outcome.quarantined],
        "bytes_written": outcome.bytes_written,
        "held_by": None if outcome.held_by is None else outcome.held_by.owner,
    }  # fmt: skip


Progress = Callable[[str, Outcome], None]
