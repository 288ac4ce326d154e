"""The alarms: what needs a person, and nothing else. What each means and what to do: ``RUNBOOK.md``.

Missing data is never a breach: SQS stops telling of a queue that was empty for hours, functions that are not invoked have no errors, and
a metric of ours is measured when a function runs. That *nothing* happens where something should is an alarm of its own,
which counts what is missing as zero.

The names of our own metrics, and which statistic of each says something, come from ``chromalith.observe.metrics``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from chromalith.observe.metrics import BY_NAME, DIMENSION
from pipeline.config import Settings
from pipeline.names import FUNCTIONS, Names

PERIOD_S = 300
TICK = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400}
TICK_S_MAX = 43_200


@dataclass(frozen=True, slots=True)
class AlarmsArgs:
    """What :class:`Alarms` are made from.

    Attributes:
        names, settings: of the stack.
        topic_arn: who is told, also when it is over.
    """

    names: Names
    settings: Settings
    topic_arn: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class Query:
    """One line of an alarm: a metric, or an expression over the others.

    Attributes:
        id: what expressions call it.
        namespace, name, dimensions, stat: the metric; empty for an expression.
        expression: over other lines.
    """

    id: str
    namespace: str = ""
    name: str = ""
    dimensions: tuple[tuple[str, str], ...] = ()
    stat: str = "Sum"
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm: the last line of ``queries`` is compared; at the threshold or above it is a breach.

    Attributes:
        name: after the prefix.
        meaning: for the mail.
        threshold, periods, period_s: how much, how often in a row, of how many seconds.
    """

    name: str
    meaning: str
    queries: Sequence[Query]
    threshold: float
    periods: int = 1
    period_s: int = PERIOD_S


class Alarms(pulumi.ComponentResource):
    """All alarms of a stack.

    Attributes:
        arns: of them, in the order of the table.
    """

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Alarms", name, None, opts)
        self.arns: list[str] = []
        for alarm in alarms(args.names, args.settings):
            called = f"{args.settings.alarm_prefix}-{alarm.name}"
            self.arns.append(args.names.alarm_arn(called))
            aws.cloudwatch.MetricAlarm(
                alarm.name,
                name=called,
                alarm_description=alarm.meaning,
                comparison_operator="GreaterThanOrEqualToThreshold",
                threshold=alarm.threshold,
                evaluation_periods=alarm.periods,
                datapoints_to_alarm=alarm.periods,
                treat_missing_data="notBreaching",
                alarm_actions=[args.topic_arn],
                ok_actions=[args.topic_arn],
                **_compared(alarm),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def alarms(names: Names, settings: Settings) -> list[Alarm]:
    """The table of alarms."""

    def ours(id: str, name: str) -> Query:
        metric = BY_NAME[name]
        return Query(id, metric.namespace, metric.name, ((DIMENSION, names.service),), metric.statistic.value)

    def messages(id: str, metric: str, queue: str) -> Query:
        return Query(id, "AWS/SQS", metric, (("QueueName", queue),), "Maximum")

    def of_function(id: str, metric: str, function: str) -> Query:
        return Query(id, "AWS/Lambda", metric, (("FunctionName", names.function(function)),))

    visible = messages("visible", "ApproximateNumberOfMessagesVisible", names.queue)
    in_flight = messages("flying", "ApproximateNumberOfMessagesNotVisible", names.queue)
    dead = messages("dead", "ApproximateNumberOfMessagesVisible", names.dead_letter_queue)
    throttles = [of_function(f"t{number}", "Throttles", name) for number, name in enumerate(FUNCTIONS)]
    summed = " + ".join(f"FILL({each.id}, 0)" for each in throttles)
    # A run that could not get the lease is no success, and still tells what waits: a lease that is never given back is seen.
    waits = "FILL(visible, 0) + FILL(flying, 0) + FILL(created, 0) + FILL(backlog, 0) > 0"
    stalled = f"IF((FILL(done, 0) < 1) AND ({waits}), 1, 0)"
    # A compactor that is killed or runs out of time can't count its own failure; Lambda does.
    failed = [ours("failed", "CompactionFailure"), of_function("errors", "Errors", "compactor")]
    # What a run of the compactor finds is measured at least once in so long, so the alarm stays as it is between two runs.
    looked_s = 2 * tick_s(settings.compaction_schedule)
    return [
        Alarm("DeltaBacklog", "messages pile up: the compactor does not keep up", [visible], settings.delta_backlog_messages, 2),
        Alarm("QueryErrors", "queries fail", [of_function("errors", "Errors", "query")], settings.query_errors),
        Alarm(
            "OldestDeltaAge",
            "a delta waits too long for its fold",
            [ours("age", "OldestDeltaAge")],
            settings.oldest_delta_age_s,
            period_s=looked_s,
        ),
        Alarm(
            "PublishFailures",
            "compactions fail",
            [*failed, Query("most", expression="MAX([FILL(failed, 0), FILL(errors, 0)])")],
            settings.publish_failures,
            period_s=900,
        ),
        Alarm(
            "Quarantine",
            "a delta is corrupt, and kept out of reads until a person decides",
            [ours("found", "Quarantined")],
            settings.quarantined_deltas,
            period_s=looked_s,
        ),
        Alarm("DeadLetters", "messages failed again and again", [dead], settings.dead_letters),
        Alarm(
            "CompactionStalled",
            f"no compaction for {settings.stalled_minutes} minutes while deltas wait",
            [
                ours("done", "CompactionSuccess"),
                visible,
                in_flight,
                ours("created", "DeltasCreated"),
                ours("backlog", "BacklogDeltas"),
                Query("stalled", expression=stalled),
            ],
            1,
            settings.stalled_minutes * 60 // PERIOD_S,
        ),
        Alarm("Throttles", "Lambda refuses invocations", [*throttles, Query("all", expression=summed)], settings.throttles, 2),
    ]


def tick_s(schedule: str) -> int:
    """How far two runs of a schedule are apart, in seconds, at least a period's length. A ``cron`` expression counts as half a day."""
    rate = TICK.fullmatch(schedule)
    if rate is None:
        return TICK_S_MAX
    return min(TICK_S_MAX, max(PERIOD_S, int(rate[1]) * SECONDS[rate[2]]))


def _compared(alarm: Alarm) -> dict[str, Any]:
    """The arguments that say what is compared: one metric directly, or several with an expression."""
    if len(alarm.queries) == 1:
        (only,) = alarm.queries
        metric = {"namespace": only.namespace, "metric_name": only.name, "statistic": only.stat, "period": alarm.period_s}
        return {**metric, "dimensions": dict(only.dimensions)}
    return {"metric_queries": [_line(each, alarm, last=each is alarm.queries[-1]) for each in alarm.queries]}


def _line(query: Query, alarm: Alarm, *, last: bool) -> dict[str, Any]:
    line: dict[str, Any] = {"id": query.id, "return_data": last}
    if query.expression:
        return {**line, "expression": query.expression, "label": alarm.name}
    metric = {"namespace": query.namespace, "metric_name": query.name, "stat": query.stat, "period": alarm.period_s}
    return {**line, "metric": {**metric, "dimensions": dict(query.dimensions)}}
