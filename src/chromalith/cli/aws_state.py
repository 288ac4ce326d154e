"""What ``chromalith aws status`` shows: how a deployed stack is, as AWS tells it. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chromalith.aws.alarms import Alarm, alarms, last_measured
from chromalith.aws.functions import Functions
from chromalith.aws.queue import Queue
from chromalith.aws.stack import Stack, queue_url
from chromalith.cli.output import Output
from chromalith.clock import SYSTEM_CLOCK
from chromalith.observe.metrics import BY_NAME, DIMENSION

ALARM_PREFIX = "ChromaDB-Migration"
FOLDED = "DeltasFolded"
RINGING = "ALARM"


def state(stack: Stack, alarm_prefix: str, options: Mapping[str, object]) -> dict[str, Any]:
    """How the stack is, as JSON shows it. Raises what the first part of it that can't be asked raises."""
    functions = Functions(options)
    found = [functions.look(name, stack.alias) for name in stack.functions.values()]
    queue = Queue(queue_url(stack.queue, options), options)
    depth, dead = queue.depth(), queue.dead_letters()
    rung = alarms(stack.topic, alarm_prefix, options)
    metric = BY_NAME[FOLDED]
    folded = last_measured(metric.namespace, metric.name, {DIMENSION: stack.service}, SYSTEM_CLOCK, options)
    dead_letters = None if dead is None else dead.queue.depth().visible
    return {
        "ok": not dead_letters and not any(each.state == RINGING for each in rung),
        "functions": [
            {"name": each.name, "alias": each.alias, "version": each.version, "state": each.state, "modified": each.modified}
            for each in found
        ],
        "queue": {"name": stack.queue, "visible": depth.visible, "in_flight": depth.in_flight, "dead_letters": dead_letters},
        "alarms": [_alarm(each) for each in rung],
        "last_folded": _iso(folded),
    }


def print_state(output: Output, shown: Mapping[str, Any]) -> None:
    """The same for a person."""
    rows = [(each["name"], each["alias"], each["version"], each["state"], each["modified"]) for each in shown["functions"]]
    output.table(("function", "alias", "version", "state", "changed"), rows)
    output.line()
    queue = shown["queue"]
    dead = "no dead-letter queue" if queue["dead_letters"] is None else f"{queue['dead_letters']} dead letters"
    output.line(f"{queue['name']}: {queue['visible']} messages wait, {queue['in_flight']} in flight, {dead}")
    output.line(f"last fold: {shown['last_folded'] or 'none measured in the last three days'}")
    output.line()
    if shown["alarms"]:
        output.table(("alarm", "state", "since", "why"), [(a["name"], a["state"], a["since"], a["reason"]) for a in shown["alarms"]])
    else:
        output.say("there are no alarms of this prefix; --alarm-prefix names another")


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {"name": alarm.name, "state": alarm.state, "since": _iso(alarm.since), "reason": alarm.reason}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
