"""What the workflow asks of the other parts of a migration: the journal, reconciliation, comparison, the clients, and shadow reads.

Only what a gate or a step needs. The real ones are put together in :mod:`chromalith.migrate.workflow.parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chromalith.migrate.state import State

Touched = Mapping[str, frozenset[str]]
"""Ids by the name of their collection."""

GoOn = Callable[[], None]
"""Called between steps of long work: raises if there is no time left for another."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How much the journal holds.

    Attributes:
        entries: that nobody has reconciled yet, ``open`` ones included.
        open: calls that are under way, or whose process died less than ``abandoned_s`` ago.
        oldest_s, oldest_open_s: the age of the oldest of each by the store's dates, seconds; 0 if there is none.
        unreadable: objects that this release can't read; each counts as an entry.
        missed: entries that need a repair, as far as is known: a side's write failed, or the process died. All others only wait to be
            compared, as every call does for a moment.
    """

    entries: int = 0
    open: int = 0
    oldest_s: float = 0.0
    oldest_open_s: float = 0.0
    unreadable: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Drained:
    """Whether the journal is empty, the ids that were compared on the way, and why it is not empty."""

    empty: bool
    touched: Touched = field(default_factory=dict)
    left: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientSeen:
    """A client process that was seen lately.

    Attributes:
        id, app: of the client; what it calls itself.
        epoch: of the state that it follows.
        seen_s: how long ago it said so.
        second_failures: writes that the side which does not count failed.
        read_fallbacks: reads that the target failed, and the source answered.
    """

    id: str
    app: str
    epoch: int
    seen_s: float
    second_failures: int = 0
    read_fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class ShadowSeen:
    """What the shadow reads of all clients found.

    Attributes:
        compared: reads that the other side was asked, too.
        mismatched: of them, those whose caller would not have got the same answer from there.
        dropped: never asked.
        source_p50_ms, target_p50_ms: the median latency of each side; ``None``: nothing was measured.
        lately_compared, lately_mismatched: of the worst stretch of time up to now
            (:attr:`~chromalith.migrate.shadow_stats.ShadowStats.lately`); 0: none stands out.
    """

    compared: int = 0
    mismatched: int = 0
    dropped: int = 0
    source_p50_ms: float | None = None
    target_p50_ms: float | None = None
    lately_compared: int = 0
    lately_mismatched: int = 0

    @property
    def lately_rate(self) -> float:
        """Of those compared lately, 0 to 1."""
        return self.lately_mismatched / self.lately_compared if self.lately_compared else 0.0

    @property
    def mismatch_rate(self) -> float:
        """Of the compared ones, 0 to 1."""
        return self.mismatched / self.compared if self.compared else 0.0

    @property
    def latency_ratio(self) -> float | None:
        """The target's median over the source's."""
        if not self.source_p50_ms or self.target_p50_ms is None:
            return None
        return self.target_p50_ms / self.source_p50_ms


class Parts(Protocol):
    """The other parts. All raise ``Unavailable``."""

    @property
    def own_clock(self) -> bool:
        """Whether what was told so far is dated by this machine's clock, not by the store's."""
        ...

    def looking(self) -> Parts:
        """The same for who carries nothing out: where the store denies the write that asks for its date, this machine's clock does."""
        ...

    def lag(self) -> Lag:
        """How much the journal holds now."""
        ...

    def reconcile(self) -> None:
        """One pass: makes the sides equal on what ended before it began. Does nothing while writes are frozen."""
        ...

    def drain(self, until: Callable[[], bool], freeze_id: str) -> Drained:
        """Passes until the journal is empty or ``until()``, under the freeze that the caller published."""
        ...

    def differing(self, touched: Touched, go_on: GoOn) -> list[str]:
        """What is not equal on both sides among ``touched``, as ``collection/id``; at most some dozens are named."""
        ...

    def clients(self) -> Sequence[ClientSeen]:
        """Those that live."""
        ...

    def others(self) -> Sequence[State]:
        """The other migrations in the same store."""
        ...

    def shadow(self) -> ShadowSeen:
        """What shadow reads found since they were last counted anew."""
        ...

    def close(self) -> None:
        """Let threads go; calling it again is allowed."""
        ...
