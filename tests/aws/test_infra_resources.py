"""What the Pulumi program declares: the bucket, the queues and the lock table, with the settings that matter; from one run of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.aws.infra_program import KEY, NAMES, Declared, bucket, other, policies, run, usual, zip_file

from chromalith.aws.dynamodb_lease import HASH_KEY, TTL_ATTRIBUTE
from chromalith.doctor.bucket import findings_of_rules, findings_of_versioning
from chromalith.model import layout
from chromalith.store.url import parse_url

BUCKET = "chromadb-vectors-dev-123456789012"
COUNTED = {
    "Alias": 5, "BucketLifecycleConfiguration": 1, "BucketOwnershipControls": 1, "BucketPolicy": 1, "BucketPublicAccessBlock": 1,
    "Bucket": 1, "BucketServerSideEncryptionConfiguration": 1, "BucketVersioning": 1, "Dashboard": 1, "EventRule": 2,
    "EventSourceMapping": 1, "EventTarget": 2, "Function": 5, "FunctionEventInvokeConfig": 2, "LogGroup": 5, "MetricAlarm": 8,
    "Permission": 2, "Queue": 2, "QueuePolicy": 2, "RedriveAllowPolicy": 1, "Role": 5, "RolePolicy": 5, "Table": 1, "Topic": 1,
    "TopicPolicy": 1,
}  # fmt: skip


def test_everything_is_declared_and_nothing_else() -> None:
    """So many resources of each type; one more is a decision, and belongs into this table and into the document's."""
    components = {"Bucket", "Queue", "LockTable", "Roles", "Package", "Functions", "Schedule", "Topic", "Alarms", "Dashboard"}
    found: dict[str, int] = {}
    for each in usual().resources:
        if each.inputs or each.kind not in components:
            found[each.kind] = found.get(each.kind, 0) + 1
    assert found == COUNTED


# The bucket ------------------------------------------------------------------------------------------------------------


def test_the_bucket_is_versioned_encrypted_owned_and_closed() -> None:
    """Versions, AES256, no ACLs, all four locks against the public, and a name that only this stack of this account can have."""
    assert [each.inputs["bucket"] for each in usual().all("Bucket").values() if each.inputs] == [BUCKET]
    assert usual().one("BucketVersioning").inputs["versioningConfiguration"] == {"status": "Enabled"}
    (rule,) = usual().one("BucketServerSideEncryptionConfiguration").inputs["rules"]
    assert rule == {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}
    assert usual().one("BucketOwnershipControls").inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    locks = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert all(usual().one("BucketPublicAccessBlock").inputs[lock] is True for lock in locks)
    for kind in ("BucketVersioning", "BucketServerSideEncryptionConfiguration", "BucketOwnershipControls", "BucketPublicAccessBlock"):
        assert usual().one(kind).inputs["bucket"] == BUCKET


def test_the_buckets_policy_is_the_tested_one() -> None:
    """What is attached is what the tests of the policies look at."""
    assert usual().one("BucketPolicy").json("policy") == policies.bucket_policy(NAMES)
    assert len(other().one("BucketPolicy").json("policy")["Statement"]) == 2  # TLS only, because conditions were lifted


def test_a_key_of_ones_own_encrypts_objects() -> None:
    """With a KMS key, and with a bucket key, so that not each object costs a request for a key."""
    (rule,) = other().one("BucketServerSideEncryptionConfiguration").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY}
    assert rule["bucketKeyEnabled"] is True
    assert all("kms:Decrypt" in each.inputs["policy"] for each in other().all("RolePolicy").values())


def _rules(declared: Declared) -> list[dict[str, Any]]:
    return [dict(each) for each in declared.one("BucketLifecycleConfiguration").inputs["rules"]]


def _prefix(rule: dict[str, Any]) -> str:
    chosen = rule["filter"]
    return str(chosen["and"]["prefix"] if "and" in chosen else chosen["prefix"])


@pytest.mark.parametrize("root", [*layout.OWN_ROOTS, "migration/", layout.store_key()])
def test_no_lifecycle_rule_can_delete_a_current_object(root: str) -> None:
    """No rule that covers any of our keys expires what is current: not by days, not by date; a rule of an unknown kind fails the test."""
    for declared in (usual(), other()):
        covering = [rule for rule in _rules(declared) if root.startswith(_prefix(rule)) or _prefix(rule).startswith(root)]
        assert covering
        for rule in covering:
            assert rule.keys() <= {
                "id", "status", "filter", "abortIncompleteMultipartUpload", "noncurrentVersionExpiration", "expiration", "transitions",
            }, rule  # fmt: skip
            assert rule.get("expiration", {"expiredObjectDeleteMarker": True}) == {"expiredObjectDeleteMarker": True}, rule
            assert all(each["storageClass"] == "INTELLIGENT_TIERING" for each in rule.get("transitions", ())), rule


def test_lifecycle_rules_do_what_is_wanted() -> None:
    """Unfinished uploads go after a week, old versions after a month, markers with nothing behind them; large objects are tiered."""
    by_id = {rule["id"]: rule for rule in _rules(usual())}
    assert all(rule["status"] == "Enabled" for rule in by_id.values())
    assert by_id["abort-unfinished-uploads"]["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
    assert by_id["forget-old-versions"]["noncurrentVersionExpiration"] == {"noncurrentDays": 30}
    assert by_id["forget-old-versions"]["expiration"] == {"expiredObjectDeleteMarker": True}
    assert {_prefix(rule) for rule in by_id.values() if "transitions" in rule} == {"segment/", "snapshot/"}
    for root in ("segment", "snapshot"):
        assert by_id[f"tier-{root}"]["filter"]["and"]["objectSizeGreaterThan"] == 128 * 1024
    chosen = {rule["id"]: rule for rule in _rules(other())}
    assert chosen.keys() == {"abort-unfinished-uploads", "forget-old-versions"}
    assert chosen["abort-unfinished-uploads"]["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 1}
    assert chosen["forget-old-versions"]["noncurrentVersionExpiration"] == {"noncurrentDays": 3}


def test_the_doctor_finds_nothing_wrong_with_the_bucket() -> None:
    """What ``doctor`` says of a bucket's versioning and rules it does not say of this one."""
    rules = [_as_s3_says(rule) for rule in _rules(usual())]
    assert list(findings_of_rules(rules, "")) == []
    assert list(findings_of_versioning("Enabled", rules, parse_url(f"s3://{BUCKET}", {}))) == []


def _as_s3_says(value: Any) -> Any:
    """A rule with the names that S3's own API has for its fields."""
    special = {"id": "ID"}
    if isinstance(value, dict):
        return {special.get(name, name[0].upper() + name[1:]): _as_s3_says(each) for name, each in value.items()}
    return [_as_s3_says(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("chosen", "protected"), [({}, True), ({"protectData": "false"}, False)])
def test_the_bucket_is_protected_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], protected: bool
) -> None:
    """Pulumi refuses to delete it and leaves it behind, unless that was chosen; its contents go only if that was chosen, too."""
    import pulumi_aws as aws

    seen: dict[str, Any] = {}
    real = aws.s3.Bucket

    def noted(name: str, *, opts: Any, **inputs: Any) -> Any:
        seen[name] = (opts.protect, opts.retain_on_delete, inputs["force_destroy"])
        return real(name, opts=opts, **inputs)

    monkeypatch.setattr(bucket.aws.s3, "Bucket", noted)
    run({"packagePath": str(zip_file(tmp_path)), **chosen})
    assert seen == {"vectors": (protected, protected, False)}


@pytest.mark.parametrize("protected", [True, False])
def test_a_bucket_that_stays_keeps_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    """What outlives its stack is still versioned, closed and under its policy: Pulumi's delete of these would suspend and open it."""
    import pulumi_aws as aws

    encryption = "ServerSideEncryptionConfiguration"
    kinds = ("Versioning", encryption, "OwnershipControls", "PublicAccessBlock", "Policy", "LifecycleConfiguration")
    seen: dict[str, bool] = {}

    def noting(kind: str, real: Any) -> Any:
        def noted(name: str, *, opts: Any, **inputs: Any) -> Any:
            if name == "vectors":
                seen[kind] = bool(opts.retain_on_delete)
            return real(name, opts=opts, **inputs)

        return noted

    for kind in kinds:
        monkeypatch.setattr(bucket.aws.s3, f"Bucket{kind}", noting(kind, getattr(aws.s3, f"Bucket{kind}")))
    run({"packagePath": str(zip_file(tmp_path)), **({} if protected else {"protectData": "false"})})
    assert seen == dict.fromkeys(kinds, protected)


def test_data_is_deleted_only_where_that_was_chosen() -> None:
    """``force_destroy`` is the setting's, and off."""
    forced = [[each.inputs["forceDestroy"] for each in declared.all("Bucket").values() if each.inputs] for declared in (usual(), other())]
    assert forced == [[False], [True]]


# Queue and table -------------------------------------------------------------------------------------------------------


def _queue(declared: Declared, name: str) -> Any:
    return next(each for each in declared.resources if each.kind == "Queue" and each.inputs.get("name") == name)


def test_the_queue_keeps_messages_long_enough() -> None:
    """Hidden for six times the compactor's time limit; four days, then gone; a bad one reaches the dead letters long before that."""
    queue, dead = _queue(usual(), "chromadb-delta-queue"), _queue(usual(), "chromadb-delta-queue-dlq")
    assert queue.inputs["visibilityTimeoutSeconds"] == 6 * 900 == 6 * usual().all("Function")["compactor"].inputs["timeout"]
    assert queue.inputs["messageRetentionSeconds"] == 345_600
    assert queue.inputs["receiveWaitTimeSeconds"] == 20
    assert dead.inputs["messageRetentionSeconds"] == 1_209_600
    assert queue.inputs["sqsManagedSseEnabled"] is dead.inputs["sqsManagedSseEnabled"] is True
    redrive = queue.json("redrivePolicy")
    assert redrive == {"deadLetterTargetArn": NAMES.dead_letter_queue_arn, "maxReceiveCount": 10}
    assert redrive["maxReceiveCount"] * queue.inputs["visibilityTimeoutSeconds"] < queue.inputs["messageRetentionSeconds"]
    assert usual().one("RedriveAllowPolicy").json("redriveAllowPolicy") == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [NAMES.queue_arn],
    }


def test_both_queues_take_tls_only() -> None:
    """Each has the tested policy, about itself."""
    found = {each.inputs["queueUrl"].rpartition("/")[2]: each.json("policy") for each in usual().all("QueuePolicy").values()}
    assert found == {
        "chromadb-delta-queue": policies.queue_policy(NAMES.queue_arn),
        "chromadb-delta-queue-dlq": policies.queue_policy(NAMES.dead_letter_queue_arn),
    }


def test_the_lock_table_is_what_leases_need() -> None:
    """One text key, paid by request, with a numeric attribute for DynamoDB's tidying up: the names are those of the code."""
    table = usual().one("Table").inputs
    assert table["name"] == "chromadb-lock-dev"
    assert (table["hashKey"], table.get("rangeKey")) == (HASH_KEY, None) == ("lease_key", None)
    assert table["attributes"] == [{"name": HASH_KEY, "type": "S"}]
    assert table["ttl"] == {"attributeName": TTL_ATTRIBUTE, "enabled": True}
    assert table["billingMode"] == "PAY_PER_REQUEST"
    assert table["pointInTimeRecovery"] == {"enabled": False}
