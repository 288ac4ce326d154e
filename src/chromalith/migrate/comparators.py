"""Do two answers to the same read agree? Pure; what is no answer at all (``None``, lists of other lengths, no
dictionary) does not agree.

Two correct databases do not answer a query of vectors alike, so equality is not the question:

- *Neighbours.* An approximate index misses some, and another index others. Of 1,000 queries of 20,000 real records (384
  numbers each), stock Chroma and Chromalith at their defaults answered 92 % with the same ten ids, 6 % with one that
  differed, 1.4 % with two, 0.5 % with more. So ``overlap_min`` is 0.8: two of ten may differ, one of five, of fewer
  none; what is left is less than the 1 % that ``switch`` allows, and a lost part of a collection shows. An id at one
  side only is excused if its distance is that of the last result at the other: which of equals is last is chance.
- *Distances*, of the ids that both sides found, are sums of float32 products in another order. What that can change of
  a sum of 1,536 is at most 9e-5 of it (n eps / 2; measured with 384: 3.5e-7), so 1e-4 is allowed. Where a sum nearly
  cancels (``1 - cosine`` of a record and itself) only an absolute bound says something: 1e-5. For ``ip`` of embeddings
  much longer than 1 it must be larger: the error is that of the product, not of the distance.
- *Order* within these bounds is chance and is only counted; beyond them an answer is not sorted by its own distances,
  or the other side's.

What ``get`` finds is exact: ids as a set, and each field by value and type (:mod:`chromalith.migrate.records`). Its
order is that of insertion, which a migration does not promise: it is counted, and compared on request. With a limit or
an offset the order decides which records are found: the number must agree, and the fields of the records that both
sides found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from numbers import Integral, Real
from typing import Any

import numpy as np

from chromalith.migrate.records import same_embedding, same_value

DIFFERENCES_MAX = 20
"""Kept of one comparison."""
NAMED_MAX = 5
COLUMNS = ("documents", "uris", "metadatas", "embeddings")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What is still equal; the module's docstring says why.

    Attributes:
        overlap_min: of a query's results, how many both sides must have found, 0 to 1.
        relative, absolute: of distances; the larger bound counts.
        order: whether the order of ``get`` matters.
    """

    overlap_min: float = 0.8
    relative: float = 1e-4
    absolute: float = 1e-5
    order: bool = False

    def near(self, a: float, b: float) -> bool:
        """Whether two distances are the same."""
        if isnan(a) or isnan(b):
            return isnan(a) and isnan(b)
        return a == b or abs(a - b) <= max(self.absolute, self.relative * max(abs(a), abs(b)))


DEFAULT = Tolerances()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that does not agree.

    Attributes:
        what: ``shape``, ``count``, ``ids``, ``overlap``, ``distance``, ``order`` or ``field``.
        detail: for people; ids, numbers and names of fields, never their values.
        query: which of the call's queries, from 0; ``None`` for other verbs.
    """

    what: str
    detail: str
    query: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        differences: at most :data:`DIFFERENCES_MAX`; none: the answers agree.
        overlap: the least of the call's queries; ``None`` for other verbs.
        reordered: ids at another place than at the other side, or on another page.
    """

    differences: tuple[Difference, ...] = ()
    overlap: float | None = None
    reordered: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the caller would have got the same."""
        return not self.differences


class _Nonsense(Exception):
    """What was answered has not the form of an answer."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """One list of records: their ids, their distances, and each column that was asked for."""

    ids: list[str]
    distances: list[float] | None
    columns: dict[str, Sequence[Any]]


def compare(
    verb: str,
    arguments: Mapping[str, Any],
    answered: Any,
    other: Any,
    tolerances: Tolerances = DEFAULT,
    space: str | None = None,
) -> Comparison:
    """Compare the answer that the caller got with the other side's. Symmetric but for the words; raises nothing.

    Args:
        verb: ``query``, ``get``, ``peek`` or ``count``.
        arguments: of the call.
        answered, other: as Chroma shapes them.
        tolerances: what is still equal.
        space: the collection's distance; ``None`` (not known) compares embeddings as those of a cosine collection.
    """
    try:
        return _VERBS[verb](arguments, answered, other, tolerances, space or "cosine")
    except _Nonsense as error:
        return Comparison((Difference("shape", str(error)),))
    except Exception as error:  # whatever a side made up: it is not what was asked for
        return Comparison((Difference("shape", f"can't be compared: {type(error).__name__}"),))


# -- verbs -------------------------------------------------------------------------------------------------------------


def _count(arguments: Mapping[str, Any], answered: Any, other: Any, tolerances: Tolerances, space: str) -> Comparison:
    for value in (answered, other):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise _Nonsense(f"a count is a whole number, not {_kind(value)}")
    if answered != other:
        return Comparison((Difference("count", f"{answered} answered, {other} at the other side"),))
    return Comparison()


def _get(arguments: Mapping[str, Any], answered: Any, other: Any, tolerances: Tolerances, space: str) -> Comparison:
    a, b = _rows(answered, None), _rows(other, None)
    paged = any(arguments.get(name) for name in ("limit", "offset", "n"))
    found = []
    if len(a.ids) != len(b.ids):
        found.append(Difference("count", f"{len(a.ids)} records answered, {len(b.ids)} at the other side"))
    in_a, in_b = set(a.ids), set(b.ids)
    if not paged:
        for word, ids in (("only answered", in_a - in_b), ("only at the other side", in_b - in_a)):
            if ids:
                found.append(Difference("ids", f"{word}: {_named(ids)}"))
    moved = sum(one != two for one, two in zip(a.ids, b.ids, strict=False))
    if tolerances.order and moved:
        found.append(Difference("order", f"{moved} records stand at another place"))
    found += _fields(a, b, space, None)
    return Comparison(tuple(found[:DIFFERENCES_MAX]), None, moved)


def _query(arguments: Mapping[str, Any], answered: Any, other: Any, tolerances: Tolerances, space: str) -> Comparison:
    a, b = _queries(answered), _queries(other)
    if len(a) != len(b):
        raise _Nonsense(f"{len(a)} queries were answered, {len(b)} at the other side")
    found: list[Difference] = []
    least, moved = 1.0, 0
    for number, (one, two) in enumerate(zip(a, b, strict=True)):
        overlap = overlap_at(one.ids, one.distances, two.ids, two.distances, tolerances)
        least = min(least, overlap)
        if overlap < tolerances.overlap_min - 1e-9:
            only = [_named(set(x.ids) - set(y.ids)) for x, y in ((one, two), (two, one))]
            detail = f"{overlap:.2f} of {max(len(one.ids), len(two.ids))}; only answered: {only[0]}; only at the other side: {only[1]}"
            found.append(Difference("overlap", detail, number))
        found += _distances(one, two, tolerances, number)
        found += _fields(one, two, space, number)
        common = set(one.ids) & set(two.ids)
        orders = ([each for each in rows.ids if each in common] for rows in (one, two))
        moved += sum(x != y for x, y in zip(*orders, strict=True))
    return Comparison(tuple(found[:DIFFERENCES_MAX]), least, moved)


_Verb = Callable[[Mapping[str, Any], Any, Any, Tolerances, str], Comparison]
_VERBS: dict[str, _Verb] = {"count": _count, "get": _get, "peek": _get, "query": _query}
VERBS = frozenset(_VERBS)


# -- parts of a comparison ---------------------------------------------------------------------------------------------


def overlap_at(
    a_ids: Sequence[str],
    a_distances: Sequence[float] | None,
    b_ids: Sequence[str],
    b_distances: Sequence[float] | None,
    tolerances: Tolerances,
) -> float:
    """The part of the longer list that both have, 0 to 1; of two empty lists 1. Those that tie with the other's last result count."""
    longer = max(len(a_ids), len(b_ids))
    if not longer:
        return 1.0
    in_a, in_b = set(a_ids), set(b_ids)
    common = len(in_a & in_b)
    tied = 0
    if a_distances and b_distances:
        last_a, last_b = a_distances[-1], b_distances[-1]
        from_a = sum(i not in in_b and tolerances.near(d, last_b) for i, d in zip(a_ids, a_distances, strict=True))
        from_b = sum(i not in in_a and tolerances.near(d, last_a) for i, d in zip(b_ids, b_distances, strict=True))
        tied = min(from_a, from_b)
    return (common + tied) / longer


def _distances(a: _Rows, b: _Rows, tolerances: Tolerances, query: int) -> list[Difference]:
    if a.distances is None or b.distances is None:
        if a.distances is b.distances or not (a.ids and b.ids):
            return []
        return [Difference("shape", "one of the answers has no distances", query)]
    at_a, at_b = (dict(zip(rows.ids, rows.distances or (), strict=True)) for rows in (a, b))
    common = at_a.keys() & at_b.keys()
    found = [
        Difference("distance", f"id={each!r:.100} {at_a[each]!r} answered, {at_b[each]!r} at the other side", query)
        for each in a.ids
        if each in common and not tolerances.near(at_a[each], at_b[each])
    ]
    for rows, by in ((a, at_a), (a, at_b), (b, at_a), (b, at_b)):
        wrong = _unsorted([each for each in rows.ids if each in common], by, tolerances)
        if wrong is not None:
            return [*found, Difference("order", f"id={wrong!r:.100} stands behind one that is farther", query)]
    return found


def _unsorted(ids: Sequence[str], distances: Mapping[str, float], tolerances: Tolerances) -> str | None:
    """The first id that stands behind one which is farther by more than what is tolerated."""
    farthest = float("-inf")
    for each in ids:
        distance = distances[each]
        if distance < farthest and not tolerances.near(distance, farthest):
            return each
        farthest = max(farthest, distance)
    return None


def _fields(a: _Rows, b: _Rows, space: str, query: int | None) -> list[Difference]:
    found = []
    at_b = {each: row for row, each in enumerate(b.ids)}
    pairs = [(each, row, at_b[each]) for row, each in enumerate(a.ids) if each in at_b]
    for column in COLUMNS:
        if (column in a.columns) != (column in b.columns):
            if pairs:
                where = "only answered" if column in a.columns else "only at the other side"
                found.append(Difference("field", f"{column} {where}", query))
        elif column in a.columns:
            one, two = a.columns[column], b.columns[column]
            for each, row, at in pairs:
                names = _unequal(column, one[row], two[at], space)
                if names:
                    found.append(Difference("field", f"id={each!r:.100} {', '.join(names[:NAMED_MAX])}", query))
                    if len(found) >= DIFFERENCES_MAX:
                        return found
    return found


def _unequal(column: str, a: Any, b: Any, space: str) -> list[str]:
    """The names of the fields of one record that differ, as verify calls them."""
    if column == "embeddings":
        vectors = [np.ascontiguousarray(value, np.float32) for value in (a, b)]
        return [] if vectors[0].ndim == 1 and same_embedding(vectors[0], vectors[1], space) else ["embedding"]
    if column == "metadatas":
        if not all(value is None or isinstance(value, Mapping) for value in (a, b)):
            raise _Nonsense("metadata is no dictionary")
        one: Mapping[str, Any] = a or {}
        two: Mapping[str, Any] = b or {}
        keys = sorted(one.keys() | two.keys(), key=str)
        return [f"metadata.{k!s:.60}" for k in keys if k not in one or k not in two or not same_value(one[k], two[k])]
    return [] if type(a) is type(b) and a == b else [column.removesuffix("s")]


# -- reading answers ---------------------------------------------------------------------------------------------------


def _queries(answer: Any) -> list[_Rows]:
    """The answer to each query of a call."""
    ids = _mapping(answer).get("ids")
    if not isinstance(ids, list | tuple):
        raise _Nonsense(f"ids are a list of lists, not {_kind(ids)}")
    return [_rows(answer, number) for number in range(len(ids))]


def _rows(answer: Any, query: int | None) -> _Rows:
    """One list of records."""
    found = _mapping(answer)

    def column(name: str, wanted: int | None) -> Sequence[Any] | None:
        value = found.get(name)
        if query is not None and value is not None:
            if not _is_list(value) or query >= len(value):
                raise _Nonsense(f"{name}: no list for query {query}")
            value = value[query]
        if value is None:
            return None
        if not _is_list(value) or (wanted is not None and len(value) != wanted):
            raise _Nonsense(f"{name}: not a list of {wanted} but {_kind(value)}")
        return value  # type: ignore[no-any-return]

    ids = column("ids", None)
    if ids is None or not all(isinstance(each, str) for each in ids) or len(set(ids)) != len(ids):
        raise _Nonsense("ids are not a list of different texts")
    distances = column("distances", len(ids)) if query is not None else None
    if distances is not None:
        if not all(isinstance(each, Real) and not isinstance(each, bool) for each in distances):
            raise _Nonsense("distances are not all numbers")
        distances = [float(each) for each in distances]
    columns = {name: values for name in COLUMNS if (values := column(name, len(ids))) is not None}
    return _Rows(list(ids), distances, columns)


def _mapping(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise _Nonsense(f"an answer is a dictionary, not {_kind(answer)}")
    return answer


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _kind(value: Any) -> str:
    length = f" of {len(value)}" if _is_list(value) or isinstance(value, str | Mapping) else ""
    return f"{type(value).__name__}{length}"


def _named(ids: set[str]) -> str:
    named = ", ".join(f"{each!r:.60}" for each in sorted(ids)[:NAMED_MAX])
    return f"{named or 'none'}{f' and {len(ids) - NAMED_MAX} more' if len(ids) > NAMED_MAX else ''}"
