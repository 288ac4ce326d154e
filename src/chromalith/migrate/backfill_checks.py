"""What can be known before a backfill writes anything: whether the target can hold the source's records at all.

Distance and dimension cost a request each. Where a target limits documents or keys (Chroma Cloud), every record is read once for it: that
is as long as half a copy, and nothing is half done when it fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from chromalith.errors import Invalid
from chromalith.migrate.backfill_ids import Reject
from chromalith.migrate.port import Limits, SideCollection
from chromalith.migrate.throttle import Throttle
from chromalith.transfer.port import Batch

SHOWN = 10


class Refused(Invalid):
    """The target does not take some records; none of them was written.

    Args:
        rejects: which, and why.
    """

    def __init__(self, rejects: Sequence[Reject]) -> None:
        self.rejects = list(rejects)
        shown = "; ".join(f"{each.collection}/{each.id}: {each.reason}" for each in self.rejects[:SHOWN])
        more = f"; and {len(self.rejects) - SHOWN} more" if len(self.rejects) > SHOWN else ""
        super().__init__(
            f"the target does not take these records rejects={len(self.rejects)} {shown}{more}",
            hint="correct or delete them at the source, or leave them out with --skip-rejects",
        )


def check_fit(source: SideCollection, target: SideCollection) -> None:
    """Raise ``Invalid`` if the two measure another distance, or have another dimension."""
    spaces = source.definition.space, target.definition.space
    if spaces[0] != spaces[1]:
        raise Invalid(
            f"the collection measures another distance name={source.name!r} source={spaces[0]} target={spaces[1]}",
            hint="delete the target's collection, and say `chromalith migrate start` again",
        )
    dimensions = source.dimension, target.dimension
    if None not in dimensions and dimensions[0] != dimensions[1]:
        raise Invalid(
            f"the embeddings have another dimension name={source.name!r} source={dimensions[0]} target={dimensions[1]}",
            hint="delete the target's collection, or migrate to another database",
        )


def is_limited(limits: Limits) -> bool:
    """Whether records must be looked at one by one."""
    return limits.metadata_key_bytes is not None or limits.document_bytes is not None


def look_for_rejects(source: SideCollection, ids: Sequence[str], limits: Limits, throttle: Throttle) -> list[Reject]:
    """Read these records, and say which are beyond ``limits``."""
    found: list[Reject] = []
    for batch in throttle.read(source, ids):
        found += beyond(source.name, batch, limits)
    return found


def beyond(name: str, batch: Batch, limits: Limits) -> list[Reject]:
    """The records of ``batch`` that a side with these limits does not take."""
    found = []
    for record_id, document, metadata in zip(batch.ids, batch.documents, batch.metadatas, strict=True):
        reasons = []
        if limits.document_bytes is not None and document is not None:
            size = len(document.encode("utf-8", "surrogatepass"))
            if size > limits.document_bytes:
                reasons.append(f"the document is too long bytes={size} limit={limits.document_bytes}")
        if limits.metadata_key_bytes is not None:
            for key in metadata or {}:
                size = len(key.encode("utf-8", "surrogatepass"))
                if size > limits.metadata_key_bytes:
                    reasons.append(
                        f"a metadata key is too long key={key!r} bytes={size} limit={limits.metadata_key_bytes}"
                    )
        if reasons:
            found.append(Reject(name, record_id, "; ".join(reasons)))
    return found
