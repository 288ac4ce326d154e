"""Filters: what is refused and how it is said. What they mean is compared with Chroma in tests/property."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chromalith.engine.filters import (
    DEPTH_MAX,
    All,
    AnyOf,
    Compare,
    In,
    Not,
    TextContains,
    mask,
    parse_filters,
    parse_where,
    parse_where_document,
)
from chromalith.engine.part import ArrowPart
from chromalith.errors import Invalid


def part(*metadata: dict[str, Any] | None, documents: list[str | None] | None = None) -> ArrowPart:
    rows = len(metadata)
    return ArrowPart(
        seq=np.arange(rows, dtype=np.int64),
        ids=pa.array([str(i) for i in range(rows)]),
        vectors=np.zeros((rows, 1), dtype=np.float32),
        documents=pa.array(documents or [None] * rows, pa.string()),
        uris=pa.array([f"file:{i}" for i in range(rows)]),
        metadata=pa.array([None if m is None else json.dumps(m) for m in metadata], pa.string()),
    )


def rows(where: Any, of: ArrowPart) -> list[int]:
    return np.flatnonzero(mask(parse_where(where), of)).tolist()


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ({}, "exactly one key"),
        ({"a": 1, "b": 2}, "'b'"),
        ("a", "type=str"),
        ({"a": None}, "NoneType"),
        ({"a": [1]}, "list"),
        ({"a": {}}, "exactly one key"),
        ({"a": {"$eq": 1, "$ne": 2}}, "exactly one key"),
        ({"a": {"$like": "x"}}, "'$like'"),
        ({"a": {"$regex": "x"}}, "'$regex'"),
        ({"a": {"$and": [{"a": 1}, {"a": 2}]}}, "'$and'"),
        ({"$eq": 1}, "'$eq'"),
        ({"$contains": "x"}, "'$contains'"),
        ({"$xor": [{"a": 1}, {"a": 2}]}, "'$xor'"),
        ({"$and": [{"a": 1}]}, "at least two"),
        ({"$or": {"a": 1}}, "at least two"),
        ({"$and": [{"a": 1}, {}]}, "exactly one key"),
        ({"a": {"$gt": "1"}}, "'$gt'"),
        ({"a": {"$lte": True}}, "'$lte'"),
        ({"a": {"$gte": float("inf")}}, "finite"),
        ({"a": float("nan")}, "finite"),
        ({"a": 2**63}, "64 bits"),
        ({"a": {"$in": []}}, "non-empty list"),
        ({"a": {"$in": (1,)}}, "non-empty list"),
        ({"a": {"$in": [1, 1.5]}}, "one type"),
        ({"a": {"$nin": [1, True]}}, "one type"),
        ({"a": {"$in": [None]}}, "NoneType"),
        ({"a": {"$contains": [1]}}, "list"),
        ({"#document": "x"}, "#document"),
        ({"#document": {"$in": ["x"]}}, "#document"),
        ({"#document": {"$contains": 1}}, "takes a str"),
        ({1: 2}, "str key"),
    ],
)
def test_a_where_that_chroma_refuses_is_invalid_and_the_message_names_the_cause(where: Any, named: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_where(where)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("where_document", "named"),
    [
        ({}, "exactly one key"),
        ("x", "type=str"),
        ({"$contains": ""}, "non-empty"),
        ({"$contains": 1}, "non-empty str"),
        ({"$like": "x"}, "'$like'"),
        ({"$contains": "a", "$regex": "b"}, "exactly one key"),
        ({"$and": [{"$contains": "a"}]}, "at least two"),
        ({"$regex": "["}, "'['"),
        ({"$not_regex": r"(a)\1"}, "escape"),
        ({"$regex": "a(?=b)"}, "look-around"),
    ],
)
def test_a_where_document_that_chroma_refuses_is_invalid(where_document: Any, named: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_where_document(where_document)
    assert named in str(caught.value)


def test_an_unknown_operator_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        parse_where({"a": {"$equals": 1}})
    assert all(known in (caught.value.hint or "") for known in ("$eq", "$nin", "$not_contains"))


def test_nesting_has_a_limit_instead_of_a_stack_overflow() -> None:
    where: Any = {"a": 1}
    for _ in range(DEPTH_MAX):
        where = {"$and": [where, {"b": 1}]}
    parse_where(where)
    with pytest.raises(Invalid, match="nested too deeply"):
        parse_where({"$and": [where, {"b": 1}]})


def test_parsing_gives_values_that_compare() -> None:
    assert parse_where({"a": 1}) == parse_where({"a": {"$eq": 1}}) == Compare("a", "$eq", 1)
    assert parse_where({"a": {"$nin": ["x"]}}) == Not(In("a", ("x",)))
    assert (
        parse_where({"#document": {"$contains": "x"}}) == parse_where_document({"$contains": "x"}) == TextContains("x")
    )
    assert parse_where({"$or": [{"a": 1}, {"b": 2}]}) == AnyOf((Compare("a", "$eq", 1), Compare("b", "$eq", 2)))
    assert parse_filters(None, None) is None
    assert parse_filters({"a": 1}, {"$contains": "x"}) == All((Compare("a", "$eq", 1), TextContains("x")))


def test_equal_numbers_match_across_types_and_nothing_else_does() -> None:
    records = part({"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": [1]}, {"b": 1}, None)
    assert rows({"a": 1}, records) == rows({"a": 1.0}, records) == [0, 1]
    assert rows({"a": True}, records) == [2]
    assert rows({"a": "1"}, records) == [3]
    assert rows({"a": {"$contains": 1}}, records) == [4]
    assert rows({"a": {"$contains": 1.0}}, records) == []
    assert rows({"a": {"$ne": 1}}, records) == [2, 3, 4, 5, 6]


def test_large_integers_are_compared_exactly() -> None:
    records = part({"a": 2**53}, {"a": 2**53 + 1}, {"a": float(2**53)})
    assert rows({"a": 2**53}, records) == [0, 2]
    assert rows({"a": {"$gt": 2**53}}, records) == [1]
    assert rows({"a": 2**53 + 1}, records) == [1, 2], "the float is met as the nearest float, as Chroma does"


def test_a_fraction_meets_integers_as_chroma_truncates_it() -> None:
    """Chroma's flaw, kept on purpose: the day it is mended there, the oracle test fails, and this one is turned around."""
    records = part({"a": 0}, {"a": 1}, {"a": 0.75})
    assert rows({"a": {"$gte": 0.5}}, records) == [0, 1, 2]
    assert rows({"a": 1.5}, records) == [1]


def test_chroma_s_own_names_of_document_and_uri_are_keys() -> None:
    records = part(None, {"a": 1}, documents=["x", None])
    assert rows({"chroma:document": "x"}, records) == [0]
    assert rows({"chroma:document": {"$ne": "x"}}, records) == [1]
    assert rows({"chroma:uri": {"$in": ["file:1", "file:7"]}}, records) == [1]
    assert rows({"chroma:uri": 1}, records) == []


def test_negations_hold_for_records_without_the_document() -> None:
    records = part(None, None, None, documents=["cat", None, "dog"])
    assert np.flatnonzero(mask(parse_where_document({"$not_contains": "cat"}), records)).tolist() == [1, 2]
    assert np.flatnonzero(mask(parse_where_document({"$not_regex": "^c"}), records)).tolist() == [1, 2]


def test_text_and_metadata_are_not_looked_at_when_nothing_is_left() -> None:
    """In a conjunction the cheap condition goes first: one that leaves nothing saves the scan of the texts."""

    class Counting(ArrowPart):
        looked = 0

        def documents(self) -> pa.Array:
            self.looked += 1
            return super().documents()

    records = Counting(
        seq=np.arange(1), ids=pa.array(["0"]), vectors=np.zeros((1, 1), np.float32), documents=pa.array(["x"])
    )
    condition = parse_filters({"a": 1}, {"$contains": "x"})
    assert condition is not None
    assert not mask(condition, records).any()
    assert records.looked == 0
