"""Everything of one stack, in the order in which one part needs another."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from pipeline.alarms import Alarms, AlarmsArgs
from pipeline.bucket import Bucket, BucketArgs
from pipeline.config import QUEUE_RETENTION_S, ConfigError, Settings
from pipeline.dashboard import Dashboard, DashboardArgs
from pipeline.functions import Functions, FunctionsArgs
from pipeline.lock_table import LockTable, LockTableArgs
from pipeline.names import ALIAS, Names
from pipeline.package import Package, PackageArgs
from pipeline.queue import Queue, QueueArgs
from pipeline.roles import Roles, RolesArgs
from pipeline.schedule import Schedule, ScheduleArgs
from pipeline.topic import Topic, TopicArgs

COMPACT = {"source": "scheduled", "action": "compact"}
SWEEP = {"source": "scheduled", "action": "sweep"}
DESCRIBED = {"compaction": "finds deltas that no message announced", "sweep": "deletes what no kept version names"}


def declare(settings: Settings) -> None:
    """Declare all resources, and export what people and programs ask for. Raises ``ConfigError``."""
    names = _names(settings)
    bucket = Bucket("vectors", _bucket_args(names, settings))
    queue = Queue("deltas", QueueArgs(names, settings.visibility_s, QUEUE_RETENTION_S, settings.max_receive_count))
    table = LockTable("locks", LockTableArgs(names))
    roles = Roles("roles", _roles_args(names, settings))
    package = Package("code", PackageArgs(names, settings.package))
    functions = Functions(
        "functions", FunctionsArgs(names, settings, package, roles, bucket.name, queue.url, queue.arn, table.name)
    )
    compactor, sweep = functions.live["compactor"], functions.live["sweep"]
    # A compaction that failed is made up for by the next tick; a sweep only by tomorrow's.
    _schedule(names, "compaction", compactor, COMPACT, settings.compaction_schedule, enabled=settings.enable_compaction, retries=0)
    _schedule(names, "sweep", sweep, SWEEP, settings.sweep_schedule, enabled=settings.enable_sweep, retries=2)
    topic = Topic("alarms", TopicArgs(names, settings.alarm_prefix, settings.alarm_email))
    alarms = Alarms("alarms", AlarmsArgs(names, settings, topic.arn))
    dashboard = Dashboard("dashboard", DashboardArgs(names, alarms.arns))
    _export(names, bucket, queue, table, functions, topic, dashboard)


def _schedule(
    names: Names, name: str, live: aws.lambda_.Alias, payload: Mapping[str, str], when: str, *, enabled: bool, retries: int
) -> None:
    Schedule(name, ScheduleArgs(names, live, DESCRIBED[name], when, payload, enabled, retries))


def _names(settings: Settings) -> Names:
    region = pulumi.Config("aws").get("region")
    if not region:
        raise ConfigError("no region is configured; nothing was changed\n  - pulumi config set aws:region us-east-1")
    partition = aws.get_partition().partition
    return Names(pulumi.get_stack(), aws.get_caller_identity().account_id, region, partition, settings.queue_name)


def _roles_args(names: Names, settings: Settings) -> RolesArgs:
    return RolesArgs(
        names,
        imports=settings.enable_import,
        kms_key_arn=settings.kms_key_arn,
        former_kms_key_arns=settings.former_kms_key_arns,
        tracing=settings.tracing,
        log_retention_days=settings.log_retention_days,
    )


def _bucket_args(names: Names, settings: Settings) -> BucketArgs:
    return BucketArgs(
        names,
        kms_key_arn=settings.kms_key_arn,
        protect=settings.protect_data,
        force_destroy=settings.delete_data_on_destroy,
        enforce_conditional_writes=settings.enforce_conditional_writes,
        noncurrent_days=settings.noncurrent_days,
        multipart_days=settings.multipart_days,
        intelligent_tiering=settings.intelligent_tiering,
    )


def _export(
    names: Names, bucket: Bucket, queue: Queue, table: LockTable, functions: Functions, topic: Topic, dashboard: Dashboard
) -> None:
    """What ``pulumi stack output`` says."""
    pulumi.export("bucket", bucket.name)
    pulumi.export("store", pulumi.Output.concat("s3://", bucket.name))
    pulumi.export("queue_url", queue.url)
    pulumi.export("dead_letter_queue_url", queue.dead_letters.url)
    pulumi.export("lock_table", table.name)
    pulumi.export("functions", {name: function.name for name, function in functions.functions.items()})
    pulumi.export("live", {name: alias.arn for name, alias in functions.live.items()})
    pulumi.export("versions", {name: alias.function_version for name, alias in functions.live.items()})
    pulumi.export(
        "revert",
        {
            name: f"aws lambda update-alias --function-name {names.function(name)} --name {ALIAS} --function-version VERSION"
            for name in functions.functions
        },
    )
    pulumi.export("topic", topic.arn)
    pulumi.export("dashboard", dashboard.url)
