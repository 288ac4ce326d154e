"""Invocations as Lambda makes them: a context with a deadline, events of a queue, of a schedule and of HTTP."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from chromalith.lambdas import runtime
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId

VECTORS = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 1.0]}


@dataclass
class Context:
    """What the runtime gives a handler beside the event. ``left_s`` counts down by ``step_s`` with each look."""

    left_s: float = 900.0
    aws_request_id: str = "request-1"
    step_s: float = 0.0
    looks: int = field(default=0)

    def get_remaining_time_in_millis(self) -> int:
        self.looks += 1
        self.left_s -= self.step_s
        return int(self.left_s * 1000)


def forget_what_is_warm() -> None:
    """As if the process had just been started."""
    for kept in runtime._kept.values():
        kept.store.session.close()
    runtime._kept.clear()


def write(*ids: str, collection: str = "words", **more: Any) -> dict[str, Any]:
    """The producer's payload for these ids."""
    return {
        "collection": collection,
        "ids": list(ids),
        "embeddings": [VECTORS[i] for i in ids],
        "documents": [f"text {i}" for i in ids],
        "metadatas": [{"id": i} for i in ids],
        **more,
    }


def hint_of(answer: dict[str, Any]) -> str:
    """The message that tells of a delta, by the producer's answer."""
    cid, _, delta = answer["token"].partition(":")
    return Hint(CollectionId(cid), DeltaId.parse(delta), answer["item_count"], answer["delta_size_bytes"]).encode()


def queue_event(*bodies: str) -> dict[str, Any]:
    """An event of an SQS queue; message ids are ``m0``, ``m1``, …"""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"r{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:chromadb-delta-queue",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


SCHEDULED = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-22T20:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/chromadb-compaction"],
    "detail": {},
}
"""What a rule sends that has no input of its own."""


def url_event(payload: Any, *, encoded: bool = False, raw: str | None = None) -> dict[str, Any]:
    """An event of a function URL, with the payload as the body of a POST."""
    body = json.dumps(payload) if raw is None else raw
    return {
        "version": "2.0",
        "rawPath": "/",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": "/"}, "requestId": "id"},
        "body": base64.b64encode(body.encode()).decode() if encoded else body,
        "isBase64Encoded": encoded,
    }


def gateway_event(payload: Any) -> dict[str, Any]:
    """An event of a REST API gateway."""
    return {
        "httpMethod": "POST",
        "path": "/",
        "requestContext": {"httpMethod": "POST"},
        "body": json.dumps(payload),
        "isBase64Encoded": False,
    }
