"""What a call gives, and what it tells about what is called: the values of its arguments are what the parameters may be."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chromalith.migrate.scan import guesses
from chromalith.migrate.scan import values as v
from chromalith.migrate.scan.expressions import Expressions, last_name
from chromalith.migrate.scan.program import Class, Names, Routine, object_of
from chromalith.migrate.scan.values import (
    CHROMA,
    NOTHING,
    STORES,
    Kind,
    Thing,
    Value,
    elements,
    in_order,
    items,
    join,
    tuple_of,
)

_SAME = frozenset(
    {
        "cast",
        "copy",
        "deepcopy",
        "closing",
        "aclosing",
        "nullcontext",
        "run",
        "wait_for",
        "shield",
        "run_until_complete",
        "ref",
    }
)
"""Last names of functions that give back (one of) what they are given."""
_BUILD_WRITES = frozenset(
    {"from_documents", "afrom_documents", "from_texts", "index", "aindex", "VectorStoreIndex", "SummaryIndex"}
)
_ASKS = frozenset(
    {
        "isinstance",
        "issubclass",
        "hasattr",
        "cast",
        "setattr",
        "object",
        "patch",
        "TypeVar",
        "Mock",
        "MagicMock",
        "AsyncMock",
        "create_autospec",
        "signature",
    }
)
"""Last names of functions that are given a class, and make nothing of it."""
_ASKED = frozenset({"spec", "spec_set", "autospec", "bound", "new_callable"})
_GROW = frozenset({"append", "add", "insert", "appendleft", "put", "setdefault", "extend", "update", "push"})
_TAKE = frozenset({"get", "pop", "setdefault", "popitem", "popleft", "__getitem__", "get_nowait"})
_ITERATE = frozenset({"values", "copy", "keys", "__iter__"})


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call is given, looked at."""

    positional: Sequence[Value]
    named: Mapping[str, Value]
    spread: Value = NOTHING

    @property
    def all(self) -> Value:
        return join(*self.positional, *self.named.values(), self.spread)

    def first(self) -> Value:
        return self.positional[0] if self.positional else NOTHING


class Calls:
    """The calls of one module."""

    def __init__(self, expressions: Expressions) -> None:
        self.x = expressions
        self.program = expressions.program

    def call(self, node: ast.Call, names: Names) -> Value:
        """What the call gives."""
        if isinstance(node.func, ast.Attribute):
            receiver = self.x.value(node.func.value, names)  # once: twice would be 2^n times in a chain of n calls
            function = self.x.attribute_of(node.func, receiver)
        else:
            receiver, function = NOTHING, self.x.value(node.func, names)
        given = self._arguments(node, names)
        container = self._container(node, receiver, given, names)
        builtin = self._builtin(node, given, names)
        if builtin is not None:
            return builtin
        if isinstance(node.func, ast.Attribute) and node.func.attr == "__new__":  # of a singleton: super().__new__(cls)
            return frozenset(Thing(Kind.OBJECT, each.ref) for each in given.first() if each.kind is Kind.CLASS)
        if all(v.is_foreign(thing) for thing in function):
            self._guess(node, receiver)
        called = [self._one(thing, node, given) for thing in in_order(function)]
        return join(
            container, self._passed_on(function, given), self._classes_passed_on(node, function, given), *called
        )

    def _arguments(self, node: ast.Call, names: Names) -> Arguments:
        positional: list[Value] = []
        spread: list[Value] = []
        for each in node.args:
            value = self.x.value(each, names)
            if isinstance(each, ast.Starred):
                spread.append(value)
            elif not spread:
                positional.append(value)
            else:
                spread.append(value)
        named = {}
        for keyword in node.keywords:
            value = self.x.value(keyword.value, names)
            if keyword.arg is None:
                spread.append(elements(value))
            else:
                named[keyword.arg] = value
        return Arguments(positional, named, join(*spread))

    def _one(self, thing: Thing, node: ast.Call, given: Arguments) -> Value:
        match thing.kind:
            case Kind.NAMED:
                return self._named(thing.ref, node, given)
            case Kind.FUNCTION | Kind.METHOD:
                routine = self.program.routines.get(thing.ref)
                if routine is None:
                    return NOTHING
                self.give(routine, given, bound=thing.kind is Kind.METHOD)
                return self.program.returned(routine)
            case Kind.CLASS:
                return self._instance(self.program.classes[thing.ref], given)
            case Kind.OBJECT:
                return self._object(thing, node, given)
            case Kind.BOUND:
                return self._method(thing, node, given)
            case Kind.SAFE | Kind.OTHER | Kind.CLIENT | Kind.LANGCHAIN | Kind.LLAMAINDEX:
                return frozenset({thing})  # of Chroma's: a provider, or a partial, that was handed the class
        return NOTHING

    def _object(self, thing: Thing, node: ast.Call, given: Arguments) -> Value:
        called = self.x.attribute(frozenset({thing}), "__call__", node.func)
        return join(*(self._one(each, node, given) for each in called if each.kind is Kind.METHOD))

    def give(self, routine: Routine, given: Arguments, *, bound: bool) -> None:
        """Learn what a function's parameters are called with."""
        parameters = [each.arg for each in routine.parameters]
        skipped = 1 if bound and routine.has_self else 0
        places = parameters[skipped : len(routine.node.args.posonlyargs) + len(routine.node.args.args)]
        for name, value in zip(places, given.positional, strict=False):
            if value:
                self.program.give(routine, name, value)
        for name, value in given.named.items():
            if value and name in parameters:
                self.program.give(routine, name, value)
            elif value and routine.node.args.kwarg is not None:
                self.program.give(routine, routine.node.args.kwarg.arg, items(value))
        for value in given.positional[len(places) :]:
            if value and routine.node.args.vararg is not None:
                self.program.give(routine, routine.node.args.vararg.arg, items(value))

    def decorate(self, decorator: Value, thing: Thing) -> None:
        """A decorator of the tree gets the function; with arguments of its own, what it returns does."""
        for each in decorator:
            routine = self.program.routines.get(each.ref) if each.kind is Kind.FUNCTION else None
            if routine is not None:
                self.give(routine, Arguments([frozenset({thing})], {}), bound=False)

    def _instance(self, cls: Class, given: Arguments) -> Value:
        found = self.program.attribute(cls.key, "__init__")
        makers = [
            self.program.routines[each.ref]
            for each in found
            if each.kind is Kind.FUNCTION and each.ref in self.program.routines
        ]
        for maker in makers:
            self.give(maker, given, bound=True)
        if not makers:
            for name, value in [*zip(cls.fields, given.positional, strict=False), *given.named.items()]:
                if value:
                    self.program.set_attribute(cls, name, value)
        return frozenset({object_of(cls)})

    def _named(self, dotted: str, node: ast.Call, given: Arguments) -> Value:
        """A call of something that was imported from outside of the tree."""
        name = dotted.rpartition(".")[2]
        passed = given.all
        if v.is_safe(dotted):
            for thing in passed:
                self.program.hand_over(thing.origin)
            return frozenset({Thing(Kind.SAFE)})
        if v.is_client_class(dotted):
            origin = self._here(node)
            if self.x.tell is not None and origin not in self.program.handed_over:
                self.x.told("direct-client", node, f"{dotted} opens a client past the migration", sure=True)
            return frozenset({Thing(Kind.CLIENT, origin=origin)})
        store = v.framework(dotted) or v.framework(dotted.rpartition(".")[0])
        if store is not None:
            return self._store(store, name, node, given)
        on_store = frozenset(thing for thing in passed if thing.kind in STORES)
        if v.of_framework(dotted) is not None and (on_store or Thing(Kind.SAFE) in passed):
            if name in _BUILD_WRITES and on_store:
                self.x.told(
                    "framework-write",
                    node.func,
                    f"{name} writes into a store on Chroma",
                    sure=all(t.sure for t in on_store),
                )
            return on_store or frozenset({Thing(Kind.SAFE)})
        if name in _SAME and any(thing.kind is not Kind.OTHER for thing in passed):
            return given.positional[-1] if name == "cast" and given.positional else passed
        if name == "gather":
            return items(passed)
        if name in ("import_module", "__import__"):
            return self._imported(node)
        if guesses.store(dotted):
            said = f"{dotted} is not of this tree, and its name says that it is a store on Chroma"
            if not any(thing.kind is Kind.SAFE for thing in passed):
                self.x.told("framework-store", node, said, sure=False)
                return frozenset({Thing(Kind.LANGCHAIN, origin=self._here(node), sure=False)})
        rule = guesses.function(dotted)
        if rule is not None:
            self.x.told(
                rule, node.func, f"{dotted} is not of this tree, and its name says that it writes to Chroma", sure=False
            )
        return frozenset({Thing(Kind.OTHER, dotted)})

    def _store(self, kind: Kind, name: str, node: ast.Call, given: Arguments) -> Value:
        """A LangChain or LlamaIndex store is made."""
        handed = {"client", "chroma_collection", "collection", "async_client"} & set(given.named)
        passed = given.all if kind is Kind.LLAMAINDEX else join(*(given.named[each] for each in handed))
        direct = [thing for thing in passed if thing.kind in CHROMA]
        if not direct and any(thing.kind is Kind.SAFE for thing in passed):
            return frozenset({Thing(Kind.SAFE)})
        sure = (
            all(thing.sure for thing in direct)
            if direct
            else not (handed or (kind is Kind.LLAMAINDEX and given.positional))
        )
        origin = next((thing.origin for thing in direct if thing.origin), self._here(node))
        if name in v.LANGCHAIN_MAKERS and kind is Kind.LANGCHAIN:
            self.x.told("framework-write", node.func, f"{name} makes a store on Chroma and writes into it", sure=sure)
        else:
            on = f"on a client that is opened at {origin}" if direct else "that opens Chroma by itself"
            self.x.told(
                "framework-store",
                node,
                f"a {'LangChain' if kind is Kind.LANGCHAIN else 'LlamaIndex'} store {on}",
                sure=sure,
            )
        return frozenset({Thing(kind, origin=origin, sure=sure)})

    def _method(self, thing: Thing, node: ast.Call, given: Arguments) -> Value:
        """A method of one of Chroma's things is called."""
        (receiver,) = thing.of
        made = Thing(Kind.COLLECTION, origin=thing.origin, sure=thing.sure)
        if receiver.kind is Kind.CLIENT and thing.ref in v.CLIENT_TO_COLLECTION:
            return frozenset({made})
        if receiver.kind is Kind.CLIENT and thing.ref == "list_collections":
            return items(frozenset({made}))
        if receiver.kind is Kind.COLLECTION and thing.ref == "fork":
            return frozenset({made})
        if receiver.kind in STORES and (thing.ref.startswith("as_") or thing.ref in v.LANGCHAIN_MAKERS):
            return frozenset({receiver})
        return frozenset({receiver}) if thing.ref in ("__enter__", "__aenter__", "result") else NOTHING

    def _imported(self, node: ast.Call) -> Value:
        name = node.args[0] if node.args else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            found = self.program.find(name.value, self.x.module)
            return frozenset(
                {Thing(Kind.NAMED, name.value) if found is None else Thing(Kind.MODULE, found.source.file)}
            )
        return NOTHING

    def _passed_on(self, function: Value, given: Arguments) -> Value:
        """A function given to another (``submit``, ``to_thread``, ``partial``, ``Thread``, ``Depends``, ``map``): it gets the arguments
        that stand after it, and what it returns is what comes back."""
        known = (Kind.FUNCTION, Kind.METHOD, Kind.CLASS)
        if any(thing.kind in known for thing in function):
            return NOTHING
        found: list[Value] = []
        for position, value in enumerate(given.positional):
            rest = Arguments(given.positional[position + 1 :], given.named, given.spread)
            found += [self._handed(thing, rest) for thing in value if thing.kind in known]
        for name, value in given.named.items():
            parts = [thing.parts for thing in given.named.get("args", NOTHING) if thing.parts]
            rest = Arguments(parts[0] if parts and name in ("target", "func", "function") else [], {})
            found += [self._handed(thing, rest) for thing in value if thing.kind in known]
        return join(*found)

    def _classes_passed_on(self, node: ast.Call, function: Value, given: Arguments) -> Value:
        """A class of Chroma's given to something that is not of the tree (``partial``, ``to_thread``, ``providers.Singleton``,
        ``Field(default_factory=...)``): it will be called there, and what it makes is what comes back, or what a call of that gives."""
        outside = all(v.is_foreign(each) or v.of_framework(each.ref) is not None for each in function)
        if not outside or last_name(node.func) in _ASKS:
            return NOTHING
        made: list[Value] = []
        for value in (*given.positional, *(each for name, each in given.named.items() if name not in _ASKED)):
            for thing in in_order(value):
                if thing.kind is Kind.NAMED and v.is_safe(thing.ref):
                    made.append(frozenset({Thing(Kind.SAFE)}))
                    continue
                kind = v.framework(thing.ref) if thing.kind is Kind.NAMED else None
                if thing.kind is Kind.NAMED and v.is_client_class(thing.ref):
                    rule, said, kind = (
                        "direct-client",
                        f"{thing.ref} is handed on, and opens a client past the migration",
                        Kind.CLIENT,
                    )
                elif kind is not None:
                    rule, said = "framework-store", f"{thing.ref} is handed on, and makes a store on Chroma"
                else:
                    continue
                self.x.told(rule, node, said, sure=False)
                made.append(frozenset({Thing(kind, origin=self._here(node), sure=False)}))
        return join(*made)

    def _handed(self, thing: Thing, rest: Arguments) -> Value:
        if thing.kind is Kind.CLASS:
            return NOTHING
        routine = self.program.routines.get(thing.ref)
        if routine is None:
            return NOTHING
        self.give(routine, rest, bound=thing.kind is Kind.METHOD)
        return join(self.program.returned(routine), frozenset({thing}))

    def _container(self, node: ast.Call, receiver: Value, given: Arguments, names: Names) -> Value:
        """The methods of lists and dictionaries, as far as they put something in or take it out."""
        if not isinstance(node.func, ast.Attribute) or any(thing.kind in CHROMA for thing in receiver):
            return NOTHING
        name, inside = node.func.attr, any(thing.kind in (Kind.ITEMS, Kind.TUPLE) for thing in receiver)
        put = join(*given.positional)
        put = elements(put) if name in ("extend", "update") else put
        if name in _GROW and put and (inside or not receiver) and isinstance(node.func.value, ast.Name | ast.Attribute):
            self.x.bind(node.func.value, join(receiver, items(put)), names)
        if not inside:
            return NOTHING
        if name in _TAKE:
            return join(elements(receiver), put)
        if name == "items":
            return items(tuple_of([NOTHING, elements(receiver)]))
        return receiver if name in _ITERATE else NOTHING

    def _builtin(self, node: ast.Call, given: Arguments, names: Names) -> Value | None:
        if not isinstance(node.func, ast.Name) or not self.x.is_builtin(node.func.id, names):
            return None
        name, first = node.func.id, given.first()
        match name:
            case "list" | "set" | "frozenset" | "tuple" | "sorted" | "reversed" | "iter" | "aiter":
                return items(elements(first))
            case "filter":
                return items(elements(given.positional[-1])) if given.positional else NOTHING
            case "next" | "anext" | "max" | "min":
                return elements(first)
            case "enumerate":
                return items(tuple_of([NOTHING, elements(first)]))
            case "zip":
                return items(tuple_of([elements(each) for each in given.positional]))
            case "dict":
                return join(first, items(join(*given.named.values())))
            case "map":
                moved = Arguments([elements(each) for each in given.positional[1:]], {})
                return items(join(*(self._handed(thing, moved) for thing in first)))
            case "getattr":
                return self._getattr(node, given)
            case "super":
                return self._super(names)
            case "__import__":
                return self._imported(node)
        return None

    def _getattr(self, node: ast.Call, given: Arguments) -> Value:
        name = node.args[1] if len(node.args) > 1 else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            return self.x.attribute(given.first(), name.value, node)
        for thing in given.first():
            if thing.kind in (Kind.COLLECTION, Kind.CLIENT):
                self.x.told(
                    "direct-write",
                    node,
                    f"a method of a {thing.kind} by a name that is computed: it may write",
                    sure=False,
                )
        return NOTHING

    def _super(self, names: Names) -> Value:
        own = [
            thing
            for thing in self.x.look_up("self", names)
            if thing.kind is Kind.OBJECT and thing.ref in self.program.classes
        ]
        bases = [base for thing in own for base in self.program.classes[thing.ref].bases]
        outer = [self.program.outer(thing.ref) for thing in own]
        return join(frozenset(Thing(Kind.OBJECT, base) for base in bases), *outer)

    def _guess(self, node: ast.Call, receiver: Value) -> None:
        if not isinstance(node.func, ast.Attribute) or any(guesses.other_database(thing.ref) for thing in receiver):
            return
        if any(thing.kind in (Kind.ITEMS, Kind.TUPLE) for thing in receiver):
            return
        name = last_name(node.func.value) or ""
        keywords = frozenset(each.arg for each in node.keywords if each.arg is not None)
        rule = guesses.method(name, node.func.attr, keywords)
        if rule is not None:
            self.x.told(
                rule,
                node.func,
                f"{name}.{node.func.attr} looks like Chroma's; where it comes from is not known",
                sure=False,
            )

    def _here(self, node: ast.expr) -> str:
        cell, line = self.x.module.source.locate(node.lineno)
        return f"{self.x.module.source.file}{'' if cell is None else f'[{cell}]'}:{line}"
