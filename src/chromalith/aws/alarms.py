"""CloudWatch: the alarms of a stack, and when something was last measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chromalith.aws.clients import client
from chromalith.aws.errors import translated
from chromalith.clock import Clock

PERIOD_S = 300
LOOKED_BACK = timedelta(days=3)
"""CloudWatch answers with at most 1,440 periods: these are 864."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm.

    Attributes:
        name: its name.
        state: ``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``.
        reason: why it is in this state, in CloudWatch's words.
        since: when it went there; ``None`` if CloudWatch does not say.
    """

    name: str
    state: str
    reason: str
    since: datetime | None


def alarms(topic: str, prefix: str, options: Mapping[str, object] | None = None) -> list[Alarm]:
    """The alarms whose names begin with ``prefix`` and that tell the topic of this name; all of the prefix, if none does.

    Raises ``Invalid`` (not allowed, no region), ``Unavailable``.
    """
    cloudwatch = client("cloudwatch", options)
    found: list[tuple[Alarm, bool]] = []
    with translated(f"alarms prefix={prefix}"):
        for page in cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix):
            for each in page["MetricAlarms"]:
                ours = any(arn.endswith(f":{topic}") for arn in each.get("AlarmActions", ()))
                alarm = Alarm(each["AlarmName"], each["StateValue"], each.get("StateReason", ""), each.get("StateUpdatedTimestamp"))
                found.append((alarm, ours))
    return [alarm for alarm, ours in found if ours] or [alarm for alarm, _ in found]


def last_measured(
    namespace: str, name: str, dimensions: Mapping[str, str], clock: Clock, options: Mapping[str, object] | None = None
) -> datetime | None:
    """When a metric was last above zero, to five minutes; ``None``: not in the last three days. Raises as :func:`alarms`."""
    cloudwatch = client("cloudwatch", options)
    now = datetime.fromtimestamp(clock.now_us() / 1e6, UTC)
    with translated(f"metric namespace={namespace} name={name}"):
        found = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": each, "Value": value} for each, value in dimensions.items()],
            StartTime=now - LOOKED_BACK,
            EndTime=now + timedelta(seconds=PERIOD_S),
            Period=PERIOD_S,
            Statistics=["Sum"],
        )
    return max((point["Timestamp"] for point in found["Datapoints"] if point["Sum"] > 0), default=None)
