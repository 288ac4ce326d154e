"""The dashboard: what the pipeline measures about itself, and what AWS measures about its parts, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from chromalith.observe.metrics import DIMENSION, METRICS
from pipeline.names import FUNCTIONS, Names

WIDTH, HEIGHT, COLUMNS = 6, 6, 24
ALARMS_HEIGHT = 2
PERIOD_S = 300


@dataclass(frozen=True, slots=True)
class DashboardArgs:
    """What a :class:`Dashboard` is made from.

    Attributes:
        names: of the stack.
        alarms: their ARNs.
    """

    names: Names
    alarms: Sequence[str]


class Dashboard(pulumi.ComponentResource):
    """The dashboard, and where it is (``url``)."""

    def __init__(self, name: str, args: DashboardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Dashboard", name, None, opts)
        aws.cloudwatch.Dashboard(
            name,
            dashboard_name=args.names.dashboard,
            dashboard_body=json.dumps(body(args.names, args.alarms)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        region = args.names.region
        self.url = f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#dashboards/dashboard/{args.names.dashboard}"
        self.register_outputs({"url": self.url})


def body(names: Names, alarms: Sequence[str]) -> dict[str, Any]:
    """The dashboard as CloudWatch takes it: the alarms, and below them a grid of graphs, row by row."""
    states = {"title": "alarms", "alarms": list(alarms)}
    widgets: list[dict[str, Any]] = [
        {"type": "alarm", "x": 0, "y": 0, "width": COLUMNS, "height": ALARMS_HEIGHT, "properties": states}
    ]
    for number, (title, metrics) in enumerate(_graphs(names)):
        x, y = number * WIDTH % COLUMNS, ALARMS_HEIGHT + number * WIDTH // COLUMNS * HEIGHT
        shown = {"title": title, "region": names.region, "period": PERIOD_S, "view": "timeSeries", "metrics": metrics}
        widgets.append({"type": "metric", "x": x, "y": y, "width": WIDTH, "height": HEIGHT, "properties": shown})
    return {"widgets": widgets}


def _graphs(names: Names) -> Iterator[tuple[str, Sequence[Any]]]:
    queue, dead = ["QueueName", names.queue], ["QueueName", names.dead_letter_queue]
    visible = "ApproximateNumberOfMessagesVisible"
    yield (
        "messages that wait",
        [["AWS/SQS", visible, *queue, {"stat": "Maximum"}], ["AWS/SQS", visible, *dead, {"stat": "Maximum", "label": "dead letters"}]],
    )
    yield "age of the oldest message, s", [["AWS/SQS", "ApproximateAgeOfOldestMessage", *queue, {"stat": "Maximum"}]]
    for metric in ("Errors", "Throttles", "Duration", "ConcurrentExecutions"):
        stat = {"Errors": "Sum", "Throttles": "Sum", "Duration": "p99"}.get(metric, "Maximum")
        lines = [["AWS/Lambda", metric, "FunctionName", names.function(each), {"stat": stat, "label": each}] for each in FUNCTIONS]
        yield f"Lambda: {metric}", lines
    for each in METRICS:
        title = f"{each.namespace.rpartition('/')[2]}: {each.name}, {each.unit.lower()}"
        yield title, [[each.namespace, each.name, DIMENSION, names.service, {"stat": each.statistic.value}]]
