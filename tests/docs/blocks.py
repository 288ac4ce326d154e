"""The code blocks of the documents: which there are, and what their first line says about running them.

```` ```sh test ````, ```` ```python test ````        executed, in the order of the document, in one empty folder
```` ```sh norun: reason ````              listed and counted, not executed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = ("sh", "python")
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
