"""``chromalith aws smoke`` and ``status`` on the stack that the Pulumi program made: they work, and each failure says what to do."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from dataclasses import replace
from typing import Any

import pytest
from tests.aws.account import Account, allow, aws_variables
from tests.aws.deployed import STACK, Deployed
from tests.docs.shapes import documented, same, shape

from chromalith.cli.app import run
from chromalith.coord.catalog import Catalog
from chromalith.store.url import open_store

pytestmark = pytest.mark.xdist_group("smoke")

DONE, FAILED, USAGE, TRY_AGAIN, DIFFERENCES = range(5)
STEPS = ["functions", "queue", "create", "produce", "list", "compact", "query", "count", "delete"]
BROKEN = """
def raises(event, context):
    raise ValueError("nobody foresaw this")

def lies(event, context):
    return {"ids": [["smoke-0"]], "documents": [["?"]], "metadatas": [[{}]], "distances": [[0.0]], "version": 1, "count": 0}
"""


@pytest.fixture
def chromalith(deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line as somebody (root, if not said): exit code, JSON from stdout, stderr."""

    def call(*arguments: str, who: Account | None = None) -> tuple[int, Any, str]:
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        for name, value in aws_variables(who or deployed.account).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run([*arguments, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return call


@pytest.fixture(scope="module")
def broken(deployed: Deployed) -> dict[str, str]:
    """Names of functions that do not do what they should."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("broken.py", BROKEN)
    names = {}
    for handler in ("raises", "lies"):
        names[handler] = deployed.account.new_name(handler)
        deployed.account.client("lambda").create_function(
            FunctionName=names[handler],
            Role=deployed.account.role_arn(deployed.role("query")),
            Runtime="python3.13",
            Handler=f"broken.{handler}",
            Code={"ZipFile": package.getvalue()},
        )
    return names


def collections(deployed: Deployed) -> set[str]:
    """The names of all test collections that there are."""
    store = open_store(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options)
    listing = Catalog(store).listing("default_tenant", "default_database")
    return {each.name for each in listing if each.name.startswith("smoke-")}


def results(told: Any) -> dict[str, str]:
    return {step["step"]: step["result"] for step in told["steps"]}


def test_a_stack_that_works(deployed: Deployed) -> None:
    """Every step is done, said in words; nothing is left behind. In a process of its own, for a person."""
    command = ["chromalith", "aws", "smoke", "--stack", STACK]
    done = subprocess.run(command, env=deployed.account.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓ done") == len(STEPS)
    assert "✗" not in done.stdout
    assert "the stack works" in done.stdout
    assert collections(deployed) == set()


def test_its_json_is_as_documented(chromalith: Any, deployed: Deployed) -> None:
    """And --keep says what it leaves, and how to delete it."""
    code, told, said = chromalith("aws", "smoke", "--keep", "--collection", "smoke-kept")
    assert (code, told["ok"]) == (DONE, True)
    assert set(results(told).values()) == {"done"}
    assert "chromalith collections delete smoke-kept --yes" in told["left"]
    assert told["left"] in said
    assert same(shape(told), documented("aws smoke"))
    assert collections(deployed) == {"smoke-kept"}
    assert chromalith("collections", "delete", "smoke-kept", "--yes", "--store", f"s3://{deployed.bucket}")[0] == DONE


def test_a_function_that_does_not_exist(chromalith: Any, deployed: Deployed) -> None:
    """It is named, before anything is written."""
    code, told, said = chromalith("aws", "smoke", "--producer", "chromadb-nobody")
    assert code == FAILED
    assert "function=chromadb-nobody" in json.loads(said)["error"]["message"]
    assert results(told) == {step: "failed" if step == "functions" else "left_out" for step in STEPS[:-1]}
    assert collections(deployed) == set()


def test_another_region(chromalith: Any) -> None:
    """What is not there is said with the hint to look at the region."""
    code, _, said = chromalith("aws", "smoke", "--region", "eu-central-1")
    assert code == FAILED
    assert "region" in json.loads(said)["error"]["hint"]


def test_a_function_that_raises(chromalith: Any, deployed: Deployed, broken: dict[str, str]) -> None:
    """Its error is decoded, the rest is left out, and the test's own data goes."""
    code, told, said = chromalith("aws", "smoke", "--compactor", broken["raises"], "--alias", "$LATEST")
    error = json.loads(said)["error"]
    assert code == FAILED
    assert "nobody foresaw this" in error["message"]
    assert f"/aws/lambda/{broken['raises']}" in error["hint"]
    assert {step: result for step, result in results(told).items() if result != "done"} == {
        "compact": "failed",
        "query": "left_out",
        "count": "left_out",
    }
    assert told["left"] is None
    assert collections(deployed) == set()


def test_a_function_that_answers_something_else(chromalith: Any, deployed: Deployed, broken: dict[str, str]) -> None:
    """That is no error of AWS, but a difference: exit code 4."""
    code, told, _ = chromalith("aws", "smoke", "--query", broken["lies"], "--alias", "$LATEST")
    assert code == DIFFERENCES
    assert "smoke-0" in told["error"]["message"]
    assert results(told)["query"] == "failed"
    assert collections(deployed) == set()


def test_somebody_who_may_not_invoke(chromalith: Any, deployed: Deployed) -> None:
    """The permission that is missing is named; what the test had made already goes."""
    bucket = allow("s3:*", on=[f"arn:aws:s3:::{deployed.bucket}", f"arn:aws:s3:::{deployed.bucket}/*"])
    look = allow("lambda:GetFunctionConfiguration", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", on="*")
    who = deployed.account.create_role(deployed.account.new_name("onlooker"), bucket, look)
    code, told, said = chromalith("aws", "smoke", who=who)
    assert code == USAGE
    assert "lambda:InvokeFunction" in json.loads(said)["error"]["hint"]
    assert results(told)["produce"] == "failed"
    assert results(told)["delete"] == "done"
    assert collections(deployed) == set()


def test_what_cannot_be_deleted_is_said(chromalith: Any, deployed: Deployed) -> None:
    """Who may create but not change what was created: the data stays, and the end says so."""
    bucket = allow("s3:*", on=[f"arn:aws:s3:::{deployed.bucket}", f"arn:aws:s3:::{deployed.bucket}/*"])
    look = allow("lambda:*", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", on="*")
    never = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{deployed.bucket}/collection/*"}
    never["Condition"] = {"Null": {"s3:if-match": "false"}}
    denied = {"Version": "2012-10-17", "Statement": [never]}
    who = deployed.account.create_role(deployed.account.new_name("maker"), bucket, look, denied)
    code, told, said = chromalith("aws", "smoke", "--collection", "smoke-stays", who=who)
    assert code == USAGE
    assert results(told)["delete"] == "failed"
    assert "smoke-stays" in told["left"]
    assert told["left"] in said
    assert chromalith("collections", "delete", "smoke-stays", "--yes", "--store", f"s3://{deployed.bucket}")[0] == DONE


def test_credentials_that_are_none(chromalith: Any, deployed: Deployed) -> None:
    """A wrong secret is an error of the call, with what to do, before anything else."""
    role = deployed.account.create_role(deployed.account.new_name("somebody"))
    wrong = replace(role, credentials=replace(role.credentials, secret_access_key="wrong"))
    code, told, said = chromalith("aws", "smoke", who=wrong)
    assert (code, told) == (USAGE, None)
    assert "aws sts get-caller-identity" in json.loads(said)["error"]["hint"]


def test_status(chromalith: Any, deployed: Deployed) -> None:
    """Versions, depths, alarms and the last fold, as documented; an alarm that rings, or a dead letter, is exit code 4."""
    metric = {"MetricName": "DeltasFolded", "Dimensions": [{"Name": "service", "Value": f"chromalith-{STACK}"}], "Value": 3}
    deployed.account.client("cloudwatch").put_metric_data(Namespace="ChromaDB/Compaction", MetricData=[metric])
    for alarm in deployed.account.client("cloudwatch").describe_alarms()["MetricAlarms"]:
        deployed.account.client("cloudwatch").set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="OK", StateReason="the test")
    code, told, said = chromalith("aws", "status")
    assert code == DONE, said
    assert same(shape(told), documented("aws status"))
    assert {each["version"] for each in told["functions"]} == {"1"}
    assert told["last_folded"] is not None
    deployed.account.client("cloudwatch").set_alarm_state(
        AlarmName="ChromaDB-Migration-DeadLetters", StateValue="ALARM", StateReason="the test"
    )
    code, told, _ = chromalith("aws", "status")
    assert (code, told["ok"]) == (DIFFERENCES, False)
    deployed.account.client("cloudwatch").set_alarm_state(
        AlarmName="ChromaDB-Migration-DeadLetters", StateValue="OK", StateReason="the test"
    )
