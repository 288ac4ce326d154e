"""The queue on moto's SQS; what it refuses, and what it makes of services that don't answer."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber
from tests.queue_contract import QueueContract, hints, named_by_the_environment, new_queue
from tests.servers import Server

import chromalith
from chromalith.aws.queue import SEND_READ_S, WAIT_S_MAX, Queue, Redrive, queue_named
from chromalith.errors import Invalid, Unavailable

REAL = "https://sqs.eu-central-1.amazonaws.com/123456789012/chromadb-delta-queue"


@pytest.fixture
def sqs(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's SQS, which the environment names too."""
    yield from named_by_the_environment(moto, monkeypatch)


class TestOnMoto(QueueContract):
    """The whole suite."""


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.us-east-1.amazonaws.com", "us-east-1"),
        ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("sqs.eu-west-3.api.aws", "eu-west-3"),
        ("vpce-0a1b-2c3d.sqs.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
        ("eu-west-1.queue.amazonaws.com", "eu-west-1"),
        ("sqs.us-east-1.example.com", None),
        ("127.0.0.1:4566", None),
    ],
)
def test_the_region_is_the_urls(host: str, region: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of another region is asked there, whatever the environment and the options say; elsewhere these decide."""
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    queue = Queue(f"https://{host}/123456789012/q", {"region": "us-west-2"})
    assert queue._client().meta.region_name == (region or "us-west-2")


def test_what_was_received_is_not_forgotten() -> None:
    """A service that fails after the first ten: they are hidden from everybody else, so they are worked on."""
    queue = Queue(REAL, {"access_key_id": "k", "secret_access_key": "s"})
    messages = [{"MessageId": str(at), "ReceiptHandle": str(at), "Body": "x"} for at in range(10)]
    with Stubber(queue._client()) as answers:
        answers.add_response("receive_message", {"Messages": messages})
        answers.add_client_error("receive_message", "RequestThrottled", http_status_code=400)
        assert [each.id for each in queue.receive(1_000)] == [str(at) for at in range(10)]
        answers.add_client_error("receive_message", "RequestThrottled", http_status_code=400)
        with pytest.raises(Unavailable, match="throttled"):
            queue.receive(1_000)


def test_sending_gives_up_soon() -> None:
    """A hint is tried once, and an answer waited for for seconds: else a process that ends would wait for a queue that hangs."""
    queue = Queue(REAL)
    sends, others = queue._client(sends=True).meta.config, queue._client().meta.config
    assert (sends.retries["total_max_attempts"], sends.read_timeout) == (1, SEND_READ_S)
    assert others.read_timeout > WAIT_S_MAX


def test_which_queue_a_writer_tells() -> None:
    """The one that is given, else the configured one; an empty one is none."""
    other = REAL.replace("delta", "other")
    assert queue_named(None, None, None) is None
    assert queue_named("", None, REAL) is None
    assert getattr(queue_named(None, None, REAL), "url", None) == REAL
    assert getattr(queue_named(other, None, REAL), "url", None) == other


def test_without_boto3(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever names a queue in a call is told at once that boto3 is missing; where only the environment names one, writes go on."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "boto3" else found(name, *more))
    with pytest.raises(Invalid, match="boto3"):
        queue_named(REAL, None, None)
    with pytest.raises(Invalid, match="boto3"):
        Queue(REAL).depth()
    monkeypatch.setenv("CHROMALITH_QUEUE_URL", REAL)
    with chromalith.Writer("memory://without-boto3") as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1.0]])
        assert writer.session.notifier is not None
        assert writer.session.notifier.flush(30) == 0
    assert "boto3" in caplog.text


def test_a_wrong_receipt_is_counted(sqs: Any) -> None:
    """Of a batch of deletions only those fail that can't be done."""
    queue = new_queue(sqs)
    queue.send_batch(hints(2))
    got = [each.receipt for each in queue.receive(2, 1)]
    assert queue.delete([got[0], "no receipt", got[1]]) == 1
    assert queue.receive(2) == []


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is Unavailable: nothing happened that could not be done again."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://127.0.0.1:{held.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        with pytest.raises(Unavailable):
            Queue(REAL).send_batch(hints(1))


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No credentials is Invalid, and says what to set."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(Invalid, match="no credentials"):
        Queue(REAL).depth()


# No emulator has SQS's own move of dead letters (tests/aws has the way without it). What it answers is played here; the requests are
# checked against the service's own model, but nothing says that the service does what its documentation promises.
ARN = "arn:aws:sqs:eu-central-1:123456789012:dlq"
POLICY = {"Attributes": {"RedrivePolicy": f'{{"deadLetterTargetArn":"{ARN}","maxReceiveCount":10}}'}}


def played(answers: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> tuple[Queue, Stubber]:
    queue = Queue(REAL, {"access_key_id": "x", "secret_access_key": "x"})
    stubber = Stubber(queue._client())
    for verb, answer, asked in answers:
        stubber.add_response(verb, answer, asked)
    stubber.activate()
    return queue, stubber


def dead(tasks: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        ("get_queue_attributes", POLICY, {"QueueUrl": REAL, "AttributeNames": ["RedrivePolicy"]}),
        ("get_queue_url", {"QueueUrl": f"{REAL}-dlq"}, {"QueueName": "dlq", "QueueOwnerAWSAccountId": "123456789012"}),
        ("list_message_move_tasks", {"Results": tasks}, {"SourceArn": ARN, "MaxResults": 1}),
    ]


def test_sqs_itself_moves_dead_letters() -> None:
    """A redrive is a task of the service's; what it said last is shown."""
    running = {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 3, "ApproximateNumberOfMessagesToMove": 7}
    started = ("start_message_move_task", {"TaskHandle": "x"}, {"SourceArn": ARN})
    queue, stubber = played([*dead([{"Status": "COMPLETED"}]), started, dead([running])[-1]])
    assert queue.redrive() == Redrive("running", 3, 7)
    stubber.assert_no_pending_responses()


def test_a_move_under_way_is_not_started_again() -> None:
    """SQS allows one at a time; a second call shows the first."""
    running = {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 3, "ApproximateNumberOfMessagesToMove": 7}
    queue, stubber = played(dead([running]))
    assert queue.redrive() == Redrive("running", 3, 7)
    stubber.assert_no_pending_responses()
    queue, stubber = played(dead([{"Status": "FAILED", "ApproximateNumberOfMessagesMoved": 1, "FailureReason": "AccessDenied"}]))
    assert queue.last_redrive() == Redrive("failed", 1, None, "AccessDenied")


def test_a_redrive_policy_that_can_not_be_read() -> None:
    """It is told, and not taken for none."""
    asked = {"QueueUrl": REAL, "AttributeNames": ["RedrivePolicy"]}
    queue, _ = played([("get_queue_attributes", {"Attributes": {"RedrivePolicy": "[]"}}, asked)])
    with pytest.raises(Invalid, match="redrive policy"):
        queue.dead_letters()
