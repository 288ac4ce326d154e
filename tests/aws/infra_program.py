"""The Pulumi program, run with mocks that only write down what it declares; and its modules, for tests of what is pure in them."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
from tests.docs.blocks import ROOT

FOLDER = ROOT / "infra" / "chromadb_compaction"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

with warnings.catch_warnings():
    # The provider's modules, which it loads on use, warn of older forms of their own resources.
    warnings.simplefilter("ignore", DeprecationWarning)
    for module in ("cloudwatch", "dynamodb", "iam", "lambda_", "s3", "sns", "sqs"):
        hasattr(importlib.import_module(f"pulumi_aws.{module}"), "loaded")  # any question loads it

from pipeline import alarms, bucket, config, dashboard, names, parse, policies  # noqa: E402

__all__ = [
    "FOLDER", "FORMER_KEY", "KEY", "NAMES", "Declared", "Resource", "alarms", "bucket", "config", "dashboard", "names", "other", "parse",
    "policies", "run", "usual", "zip_file",
]  # fmt: skip

ACCOUNT = "123456789012"
REGION = "eu-central-1"
NAMES = names.Names("dev", ACCOUNT, REGION, "aws", "chromadb-delta-queue")


@dataclass(frozen=True)
class Resource:
    """One resource: its type without package and module, Pulumi's name, and its inputs as the provider would get them."""

    kind: str
    name: str
    inputs: Mapping[str, Any]

    def json(self, field: str) -> Any:
        """An input that is a JSON text."""
        return json.loads(self.inputs[field])


@dataclass(frozen=True)
class Declared:
    """What one run declared, in the order of registration, and what it exports."""

    resources: tuple[Resource, ...]
    outputs: Mapping[str, Any]

    def all(self, kind: str) -> dict[str, Resource]:
        """Those of a type, by name."""
        return {each.name: each for each in self.resources if each.kind == kind}

    def one(self, kind: str) -> Resource:
        """The only one of a type."""
        (found,) = self.all(kind).values()
        return found


class _Recorder(pulumi.runtime.Mocks):
    """Gives each resource the outputs that the provider would compute, as far as others use them."""

    def __init__(self) -> None:
        self.seen: list[Resource] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        kind = args.typ.rpartition(":")[2]
        inputs = dict(args.inputs)
        self.seen.append(Resource(kind, args.name, inputs))
        named = inputs.get("name", args.name)
        computed = {
            "Queue": {"arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{named}", "url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{named}"},
            "Role": {"arn": f"arn:aws:iam::{ACCOUNT}:role/{named}"},
            "Function": {"arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{named}", "version": "3"},
            "Alias": {"arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{inputs.get('functionName')}:{named}"},
            "Topic": {"arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:{named}"},
            "EventRule": {"arn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{named}"},
        }
        return f"{args.name}-id", {"name": named, **inputs, **computed.get(kind, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]
        identity = {"accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "userId": "u", "id": "i"}
        partition = {"partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws", "reverseDnsPrefix": "com.amazonaws"}
        return {
            "aws:index/getCallerIdentity:getCallerIdentity": identity,
            "aws:index/getPartition:getPartition": partition,
        }[args.token]


def run(settings: Mapping[str, str], *, stack: str = "dev", region: str | None = REGION) -> Declared:
    """Run the whole program, unchanged, with these settings. Raises what it raises."""
    recorder, exported = _Recorder(), {}
    pulumi.runtime.set_mocks(recorder, project=config.PROJECT, stack=stack)
    given = {f"{config.PROJECT}:{name}": value for name, value in settings.items()}
    pulumi.runtime.set_all_config(given | ({"aws:region": region} if region else {}))

    @pulumi.runtime.test
    def program() -> pulumi.Output[dict[str, Any]]:
        runpy.run_path(str(FOLDER), run_name="__main__")
        outputs = pulumi.runtime.get_root_resource().outputs  # type: ignore[union-attr]
        return pulumi.Output.from_input(dict(outputs)).apply(exported.update)  # type: ignore[no-any-return]

    program()
    return Declared(tuple(recorder.seen), exported)


def zip_file(folder: Path, size_bytes: int = 100, *, machine: str = "x86_64") -> Path:
    """Something in place of the functions' zip, with a library for ``machine``; the program looks at its names, hash and size only."""
    path = folder / "lambda.zip"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(f"numpy/core.cpython-313-{machine}-linux-gnu.so", b"\0" * size_bytes)
    return path


@cache
def usual() -> Declared:
    """A stack with every default."""
    with tempfile.TemporaryDirectory() as folder:
        return run({"packagePath": str(zip_file(Path(folder)))})


@cache
def other() -> Declared:
    """A stack with whatever can be chosen chosen otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        return run(OTHERWISE | {"packagePath": str(zip_file(Path(folder), machine="aarch64"))}, stack="second")


KEY = "arn:aws:kms:eu-central-1:123456789012:key/abc"
FORMER_KEY = "arn:aws:kms:eu-central-1:123456789012:key/former"
OTHERWISE = {
    "queueName": "second-queue",
    "alarmEmail": "ops@example.com",
    "alarmPrefix": "Second",
    "protectData": "false",
    "deleteDataOnDestroy": "true",
    "enforceConditionalWrites": "false",
    "enableImport": "false",
    "kmsKeyArn": KEY,
    "formerKmsKeyArns": f'["{FORMER_KEY}"]',
    "noncurrentDays": "3",
    "multipartDays": "1",
    "intelligentTiering": "false",
    "architecture": "arm64",
    "compactorImageUri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chromalith:1",
    "embed": "models.words:embed",
    "layers": '["arn:aws:lambda:eu-central-1:123456789012:layer:models:4"]',
    "environment": '{"CHROMALITH_KEEP_AGE_S": 3600}',
    "compactor": '{"memoryMb": 10240, "timeoutS": 600}',
    "compactorReservedConcurrency": "5",
    "liveVersions": '{"compactor": "2"}',
    "queueBatchSize": "10",
    "queueConcurrency": "4",
    "maxReceiveCount": "20",
    "enableCompaction": "false",
    "compactionSchedule": "rate(1 hour)",
    "logRetentionDays": "7",
    "logLevel": "DEBUG",
    "tracing": "true",
}
