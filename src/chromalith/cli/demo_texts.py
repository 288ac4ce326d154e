"""The demo's texts: the documentation inside this Python, thousands of real English texts that every machine has.

Source files are parsed, never imported: some modules of the standard library do things when they are imported. Only the
modules written in C, which have no source here, are imported; those named below do nothing on import.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

C_MODULES = (
    "builtins",
    "math",
    "zlib",
    "itertools",
    "time",
    "select",
    "array",
    "binascii",
    "unicodedata",
    "mmap",
    "gc",
)
LENGTH_MIN, LENGTH_MAX = 40, 1_500  # characters; below, a text says too little to be found by its meaning
_LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "__pycache__",
}


@dataclass(frozen=True, slots=True)
class Text:
    """One docstring: of a module, class or function of the standard library."""

    id: str
    kind: str
    module: str
    text: str

    @property
    def embedded(self) -> str:
        """What is embedded: the name as words, and the first paragraph. A long tail would blur the meaning."""
        name = self.id.partition("#")[0].replace(".", " ").replace("_", " ")
        return f"{name}: {self.text.partition(chr(10) * 2)[0]}"


def sources() -> list[Path]:
    """The standard library's source files: modules at the top first, then packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in root.rglob("*.py") if not _LEFT_OUT & set(path.relative_to(root).parts)]
    return sorted(found, key=lambda path: (len(path.relative_to(root).parts), path))


def share(worker: int, workers: int, texts_max: int) -> Iterator[Text]:
    """One worker's part of all texts: every ``workers``-th source file, and for the first worker the modules in C."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return itertools.islice(_unique(worker, workers, root), texts_max)


def _unique(worker: int, workers: int, root: Path) -> Iterator[Text]:
    seen: dict[str, int] = {}
    for text in _all(worker, workers, root):
        times = seen[text.id] = seen.get(text.id, 0) + 1
        # Two definitions of one name (for two platforms, say) are two records.
        yield text if times == 1 else Text(f"{text.id}#{times}", text.kind, text.module, text.text)


def _all(worker: int, workers: int, root: Path) -> Iterator[Text]:
    if worker == 0:
        for name in C_MODULES:
            yield from _of_c_module(name)
    for path in sources()[worker::workers]:
        parts = list(path.relative_to(root).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue  # a template, or a test's deliberate error
        yield from _of_node(tree, module, module)


def _of_node(node: ast.AST, name: str, module: str) -> Iterator[Text]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and len(text) >= LENGTH_MIN:
            kind = (
                "module" if isinstance(node, ast.Module) else "class" if isinstance(node, ast.ClassDef) else "function"
            )
            yield Text(name, kind, module, text[:LENGTH_MAX])
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _of_node(child, f"{name}.{child.name}", module)


def _of_c_module(name: str) -> Iterator[Text]:
    module = importlib.import_module(name)
    for attribute, value in sorted(vars(module).items()):
        text = inspect.getdoc(value) if callable(value) and not attribute.startswith("_") else None
        if text and len(text) >= LENGTH_MIN:
            kind = "class" if isinstance(value, type) else "function"
            yield Text(f"{name}.{attribute}", kind, name, text[:LENGTH_MAX])
