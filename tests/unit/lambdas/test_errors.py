"""What goes wrong in an account, and what each handler says of it: one table of causes, each a clear error of the right class.

The store is moto's S3 behind a proxy that answers in its place, as S3 answers; the environment is a function's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.replies import Proxy, Reply, proxy_before, refused_with
from tests.servers import ACCESS_KEY, SECRET_KEY, Server
from tests.unit.lambdas.invocations import Context, forget_what_is_warm, queue_event, url_event, write

from chromalith.cli.app import run
from chromalith.errors import ChromalithError
from chromalith.lambdas import compactor, health, producer, query, sweep
from chromalith.lambdas.runtime import Handler
from chromalith.store.port import NotAllowed
from chromalith.store.url import open_store

ALWAYS = 500  # replies: more than any retry asks for


def as_s3_says(status: int, code: str, message: str) -> Reply:
    """An error of S3 with its sentence."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(forward=False, status=status, body=body.encode())


@pytest.fixture
def account(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A function's environment on a bucket of moto, behind a proxy that can answer in its place; waiting takes no time."""
    with proxy_before(moto.endpoint) as proxy:
        for name, value in {
            "CHROMADB_BUCKET": moto.new_bucket(), "AWS_ENDPOINT_URL": proxy.endpoint, "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_SESSION_TOKEN": "token",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("DELTA_BUCKET")
        monkeypatch.setattr("chromalith.clock.SystemClock.sleep", lambda self, seconds: None)
        yield proxy
        forget_what_is_warm()


def failure(handler: Handler, event: Any) -> dict[str, str]:
    """``errorType`` and the JSON of ``errorMessage``, as the runtime would send them."""
    with pytest.raises(ChromalithError) as raised:
        handler(event, Context())
    return {"type": type(raised.value).__name__, **json.loads(str(raised.value))}


HANDLERS: list[tuple[Handler, dict[str, Any]]] = [
    (producer.handler, write("a")),
    (compactor.handler, {"source": "manual"}),
    (query.handler, {"count": True}),
    (sweep.handler, {}),
    (health.handler, {}),
]


@pytest.mark.parametrize(("handler", "event"), HANDLERS, ids=["producer", "compactor", "query", "sweep", "health"])
@pytest.mark.parametrize(
    ("reply", "kind", "said", "hint"),
    [
        (refused_with(301, "PermanentRedirect"), "Invalid", "another region", "AWS_REGION"),
        (
            as_s3_says(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
            "Invalid",
            "expected=eu-west-1",
            "AWS_REGION",
        ),
        (refused_with(403, "AccessDenied"), "Invalid", "AccessDenied", "s3:GetObject"),
        (refused_with(400, "ExpiredToken"), "Invalid", "credentials have expired", "renew"),
        (refused_with(403, "SignatureDoesNotMatch"), "Invalid", "refused these credentials", "AWS_ACCESS_KEY_ID"),
        (refused_with(404, "NoSuchBucket"), "Invalid", "bucket or container does not exist", "create it"),
    ],
    ids=["moved", "region", "denied", "expired", "signature", "bucket"],
)
def test_what_is_wrong_with_the_account_is_said(
    account: Proxy, handler: Handler, event: dict[str, Any], reply: Reply, kind: str, said: str, hint: str
) -> None:
    """Whichever function meets it first; and none of it is tried again and again."""
    account.script[:] = [reply] * ALWAYS
    found = failure(handler, event)
    assert (found["type"], found["kind"]) == (kind, kind.lower())
    assert said in found["message"]
    assert hint in found["hint"]
    assert len(account.seen) <= 4


@pytest.mark.parametrize(("handler", "event"), HANDLERS[1:], ids=["compactor", "query", "sweep", "health"])
def test_throttling_is_waited_out_and_then_said(account: Proxy, handler: Handler, event: dict[str, Any]) -> None:
    """A short one is not noticed; a long one is Unavailable, and says that it is throttling."""
    producer.handler(write("a"), Context())
    account.script[:] = [refused_with(503, "SlowDown")] * 3
    handler(event, Context())
    account.script[:] = [refused_with(503, "SlowDown")] * ALWAYS
    found = failure(handler, event)
    assert found["type"] in ("Unavailable", "Unknown" if handler is sweep.handler else "Unavailable")
    assert "throttling" in found["message"]


def test_a_throttled_write_is_never_called_undone(account: Proxy) -> None:
    """The lookup is Unavailable: nothing was sent. A put that was answered 503 may have happened: Unknown, and how to repeat it."""
    producer.handler(write("a"), Context(aws_request_id="1"))
    account.script[:] = [refused_with(503, "SlowDown")] * 3
    assert producer.handler(write("b"), Context(aws_request_id="2"))["status"] == "success"
    account.script[:] = [refused_with(503, "SlowDown")] * ALWAYS
    found = failure(producer.handler, write("c", call_id="mine"))
    assert (found["type"], found["kind"]) == ("Unknown", "unknown")
    assert "call_id=mine" in found["hint"]
    forget_what_is_warm()
    found = failure(producer.handler, write("c"))
    assert (found["type"], "throttling" in found["message"]) == ("Unavailable", True)


def test_a_bucket_that_is_not_there(account: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As moto itself answers, without the proxy's help."""
    monkeypatch.setenv("CHROMADB_BUCKET", "no-such-bucket")
    for handler, event in HANDLERS:
        found = failure(handler, event)
        assert (found["type"], "no-such-bucket" in found["message"]) == ("Invalid", True)


def test_no_answer_at_all(account: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without a way to S3: Unavailable, and what to check."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = failure(query.handler, {"count": True})
    assert (found["type"], "no connection" in found["message"]) == ("Unavailable", True)


@pytest.mark.parametrize(
    ("handler", "event", "kind", "said"),
    [
        (compactor.handler, {"source": "hourly"}, "Invalid", "unknown source"),
        (query.handler, {"count": True, "collection": "nothing"}, "NotFound", "no such collection"),
        (producer.handler, {"ids": ["x"], "embeddings": [[1, 2, 3]]}, "Invalid", "dimension"),
        (query.handler, {"query_embeddings": [1, 2, 3]}, "Invalid", "dimension"),
        (producer.handler, {"ids": ["x"], "vectors": [[1, 2]]}, "Invalid", "field=vectors"),
        (producer.handler, {"ids": [str(i) for i in range(10_001)], "embeddings": [[1, 2]] * 10_001}, "Invalid", "too many records"),
        (producer.handler, "not an object", "Invalid", "not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_payload_is_said(store_url: str, handler: Handler, event: Any, kind: str, said: str) -> None:
    """Unknown source, missing collection, wrong dimension, unknown field, too much at once, no JSON object."""
    producer.handler(write("a"), Context())
    found = failure(handler, event)
    assert found["type"] == kind
    assert said in found["message"]


def test_malformed_json(store_url: str) -> None:
    """In a body it is a 400; in a message it is a message that ends among the dead letters, and nothing else fails."""
    answer = query.handler(url_event(None, raw='{"count": tru'), Context())
    assert (answer["statusCode"], "not JSON" in answer["body"]) == (400, True)
    assert compactor.handler(queue_event("{"), Context()) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


class Policed:
    """A store whose identity may put under ``delta/`` only, and read: the role of a producer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, key: str, body: bytes, condition: Any = None) -> Any:
        if not key.startswith("delta/"):
            raise NotAllowed(f"the store refused these credentials this request verb=put key={key}", key=key)
        return self._inner.put(key, body, condition)


def test_a_producer_that_may_not_create_is_told_who_may(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No collection, then one without a dimension: each is said with the command that helps; once it was run, the payload passes."""
    opened = open_store
    monkeypatch.setattr("chromalith.wiring.open_store", lambda *args, **options: Policed(opened(*args, **options)))
    found = failure(producer.handler, write("a"))
    command = "chromalith collections create words --dimension 2"
    assert (found["type"], "may not create one" in found["message"], command in found["hint"]) == ("Invalid", True, True)
    monkeypatch.setattr("chromalith.wiring.open_store", opened)
    assert run(["collections", "create", "words", "--store", store_url]) == 0
    monkeypatch.setattr("chromalith.wiring.open_store", lambda *args, **options: Policed(opened(*args, **options)))
    forget_what_is_warm()
    found = failure(producer.handler, write("a"))
    assert (found["type"], "no dimension yet" in found["message"], command in found["hint"]) == ("Invalid", True, True)
    monkeypatch.setattr("chromalith.wiring.open_store", opened)
    assert run(["collections", "create", "words", "--dimension", "2", "--store", store_url]) == 0
    monkeypatch.setattr("chromalith.wiring.open_store", lambda *args, **options: Policed(opened(*args, **options)))
    forget_what_is_warm()
    assert producer.handler(write("a"), Context())["status"] == "success"
