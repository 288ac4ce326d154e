"""What a collection is made of is Chroma's answer, not ours: the same as stock Chroma gives for the same arguments."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chromadb
import pytest
from chromadb.api.types import Schema, StringInvertedIndexConfig
from chromadb.errors import InvalidArgumentError

from chromalith.client.stock_rules import StockRules


@pytest.fixture
def rules() -> Iterator[StockRules]:
    made = StockRules()
    yield made
    made.stop()


ARGUMENTS = [
    {},
    {"metadata": {"hnsw:space": "cosine", "note": 1}},
    {"configuration": {"hnsw": {"space": "ip", "ef_search": 55}}},
    {"schema": Schema().delete_index(key="tag", config=StringInvertedIndexConfig())},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_definition_is_what_stock_chroma_makes_of_the_arguments(
    rules: StockRules,
    arguments: dict,  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    # Not an ephemeral client: a process has one of those, and another test may hold it with other settings.
    with chromadb.PersistentClient(str(tmp_path)) as stock:
        made = stock.create_collection("words", embedding_function=None, **arguments)
        theirs = (made.configuration_json, made._model.serialized_schema, made.metadata)
        stock.delete_collection("words")
    ours = rules.created("words", arguments.get("schema"), arguments.get("configuration"), arguments.get("metadata"))
    assert (ours.configuration, ours.schema, ours.metadata) == theirs


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_modification_changes_what_it_names_and_keeps_the_rest(rules: StockRules, arguments: dict) -> None:  # type: ignore[type-arg]
    found = rules.created("words", arguments.get("schema"), arguments.get("configuration"), arguments.get("metadata"))
    assert rules.modified(found, "other", None, None) == found
    changed = rules.modified(found, None, {"b": 2.5}, {"hnsw": {"ef_search": 77}})
    assert changed.metadata == {"b": 2.5}
    assert changed.configuration["hnsw"] == {**found.configuration["hnsw"], "ef_search": 77}
    assert rules.modified(changed, None, None, None) == changed


def test_refusals_are_chromas_and_leave_nothing_behind(rules: StockRules) -> None:
    found = rules.created("words", None, None, None)
    with pytest.raises(InvalidArgumentError, match="two consecutive periods"):
        rules.created("a..b", None, None, None)
    with pytest.raises(InvalidArgumentError, match="Metadata cannot be empty"):
        rules.modified(found, None, {}, None)
    assert rules.created("words", None, None, None) == found


def test_many_threads_may_ask_at_once(rules: StockRules) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: rules.created("words", None, None, {"n": n}), range(40)))
    assert [each.metadata for each in made] == [{"n": n} for n in range(40)]
