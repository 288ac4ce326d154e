"""The unchanged Pulumi program creates a stack in the emulated account; what is asserted is the state that results, asked of AWS again.

Who may do what there: ``test_roles.py``. What the emulator keeps no state of is in ``DROPPED``, and asserted by the program's own tests
with mocks (``test_infra_*.py``).
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pulumi
import pytest
from tests.aws.deployed import FUNCTIONS, STACK, Deployed
from tests.aws.live_mocks import CREATORS, up

pytestmark = pytest.mark.xdist_group("account")

COMPACTOR = f"chromadb-compactor-{STACK}"
DROPPED = {
    "alarms over an expression": "the emulator keeps the alarm without its metrics, and never evaluates it",
}


def test_each_declared_resource_was_created(deployed: Deployed) -> None:
    """The outputs name the guide's resources, and nothing that the program declares is unknown to the live mocks."""
    made = Counter(token for token, _, _ in deployed.mocks.made)
    assert set(made) <= set(CREATORS)
    assert made["aws:lambda/function:Function"] == made["aws:iam/role:Role"] == len(FUNCTIONS)
    assert deployed.bucket == f"chromadb-vectors-{STACK}-{deployed.account.id}"
    assert deployed.queue_url.endswith("/chromadb-delta-queue")
    assert deployed.outputs["functions"] == {name: f"chromadb-{name}-{STACK}" for name in FUNCTIONS}


def test_the_bucket_is_versioned_encrypted_and_closed(deployed: Deployed) -> None:
    s3, bucket = deployed.account.client("s3"), deployed.bucket
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (owner,) = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert owner == {"ObjectOwnership": "BucketOwnerEnforced"}
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(closed) == 4
    assert all(closed.values())


def test_no_lifecycle_rule_expires_what_is_current(deployed: Deployed) -> None:
    """Old versions, markers and unfinished uploads go; no rule has an age for current objects."""
    found = deployed.account.client("s3").get_bucket_lifecycle_configuration(Bucket=deployed.bucket)["Rules"]
    rules = {rule["ID"]: rule for rule in found}
    assert all(rule["Status"] == "Enabled" for rule in found)
    assert rules["abort-unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["forget-old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules["forget-old-versions"]["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert not [rule["ID"] for rule in found if {"Days", "Date"} & set(rule.get("Expiration", {}))]
    tiers = {rule["Filter"]["And"]["Prefix"]: rule["Transitions"] for rule in found if "Transitions" in rule}
    assert tiers == {prefix: [{"Days": 0, "StorageClass": "INTELLIGENT_TIERING"}] for prefix in ("segment/", "snapshot/")}


def test_the_queue_hands_over_to_its_dead_letter_queue(deployed: Deployed) -> None:
    sqs = deployed.account.client("sqs")

    def attributes(url: str) -> dict[str, str]:
        return dict(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])

    queue, dead = attributes(deployed.queue_url), attributes(deployed.outputs["dead_letter_queue_url"])
    policy = json.loads(queue["RedrivePolicy"])
    assert (policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])) == (dead["QueueArn"], 10)
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [queue["QueueArn"]]
    assert int(queue["VisibilityTimeout"]) >= 6 * configuration(deployed, COMPACTOR)["Timeout"]
    assert (int(queue["MessageRetentionPeriod"]), int(dead["MessageRetentionPeriod"])) == (4 * 86_400, 14 * 86_400)
    assert queue["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"


def test_the_lock_table_has_our_key_and_a_ttl(deployed: Deployed) -> None:
    client, name = deployed.account.client("dynamodb"), deployed.outputs["lock_table"]
    table = client.describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "lease_key", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_answers_by_its_alias_with_a_published_version(deployed: Deployed, name: str) -> None:
    function = f"chromadb-{name}-{STACK}"
    alias = deployed.account.client("lambda").get_alias(FunctionName=function, Name="live")
    assert alias["FunctionVersion"].isdecimal()
    found = configuration(deployed, function)
    assert found["Version"] == alias["FunctionVersion"]
    assert found["Handler"] == f"chromalith.lambdas.{name}.handler"
    assert found["Role"].endswith(f":role/{deployed.role(name)}")
    assert found["Environment"]["Variables"]["CHROMADB_BUCKET"] == deployed.bucket
    assert found["Environment"]["Variables"]["DELTA_QUEUE_URL"] == deployed.queue_url
    assert found["Environment"]["Variables"]["CHROMALITH_LEASE_TABLE"] == deployed.outputs["lock_table"]
    assert found["LoggingConfig"]["LogGroup"] == f"/aws/lambda/{function}"


def test_the_queue_invokes_the_compactors_alias(deployed: Deployed) -> None:
    listed = deployed.account.client("lambda").list_event_source_mappings(FunctionName=f"{COMPACTOR}:live")
    (mapping,) = listed["EventSourceMappings"]
    assert mapping["FunctionArn"].endswith(f":function:{COMPACTOR}:live")
    assert mapping["EventSourceArn"].endswith(":chromadb-delta-queue")
    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (1_000, 5)
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert mapping["State"] == "Enabled"


def test_the_schedule_invokes_compactor_and_sweep(deployed: Deployed) -> None:
    """Each rule has one target, the alias, with the guide's payload; and only that rule may invoke it."""
    events = deployed.account.client("events")
    rules = {rule["Name"]: rule for rule in events.list_rules()["Rules"]}
    for rule, expression, function, action in (
        (f"chromadb-compaction-{STACK}", "rate(15 minutes)", COMPACTOR, "compact"),
        (f"chromadb-sweep-{STACK}", "rate(1 day)", f"chromadb-sweep-{STACK}", "sweep"),
    ):
        assert (rules[rule]["State"], rules[rule]["ScheduleExpression"]) == ("ENABLED", expression)
        (target,) = events.list_targets_by_rule(Rule=rule)["Targets"]
        assert target["Arn"].endswith(f":function:{function}:live")
        assert json.loads(target["Input"]) == {"source": "scheduled", "action": action}
        policy = json.loads(deployed.account.client("lambda").get_policy(FunctionName=function, Qualifier="live")["Policy"])
        (statement,) = policy["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Condition"]["ArnLike"]["AWS:SourceArn"] == rules[rule]["Arn"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logs_expire(deployed: Deployed, name: str) -> None:
    prefix = f"/aws/lambda/chromadb-{name}-{STACK}"
    (group,) = deployed.account.client("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    assert group["retentionInDays"] == 30


def test_the_alarms_tell_the_topic_and_somebody_listens(deployed: Deployed) -> None:
    found = {alarm["AlarmName"]: alarm for alarm in alarms(deployed)}
    expected = {"DeltaBacklog", "QueryErrors", "OldestDeltaAge", "PublishFailures", "Quarantine", "DeadLetters", "CompactionStalled"}
    assert {f"ChromaDB-Migration-{name}" for name in expected} <= set(found)
    for alarm in found.values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [deployed.outputs["topic"]]
        assert alarm["TreatMissingData"] == "notBreaching"
    backlog, errors = found["ChromaDB-Migration-DeltaBacklog"], found["ChromaDB-Migration-QueryErrors"]
    assert (backlog["Threshold"], backlog["EvaluationPeriods"], backlog["Dimensions"]) == (
        5_000,
        2,
        [{"Name": "QueueName", "Value": "chromadb-delta-queue"}],
    )
    assert (errors["Threshold"], errors["MetricName"]) == (10, "Errors")
    subscriptions = deployed.account.client("sns").list_subscriptions_by_topic(TopicArn=deployed.outputs["topic"])["Subscriptions"]
    assert [(each["Protocol"], each["Endpoint"]) for each in subscriptions] == [("email", "ops@example.org")]


def test_the_emulator_drops_the_expressions_of_alarms(deployed: Deployed) -> None:
    """If this fails, the emulator has learnt it: then assert the expressions here, too."""
    assert "alarms over an expression" in DROPPED
    (stalled,) = [alarm for alarm in alarms(deployed) if alarm["AlarmName"].endswith("CompactionStalled")]
    assert not stalled.get("Metrics")


def test_the_dashboard_shows_metrics_that_exist(deployed: Deployed) -> None:
    body = json.loads(deployed.account.client("cloudwatch").get_dashboard(DashboardName=f"ChromaDB-{STACK}")["DashboardBody"])
    shown = {(line[0], line[1]) for widget in body["widgets"] for line in widget["properties"].get("metrics", ())}
    assert {("AWS/SQS", "ApproximateNumberOfMessagesVisible"), ("ChromaDB/Compaction", "OldestDeltaAge")} <= shown


def test_a_second_stack_beside_the_first(deployed: Deployed, tmp_path: Path) -> None:
    """With names of its own for what has none by stack; its compactor is an image, its zip is too large to be given to Lambda directly."""
    package = tmp_path / "large.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("padding", b"\0" * 50_000_001)
    image = f"{deployed.account.id}.dkr.ecr.us-east-1.amazonaws.com/chromadb-compactor:1"
    config = {
        "packagePath": str(package),
        "queueName": "chromadb-delta-queue-prod",
        "alarmPrefix": "ChromaDB-prod",
        "compactorImageUri": image,
        "compactorReservedConcurrency": "4",
        "enableSweep": "false",
        "noncurrentDays": "90",
    }
    _, outputs = up(deployed.account, "prod", config)
    functions, s3 = deployed.account.client("lambda"), deployed.account.client("s3")
    compactor = functions.get_function(FunctionName="chromadb-compactor-prod")
    assert (compactor["Configuration"]["PackageType"], compactor["Code"]["ImageUri"]) == ("Image", image)
    assert functions.get_function_concurrency(FunctionName="chromadb-compactor-prod")["ReservedConcurrentExecutions"] == 4
    assert functions.get_function_configuration(FunctionName="chromadb-query-prod", Qualifier="live")["CodeSize"] > 50_000_000
    code = f"chromadb-code-prod-{deployed.account.id}"
    assert all(s3.get_public_access_block(Bucket=code)["PublicAccessBlockConfiguration"].values())
    assert outputs["bucket"] == f"chromadb-vectors-prod-{deployed.account.id}"
    rules = s3.get_bucket_lifecycle_configuration(Bucket=outputs["bucket"])["Rules"]
    assert {"NoncurrentDays": 90} in [rule.get("NoncurrentVersionExpiration") for rule in rules]
    sweep = deployed.account.client("events").describe_rule(Name="chromadb-sweep-prod")
    assert sweep["State"] == "DISABLED"
    assert len(functions.list_event_source_mappings(FunctionName="chromadb-compactor-prod:live")["EventSourceMappings"]) == 1


def test_live_mocks_skip_nothing_silently(deployed: Deployed) -> None:
    """A resource that they cannot create, or an input that they would drop, ends the program."""
    args = pulumi.runtime.MockResourceArgs
    with pytest.raises(NotImplementedError, match="cannot create a aws:ec2/vpc:Vpc"):
        deployed.mocks.new_resource(args("aws:ec2/vpc:Vpc", "net", {}, "", "", False))
    inputs = {"name": deployed.account.new_name("topic"), "kmsMasterKeyId": "k"}
    with pytest.raises(NotImplementedError, match="drops inputs of aws:sns/topic:Topic .*kmsMasterKeyId"):
        deployed.mocks.new_resource(args("aws:sns/topic:Topic", "t", inputs, "", "", False))


def configuration(deployed: Deployed, function: str) -> dict[str, Any]:
    return dict(deployed.account.client("lambda").get_function_configuration(FunctionName=function, Qualifier="live"))


def alarms(deployed: Deployed) -> list[dict[str, Any]]:
    return list(deployed.account.client("cloudwatch").describe_alarms(AlarmNamePrefix="ChromaDB-Migration-")["MetricAlarms"])
