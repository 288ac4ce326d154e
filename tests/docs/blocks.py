"""The code blocks of the documents: which there are, and what their first line says about running them.

```` ```sh test ````, ```` ```python test ````        executed, in the order of the document, in one empty folder
```` ```sh aws-test ````                   the same, by tests/aws/test_documents.py, in an emulated account with the stack ``dev``
```` ```sh norun: reason ````              listed and counted, not executed
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = ("sh", "python")
TEST, AWS_TEST, NOT_RUN = "test", "aws-test", "norun:"
REASON_CHARS_MIN = 10
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    marker: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run; ``None`` for one that is."""
        return self.marker.removeprefix(NOT_RUN).strip() if self.marker.startswith(NOT_RUN) else None

    @property
    def command(self) -> list[str]:
        """What runs it. A failing command ends it, also in the middle of a pipe."""
        if self.language == "python":
            return [sys.executable, "-c", self.text]
        return ["bash", "-euo", "pipefail", "-c", self.text]


def documents() -> list[Path]:
    """Every document of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of one document."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, marker = match[1].strip().partition(" ")
        found.append(Block(path, text.count("\n", 0, match.start()) + 1, language, marker.strip(), match[2]))
    return found


def commands() -> list[Block]:
    """Every block of commands or code of all documents, whatever its marker."""
    found = [block for path in documents() for block in blocks(path)]
    return [block for block in found if block.language in (*RUNNABLE, "bash", "shell", "console", "py")]
