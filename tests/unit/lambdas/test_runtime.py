"""What is around every handler: a store that stays open, answers over HTTP, errors by their class, and nothing stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lambdas.invocations import Context, forget_what_is_warm, gateway_event, queue_event, url_event, write

from chromalith.errors import (
    Bug,
    ChromalithError,
    Conflict,
    Corrupt,
    Invalid,
    LeaseHeld,
    NotFound,
    Unavailable,
    Unknown,
)
from chromalith.lambdas import compactor, producer, query, runtime
from chromalith.lambdas.answers import STATUS, told
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore


@pytest.fixture
def counting(store_url: str, monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    """The store of the test, which counts what handlers ask of it."""
    counting = CountingStore(open_store(store_url))
    monkeypatch.setattr("chromalith.wiring.open_store", lambda *args, **options: counting)
    return counting


def test_a_warm_query_makes_the_requests_of_a_query(counting: CountingStore) -> None:
    """The first invocation opens, looks the name up, and hydrates; the second is one LIST and one conditional GET, and reads no segment."""
    producer.handler(write("a", "b"), Context())
    compactor.handler({"source": "manual"}, Context())
    forget_what_is_warm()
    asked = {"query_embeddings": [1.0, 0.0], "include": ["documents", "embeddings", "metadatas", "distances"]}
    counting.reset()
    cold = query.handler(asked, Context())
    assert counting.reset().requests["get"] >= 3
    warm = query.handler(asked, Context())
    assert dict(counting.reset().requests) == {"list": 1, "get_if_changed": 1}
    assert warm == cold


def test_a_cold_process_finds_the_segments_of_an_earlier_one_in_the_cache(counting: CountingStore) -> None:
    """The cache is on the disk of the execution environment: a new process there downloads no segment again."""
    producer.handler(write("a", "b"), Context())
    compactor.handler({"source": "manual"}, Context())
    asked = {"query_embeddings": [1.0, 0.0], "include": ["embeddings", "documents"]}
    query.handler(asked, Context())
    forget_what_is_warm()
    counting.reset()
    query.handler(asked, Context())
    assert counting.reset().kinds[("get", "segment")] == 0


def test_a_warm_write_is_one_put_beside_one_conditional_get(counting: CountingStore) -> None:
    """As of any writer that stays open."""
    producer.handler(write("a"), Context(aws_request_id="1"))
    counting.reset()
    producer.handler(write("b"), Context(aws_request_id="2"))
    assert dict(counting.reset().requests) == {"put": 1, "get_if_changed": 1}


def test_a_warm_look_for_work_is_one_listing(counting: CountingStore) -> None:
    """A tick of the schedule with nothing to do: one LIST of the whole store."""
    compactor.handler({"source": "scheduled", "action": "compact"}, Context())
    counting.reset()
    compactor.handler({"source": "scheduled", "action": "compact"}, Context())
    assert dict(counting.reset().requests) == {"list": 1}


def test_each_invocation_has_its_own_log(log: Callable[[], list[dict[str, Any]]]) -> None:
    """Lines say which invocation they are of, and none carries what an earlier one said."""
    producer.handler(write("a"), Context(aws_request_id="one"))
    with pytest.raises(NotFound):
        query.handler({"count": True, "collection": "nothing"}, Context(aws_request_id="two"))
    lines = log()
    assert [(line["role"], line["request_id"], line["level"]) for line in lines] == [
        ("producer", "one", "INFO"),
        ("query", "two", "WARNING"),
    ]
    assert "delta" not in lines[1]


def test_metrics_are_those_of_the_invocation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each invocation that had something to tell, and nothing of an earlier one in it."""
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    for number, ids in enumerate((("a", "b", "c"), ("a",))):
        producer.handler(write(*ids), Context(aws_request_id=str(number)))
        (line,) = [found for text in capsys.readouterr().out.splitlines() if "_aws" in (found := json.loads(text))]
        assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ChromaDB/Producer"
        assert line["DeltaRows"] == [float(len(ids))]


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Conflict, LeaseHeld, Unknown, Unavailable, NotFound, Invalid, Corrupt, Bug])
def test_an_error_leaves_under_its_own_name_as_json(error: type[ChromalithError]) -> None:
    """The runtime takes the class's name for ``errorType`` and the text for ``errorMessage``; who is in the process can still catch it."""
    raised = told(error("what happened", hint="what to do"))
    assert type(raised).__name__ == error.__name__
    assert isinstance(raised, error)
    assert json.loads(str(raised)) == {"kind": str(error.kind), "message": "what happened", "hint": "what to do"}


def test_a_subclass_leaves_under_the_public_name() -> None:
    """What the port or the cache calls its own errors is nobody's business outside."""
    from chromalith.store.cache import Swept
    from chromalith.store.port import NotAllowed, PreconditionFailed

    assert [type(told(error("x"))).__name__ for error in (Swept, NotAllowed, PreconditionFailed)] == ["NotFound", "Invalid", "Conflict"]


@pytest.mark.parametrize(
    ("error", "name", "said"),
    [
        (RuntimeError("surprise"), "Bug", "RuntimeError: surprise"),
        (OSError(28, "No space left on device", "/tmp/x"), "Unavailable", "ephemeral storage"),
        (MemoryError(), "Unavailable", "memory"),
    ],
)
def test_what_nobody_foresaw_is_typed_too(error: Exception, name: str, said: str, log: Callable[[], list[dict[str, Any]]]) -> None:
    """And what is a defect has its traceback in the log."""

    def act(run: runtime.Invocation, payload: Any) -> Any:
        raise error

    with pytest.raises(ChromalithError) as raised:
        runtime.entry("test", act)({}, Context())
    assert type(raised.value).__name__ == name
    assert said in str(raised.value)
    assert ("exception" in log()[0]) == (name == "Bug")


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its variable."""
    monkeypatch.setenv("CHROMALITH_KEEP_VERSIONS", "many")
    with pytest.raises(Invalid, match="CHROMALITH_KEEP_VERSIONS=many"):
        query.handler({"count": True}, Context())


def test_no_store_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which variables would name it."""
    monkeypatch.delenv("CHROMADB_BUCKET")
    monkeypatch.delenv("DELTA_BUCKET")
    with pytest.raises(Invalid, match="no bucket was named") as raised:
        query.handler({"count": True}, Context())
    assert "CHROMADB_BUCKET or DELTA_BUCKET or CHROMALITH_STORE" in str(raised.value)


# HTTP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [url_event(write("a")), url_event(write("a"), encoded=True), gateway_event(write("a"))])
def test_http_in_http_out(event: dict[str, Any]) -> None:
    """A function URL and a REST gateway, with a body as text or base64."""
    answer = producer.handler(event, Context())
    assert (answer["statusCode"], answer["headers"]) == (200, {"content-type": "application/json"})
    assert json.loads(answer["body"])["item_count"] == 1


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        (url_event({"count": True, "colection": "x"}), 400, "invalid"),
        (url_event(None, raw="{not json"), 400, "invalid"),
        (url_event([1, 2]), 400, "invalid"),
        (url_event({"count": True, "collection": "nothing"}), 404, "not_found"),
        (gateway_event({"count": True, "collection": "nothing"}), 404, "not_found"),
    ],
)
def test_errors_over_http_are_statuses_with_the_same_json(event: dict[str, Any], status: int, kind: str) -> None:
    """Nothing is raised: the caller gets the reason."""
    answer = query.handler(event, Context())
    assert answer["statusCode"] == status
    error = json.loads(answer["body"])["error"]
    assert (error["kind"], set(error)) == (kind, {"kind", "message", "hint"})


def test_every_kind_has_a_status() -> None:
    """400 for the caller's mistakes, 404, 409 for who was first, 503 to try again, 500 for what needs a person."""
    assert {str(kind): status for kind, status in STATUS.items()} == {
        "invalid": 400, "not_found": 404, "conflict": 409, "lease_held": 409, "unavailable": 503,
        "unknown": 500, "corrupt": 500, "bug": 500,
    }  # fmt: skip


def test_a_queue_event_is_not_taken_for_http() -> None:
    """Each event is told by what it has."""
    assert compactor.handler(queue_event("poison"), Context()) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


def test_the_cache_has_a_share_of_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, four fifths of the disk at most; a setting stands."""
    from shutil import disk_usage

    from chromalith.settings import Settings

    assert runtime._cache_bytes(Settings(), tmp_path) <= 0.8 * disk_usage(tmp_path).total
    monkeypatch.setenv("CHROMALITH_CACHE_BYTES_MAX", "7")
    assert runtime._cache_bytes(Settings(), tmp_path) == 7
