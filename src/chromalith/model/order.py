"""The order of deltas: by the store's timestamp, then by delta id. Overlay and fold share it, so they agree.

It follows each writer's own order, causality, and real time at the resolution of the store's clock, whatever the writers'
clocks say. A fold takes a *prefix* of it, and only of deltas that are at least ``settle_s`` old by the store's own date: else a delta whose
timestamp precedes one that was already folded could appear later, and two writers' operations would change places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from chromalith.model.folded import FoldedLookup
from chromalith.model.ids import DeltaId


@dataclass(frozen=True, slots=True, order=True)
class Listed:
    """A delta as a listing shows it. Compares in the protocol's order."""

    modified_us: int
    id: DeltaId
    size: int


def in_order(listed: Iterable[Listed]) -> list[Listed]:
    """The protocol's order, each (writer, counter) once: of deltas that carry one call twice, the first counts."""
    seen: set[tuple[str, int]] = set()
    result: list[Listed] = []
    for delta in sorted(listed):
        call = (delta.id.writer, delta.id.counter)
        if call not in seen:
            seen.add(call)
            result.append(delta)
    return result


def pending(listed: Iterable[Listed], folded: FoldedLookup, quarantined: Collection[str]) -> list[Listed]:
    """The listed deltas that count and are not folded yet, in order: what an overlay applies, and what a fold chooses from.

    The quarantined ones go first: without this, an unreadable delta would still hide the retry of its call. Raises what ``folded`` raises.
    """
    asked = [delta for delta in listed if not quarantined or str(delta.id) not in quarantined]
    found = folded.find_all([delta.id for delta in asked])
    return in_order(delta for delta, run in zip(asked, found, strict=True) if run is None)


def settled_prefix(
    ordered: Sequence[Listed], *, date_us: int, settle_s: float, deltas_max: int, bytes_max: int
) -> list[Listed]:
    """The deltas that a fold may take: a prefix of the order, settled at the store's date before its LIST, within the limits.

    At least one delta is taken if one is settled, however large it is.
    """
    latest_us = date_us - round(settle_s * 1_000_000)
    chosen: list[Listed] = []
    size = 0
    for delta in ordered:
        if delta.modified_us > latest_us or len(chosen) == deltas_max or (chosen and size + delta.size > bytes_max):
            break
        chosen.append(delta)
        size += delta.size
    return chosen
