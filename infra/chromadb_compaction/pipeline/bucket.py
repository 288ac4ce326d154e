"""The bucket that is the store: versioned, encrypted, TLS only, nothing public, and no rule that could delete what is current."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from chromalith.model import layout
from pipeline import policies
from pipeline.names import Names

TIERED_ROOTS = (layout.SEGMENT_ROOT, layout.SNAPSHOT_ROOT)
"""Where large objects lie that are read for years: segments, and stock snapshots. Deltas are folded within minutes."""
TIERED_BYTES_MIN = 128 * 1024
"""S3 does not tier smaller objects, and would charge for watching them."""


@dataclass(frozen=True, slots=True)
class BucketArgs:
    """What a :class:`Bucket` is made from.

    Attributes:
        names: of the stack.
        kms_key_arn: encrypts objects; ``None``: S3's own key (AES256).
        protect: Pulumi refuses to delete the bucket, and leaves it where it is when the stack goes.
        force_destroy: deleting the bucket deletes what is in it.
        enforce_conditional_writes: by the bucket's policy.
        noncurrent_days: how long a version stays that was overwritten or deleted.
        multipart_days: how old an unfinished multipart upload gets.
        intelligent_tiering: for large objects.
    """

    names: Names
    kms_key_arn: str | None
    protect: bool
    force_destroy: bool
    enforce_conditional_writes: bool
    noncurrent_days: int
    multipart_days: int
    intelligent_tiering: bool


class Bucket(pulumi.ComponentResource):
    """The bucket with all its settings. ``name`` is known only once they are there, so whoever takes it from here waits for them."""

    def __init__(self, name: str, args: BucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Bucket", name, None, opts)
        # A bucket that outlives its stack keeps its versions, its locks and its policy: without them it is not what it was.
        child = pulumi.ResourceOptions(parent=self, retain_on_delete=args.protect)
        kept = pulumi.ResourceOptions(parent=self, protect=args.protect, retain_on_delete=args.protect)
        self.bucket = aws.s3.Bucket(name, bucket=args.names.bucket, force_destroy=args.force_destroy, opts=kept)
        versioning = aws.s3.BucketVersioning(
            name, bucket=self.bucket.bucket, versioning_configuration={"status": "Enabled"}, opts=child
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            name, bucket=self.bucket.bucket, rules=[_encryption(args.kms_key_arn)], opts=child
        )
        aws.s3.BucketOwnershipControls(
            name, bucket=self.bucket.bucket, rule={"object_ownership": "BucketOwnerEnforced"}, opts=child
        )
        closed = close_to_the_public(name, self.bucket, child)
        document = policies.bucket_policy(args.names, enforce_conditional_writes=args.enforce_conditional_writes)
        policy = aws.s3.BucketPolicy(
            name,
            bucket=self.bucket.bucket,
            policy=json.dumps(document),
            # S3 refuses two changes of a bucket's access at once.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed], retain_on_delete=args.protect),
        )
        aws.s3.BucketLifecycleConfiguration(
            name,
            bucket=self.bucket.bucket,
            rules=lifecycle_rules(args),
            # A rule about noncurrent versions is refused as long as the bucket has none.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning], retain_on_delete=args.protect),
        )
        self.name = pulumi.Output.all(self.bucket.bucket, policy.id, versioning.id).apply(lambda known: str(known[0]))
        self.register_outputs({"name": self.name})


def close_to_the_public(name: str, bucket: aws.s3.Bucket, opts: pulumi.ResourceOptions) -> aws.s3.BucketPublicAccessBlock:
    """All four locks against public access."""
    return aws.s3.BucketPublicAccessBlock(
        name,
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=opts,
    )


def lifecycle_rules(args: BucketArgs) -> list[aws.s3.BucketLifecycleConfigurationRuleArgsDict]:
    """The rules. None of them expires a current object: only sweep knows what nothing names any more, and a delta that is not folded
    must wait however long it takes."""
    rules: list[aws.s3.BucketLifecycleConfigurationRuleArgsDict] = [
        {
            "id": "abort-unfinished-uploads",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "abort_incomplete_multipart_upload": {"days_after_initiation": args.multipart_days},
        },
        {
            "id": "forget-old-versions",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "noncurrent_version_expiration": {"noncurrent_days": args.noncurrent_days},
            # A marker is removed only once nothing is behind it any more. It is what a sweep leaves, and slows listings down.
            "expiration": {"expired_object_delete_marker": True},
        },
    ]
    if args.intelligent_tiering:
        rules += [
            {
                "id": f"tier-{root.rstrip('/')}",
                "status": "Enabled",
                "filter": {"and_": {"prefix": root, "object_size_greater_than": TIERED_BYTES_MIN}},
                "transitions": [{"days": 0, "storage_class": "INTELLIGENT_TIERING"}],
            }
            for root in TIERED_ROOTS
        ]
    return rules


def _encryption(kms_key_arn: str | None) -> aws.s3.BucketServerSideEncryptionConfigurationRuleArgsDict:
    if kms_key_arn is None:
        return {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
    return {
        "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": kms_key_arn},
        "bucket_key_enabled": True,  # one request for a key a bucket and a while, instead of one an object
    }
