"""Running the command line inside this process, and what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from chromalith.cli.app import run

EMBEDDINGS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error that ``--json`` printed, which must be all that is on stderr."""
        return json.loads(self.err)["error"]


class Shell:
    """``shell("count", "words")`` runs one command."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> Said:
        self._capture.readouterr()
        code = run([str(each) for each in arguments])
        out, err = self._capture.readouterr()
        return Said(code, out, err)
