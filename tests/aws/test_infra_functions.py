"""The functions that the Pulumi program declares, with their roles, code, schedules and outputs; from one run of the whole program."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pulumi_aws as aws
import pytest
from tests.aws.infra_program import FORMER_KEY, KEY, NAMES, config, names, other, policies, run, usual, zip_file

from chromalith.aws.stack import stack
from chromalith.cli.aws_state import ALARM_PREFIX
from chromalith.lambdas import payloads
from chromalith.settings import Settings

BUCKET = "chromadb-vectors-dev-123456789012"

# Roles and functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names.FUNCTIONS)
def test_each_function_has_a_role_with_the_tested_policy(name: str) -> None:
    """One role, one inline policy, Lambda's trust; the compactor may import unless that was switched off."""
    role, policy = usual().all("Role")[name], usual().all("RolePolicy")[name]
    assert role.inputs["name"] == f"chromadb-{name}-dev-eu-central-1"
    assert role.json("assumeRolePolicy") == policies.lambda_trust()
    assert policy.inputs["role"] == role.inputs["name"]
    assert policy.json("policy") == policies.role_policy(name, NAMES, imports=name == "compactor")
    assert usual().all("Function")[name].inputs["role"].endswith(f":role/{role.inputs['name']}")


def test_a_stack_without_imports_and_with_tracing() -> None:
    """The settings reach the documents."""
    second = names.Names("second", NAMES.account, NAMES.region, "aws", "second-queue")
    for name, policy in other().all("RolePolicy").items():
        assert policy.json("policy") == policies.role_policy(name, second, kms_key_arn=KEY, former_kms_key_arns=(FORMER_KEY,), tracing=True)


@pytest.mark.parametrize("name", names.FUNCTIONS)
def test_each_function_is_what_its_handler_needs(name: str) -> None:
    """Named as in the guide, with a handler that can be imported, published, logging where its role may, with its size."""
    function = usual().all("Function")[name].inputs
    assert function["name"] == f"chromadb-{name}-dev"
    assert (function["runtime"], function["packageType"], function["architectures"]) == ("python3.13", "Zip", ["x86_64"])
    module, _, attribute = function["handler"].rpartition(".")
    assert function["handler"] == f"chromalith.lambdas.{name}.handler"
    assert callable(getattr(importlib.import_module(module), attribute))
    assert function["publish"] is True
    size = config.Settings().size(name)
    assert (function["memorySize"], function["timeout"], function["ephemeralStorage"]) == (
        size.memory_mb, size.timeout_s, {"size": size.storage_mb},
    )  # fmt: skip
    assert function["tracingConfig"] == {"mode": "PassThrough"}
    assert function["loggingConfig"]["logGroup"] == usual().all("LogGroup")[name].inputs["name"] == f"/aws/lambda/chromadb-{name}-dev"
    assert "reservedConcurrentExecutions" not in function


def test_a_function_waits_for_its_log_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Lambda might make it first, as one that keeps logs for ever, and then it is there already."""
    waits: dict[str, list[str]] = {}
    real = aws.lambda_.Function

    def noted(label: str, /, *, opts: Any, **inputs: Any) -> Any:
        waits[label] = [each._name for each in opts.depends_on if isinstance(each, aws.cloudwatch.LogGroup)]
        return real(label, opts=opts, **inputs)

    monkeypatch.setattr(aws.lambda_, "Function", noted)
    run({"packagePath": str(zip_file(tmp_path))})
    assert waits == {name: [name] for name in names.FUNCTIONS}


@pytest.mark.parametrize("name", names.FUNCTIONS)
def test_the_environment_is_what_the_handlers_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one that the product knows, and together they lead to this stack's bucket, queue and table."""
    variables = usual().all("Function")[name].inputs["environment"]["variables"]
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/chromadb-delta-queue"
    assert variables == {
        "CHROMADB_BUCKET": BUCKET,
        "DELTA_BUCKET": BUCKET,
        "CHROMALITH_STORE": f"s3://{BUCKET}",
        "DELTA_QUEUE_URL": url,
        "CHROMALITH_QUEUE_URL": url,
        "CHROMALITH_LEASE_TABLE": "chromadb-lock-dev",
        "CHROMALITH_CACHE_DIR": "/tmp/chromalith",
        "POWERTOOLS_SERVICE_NAME": "chromalith-dev",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    known = {f"CHROMALITH_{field.upper()}" for field in Settings.model_fields}
    assert {each for each in variables if each.startswith("CHROMALITH_")} <= known
    assert (settings.store, settings.queue_url, settings.lease_table) == (f"s3://{BUCKET}", url, "chromadb-lock-dev")


def test_other_settings_reach_the_functions() -> None:
    """Sizes, architecture, image, layers, further variables, tracing, concurrency and a pinned version."""
    functions = other().all("Function")
    compactor, query = functions["compactor"].inputs, functions["query"].inputs
    assert (compactor["packageType"], compactor["imageUri"]) == ("Image", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chromalith:1")
    assert compactor["imageConfig"] == {"commands": ["chromalith.lambdas.compactor.handler"]}
    assert not {"runtime", "handler", "layers", "code", "s3Bucket"} & compactor.keys()  # Lambda takes none of them with an image
    assert (compactor["memorySize"], compactor["timeout"], compactor["ephemeralStorage"]) == (10_240, 600, {"size": 4_096})
    assert compactor["reservedConcurrentExecutions"] == 5
    assert query["packageType"] == "Zip"
    assert query["layers"] == ["arn:aws:lambda:eu-central-1:123456789012:layer:models:4"]
    assert other().all("Queue")["deltas"].inputs["visibilityTimeoutSeconds"] == 3_600
    for function in functions.values():
        assert function.inputs["architectures"] == ["arm64"]
        assert function.inputs["tracingConfig"] == {"mode": "Active"}
        variables = function.inputs["environment"]["variables"]
        assert variables["CHROMALITH_EMBED"] == "models.words:embed"
        assert variables["CHROMALITH_KEEP_AGE_S"] == "3600"
        assert variables["POWERTOOLS_LOG_LEVEL"] == "DEBUG"
    assert {each.inputs["retentionInDays"] for each in other().all("LogGroup").values()} == {7}


def test_live_is_the_published_version_unless_it_is_held() -> None:
    """The alias moves with each deploy; a version that was chosen stays, for this function only."""
    for name, alias in usual().all("Alias").items():
        assert (alias.inputs["name"], alias.inputs["functionName"]) == ("live", f"chromadb-{name}-dev")
        assert alias.inputs["functionVersion"] == "3"  # what the mocks say was published
    assert {name: alias.inputs["functionVersion"] for name, alias in other().all("Alias").items()} == {
        name: "2" if name == "compactor" else "3" for name in names.FUNCTIONS
    }


def test_the_compactor_consumes_the_queue_by_its_alias() -> None:
    """Batches with partial responses, gathered for a while, by few invocations at once; of the version that is live."""
    mapping = usual().one("EventSourceMapping").inputs
    assert mapping["eventSourceArn"] == NAMES.queue_arn
    assert mapping["functionName"].endswith(":function:chromadb-compactor-dev:live")
    assert (mapping["batchSize"], mapping["maximumBatchingWindowInSeconds"]) == (1_000, 5)
    assert mapping["functionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["scalingConfig"] == {"maximumConcurrency": 2}
    chosen = other().one("EventSourceMapping").inputs
    assert (chosen["batchSize"], chosen["scalingConfig"]) == (10, {"maximumConcurrency": 4})


# Code ------------------------------------------------------------------------------------------------------------------


def test_a_small_zip_goes_to_lambda_directly(tmp_path: Path) -> None:
    """No second bucket; the hash of the contents decides whether there is anything to deploy."""
    package = zip_file(tmp_path)
    digest = base64.b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()
    for function in run({"packagePath": str(package)}).all("Function").values():
        assert function.inputs["sourceCodeHash"] == digest
        assert "s3Bucket" not in function.inputs


def test_a_large_zip_goes_through_a_bucket_of_its_own(tmp_path: Path) -> None:
    """Above 50 MB: closed, TLS only, and under a name made of the contents; never in the bucket with the data."""
    declared = run({"packagePath": str(zip_file(tmp_path, 50_000_001))})
    code = "chromadb-code-dev-123456789012"
    zipped = declared.one("BucketObjectv2").inputs
    digest = hashlib.sha256((tmp_path / "lambda.zip").read_bytes()).hexdigest()
    assert (zipped["bucket"], zipped["key"]) == (code, f"lambda-{digest[:32]}.zip")
    for function in declared.all("Function").values():
        assert (function.inputs["s3Bucket"], function.inputs["s3Key"]) == (code, zipped["key"])
    blocks = {each.inputs["bucket"] for each in declared.all("BucketPublicAccessBlock").values()}
    assert blocks == {BUCKET, code}
    assert declared.all("BucketPolicy")["code"].json("policy") == policies.code_bucket_policy(NAMES)


# Schedules and outputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "function", "payload", "kind", "when", "retries"),
    [
        ("compaction", "compactor", {"source": "scheduled", "action": "compact"}, payloads.Compact, "rate(15 minutes)", 0),
        ("sweep", "sweep", {"source": "scheduled", "action": "sweep"}, payloads.Sweep, "rate(1 day)", 2),
    ],
)
def test_schedules_invoke_what_is_live(
    name: str, function: str, payload: dict[str, str], kind: Any, when: str, retries: int
) -> None:
    """The rule, its target with a payload that the handler takes, and a permission for just this rule."""
    rule = usual().all("EventRule")[name].inputs
    assert (rule["name"], rule["scheduleExpression"], rule["state"]) == (f"chromadb-{name}-dev", when, "ENABLED")
    target = usual().all("EventTarget")[name]
    assert target.inputs["rule"] == rule["name"]
    assert target.inputs["arn"].endswith(f":function:chromadb-{function}-dev:live")
    assert target.json("input") == payload
    assert payloads.read(kind, payload).source == "scheduled"
    permission = usual().all("Permission")[name].inputs
    assert (permission["function"], permission["qualifier"]) == (f"chromadb-{function}-dev", "live")
    assert (permission["principal"], permission["action"]) == ("events.amazonaws.com", "lambda:InvokeFunction")
    assert permission["sourceArn"].endswith(f":rule/chromadb-{name}-dev")
    again = usual().all("FunctionEventInvokeConfig")[name].inputs
    assert (again["functionName"], again["qualifier"], again["maximumRetryAttempts"]) == (f"chromadb-{function}-dev", "live", retries)


def test_a_schedule_can_be_switched_off() -> None:
    """It stays visible, and does not run; the other one does."""
    states = {name: (rule.inputs["state"], rule.inputs["scheduleExpression"]) for name, rule in other().all("EventRule").items()}
    assert states == {"compaction": ("DISABLED", "rate(1 hour)"), "sweep": ("ENABLED", "rate(1 day)")}


def test_the_command_line_finds_a_stack_by_the_same_names() -> None:
    """``chromalith aws`` is given the stack's name only: what it looks for is what the program makes."""
    found = stack(NAMES.stack, NAMES.account, functions={})
    assert found.functions == {role: NAMES.function(role) for role in found.functions}
    assert (found.alias, found.bucket, found.queue) == (names.ALIAS, NAMES.bucket, NAMES.queue)
    assert (found.topic, found.service) == (NAMES.topic, NAMES.service)
    assert config.Settings().alarm_prefix == ALARM_PREFIX
    assert config.Settings().queue_name == found.queue


def test_outputs_say_what_people_need() -> None:
    """Bucket, queues, table, functions, and the command that reverts each of them."""
    told = usual().outputs
    assert (told["bucket"], told["store"], told["lock_table"]) == (BUCKET, f"s3://{BUCKET}", "chromadb-lock-dev")
    assert told["queue_url"].endswith("/chromadb-delta-queue")
    assert told["dead_letter_queue_url"].endswith("/chromadb-delta-queue-dlq")
    assert told["functions"] == {name: f"chromadb-{name}-dev" for name in names.FUNCTIONS}
    assert all(arn.endswith(":live") for arn in told["live"].values())
    assert told["revert"]["query"] == "aws lambda update-alias --function-name chromadb-query-dev --name live --function-version VERSION"
    assert json.dumps(dict(told))
