"""Who may do what: every policy document, as a pure function of names.

A function's role allows the requests that its code makes, and no others. Where keys begin is taken from the layout by name, so a root that
is added there is nobody's until somebody allows it here.

=============  =========================================  =====================================  ==================
role           reads                                      writes                                 deletes
=============  =========================================  =====================================  ==================
producer       delta, catalog, collection, store.json     delta; messages                        nothing
compactor      what a fold and a merge read               segment, folded, snapshot, lease       delta; messages
query          what a query reads                         nothing                                nothing
sweep          everything of ours                         snapshot, folded, tag, lease,          what it can find no
                                                          collection, catalog                    use for; no catalog
health         the catalog, versions, and what waits      nothing                                nothing
=============  =========================================  =====================================  ==================

Reading a root means getting its objects and listing it. Who may not list gets 403 instead of 404 for what is absent, and could not tell a
missing collection from a missing permission. (S3 takes the key as ``s3:prefix`` there, so a condition on the prefix serves both.)

The bucket's own policy holds for everybody, whatever their role: TLS only, and no unconditional write of what the protocol writes
conditionally (``docs/protocol.md`` 2, 6, 8, 10). Copies and multipart uploads carry no condition, so they are refused there too.
Our own code makes none of them there: forks copy to ``segment/``, ``folded/`` and ``snapshot/<cid>/buckets/``, restores to ``quarantine/``,
and pointers, manifests, deltas (void ones and a fork's too), registers and stock snapshots go through one conditional PUT each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chromalith.model import layout
from pipeline.names import Names

Statement = dict[str, Any]
Document = dict[str, Any]

_R = layout
_ROOTS_OF_A_QUERY = (_R.CATALOG_ROOT, _R.COLLECTION_ROOT, _R.DELTA_ROOT, _R.FOLDED_ROOT, _R.SEGMENT_ROOT, _R.SNAPSHOT_ROOT, _R.TAG_ROOT)
READS: dict[str, tuple[str, ...]] = {
    "producer": (_R.DELTA_ROOT, _R.CATALOG_ROOT, _R.COLLECTION_ROOT),
    "compactor": (*_ROOTS_OF_A_QUERY, _R.LEASE_ROOT),
    "query": _ROOTS_OF_A_QUERY,
    "sweep": _R.OWN_ROOTS,
    "health": (_R.CATALOG_ROOT, _R.COLLECTION_ROOT, _R.DELTA_ROOT, _R.FOLDED_ROOT, _R.SNAPSHOT_ROOT),
}
"""The roots that each role reads, besides ``store.json``."""

WRITES: dict[str, tuple[str, ...]] = {
    "producer": (_R.DELTA_ROOT,),
    "compactor": (_R.SEGMENT_ROOT, _R.FOLDED_ROOT, _R.SNAPSHOT_ROOT, _R.LEASE_ROOT),
    "sweep": (_R.SNAPSHOT_ROOT, _R.FOLDED_ROOT, _R.TAG_ROOT, _R.LEASE_ROOT, _R.COLLECTION_ROOT, _R.CATALOG_ROOT),
}
DELETES: dict[str, tuple[str, ...]] = {
    "compactor": (_R.DELTA_ROOT,),
    "sweep": tuple(root for root in _R.OWN_ROOTS if root != _R.CATALOG_ROOT),
}
IMPORTS = (_R.CATALOG_ROOT, _R.COLLECTION_ROOT, _R.DELTA_ROOT, _R.PROBE_ROOT)
"""What the compactor writes besides when it takes the migration payload: it makes collections, and writes deltas."""

CONSUME = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
"""What Lambda's poller of a queue does; it works with the function's role."""

KEPT_FROM_SWEEP = ("snapshot/migration/", "migration/")
"""A person's; not a collection's, though the first is below a root of ours."""

POINTERS = f"{_R.SNAPSHOT_ROOT}*/latest/pointer.txt"
CONDITIONAL = (POINTERS, f"{_R.CATALOG_ROOT}*", f"{_R.COLLECTION_ROOT}*", f"{_R.TAG_ROOT}*")
"""Overwritten, but only over what was read."""
ONCE = (f"{_R.DELTA_ROOT}*",)
"""Written once and never again."""


def document(*statements: Statement) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(sid: str, actions: list[str], resources: list[str], condition: Document | None = None) -> Statement:
    """A statement of an identity's policy."""
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return statement if condition is None else {**statement, "Condition": condition}


def deny_everybody(sid: str, actions: list[str], resources: list[str], condition: Document) -> Statement:
    """A statement of a resource's policy."""
    return {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": actions, "Resource": resources, "Condition": condition}


# Roles ----------------------------------------------------------------------------------------------------------------


def lambda_trust() -> Document:
    """Lambda may be these roles, and nobody else."""
    return document({"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"})


def role_policy(
    name: str,
    names: Names,
    *,
    imports: bool = False,
    kms_key_arn: str | None = None,
    former_kms_key_arns: Sequence[str] = (),
    tracing: bool = False,
) -> Document:
    """Everything that a function may do.

    Args:
        name: one of :data:`~pipeline.names.FUNCTIONS`.
        imports: whether the compactor may take the migration payload.
        kms_key_arn: of the key that objects are encrypted with.
        former_kms_key_arns: of those that older objects still are.
        tracing: whether it may send traces.
    """
    statements = [*_reads(name, names, imports), *_changes(name, names, imports), *_beside_the_bucket(name, names)]
    if kms_key_arn is not None:
        # A reader decrypts; who writes needs new data keys too.
        actions = ["kms:Decrypt", *(["kms:GenerateDataKey"] if name in WRITES else [])]
        statements.append(allow("Key", actions, [kms_key_arn]))
    if former_kms_key_arns:
        statements.append(allow("FormerKeys", ["kms:Decrypt"], list(former_kms_key_arns)))
    if tracing:
        # Neither action knows resources: AWS takes nothing but * here.
        statements.append(allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]))
    statements.append(allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [names.log_streams_arn(name)]))
    return document(*statements)


def _reads(name: str, names: Names, imports: bool) -> list[Statement]:
    roots = (*READS[name], *((_R.PROBE_ROOT,) if imports else ()))
    patterns = [*(f"{root}*" for root in roots), layout.store_key()]
    return [
        allow("Get", ["s3:GetObject"], names.objects(*patterns)),
        allow("List", ["s3:ListBucket"], [names.bucket_arn], {"StringLike": {"s3:prefix": patterns}}),
    ]


def _changes(name: str, names: Names, imports: bool) -> list[Statement]:
    statements = []
    if name in WRITES:
        statements.append(allow("Put", ["s3:PutObject"], names.objects(*(f"{root}*" for root in WRITES[name]))))
    if name in DELETES:
        statements.append(allow("Delete", ["s3:DeleteObject"], names.objects(*(f"{root}*" for root in DELETES[name]))))
    if imports:
        statements.append(allow("Import", ["s3:PutObject"], names.objects(*(f"{root}*" for root in IMPORTS), layout.store_key())))
        statements.append(allow("Probe", ["s3:DeleteObject"], names.objects(f"{_R.PROBE_ROOT}*")))
    return statements


def _beside_the_bucket(name: str, names: Names) -> list[Statement]:
    """Queue and lock table; and of the bucket what is no object."""
    match name:
        case "producer":
            return [allow("Tell", ["sqs:SendMessage"], [names.queue_arn])]
        case "compactor":
            return [
                allow("Consume", CONSUME, [names.queue_arn]),
                allow("Lease", ["dynamodb:GetItem", "dynamodb:PutItem"], [names.lock_table_arn]),
            ]
        case "sweep":
            keys = names.objects(*(f"{root}*" for root in KEPT_FROM_SWEEP))
            return [
                allow("FindUploads", ["s3:ListBucketMultipartUploads"], [names.bucket_arn]),
                allow("AbortUploads", ["s3:AbortMultipartUpload"], names.objects(*(f"{root}*" for root in layout.OWN_ROOTS))),
                {"Sid": "KeepMigrations", "Effect": "Deny", "Action": ["s3:DeleteObject", "s3:PutObject"], "Resource": keys},
            ]
    return []


# Resources ------------------------------------------------------------------------------------------------------------


def bucket_policy(names: Names, *, enforce_conditional_writes: bool = True) -> Document:
    """For everybody: TLS 1.2 or later; and conditions where the protocol has them."""
    whole = [names.bucket_arn, f"{names.bucket_arn}/*"]
    statements = [*_tls_only(whole)]
    if enforce_conditional_writes:
        neither = {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}}
        statements += [
            deny_everybody("OverwriteOnlyWhatWasRead", ["s3:PutObject"], names.objects(*CONDITIONAL), neither),
            deny_everybody("WriteOnce", ["s3:PutObject"], names.objects(*ONCE), {"Null": {"s3:if-none-match": "true"}}),
        ]
    return document(*statements)


def code_bucket_policy(names: Names) -> Document:
    """Of the bucket with the functions' code, where the zip is too large to be given to Lambda directly."""
    return document(*_tls_only([names.code_bucket_arn, f"{names.code_bucket_arn}/*"]))


def _tls_only(resources: list[str]) -> list[Statement]:
    return [
        deny_everybody("OnlyTls", ["s3:*"], resources, {"Bool": {"aws:SecureTransport": "false"}}),
        deny_everybody("OnlyTls12", ["s3:*"], resources, {"NumericLessThan": {"s3:TlsVersion": "1.2"}}),
    ]


def queue_policy(queue_arn: str) -> Document:
    """TLS only. Who may send and receive is in their roles."""
    return document(deny_everybody("OnlyTls", ["sqs:*"], [queue_arn], {"Bool": {"aws:SecureTransport": "false"}}))


def topic_policy(names: Names, alarm_prefix: str) -> Document:
    """This stack's alarms may publish; nobody without TLS."""
    from_alarms = {"ArnLike": {"aws:SourceArn": names.alarm_arn(f"{alarm_prefix}-*")}, "StringEquals": {"aws:SourceAccount": names.account}}
    return document(
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": names.topic_arn,
            "Condition": from_alarms,
        },
        deny_everybody("OnlyTls", ["sns:Publish"], [names.topic_arn], {"Bool": {"aws:SecureTransport": "false"}}),
    )

