"""The functions: one handler of ``chromalith.lambdas`` each, with published versions, and the alias ``live`` that everybody invokes.

A deploy publishes a new version and moves ``live`` to it. Reverting it is one command for each function that should go back::

    aws lambda update-alias --function-name chromadb-compactor-dev --name live --function-version 7

and the setting ``liveVersions`` keeps it there through the next ``pulumi up``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from pipeline.config import Settings
from pipeline.names import ALIAS, FUNCTIONS, Names
from pipeline.package import Package
from pipeline.roles import Roles

RUNTIME = "python3.13"


@dataclass(frozen=True, slots=True)
class FunctionsArgs:
    """What :class:`Functions` are made from.

    Attributes:
        names, settings: of the stack.
        package: their code.
        roles: what they may do, and where they log.
        bucket: the name of the store's bucket.
        queue_url: where producers send hints.
        queue_arn: what the compactor consumes.
        lock_table: its name.
    """

    names: Names
    settings: Settings
    package: Package
    roles: Roles
    bucket: pulumi.Input[str]
    queue_url: pulumi.Input[str]
    queue_arn: pulumi.Input[str]
    lock_table: pulumi.Input[str]


def handler(name: str) -> str:
    """What Lambda calls."""
    return f"chromalith.lambdas.{name}.handler"


class Functions(pulumi.ComponentResource):
    """All functions.

    Attributes:
        functions: by name.
        live: their aliases.
    """

    def __init__(self, name: str, args: FunctionsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Functions", name, None, opts)
        self.functions = {each: self._function(each, args) for each in FUNCTIONS}
        self.live = {each: self._live(each, function, args.settings) for each, function in self.functions.items()}
        settings = args.settings
        aws.lambda_.EventSourceMapping(
            "deltas",
            event_source_arn=args.queue_arn,
            function_name=self.live["compactor"].arn,
            batch_size=settings.queue_batch_size,
            maximum_batching_window_in_seconds=settings.queue_window_s,
            function_response_types=["ReportBatchItemFailures"],
            # Without it the poller invokes up to a thousand at once; all but one would find the lease held, and hints would bounce.
            scaling_config={"maximum_concurrency": settings.queue_concurrency},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _function(self, name: str, args: FunctionsArgs) -> aws.lambda_.Function:
        settings, size = args.settings, args.settings.size(name)
        reserved = settings.compactor_reserved_concurrency
        image = settings.compactor_image_uri if name == "compactor" else None
        return aws.lambda_.Function(
            name,
            name=args.names.function(name),
            role=args.roles.arns[name],
            architectures=[settings.architecture],
            memory_size=size.memory_mb,
            timeout=size.timeout_s,
            ephemeral_storage={"size": size.storage_mb},
            environment={"variables": environment(args)},
            tracing_config={"mode": "Active" if settings.tracing else "PassThrough"},
            reserved_concurrent_executions=reserved if name == "compactor" else None,
            logging_config={"log_format": "Text", "log_group": args.names.log_group(name)},
            publish=True,
            **_code(name, image, args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.roles.log_groups[name]]),
        )

    def _live(self, name: str, function: aws.lambda_.Function, settings: Settings) -> aws.lambda_.Alias:
        return aws.lambda_.Alias(
            name,
            name=ALIAS,
            function_name=function.name,
            function_version=settings.live_versions.get(name, function.version),
            opts=pulumi.ResourceOptions(parent=self),
        )


def environment(args: FunctionsArgs) -> Mapping[str, pulumi.Input[str]]:
    """What a function is told; one table for all, because a role decides what it may do with it."""
    settings = args.settings
    own: dict[str, pulumi.Input[str]] = {
        "CHROMADB_BUCKET": args.bucket,
        "DELTA_BUCKET": args.bucket,
        "CHROMALITH_STORE": pulumi.Output.concat("s3://", args.bucket),
        "DELTA_QUEUE_URL": args.queue_url,
        "CHROMALITH_QUEUE_URL": args.queue_url,
        "CHROMALITH_LEASE_TABLE": args.lock_table,
        "CHROMALITH_CACHE_DIR": "/tmp/chromalith",
        "POWERTOOLS_SERVICE_NAME": args.names.service,
        "POWERTOOLS_LOG_LEVEL": settings.log_level,
    }
    if settings.embed is not None:
        own["CHROMALITH_EMBED"] = settings.embed
    return {**settings.environment, **own}


def _code(name: str, image: str | None, args: FunctionsArgs) -> dict[str, Any]:
    if image is not None:
        return {"package_type": "Image", "image_uri": image, "image_config": {"commands": [handler(name)]}}
    return {
        "package_type": "Zip",
        "runtime": RUNTIME,
        "handler": handler(name),
        "layers": list(args.settings.layers) or None,
        **args.package.code,
    }
