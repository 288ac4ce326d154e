"""Every setting of a stack, with its default, its bounds and its meaning: one table for people (``docs/aws.md``) and code.

All of it is checked before any resource is declared, and everything that is wrong is said at once. A name that is not in the table is an
error too: a misspelt threshold would otherwise silently be the default.
"""

from __future__ import annotations

import difflib
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import config as raw

from pipeline.names import FUNCTIONS
from pipeline.parse import (
    Parse,
    Size,
    alarm_prefix,
    email,
    embed_name,
    flag,
    image_uri,
    key_arn,
    key_arns,
    mapping,
    one_of,
    queue_name,
    retention_days,
    schedule,
    size,
    text,
    texts,
    whole,
)

PROJECT = "chromadb-compaction"
FOLDER = Path(__file__).resolve().parents[1]
VISIBILITY_FACTOR = 6
"""What AWS asks for: a batch that was throttled is tried again and again before its messages appear a second time."""
QUEUE_RETENTION_S = 4 * 86_400
VISIBILITY_S_MAX = 43_200
STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
"""At most 30: the longest name made with it, a role's, may have 64 characters."""
MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}
"""What libraries in a zip are named after, and Lambda's names of it."""
_LIBRARY = re.compile(r"-(x86_64|aarch64)-linux-gnu\.so$")
_OURS = (
    "CHROMADB_BUCKET", "DELTA_BUCKET", "CHROMALITH_STORE", "DELTA_QUEUE_URL", "CHROMALITH_QUEUE_URL", "CHROMALITH_LEASE_TABLE",
    "CHROMALITH_CACHE_DIR", "CHROMALITH_EMBED", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL",
)  # fmt: skip
"""What the program itself tells each function: a setting of its own, or the name of a part."""


class ConfigError(Exception):
    """The configuration is wrong; nothing was declared."""


def _about(parse: Parse, meaning: str) -> dict[str, Any]:
    return {"parse": parse, "meaning": meaning}


def _setting(default: Any, parse: Parse, meaning: str) -> Any:
    return field(default=default, metadata=_about(parse, meaning))


# Sizes. A write needs little, and 300 s so that one whose reply was lost can find out how it ended (requests of up to 120 s, repeated). A
# compactor builds indexes: 3,008 MB are 1.7 CPUs, and the most that a new account may have; its disk holds the inputs and the output of one
# merge. A query gets one whole CPU; its disk is the cache: what does not fit is fetched again.
PRODUCER = Size(1_024, 300, 512)
COMPACTOR = Size(3_008, 900, 4_096)
QUERY = Size(1_769, 60, 4_096)
SWEEP = Size(1_024, 900, 512)
HEALTH = Size(512, 60, 512)
MANY = whole(1, 10**9)


# A setting's name in Pulumi's configuration is the field's name in camel case: queue_name is queueName.
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is configured. The meaning of each field is its row of the table in ``docs/aws.md``."""

    queue_name: str = _setting(
        "chromadb-delta-queue", queue_name, "name of the queue; a second stack in one account and region needs another"
    )
    alarm_prefix: str = _setting(
        "ChromaDB-Migration", alarm_prefix, "what the alarms' names begin with; a second stack in one account and region needs another"
    )
    alarm_email: str | None = _setting(None, email, "who is told of alarms; they must confirm the subscription")

    protect_data: bool = _setting(True, flag, "Pulumi refuses to delete the bucket, and leaves it where it is when the stack goes")
    delete_data_on_destroy: bool = _setting(
        False, flag, "`pulumi destroy` deletes the bucket with all data and all their versions; needs `protectData` false"
    )
    enforce_conditional_writes: bool = _setting(
        True,
        flag,
        "the bucket refuses unconditional writes of what the protocol writes conditionally; off only while another tool copies a store in",
    )
    kms_key_arn: str | None = _setting(None, key_arn, "objects are encrypted with this key; else with S3's own (AES256)")
    former_kms_key_arns: tuple[str, ...] = _setting(
        (), key_arns, "keys of older objects, which the functions go on reading after `kmsKeyArn` was changed or unset"
    )
    noncurrent_days: int = _setting(30, whole(1, 3_650), "how long overwritten and deleted objects can be brought back")
    multipart_days: int = _setting(7, whole(1, 365), "unfinished multipart uploads are aborted after this")
    intelligent_tiering: bool = _setting(
        True, flag, "S3 Intelligent-Tiering for what is above 128 KiB below `segment/` and `snapshot/`"
    )

    architecture: str = _setting("x86_64", one_of("x86_64", "arm64"), "of all functions; the zip must have been built for it")
    package_path: str = _setting("../../build/lambda.zip", text, "the zip that `make lambda` builds; relative to the program")
    compactor_image_uri: str | None = _setting(
        None, image_uri, "the compactor runs from this image instead of the zip: it has `chromadb`, and so can import Chroma directories"
    )
    embed: str | None = _setting(None, embed_name, "`CHROMALITH_EMBED`: what embeds texts, as module:function")
    layers: tuple[str, ...] = _setting((), texts, "ARNs of Lambda layers, such as one with the module of `embed`")
    environment: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_about(mapping, "further environment variables of all functions, such as `CHROMALITH_KEEP_AGE_S`"),
    )
    producer: Size = field(default=PRODUCER, metadata=_about(size(PRODUCER), "size of the producer: `memoryMb`, `timeoutS`, `storageMb`"))
    compactor: Size = field(default=COMPACTOR, metadata=_about(size(COMPACTOR), "size of the compactor"))
    query: Size = field(default=QUERY, metadata=_about(size(QUERY), "size of the query function"))
    sweep: Size = field(default=SWEEP, metadata=_about(size(SWEEP), "size of the sweep"))
    health: Size = field(default=HEALTH, metadata=_about(size(HEALTH), "size of the health check"))
    compactor_reserved_concurrency: int | None = _setting(
        None,
        whole(1, 1_000),
        "concurrency kept for the compactor, and its limit; above `queueConcurrency`, because the schedule and people need some too",
    )
    live_versions: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_about(mapping, "function → published version that `live` stays on, as in `{\"compactor\": \"7\"}`; else the newest"),
    )

    queue_batch_size: int = _setting(1_000, whole(1, 10_000), "messages that one invocation of the compactor gets at most")
    queue_window_s: int = _setting(5, whole(0, 300), "how long messages are gathered for one invocation")
    queue_concurrency: int = _setting(
        2, whole(2, 1_000), "invocations of the compactor by the queue at once; 2 is the least that Lambda takes"
    )
    max_receive_count: int = _setting(10, whole(1, 1_000), "after this many failures a message goes to the dead-letter queue")

    enable_compaction: bool = _setting(True, flag, "whether the schedule compacts; the queue does in any case")
    compaction_schedule: str = _setting("rate(15 minutes)", schedule, "when the compactor looks for deltas that no message announced")
    enable_import: bool = _setting(
        True, flag, "the compactor may make collections and write their deltas, for the migration payload; off once all is imported"
    )
    enable_sweep: bool = _setting(True, flag, "whether the schedule sweeps")
    sweep_schedule: str = _setting("rate(1 day)", schedule, "when the sweep deletes what no kept version names")

    log_retention_days: int = _setting(30, retention_days, "how long logs are kept")
    log_level: str = _setting("INFO", one_of("DEBUG", "INFO", "WARNING", "ERROR"), "of the functions' logs")
    tracing: bool = _setting(False, flag, "AWS X-Ray for all functions; costs per invocation")

    delta_backlog_messages: int = _setting(5_000, MANY, "alarm DeltaBacklog: messages visible, in two periods of 5 minutes")
    query_errors: int = _setting(10, MANY, "alarm QueryErrors: failed invocations in 5 minutes")
    oldest_delta_age_s: int = _setting(
        3_600, whole(60, 10**9), "alarm OldestDeltaAge: seconds that a delta has waited, when a compaction looked"
    )
    publish_failures: int = _setting(1, MANY, "alarm PublishFailures: failed compactions in 15 minutes")
    quarantined_deltas: int = _setting(1, MANY, "alarm Quarantine: corrupt deltas of a collection")
    dead_letters: int = _setting(1, MANY, "alarm DeadLetters: messages in the dead-letter queue")
    stalled_minutes: int = _setting(
        60, whole(10, 1_440), "alarm CompactionStalled: no compaction for so long, while deltas wait all the time; a multiple of 5"
    )
    throttles: int = _setting(10, MANY, "alarm Throttles: of all functions in 5 minutes, in two periods")

    def size(self, name: str) -> Size:
        """Of one of :data:`~pipeline.names.FUNCTIONS`."""
        found: Size = getattr(self, name)
        return found

    @property
    def package(self) -> Path:
        """Where the zip is."""
        return (FOLDER / self.package_path).resolve()

    @property
    def visibility_s(self) -> int:
        """For how long a message that was received is hidden."""
        return VISIBILITY_FACTOR * self.compactor.timeout_s


def key_of(setting: Field[Any]) -> str:
    """A field's name in Pulumi's configuration."""
    first, *rest = setting.name.split("_")
    return first + "".join(each.capitalize() for each in rest)


def settings_from(given: Mapping[str, str], stack: str) -> Settings:
    """The settings of a stack from texts by name. Raises ``ConfigError`` that names everything that is wrong."""
    known = {key_of(each): each for each in fields(Settings)}
    wrong = [f"unknown setting {name!r}{_nearest(name, known)}" for name in sorted(given.keys() - known.keys())]
    values: dict[str, Any] = {}
    for name, each in known.items():
        if name in given:
            try:
                values[each.name] = each.metadata["parse"](given[name])
            except ValueError as error:
                wrong.append(f"{name} {error}, not {given[name]!r}")
    if not STACK.fullmatch(stack):
        wrong.append(f"the stack's name is part of the bucket's: 1 to 30 lowercase letters, digits and dashes, not {stack!r}")
    settings = Settings(**values)
    wrong += _contradictions(settings)
    if wrong:
        raise ConfigError("the configuration is wrong; nothing was changed:\n" + "\n".join(f"  - {each}" for each in wrong))
    return settings


def read_settings() -> Settings:
    """The settings of the stack that Pulumi runs. Raises ``ConfigError``."""
    prefix = f"{PROJECT}:"
    # Config.get() tells what a setting is, not which there are.
    names = {key.removeprefix(prefix) for key in {**raw.get_config_env(), **raw.CONFIG.get()} if key.startswith(prefix)}
    config = pulumi.Config(PROJECT)
    return settings_from({name: config.get(name) or "" for name in names}, pulumi.get_stack())


def _contradictions(settings: Settings) -> Iterator[str]:
    if settings.protect_data and settings.delete_data_on_destroy:
        yield "deleteDataOnDestroy contradicts protectData: set protectData to false, if the data may go"
    if settings.visibility_s > VISIBILITY_S_MAX:  # not reachable with today's limit of 900 s, but that limit is AWS's to move
        yield f"compactor.timeoutS × {VISIBILITY_FACTOR} is the queue's visibility time-out, at most {VISIBILITY_S_MAX:,} s"
    waits_s = settings.max_receive_count * settings.visibility_s
    if waits_s > QUEUE_RETENTION_S:
        yield (
            f"maxReceiveCount × {VISIBILITY_FACTOR} × compactor.timeoutS = {waits_s:,} s is more than the queue keeps a message for "
            f"({QUEUE_RETENTION_S:,} s): a bad one would vanish before it reaches the dead-letter queue"
        )
    if settings.queue_batch_size > 10 and settings.queue_window_s < 1:
        yield "queueWindowS must be at least 1 where queueBatchSize is above 10"
    reserved = settings.compactor_reserved_concurrency
    if reserved is not None and reserved <= settings.queue_concurrency:
        yield f"compactorReservedConcurrency must be above queueConcurrency ({settings.queue_concurrency}), or the schedule is throttled"
    if settings.stalled_minutes % 5:
        yield f"stalledMinutes must be a multiple of 5, not {settings.stalled_minutes}"
    for name, version in settings.live_versions.items():
        if name not in FUNCTIONS or not version.isdecimal():
            yield f"liveVersions has {name!r}: {version!r}; it takes {', '.join(FUNCTIONS)}, each with the number of a published version"
    for name in sorted(settings.environment.keys() & set(_OURS)):
        yield f"environment must not set {name}: it follows from the other settings"
    yield from _wrong_package(settings)


def _wrong_package(settings: Settings) -> Iterator[str]:
    """A zip for another machine would be deployed without a complaint, and then fail at its first import."""
    where = f"packagePath: {settings.package_path}"
    try:
        with zipfile.ZipFile(settings.package) as package:
            found = {MACHINES[each[1]] for each in map(_LIBRARY.search, package.namelist()) if each is not None}
    except FileNotFoundError:
        yield f"{where} is not there; `make lambda` builds it"
    except (OSError, zipfile.BadZipFile):
        yield f"{where} is no zip that can be read; `make lambda` builds it anew"
    else:
        if found - {settings.architecture}:
            yield f"{where} was built for {', '.join(sorted(found))}, and architecture is {settings.architecture}"


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; do you mean {near[0]}?" if near else ""
