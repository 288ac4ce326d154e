"""Lines for CloudWatch: each is what the specification of the embedded metric format asks for, and says what the events said.

The rules are those of AWS's "Specification: Embedded metric format": what a root node, a metadata object, a metric directive and a metric
definition must have, the limits (100 metrics, 100 values, 30 dimensions), and that targets are members of the root node.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
from tests.unit.observe.test_metrics import CID, EVENTS, RUN, WRITTEN

from chromalith.clock import ManualClock
from chromalith.errors import Kind
from chromalith.observe.emf import VALUES_MAX, EmfObserver
from chromalith.observe.events import Compacted, CompactionFailed, HintsFailed, Queried
from chromalith.observe.hooks import together
from chromalith.observe.metrics import BY_NAME, METRICS, values

UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits",
    "Megabits", "Gigabits", "Terabits", "Percent", "Count", "None",
    *(f"{size}/Second" for size in ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits", "Megabits",
                                    "Gigabits", "Terabits", "Count")),
}  # fmt: skip
NOW_MS = ManualClock().now_us() // 1_000


def check(blob: Any) -> tuple[str, dict[str, list[float]]]:
    """Hold a line against the specification; its namespace, and its values by metric."""
    assert isinstance(blob, dict)
    assert set(blob["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    stamp = blob["_aws"]["Timestamp"]
    assert isinstance(stamp, int)
    (directive,) = blob["_aws"]["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    namespace = directive["Namespace"]
    assert re.fullmatch(r"[A-Za-z0-9./_#:-]{1,256}", namespace)
    assert not namespace.startswith("AWS/")
    (dimensions,) = directive["Dimensions"]
    assert len(dimensions) <= 30
    for name in dimensions:
        assert isinstance(blob[name], str)
        assert 1 <= len(blob[name]) <= 1024
    assert 1 <= len(directive["Metrics"]) <= 100
    found: dict[str, list[float]] = {}
    for metric in directive["Metrics"]:
        assert {"Name", "Unit"} <= set(metric) <= {"Name", "Unit", "StorageResolution"}
        assert 1 <= len(metric["Name"]) <= 1024
        assert metric["Unit"] in UNITS
        said = blob[metric["Name"]]
        assert isinstance(said, list)
        assert 1 <= len(said) <= 100
        assert all(isinstance(value, float) for value in said)
        found[metric["Name"]] = said
    return namespace, found


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    assert stream.getvalue() == "" or stream.getvalue().endswith("\n")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def observer(stream: io.StringIO, **options: Any) -> EmfObserver:
    return EmfObserver("chromalith-test", stream=stream, clock=ManualClock(), **options)


@pytest.mark.parametrize(("event", "said"), EVENTS, ids=[type(event).__name__ for event, _ in EVENTS])
def test_each_event_is_a_line(event: Any, said: dict[str, float]) -> None:
    """One, with the metrics of the table and no other, in their namespace and unit, at the time of the clock; none for an event of none."""
    stream = io.StringIO()
    observer(stream)(event)
    written = lines(stream)
    assert len(written) == (1 if said else 0)
    for blob in written:
        namespace, found = check(blob)
        assert found == {name: [value] for name, value in said.items()}
        assert {BY_NAME[name].namespace for name in found} == {namespace}
        units = {each["Name"]: each["Unit"] for each in blob["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
        assert units == {name: BY_NAME[name].unit for name in found}
        assert blob["_aws"]["Timestamp"] == NOW_MS


def test_the_service_is_the_only_dimension() -> None:
    """The collection and the kind of a failure stand beside: as dimensions, each value of theirs would cost as a metric."""
    stream = io.StringIO()
    observer(stream)(CompactionFailed(**RUN, kind=Kind.CORRUPT))  # type: ignore[arg-type]
    (blob,) = lines(stream)
    assert blob["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert (blob["service"], blob["collection"], blob["kind"]) == ("chromalith-test", CID, "corrupt")


def test_the_service_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As powertools' own; and a process that names none has one all the same: an alarm needs a name to look for."""
    for said, expected in (("chromalith-dev", "chromalith-dev"), (None, "chromalith")):
        monkeypatch.delenv("POWERTOOLS_SERVICE_NAME", raising=False)
        if said is not None:
            monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", said)
        stream = io.StringIO()
        EmfObserver(stream=stream)(WRITTEN)
        assert lines(stream)[0]["service"] == expected


def test_an_invocation_is_one_line_for_a_namespace() -> None:
    """With ``hold``: nothing before the flush, and everything in it; then it begins anew."""
    stream = io.StringIO()
    held = observer(stream, hold=True)
    held.flush()
    for _ in range(3):
        held(WRITTEN)
    held(HintsFailed(2, "away"))
    held(Queried(CID, 1, 0, 0, 0))
    assert stream.getvalue() == ""
    held.flush()
    said = dict(check(blob) for blob in lines(stream))
    assert said["ChromaDB/Producer"] == {"DeltasCreated": [1] * 3, "DeltaBytes": [700] * 3, "DeltaRows": [3] * 3, "HintFailures": [2]}
    assert set(said) == {"ChromaDB/Producer", "ChromaDB/Query"}
    held.flush()
    assert len(lines(stream)) == 2


def test_several_collections_of_one_line_are_listed() -> None:
    """Each once, in the order in which they came."""
    stream = io.StringIO()
    held = observer(stream, hold=True)
    for cid in ("b", "a", "b"):
        held(Compacted(**RUN | {"collection": cid}, left=False))  # type: ignore[arg-type]
    held.flush()
    (blob,) = lines(stream)
    assert blob["collection"] == ["b", "a"]


@pytest.mark.parametrize("count", [VALUES_MAX, VALUES_MAX + 1, 3 * VALUES_MAX + 7])
def test_a_line_never_has_too_many_values(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What is over the limit goes into further lines of the same stream; no value is lost, and none is said twice."""
    stream = io.StringIO()
    held = observer(stream, hold=True)
    for number in range(count):
        held(Compacted(**RUN | {"deltas": number, "collection": f"{number}"}, left=False))  # type: ignore[arg-type]
    held.flush()
    written = [check(blob)[1] for blob in lines(stream)]
    assert len(written) == -(-count // VALUES_MAX)
    assert [value for found in written for value in found["DeltasFolded"]] == list(range(count))
    for name, _ in values(Compacted(**RUN, left=False)):  # type: ignore[arg-type]
        assert sum(len(found[name.name]) for found in written) == count
    assert max(len(line.encode()) for line in stream.getvalue().splitlines()) < 256 * 1024
    assert capsys.readouterr().out == "", "powertools prints by itself at a hundred"


def test_threads_share_an_observer() -> None:
    """Lines do not mix, and no event is lost."""
    stream = io.StringIO()
    shared = observer(stream)
    threads = [threading.Thread(target=lambda: [shared(WRITTEN) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(check(blob)[1]["DeltasCreated"]) for blob in lines(stream)) == 200


def test_it_can_be_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By powertools' own switch."""
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    stream = io.StringIO()
    observer(stream)(WRITTEN)
    assert stream.getvalue() == ""


def test_a_closed_stream_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever emits goes on, and so does who flushes; the log says what happened."""
    stream = io.StringIO()
    stream.close()
    together(observer(stream))(WRITTEN)
    assert "an observer failed" in caplog.text
    held = observer(stream, hold=True)
    held(WRITTEN)
    held.flush()
    assert "metrics could not be written" in caplog.text


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """The one that there is when the line is written: a Lambda's runtime replaces it."""
    emf = EmfObserver()
    capsys.readouterr()
    emf(WRITTEN)
    check(json.loads(capsys.readouterr().out))


def test_without_powertools_it_says_what_to_install() -> None:
    """And the table, the events and the module itself need nothing of it."""
    code = """
import sys
sys.modules["aws_lambda_powertools"] = None
from chromalith import EmfObserver
from chromalith.errors import Invalid
from chromalith.observe.metrics import METRICS
try:
    EmfObserver()
except Invalid as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'chromalith[aws]'" in done.stdout


def test_powertools_is_not_imported_for_the_table() -> None:
    """Nor boto3, nor OpenTelemetry: the base install has none of them."""
    code = """
import sys
import chromalith.wiring, chromalith.observe.metrics, chromalith.observe.emf, chromalith.observe.otel
print(sorted({name.partition(".")[0] for name in sys.modules} & {"aws_lambda_powertools", "boto3", "opentelemetry"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_has_fewer_metrics_than_a_line_may() -> None:
    """All of a namespace fit into one."""
    assert len(METRICS) <= 100
