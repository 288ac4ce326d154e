"""What happens without anybody's message: the compaction that finds what no hint announced, and the sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from pipeline.names import Names


@dataclass(frozen=True, slots=True)
class ScheduleArgs:
    """What a :class:`Schedule` is made from.

    Attributes:
        names: of the stack.
        live: the alias that is invoked.
        description: what for.
        expression: when, in EventBridge's words.
        payload: with what.
        enabled: whether it runs; a disabled one stays visible.
        retries: how often a failed run is repeated at once.
    """

    names: Names
    live: aws.lambda_.Alias
    description: str
    expression: str
    payload: Mapping[str, str]
    enabled: bool
    retries: int


class Schedule(pulumi.ComponentResource):
    """One EventBridge rule, its target, and the function's permission to be invoked by just this rule."""

    def __init__(self, name: str, args: ScheduleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Schedule", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        rule = aws.cloudwatch.EventRule(
            name,
            name=args.names.rule(name),
            description=args.description,
            schedule_expression=args.expression,
            state="ENABLED" if args.enabled else "DISABLED",
            opts=child,
        )
        permission = aws.lambda_.Permission(
            name,
            statement_id=f"schedule-{name}",
            action="lambda:InvokeFunction",
            principal="events.amazonaws.com",
            function=args.live.function_name,
            qualifier=args.live.name,
            source_arn=rule.arn,
            opts=child,
        )
        aws.cloudwatch.EventTarget(
            name,
            rule=rule.name,
            target_id=name,
            arn=args.live.arn,
            input=json.dumps(dict(args.payload)),
            retry_policy={"maximum_event_age_in_seconds": 900, "maximum_retry_attempts": 4},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )
        aws.lambda_.FunctionEventInvokeConfig(
            name,
            function_name=args.live.function_name,
            qualifier=args.live.name,
            maximum_event_age_in_seconds=3_600,
            maximum_retry_attempts=args.retries,
            opts=child,
        )
        self.register_outputs({})
