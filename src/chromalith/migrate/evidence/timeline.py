"""When a migration was in which phase, read from its audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chromalith.migrate.phases import ENDED, Phase
from chromalith.migrate.state import Change, State


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in one phase, by the wall clocks of those who changed it.

    Attributes:
        begin_us, end_us: microseconds since 1970, half-open.
        is_open: whether it still goes on: then it ends now.
    """

    phase: Phase
    begin_us: int
    end_us: int
    is_open: bool = False

    @property
    def seconds(self) -> float:
        return max(0, self.end_us - self.begin_us) / 1e6


def spans(state: State, now_us: int) -> list[Span]:
    """The phases in the order in which they were entered; one that was entered twice is there twice."""
    entered = [(phase, change.at_us) for change in state.history if (phase := phase_of(change.after)) is not None]
    found: list[tuple[Phase, int]] = []
    for phase, at_us in entered:
        if not found or found[-1][0] is not phase:
            found.append((phase, at_us))
    ends = [at_us for _, at_us in found[1:]]
    result = [Span(phase, begin, end) for (phase, begin), end in zip(found, ends, strict=False)]
    if found:
        phase, begin = found[-1]
        over = phase in ENDED
        result.append(Span(phase, begin, begin if over else max(begin, now_us), is_open=not over))
    return result


def phase_of(text: str) -> Phase | None:
    """The phase that a line of the log names first."""
    word = text.partition(" ")[0]
    return Phase(word) if word in Phase._value2member_map_ else None


def reached(state: State, phase: Phase) -> Change | None:
    """The last change that led into ``phase`` from another; ``None`` if none did."""
    for change in reversed(state.history):
        if phase_of(change.after) is phase and phase_of(change.before) is not phase:
            return change
    return None


def verbs(state: State, verb: str) -> Sequence[Change]:
    """The lines of one verb, the oldest first."""
    return [change for change in state.history if change.verb == verb]
