"""One line of the checklist: a question that evidence answers. Nobody ticks it by hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What the evidence says. Never rounded: what nobody looked at is not met, and not unmet either."""

    MET = "met"
    NOT_MET = "not_met"
    NO_EVIDENCE = "no_evidence"


@dataclass(frozen=True, slots=True)
class Item:
    """A criterion of success, or a verification step of a phase.

    Attributes:
        id: stable.
        phase: 1 to 6 as in the guide; 0 for the criteria of success.
        title: what must hold.
        outcome: whether it does.
        evidence: what was looked at, a sentence each.
        todo: how to get the evidence, or how to meet it; ``""`` if it is met.
    """

    id: str
    phase: int
    title: str
    outcome: Outcome
    evidence: tuple[str, ...] = ()
    todo: str = ""

    def as_json(self) -> dict[str, object]:
        """The shape in ``chromalith migrate checklist --json``."""
        return {
            "id": self.id,
            "phase": self.phase,
            "title": self.title,
            "outcome": str(self.outcome),
            "evidence": list(self.evidence),
            "todo": self.todo,
        }


@dataclass(frozen=True, slots=True)
class Question:
    """An item that has no answer yet."""

    id: str
    phase: int
    title: str

    def met(self, *evidence: str) -> Item:
        return Item(self.id, self.phase, self.title, Outcome.MET, evidence)

    def not_met(self, *evidence: str, todo: str) -> Item:
        return Item(self.id, self.phase, self.title, Outcome.NOT_MET, evidence, todo)

    def no_evidence(self, *evidence: str, todo: str) -> Item:
        return Item(self.id, self.phase, self.title, Outcome.NO_EVIDENCE, evidence, todo)
