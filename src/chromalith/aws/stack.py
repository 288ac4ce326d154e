"""One deployed stack: what its parts are called, and who asks. The names are those that ``infra/chromadb_compaction`` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chromalith.aws.clients import client
from chromalith.aws.errors import translated

ALIAS = "live"
"""What everybody invokes: a deploy, or its reverting, moves it to another published version."""
QUEUE = "chromadb-delta-queue"
ROLES = ("producer", "compactor", "query")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as AWS sees it."""

    account: str
    arn: str
    region: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The names of one stack.

    Attributes:
        name: as for ``pulumi stack select``.
        functions: by role: ``producer``, ``compactor``, ``query``.
        alias: which of the functions' aliases is invoked; ``None``: their newest code.
        bucket, queue: names.
    """

    name: str
    functions: Mapping[str, str]
    alias: str | None
    bucket: str
    queue: str

    @property
    def topic(self) -> str:
        """That alarms are told to."""
        return f"chromadb-alarms-{self.name}"

    @property
    def service(self) -> str:
        """The one dimension of its metrics."""
        return f"chromalith-{self.name}"


def caller(options: Mapping[str, object] | None = None) -> Caller:
    """Who the credentials belong to; needs no permission. Raises ``Invalid`` (none, expired, no region), ``Unavailable``."""
    sts = client("sts", options)
    with translated("the caller's identity"):
        found = sts.get_caller_identity()
    return Caller(found["Account"], found["Arn"], sts.meta.region_name)


def stack(
    name: str,
    account: str,
    *,
    functions: Mapping[str, str | None],
    alias: str | None = ALIAS,
    bucket: str | None = None,
    queue: str | None = None,
) -> Stack:
    """The names of a stack of this account, but for those that are given. Asks nobody."""
    return Stack(
        name,
        {role: functions.get(role) or f"chromadb-{role}-{name}" for role in ROLES},
        alias,
        bucket or f"chromadb-vectors-{name}-{account}",
        queue or QUEUE,
    )


def queue_url(name: str, options: Mapping[str, object] | None = None) -> str:
    """The URL of a queue. Raises ``NotFound``, ``Invalid``, ``Unavailable``."""
    sqs = client("sqs", options)
    with translated(f"queue={name}"):
        return str(sqs.get_queue_url(QueueName=name)["QueueUrl"])
