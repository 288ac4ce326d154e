"""All the evidence that a migration's store holds, as one value: the input of the checklist and of the report.

Only reads, and neither side is opened: it can be asked at any time, also long after the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chromalith.errors import ChromalithError, Corrupt
from chromalith.migrate.evidence.cost import CostFound, Counted
from chromalith.migrate.evidence.record import SCAN, Record, records
from chromalith.migrate.journal_reader import JournalReader
from chromalith.migrate.looking import looked_at
from chromalith.migrate.places import Place
from chromalith.migrate.presence import Presence, read_all
from chromalith.migrate.shadow_stats import ShadowStats, summed
from chromalith.migrate.state import State
from chromalith.migrate.states import States
from chromalith.migrate.workflow.parts import lag_of
from chromalith.migrate.workflow.ports import Lag


@dataclass(frozen=True, slots=True)
class Part:
    """One component of the infrastructure, and whether it answers. ``problem`` is ``None`` if it does."""

    name: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything.

    Attributes:
        now_us: when it was gathered.
        producers: all client processes that were ever seen, also ended ones.
        lag: of the journal; ``None``: it could not be read.
        store: the URL of the state's store.
        scans: records, the oldest first.
        cost: before and after; ``None``: not known enough to compute.
        cost_missing: what is missing then.
        stack: components on AWS; ``None``: nobody looked.
        unreadable: what could not be read, and why.
    """

    now_us: int
    store: str
    state: State
    producers: Sequence[Presence] = ()
    lag: Lag | None = None
    shadow: ShadowStats = field(default_factory=ShadowStats)
    scans: Sequence[Record] = ()
    cost: CostFound | None = None
    cost_missing: str = ""
    stack: Sequence[Part] | None = None
    unreadable: Sequence[str] = ()

    @property
    def scan(self) -> Record | None:
        """The newest scan."""
        return self.scans[-1] if self.scans else None

    @property
    def last_scans(self) -> list[Record]:
        """The newest scan of each folder: a clean one of another says nothing of those before, one of a folder around it does."""
        newest: dict[str, Record] = {}
        for each in self.scans:
            root = str(each.found.get("root"))
            newest = {name: kept for name, kept in newest.items() if name != root and not name.startswith(f"{root}/")}
            newest[root] = each
        return list(newest.values())

    @property
    def verify(self) -> Mapping[str, Any]:
        """The last comparison; ``{}``: none."""
        return self.state.verify

    @property
    def counted(self) -> Counted:
        """What the clients counted together, and the time in which any of them was there."""
        seconds = _covered([(each.started_us, each.seen_us) for each in self.producers if each.started_us > 0]) / 1e6
        writes = sum(
            max(each.writes.values(), default=0) for each in self.producers
        )  # each is written to both sides: one call
        reads = sum(sum(each.reads.values()) for each in self.producers)
        return Counted(writes, reads, seconds, _records(self.state))

    @property
    def processes(self) -> int:
        """How many processes were seen; one may have opened several clients."""
        return len({(each.host, each.pid) for each in self.producers})

    def together(self, since_us: int = 0) -> tuple[int, int | None]:
        """The most processes that wrote in the same minute while all of them lived, and the minute (since 1970).

        Only minutes that began at ``since_us`` or later count."""
        minutes: dict[int, dict[tuple[str, int], tuple[int, int]]] = {}
        for each in self.producers:
            for minute, count in each.write_minutes.items():
                if count and int(minute) * 60_000_000 >= since_us:
                    lives = minutes.setdefault(int(minute), {})
                    before = lives.get((each.host, each.pid), (each.started_us, each.seen_us))
                    lives[each.host, each.pid] = min(before[0], each.started_us), max(before[1], each.seen_us)
        most = {minute: _at_once(list(lives.values())) for minute, lives in minutes.items()}
        best = max(most, key=lambda minute: (most[minute], minute), default=None)
        return (0, None) if best is None else (most[best], best)


def _at_once(lives: Sequence[tuple[int, int]]) -> int:
    """The most of these stretches of time that have a moment in common: one that was started after another ended is no second."""
    return max((sum(begin <= moment <= end for begin, end in lives) for moment, _ in lives), default=0)


def _covered(lives: Sequence[tuple[int, int]]) -> int:
    """How long at least one of these stretches of time went on: a month between two of them is no time in which nothing was written."""
    covered = until = 0
    for begin, end in sorted(lives):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered


def gather(place: Place) -> Evidence:
    """Read all of it but cost and stack. What is damaged is named, and counts as not there. The right to read is enough.

    Raises ``NotFound`` (no such migration), ``Unavailable``, ``Corrupt`` (its state)."""
    place, _ = looked_at(place)
    state = States(place).get()
    unreadable: list[str] = []
    producers = read_all(place)
    stats = []
    for each in producers:
        try:
            if each.shadow:
                stats.append(ShadowStats.decode(each.shadow))
        except Corrupt as error:
            unreadable.append(f"shadow reads of client {each.id}: {error.message}")
    try:
        journal = JournalReader(place, timing=state.timing)
        lag: Lag | None = lag_of(journal.entries())
        journal.let_go()
    except ChromalithError as error:
        lag = None
        unreadable.append(f"the journal: {error.message}")
    try:
        scans = records(place, SCAN)
    except Corrupt as error:
        scans = []
        unreadable.append(error.message)
    return Evidence(
        now_us=place.clock.now_us(),
        store=place.store.url,
        state=state,
        producers=producers,
        lag=lag,
        shadow=summed(each for each in stats if each.since >= state.shadow_since),  # older ones are of another attempt
        scans=scans,
        unreadable=unreadable,
    )


def _records(state: State) -> int | None:
    """How many records there are, as far as the last comparison or the copy knows."""
    for found in (state.verify, state.backfill):
        counts = [found.get(name) for name in ("matching", "missing", "different")]
        if all(isinstance(count, int) for count in counts):
            return sum(int(count) for count in counts if count is not None)
        for name in ("records", "copied", "done", "total"):
            if isinstance(found.get(name), int):
                return int(found[name])
    return None
