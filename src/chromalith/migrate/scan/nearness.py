"""Which modules of a tree can have to do with Chroma at all: only these are gone through more than once.

Whatever is Chroma's comes from an import, and so from a module that names it. From there it can get only to modules that import one
another, in whichever direction: a value goes to whoever imports the module, or is handed to what the module imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from chromalith.migrate.scan.program import Module, Program

_NAME = "chroma"


def near_chroma(program: Program) -> list[Module]:
    """The modules that name Chroma, and all that are joined to them by imports, in the tree's order."""
    joined: dict[str, set[str]] = {module.source.file: set() for module in program.modules}
    for module in program.modules:
        for other in _imported(program, module):
            joined[module.source.file].add(other)
            joined[other].add(module.source.file)
    todo = [
        module.source.file for module in program.modules if any(_NAME in line.lower() for line in module.source.lines)
    ]
    near = set(todo)
    while todo:
        for other in joined[todo.pop()] - near:
            near.add(other)
            todo.append(other)
    return [module for module in program.modules if module.source.file in near]


def _imported(program: Program, module: Module) -> Iterator[str]:
    """The files of the tree that a module imports; and the ``conftest.py`` whose fixtures its tests get."""
    for node in ast.walk(module.source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = program.absolute(node, module)
            names = [base, *(f"{base}.{each.name}" if base else each.name for each in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            names = (
                [node.args[0].value] if isinstance(node.args[0].value, str) else []
            )  # importlib.import_module("a.b")
        for name in names:
            found = program.find(name, module) if name else None
            if found is not None:
                yield found.source.file
    for conftest in program.conftests(module):
        yield conftest.source.file
