"""Comparators: what two correct databases may answer differently agrees, and whatever else differs does not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.migrate.comparators import DIFFERENCES_MAX, Tolerances, compare, overlap_at


class Anything:
    """No answer of any database; a name that is the same in every process, as tests that are divided among several need it."""

    def __repr__(self) -> str:
        return "anything"


NONSENSE: list[Any] = [
    None,
    True,
    7,
    -1,
    1.5,
    "text",
    b"bytes",
    [],
    [[]],
    {},
    Anything(),
    {"ids": None},
    {"ids": "ab"},
    {"ids": ["a", "a"]},
    {"ids": [["a", "a"]]},
    {"ids": [1, 2]},
    {"ids": [[["a"]]]},
    {"ids": [["a"], ["b"]], "distances": [[0.5]]},
    {"ids": [["a", "b"]], "distances": [[0.5]]},
    {"ids": [["a"]], "distances": [["near"]]},
    {"ids": [["a"]], "distances": [None]},
    {"ids": ["a"], "documents": ["one", "two"]},
    {"ids": ["a"], "documents": "one"},
    {"ids": ["a"], "metadatas": ["no dictionary"]},
    {"ids": ["a"], "embeddings": [["x", "y"]]},
    {"ids": [["a"]], "embeddings": [[None]]},
    {"ids": np.zeros((2, 2))},
]


def query_answer(*queries: list[tuple[str, float]], **columns: Any) -> dict[str, Any]:
    return {
        "ids": [[each for each, _ in rows] for rows in queries],
        "distances": [[distance for _, distance in rows] for rows in queries],
        **columns,
    }


def get_answer(*ids: str, **columns: Any) -> dict[str, Any]:
    return {"ids": list(ids), "embeddings": None, "documents": None, "metadatas": None, "uris": None, **columns}


def whats(verb: str, a: Any, b: Any, **rest: Any) -> list[str]:
    """The kinds of differences, each once."""
    return sorted({each.what for each in compare(verb, rest.pop("arguments", {}), a, b, **rest).differences})


scalars = st.one_of(st.text(max_size=5), st.integers(-9, 9), st.floats(allow_nan=False, width=32), st.booleans())
metadatas = st.one_of(st.none(), st.dictionaries(st.text("abc", min_size=1, max_size=2), scalars, max_size=3))
unique_ids = st.lists(st.text("abcdefgh", min_size=1, max_size=3), unique=True, max_size=8)


@st.composite
def results(draw: st.DrawFn) -> list[tuple[str, float]]:
    """The results of one query, sorted, farther apart than any tolerance."""
    ids = draw(unique_ids)
    steps = draw(st.lists(st.integers(1, 50), min_size=len(ids), max_size=len(ids)))
    return list(zip(ids, (np.cumsum(steps) / 100).tolist(), strict=True))


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A verb and a whole answer to it."""
    rows = draw(results())
    ids = [each for each, _ in rows]
    columns = {
        "documents": [draw(st.one_of(st.none(), st.text(max_size=4))) for _ in ids],
        "metadatas": [draw(metadatas) for _ in ids],
        "embeddings": np.asarray([[float(n), 1.0] for n in range(len(ids))], np.float32).reshape(-1, 2),
    }
    if draw(st.booleans()):
        return "get", {"ids": ids, **columns}
    return "query", query_answer(rows, **{name: [values] for name, values in columns.items()})


@settings(deadline=None)
@given(answers())
def test_an_answer_agrees_with_a_copy_of_itself(answer: tuple[str, dict[str, Any]]) -> None:
    verb, value = answer
    found = compare(verb, {}, value, copy.deepcopy(value))
    assert found.agrees
    assert found.reordered == 0
    assert found.overlap in (None, 1.0)


@settings(deadline=None)
@given(answers(), st.data())
def test_one_changed_document_of_a_common_id_is_found(answer: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    verb, value = answer
    other = copy.deepcopy(value)
    documents = other["documents"] if verb == "get" else other["documents"][0]
    if not documents:
        return
    row = data.draw(st.integers(0, len(documents) - 1))
    documents[row] = (documents[row] or "") + "!"
    found = compare(verb, {}, value, other)
    assert [each.what for each in found.differences] == ["field"]
    assert "document" in found.differences[0].detail


@settings(deadline=None)
@given(st.permutations(range(5)))
def test_permuted_ties_agree(order: list[int]) -> None:
    ties = [(f"id{n}", 0.5 + n * 1e-7) for n in range(5)]
    found = compare("query", {}, query_answer(ties), query_answer([ties[n] for n in order]))
    assert found.agrees
    assert found.reordered == sum(n != at for at, n in enumerate(order))


@settings(deadline=None)
@given(results(), st.data())
def test_two_results_that_swapped_places_beyond_the_tolerance_do_not_agree(
    rows: list[tuple[str, float]], data: st.DataObject
) -> None:
    if len(rows) < 2:
        return
    first = data.draw(st.integers(0, len(rows) - 2))
    second = data.draw(st.integers(first + 1, len(rows) - 1))
    swapped = list(rows)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert "order" in whats("query", query_answer(rows), query_answer(swapped))
    assert "order" in whats("query", query_answer(swapped), query_answer(rows))


@settings(deadline=None)
@given(results(), results())
def test_overlap_is_symmetric_and_a_part(a: list[tuple[str, float]], b: list[tuple[str, float]]) -> None:
    def overlap(x: list[tuple[str, float]], y: list[tuple[str, float]]) -> float:
        return overlap_at([i for i, _ in x], [d for _, d in x], [i for i, _ in y], [d for _, d in y], Tolerances())

    assert overlap(a, b) == overlap(b, a)
    assert 0 <= overlap(a, b) <= 1
    assert overlap(a, a) == 1
    assert compare("query", {}, query_answer(a), query_answer(b)).agrees == (
        compare("query", {}, query_answer(b), query_answer(a)).agrees
    )


@pytest.mark.parametrize("verb", ["query", "get", "peek", "count"])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: repr(value)[:40])
def test_nonsense_does_not_agree_and_does_not_raise(verb: str, nonsense: Any) -> None:
    sound = {
        "query": query_answer([("a", 0.5)], documents=[["one"]], metadatas=[[{"k": 1}]], embeddings=[[[1.0, 2.0]]]),
        "get": get_answer("a", documents=["one"], metadatas=[{"k": 1}], embeddings=[[1.0, 2.0]]),
        "count": 1,
    }
    good = sound["get" if verb == "peek" else verb]
    for one, two in ((good, nonsense), (nonsense, good)):
        found = compare(verb, {}, one, two)
        assert not found.agrees
        assert len(found.differences) <= DIFFERENCES_MAX


def test_of_ten_results_two_may_differ_and_three_may_not() -> None:
    ten = [(f"id{n}", n / 10) for n in range(10)]
    two_less = query_answer([*ten[:4], *ten[6:], ("new", 2.0), ("newer", 2.1)])
    three_less = query_answer([*ten[:4], *ten[7:], ("new", 2.0), ("newer", 2.1), ("newest", 2.2)])
    assert compare("query", {}, query_answer(ten), two_less).overlap == 0.8
    assert compare("query", {}, query_answer(ten), two_less).agrees
    assert whats("query", query_answer(ten), three_less) == ["overlap"]
    assert whats("query", query_answer(ten), two_less, tolerances=Tolerances(overlap_min=0.9)) == ["overlap"]


def test_the_worst_of_several_queries_counts() -> None:
    good, bad = [("a", 0.1), ("b", 0.2)], [("a", 0.1), ("c", 0.9)]
    found = compare("query", {}, query_answer(good, good), query_answer(good, bad))
    assert [(each.what, each.query) for each in found.differences] == [("overlap", 1)]
    assert found.overlap == 0.5


def test_which_of_equals_is_the_last_result_does_not_matter() -> None:
    a = query_answer([("a", 0.1), ("b", 0.7), ("c", 0.7)])
    b = query_answer([("a", 0.1), ("d", 0.7), ("e", 0.7)])
    assert compare("query", {}, a, b).overlap == 1.0
    assert compare("query", {}, a, b).agrees


def test_distances_agree_within_the_larger_of_both_bounds() -> None:
    def one(distance: float) -> dict[str, Any]:
        return query_answer([("a", distance)])

    assert compare("query", {}, one(1000.0), one(1000.09)).agrees
    assert compare("query", {}, one(0.0), one(9e-6)).agrees
    assert compare("query", {}, one(-1e-7), one(0.0)).agrees
    assert compare("query", {}, one(float("nan")), one(float("nan"))).agrees
    assert whats("query", one(1000.0), one(1000.2)) == ["distance"]
    assert whats("query", one(0.0), one(2e-5)) == ["distance"]
    assert whats("query", one(0.5), one(float("nan"))) == ["distance"]


def test_distances_that_only_one_side_has_are_a_difference() -> None:
    without = {"ids": [["a"]], "distances": None}
    assert whats("query", query_answer([("a", 0.5)]), without) == ["shape"]
    assert compare("query", {}, without, copy.deepcopy(without)).agrees


def test_get_without_a_limit_finds_the_same_ids_in_any_order() -> None:
    assert compare("get", {}, get_answer("a", "b"), get_answer("b", "a")).reordered == 2
    assert compare("get", {}, get_answer("a", "b"), get_answer("b", "a")).agrees
    assert whats("get", get_answer("a", "b"), get_answer("b", "a"), tolerances=Tolerances(order=True)) == ["order"]
    assert whats("get", get_answer("a", "b"), get_answer("a", "c")) == ["ids"]
    assert whats("get", get_answer("a", "b"), get_answer("a")) == ["count", "ids"]


def test_a_page_may_hold_other_records_but_not_more_of_them() -> None:
    page = {"limit": 2}
    assert compare("get", page, get_answer("a", "b"), get_answer("c", "d")).agrees
    assert compare("peek", {"n": 2}, get_answer("a", "b"), get_answer("c", "d")).agrees
    assert whats("get", get_answer("a", "b"), get_answer("c"), arguments=page) == ["count"]
    assert whats(
        "get", get_answer("a", documents=["x"]), get_answer("a", documents=["y"]), arguments=page
    ) == ["field"]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"k": 1}, {"k": 1}, True),
        ({"k": 1}, {"k": 1.0}, False),
        ({"k": 1}, {"k": True}, False),
        ({"k": 1}, {"k": "1"}, False),
        ({"k": 1}, {"k": 1, "l": 2}, False),
        ({"k": [1, 2]}, {"k": [1, 2]}, True),
        ({"k": [1, 2]}, {"k": [1, 2.0]}, False),
        ({}, None, True),
    ],
)
def test_metadata_agrees_by_value_and_type(one: Any, two: Any, same: bool) -> None:
    found = compare("get", {}, get_answer("a", metadatas=[one]), get_answer("a", metadatas=[two]))
    assert found.agrees is same


def test_embeddings_agree_bit_by_bit_or_for_cosine_within_the_tolerance_of_verify() -> None:
    vector = np.array([0.6, 0.8], np.float32)
    near = vector + np.float32(2e-7)
    one, two = (get_answer("a", embeddings=np.array([each])) for each in (vector, near))
    as_lists = get_answer("a", embeddings=[[float(x) for x in vector]])
    assert compare("get", {}, one, as_lists, space="l2").agrees
    assert whats("get", one, two, space="l2") == ["field"]
    assert compare("get", {}, one, two, space="cosine").agrees
    assert whats("get", one, get_answer("a", embeddings=[[0.6, 0.8, 0.0]]), space="cosine") == ["field"]


def test_a_column_that_only_one_side_has_is_a_difference() -> None:
    assert whats("get", get_answer("a", documents=["x"]), get_answer("a")) == ["field"]


def test_details_name_ids_and_fields_and_no_values() -> None:
    a = get_answer("a", documents=["secret"], metadatas=[{"mail": "me@example.org"}])
    b = get_answer("a", documents=["other"], metadatas=[{"mail": "you@example.org"}])
    details = " ".join(each.detail for each in compare("get", {}, a, b).differences)
    assert "metadata.mail" in details
    assert not any(text in details for text in ("secret", "other", "example"))


def test_an_answer_that_raises_when_it_is_looked_at_does_not_agree() -> None:
    class Trap(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise ZeroDivisionError

    assert whats("get", get_answer("a"), Trap()) == ["shape"]
