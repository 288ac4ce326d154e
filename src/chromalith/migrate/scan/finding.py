"""What a scan finds: the rules, and one finding as a value.

A *direct* use is one that reaches Chroma past the migration: through a client that the code itself opened with ``chromadb``. Such a
write is lost to the other side, so it is an error; a read is a warning (it sees one side only, and misses the ramp).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is; the words of SARIF."""

    ERROR = "error"
    WARNING = "warning"


class Confidence(StrEnum):
    """How sure the scan is that the receiver is Chroma's."""

    CERTAIN = "certain"
    LIKELY = "likely"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding.

    Attributes:
        id: stable; what an allowance names.
        severity: of all its findings.
        what: a sentence for a list of rules.
        instead: what to write.
    """

    id: str
    severity: Severity
    what: str
    instead: str


_OPEN = "open it with chromalith.MigratingClient(source, target) while the migration runs, and with chromalith.Client(target) after it"

RULES: Mapping[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("direct-client", Severity.WARNING, "A client is opened with chromadb, past the migration.", _OPEN),
        Rule(
            "direct-write",
            Severity.ERROR,
            "Records are written, changed or deleted through a collection of such a client.",
            f"keep the call, and take the collection from another client: {_OPEN}",
        ),
        Rule(
            "direct-catalog",
            Severity.ERROR,
            "Collections are made, changed or deleted through such a client.",
            f"keep the call, and make it on another client: {_OPEN}",
        ),
        Rule(
            "direct-read",
            Severity.WARNING,
            "Records are read through such a client or its collections: the answer is one side's, whatever the phase.",
            f"keep the call, and take the collection from another client: {_OPEN}",
        ),
        Rule(
            "framework-store",
            Severity.WARNING,
            "A LangChain or LlamaIndex store opens Chroma by itself, or gets such a client.",
            "hand it a client of the migration: Chroma(client=chromalith.MigratingClient(source, target), ...), or"
            " ChromaVectorStore(chroma_collection=migrating_client.get_or_create_collection(...))",
        ),
        Rule(
            "framework-write",
            Severity.ERROR,
            "Records are written or deleted through such a store, or an index or pipeline on it.",
            "keep the call, and hand the store a client of the migration: client=chromalith.MigratingClient(source, target), or a"
            " collection of one as chroma_collection=",
        ),
        Rule(
            "framework-read",
            Severity.WARNING,
            "Records are read through such a store.",
            "keep the call, and hand the store a client of the migration",
        ),
        Rule(
            "http-api",
            Severity.ERROR,
            "A URL of the HTTP API of Chroma's server: whatever is sent there goes past the migration.",
            "use chromalith.MigratingClient, which sends writes to both sides; for another language, put a small service around it",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One use.

    Attributes:
        rule: its id.
        file: relative to what was scanned, with ``/``.
        line, column, end_line, end_column: from 1, in characters; the end is past the last one. In a notebook: in its cell.
        cell: of a notebook, from 1; ``None`` in a file of code.
        code: the first line of it, trimmed.
        what: for people: what is called on what, and where that was opened.
        confidence: see :class:`Confidence`.
        instead: what to write.
        allowed: the reason, if an allowance covers it.
    """

    rule: str
    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    what: str
    confidence: Confidence
    instead: str
    cell: int | None = None
    allowed: str | None = None

    @property
    def severity(self) -> Severity:
        return RULES[self.rule].severity

    @property
    def place(self) -> str:
        """``file:line:column``; in a notebook ``file[cell]:line:column``."""
        cell = "" if self.cell is None else f"[{self.cell}]"
        return f"{self.file}{cell}:{self.line}:{self.column}"

    def as_json(self) -> dict[str, object]:
        """The shape in ``chromalith migrate scan --json``."""
        return {
            "rule": self.rule,
            "severity": str(self.severity),
            "confidence": str(self.confidence),
            "file": self.file,
            "cell": self.cell,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "what": self.what,
            "instead": self.instead,
            "allowed": self.allowed,
        }


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a cell of a notebook, that could not be looked at."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unused:
    """An allowance that covers nothing, or is not understood. ``line`` is of the comment, or of the file of allowances."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """The result of a scan.

    Attributes:
        files, notebooks: how many were looked at.
        lines: of code in them.
        digest: SHA-256 over the names and bytes of all of them: the same code has the same one.
        findings: by file, line and column; those that are allowed, too.
        unreadable: what was not looked at.
        unused: allowances to remove or repair.
    """

    root: str
    files: int = 0
    notebooks: int = 0
    lines: int = 0
    digest: str = ""
    findings: tuple[Finding, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    unused: tuple[Unused, ...] = field(default=())

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that no allowance covers."""
        return tuple(each for each in self.findings if each.allowed is None)

    def count(self, severity: Severity) -> int:
        """How many of the open findings are of this severity."""
        return sum(each.severity is severity for each in self.open)

    @property
    def is_clean(self) -> bool:
        """Nothing was found, and everything was looked at."""
        return not self.open and not self.unreadable
