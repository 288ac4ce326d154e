"""What a doctor says: a finding has a stable code, a sentence, and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chromalith.doctor.codes import CODES, Group, Severity


class Verdict(StrEnum):
    """The worst that was found."""

    HEALTHY = "healthy"
    ATTENTION = "needs_attention"
    ILL = "not_well"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: one of :data:`~chromalith.doctor.codes.CODES`; stable.
        message: what was seen, one sentence, lowercase, values last as ``key=value``.
        remedy: what to do about it, with a command where there is one.
        collection: the name (or the id) of the collection it is about; ``None`` for the store and this machine.
    """

    code: str
    message: str
    remedy: str
    collection: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise AssertionError(f"a finding without a registered code code={self.code}")

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return CODES[self.code].severity

    @property
    def group(self) -> Group:
        """What it is about."""
        return CODES[self.code].group

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "group": str(self.group),
            "collection": self.collection,
            "message": self.message,
            "remedy": self.remedy,
        }


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The worst of ``findings``; what is only information leaves a store healthy."""
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        return Verdict.ILL
    return Verdict.ATTENTION if Severity.WARNING in severities else Verdict.HEALTHY
