"""boto3's errors in our words: a service answers as AWS does, over HTTP, and each answer has its class."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import MetadataRetrievalError

from chromalith.aws.clients import client
from chromalith.aws.errors import translated
from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown


@dataclass
class Service:
    """One service of AWS's JSON protocol, which always gives one answer."""

    endpoint: str = ""
    status: int = 200
    code: str = ""
    message: str = ""
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """It listens where boto3 looks; waiting between attempts takes no time."""
    found = Service()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.seen.append(self.headers.get("X-Amz-Target", ""))
            body = json.dumps({"__type": found.code, "message": found.message}).encode()
            self.send_response(found.status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    found.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    for name, value in {"AWS_ENDPOINT_URL": found.endpoint, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *arguments: 0)
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


KEYS = {"access_key_id": "k", "secret_access_key": "s"}


def failure(service: Service, call: str, arguments: dict[str, Any], *, changes: bool) -> ChromalithError:
    of = "sqs" if call.endswith(("message", "queue_attributes")) else "dynamodb"
    with pytest.raises(ChromalithError) as raised, translated("thing name=x", changes=changes):
        getattr(client(of, KEYS), call)(**arguments)
    return raised.value


SEND = ("send_message", {"QueueUrl": "http://queue/1/q", "MessageBody": "x"})
LOOK = ("get_queue_attributes", {"QueueUrl": "http://queue/1/q"})
ITEM = ("get_item", {"TableName": "t", "Key": {"k": {"S": "v"}}})
PUT = ("put_item", {"TableName": "t", "Item": {"k": {"S": "v"}}})


@pytest.mark.parametrize(
    ("call", "status", "code", "message", "kind", "said"),
    [
        (LOOK, 400, "AWS.SimpleQueueService.NonExistentQueue", "", NotFound, "the region"),
        (ITEM, 400, "ResourceNotFoundException", "Requested resource not found", NotFound, "the region"),
        (SEND, 403, "AccessDenied", "not authorized to perform sqs:SendMessage", Invalid, "permission of SendMessage"),
        (ITEM, 400, "AccessDeniedException", "not authorized", Invalid, "permission of GetItem"),
        (ITEM, 400, "ExpiredTokenException", "The security token included in the request is expired", Invalid, "log in again"),
        (ITEM, 400, "UnrecognizedClientException", "The security token included in the request is invalid", Invalid, "log in again"),
        (SEND, 403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region.", Invalid, "AWS_REGION"),
        (ITEM, 400, "ThrottlingException", "Rate exceeded", Unavailable, "throttled"),
        (PUT, 400, "ProvisionedThroughputExceededException", "exceeded", Unavailable, "throttled"),
        (PUT, 400, "RequestLimitExceeded", "too many", Unavailable, "throttled"),
        (SEND, 400, "AWS.SimpleQueueService.BatchRequestTooLong", "too long", Invalid, "too large"),
        (SEND, 413, "RequestEntityTooLargeException", "Request must be smaller than 6291456 bytes", Invalid, "too large"),
        (SEND, 400, "InvalidParameterValue", "Message must be shorter than 1048576 bytes", Invalid, "refused"),
        (ITEM, 500, "InternalServerError", "", Unavailable, "the service failed"),
        (PUT, 500, "InternalServerError", "", Unknown, "the service failed"),
    ],
)
def test_each_answer_has_its_error(
    service: Service, call: tuple[str, dict[str, Any]], status: int, code: str, message: str, kind: type[ChromalithError], said: str
) -> None:
    """By what to do about it, with the operation and AWS's own code in it."""
    service.status, service.code, service.message = status, code, message
    found = failure(service, *call, changes=call is PUT)
    assert type(found) is kind
    assert said in str(found)
    assert code in found.message


def test_what_is_throttled_is_tried_again_and_what_is_refused_is_not(service: Service) -> None:
    """Three attempts at most, as the client is told; one where the answer would be the same."""
    service.status, service.code = 400, "ThrottlingException"
    failure(service, *ITEM, changes=False)
    assert len(service.seen) == 3
    service.seen.clear()
    service.code = "AccessDeniedException"
    failure(service, *ITEM, changes=False)
    assert len(service.seen) == 1


def test_nobody_listens(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is Unavailable, whatever was asked: nothing was sent."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert type(failure(service, *PUT, changes=True)) is Unavailable


@pytest.mark.parametrize("changes", [False, True])
def test_no_exception_of_botos_gets_through(changes: bool) -> None:
    """Also one that nobody thought of is in our words: else one collection's trouble with its lease would end the run of all."""
    with pytest.raises(Unknown if changes else Unavailable, match="thing name=x"), translated("thing name=x", changes=changes):
        raise MetadataRetrievalError(error_msg="the instance's role could not be asked for")
