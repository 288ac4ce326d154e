"""What is known about a tree of code: its modules, classes and functions by name, and what has been found out about each so far.

Facts are sets that grow from pass to pass (:mod:`chromalith.migrate.scan.flow` fills them), until a pass adds nothing. Each stands in a
*cell* with a name; a module is gone through again only if a cell changed that it read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chromalith.migrate.scan.sources import Source
from chromalith.migrate.scan.values import NOTHING, Kind, Thing, Value, is_chromadb, is_safe, join, of_framework

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(slots=True, eq=False)
class Names:
    """One scope: what its names stand for at the point that is looked at, and what they ever stand for."""

    parent: Names | None = None
    file: str = ""
    is_global: bool = False
    now: dict[str, Value] = field(default_factory=dict)
    ever: dict[str, Value] = field(default_factory=dict)
    declared_global: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Module:
    """One file.

    Attributes:
        dotted: its name, from the root of the tree.
        package: whether it is an ``__init__.py``.
        globals: its scope; kept between passes.
        reads: the cells that it has read.
    """

    source: Source
    dotted: str
    package: bool
    globals: Names
    reads: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Routine:
    """One function or method.

    Attributes:
        returns: what it gives back; generators give items.
        given: what its parameters are called with, by name.
        owner: the class, of a method.
    """

    key: str
    module: Module
    node: Function
    names: Names
    owner: Class | None = None
    returns: Value = NOTHING
    given: dict[str, Value] = field(default_factory=dict)
    decorators: frozenset[str] = frozenset()

    @property
    def parameters(self) -> list[ast.arg]:
        """Its named parameters; the keyword-only ones are last."""
        arguments = self.node.args
        return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]

    @property
    def has_self(self) -> bool:
        return self.owner is not None and "staticmethod" not in self.decorators


@dataclass(slots=True, eq=False)
class Class:
    """One class.

    Attributes:
        names: the scope of its body.
        bases: of the tree, by key.
        outer: things that it is by its other bases: a subclass of LangChain's Chroma is such a store.
        attributes: of it and of its objects.
        fields: annotated names in its body, in order: the parameters of a dataclass.
    """

    key: str
    module: Module
    node: ast.ClassDef
    names: Names
    bases: set[str] = field(default_factory=set)
    outer: Value = NOTHING
    attributes: dict[str, Value] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)


class Program:
    """The tree.

    Attributes:
        changed: the cells that have changed since it was last emptied.
        now: the module that is gone through.
        handed_over: where clients were opened that were given to the migration.
        loose: attributes of objects of other people's classes, by their last two names.
        trusts_annotations: whether annotations of Chroma's types are believed.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self.modules = [_module(source) for source in sources]
        self.routines: dict[str, Routine] = {}
        self.classes: dict[str, Class] = {}
        self.handed_over: set[str] = set()
        self.loose: dict[str, Value] = {}
        self.changed: set[str] = set()
        self.now: Module | None = None
        self.trusts_annotations = False
        self._by_file = {module.source.file: module for module in self.modules}
        self._below: dict[str, set[str]] = {}
        self._by_suffix: dict[str, list[Module]] = {}
        for module in self.modules:
            parts = module.dotted.split(".")
            for start in range(len(parts)):
                self._by_suffix.setdefault(".".join(parts[start:]), []).append(module)

    def module(self, file: str) -> Module:
        return self._by_file[file]

    def find(self, dotted: str, importer: Module) -> Module | None:
        """The module of the tree that ``importer`` means by this name: any root on the path is possible, the nearest is taken."""
        if is_chromadb(dotted) or is_safe(dotted) or of_framework(dotted) is not None:
            return None
        near = importer.dotted.split(".")

        def distance(module: Module) -> tuple[int, int, str]:
            shared = 0
            for a, b in zip(module.dotted.split("."), near, strict=False):
                if a != b:
                    break
                shared += 1
            return -shared, module.dotted.count("."), module.dotted

        return min(self._by_suffix.get(dotted, ()), key=distance, default=None)

    def absolute(self, node: ast.ImportFrom, importer: Module) -> str:
        """The module that ``from ... import`` names, without leading dots."""
        if not node.level:
            return node.module or ""
        parts = importer.dotted.split(".")
        kept = parts[: len(parts) - node.level + (1 if importer.package else 0)]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def conftests(self, module: Module) -> list[Module]:
        """The ``conftest.py`` files whose fixtures a module of tests sees."""
        folder = module.source.file.rpartition("/")[0]
        names = [each for each in self._by_file if each == "conftest.py" or each.endswith("/conftest.py")]
        return [self._by_file[each] for each in names if f"{folder}/".startswith(each.removesuffix("conftest.py"))]

    def read(self, cell: str) -> None:
        """The module that is gone through depends on this cell."""
        if self.now is not None:
            self.now.reads.add(cell)

    def learn(self, facts: dict[str, Value], name: str, value: Value, *cells: str) -> None:
        """``name`` may be ``value``, too; these cells hold that."""
        before = facts.get(name, NOTHING)
        after = join(before, value)
        if after != before:
            facts[name] = after
            self.changed.update(cells)

    def name(self, names: Names, name: str, value: Value) -> None:
        """Learn what a name of a scope may be."""
        cells = [f"own:{names.file}"]
        if names.is_global:
            cells.append(f"global:{names.file}:{name}")
        self.learn(names.ever, name, value, *cells)

    def set_attribute(self, cls: Class, name: str, value: Value) -> None:
        """Learn what an attribute of a class or of its objects may be."""
        self.learn(cls.attributes, name, value, f"attribute:{name}")

    def set_loose(self, key: str, value: Value) -> None:
        """Learn what an attribute of something unknown may be."""
        self.learn(self.loose, key, value, f"loose:{key}")

    def get_loose(self, key: str | None) -> Value:
        """What such an attribute may be."""
        self.read(f"loose:{key}")
        return self.loose.get(key or "", NOTHING)

    def give(self, routine: Routine, name: str, value: Value) -> None:
        """Learn what a parameter is called with."""
        self.learn(routine.given, name, value, f"own:{routine.module.source.file}")

    def give_back(self, routine: Routine, value: Value) -> None:
        """Learn what a function returns."""
        after = join(routine.returns, value)
        if after != routine.returns:
            routine.returns = after
            self.changed.add(f"returns:{routine.key}")

    def returned(self, routine: Routine) -> Value:
        """What a function returns."""
        self.read(f"returns:{routine.key}")
        return routine.returns

    def of_module(self, module: Module, name: str) -> Value:
        """What a global name of a module may be."""
        self.read(f"global:{module.source.file}:{name}")
        return module.globals.ever.get(name, NOTHING)

    def hand_over(self, origin: str) -> None:
        """Learn that the client that was opened there was given to the migration."""
        if origin:
            self.handed_over.add(origin)

    def inherit(self, cls: Class, base: str) -> None:
        """Learn that a class has this base."""
        if base not in cls.bases and base != cls.key:
            cls.bases.add(base)
            self._below.setdefault(base, set()).add(cls.key)
            self.changed.add("bases")

    def family(self, key: str) -> Iterator[Class]:
        """A class, what it inherits from, and what inherits from it."""
        seen: set[str] = set()
        up = [key]
        while up:
            name = up.pop(0)
            if name in seen or name not in self.classes:
                continue
            seen.add(name)
            yield self.classes[name]
            up += sorted(self.classes[name].bases)
        down = [key]
        while down:
            parent = down.pop(0)
            for below in sorted(self._below.get(parent, set()) - seen):
                seen.add(below)
                yield self.classes[below]
                down.append(below)

    def attribute(self, key: str, name: str) -> Value:
        """What this attribute of an object of the class may be."""
        self.read(f"attribute:{name}")
        self.read("bases")
        found = [each.attributes[name] for each in self.family(key) if name in each.attributes]
        return join(*found)

    def outer(self, key: str) -> Value:
        """What an object of the class is by the bases that are not of the tree."""
        return join(*(each.outer for each in self.family(key)))


def _module(source: Source) -> Module:
    path = source.file.rsplit(".", 1)[0] if "." in source.file.rsplit("/", 1)[-1] else source.file
    parts = path.split("/")
    package = parts[-1] == "__init__"
    if package:
        parts = parts[:-1]
    return Module(source, ".".join(parts), package, Names(None, source.file, is_global=True))


def object_of(cls: Class) -> Thing:
    """An instance."""
    return Thing(Kind.OBJECT, cls.key)
