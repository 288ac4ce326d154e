"""Each role may do what its code does, and nothing else: the policy documents, by a table, and by the product itself at work."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.aws.iam import Request, allowed
from tests.aws.infra_program import NAMES, names, policies
from tests.aws.policed import SECURE

from chromalith.model import layout
from chromalith.model.ids import CollectionId

CID = CollectionId("11111111-2222-3333-4444-555555555555")
KEY = "arn:aws:kms:eu-central-1:123456789012:key/abc"
BUCKET = policies.bucket_policy(NAMES)
OURS = [root.rstrip("/") for root in layout.OWN_ROOTS]

# What a role may do with objects, by the first part of the key. Everything that is not here must be refused.
READS = {
    "producer": {"delta", "catalog", "collection", "store.json"},
    "compactor": {"catalog", "collection", "delta", "folded", "lease", "segment", "snapshot", "tag", "store.json"},
    "query": {"catalog", "collection", "delta", "folded", "segment", "snapshot", "tag", "store.json"},
    "sweep": {*OURS, "store.json"},
    "health": {"catalog", "collection", "delta", "folded", "snapshot", "store.json"},
}
PUTS = {
    "producer": {"delta"},
    "compactor": {"segment", "folded", "snapshot", "lease"},
    "query": set(),
    "sweep": {"snapshot", "folded", "tag", "lease", "collection", "catalog"},
    "health": set(),
}
DELETES = {
    "producer": set(),
    "compactor": {"delta"},
    "query": set(),
    "sweep": set(OURS) - {"catalog"},
    "health": set(),
}
PLACES = [*OURS, "store.json", "migration", "elsewhere", "lambda.zip"]

QUEUE, DEAD, TABLE = NAMES.queue_arn, NAMES.dead_letter_queue_arn, NAMES.lock_table_arn
# What a role may do besides. Everything else that these resources can do must be refused.
BESIDE = {
    "producer": {("sqs:SendMessage", QUEUE)},
    "compactor": {
        ("sqs:ReceiveMessage", QUEUE), ("sqs:DeleteMessage", QUEUE), ("sqs:ChangeMessageVisibility", QUEUE),
        ("sqs:GetQueueAttributes", QUEUE),
        ("dynamodb:GetItem", TABLE), ("dynamodb:PutItem", TABLE),
    },
    "query": set(),
    "sweep": {("s3:ListBucketMultipartUploads", NAMES.bucket_arn)},
    "health": set(),
}  # fmt: skip
ASKED = {
    "sqs": [
        "SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes", "GetQueueUrl", "PurgeQueue",
        "SetQueueAttributes", "StartMessageMoveTask",
    ],
    "dynamodb": [
        "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Scan", "Query", "DescribeTable", "DeleteTable", "BatchWriteItem",
    ],
    "s3": [
        "ListBucketMultipartUploads", "GetBucketVersioning", "GetLifecycleConfiguration", "PutLifecycleConfiguration", "PutBucketPolicy",
        "DeleteBucket", "PutBucketVersioning", "ListBucketVersions",
    ],
}  # fmt: skip


def document(role: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = policies.role_policy(role, NAMES, **options)
    return found


def may(role: str, action: str, resource: str, **context: str) -> bool:
    """Whether a role may, by its own policy and the bucket's; a write has a condition unless it says otherwise."""
    return allowed(Request(action, resource, SECURE | context), [document(role)], [BUCKET])


def object_(place: str) -> str:
    return f"{NAMES.bucket_arn}/{place}" if "." in place else f"{NAMES.bucket_arn}/{place}/{CID}/x"


@pytest.mark.parametrize("role", names.FUNCTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_a_role_reaches_the_objects_of_its_table_and_no_others(role: str, place: str) -> None:
    """Getting, listing, writing and deleting are each allowed where the table says so, and refused everywhere else."""
    assert may(role, "s3:GetObject", object_(place)) == (place in READS[role])
    for prefix in (f"{place}/", f"{place}/{CID}/") if "." not in place else (place,):
        assert may(role, "s3:ListBucket", NAMES.bucket_arn, **{"s3:prefix": prefix}) == (place in READS[role])
    assert may(role, "s3:PutObject", object_(place), **{"s3:if-none-match": "*"}) == (place in PUTS[role])
    assert may(role, "s3:DeleteObject", object_(place)) == (place in DELETES[role])


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_nobody_lists_everything_or_touches_old_versions(role: str) -> None:
    """A listing without a prefix, and every request for a version that is not current, is refused: what was deleted stays recoverable."""
    assert not may(role, "s3:ListBucket", NAMES.bucket_arn)
    assert not may(role, "s3:ListBucket", NAMES.bucket_arn, **{"s3:prefix": ""})
    for verb in ("DeleteObjectVersion", "GetObjectVersion", "PutObjectAcl", "PutObjectTagging", "BypassGovernanceRetention"):
        for place in PLACES:
            assert not may(role, f"s3:{verb}", object_(place))


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_a_role_uses_queue_table_and_bucket_as_its_table_says(role: str) -> None:
    """Every verb of the queues, the lock table and the bucket is allowed where the table says so, and refused otherwise."""
    resources = {"sqs": [QUEUE, DEAD], "dynamodb": [TABLE], "s3": [NAMES.bucket_arn]}
    granted = {
        (f"{service}:{verb}", resource)
        for service, verbs in ASKED.items()
        for verb in verbs
        for resource in resources[service]
        if may(role, f"{service}:{verb}", resource)
    }
    assert granted == BESIDE[role]


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_a_role_writes_its_own_log_and_no_other(role: str) -> None:
    """A function writes to streams of its own log group; it can't make a group, which would keep logs for ever."""
    for other in names.FUNCTIONS:
        stream = f"arn:aws:logs:{NAMES.region}:{NAMES.account}:log-group:{NAMES.log_group(other)}:log-stream:2026/11/22/[3]abc"
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            assert may(role, action, stream) == (role == other)
        assert not may(role, "logs:CreateLogGroup", stream)
        assert not may(role, "logs:DeleteLogGroup", stream)


@pytest.mark.parametrize("role", names.FUNCTIONS)
@pytest.mark.parametrize(
    "action", ["iam:PassRole", "lambda:InvokeFunction", "sts:AssumeRole", "sns:Publish", "kms:Decrypt", "xray:PutTraceSegments"]
)
def test_a_role_has_no_other_service(role: str, action: str) -> None:
    """Without a key and without tracing, no role has anything to do with another service."""
    assert not may(role, action, "arn:aws:anything:::x")


def test_only_the_importing_compactor_makes_collections() -> None:
    """With imports the compactor also writes catalog, collections, deltas, the store's object and probes; nothing else is added."""
    plain, imports = document("compactor"), document("compactor", imports=True)
    added = {place for place in PLACES if _puts(imports, place) and not _puts(plain, place)}
    assert added == {"catalog", "collection", "delta", "store.json", "probe"}
    assert all(_puts(imports, place) for place in PUTS["compactor"])
    assert [_deletes(imports, place) for place in PLACES] == [place in ("delta", "probe") for place in PLACES]


def _puts(identity: dict[str, Any], place: str) -> bool:
    return allowed(Request("s3:PutObject", object_(place), SECURE | {"s3:if-none-match": "*"}), [identity], [BUCKET])


def _deletes(identity: dict[str, Any], place: str) -> bool:
    return allowed(Request("s3:DeleteObject", object_(place), SECURE), [identity], [BUCKET])


@pytest.mark.parametrize("key", ["snapshot/migration/chroma.sqlite3", "snapshot/migration/a/b.bin", "migration/x.json"])
def test_a_sweep_never_touches_what_a_person_put_there(key: str) -> None:
    """What waits below ``snapshot/migration/`` is out of a sweep's reach, although it is below a root of ours."""
    assert not may("sweep", "s3:DeleteObject", f"{NAMES.bucket_arn}/{key}")
    assert not may("sweep", "s3:PutObject", f"{NAMES.bucket_arn}/{key}", **{"s3:if-none-match": "*"})


def test_a_sweep_aborts_uploads_of_ours_only() -> None:
    """Unfinished multipart uploads are aborted below our roots, and by nobody else."""
    for role in names.FUNCTIONS:
        for place in PLACES:
            assert may(role, "s3:AbortMultipartUpload", object_(place)) == (role == "sweep" and place in OURS)


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_a_key_is_for_those_who_need_it(role: str) -> None:
    """With a key of one's own, who reads decrypts, who writes also makes data keys; of this key only."""
    identity = [document(role, kms_key_arn=KEY)]
    assert allowed(Request("kms:Decrypt", KEY), identity)
    assert allowed(Request("kms:GenerateDataKey", KEY), identity) == bool(PUTS[role])
    assert not allowed(Request("kms:Decrypt", KEY.replace("abc", "other")), identity)
    assert not allowed(Request("kms:ScheduleKeyDeletion", KEY), identity)


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_objects_of_a_former_key_stay_readable(role: str) -> None:
    """After another key was set, or none, the keys before it decrypt what they encrypted, and encrypt nothing more."""
    former = KEY.replace("abc", "former")
    for key in (KEY, None):
        identity = [document(role, kms_key_arn=key, former_kms_key_arns=(former,))]
        assert allowed(Request("kms:Decrypt", former), identity)
        assert not allowed(Request("kms:GenerateDataKey", former), identity)
        assert allowed(Request("kms:Decrypt", KEY), identity) == (key is not None)


# The bucket's policy ---------------------------------------------------------------------------------------------------

EVERYTHING = [policies.document(policies.allow("All", ["s3:*"], [NAMES.bucket_arn, f"{NAMES.bucket_arn}/*"]))]
BY_CONDITION = [
    layout.pointer_key(CID), layout.collection_key(CID), layout.tag_key(CID, "v1"), layout.tenant_key("t"), layout.database_key("t", "d"),
]  # fmt: skip
DELTA = f"delta/{CID}/60a24181e4000002-ff7b118e820865d6e005b86051ef1922-00000001-e0c20f0ad8756614.parquet"
FREE = [
    f"segment/{CID}/x/records.parquet", f"folded/{CID}/x.parquet", f"snapshot/{CID}/buckets/x.bin", f"quarantine/{CID}/aside/x/y.parquet",
    f"lease/{CID}.date", "lease/sweep.date", f"snapshot/{CID}/0000000000000001/chroma/run/chroma.sqlite3", "probe/x/first",
    "snapshot/migration/chroma.sqlite3",
]  # fmt: skip


def _root_may_put(key: str, **context: str) -> bool:
    return allowed(Request("s3:PutObject", f"{NAMES.bucket_arn}/{key}", SECURE | context), EVERYTHING, [BUCKET])


@pytest.mark.parametrize("key", BY_CONDITION)
def test_registers_are_written_on_a_condition_or_not_at_all(key: str) -> None:
    """Pointer, catalog, collections and tags: either condition will do; none is refused, whoever asks, and so are copies and multipart."""
    assert _root_may_put(key, **{"s3:if-match": '"tag"'})
    assert _root_may_put(key, **{"s3:if-none-match": "*"})
    assert not _root_may_put(key)


def test_a_delta_is_never_overwritten() -> None:
    """A delta is put where nothing is; a condition that would allow to overwrite one is not enough."""
    assert _root_may_put(DELTA, **{"s3:if-none-match": "*"})
    assert not _root_may_put(DELTA, **{"s3:if-match": '"tag"'})
    assert not _root_may_put(DELTA)


@pytest.mark.parametrize("key", FREE)
def test_what_is_copied_or_overwritten_freely_stays_so(key: str) -> None:
    """Objects of jobs under names of chance, copies by forks and restores, dates, probes and a person's uploads need no condition."""
    assert _root_may_put(key)


def test_the_conditions_can_be_lifted() -> None:
    """While another tool copies a store in, only TLS is asked for."""
    lifted = policies.bucket_policy(NAMES, enforce_conditional_writes=False)
    put = Request("s3:PutObject", f"{NAMES.bucket_arn}/{DELTA}", SECURE)
    assert allowed(put, EVERYTHING, [lifted])
    assert [each["Sid"] for each in lifted["Statement"]] == ["OnlyTls", "OnlyTls12"]


@pytest.mark.parametrize(
    ("context", "fine"),
    [
        ({"aws:SecureTransport": "false"}, False),
        (SECURE | {"s3:TlsVersion": "1.1"}, False),
        (SECURE | {"s3:TlsVersion": "1.2"}, True),
        (SECURE, True),
    ],
)
def test_only_tls_1_2_and_later(context: dict[str, str], fine: bool) -> None:
    """Without TLS, or with an old one, nothing can be read, listed or deleted, in either bucket."""
    everything = [policies.document(policies.allow("All", ["s3:*"], ["*"]))]
    for bucket, policy in ((NAMES.bucket_arn, BUCKET), (NAMES.code_bucket_arn, policies.code_bucket_policy(NAMES))):
        for verb, resource in (("GetObject", f"{bucket}/delta/x"), ("ListBucket", bucket), ("DeleteObject", f"{bucket}/delta/x")):
            assert allowed(Request(f"s3:{verb}", resource, context), everything, [policy]) == fine


def test_queues_and_topic_take_tls_only() -> None:
    """Without TLS nobody sends, receives or publishes; only this stack's alarms may publish as a service."""
    for arn in (QUEUE, DEAD):
        sending = [policies.document(policies.allow("All", ["sqs:*"], [arn]))]
        for secure in ("true", "false"):
            request = Request("sqs:SendMessage", arn, {"aws:SecureTransport": secure})
            assert allowed(request, sending, [policies.queue_policy(arn)]) == (secure == "true")
    service, denial = policies.topic_policy(NAMES, "ChromaDB-Migration")["Statement"]
    assert service["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert denial["Effect"] == "Deny"
    assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    publish = policies.document({name: value for name, value in service.items() if name != "Principal"})
    alarm = f"arn:aws:cloudwatch:{NAMES.region}:{NAMES.account}:alarm:ChromaDB-Migration-QueryErrors"
    for source, account, fine in (
        (alarm, NAMES.account, True),
        (alarm.replace("ChromaDB-", "Other-"), NAMES.account, False),
        (alarm, "999999999999", False),
    ):
        context = {"aws:SourceArn": source, "aws:SourceAccount": account}
        assert allowed(Request("sns:Publish", NAMES.topic_arn, context), [publish]) == fine


# All documents ---------------------------------------------------------------------------------------------------------


def every_document() -> dict[str, dict[str, Any]]:
    """Each policy that the program can write, with everything switched on."""
    found = {f"role {role}": document(role, imports=role == "compactor", kms_key_arn=KEY, tracing=True) for role in names.FUNCTIONS}
    return found | {
        "trust": policies.lambda_trust(),
        "bucket": BUCKET,
        "code bucket": policies.code_bucket_policy(NAMES),
        "queue": policies.queue_policy(QUEUE),
        "topic": policies.topic_policy(NAMES, "ChromaDB-Migration"),
    }


@pytest.mark.parametrize("name", every_document())
def test_documents_have_the_shape_that_aws_takes(name: str) -> None:
    """The version that knows conditions, known fields only, statement ids of letters and digits, each once; and short enough."""
    found = every_document()[name]
    assert found["Version"] == "2012-10-17"
    assert found.keys() == {"Version", "Statement"}
    sids = [each.get("Sid", "Trust") for each in found["Statement"]]
    assert len(set(sids)) == len(sids)
    for each, sid in zip(found["Statement"], sids, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9]+", sid)
        assert each["Effect"] in ("Allow", "Deny")
        assert each.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert ("Resource" in each) == (name != "trust")
        assert ("Principal" in each) == (not name.startswith("role "))
    assert len(json.dumps(found, separators=(",", ":"))) <= (10_240 if name.startswith("role ") else 20_480)


def test_the_only_star_is_where_aws_takes_nothing_else() -> None:
    """No role has a resource ``*`` but for X-Ray, which knows no resources; and no action with a ``*`` at all."""
    stars = []
    for role in names.FUNCTIONS:
        for each in document(role, imports=role == "compactor", kms_key_arn=KEY, tracing=True)["Statement"]:
            assert not any("*" in action for action in each["Action"]), (role, each)
            if any(resource == "*" or (resource.endswith(":*") and ":log-group:" not in resource) for resource in each["Resource"]):
                stars.append((role, tuple(each["Action"])))
    assert stars == [(role, ("xray:PutTraceSegments", "xray:PutTelemetryRecords")) for role in names.FUNCTIONS]


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_every_root_is_decided_on(role: str) -> None:
    """A root that is added to the layout must be added to this table, and so be thought about, before these tests pass."""
    assert (READS[role] | PUTS[role] | DELETES[role]) <= {*OURS, "store.json"}
    assert {"delta", "segment", "snapshot", "collection", "catalog", "probe", "folded", "tag", "lease", "quarantine"} == set(OURS)
