"""The other parts of a migration as the workflow asks for them (:class:`~chromalith.migrate.workflow.ports.Parts`), over the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from typing import Self

from chromalith.errors import Corrupt
from chromalith.migrate import presence
from chromalith.migrate.entries import Listing
from chromalith.migrate.journal import Journal
from chromalith.migrate.journal_reader import JournalReader
from chromalith.migrate.looking import LookingStore, looked_at
from chromalith.migrate.mend import space_of
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, Sides
from chromalith.migrate.reconcile import Reconciler
from chromalith.migrate.records import differences
from chromalith.migrate.shadow_stats import ShadowStats, summed
from chromalith.migrate.state import State, Timing
from chromalith.migrate.states import States, others
from chromalith.migrate.workflow.ports import ClientSeen, Drained, GoOn, Lag, ShadowSeen, Touched

PIECE = 2_000
"""Ids read at once while writes are frozen: a side cuts it further, and the time is looked at in between."""
NAMED_MAX = 30


class StoreParts:
    """The parts that keep their objects in the migration's store.

    Args:
        place: where.
        sides: opens both; called by ``reconcile``, ``drain`` and ``differing`` only.
        journal: of the same place; one of its own if left out.
    """

    def __init__(self, place: Place, sides: Callable[[], Sides], journal: Journal | None = None) -> None:
        self._place = place
        self._sides = sides
        self._states = States(place)
        self._opened = journal
        self._look: LookingStore | None = None

    @property
    def own_clock(self) -> bool:
        return self._look is not None and self._look.own_clock

    def looking(self) -> Self:
        other = copy(self)
        other._place, other._look = looked_at(self._place)
        return other

    def _journal(self) -> Journal:
        """With the timing that the migration has now; a closing that was read once is not read again."""
        if self._opened is None:
            self._opened = Journal(self._place, client="chromalith migrate")
        state = self._states.find()
        self._opened.timing = Timing() if state is None else state.timing
        return self._opened

    def lag(self) -> Lag:
        if self._look is None:
            return lag_of(self._journal().entries())
        state = self._states.find()
        reader = JournalReader(self._place, timing=None if state is None else state.timing)
        try:
            return lag_of(reader.entries())
        finally:
            reader.let_go()

    def _reconciler(self) -> Reconciler:
        return Reconciler(self._journal(), self._states, self._sides())

    def reconcile(self) -> None:
        self._reconciler().pass_once()

    def drain(self, until: Callable[[], bool], freeze_id: str) -> Drained:
        done = self._reconciler().drain(until, freeze_id=freeze_id)
        unreadable = tuple(f"it can't be read key={key}" for key in done.unreadable)
        return Drained(done.empty, done.touched, done.left + len(unreadable), unreadable + done.reasons)

    def differing(self, touched: Touched, go_on: GoOn) -> list[str]:
        found: list[str] = []
        for name, ids in touched.items():
            for some in _pieces(sorted(ids)):
                go_on()
                found += [f"{name}/{record_id}" for record_id in _differing(self._sides(), name, some)]
                if len(found) >= NAMED_MAX:
                    return found[:NAMED_MAX]
        return found

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(each.id, each.app, each.epoch, each.seen_s, each.second_failures, each.read_fallbacks)
            for each in presence.live(self._place)
        ]

    def others(self) -> Sequence[State]:
        return others(self._place)

    def shadow(self) -> ShadowSeen:
        state = self._states.find()
        since = 0 if state is None else state.shadow_since
        found: list[ShadowStats] = []
        for each in presence.read_all(self._place):
            with suppress(Corrupt):  # of another release: it proves nothing either way
                found += [ShadowStats.decode(each.shadow)] if each.shadow else []
        return shadow_seen(summed(each for each in found if each.since >= since))

    def close(self) -> None:
        if self._opened is not None:
            self._opened.stop()


def lag_of(listing: Listing) -> Lag:
    """What gates look at, of one look at the journal. An object that can't be read counts: nobody knows what it names."""
    under_way = [
        item.modified_us for item in listing.touched if any(item.under_way(index) for index in range(item.entries))
    ]
    return Lag(
        entries=listing.open + listing.ended + len(listing.unreadable),
        open=listing.open,
        oldest_s=listing.oldest_s,
        oldest_open_s=max(0, listing.date_us - min(under_way, default=listing.date_us)) / 1_000_000,
        unreadable=len(listing.unreadable),
        missed=listing.failed + listing.abandoned,
    )


def shadow_seen(stats: ShadowStats) -> ShadowSeen:
    """What gates look at. A read that the target refused, or answered too late, differs: its caller would have got nothing."""
    source, target = (stats.latency(role).percentile_s(50) for role in (Role.SOURCE, Role.TARGET))
    return ShadowSeen(
        compared=stats.total.judged,
        mismatched=stats.total.disagreed,
        dropped=stats.total.dropped + stats.total.too_large,
        source_p50_ms=None if source is None else 1_000 * source,
        target_p50_ms=None if target is None else 1_000 * target,
        lately_compared=stats.lately.judged,
        lately_mismatched=stats.lately.disagreed,
    )


def _pieces(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PIECE):
        yield ids[start : start + PIECE]


def _differing(sides: Sides, name: str, ids: list[str]) -> list[str]:
    """Which of ``ids`` are not equal on both sides; a collection that neither side has is equal."""
    there = [name in sides[role].names() for role in Role]
    if not all(there):
        return ids if any(there) else []
    source, target = (sides[role].collection(name) for role in (Role.SOURCE, Role.TARGET))
    return [each.id for each in differences(source.read(ids), target.read(ids), space_of(source, target))]
