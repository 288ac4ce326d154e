"""The code of a tree, read and parsed, never imported: ``.py`` and ``.pyw`` files, scripts that begin with a Python shebang, notebooks.

What can't be read or parsed is named: a scan that skipped a file has not shown that the file is clean. Folders that hold other people's
code or nobody's are left out (virtual environments, ``node_modules``, caches, ``.git``).
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import tokenize
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chromalith.errors import Invalid, NotFound
from chromalith.migrate.scan.finding import Unreadable

FILE_BYTES_MAX = 20_000_000
"""A file of this size is data, or a notebook full of pictures; parsing takes some hundred times as much memory."""
FILES_MAX = 200_000
LEFT_OUT = frozenset(
    {"__pycache__", "node_modules", "site-packages", "dist-packages", ".git", ".hg", ".svn", ".tox", ".nox", ".eggs"}
)
_SHEBANG = re.compile(rb"#!.*\bpython[\d.]*\b")
_MAGIC = re.compile(r"^\s*(%|!|\?)|^\s*[\w.]+\?{1,2}\s*$")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w., ]+=\s*)[%!].*$")
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "python", "python3"})
"""Cell magics whose cell is still Python."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of code.

    Attributes:
        file: relative to the root, with ``/``.
        tree: its syntax; the cells of a notebook one after the other.
        lines: of its text.
        cells: of a notebook, its code cells: their numbers (from 1, all cells counted), and the line that each begins after.
    """

    file: str
    tree: ast.Module
    lines: Sequence[str]
    cells: tuple[tuple[int, int], ...] = ()

    def locate(self, line: int) -> tuple[int | None, int]:
        """The cell, and the line in it."""
        if not self.cells:
            return None, line
        cell, before = self.cells[bisect_right([start for _, start in self.cells], line - 1) - 1]
        return cell, line - before

    def comments(self) -> Iterator[tuple[int, str]]:
        """Its comments, by line."""
        starts = [start for _, start in self.cells] or [0]
        for start, stop in zip(starts, [*starts[1:], len(self.lines)], strict=True):
            text = "\n".join(self.lines[start:stop]) + "\n"
            if "#" not in text:
                continue
            try:
                for token in tokenize.generate_tokens(io.StringIO(text).readline):
                    if token.type == tokenize.COMMENT:
                        yield start + token.start[0], token.string
            except (tokenize.TokenError, SyntaxError, IndentationError):  # a broken cell is reported where it is parsed
                continue


@dataclass(slots=True)
class Tree:
    """All code below one path."""

    root: Path
    sources: list[Source]
    unreadable: list[Unreadable]
    notebooks: int
    digest: str


def read_tree(path: Path) -> Tree:
    """Read what is below ``path``, or one file. Raises ``NotFound``, ``Invalid`` (more files than ``FILES_MAX``)."""
    if not path.exists():
        raise NotFound(f"there is no such path path={str(path)!r}", hint="name a folder of code, or one file")
    single = not path.is_dir()
    tree = Tree(path.parent if single else path, [], [], 0, "")
    digest = hashlib.sha256()
    names = [path.name] if single else sorted(_files(path, tree.unreadable))
    if len(names) > FILES_MAX:
        raise Invalid(
            f"too many files files={len(names)} most={FILES_MAX}", hint="scan the parts of the tree one by one"
        )
    for name in names:
        try:
            body = _read(tree.root / name, named=single)
            if body is None:
                continue
            digest.update(f"{len(name)}:{name}:{len(body)}:".encode("utf-8", "surrogateescape") + body)
            tree.notebooks += name.endswith(".ipynb")
            told = _printable(name)
            found = _notebook(told, body, tree.unreadable) if name.endswith(".ipynb") else _code(told, body)
            tree.sources.append(found)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            tree.unreadable.append(Unreadable(_printable(name), _reason(error)))
    tree.digest = digest.hexdigest()
    return tree


def _printable(name: str) -> str:
    """A name whose bytes are no UTF-8, as text that JSON, SARIF and a terminal take."""
    return name.encode("utf-8", "backslashreplace").decode()


def _files(root: Path, unreadable: list[Unreadable]) -> Iterator[str]:
    def named(path: str | Path) -> str:
        return _printable(Path(path).relative_to(root).as_posix())

    def refused(error: OSError) -> None:
        unreadable.append(Unreadable(named(error.filename or root), _reason(error)))

    top = root.resolve()
    for folder, below, files in os.walk(
        root, onerror=refused
    ):  # links to folders are not followed: they may lead in circles
        below[:] = sorted(
            each for each in below if each not in LEFT_OUT and not (Path(folder) / each / "pyvenv.cfg").exists()
        )
        linked = [path for each in below if (path := Path(folder) / each).is_symlink()]
        outside = [path for path in linked if not path.resolve().is_relative_to(top)]
        unreadable += [
            Unreadable(named(path), "a link out of the folder: scan what it leads to as well") for path in outside
        ]
        for name in files:
            if name.endswith((".py", ".pyw", ".ipynb")) or "." not in name:
                yield (Path(folder) / name).relative_to(root).as_posix()


def _read(path: Path, *, named: bool) -> bytes | None:
    """The bytes of a file of code; ``None`` if it is no code: without a suffix, only what begins with a Python shebang is."""
    if not path.is_file():  # a pipe or a socket would never end
        if path.is_symlink() and path.suffix:
            raise OSError("a link that leads nowhere")
        return None
    if not path.suffix and not named:
        with path.open("rb") as file:
            if not _SHEBANG.match(file.read(200).partition(b"\n")[0]):
                return None
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise ValueError(f"larger than a scan reads bytes={size} most={FILE_BYTES_MAX}")
    return path.read_bytes()


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"not valid Python: {error.msg} line={error.lineno}"
    if isinstance(error, RecursionError | MemoryError):
        return "nested too deeply to be parsed"
    if isinstance(error, OSError):
        return f"can't be read: {(error.strerror or str(error)).lower()}"
    return f"can't be read: {str(error) or type(error).__name__}"


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():  # an invalid escape in the code is not this program's warning
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _code(name: str, body: bytes) -> Source:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(body).readline)
    text = io.TextIOWrapper(io.BytesIO(body), encoding).read()
    return Source(name, _parse(text), text.split("\n"))


def _notebook(name: str, body: bytes, unreadable: list[Unreadable]) -> Source:
    value = json.loads(body)
    if not isinstance(value, dict) or not isinstance(value.get("cells"), list):
        raise ValueError("not a notebook of format 4: it has no list of cells")
    language = str(
        _at(value, "metadata", "kernelspec", "language") or _at(value, "metadata", "language_info", "name") or "python"
    )
    if not language.startswith(("python", "ipython")):
        return Source(name, ast.Module([], []), [])
    tree = ast.Module([], [])
    lines: list[str] = []
    cells: list[tuple[int, int]] = []
    for number, cell in enumerate(value["cells"], 1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        text = cell.get("source", "")
        text = _without_magics("".join(map(str, text)) if isinstance(text, list) else str(text))
        try:
            parsed = _parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unreadable.append(Unreadable(f"{name}[{number}]", _reason(error)))
            continue
        cells.append((number, len(lines)))
        for node in parsed.body:
            tree.body.append(ast.increment_lineno(node, len(lines)))
        lines += text.split("\n")
    return Source(name, tree, lines, tuple(cells))


def _at(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _without_magics(text: str) -> str:
    """IPython's own syntax put aside, line by line, so that line numbers stay."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is not None and lines[first].startswith("%%"):
        if lines[first][2:].split(maxsplit=1)[:1] and lines[first][2:].split()[0] not in _PYTHON_CELLS:
            return "\n" * text.count("\n")
        lines[first] = "pass"
    return "\n".join(_without_magic(line) for line in lines)


def _without_magic(line: str) -> str:
    if _MAGIC.match(line):
        return line[: len(line) - len(line.lstrip())] + "pass"
    assigned = _ASSIGNED_MAGIC.match(line)
    return f"{assigned[1]}None" if assigned else line
