"""What the remote adapter says when replies are lost, late or bad: real client, real server, and a proxy between them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.replies import (
    APPLIED_THEN_DROPPED,
    DROPPED,
    REPEATED,
    Proxy,
    Reply,
    applied_then,
    proxy_before,
    refused_with,
)
from tests.servers import ACCESS_KEY, SECRET_KEY, Server

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.store.port import Absent, Matches, NotAllowed, PreconditionFailed, Store
from chromalith.store.probe import probe
from chromalith.store.readback import Overtaken, put_resolved
from chromalith.store.remote_open import open_remote
from chromalith.store.retry import RetryingStore
from chromalith.store.url import open_store

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def proxy(moto: Server) -> Iterator[Proxy]:
    with proxy_before(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(moto: Server, proxy: Proxy) -> Store:
    """The bare adapter: nothing repeats anything."""
    proxy.script.clear()
    store = opened(moto, proxy.endpoint)
    proxy.seen.clear()
    return store


def opened(moto: Server, endpoint: str, **options: object) -> Store:
    bucket = moto.new_bucket()
    return open_remote("s3", bucket, {**moto.storage_options, "endpoint": endpoint, **options}, f"s3://{bucket}")


@pytest.mark.parametrize(
    "reply", [APPLIED_THEN_DROPPED, DROPPED, applied_then(500), applied_then(503), refused_with(502)]
)
@pytest.mark.parametrize("condition", [None, Absent()])
def test_a_put_that_may_have_been_applied_is_unknown(
    store: Store, proxy: Proxy, reply: Reply, condition: Absent | None
) -> None:
    proxy.script[:] = [reply]
    with pytest.raises(Unknown):
        store.put("key", b"x", condition)
    assert proxy.seen == ["PUT"], "the client repeats nothing by itself"


@pytest.mark.parametrize("reply", [APPLIED_THEN_DROPPED, applied_then(500), refused_with(503, "SlowDown")])
def test_a_read_that_fails_is_unavailable(store: Store, proxy: Proxy, reply: Reply) -> None:
    store.put("key", b"x")
    for read in (
        lambda: store.get("key"),
        lambda: store.head("key"),
        lambda: store.get_range("key", 0, 1),
        lambda: store.get_if_changed("key", '"x"'),
        lambda: list(store.list("k")),
        lambda: store.delete("key"),
    ):
        proxy.script[:], proxy.seen[:] = [reply], []
        with pytest.raises(Unavailable):
            read()
        assert len(proxy.seen) == 1


def test_a_connection_that_was_never_made_is_unavailable(moto: Server) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = opened(moto, f"http://127.0.0.1:{held.getsockname()[1]}")
        for condition in (None, Absent(), Matches('"x"')):
            with pytest.raises(Unavailable, match="no connection") as caught:
                dead.put("key", b"x", condition)
            assert "endpoint" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("reply", "condition", "expected"),
    [
        (refused_with(409, "ConditionalRequestConflict"), Absent(), Unavailable),
        (refused_with(409, "ConditionalRequestConflict"), Matches('"x"'), Unavailable),
        (refused_with(409, "OperationAborted"), None, Unavailable),
        (refused_with(412, "PreconditionFailed"), Absent(), PreconditionFailed),
        (refused_with(412, "PreconditionFailed"), Matches('"x"'), PreconditionFailed),
        (refused_with(404, "NoSuchKey"), Matches('"x"'), PreconditionFailed),
        (refused_with(404, "NoSuchBucket"), Matches('"x"'), Invalid),
        (refused_with(404, "NoSuchBucket"), Absent(), Invalid),
        (refused_with(429, "TooManyRequests"), Absent(), Unavailable),
        (refused_with(400, "RequestTimeout"), Absent(), Unknown),
        (refused_with(400, "ExpiredToken"), Absent(), Invalid),
        (refused_with(401, "Unauthorized"), Absent(), Invalid),
        (refused_with(403, "SignatureDoesNotMatch"), Absent(), Invalid),
        (refused_with(301, "PermanentRedirect"), None, Invalid),
        (refused_with(501, "NotImplemented"), Absent(), Invalid),
        (refused_with(413, "EntityTooLarge"), None, Invalid),
    ],
)
def test_each_answer_to_a_put_has_its_error(
    store: Store, proxy: Proxy, reply: Reply, condition: Absent | Matches | None, expected: type[ChromalithError]
) -> None:
    proxy.script[:] = [reply]
    with pytest.raises(expected) as caught:
        store.put("key", b"x", condition)
    assert type(caught.value) is expected
    assert proxy.seen == ["PUT"]


def test_a_missing_bucket_is_named_with_what_to_do(moto: Server) -> None:
    store = open_remote("s3", "no-such-bucket", moto.storage_options, "s3://no-such-bucket")
    for use in (lambda: store.put("key", b"x"), lambda: store.get("key"), lambda: list(store.list(""))):
        with pytest.raises(Invalid, match="bucket or container does not exist .*no-such-bucket") as caught:
            use()
        assert "create it" in str(caught.value.hint)


def test_refused_credentials_say_where_credentials_are_searched(store: Store, proxy: Proxy) -> None:
    for verb in ("get", "head", "delete"):
        proxy.script[:] = [refused_with(403, "AccessDenied")]
        with pytest.raises(Invalid, match="refused these credentials") as caught:
            getattr(store, verb)("key")
        assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)


def test_what_is_not_allowed_is_told_from_bad_credentials_by_every_verb(store: Store, proxy: Proxy) -> None:
    """Whoever may write some objects and not others must be able to tell: ``NotAllowed`` names the object; a listing is no exception."""
    uses = {
        "GET": [lambda: store.get("key"), lambda: list(store.list("key"))], "HEAD": [lambda: store.head("key")],
        "PUT": [lambda: store.put("key", b"x", Absent())], "DELETE": [lambda: store.delete("key")],
    }  # fmt: skip
    for method, calls in uses.items():
        for use in calls:
            proxy.script[:] = [refused_with(403, "AccessDenied")]
            with pytest.raises(NotAllowed) as caught:
                use()
            assert caught.value.key == "key", method
            proxy.script[:] = [refused_with(400 if method == "PUT" else 403, "ExpiredToken" if method == "PUT" else "InvalidAccessKeyId")]
            with pytest.raises(Invalid) as caught_other:
                use()
            assert isinstance(caught_other.value, NotAllowed) == (method == "HEAD"), "a HEAD has no body that could say which it was"


def test_the_right_region_is_told(store: Store, proxy: Proxy) -> None:
    """S3 says which it expects."""
    said = b"the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>%s</Message></Error>" % said
    for use in (lambda: store.get("key"), lambda: store.put("key", b"x", Absent()), lambda: list(store.list(""))):
        proxy.script[:] = [Reply(forward=False, status=400, body=body)]
        with pytest.raises(Invalid, match="another region .*expected=eu-west-1"):
            use()


def test_a_request_that_takes_too_long_is_unknown(moto: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = opened(moto, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises(Unknown):
            store.put("key", b"x", Absent())
        with pytest.raises(Unavailable):
            store.get("key")


@pytest.mark.parametrize(
    "reply",
    [APPLIED_THEN_DROPPED, DROPPED, applied_then(500), applied_then(503), REPEATED, refused_with(409, "Conflict")],
)
def test_a_lost_reply_is_resolved_by_reading_back(store: Store, proxy: Proxy, reply: Reply) -> None:
    """Whatever happens to the first reply, the write is made once and known to be made; also if a proxy repeats it."""
    clock = ManualClock()
    retrying = RetryingStore(store, clock)
    proxy.script[:] = [reply]
    etag = put_resolved(retrying, "key", b"first", Absent(), clock)
    assert (store.get("key").body, store.get("key").etag) == (b"first", etag)
    proxy.script[:] = [reply]
    after = put_resolved(retrying, "key", b"second", Matches(etag), clock)
    assert (store.get("key").body, store.get("key").etag) == (b"second", after)
    with pytest.raises(Overtaken) as caught:
        put_resolved(retrying, "key", b"third", Matches(etag), clock)
    assert caught.value.current == store.get("key")


def test_a_page_is_one_request(store: Store, proxy: Proxy) -> None:
    for number in range(5):
        store.put(f"a/{number}", b"x")
    for prefix in ("", "a", "a/", "a/1", "b"):
        proxy.seen.clear()
        list(store.list(prefix))
        assert proxy.seen == ["GET"], prefix


def test_each_verb_is_one_request(store: Store, proxy: Proxy) -> None:
    etag = store.put("key", b"x" * 6_000_000)
    for verb, expected in (
        (lambda: store.get("key"), "GET"),
        (lambda: store.get_if_changed("key", etag), "GET"),
        (lambda: store.get_if_changed("key", '"other"'), "GET"),
        (lambda: store.get_range("key", 0, 4), "GET"),
        (lambda: store.head("key"), "HEAD"),
        (lambda: store.copy("key", "key2"), "PUT"),
        (lambda: store.put("key", b"y" * 6_000_000), "PUT"),
        (lambda: store.delete("key"), "DELETE"),
    ):
        proxy.seen.clear()
        verb()
        assert proxy.seen == [expected]
    with pytest.raises(NotFound):
        store.get("key")


def test_credentials_of_a_profile_are_found_and_checked(
    seaweed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a server that checks signatures: the profile's keys work, wrong ones and none are refused with a hint."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "credentials").write_text(
        f"[good]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        f"[bad]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = wrong\n"
    )
    url = f"s3://{seaweed.new_bucket()}?endpoint={seaweed.endpoint}"
    open_store(url, storage_options={"profile": "good"}).put("key", b"x", Absent())
    monkeypatch.setenv("AWS_PROFILE", "good")
    assert open_store(url).get("key").body == b"x"
    with pytest.raises(Invalid, match="refused these credentials"):
        open_store(url, storage_options={"profile": "bad"}).get("key")
    monkeypatch.delenv("AWS_PROFILE")
    with pytest.raises(Invalid, match="no credentials") as caught:
        open_store(url).put("key", b"x", Absent())
    assert "profiles and SSO" in str(caught.value.hint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert open_store(url).get("key").body == b"x"


def test_the_probe_passes_the_real_server(seaweed_store: Store) -> None:
    report = probe(seaweed_store, SYSTEM_CLOCK)
    assert len(report.checks) == 9
    assert report.whole_seconds, "and so the store settles for two of them"
    assert abs(report.clock_skew_us) < 5_000_000
    assert list(seaweed_store.list("")) == []
