"""What a command prints: data on stdout, narration on stderr, and JSON instead of both where it was asked for.

Whatever comes from a store is shown without its control characters: a document must not move a terminal's cursor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NARROW = 100  # columns, where the output is not a terminal and so has no width of its own


class Output:
    """Where one command's output goes.

    Args:
        as_json: whether stdout gets JSON.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)

    def data(self, value: Any, human: Callable[[], None]) -> None:
        """The command's answer: ``value`` as JSON, or what ``human`` prints with :meth:`line` and :meth:`table`."""
        if self.as_json:
            self._out.file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
            self._out.file.flush()
        else:
            human()

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of the answer, for a person."""
        self._out.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Collection[str] = ()) -> None:
        """A table of the answer; a column of numbers stands to the right. ``whole``: columns of short words, which no line may break."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for position, name in enumerate(columns):
            numbers = all(isinstance(row[position], int | float) for row in rows)
            table.add_column(name, justify="right" if numbers else "left", overflow="fold", no_wrap=name in whole)
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else shown(cell) for cell in row))
        self._out.print(table, markup=False, highlight=False)

    def say(self, text: str, style: str | None = None) -> None:
        """Narration: what is happening, for a person, on stderr."""
        self._err.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, text: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """A progress bar on stderr while the block runs, on a terminal only. Yields ``advance(by=0, text=None, total=None)``."""
        if not self._err.is_terminal:
            yield lambda by=0, text=None, total=None: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(text, total=total)

            def advance(by: int = 0, text: str | None = None, total: int | None = None) -> None:
                bar.update(task, advance=by, description=text, total=total)

            yield advance


class _Console(Console):
    """A console that says that its reader is gone, where Rich's own would end the process as if the command had failed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(file: Any) -> Console:
    plain = _Console(file=file)
    return plain if plain.is_terminal else _Console(file=file, width=_NARROW)


def printable(text: str) -> str:
    """``text`` without control characters, line ends excepted: a name may hold some, and a terminal would obey them."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in " \n\t" else "�" for c in text)


def shown(value: object, length_max: int | None = None) -> str:
    """``value`` on one line, without control characters, cut to ``length_max``; ``–`` for ``None``."""
    if value is None:
        return "–"
    text = " ".join(printable(str(value)).split())
    return text if length_max is None or len(text) <= length_max else text[: length_max - 1].rstrip() + "…"


def size(count: int) -> str:
    """Bytes for a person: ``1.5 MB``."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def moment(at_us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC, to the second."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="seconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """A length of time for a person: ``12 s``, ``5 min``."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
