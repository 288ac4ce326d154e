"""What a queue of hints must do, whichever server stands for SQS: the suite of ``tests/contract`` (moto) and ``tests/aws`` (ministack).

A module of tests subclasses :class:`QueueContract`, and has a fixture ``sqs``: a boto3 client of the same server, for what a test sets up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from tests.servers import ACCESS_KEY, SECRET_KEY, Server

from chromalith.aws.queue import Queue
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid, NotFound
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId

SOON_S = 20.0


def hints(count: int) -> list[Hint]:
    cid = CollectionId("00000000-0000-4000-8000-000000000000")
    return [Hint(cid, DeltaId(at, "a" * 32, at, "b" * 16), at, 100 + at) for at in range(count)]


def named_by_the_environment(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's SQS, which the environment names too: the body of a fixture."""
    environment = {
        "AWS_ENDPOINT_URL_SQS": moto.endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("sqs", endpoint_url=moto.endpoint, region_name="us-east-1")
    yield client
    client.close()


def new_queue(sqs: Any, **attributes: str) -> Queue:
    """An empty queue of its own."""
    name = f"hints-{SYSTEM_CLOCK.random_hex(8)}"
    return Queue(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def with_dead_letters(sqs: Any, receives_max: int = 2, **attributes: str) -> tuple[Queue, Queue]:
    """A queue, and the one that its messages go to after so many deliveries."""
    dead = new_queue(sqs)
    arn = sqs.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives_max})
    return new_queue(sqs, RedrivePolicy=policy, **attributes), dead


def soon(true: Callable[[], bool]) -> None:
    """Wait until something is true; fail if it never is."""
    stop_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < stop_s, "it never came"
        time.sleep(0.05)


def bounced(queue: Queue, dead: Queue, count: int) -> None:
    """Send hints, and deliver them until they are in the dead-letter queue, which takes them after two deliveries."""
    queue.send_batch(hints(count))
    for _ in range(2):
        assert queue.give_back([each.receipt for each in queue.receive(count, 1, 600)]) == 0
    soon(lambda: queue.receive(count) == [] and dead.depth().visible == count)


class QueueContract:
    """Every test takes ``sqs``."""

    def test_what_is_sent_is_received(self, sqs: Any) -> None:
        """Hints of several requests arrive, each once, as they were sent."""
        queue, sent = new_queue(sqs), hints(25)
        assert queue.send_batch(sent) == 0
        got = queue.receive(100, 1)
        assert sorted(Hint.decode(each.body).delta for each in got) == [each.delta for each in sent]
        assert {Hint.decode(each.body) for each in got} == set(sent)
        assert {each.received for each in got} == {1}
        assert len({each.id for each in got}) == 25

    def test_no_more_are_received_than_asked_for(self, sqs: Any) -> None:
        """The rest stays for others."""
        queue = new_queue(sqs)
        queue.send_batch(hints(15))
        assert len(queue.receive(12, 1)) == 12
        assert len(queue.receive(12, 1)) == 3

    def test_an_empty_queue_gives_nothing(self, sqs: Any) -> None:
        """Nothing sent, nothing received; nothing asked, nothing done."""
        queue = new_queue(sqs)
        assert queue.receive(10) == []
        assert queue.send_batch([]) == queue.delete([]) == queue.give_back([]) == 0

    def test_what_is_not_deleted_comes_again(self, sqs: Any) -> None:
        """A message that was received is hidden, and comes again with the same id when it is given back; a deleted one does not."""
        queue = new_queue(sqs)
        queue.send_batch(hints(12))
        first = queue.receive(12, 1, 600)
        assert queue.receive(12) == []
        assert queue.delete([each.receipt for each in first[:11]]) == 0
        assert queue.give_back([first[11].receipt]) == 0
        again = queue.receive(12, 1)
        assert [(each.id, each.received, each.body) for each in again] == [(first[11].id, 2, first[11].body)]

    def test_a_visibility_time_of_nothing(self, sqs: Any) -> None:
        """With a visibility time of 0 a message stays receivable: one that comes twice in one call counts once, and ends the call."""
        queue = new_queue(sqs)
        queue.send_batch(hints(1))
        assert len(queue.receive(3, 1, 0)) == 1
        assert len(queue.receive(3, 1)) == 1

    def test_depth(self, sqs: Any) -> None:
        """Messages that can be received, that are being worked on, and that are delayed, are counted apart."""
        queue = new_queue(sqs)
        queue.send_batch(hints(5))
        queue.receive(2, 1)
        sqs.send_message(QueueUrl=queue.url, MessageBody="later", DelaySeconds=600)
        depth = queue.depth()
        assert (depth.visible, depth.in_flight, depth.delayed) == (3, 2, 1)

    def test_purge(self, sqs: Any) -> None:
        """Afterwards there is nothing."""
        queue = new_queue(sqs)
        queue.send_batch(hints(5))
        queue.purge()
        assert queue.receive(10) == []
        assert queue.depth().visible == 0

    def test_no_dead_letters(self, sqs: Any) -> None:
        """A queue without a redrive policy has no dead-letter queue, and nothing to redrive."""
        queue = new_queue(sqs)
        assert queue.dead_letters() is None
        with pytest.raises(NotFound, match="no dead-letter queue"):
            queue.redrive()
        with pytest.raises(NotFound, match="no dead-letter queue"):
            queue.last_redrive()

    def test_dead_letters(self, sqs: Any) -> None:
        """A message that was delivered too often goes to the queue that the policy names."""
        queue, dead = with_dead_letters(sqs, receives_max=2)
        found = queue.dead_letters()
        assert found is not None
        assert (found.queue.url, found.receives_max) == (dead.url, 2)
        bounced(queue, dead, 12)
        assert {Hint.decode(each.body) for each in dead.receive(12, 1)} == set(hints(12))

    def test_there_is_no_such_queue(self, sqs: Any) -> None:
        """Each verb says that the queue is missing."""
        queue = new_queue(sqs)
        sqs.delete_queue(QueueUrl=queue.url)
        verbs: list[Callable[[], object]] = [
            lambda: queue.send_batch(hints(1)),
            lambda: queue.receive(1),
            lambda: queue.delete(["x"]),
            lambda: queue.give_back(["x"]),
            queue.depth,
            queue.dead_letters,
            queue.purge,
            queue.redrive,
        ]
        for verb in verbs:
            with pytest.raises(NotFound):
                verb()

    @pytest.mark.parametrize("url", ["", "queue", "http://", "sqs://x/1/q", "https://x/q", "https://[x/1/q", "https://x/1/", "https://x/1/q.fifo"])
    def test_what_is_no_queue(self, url: str, sqs: Any) -> None:
        """A URL that can't be a standard queue's is refused before anything is asked."""
        with pytest.raises(Invalid):
            Queue(url)
