"""What an expression may stand for: the middle of the abstract interpretation.

A finding is made where a method of one of Chroma's things is *named*, not where it is called:
``executor.submit(collection.add, ...)`` writes, too. What can't be followed is judged by its name and keywords
(:mod:`chromalith.migrate.scan.guesses`), and said to be likely only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from chromalith.migrate.scan import values as v
from chromalith.migrate.scan.finding import Confidence
from chromalith.migrate.scan.program import Module, Names, Program
from chromalith.migrate.scan.values import (
    CHROMA,
    NOTHING,
    Kind,
    Thing,
    Value,
    elements,
    in_order,
    items,
    join,
    tuple_of,
)

if TYPE_CHECKING:
    from chromalith.migrate.scan.calls import Calls

Tell = Callable[[str, ast.expr, str, Confidence], None]
"""Takes a finding: rule, where, what is said about it, how sure."""
_HTTP = re.compile(
    r"/api/v[12]/(tenants/[^/\s]+/databases/[^/\s]+/)?collections\b|/api/v2/tenants/[^/\s]+/databases/[^/\s]+/?$"
)
WORDS = {
    Kind.CLIENT: "client",
    Kind.COLLECTION: "collection",
    Kind.LANGCHAIN: "store on Chroma",
    Kind.LLAMAINDEX: "LlamaIndex store",
}


class Expressions:
    """Evaluates the expressions of one module.

    Attributes:
        later: bodies of functions that were met, to be looked at when the scope around them is done.
    """

    def __init__(self, program: Program, module: Module, tell: Tell | None) -> None:
        self.program = program
        self.module = module
        self.tell = tell
        self.calls: Calls
        self.lambdas: Callable[[ast.Lambda, Names], Thing]

    def value(self, node: ast.expr | None, names: Names) -> Value:
        """What ``node`` may be. Everything inside it is looked at, too."""
        if node is None:
            return NOTHING
        found = _EVALUATORS.get(type(node))
        if found is not None:
            return found(self, node, names)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, names)
        return NOTHING

    def _name(self, node: ast.Name, names: Names) -> Value:
        return self.look_up(node.id, names)

    def look_up(self, name: str, names: Names) -> Value:
        """A name: of the scope as it is here; of those around it as it ever is."""
        if name in names.now:
            return names.now[name]
        scope = names.parent
        while scope is not None:
            if name in scope.ever:
                return scope.ever[name]
            scope = scope.parent
        return names.ever.get(name, NOTHING)

    def is_builtin(self, name: str, names: Names) -> bool:
        """Whether no scope has the name."""
        scope: Names | None = names
        while scope is not None:
            if name in scope.ever or name in scope.now:
                return False
            scope = scope.parent
        return True

    def _attribute(self, node: ast.Attribute, names: Names) -> Value:
        return self.attribute_of(node, self.value(node.value, names))

    def attribute_of(self, node: ast.Attribute, receiver: Value) -> Value:
        """An attribute, of a receiver that was looked at already."""
        found = self.attribute(receiver, node.attr, node)
        if all(v.is_foreign(thing) for thing in (*receiver, *found)):
            loose = self.program.get_loose(loose_key(node))
            found = frozenset(_doubted(thing) for thing in loose) or found
        return found

    def attribute(self, receiver: Value, name: str, node: ast.expr) -> Value:
        """What an attribute of a value may be; the use of a method of one of Chroma's things is told."""
        safe = any(thing.kind is Kind.SAFE for thing in receiver)
        return join(*(self._of(thing, name, node, safe) for thing in in_order(receiver)))

    def _of(self, thing: Thing, name: str, node: ast.expr, safe: bool) -> Value:
        match thing.kind:
            case Kind.NAMED:
                return frozenset({Thing(Kind.NAMED, f"{thing.ref}.{name}")})
            case Kind.MODULE:
                return self.of_module(self.program.module(thing.ref), name)
            case Kind.CLASS | Kind.OBJECT:
                return self._of_object(thing, name, node)
            case Kind.SAFE | Kind.OTHER:
                return frozenset({thing})
            case kind if kind in CHROMA:
                return self._of_chroma(thing, name, node, safe)
        return NOTHING

    def of_module(self, module: Module, name: str) -> Value:
        """A name that a module of the tree has: one of its globals, or a module below it."""
        found = self.program.of_module(module, name)
        below = self.program.find(f"{module.dotted}.{name}", module) if module.package else None
        if not found and below is not None and below is not module:
            return frozenset({Thing(Kind.MODULE, below.source.file)})
        return found

    def _of_object(self, thing: Thing, name: str, node: ast.expr) -> Value:
        found: list[Value] = []
        for each in self.program.attribute(thing.ref, name):
            routine = self.program.routines.get(each.ref) if each.kind is Kind.FUNCTION else None
            if routine is None or routine.owner is None:
                found.append(frozenset({each}))
            elif routine.decorators & {"property", "cached_property"}:
                found.append(self.program.returned(routine))
            elif thing.kind is Kind.OBJECT or "classmethod" in routine.decorators:
                found.append(frozenset({Thing(Kind.METHOD, each.ref)}))
            else:
                found.append(frozenset({each}))
        if not any(found):
            outer = self.program.outer(thing.ref)
            found += [self._of(each, name, node, safe=False) for each in outer if each.kind is not Kind.NAMED]
        return join(*found)

    def _of_chroma(self, thing: Thing, name: str, node: ast.expr, safe: bool) -> Value:
        rule = v.rule_of(thing.kind, name)
        if rule is not None:
            sure = thing.sure and not safe
            said = f"{name} of a {WORDS[thing.kind]}" + (f" that is opened at {thing.origin}" if thing.origin else "")
            self.told(rule, node, said, sure=sure)
        inner = {
            Kind.COLLECTION: {"_client": Kind.CLIENT},
            Kind.CLIENT: {"_server": Kind.CLIENT, "_admin_client": Kind.CLIENT},
        }
        inner[Kind.LANGCHAIN] = {
            "_collection": Kind.COLLECTION,
            "_client": Kind.CLIENT,
            "_chroma_collection": Kind.COLLECTION,
            "vectorstore": Kind.LANGCHAIN,  # of a retriever, or of what was built on one
            "retriever": Kind.LANGCHAIN,
        }
        inner[Kind.LLAMAINDEX] = {
            "client": Kind.COLLECTION,
            "_collection": Kind.COLLECTION,
            "vector_store": Kind.LLAMAINDEX,  # of an index, or of its storage context
            "_vector_store": Kind.LLAMAINDEX,
            "storage_context": Kind.LLAMAINDEX,
        }
        kind = inner[thing.kind].get(name)
        if kind is not None:
            return frozenset({Thing(kind, origin=thing.origin, sure=thing.sure)})
        return frozenset({Thing(Kind.BOUND, name, thing.origin, thing.sure, frozenset({thing}))})

    def told(self, rule: str, node: ast.expr, what: str, *, sure: bool) -> None:
        """Pass a finding on, in the last pass."""
        if self.tell is not None:
            self.tell(rule, node, what, Confidence.CERTAIN if sure else Confidence.LIKELY)

    def _call(self, node: ast.Call, names: Names) -> Value:
        return self.calls.call(node, names)

    def _await(self, node: ast.Await, names: Names) -> Value:
        return self.value(node.value, names)

    def _starred(self, node: ast.Starred, names: Names) -> Value:
        return elements(self.value(node.value, names))

    def _namedexpr(self, node: ast.NamedExpr, names: Names) -> Value:
        value = self.value(node.value, names)
        self.bind(node.target, value, names)
        return value

    def _ifexp(self, node: ast.IfExp, names: Names) -> Value:
        self.value(node.test, names)
        return join(self.value(node.body, names), self.value(node.orelse, names))

    def _boolop(self, node: ast.BoolOp, names: Names) -> Value:
        return join(*[self.value(each, names) for each in node.values])

    def _subscript(self, node: ast.Subscript, names: Names) -> Value:
        inside = self.value(node.slice, names)
        receiver = self.value(node.value, names)
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            exact = [t.parts[node.slice.value] for t in receiver if -len(t.parts) <= node.slice.value < len(t.parts)]
            if exact and all(thing.kind is Kind.TUPLE for thing in receiver):
                return join(*exact)
        if any(thing.kind is Kind.NAMED for thing in receiver):  # a generic class, such as Chroma[...]
            return inside if inside and last_name(node.value) in ("Provide", "Closing") else receiver
        found = elements(receiver)
        return found or frozenset(_doubted(thing) for thing in self.program.get_loose(loose_key(node)))

    def _tuple(self, node: ast.Tuple, names: Names) -> Value:
        if any(isinstance(each, ast.Starred) for each in node.elts):
            return items(join(*[self.value(each, names) for each in node.elts]))
        return tuple_of([self.value(each, names) for each in node.elts])

    def _list(self, node: ast.List | ast.Set, names: Names) -> Value:
        return items(join(*[self.value(each, names) for each in node.elts]))

    _set = _list

    def _dict(self, node: ast.Dict, names: Names) -> Value:
        for key in node.keys:
            self.value(key, names)
        spread = [self.value(each, names) for key, each in zip(node.keys, node.values, strict=True) if key is None]
        plain = [self.value(each, names) for key, each in zip(node.keys, node.values, strict=True) if key is not None]
        return join(items(join(*plain)), *spread)

    def _listcomp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, names: Names) -> Value:
        return items(self.value(node.elt, self._inside(node.generators, names)))

    _setcomp = _generatorexp = _listcomp

    def _dictcomp(self, node: ast.DictComp, names: Names) -> Value:
        inner = self._inside(node.generators, names)
        self.value(node.key, inner)
        return items(self.value(node.value, inner))

    def _inside(self, generators: Iterable[ast.comprehension], names: Names) -> Names:
        inner = Names(names.parent, names.file, names.is_global, dict(names.now), names.ever, names.declared_global)
        for each in generators:
            self.bind(each.target, elements(self.value(each.iter, inner)), inner, keep=False)
            for condition in each.ifs:
                self.value(condition, inner)
        return inner

    def _lambda(self, node: ast.Lambda, names: Names) -> Value:
        return frozenset({self.lambdas(node, names)})

    def _constant(self, node: ast.Constant, names: Names) -> Value:
        if isinstance(node.value, str) and _HTTP.search(node.value):
            self.told("http-api", node, "a path of the HTTP API of Chroma's server", sure=False)
        return NOTHING

    def _joinedstr(self, node: ast.JoinedStr, names: Names) -> Value:
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.value(part.value, names)
        if _HTTP.search(text):
            self.told("http-api", node, "a path of the HTTP API of Chroma's server", sure=False)
        return NOTHING

    def bind(self, target: ast.expr, value: Value, names: Names, *, keep: bool = True) -> None:
        """Let a target stand for a value; without ``keep``, only here (the name of a comprehension)."""
        match target:
            case ast.Name(id=name):
                self.bind_name(name, value, names, keep=keep)
            case ast.Starred(value=inner):
                self.bind(inner, items(value), names, keep=keep)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for position, each in enumerate(targets):
                    exact = [thing.parts[position] for thing in value if len(thing.parts) == len(targets)]
                    rest = elements(frozenset(thing for thing in value if len(thing.parts) != len(targets)))
                    self.bind(each, join(rest, *exact), names, keep=keep)
            case ast.Attribute(value=receiver, attr=name):
                self._bind_attribute(target, self.value(receiver, names), name, value)
            case ast.Subscript(value=receiver):
                self.value(target.slice, names)
                self._bind_element(target, receiver, value, names)

    def bind_name(self, name: str, value: Value, names: Names, *, keep: bool = True) -> None:
        """Let a name of a scope stand for a value."""
        if name in names.declared_global:
            scope = names.parent
            while scope is not None and name not in scope.ever and scope.parent is not None:
                scope = scope.parent
            self.program.name(scope or names, name, value)
            return
        names.now[name] = value
        if keep:
            self.program.name(names, name, value)

    def _bind_attribute(self, target: ast.Attribute, receiver: Value, name: str, value: Value) -> None:
        known = False
        for thing in receiver:
            if thing.kind in (Kind.OBJECT, Kind.CLASS) and thing.ref in self.program.classes:
                self.program.set_attribute(self.program.classes[thing.ref], name, value)
                known = True
            elif thing.kind is Kind.MODULE:
                self.program.name(self.program.module(thing.ref).globals, name, value)
                known = True
        key = loose_key(target)
        if not known and key is not None and value:
            self.program.set_loose(key, value)

    def _bind_element(self, target: ast.Subscript, receiver: ast.expr, value: Value, names: Names) -> None:
        before, key = self.value(receiver, names), loose_key(target)
        if not value:
            return
        if key is not None and all(v.is_foreign(thing) for thing in before):
            self.program.set_loose(key, value)
            if before:
                return
        if isinstance(receiver, ast.Name | ast.Attribute):
            self.bind(receiver, join(before, items(value)), names)


def loose_key(node: ast.Attribute | ast.Subscript) -> str | None:
    """The last two names of ``request.app.state.collection`` or of ``session_state["collection"]``: by them is known what objects of
    other people's classes are given."""
    name = node.attr if isinstance(node, ast.Attribute) else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        name = node.slice.value
    before = last_name(node.value)
    return None if name is None or before is None else f"{before}.{name}"


def last_name(node: ast.expr) -> str | None:
    """The name by which a reader would call an expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner) | ast.Await(value=inner):
            return last_name(inner)
    return None


def _doubted(thing: Thing) -> Thing:
    return Thing(thing.kind, thing.ref, thing.origin, False, thing.of, thing.parts)


_EVALUATORS: dict[type[ast.expr], Callable[[Expressions, Any, Names], Value]] = {
    kind: getattr(Expressions, f"_{name.lower()}")
    for name, kind in vars(ast).items()
    if isinstance(kind, type) and issubclass(kind, ast.expr) and hasattr(Expressions, f"_{name.lower()}")
}
"""By class of syntax; what is not in it is only looked through."""
