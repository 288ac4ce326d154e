"""What stands between a queue and a compactor's function: an event source mapping, on a bad day.

It does what Lambda's own does: receives messages, puts them together to a batch, calls the function, deletes what the answer does not
name in ``batchItemFailures``, and lets the rest become visible again; what the function raises fails its whole batch. Beyond that, from one
seed, it loses messages, delivers them twice, holds them back behind later ones, and loses the function's answer after the work was done.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

RECEIVE_MAX = 10
"""Of one request, says SQS."""
VISIBILITY_S = 60
"""Longer than any batch of a test takes."""


@dataclass(frozen=True)
class Weather:
    """How often what happens to a message, as shares of 1; each at least once.

    Attributes:
        drop: it is deleted, and nobody sees it.
        double: it is sent a second time.
        again: it is delivered once more after it was done, as SQS may.
        hold: it is kept back for a later batch.
        lost_answer: (of a batch) its function's answer is lost, so that nothing is deleted.
        silenced: the ids of collections all of whose hints are dropped.
    """

    drop: float = 0.1
    double: float = 0.15
    again: float = 0.15
    hold: float = 0.2
    lost_answer: float = 0.15
    silenced: tuple[str, ...] = ()


@dataclass
class Context:
    """What a handler asks its context for."""

    aws_request_id: str
    seconds: float = 45.0
    function_name: str = "chromadb-compactor-test"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:chromadb-compactor-test"
    memory_limit_in_mb: int = 512

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass
class Pump:
    """From one queue to one function.

    Args:
        sqs: a boto3 client.
        function: of an event and a context: a Lambda handler.
        chance: of everything that goes wrong.
        batches: how many requests' worth of messages a batch has at most.

    ``seen`` counts what was done to messages; ``errors`` has what the function raised.
    """

    sqs: Any
    queue_url: str
    function: Callable[[Any, Any], Any]
    chance: random.Random
    weather: Weather = field(default_factory=Weather)
    batches: int = 3
    seen: Counter[str] = field(default_factory=Counter)
    held: list[dict[str, Any]] = field(default_factory=list)
    ghosts: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def round(self) -> int:
        """Receive once, and deliver once; how many messages were delivered."""
        arrived = [message for _ in range(self.batches) for message in self._receive()]
        there = [message for message in arrived if not self._lost(message)]
        for message in there:
            if _is_hint(message) and self._happens("double"):
                self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=message["Body"])
        later = [message for message in there if self._happens("hold")]
        batch = self.held + self.ghosts + [message for message in there if message not in later]
        self.held, self.ghosts = later, []
        if not batch:
            return 0
        self.chance.shuffle(batch)
        self._deliver(batch)
        return len(batch)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=RECEIVE_MAX,
            VisibilityTimeout=VISIBILITY_S,
            MessageSystemAttributeNames=["All"],
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        self.seen["received"] += len(found)
        self.seen["redelivered"] += sum(int(m["Attributes"]["ApproximateReceiveCount"]) > 1 for m in found)
        return found

    def _lost(self, message: dict[str, Any]) -> bool:
        silenced = any(each in message["Body"] for each in self.weather.silenced)
        # A message that nobody can read is left alone: that it ends in the dead-letter queue is for the test to see.
        lost = silenced or (_is_hint(message) and self._happens("drop"))
        if lost:
            self._delete(message)
        return lost

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        self.seen["batches"] += 1
        self.seen["delivered"] += len(batch)
        unique = {message["MessageId"]: message for message in batch}  # a batch has each message once
        try:
            answer = self.function({"Records": [_record(each, self.queue_url) for each in unique.values()]}, self._context())
            failed = {each["itemIdentifier"] for each in (answer or {}).get("batchItemFailures", [])}
        except Exception as error:
            self.seen["raised"] += 1
            self.errors.append(f"{type(error).__name__}: {error}")
            failed = set(unique)
        if failed - set(unique):
            self.errors.append(f"the answer names what was not in the batch ids={failed - set(unique)}")
        answer_lost = self._happens("lost_answer")
        for identifier, message in unique.items():
            if identifier in failed or answer_lost:
                self.seen["failed"] += identifier in failed
                self._release(message)
                continue
            self._delete(message)
            if self._happens("again"):
                self.ghosts.append(message)

    def _context(self) -> Context:
        return Context(f"{self.chance.getrandbits(128):032x}")

    def _delete(self, message: dict[str, Any]) -> None:
        with suppress(self.sqs.exceptions.ReceiptHandleIsInvalid):  # the emulator's word for a ghost; SQS takes it
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def _release(self, message: dict[str, Any]) -> None:
        # A ghost was deleted before: there is nothing to make visible.
        with suppress(self.sqs.exceptions.ClientError):
            self.sqs.change_message_visibility(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)

    def _happens(self, what: str) -> bool:
        """Whether it happens to this one; the first time that it could, it does."""
        share: float = getattr(self.weather, what)
        happens = share > 0 and (not self.seen[what] or self.chance.random() < share)
        self.seen[what] += happens
        return happens


def _is_hint(message: dict[str, Any]) -> bool:
    return '"rows"' in message["Body"] and '"no-uuid"' not in message["Body"]


def _record(message: dict[str, Any], queue_url: str) -> dict[str, Any]:
    """A message as Lambda hands it over."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue_url.rpartition('/')[2]}",
        "awsRegion": "us-east-1",
    }
