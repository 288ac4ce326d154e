"""The queue on an emulated account: its whole contract, what a role may not do, and poison on its way to the dead-letter queue and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.aws.account import Account, allow, aws_variables
from tests.queue_contract import QueueContract, bounced, hints, new_queue, with_dead_letters

import chromalith
from chromalith.aws.queue import Queue
from chromalith.cli.app import run
from chromalith.errors import Invalid
from chromalith.model.hint import Hint

pytestmark = pytest.mark.xdist_group("account")

EMBEDDINGS = [[1.0, 2.0]]


@pytest.fixture
def sqs(account: Account, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The account's SQS, as root; the environment names it too."""
    act_as(account, monkeypatch)
    return account.client("sqs")


def act_as(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in aws_variables(account).items():
        monkeypatch.setenv(name, value)


class TestOnMinistack(QueueContract):
    """The whole suite."""


def test_a_redrive_brings_dead_letters_back(sqs: Any) -> None:
    """Where the service has no move of its own, the messages are moved from here; moving nothing is no error."""
    queue, dead = with_dead_letters(sqs)
    bounced(queue, dead, 12)
    move = queue.redrive()
    assert (move.state, move.moved) == ("completed", 12)
    assert (queue.depth().visible, dead.depth().visible) == (12, 0)
    assert {Hint.decode(each.body) for each in queue.receive(12, 1)} == set(hints(12))
    assert queue.redrive().moved == 0
    assert queue.last_redrive() is None


def test_some_of_a_batch_fail(sqs: Any) -> None:
    """Of hints in one request only those are counted that the queue did not take; of deletions likewise."""
    queue = new_queue(sqs, MaximumMessageSize="1024")
    good = hints(3)
    large = Hint(good[0].collection, good[0].delta, 10**1_100, 1)
    assert queue.send_batch([good[0], large, good[1]]) == 1
    got = queue.receive(10, 1)
    assert {Hint.decode(each.body) for each in got} == set(good[:2])
    assert queue.delete([got[0].receipt, "no receipt", got[1].receipt]) == 1
    assert queue.depth().visible + queue.depth().in_flight == 0


def test_a_producer_may_send_and_nothing_else(account: Account, sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that may only send is told what it lacks, in our words, by every other verb."""
    queue = new_queue(sqs)
    arn = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    act_as(account.create_role(account.new_name("sender"), allow("sqs:SendMessage", on=arn)), monkeypatch)
    sender = Queue(queue.url)
    assert sender.send_batch(hints(2)) == 0
    for verb in (lambda: sender.receive(1), sender.depth, sender.purge, lambda: sender.delete(["x"])):
        with pytest.raises(Invalid, match="may not use"):
            verb()


def test_a_role_that_may_not_send_writes_all_the_same(
    account: Account, sqs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A write is acknowledged whatever the queue says; what was not sent is told, and the hint's absence is honest."""
    queue = new_queue(sqs)
    act_as(account.create_role(account.new_name("mute"), allow("sqs:ReceiveMessage", on="*")), monkeypatch)
    produced = chromalith.produce_embedding_delta(["a"], EMBEDDINGS, ["x"], bucket=str(tmp_path / "store"), queue_url=queue.url)
    assert (produced["status"], produced["queued"]) == ("success", False)
    assert chromalith.query_snapshot_count(bucket=str(tmp_path / "store")) == 1
    act_as(account, monkeypatch)
    assert Queue(queue.url).depth().visible == 0


def test_poison_ends_in_the_dead_letter_queue_and_holds_nothing_up(
    sqs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writers tell, a worker compacts and deletes; poison comes again until it is set aside; a redrive brings it back, unchanged."""
    queue, dead = with_dead_letters(sqs, receives_max=2)
    monkeypatch.setenv("CHROMALITH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CHROMALITH_QUEUE_URL", queue.url)
    monkeypatch.setattr("chromalith.cli.queue_worker.AGAIN_S", 0.0)
    with chromalith.Writer() as writer:
        writer.create("words")
        for at in range(15):
            writer.upsert("words", ids=[str(at)], embeddings=EMBEDDINGS)
    sqs.send_message(QueueUrl=queue.url, MessageBody="poison")
    assert run(["compact", "--from-queue", "--once", "--json"]) == 0
    rounds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(each["done"] for each in rounds) == 15
    assert sum(outcome["deltas_folded"] for each in rounds for outcome in each["outcomes"]) == 15
    assert sum(len(each["failed"]) for each in rounds) == 2
    assert (queue.depth().visible, queue.depth().in_flight, dead.depth().visible) == (0, 0, 1)
    assert run(["queue", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dead_letters"]["visible"] == 1
    assert run(["queue", "redrive", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == "redriven"
    assert [each.body for each in queue.receive(10, 1)] == ["poison"]
    with chromalith.Reader() as reader:
        assert reader.count("words") == 15
