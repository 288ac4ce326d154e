"""The statements of a module, followed in order: assignments replace, branches are joined, loops are gone through twice.

Bodies of functions are looked at after the scope around them, whose names they see as they ever are: when a function is called is
not known.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from chromalith.migrate.scan import values as v
from chromalith.migrate.scan.annotations import annotated, default_of
from chromalith.migrate.scan.calls import Calls
from chromalith.migrate.scan.expressions import Expressions, Tell
from chromalith.migrate.scan.nearness import near_chroma
from chromalith.migrate.scan.program import Class, Module, Names, Program, Routine
from chromalith.migrate.scan.values import NOTHING, Kind, Thing, Value, elements, items, join

PASSES_MAX = 12
"""Facts travel one call further in each pass; a chain of wrappers longer than that has its own troubles."""


LOOPS_MAX = 3


def interpret(program: Program, tell: Callable[[Module], Tell]) -> set[str]:
    """Learn until nothing is new, then once more, telling what is found. Returns the files that could not be followed to their end.

    Annotations say what a parameter is, but not who made it; they are believed only where no call of the tree says more."""
    near = near_chroma(program)
    for trusts in (False, True):
        program.trusts_annotations = trusts
        todo = near if trusts else program.modules
        for _ in range(PASSES_MAX):
            program.changed.clear()
            for module in todo:
                _go_through(program, module, None)
            todo = [module for module in near if not program.changed.isdisjoint(module.reads)]
            if not todo:
                break
    return {module.source.file for module in program.modules if not _go_through(program, module, tell(module))}


def _go_through(program: Program, module: Module, tell: Tell | None) -> bool:
    try:
        Flow(program, module, tell).run()
    except RecursionError:  # an expression of a thousand terms: the other modules are none the worse
        return False
    return True


class Flow:
    """One pass over one module."""

    def __init__(self, program: Program, module: Module, tell: Tell | None) -> None:
        self.program = program
        self.module = module
        self.x = Expressions(program, module, tell)
        self.x.calls = Calls(self.x)
        self.x.lambdas = self._lambda
        self._loops = 0
        self._later: dict[str, Callable[[], None]] = {}

    def run(self) -> None:
        self.program.now = self.module
        self.program.read(f"own:{self.module.source.file}")
        self.module.globals.now = {}
        self.block(self.module.source.tree.body, self.module.globals, None)
        while self._later:
            self._later.pop(next(iter(self._later)))()

    def block(self, body: Iterable[ast.stmt], names: Names, routine: Routine | None) -> None:
        for statement in body:
            self.statement(statement, names, routine)

    def statement(self, node: ast.stmt, names: Names, routine: Routine | None) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node, names)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._define(node, names, None)
            case ast.ClassDef():
                self._class(node, names, routine)
            case ast.Assign(targets=targets, value=value):
                found = self.x.value(value, names)
                for target in targets:
                    self.x.bind(target, found, names)
            case ast.AnnAssign(target=target):
                found = self.x.value(node.value, names) or annotated(self.x, node.annotation, names)
                if node.value is not None or found:
                    self.x.bind(target, found, names)
            case ast.AugAssign(target=target, value=value):
                self.x.bind(target, join(self.x.value(target, names), self.x.value(value, names)), names)
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case ast.Expr(value=value):
                self._expression(value, names, routine)
            case ast.Return(value=value):
                self._give_back(routine, self.x.value(value, names))
            case ast.Global(names=listed) | ast.Nonlocal(names=listed):
                names.declared_global.update(listed)
            case _:
                self._compound(node, names, routine)

    def _expression(self, value: ast.expr, names: Names, routine: Routine | None) -> None:
        if isinstance(value, ast.Yield | ast.YieldFrom):
            found = self.x.value(value.value, names)
            self._give_back(routine, items(found) if isinstance(value, ast.Yield) else found)
            return
        self.x.value(value, names)

    def _give_back(self, routine: Routine | None, value: Value) -> None:
        if routine is not None:
            self.program.give_back(routine, value)

    def _compound(self, node: ast.stmt, names: Names, routine: Routine | None) -> None:
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                self.x.value(test, names)
                self._either([body, orelse], names, routine)
            case ast.While(test=test, body=body, orelse=orelse):
                with self._loop() as times:
                    for _ in range(times):
                        self.x.value(test, names)
                        self._either([body, []], names, routine)
                self.block(orelse, names, routine)
            case ast.For(target=target, iter=iterated) | ast.AsyncFor(target=target, iter=iterated):
                found = elements(self.x.value(iterated, names))
                with self._loop() as times:
                    for _ in range(times):
                        self.x.bind(target, found, names)
                        self._either([node.body, []], names, routine)
                self.block(node.orelse, names, routine)
            case ast.With(items=contexts, body=body) | ast.AsyncWith(items=contexts, body=body):
                for each in contexts:
                    found = self._entered(self.x.value(each.context_expr, names), each.context_expr)
                    if each.optional_vars is not None:
                        self.x.bind(each.optional_vars, found, names)
                self.block(body, names, routine)
            case ast.Try() | ast.TryStar():
                self._try(node, names, routine)
            case ast.Match(subject=subject, cases=cases):
                self._match(self.x.value(subject, names), cases, names, routine)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.x.value(child, names)

    @contextmanager
    def _loop(self) -> Iterator[int]:
        """How often the body of a loop is gone through: twice, but for loops deep within loops, which would be 2^n times."""
        self._loops += 1
        try:
            yield 2 if self._loops <= LOOPS_MAX else 1
        finally:
            self._loops -= 1

    def _either(self, bodies: Sequence[Sequence[ast.stmt]], names: Names, routine: Routine | None) -> None:
        """Bodies of which one is run: what a name stands for after them is what it stands for after any that goes on."""
        before = names.now
        ends = []
        for body in bodies:
            names.now = dict(before)
            self.block(body, names, routine)
            if not (body and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)):
                ends.append(names.now)
        names.now = _joined(ends or [before])

    def _try(self, node: ast.Try | ast.TryStar, names: Names, routine: Routine | None) -> None:
        before = dict(names.now)
        self.block(node.body, names, routine)
        broken = _joined([before, names.now])  # an error may come anywhere between
        self.block(node.orelse, names, routine)
        ends = [names.now]
        for handler in node.handlers:
            names.now = dict(broken)
            self.block(handler.body, names, routine)
            if not (handler.body and isinstance(handler.body[-1], ast.Return | ast.Raise)):
                ends.append(names.now)
        names.now = _joined(ends)
        self.block(node.finalbody, names, routine)

    def _match(self, subject: Value, cases: Sequence[ast.match_case], names: Names, routine: Routine | None) -> None:
        before = names.now
        ends = [before]
        for case in cases:
            names.now = dict(before)
            if isinstance(case.pattern, ast.MatchAs) and case.pattern.name is not None:
                self.x.bind_name(case.pattern.name, subject, names)
            self.x.value(case.guard, names)
            self.block(case.body, names, routine)
            ends.append(names.now)
        names.now = _joined(ends)

    def _entered(self, value: Value, node: ast.expr) -> Value:
        """What ``with value as x`` binds: what ``__enter__`` gives; of a generator its item; else the value itself."""
        found: list[Value] = []
        for thing in value:
            if thing.kind is Kind.OBJECT:
                entered = join(
                    self.x.attribute(frozenset({thing}), "__enter__", node),
                    self.x.attribute(frozenset({thing}), "__aenter__", node),
                )
                given = [
                    self.program.returned(self.program.routines[each.ref])
                    for each in entered
                    if each.ref in self.program.routines
                ]
                found.append(join(*given) or frozenset({thing}))
            else:
                found.append(elements(frozenset({thing})) or frozenset({thing}))
        return join(*found)

    def _import(self, node: ast.Import | ast.ImportFrom, names: Names) -> None:
        if isinstance(node, ast.Import):
            for each in node.names:
                root = each.name if each.asname else each.name.partition(".")[0]
                self.x.bind_name(each.asname or root, self._imported(root), names)
            return
        base = self.program.absolute(node, self.module)
        for each in node.names:
            if each.name == "*":
                self._import_all(base, names)
                continue
            module = self.program.find(base, self.module) if base else None
            found = self.x.of_module(module, each.name) if module is not None and module is not self.module else NOTHING
            if not found:
                below = self.program.find(f"{base}.{each.name}" if base else each.name, self.module)
                if below is not None and below is not self.module:
                    found = frozenset({Thing(Kind.MODULE, below.source.file)})
                elif module is None:
                    found = frozenset({Thing(Kind.NAMED, f"{base}.{each.name}")})
            self.x.bind_name(each.asname or each.name, found, names)

    def _imported(self, dotted: str) -> Value:
        module = self.program.find(dotted, self.module)
        return frozenset({Thing(Kind.NAMED, dotted) if module is None else Thing(Kind.MODULE, module.source.file)})

    def _import_all(self, base: str, names: Names) -> None:
        module = self.program.find(base, self.module) if base else None
        if module is not None:
            self.program.read(f"own:{module.source.file}")
            for name, value in list(module.globals.ever.items()):
                if not name.startswith("_"):
                    self.x.bind_name(name, value, names)
        elif v.is_chromadb(base) or v.is_safe(base):
            for name in sorted(v.CLIENT_TYPES | v.COLLECTION_TYPES | {"MigratingClient"}):
                self.x.bind_name(name, frozenset({Thing(Kind.NAMED, f"{base}.{name}")}), names)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef, names: Names, owner: Class | None) -> Thing:
        decorators = [self.x.value(decorator, names) for decorator in node.decorator_list]
        routine = self._routine(node, names.parent or names if owner is not None else names, owner)
        routine.decorators = frozenset(filter(None, map(_last, node.decorator_list)))
        thing = Thing(Kind.FUNCTION, routine.key)
        for decorator in decorators:
            self.x.calls.decorate(decorator, thing)
        self.x.bind_name(node.name, frozenset({thing}), names)
        defaults = default_of(self.x, node, names)
        self._later[routine.key] = lambda: self._body(routine, defaults, node.body)
        return thing

    def _lambda(self, node: ast.Lambda, names: Names) -> Thing:
        routine = self._routine(node, names, None)
        routine.names.now = {name: value for name, value in names.now.items() if name not in names.ever}
        self._parameters(routine, default_of(self.x, node, names))
        self.program.give_back(routine, self.x.value(node.body, routine.names))
        return Thing(Kind.FUNCTION, routine.key)

    def _routine(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, around: Names, owner: Class | None
    ) -> Routine:
        key = f"{self.module.source.file}:{node.lineno}:{node.col_offset}"
        if key not in self.program.routines:
            self.program.routines[key] = Routine(key, self.module, node, Names(around, self.module.source.file), owner)
        return self.program.routines[key]

    def _body(self, routine: Routine, defaults: dict[str, Value], body: Sequence[ast.stmt]) -> None:
        routine.names.now = {}
        self._parameters(routine, defaults)
        self.block(body, routine.names, routine)
        if all(
            v.is_foreign(thing) for thing in routine.returns
        ):  # a protocol's, an abstract method, or it comes from elsewhere
            self.program.give_back(routine, annotated(self.x, getattr(routine.node, "returns", None), routine.names))

    def _parameters(self, routine: Routine, defaults: dict[str, Value]) -> None:
        names, parameters = routine.names, routine.parameters
        for position, each in enumerate(parameters):
            if position == 0 and routine.has_self and routine.owner is not None:
                of_class = "classmethod" in routine.decorators or getattr(routine.node, "name", "") == "__new__"
                kind = Kind.CLASS if of_class else Kind.OBJECT
                self.x.bind_name(each.arg, frozenset({Thing(kind, routine.owner.key)}), names)
                continue
            value = join(
                routine.given.get(each.arg, NOTHING), defaults.get(each.arg, NOTHING), self._fixture(each, routine)
            )
            value = value or annotated(self.x, each.annotation, names)
            self.x.bind_name(each.arg, value, names)
        for extra in (routine.node.args.vararg, routine.node.args.kwarg):
            if extra is not None:
                given = routine.given.get(extra.arg, NOTHING)
                self.x.bind_name(extra.arg, given or items(annotated(self.x, extra.annotation, names)), names)

    def _fixture(self, parameter: ast.arg, routine: Routine) -> Value:
        """pytest calls by name: a parameter of a test or of a fixture is what the fixture of its name gives."""
        name = getattr(routine.node, "name", "")
        if not (name.startswith("test") or "fixture" in routine.decorators):
            return NOTHING
        found = [routine.names.parent.ever.get(parameter.arg, NOTHING)] if routine.names.parent else []
        found += [self.program.of_module(module, parameter.arg) for module in self.program.conftests(self.module)]
        routines = [
            self.program.routines[thing.ref] for value in found for thing in value if thing.ref in self.program.routines
        ]
        given = join(*(self.program.returned(each) for each in routines if "fixture" in each.decorators))
        return join(given, elements(given))

    def _class(self, node: ast.ClassDef, names: Names, routine: Routine | None) -> None:
        key = f"{self.module.source.file}:{node.lineno}:{node.name}"
        if key not in self.program.classes:
            self.program.classes[key] = Class(key, self.module, node, Names(names, self.module.source.file))
        cls = self.program.classes[key]
        for base in [*node.bases, *(each.value for each in node.keywords), *node.decorator_list]:
            self._base(cls, self.x.value(base, names))
        inner = cls.names
        inner.now = {}
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                self._define(statement, inner, cls)
            else:
                self.statement(statement, inner, routine)
            target = statement.target if isinstance(statement, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and target.id not in cls.fields:
                cls.fields.append(target.id)
        for name, value in inner.ever.items():
            doubtful = all(not thing.sure for thing in value)
            if not (doubtful and cls.attributes.get(name)):  # what is known says more than an annotation
                self.program.set_attribute(cls, name, value)
        self.x.bind_name(node.name, frozenset({Thing(Kind.CLASS, key)}), names)

    def _base(self, cls: Class, value: Value) -> None:
        for thing in value:
            if thing.kind is Kind.CLASS:
                self.program.inherit(cls, thing.ref)
            kind = v.framework(thing.ref) if thing.kind is Kind.NAMED else None
            if kind is not None:
                cls.outer = join(
                    cls.outer, frozenset({Thing(kind, origin=f"{self.module.source.file}:{cls.node.lineno}")})
                )


def _joined(ends: Sequence[dict[str, Value]]) -> dict[str, Value]:
    names = {name for end in ends for name in end}
    return {name: join(*(end.get(name, NOTHING) for end in ends)) for name in names}


def _last(node: ast.expr) -> str | None:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
