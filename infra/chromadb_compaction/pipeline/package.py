"""The functions' code: the zip that ``make lambda`` built, or where it was put if Lambda does not take it directly."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from pipeline import policies
from pipeline.bucket import close_to_the_public
from pipeline.names import Names

DIRECT_BYTES_MAX = 50_000_000
"""Lambda takes a zip of 50 MB in a request; a larger one comes from S3."""


@dataclass(frozen=True, slots=True)
class PackageArgs:
    """What a :class:`Package` is made from.

    Attributes:
        names: of the stack.
        path: of the zip.
    """

    names: Names
    path: Path


class Package(pulumi.ComponentResource):
    """The zip.

    Attributes:
        code: the arguments of a function that say where its code is.
        via_s3: whether the code has a bucket of its own; never in the store's: what is there is data.
    """

    def __init__(self, name: str, args: PackageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Package", name, None, opts)
        digest = _sha256(args.path)
        self.via_s3 = args.path.stat().st_size > DIRECT_BYTES_MAX
        where: dict[str, Any] = self._upload(name, args, digest) if self.via_s3 else {"code": pulumi.FileArchive(str(args.path))}
        # Without the hash, a zip with other contents at the same place would not be deployed.
        self.code = {**where, "source_code_hash": base64.b64encode(digest).decode()}
        self.register_outputs({})

    def _upload(self, name: str, args: PackageArgs, digest: bytes) -> dict[str, Any]:
        child = pulumi.ResourceOptions(parent=self)
        bucket = aws.s3.Bucket(name, bucket=args.names.code_bucket, force_destroy=True, opts=child)
        closed = close_to_the_public(name, bucket, child)
        policy = aws.s3.BucketPolicy(
            name,
            bucket=bucket.bucket,
            policy=json.dumps(policies.code_bucket_policy(args.names)),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        zipped = aws.s3.BucketObjectv2(
            name,
            bucket=bucket.bucket,
            # A new name for new contents. The old ones go after the functions have moved on; Lambda keeps a copy of each version.
            key=f"lambda-{digest.hex()[:32]}.zip",
            source=pulumi.FileAsset(str(args.path)),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        return {"s3_bucket": zipped.bucket, "s3_key": zipped.key}


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
