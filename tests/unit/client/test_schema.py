"""What a collection's schema does at run time: it forbids filters, and it collects the keys that were seen."""

from __future__ import annotations

from typing import Any

import pytest

from chromalith.client.schema import KEYS_MAX, check_filters, found_keys, missing_keys, with_keys
from chromalith.errors import Invalid


def index(name: str, enabled: bool) -> dict[str, Any]:
    return {name: {"enabled": enabled, "config": {}}}


DEFAULTS = {
    "string": index("string_inverted_index", True),
    "int": index("int_inverted_index", True),
    "float": index("float_inverted_index", True),
    "bool": index("bool_inverted_index", True),
}


def schema(**keys: Any) -> dict[str, Any]:
    return {"defaults": DEFAULTS, "keys": keys}


RESTRICTED = schema(tag={"string": index("string_inverted_index", False)})
NO_DOCUMENTS = schema(**{"#document": {"string": index("fts_index", False)}})


@pytest.mark.parametrize(
    "where",
    [
        {"tag": "x"},
        {"tag": {"$eq": "x"}},
        {"tag": {"$in": ["x", "y"]}},
        {"tag": {"$contains": "x"}},
        {"$and": [{"other": 1}, {"$or": [{"other": 2}, {"tag": {"$ne": "x"}}]}]},
    ],
)
def test_a_filter_on_a_disabled_index_is_refused_wherever_it_stands(where: Any) -> None:
    with pytest.raises(Invalid, match="metadata key 'tag' with type 'Str'"):
        check_filters(RESTRICTED, where, None)


@pytest.mark.parametrize("where", [None, {}, {"tag": 1}, {"tag": {"$gt": 1.5}}, {"tag": True}, {"other": "x"}])
def test_a_filter_on_another_type_or_key_is_not(where: Any) -> None:
    check_filters(RESTRICTED, where, None)
    check_filters(None, {"tag": "x"}, {"$contains": "x"})


@pytest.mark.parametrize(
    ("where", "where_document"), [(None, {"$contains": "x"}), ({"#document": {"$contains": "x"}}, None)]
)
def test_a_filter_on_documents_needs_their_index(where: Any, where_document: Any) -> None:
    with pytest.raises(Invalid, match="FTS"):
        check_filters(NO_DOCUMENTS, where, where_document)
    check_filters(schema(), where, where_document)


def test_keys_are_found_with_the_types_of_their_values() -> None:
    metadatas = [{"a": 1, "b": "x"}, None, {"a": True, "c": [1.5, 2.5], "#hidden": 1, "gone": None}]
    assert found_keys(metadatas) == {("a", "int"), ("a", "bool"), ("b", "string"), ("c", "float")}
    assert found_keys(None) == set()


def test_only_new_keys_are_missing_and_they_get_the_defaults() -> None:
    found = {("tag", "string"), ("tag", "int"), ("new", "bool")}
    assert missing_keys(RESTRICTED, found) == {("tag", "int"), ("new", "bool")}
    grown = with_keys(RESTRICTED, found)
    assert grown["keys"]["tag"] == {**RESTRICTED["keys"]["tag"], "int": DEFAULTS["int"]}
    assert grown["keys"]["new"] == {"bool": DEFAULTS["bool"]}
    assert missing_keys(grown, found) == set()
    assert set(RESTRICTED["keys"]["tag"]) == {"string"}, "the schema given is not changed"


def test_a_schema_stops_growing_at_its_limit() -> None:
    found = {(f"k{number}", "int") for number in range(KEYS_MAX + 5)}
    grown = with_keys(schema(), found)
    assert len(grown["keys"]) == KEYS_MAX
    assert missing_keys(grown, found) == set()
