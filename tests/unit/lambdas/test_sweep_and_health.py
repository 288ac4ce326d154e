"""The sweep handler deletes what no kept version names, in time; the health handler tells how the store is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lambdas.invocations import SCHEDULED, Context, write

from chromalith.errors import Invalid
from chromalith.lambdas import compactor, health, producer, query, sweep
from chromalith.model import layout
from chromalith.wiring import open_session


@pytest.fixture
def garbage(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with an older version, which nothing is set to keep."""
    for name in ("KEEP_VERSIONS", "KEEP_AGE_S", "JOB_GRACE_S"):
        monkeypatch.setenv(f"CHROMALITH_{name}", "1" if name == "KEEP_VERSIONS" else "0")
    for number, ids in enumerate((("a",), ("a", "b"), ("a", "b", "c"))):
        producer.handler(write(*ids), Context(aws_request_id=str(number)))
        compactor.handler({"source": "manual"}, Context())
    return store_url


def objects(store_url: str) -> set[Path]:
    """Every object of the collections' versions: what a sweep may delete."""
    return {path for root in ("snapshot", "segment", "folded") for path in Path(store_url, root).rglob("*") if path.is_file()}


@pytest.mark.parametrize("event", [{}, {"source": "scheduled", "action": "sweep"}, SCHEDULED, {"collection": "words"}])
def test_a_sweep_deletes_and_says_what(garbage: str, event: dict[str, Any]) -> None:
    """However it is asked; afterwards every record is there, and a second sweep finds nothing more of it."""
    before = objects(garbage)
    answer = sweep.handler(event, Context())
    assert answer["status"] == "success"
    assert answer["objects"] > 0
    assert not answer["out_of_time"]
    assert len(before - objects(garbage)) == answer["objects"]
    assert {each["collection"] for each in answer["collections"]} == {"words"}
    assert query.handler({"limit": 9}, Context())["ids"] == ["a", "b", "c"]


def test_a_dry_run_deletes_nothing(garbage: str) -> None:
    """It says what a sweep would delete."""
    before = objects(garbage)
    answer = sweep.handler({"dry_run": True}, Context())
    assert answer["objects"] > 0
    assert [each["deleted"] for each in answer["collections"]] == [False]
    assert objects(garbage) == before


def test_without_time_nothing_is_deleted_and_the_next_sweep_does_it(garbage: str) -> None:
    """Neither a collection is begun, nor its deletes."""
    before = objects(garbage)
    answer = sweep.handler({}, Context(left_s=10.0))
    assert answer["out_of_time"]
    assert objects(garbage) == before
    answer = sweep.handler({"collection": "words"}, Context(left_s=10.0))
    assert answer["out_of_time"]
    assert before <= objects(garbage)
    answer = sweep.handler({}, Context())
    assert not answer["out_of_time"]
    assert before - objects(garbage)


def test_health(store_url: str) -> None:
    """Versions, what waits, and the cache; of one collection by name."""
    producer.handler(write("a", "b"), Context(aws_request_id="1"))
    compactor.handler({"source": "manual"}, Context())
    producer.handler(write("c"), Context(aws_request_id="2"))
    answer = health.handler({}, Context())
    assert (answer["status"], answer["deltas_waiting"], answer["collections_not_shown"]) == ("ok", 1, 0)
    (words,) = answer["collections"]
    assert (words["name"], words["version"], words["records"], words["deltas_waiting"]) == ("words", 1, 2, 1)
    assert answer["oldest_waiting_s"] >= 0
    assert answer["cache"]["bytes"] <= answer["cache"]["bytes_max"]
    assert answer["store"].endswith(store_url)
    assert health.handler({"collection": "words"}, Context())["collections"][0]["name"] == "words"


def test_health_of_a_damaged_collection() -> None:
    """It is named with its error, and the others are told."""
    producer.handler(write("a"), Context(aws_request_id="1"))
    producer.handler(write("a", collection="other"), Context(aws_request_id="2"))
    with open_session(os.environ["CHROMADB_BUCKET"], queue_url="") as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        session.store.put(layout.pointer_key(cid), b"damaged")
    answer = health.handler({}, Context())
    assert answer["status"] == "damaged"
    assert [each.get("error", {}).get("kind") for each in answer["collections"]] == ["corrupt", None]


def test_unknown_fields_are_named() -> None:
    """As everywhere."""
    with pytest.raises(Invalid, match="field=dry"):
        sweep.handler({"dry": True}, Context())
    with pytest.raises(Invalid, match="field=colection"):
        health.handler({"colection": "x"}, Context())
