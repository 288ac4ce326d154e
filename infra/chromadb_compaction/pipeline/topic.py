"""The topic that alarms are told to, and who hears of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from pipeline import policies
from pipeline.names import Names


@dataclass(frozen=True, slots=True)
class TopicArgs:
    """What a :class:`Topic` is made from.

    Attributes:
        names: of the stack.
        alarm_prefix: alarms whose names begin with it may publish.
        email: who subscribes; they get a mail to confirm it.
    """

    names: Names
    alarm_prefix: str
    email: str | None


class Topic(pulumi.ComponentResource):
    """The topic. Not encrypted with a key: CloudWatch may not use SNS's own key, and an alarm that can't be sent is none."""

    def __init__(self, name: str, args: TopicArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Topic", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.topic = aws.sns.Topic(name, name=args.names.topic, opts=child)
        document = policies.topic_policy(args.names, args.alarm_prefix)
        policy = aws.sns.TopicPolicy(name, arn=self.topic.arn, policy=json.dumps(document), opts=child)
        if args.email is not None:
            aws.sns.TopicSubscription(name, topic=self.topic.arn, protocol="email", endpoint=args.email, opts=child)
        self.arn = pulumi.Output.all(self.topic.arn, policy.id).apply(lambda known: str(known[0]))
        self.register_outputs({"arn": self.arn})
