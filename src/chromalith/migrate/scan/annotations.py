"""What annotations and defaults of parameters say about their values."""

from __future__ import annotations

import ast

from chromalith.migrate.scan import values as v
from chromalith.migrate.scan.expressions import Expressions
from chromalith.migrate.scan.program import Names
from chromalith.migrate.scan.values import NOTHING, Kind, Thing, Value, elements, items, join

_CONTAINERS = frozenset(
    {
        "list",
        "List",
        "dict",
        "Dict",
        "Sequence",
        "Iterable",
        "Iterator",
        "Mapping",
        "tuple",
        "Tuple",
        "set",
        "Generator",
    }
)


def annotated(x: Expressions, node: ast.expr | None, names: Names) -> Value:
    """What the annotation says, if annotations are believed in this pass; never sure. ``Annotated[..., Depends(f)]`` is no annotation
    only: what ``f`` gives is taken in each pass."""
    if node is None:
        return NOTHING
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return annotated(x, ast.parse(node.value.strip(), mode="eval").body, names)
        except (SyntaxError, ValueError):
            return NOTHING
    if isinstance(node, ast.BinOp):
        return join(annotated(x, node.left, names), annotated(x, node.right, names))
    if isinstance(node, ast.Subscript):
        return _generic(x, node, names)
    if not isinstance(node, ast.Name | ast.Attribute):
        return NOTHING
    return join(*(_typed(x, thing) for thing in _quietly(x, node, names)))


def _generic(x: Expressions, node: ast.Subscript, names: Names) -> Value:
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    outer = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    if outer == "Annotated":
        depends = join(*(x.value(each, names) for each in inner[1:] if isinstance(each, ast.Call)))
        given = frozenset(thing for thing in depends if thing.kind not in (Kind.OTHER, Kind.FUNCTION))
        return _opened(given) or annotated(x, inner[0], names)
    if outer in ("Literal", "type", "Type", "Callable"):
        return NOTHING
    found = join(*(annotated(x, each, names) for each in inner))
    return items(found) if outer in _CONTAINERS else found


def _typed(x: Expressions, thing: Thing) -> Value:
    if thing.kind is Kind.CLASS:
        return frozenset({Thing(Kind.OBJECT, thing.ref)})
    if thing.kind is not Kind.NAMED:
        return NOTHING
    found = v.typed(thing.ref)
    if found is None or (found.kind is not Kind.SAFE and not x.program.trusts_annotations):
        return NOTHING
    return frozenset({found})


def _quietly(x: Expressions, node: ast.expr, names: Names) -> Value:
    """An annotation is no use: nothing is told about it."""
    tell, x.tell = x.tell, None
    try:
        return x.value(node, names)
    finally:
        x.tell = tell


def default_of(
    x: Expressions, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, names: Names
) -> dict[str, Value]:
    """The values of the parameters' defaults, by name."""
    arguments = node.args
    places = [*arguments.posonlyargs, *arguments.args]
    found = dict(
        zip([each.arg for each in places[len(places) - len(arguments.defaults) :]], arguments.defaults, strict=True)
    )
    found |= {
        each.arg: value
        for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    }
    given = {name: x.value(value, names) for name, value in found.items()}
    return {
        name: _opened(frozenset(each for each in value if not _is_call_of(found[name], each)))
        for name, value in given.items()
    }


def _opened(value: Value) -> Value:
    """A dependency that yields gives what it yields."""
    return join(value, elements(value))


def _is_call_of(node: ast.expr, thing: Thing) -> bool:
    """``Depends(f)`` gives what ``f`` gives; ``f`` itself is no value of the parameter."""
    return isinstance(node, ast.Call) and thing.kind in (Kind.FUNCTION, Kind.METHOD, Kind.OTHER)
