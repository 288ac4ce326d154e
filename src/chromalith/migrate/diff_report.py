"""What a comparison of two sides found: exact counts, the fields that differ, and samples. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chromalith.migrate.records import Difference

SAMPLES_MAX = 10
"""Of each kind and collection."""


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """One collection.

    Attributes:
        source_records, target_records: how many ids each side has; ``None``: it does not have the collection.
        matching: records that are equal.
        standing: records that differ, and whose ids no call that is under way or unreconciled has written.
        in_flight: ids that differ and stand in the journal: the next reconciliation decides about them.
        definition: what differs of the collection itself (``collection``, ``space``, ``metadata``, ``embedding_function``).
        out_of_place: records in another order (``None``: not looked at).
        repaired: records that differed and were made equal.
        unread: whether checksums alone showed that all is equal.
        reasons: why something could not be repaired.
    """

    name: str
    source_records: int | None
    target_records: int | None
    matching: int = 0
    standing: tuple[Difference, ...] = ()
    in_flight: tuple[str, ...] = ()
    definition: tuple[str, ...] = ()
    out_of_place: int | None = None
    repaired: int = 0
    unread: bool = False
    reasons: tuple[str, ...] = ()

    def count(self, kind: str) -> int:
        """How many records are ``missing``, ``extra`` or ``different``."""
        return sum(each.kind == kind for each in self.standing)

    @property
    def clean(self) -> bool:
        """Whether nothing stands."""
        return not (self.standing or self.definition or self.out_of_place)

    @property
    def fields(self) -> dict[str, int]:
        """How many records differ in each field."""
        return dict(Counter(name for each in self.standing for name in each.fields).most_common())

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        samples = {kind: _sample(self.standing, kind) for kind in ("missing", "extra", "different")}
        return {
            "name": self.name,
            "clean": self.clean,
            "source_records": self.source_records,
            "target_records": self.target_records,
            "matching": self.matching,
            **{kind: self.count(kind) for kind in samples},
            "in_flight": len(self.in_flight),
            "fields": self.fields,
            "samples": samples,
            "definition": list(self.definition),
            "out_of_place": self.out_of_place,
            "repaired": self.repaired,
            "unread": self.unread,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A whole comparison.

    Attributes:
        epoch: of the state when it began.
        seconds: how long it took, this process's part.
        resumed: parts that an earlier, interrupted run had done.
    """

    collections: tuple[CollectionReport, ...]
    epoch: int
    at_us: int
    seconds: float
    resumed: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing stands anywhere."""
        return all(each.clean for each in self.collections)

    def total(self, what: str) -> int:
        """The sum over the collections of a kind, or of ``matching``, ``repaired``."""
        if what in ("matching", "repaired"):
            return sum(int(getattr(each, what)) for each in self.collections)
        return sum(each.count(what) for each in self.collections)

    def summary(self) -> dict[str, Any]:
        """What the migration's state keeps of it."""
        fields: Counter[str] = Counter()
        for each in self.collections:
            fields.update(each.fields)
        return {
            "at_us": self.at_us,
            "epoch": self.epoch,
            "clean": self.clean,
            **{what: self.total(what) for what in ("matching", "missing", "extra", "different", "repaired")},
            "in_flight": sum(len(each.in_flight) for each in self.collections),
            "fields": dict(fields.most_common(20)),
            "collections": len(self.collections),
            "seconds": round(self.seconds, 3),
        }

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.summary(), "collections": [each.encode() for each in self.collections], "resumed": self.resumed}


def _sample(found: Sequence[Difference], kind: str) -> list[Any]:
    some: Iterable[Difference] = [each for each in found if each.kind == kind][:SAMPLES_MAX]
    return [{"id": each.id, "fields": list(each.fields)} if kind == "different" else each.id for each in some]
