"""Mismatches: few are stored, without what the records say, and never an embedding."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.migrate.shadow_world import new_place, read, settle, shadow
from tests.migrate.test_comparators import NONSENSE, get_answer, query_answer

from chromalith.migrate import mismatches as module
from chromalith.migrate.mismatches import Mismatches, Record, hider, plain
from chromalith.migrate.places import Place
from chromalith.migrate.shadow_stats import Counts

SECRET = "Ann Example, 12 Main Street"
AGE = 99_999_999_991
"""No time of day, and no number drawn by chance, has it in it."""
VECTOR = np.linspace(0.123456, 0.987654, 32, dtype=np.float32)
ARGUMENTS = {
    "query_embeddings": [VECTOR],
    "n_results": 2,
    "where": {"$and": [{"mail": {"$in": [SECRET, "x"]}}, {"lang": "de"}]},
    "where_document": {"$contains": SECRET},
    "include": ["documents", "metadatas", "embeddings"],
}


def answered(document: str) -> dict[str, Any]:
    return query_answer(
        [("id-1", 0.25)],
        documents=[[document]],
        uris=[[SECRET]],
        metadatas=[[{"mail": SECRET, "lang": "de", "age": AGE, "tags": ["a", "b"]}]],
        embeddings=[[VECTOR]],
    )


def stored(place: Place, **cleaning: Any) -> list[Record]:
    """What is stored of one mismatch, with sensitive values everywhere."""
    with shadow(place, **cleaning) as it:
        it.offer(read(answered(SECRET), lambda: answered(f"not {SECRET}"), verb="query", arguments=dict(ARGUMENTS)))
        settle(it)
        assert it.stats().total.mismatches == 1
    return Mismatches(place).newest(10)


def bodies(place: Place) -> str:
    """All that is in the store, as text."""
    keys = [entry.key for page in place.store.list("") for entry in page]
    return "".join(place.store.get(key).body.decode() for key in keys)


def test_by_default_no_text_and_no_metadata_value_is_stored() -> None:
    place = new_place()
    (record,) = stored(place)
    assert not any(text in bodies(place) for text in ("Ann", "Street", '"de"', str(AGE), "0.123"))
    assert record["arguments"]["where"] == {
        "$and": [{"mail": {"$in": {"type": "list", "length": 2}}}, {"lang": {"type": "str", "length": 2}}]
    }
    assert record["arguments"]["where_document"] == {"type": "dict", "length": 1}
    source = record["answers"]["source"]
    assert source["ids"] == [["id-1"]]
    assert source["distances"] == [[0.25]]
    assert source["documents"] == [[{"type": "str", "length": len(SECRET)}]]
    assert source["metadatas"][0][0]["age"] == {"type": "int"}


def test_fields_can_be_kept_by_name() -> None:
    place = new_place()
    (record,) = stored(place, keep_fields=["document", "metadata.lang"])
    assert record["answers"]["source"]["documents"] == [[SECRET]]
    assert record["answers"]["source"]["metadatas"][0][0]["lang"] == "de"
    assert record["answers"]["source"]["metadatas"][0][0]["mail"] == {"type": "str", "length": len(SECRET)}
    assert record["answers"]["source"]["uris"] == [[{"type": "str", "length": len(SECRET)}]]
    assert record["arguments"]["where"]["$and"][1] == {"lang": "de"}
    assert record["arguments"]["where_document"] == {"$contains": SECRET}


def test_embeddings_are_told_apart_but_not_stored_whatever_the_cleaner() -> None:
    place = new_place()
    (record,) = stored(place, clean=lambda record: record)
    assert SECRET in bodies(place)
    assert "0.1234" not in bodies(place)
    digest = record["answers"]["source"]["embeddings"][0][0]
    assert digest["numbers"] == 32
    assert record["arguments"]["query_embeddings"] == [digest]
    assert plain(list(VECTOR)) == plain([float(x) for x in VECTOR]) == digest
    assert plain(VECTOR + 1) != digest


def test_the_applications_cleaner_decides_what_is_stored() -> None:
    place = new_place()
    (record,) = stored(place, clean=lambda record: {"differences": record["differences"]})
    assert set(record) == {"format", "verb", "collection", "differences"}
    assert stored(new_place(), clean=lambda record: None) == []


def test_a_cleaner_that_raises_hides_everything() -> None:
    def clean(record: Record) -> Record:
        record.clear()
        raise ZeroDivisionError

    place = new_place()
    (record,) = stored(place, clean=clean, keep_fields=["document"])
    assert record["cleaner_failed"] == "ZeroDivisionError"
    assert "Ann" not in bodies(place)


@pytest.mark.parametrize(
    "nonsense", [*NONSENSE, SECRET, [SECRET], {"ids": {"k": SECRET}}, {"x": [[SECRET]]}], ids=lambda v: repr(v)[:40]
)
def test_nonsense_is_stored_without_its_texts(nonsense: Any) -> None:
    place = new_place()
    with shadow(place) as it:
        it.offer(read(get_answer("a"), lambda: nonsense, verb="get"))
        settle(it)
        assert it.stats().total.stored == 1
    assert "Ann" not in bodies(place)
    json.loads(bodies(place), parse_constant=pytest.fail)


def test_a_process_stores_few_of_one_kind_and_few_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KIND_MAX", 3)
    monkeypatch.setattr(module, "OWN_MAX", 5)
    place = new_place()
    with shadow(place) as it:
        for number in range(12):
            it.offer(read(number + 100, lambda: 2, collection=f"c{number % 2}"))
        settle(it)
        assert it.stats().total == Counts(mismatches=12, stored=5, not_stored=7)
        assert {each["collection"] for each in Mismatches(place).newest(10)} == {"c0", "c1"}
        it.begin(1)
        it.offer(read(3, lambda: 2))
        settle(it)
        assert it.stats().total == Counts(mismatches=1, stored=1)


def test_together_processes_store_a_thousand_and_keep_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_MAX", 20)
    place = new_place()

    def process(number: int) -> int:
        own = Mismatches(place)
        return sum(own.store({"format": 1, "verb": "get", "collection": "c", "by": [number, n]}) for n in range(10))

    with ThreadPoolExecutor(6) as pool:
        kept = sum(pool.map(process, range(6)))
    assert kept == Mismatches(place).count()
    assert 20 <= kept <= 20 + 6
    first = {tuple(each["by"]) for each in Mismatches(place).newest(100)}
    assert not Mismatches(place).store({"format": 1, "verb": "get", "collection": "c", "by": [9, 9]})
    assert {tuple(each["by"]) for each in Mismatches(place).newest(100)} == first


def test_the_newest_come_first_and_what_is_nothing_of_ours_is_left_out() -> None:
    place = new_place()
    mismatches = Mismatches(place)
    for number in range(5):
        mismatches.store({"format": 1, "verb": "get", "collection": "c", "n": number})
    place.store.put(f"{place.prefix('shadow')}zz.json", b"no JSON")
    assert [each["n"] for each in mismatches.newest(4)] == [4, 3, 2]
    assert mismatches.clear() == 6
    assert mismatches.newest(10) == []


def test_a_large_mismatch_is_cut() -> None:
    place = new_place()
    ids = [f"id-{n}" for n in range(60)]
    big = get_answer(*ids, documents=["x" * 9_000] * 60, metadatas=[{f"k{k}": "y" * 3_000 for k in range(9)}] * 60)
    other = dict(get_answer(*ids[:-1]))
    with shadow(place, keep_fields=["document"]) as it:
        it.offer(replace(read(None, lambda: other, lambda: big, verb="get"), answer=get_answer(*ids)))
        settle(it)
        assert it.stats().total.stored == 1
    assert len(bodies(place)) <= module.BYTES_MAX
    (record,) = Mismatches(place).newest(1)
    assert record["differences"]


def test_the_default_cleaner_knows_each_field_of_an_answer() -> None:
    """A field that Chroma adds one day is hidden until somebody says that it may be shown."""
    record = {"arguments": {"new": SECRET}, "answers": {"source": {"new": [[SECRET, 1, None]]}}}
    cleaned = hider(["document"])(record)
    assert cleaned["arguments"]["new"] == {"type": "str", "length": len(SECRET)}
    assert cleaned["answers"]["source"]["new"] == [[{"type": "str", "length": len(SECRET)}, {"type": "int"}, None]]
