"""Alarms and dashboard: the names that the issue and the guide give, metrics that exist, and expressions that say what they should."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.aws.infra_program import NAMES, Declared, Resource, alarms, config, dashboard, names, policies, run, zip_file
from tests.docs.blocks import ROOT

from chromalith.observe.metrics import BY_NAME, DIMENSION, METRICS

SERVICE = {DIMENSION: "chromalith-dev"}
QUEUE, DEAD = {"QueueName": "chromadb-delta-queue"}, {"QueueName": "chromadb-delta-queue-dlq"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(zip_file(tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="module")
def declared(package: str) -> Declared:
    return run({"packagePath": package, "alarmEmail": "ops@example.com"})


def alarm(declared: Declared, name: str) -> Any:
    return declared.all("MetricAlarm")[name].inputs


def lines(inputs: Any) -> dict[str, Any]:
    """The lines of an alarm over several metrics, by id."""
    return {each["id"]: each for each in inputs["metricQueries"]}


def test_the_alarms_have_the_names_that_were_promised(declared: Declared) -> None:
    """Eight, with the guide's prefix; a runbook leads from each name to what to do."""
    assert {each.inputs["name"] for each in declared.all("MetricAlarm").values()} == {
        "ChromaDB-Migration-DeltaBacklog", "ChromaDB-Migration-QueryErrors", "ChromaDB-Migration-OldestDeltaAge",
        "ChromaDB-Migration-PublishFailures", "ChromaDB-Migration-Quarantine", "ChromaDB-Migration-DeadLetters",
        "ChromaDB-Migration-CompactionStalled", "ChromaDB-Migration-Throttles",
    }  # fmt: skip


def test_every_alarm_tells_the_topic_and_takes_missing_data_as_good(declared: Declared) -> None:
    """Both when it begins and when it is over; at the threshold, not only above it."""
    topic = declared.one("Topic").inputs["name"]
    for each in declared.all("MetricAlarm").values():
        (told,) = each.inputs["alarmActions"]
        assert told.endswith(f":{topic}")
        assert each.inputs["okActions"] == [told]
        assert each.inputs["treatMissingData"] == "notBreaching"
        assert each.inputs["comparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert each.inputs["datapointsToAlarm"] == each.inputs["evaluationPeriods"]
        assert each.inputs["alarmDescription"]


@pytest.mark.parametrize(
    ("name", "namespace", "metric", "dimensions", "statistic", "threshold", "periods", "period_s"),
    [
        ("DeltaBacklog", "AWS/SQS", "ApproximateNumberOfMessagesVisible", QUEUE, "Maximum", 5_000, 2, 300),
        ("QueryErrors", "AWS/Lambda", "Errors", {"FunctionName": "chromadb-query-dev"}, "Sum", 10, 1, 300),
        ("OldestDeltaAge", "ChromaDB/Compaction", "OldestDeltaAge", SERVICE, "Maximum", 3_600, 1, 1_800),
        ("Quarantine", "ChromaDB/Compaction", "Quarantined", SERVICE, "Maximum", 1, 1, 1_800),
        ("DeadLetters", "AWS/SQS", "ApproximateNumberOfMessagesVisible", DEAD, "Maximum", 1, 1, 300),
    ],
)
def test_alarms_on_one_metric(
    declared: Declared, name: str, namespace: str, metric: str, dimensions: dict[str, str], statistic: str,
    threshold: float, periods: int, period_s: int,
) -> None:  # fmt: skip
    """The metric, its dimension, the threshold, and how often in a row."""
    found = alarm(declared, name)
    assert (found["namespace"], found["metricName"], found["dimensions"]) == (namespace, metric, dimensions)
    assert (found["statistic"], found["threshold"]) == (statistic, threshold)
    assert (found["evaluationPeriods"], found["period"]) == (periods, period_s)


@pytest.mark.parametrize(
    ("name", "threshold", "periods", "period_s", "metrics"),
    [
        ("PublishFailures", 1, 1, 900, {("ChromaDB/Compaction", "CompactionFailure"), ("AWS/Lambda", "Errors")}),
        (
            "CompactionStalled",
            1,
            12,
            300,
            {
                ("ChromaDB/Compaction", "CompactionSuccess"),
                ("ChromaDB/Compaction", "BacklogDeltas"),
                ("ChromaDB/Producer", "DeltasCreated"),
                ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
                ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"),
            },
        ),
        ("Throttles", 10, 2, 300, {("AWS/Lambda", "Throttles")}),
    ],
)
def test_alarms_on_several_metrics(
    declared: Declared, name: str, threshold: float, periods: int, period_s: int, metrics: set[tuple[str, str]]
) -> None:
    """One expression is compared; the other lines are what it is made from, at most ten, each used."""
    found = alarm(declared, name)
    assert (found["threshold"], found["evaluationPeriods"]) == (threshold, periods)
    assert "metricName" not in found
    by_id = lines(found)
    (compared,) = [each for each in by_id.values() if each["returnData"]]
    sources = {id: each["metric"] for id, each in by_id.items() if "metric" in each}
    assert {(each["namespace"], each["metricName"]) for each in sources.values()} == metrics
    assert {each["period"] for each in sources.values()} == {period_s}
    assert len(by_id) <= 10
    assert set(re.findall(r"\b[a-z]\w*\b", compared["expression"])) == sources.keys()


def _computed(expression: str, **values: float | None) -> float:
    """A metric expression as CloudWatch computes it, for the functions that ours use; ``None`` is a value that is missing."""

    def fill(value: float | None, otherwise: float) -> float:
        return otherwise if value is None else value

    known = {"IF": lambda test, yes, no: yes if test else no, "FILL": fill, "MAX": max}
    return float(eval(expression.replace(" AND ", " and "), {"__builtins__": {}}, known | values))


@pytest.mark.parametrize(
    ("done", "visible", "flying", "created", "backlog", "stalled"),
    [
        (None, None, None, None, None, 0),  # nothing happens, and nothing should
        (None, 0, 0, 0, 0, 0),
        (None, 3, None, None, None, 1),  # messages wait, and nobody compacts
        (0, 0, 2, None, None, 1),  # they are taken again and again, and every compaction fails
        (None, None, None, 5, None, 1),  # deltas are written, and not even their messages arrive
        (None, None, None, None, 7, 1),  # somebody looks, and never gets the lease
        (1, 3, 2, 5, 7, 0),
    ],
)
def test_what_counts_as_stalled(
    declared: Declared,
    done: float | None,
    visible: float | None,
    flying: float | None,
    created: float | None,
    backlog: float | None,
    stalled: float,
) -> None:
    """Stalled is: something waits, and no compaction succeeded; what is missing counts as zero."""
    expression = lines(alarm(declared, "CompactionStalled"))["stalled"]["expression"]
    assert _computed(expression, done=done, visible=visible, flying=flying, created=created, backlog=backlog) == stalled


def test_a_failure_counts_who_ever_counted_it(declared: Declared) -> None:
    """A compactor that was killed can't count its failure, and Lambda does; one that counted it itself is not counted twice."""
    expression = lines(alarm(declared, "PublishFailures"))["most"]["expression"]
    assert [_computed(expression, failed=f, errors=e) for f, e in ((None, None), (1, None), (None, 1), (2, 2))] == [0, 1, 1, 2]


def test_throttles_of_all_functions_are_added_up(declared: Declared) -> None:
    """One alarm for the five functions of this stack."""
    found = lines(alarm(declared, "Throttles"))
    functions = [each["metric"]["dimensions"]["FunctionName"] for each in found.values() if "metric" in each]
    assert functions == [f"chromadb-{name}-dev" for name in names.FUNCTIONS]
    assert _computed(found["all"]["expression"], t0=1, t1=None, t2=2, t3=None, t4=4) == 7


@pytest.mark.parametrize(
    ("when", "tick_s"),
    [("rate(1 minute)", 300), ("rate(15 minutes)", 900), ("rate(2 hours)", 7_200), ("rate(3 days)", 43_200), ("cron(0 3 * * ? *)", 43_200)],
)
def test_an_alarm_lasts_from_one_look_to_the_next(package: str, when: str, tick_s: int) -> None:
    """What only a compaction measures is looked for over two rounds of the schedule, and never over more than CloudWatch takes: a day."""
    settings = config.Settings(compaction_schedule=when)
    assert alarms.tick_s(when) == tick_s
    by_name = {each.name: each for each in alarms.alarms(NAMES, settings)}
    for name in ("OldestDeltaAge", "Quarantine"):
        assert by_name[name].period_s == 2 * tick_s <= 86_400
    assert all(each.period_s * each.periods <= 86_400 and each.period_s % 60 == 0 for each in by_name.values())


def test_thresholds_and_names_are_settings(package: str) -> None:
    """Each threshold can be chosen, and a second stack has alarms of its own."""
    chosen = {
        "deltaBacklogMessages": "11", "queryErrors": "12", "oldestDeltaAgeS": "130", "publishFailures": "14", "quarantinedDeltas": "15",
        "deadLetters": "16", "throttles": "17", "stalledMinutes": "30",
    }  # fmt: skip
    declared = run({"packagePath": package, "alarmPrefix": "Second", "queueName": "other", **chosen})
    found = {name: each.inputs["threshold"] for name, each in declared.all("MetricAlarm").items()}
    assert found == {
        "DeltaBacklog": 11, "QueryErrors": 12, "OldestDeltaAge": 130, "PublishFailures": 14, "Quarantine": 15, "DeadLetters": 16,
        "CompactionStalled": 1, "Throttles": 17,
    }  # fmt: skip
    assert alarm(declared, "CompactionStalled")["evaluationPeriods"] == 6
    assert all(each.inputs["name"].startswith("Second-") for each in declared.all("MetricAlarm").values())
    assert alarm(declared, "DeltaBacklog")["dimensions"] == {"QueueName": "other"}


def test_our_metrics_are_ones_that_the_code_emits(declared: Declared) -> None:
    """Namespace, name, dimension and statistic of each are those of the one table."""
    seen = set()
    for each in declared.all("MetricAlarm").values():
        inputs = each.inputs
        metrics = [line["metric"] for line in inputs.get("metricQueries", ()) if "metric" in line] or [inputs]
        for metric in metrics:
            if metric["namespace"].startswith("ChromaDB/"):
                known = BY_NAME[metric["metricName"]]
                assert (metric["namespace"], metric["dimensions"]) == (known.namespace, SERVICE)
                assert metric.get("stat", metric.get("statistic")) == known.statistic.value
                seen.add(known.name)
    assert seen == {"OldestDeltaAge", "CompactionFailure", "Quarantined", "CompactionSuccess", "DeltasCreated", "BacklogDeltas"}


# Topic and dashboard ---------------------------------------------------------------------------------------------------


def test_the_topic_and_who_hears_of_it(declared: Declared, package: str) -> None:
    """An address subscribes by mail; without one there is nobody; the policy is the tested one; no key that CloudWatch may not use."""
    topic = declared.one("Topic").inputs
    assert (topic["name"], topic.get("kmsMasterKeyId")) == ("chromadb-alarms-dev", None)
    assert declared.one("TopicPolicy").json("policy") == policies.topic_policy(NAMES, "ChromaDB-Migration")
    mail = declared.one("TopicSubscription").inputs
    assert (mail["protocol"], mail["endpoint"]) == ("email", "ops@example.com")
    assert run({"packagePath": package}).all("TopicSubscription") == {}


def _widgets(page: Resource) -> list[dict[str, Any]]:
    widgets: list[dict[str, Any]] = page.json("dashboardBody")["widgets"]
    return widgets


def test_the_dashboard_shows_every_metric(declared: Declared) -> None:
    """All of the table, of this stack; the queues and functions; and the state of every alarm."""
    page = declared.one("Dashboard")
    assert page.inputs["dashboardName"] == "ChromaDB-dev"
    first, *graphs = _widgets(page)
    names_of_alarms = [arn.rpartition(":")[2] for arn in first["properties"]["alarms"]]
    assert sorted(names_of_alarms) == sorted(each.inputs["name"] for each in declared.all("MetricAlarm").values())
    shown = [line for widget in graphs for line in widget["properties"]["metrics"]]
    ours = {(line[0], line[1]): line[2:] for line in shown if line[0].startswith("ChromaDB/")}
    assert ours == {(m.namespace, m.name): [DIMENSION, "chromalith-dev", {"stat": m.statistic.value}] for m in METRICS}
    theirs = {(line[1], line[3]) for line in shown if line[0].startswith("AWS/")}
    for metric in ("Errors", "Throttles", "Duration"):
        assert {(metric, f"chromadb-{name}-dev") for name in names.FUNCTIONS} <= theirs
    for queue in ("chromadb-delta-queue", "chromadb-delta-queue-dlq"):
        assert ("ApproximateNumberOfMessagesVisible", queue) in theirs


def test_the_dashboard_is_a_grid(declared: Declared) -> None:
    """No graph lies over another, none beyond CloudWatch's 24 columns; the text is below its limit of 1 MB."""
    places = [(widget["x"], widget["y"], widget["width"], widget["height"]) for widget in _widgets(declared.one("Dashboard"))]
    cells = [(x + dx, y + dy) for x, y, width, height in places for dx in range(width) for dy in range(height)]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len(json.dumps(dashboard.body(NAMES, []))) < 1_000_000


def test_the_runbook_has_every_alarm() -> None:
    """Whoever gets the mail finds the name there."""
    text = (ROOT / "docs" / "RUNBOOK.md").read_text(encoding="utf-8")
    settings = config.Settings()
    assert [each.name for each in alarms.alarms(NAMES, settings) if each.name not in text] == []
