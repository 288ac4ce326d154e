"""What everything is called: the guide's names, and the ARNs that follow from them.

They are plain texts, known before anything exists, so that each policy can be written, printed and tested as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

FUNCTIONS = ("producer", "compactor", "query", "sweep", "health")
"""Each is ``chromalith.lambdas.<name>``, has a role of its own, and is called ``chromadb-<name>-<stack>``."""

ALIAS = "live"
"""What everybody invokes: moving it to another published version is how a deploy is reverted."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one stack.

    Attributes:
        stack: of Pulumi.
        account, region, partition: where it stands; the partition is ``aws`` almost everywhere.
        queue: of deltas.
    """

    stack: str
    account: str
    region: str
    partition: str
    queue: str

    @property
    def service(self) -> str:
        """The one dimension of all metrics of this stack."""
        return f"chromalith-{self.stack}"

    @property
    def bucket(self) -> str:
        return f"chromadb-vectors-{self.stack}-{self.account}"

    @property
    def code_bucket(self) -> str:
        return f"chromadb-code-{self.stack}-{self.account}"

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.queue}-dlq"

    @property
    def lock_table(self) -> str:
        return f"chromadb-lock-{self.stack}"

    @property
    def topic(self) -> str:
        return f"chromadb-alarms-{self.stack}"

    @property
    def dashboard(self) -> str:
        return f"ChromaDB-{self.stack}"

    def function(self, name: str) -> str:
        """``name`` is one of :data:`FUNCTIONS`."""
        return f"chromadb-{name}-{self.stack}"

    def role(self, name: str) -> str:
        """Of a function. IAM has no regions, so a stack in a second region of one account is told apart here."""
        return f"chromadb-{name}-{self.stack}-{self.region}"

    def rule(self, name: str) -> str:
        """Of a schedule."""
        return f"chromadb-{name}-{self.stack}"

    def log_group(self, name: str) -> str:
        return f"/aws/lambda/{self.function(name)}"

    # -- ARNs ----------------------------------------------------------------------------------------------------------

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    def objects(self, *patterns: str) -> list[str]:
        """The ARNs of the objects whose keys match any of ``patterns``."""
        return [f"{self.bucket_arn}/{pattern}" for pattern in patterns]

    @property
    def code_bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.code_bucket}"

    @property
    def queue_arn(self) -> str:
        return self._regional("sqs", self.queue)

    @property
    def dead_letter_queue_arn(self) -> str:
        return self._regional("sqs", self.dead_letter_queue)

    @property
    def lock_table_arn(self) -> str:
        return self._regional("dynamodb", f"table/{self.lock_table}")

    @property
    def topic_arn(self) -> str:
        return self._regional("sns", self.topic)

    def log_streams_arn(self, name: str) -> str:
        """Of the log group of a function and the streams in it: IAM knows the making of a stream as an action on the group."""
        return self._regional("logs", f"log-group:{self.log_group(name)}:*")

    def alarm_arn(self, name: str) -> str:
        """Of an alarm, or of those that a pattern matches."""
        return self._regional("cloudwatch", f"alarm:{name}")

    def _regional(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"
