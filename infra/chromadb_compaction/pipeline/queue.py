"""The queue of hints, and the dead-letter queue for those that failed again and again. A hint that is lost loses nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from pipeline import policies
from pipeline.names import Names

LONG_POLL_S = 20
DEAD_LETTER_RETENTION_S = 14 * 86_400
"""The longest that SQS takes: a person looks at these."""


@dataclass(frozen=True, slots=True)
class QueueArgs:
    """What a :class:`Queue` is made from.

    Attributes:
        names: of the stack.
        visibility_s: for how long a message that was received is hidden.
        retention_s: how long a message waits at most.
        max_receive_count: after how many failures it goes to the dead-letter queue.
    """

    names: Names
    visibility_s: int
    retention_s: int
    max_receive_count: int


class Queue(pulumi.ComponentResource):
    """Both queues: encrypted with SQS's own key, TLS only."""

    def __init__(self, name: str, args: QueueArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Queue", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.dead_letters = aws.sqs.Queue(
            f"{name}-dlq",
            name=args.names.dead_letter_queue,
            message_retention_seconds=DEAD_LETTER_RETENTION_S,
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        self.queue = aws.sqs.Queue(
            name,
            name=args.names.queue,
            visibility_timeout_seconds=args.visibility_s,
            message_retention_seconds=args.retention_s,
            receive_wait_time_seconds=LONG_POLL_S,
            sqs_managed_sse_enabled=True,
            redrive_policy=self.dead_letters.arn.apply(
                lambda arn: json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": args.max_receive_count})
            ),
            opts=child,
        )
        aws.sqs.RedriveAllowPolicy(
            f"{name}-dlq",
            queue_url=self.dead_letters.url,
            redrive_allow_policy=self.queue.arn.apply(
                lambda arn: json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn]})
            ),
            opts=child,
        )
        for label, queue in ((name, self.queue), (f"{name}-dlq", self.dead_letters)):
            aws.sqs.QueuePolicy(
                label,
                queue_url=queue.url,
                policy=queue.arn.apply(lambda arn: json.dumps(policies.queue_policy(arn))),
                opts=child,
            )
        self.url = self.queue.url
        self.arn = self.queue.arn
        self.register_outputs({"url": self.url})
