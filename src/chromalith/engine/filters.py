"""Chroma's ``where`` and ``where_document``: parsed once into values, then applied to a part as a boolean mask.

Parsing is pure and refuses whatever Chroma 1.5.9 refuses. What each operator means was taken from experiments on a stock
engine, and ``tests/property/test_filters_oracle.py`` keeps comparing the two:

1. A leaf holds for a record when *some* typed value of its key matches; ``$ne``, ``$nin``, ``$not_contains`` and
   ``$not_regex`` are the plain negations, so they also hold for records that lack the key or the document.
2. Values match by type: strings, booleans and numbers never equal each other; an int64 and a float64 may (:mod:`.columns`
   has the rule, surprising in one place). A list never equals a scalar; only ``$contains`` looks into lists.
3. ``#document`` may stand for a key with ``$contains`` and ``$not_contains``. ``chroma:document`` and ``chroma:uri`` are the
   names under which Chroma itself keeps those texts, and they can be filtered like string metadata.
4. Text is compared as it is: no case folding, no normalisation, no wildcards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromalith.engine.columns import Mask, MetadataColumns, Scalar, arrow_mask
from chromalith.engine.regex import Pattern, compile_pattern
from chromalith.engine.text import contains
from chromalith.errors import Invalid

WHERE_OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$contains", "$not_contains")
DOCUMENT_OPERATORS: Final = ("$contains", "$not_contains", "$regex", "$not_regex")
LOGICAL_OPERATORS: Final = ("$and", "$or")
DOCUMENT_KEY: Final = "#document"

DEPTH_MAX: Final = 64
"""Nesting of ``$and`` and ``$or``. Chroma overflows its parser's stack at some depth; a filter that a person or a program
means stays far below this, and the recursion here stays far below Python's limit of 1,000 frames."""


@dataclass(frozen=True, slots=True)
class Compare:
    """``{key: {operator: value}}`` for ``$eq $gt $gte $lt $lte``; the last four have a number."""

    key: str
    operator: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """``{key: {"$in": values}}``: equal to one of ``values``, which all have one type."""

    key: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class ListContains:
    """``{key: {"$contains": value}}``: a metadata list has this element, of exactly this type."""

    key: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class TextContains:
    """``{"$contains": text}`` on the document."""

    text: str


@dataclass(frozen=True, slots=True)
class TextMatches:
    """``{"$regex": pattern}`` on the document."""

    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Not:
    """The records for which ``child`` does not hold."""

    child: Filter


@dataclass(frozen=True, slots=True)
class All:
    """``$and``."""

    children: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """``$or``."""

    children: tuple[Filter, ...]


Filter = Compare | In | ListContains | TextContains | TextMatches | Not | All | AnyOf


# Parsing


def parse_where(where: object) -> Filter:
    """Check and parse a ``where`` filter.

    Raises ``Invalid`` with the operator's or key's name and what is known, for whatever Chroma 1.5.9 refuses."""
    return _parse_where(where, 0)


def parse_where_document(where_document: object) -> Filter:
    """Check and parse a ``where_document`` filter. Raises ``Invalid`` as :func:`parse_where` does."""
    return _parse_document(where_document, 0)


def _parse_where(where: object, depth: int) -> Filter:
    key, operand = _single_entry(where, "where", depth)
    if key in LOGICAL_OPERATORS:
        return _logical(key, operand, "where", lambda child: _parse_where(child, depth + 1))
    if key.startswith("$"):
        raise Invalid(
            f"unknown operator in where: operator={key!r}",
            hint=f"the outer key of where is a metadata key, or one of {', '.join(LOGICAL_OPERATORS)}",
        )
    if not isinstance(operand, Mapping):
        return _metadata_leaf(key, "$eq", operand)
    operator, value = _single_entry(operand, f"where[{key!r}]", depth)
    return _metadata_leaf(key, operator, value)


def _metadata_leaf(key: str, operator: str, value: object) -> Filter:
    if operator not in WHERE_OPERATORS:
        raise Invalid(
            f"unknown operator in where: operator={operator!r}, key={key!r}",
            hint=f"use one of {', '.join(WHERE_OPERATORS)}",
        )
    if operator in ("$in", "$nin"):
        found: Filter = In(key, _list_operand(key, operator, value))
    elif operator in ("$contains", "$not_contains"):
        found = _contains_leaf(key, operator, _scalar_operand(key, operator, value))
    elif operator in ("$gt", "$gte", "$lt", "$lte"):
        number = _scalar_operand(key, operator, value)
        if isinstance(number, (str, bool)):
            raise Invalid(f"operator takes an int or a float: operator={operator!r}, key={key!r}, value={value!r}")
        found = Compare(key, operator, number)
    else:
        found = Compare(key, "$eq", _scalar_operand(key, operator, value))
    if key == DOCUMENT_KEY and isinstance(found, (Compare, In)) and _is_text(found):
        raise Invalid(
            f"document can not be compared as a whole: operator={operator!r}, key={key!r}",
            hint="use $contains or $not_contains, or where_document with $regex",
        )
    return Not(found) if operator in ("$ne", "$nin", "$not_contains") else found


def _contains_leaf(key: str, operator: str, value: Scalar) -> Filter:
    if key != DOCUMENT_KEY:
        return ListContains(key, value)
    if not isinstance(value, str):
        raise Invalid(f"operator takes a str on the document: operator={operator!r}, key={key!r}, value={value!r}")
    return TextContains(value)


def _is_text(leaf: Compare | In) -> bool:
    return isinstance(leaf.value if isinstance(leaf, Compare) else leaf.values[0], str)


def _parse_document(where_document: object, depth: int) -> Filter:
    operator, operand = _single_entry(where_document, "where_document", depth)
    if operator in LOGICAL_OPERATORS:
        return _logical(operator, operand, "where_document", lambda child: _parse_document(child, depth + 1))
    if operator not in DOCUMENT_OPERATORS:
        known = ", ".join(DOCUMENT_OPERATORS + LOGICAL_OPERATORS)
        raise Invalid(f"unknown operator in where_document: operator={operator!r}", hint=f"use one of {known}")
    if not isinstance(operand, str) or not operand:
        raise Invalid(f"operator takes a non-empty str: operator={operator!r}, value={operand!r}")
    is_regex = operator in ("$regex", "$not_regex")
    found: Filter = TextMatches(compile_pattern(operand)) if is_regex else TextContains(operand)
    return Not(found) if operator in ("$not_contains", "$not_regex") else found


def _single_entry(value: object, name: str, depth: int) -> tuple[str, object]:
    if depth > DEPTH_MAX:
        raise Invalid(f"filter is nested too deeply: levels_max={DEPTH_MAX}")
    if not isinstance(value, Mapping):
        raise Invalid(f"{name} must be a dict: type={type(value).__name__}")
    if len(value) != 1:
        raise Invalid(
            f"{name} must have exactly one key: keys={list(value)!r}", hint="join conditions with $and or $or"
        )
    ((key, operand),) = value.items()
    if not isinstance(key, str):
        raise Invalid(f"{name} must have a str key: key={key!r}")
    return key, operand


def _logical(operator: str, operand: object, name: str, parse: Callable[[object], Filter]) -> Filter:
    if not isinstance(operand, list) or len(operand) < 2:
        raise Invalid(
            f"operator takes a list of at least two filters in {name}: operator={operator!r}, value={operand!r}"
        )
    children = tuple(parse(child) for child in operand)
    return All(children) if operator == "$and" else AnyOf(children)


def _list_operand(key: str, operator: str, value: object) -> tuple[Scalar, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid(f"operator takes a non-empty list: operator={operator!r}, key={key!r}, value={value!r}")
    scalars = tuple(_scalar_operand(key, operator, item) for item in value)
    if len({_type_name(item) for item in scalars}) != 1:
        raise Invalid(f"operator takes values of one type: operator={operator!r}, key={key!r}, value={value!r}")
    return scalars


def _scalar_operand(key: str, operator: str, value: object) -> Scalar:
    if not isinstance(value, (str, bool, int, float)):
        raise Invalid(
            f"operator takes a str, int, float or bool: operator={operator!r}, key={key!r}, type={type(value).__name__}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"operator takes a finite number: operator={operator!r}, key={key!r}, value={value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Invalid(f"operator takes an int of 64 bits: operator={operator!r}, key={key!r}, value={value!r}")
    return value


def _type_name(value: Scalar) -> str:
    # Subclasses (enum members, numpy.float64) count as what they extend; bool before int, because it extends it.
    return next(kind.__name__ for kind in (str, bool, int, float) if isinstance(value, kind))


# Evaluation


class Filterable(Protocol):
    """What a filter reads of a part. Each is asked for only when a leaf needs it, so that nothing is exploded in vain."""

    @property
    def rows(self) -> int:
        """The number of records."""
        ...

    def columns(self) -> MetadataColumns:
        """Typed metadata columns."""
        ...

    def documents(self) -> pa.Array:
        """Strings, nullable, one per record."""
        ...

    def uris(self) -> pa.Array:
        """Strings, nullable, one per record."""
        ...


def mask(where: Filter, part: Filterable) -> Mask:
    """Which records satisfy ``where``: bool, shape ``(rows,)``. May be a view of something cached: never written to."""
    match where:
        case All(children):
            # Cheap leaves decide most records; text is looked at last, and not at all when nothing is left.
            found = np.ones(part.rows, dtype=np.bool_)
            for child in sorted(children, key=_cost):
                if not found.any():
                    break
                found &= mask(child, part)
            return found
        case AnyOf(children):
            found = np.zeros(part.rows, dtype=np.bool_)
            for child in sorted(children, key=_cost):
                if found.all():
                    break
                found |= mask(child, part)
            return found
        case Not(child):
            return ~mask(child, part)
        case TextContains(text):
            return contains(part.documents(), text)
        case TextMatches(pattern):
            return pattern.mask(part.documents())
        case ListContains(key, value):
            return part.columns().contains(key, value)
        case Compare(key, operator, value):
            text_column = _text_column(key, part)
            if text_column is None:
                return part.columns().compare(key, operator, value)
            # A text column has strings only, so no number and no bool compares with it.
            return _text_equal(text_column, (value,), part.rows)
        case In(key, values):
            text_column = _text_column(key, part)
            return (
                part.columns().is_in(key, values)
                if text_column is None
                else _text_equal(text_column, values, part.rows)
            )


def _text_column(key: str, part: Filterable) -> pa.Array | None:
    return {"chroma:document": part.documents, "chroma:uri": part.uris}.get(key, lambda: None)()


def _text_equal(column: pa.Array, values: tuple[Scalar, ...], rows: int) -> Mask:
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return np.zeros(rows, dtype=np.bool_)
    if len(texts) == 1:
        return arrow_mask(pc.equal(column, pa.scalar(texts[0], column.type)))
    return arrow_mask(pc.is_in(column, value_set=pa.array(texts, column.type)))


def _cost(where: Filter) -> int:
    match where:
        case All(children) | AnyOf(children):
            return max(_cost(child) for child in children)
        case Not(child):
            return _cost(child)
        case TextMatches():
            return 2
        case TextContains():
            return 1
        case _:
            return 0


def parse_filters(where: Any, where_document: Any) -> Filter | None:
    """Both filters of a call as one, or ``None`` if there is neither. Raises ``Invalid``."""
    filters = []
    if where is not None:
        filters.append(parse_where(where))
    if where_document is not None:
        filters.append(parse_where_document(where_document))
    if not filters:
        return None
    return filters[0] if len(filters) == 1 else All(tuple(filters))
