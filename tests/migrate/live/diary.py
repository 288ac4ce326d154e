"""What a process wrote down before and after each call: the only witness of what the application was told.

One JSON object a line; a line has reached the operating system before the next step is taken, so it survives SIGKILL. ``begun`` without
an end is a call that may have happened. Times are of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.migrate.live.story import Call

ACKNOWLEDGED, FAILED, UNKNOWN = "acknowledged", "failed", "unknown"


class Diary:
    """The writing end. One process has one."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", buffering=1)
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # the former process was killed in a line: else it would swallow the next one

    def begun(self, call: Call) -> None:
        self._note(event="begun", call=call.encoded())

    def ended(self, call: Call, outcome: str, error: str = "") -> None:
        self._note(event="ended", number=call.number, collection=call.collection, outcome=outcome, error=error)

    def wrong(self, call: Call, kind: str, text: str) -> None:
        """A read showed what it must not. ``kind`` is ``stale`` if it was right once, else ``false``."""
        self._note(event="wrong", number=call.number, kind=kind, text=text)

    def note(self, event: str, text: str = "") -> None:
        self._note(event=event, text=text)

    def close(self) -> None:
        self._file.close()

    def _note(self, **values: Any) -> None:
        self._file.write(json.dumps(values | {"at": time.monotonic()}) + "\n")


@dataclass
class Told:
    """One call as the diary tells it. ``end`` is infinite while it has none, and nobody went on after it."""

    process: int
    call: Call
    start: float
    end: float = float("inf")
    outcome: str = UNKNOWN
    error: str = ""


@dataclass
class Story:
    """A diary that was read."""

    calls: list[Told] = field(default_factory=list)
    """Writes, in the order in which they began. Reads are counted only."""
    refused: list[Told] = field(default_factory=list)
    """Calls, reads among them, that the application was told an error of."""
    wrong: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    reads: int = 0
    number: int = 0
    """Of the last call that began."""


def read(path: Path, process: int) -> Story:
    """What a process wrote down so far."""
    story = Story()
    open_call: Told | None = None
    for line in _lines(path):
        match line["event"]:
            case "begun":
                if open_call is not None and open_call.end == float("inf"):
                    open_call.end = line["at"]  # its process died in it, and is another one now
                open_call = Told(process, Call.decoded(line["call"]), line["at"])
                story.number = open_call.call.number
                if open_call.call.writes:
                    story.calls.append(open_call)
                else:
                    story.reads += 1
            case "ended":
                assert open_call is not None
                assert open_call.call.number == line["number"], "a line of the diary is missing"
                open_call.end, open_call.outcome, open_call.error = line["at"], line["outcome"], line["error"]
                if open_call.outcome != ACKNOWLEDGED:
                    story.refused.append(open_call)
            case "wrong":
                story.wrong.append(line)
            case "defect":
                story.errors.append(line["text"])
    return story


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            yield json.loads(text)
        except ValueError:  # the line in which it was killed
            continue
