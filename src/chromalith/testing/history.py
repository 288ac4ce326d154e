"""What the actors of a simulated history did and saw: the calls, with when they began and ended and what they answered.

Times are the simulation's own, in microseconds: the true time, which no actor can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from chromalith.testing.reference import Change, Row

SECOND_US = 1_000_000


READING = "reading"
"""What a process is at while it reads: it must not write then (P7)."""


class Violation(AssertionError):
    """A promise or an invariant does not hold. The product is wrong, or the checker is."""


class Answer(StrEnum):
    """How a write ended, as its caller was told."""

    NONE = "none"
    """It is under way, or its caller died."""
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """``Unavailable``: it did not happen."""
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Write:
    """One call of a writer, with all attempts under its ``call_id`` if it has one.

    Attributes:
        number: in the history, from 0.
        process: which life of which actor made the last attempt; ``writer-1.0``.
        end_us: when it was acknowledged.
        delta: the id of the delta that the receipt names.
        after: numbers of the writes that the same process had seen in a read at the default level before this one began.
    """

    number: int
    process: str
    changes: tuple[Change, ...]
    call_id: str | None
    start_us: int
    end_us: int | None = None
    answer: Answer = Answer.NONE
    delta: str | None = None
    after: frozenset[int] = frozenset()

    @property
    def ids(self) -> set[str]:
        return {change.id for change in self.changes}


def precedes(a: Write, b: Write, tick_us: int) -> bool:
    """Whether P2 promises that ``a`` comes before ``b``: same process, cause and effect, or a tick of the store's clock between them."""
    if a.end_us is None or a.end_us > b.start_us:
        return False
    return a.process == b.process or a.number in b.after or a.end_us + tick_us <= b.start_us


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """One answered read of a whole collection.

    Attributes:
        process: which life of which actor.
        level: Chroma's name of the read level.
        staleness_us: how old the answer may be, at the levels that allow it.
        rows: the answer, in its order; sequence numbers are not shown by the product, and are 0 here.
        count: what ``count`` answered on the same view.
        version: the version under the overlay.
        overlay: the deltas laid over it, in order.
        own: the deltas that the same process had been acknowledged when the read began.
        token: a delta that the read was told to wait for.
    """

    process: str
    level: str
    staleness_us: int
    start_us: int
    end_us: int
    rows: Mapping[str, Row]
    count: int
    version: int
    overlay: tuple[str, ...]
    own: tuple[str, ...] = ()
    token: str | None = None


@dataclass(slots=True)
class History:
    """Everything that was called and answered."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    pinned: int = 0
    """Reads of a version or a tag that were compared with what that version holds."""

    def begin_write(self, process: str, changes: tuple[Change, ...], call_id: str | None, now_us: int, after: frozenset[int]) -> Write:
        write = Write(len(self.writes), process, changes, call_id, now_us, after=after)
        self.writes.append(write)
        return write
