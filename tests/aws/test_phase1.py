"""The guide's Phase 1, step 3, on the deployed stack, with the AWS CLI; then the queue, the schedule and the alarms by themselves.

The functions run under their roles in the emulator: signatures, roles and the bucket's policy are enforced on each of their requests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.aws.account import Account
from tests.aws.deployed import DIMENSION, STACK, Deployed

from chromalith.clock import SYSTEM_CLOCK
from chromalith.wiring import Reader, Writer

pytestmark = pytest.mark.xdist_group("account")

WAIT_S_MAX = 90
WORDS = [{"text": "bread", "word_id": 1}, {"text": "coarse road", "word_id": 2}]


@pytest.fixture(scope="module")
def person(deployed: Deployed) -> Account:
    """Somebody who may invoke this stack's functions and look into its bucket, and nothing else."""
    statements = [
        {
            "Effect": "Allow",
            "Action": "lambda:InvokeFunction",
            "Resource": f"arn:aws:lambda:*:{deployed.account.id}:function:chromadb-*-{STACK}*",
        },
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{deployed.bucket}"},
    ]
    name = deployed.account.new_name("person")
    return deployed.account.create_role(name, {"Version": "2012-10-17", "Statement": statements})


@pytest.fixture
def words(deployed: Deployed) -> Iterator[str]:
    """A collection of the test's own, made by an administrator as the producer's message says."""
    name = deployed.account.new_name("words")
    with Writer(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options, queue_url="") as writer:
        writer.create(name, dimension=DIMENSION)
        yield name
        writer.session.catalog.delete("default_tenant", "default_database", name)


def aws(account: Account, folder: Path, *arguments: str) -> tuple[int, str, Any]:
    """Run the AWS CLI in ``folder``: exit code, what it printed, and what is in response.json."""
    done = subprocess.run(["aws", *arguments], env=account.environment(), cwd=folder, capture_output=True, text=True, timeout=120)
    response = folder / "response.json"
    return done.returncode, done.stdout + done.stderr, json.loads(response.read_text()) if response.exists() else None


def invoke(deployed: Deployed, function: str, payload: Any) -> tuple[Any, bool]:
    """What a function answers, and whether that is an error."""
    body = json.dumps(payload).encode()
    answer = deployed.account.client("lambda").invoke(FunctionName=f"chromadb-{function}-{STACK}", Qualifier="live", Payload=body)
    return json.loads(answer["Payload"].read()), "FunctionError" in answer


def wait_until(true: Any, what: str, wait_s: float = WAIT_S_MAX) -> Any:
    """Ask until the answer is no longer empty."""
    stop_s = SYSTEM_CLOCK.monotonic_s() + wait_s
    while not (found := true()):
        assert SYSTEM_CLOCK.monotonic_s() < stop_s, f"waited {wait_s} s: {what}"
        SYSTEM_CLOCK.sleep(0.5)
    return found


def version(deployed: Deployed, name: str) -> int:
    with Reader(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options) as reader:
        return reader.view(name, read_level="INDEX_ONLY").manifest.version


def test_the_guides_commands(deployed: Deployed, person: Account, words: str, tmp_path: Path) -> None:
    """Producer with words, the delta in the bucket, the compactor by hand; and what they wrote is found."""
    producer, compactor = f"chromadb-producer-{STACK}", f"chromadb-compactor-{STACK}"
    payload = json.dumps({"words": WORDS, "receipt_id": "test-001", "collection": words})
    code, said, written = aws(person, tmp_path, "lambda", "invoke", "--function-name", producer, "--payload", payload, "response.json")
    assert code == 0, said
    assert "FunctionError" not in said, written
    assert (written["status"], written["item_count"], written["queued"]) == ("success", 2, True)

    code, said, _ = aws(person, tmp_path, "s3", "ls", f"s3://{deployed.bucket}/delta/")
    assert code == 0, said
    assert written["delta_key"].split("/")[1] in said

    payload = json.dumps({"source": "manual"})
    code, said, compacted = aws(person, tmp_path, "lambda", "invoke", "--function-name", compactor, "--payload", payload, "response.json")
    assert code == 0, said
    assert "FunctionError" not in said, compacted
    assert compacted["status"] == "success"
    wait_until(lambda: version(deployed, words), "the fold, by hand or by the queue")

    found, failed = invoke(deployed, "query", {"collection": words, "query_text": "bread", "n_results": 1})
    assert not failed, found
    assert found["documents"] == [["bread"]]
    assert found["metadatas"][0][0]["receipt_id"] == "test-001"


def test_a_person_without_the_permission_is_refused(deployed: Deployed, tmp_path: Path) -> None:
    """Neither the function nor the bucket answers somebody who was granted nothing."""
    nobody = deployed.account.create_role(deployed.account.new_name("nobody"))
    producer = f"chromadb-producer-{STACK}"
    code, said, response = aws(nobody, tmp_path, "lambda", "invoke", "--function-name", producer, "--payload", "{}", "response.json")
    assert code != 0
    assert "AccessDenied" in said
    assert response is None
    code, said, _ = aws(nobody, tmp_path, "s3", "ls", f"s3://{deployed.bucket}/delta/")
    assert code != 0
    assert "AccessDenied" in said


def test_a_producer_that_meets_no_collection_says_who_must_act(deployed: Deployed) -> None:
    """It may create none; its error names the collection and the command that an administrator runs."""
    told, failed = invoke(deployed, "producer", {"collection": "nowhere", "ids": ["a"], "embeddings": [[0.0] * DIMENSION]})
    assert failed
    error = json.loads(told["errorMessage"])
    assert error["kind"] == "invalid"
    assert "nowhere" in error["message"]
    assert f"chromalith collections create nowhere --dimension {DIMENSION}" in error["hint"]


def test_the_queue_runs_the_compactor_by_itself(deployed: Deployed, words: str) -> None:
    """From the producer's answer on nobody does anything: the message, the mapping and the compactor's alias do the rest."""
    written, failed = invoke(deployed, "producer", {"collection": words, "ids": ["a"], "embeddings": [[1.0] * DIMENSION]})
    assert not failed, written
    wait_until(lambda: version(deployed, words), "the queue to invoke the compactor")
    wait_until(lambda: messages(deployed.account.client("sqs"), deployed.queue_url) == 0, "the message to be deleted")
    found, failed = invoke(deployed, "query", {"collection": words, "count": True, "read_level": "INDEX_ONLY"})
    assert (found["count"], failed) == (1, False)
    leases = deployed.account.client("dynamodb").scan(TableName=deployed.outputs["lock_table"])["Items"]
    collection = written["delta_key"].split("/")[1]
    assert [each for each in leases if collection in each["lease_key"]["S"]], "the compactor worked under a lease of the table"


def test_a_delta_that_no_message_told_of_is_found_by_the_schedules_payload(deployed: Deployed, words: str) -> None:
    """The very input that the rule's target sends."""
    with Writer(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options, queue_url="") as writer:
        writer.upsert(words, ids=["a"], embeddings=[[1.0] * DIMENSION])
    (target,) = deployed.account.client("events").list_targets_by_rule(Rule=f"chromadb-compaction-{STACK}")["Targets"]
    wait_until(lambda: scheduled(deployed, target["Input"], words), "the scheduled run to fold it")
    assert version(deployed, words) == 1


def scheduled(deployed: Deployed, payload: str, name: str) -> bool:
    answer, failed = invoke(deployed, "compactor", json.loads(payload))
    assert not failed, answer
    return any(each["collection"] == name and each["version"] for each in answer["collections"])


@pytest.mark.slow
@pytest.mark.skipif("'slow' not in config.option.markexpr", reason="a minute: run with -m slow")
def test_the_schedules_rule_fires(deployed: Deployed, words: str) -> None:
    """The deployed rule, every minute instead of every quarter of an hour, with its own target and input."""
    rule, events = f"chromadb-compaction-{STACK}", deployed.account.client("events")
    with Writer(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options, queue_url="") as writer:
        writer.upsert(words, ids=["a"], embeddings=[[1.0] * DIMENSION])
    events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")
    try:
        wait_until(lambda: version(deployed, words), "the rule to fire", 180)
    finally:
        events.put_rule(Name=rule, ScheduleExpression="rate(15 minutes)")


def test_sweep_and_health_answer(deployed: Deployed, words: str) -> None:
    """Both run with their roles' rights."""
    swept, failed = invoke(deployed, "sweep", {"source": "scheduled", "action": "sweep"})
    assert not failed, swept
    health, failed = invoke(deployed, "health", {"collection": words})
    assert not failed, health


@pytest.fixture
def impatient_queue(deployed: Deployed) -> Iterator[str]:
    """The deployed queue, which for a while gives a message up after two deliveries, a second apart."""
    sqs, url = deployed.account.client("sqs"), deployed.queue_url
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout", "RedrivePolicy"])["Attributes"]
    patience(deployed, 2)
    yield url
    sqs.set_queue_attributes(QueueUrl=url, Attributes=before)
    for each in (url, deployed.outputs["dead_letter_queue_url"]):
        sqs.purge_queue(QueueUrl=each)


def patience(deployed: Deployed, deliveries: int) -> None:
    """How often the queue delivers a message that fails."""
    policy = {"deadLetterTargetArn": arn_of(deployed, deployed.outputs["dead_letter_queue_url"]), "maxReceiveCount": deliveries}
    attributes = {"VisibilityTimeout": "1", "RedrivePolicy": json.dumps(policy)}
    deployed.account.client("sqs").set_queue_attributes(QueueUrl=deployed.queue_url, Attributes=attributes)


def arn_of(deployed: Deployed, url: str) -> str:
    found = deployed.account.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


def test_poison_ends_in_the_dead_letter_queue_and_comes_back(deployed: Deployed, impatient_queue: str, words: str) -> None:
    """The hint beside it is done; the poison is kept for a person; and `queue redrive` puts it back, to be delivered again."""
    sqs, dead = deployed.account.client("sqs"), deployed.outputs["dead_letter_queue_url"]
    sqs.send_message(QueueUrl=impatient_queue, MessageBody="poison")
    written, failed = invoke(deployed, "producer", {"collection": words, "ids": ["a"], "embeddings": [[1.0] * DIMENSION]})
    assert not failed, written
    wait_until(lambda: messages(sqs, dead) == 1, "the poison to be given up")
    wait_until(lambda: version(deployed, words), "the hint beside it")
    wait_until(lambda: messages(sqs, impatient_queue) == 0, "the hint to be deleted")
    patience(deployed, 1_000)
    command = ["chromalith", "queue", "redrive", "--queue-url", impatient_queue, "--json"]
    done = subprocess.run(command, env=deployed.account.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: messages(sqs, impatient_queue) == 1, "the move back")
    assert messages(sqs, dead) == 0


def messages(sqs: Any, url: str) -> int:
    """In a queue, those that are being worked on included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(int(value) for value in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())


@pytest.fixture
def mailbox(deployed: Deployed) -> Iterator[str]:
    """A queue that hears what the alarms' topic tells."""
    sqs, sns, topic = deployed.account.client("sqs"), deployed.account.client("sns"), deployed.outputs["topic"]
    url = sqs.create_queue(QueueName=deployed.account.new_name("mailbox"))["QueueUrl"]
    arn = arn_of(deployed, url)
    only = {"ArnEquals": {"aws:SourceArn": topic}}
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    statement["Condition"] = only
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    yield url
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


def alarm_state(deployed: Deployed, name: str) -> str:
    found = deployed.account.client("cloudwatch").describe_alarms(AlarmNames=[f"ChromaDB-Migration-{name}"])["MetricAlarms"]
    return str(found[0]["StateValue"])


def test_queries_that_fail_raise_the_alarm(deployed: Deployed, mailbox: str) -> None:
    """An invocation that the function ended with an error is the tenth of five minutes, as Lambda counts them; and the topic is told."""
    query = {"FunctionName": f"chromadb-query-{STACK}"}
    measure(deployed, "AWS/Lambda", "Errors", query, 9)
    _, failed = invoke(deployed, "query", {"collection": "nowhere", "count": True})
    assert failed
    measure(deployed, "AWS/Lambda", "Throttles", query, 0)  # the emulator looks at its alarms when something is measured
    wait_until(lambda: alarm_state(deployed, "QueryErrors") == "ALARM", "the alarm")
    assert "ChromaDB-Migration-QueryErrors" in wait_until(lambda: mail(deployed, mailbox), "the topic to tell")


def test_a_backlog_raises_the_alarm(deployed: Deployed, mailbox: str) -> None:
    """At 5,000 messages, as SQS measures them. (The emulator publishes no metrics of SQS, so the test does.)"""
    metric, queue = "ApproximateNumberOfMessagesVisible", {"QueueName": "chromadb-delta-queue"}
    measure(deployed, "AWS/SQS", metric, queue, 4_999)
    wait_until(lambda: alarm_state(deployed, "DeltaBacklog") == "OK", "the alarm to look")
    measure(deployed, "AWS/SQS", metric, queue, 5_000)
    wait_until(lambda: alarm_state(deployed, "DeltaBacklog") == "ALARM", "the alarm")
    assert "ChromaDB-Migration-DeltaBacklog" in wait_until(lambda: mail(deployed, mailbox), "the topic to tell")


def measure(deployed: Deployed, namespace: str, name: str, dimensions: dict[str, str], value: float) -> None:
    metric = {"MetricName": name, "Dimensions": [{"Name": each, "Value": of} for each, of in dimensions.items()], "Value": value}
    deployed.account.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[metric])


def mail(deployed: Deployed, url: str) -> str:
    found = deployed.account.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return "\n".join(each["Body"] for each in found)
