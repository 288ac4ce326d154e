"""An SQS queue of hints: sending and receiving them, how many there are, the dead-letter queue behind it, and the way back from there.

Standard queues only. A FIFO queue is refused: hints need no order, and are allowed to come twice; a FIFO queue would deliver those of one
collection one batch of ten after another, each only after the last was deleted, and cost more.

A queue is named by its URL. The URL of AWS's own says the region, which then holds whatever the environment says; the account in it may be
another one's, if that one's policy allows it. Requests go where boto3 sends them: an emulator, or an endpoint of a private network, is
named by ``AWS_ENDPOINT_URL_SQS``. The age of the oldest message is known to CloudWatch only, and is not asked for here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chromalith.aws.clients import ATTEMPTS_MAX, READ_TIMEOUT_S, client
from chromalith.aws.errors import translated
from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.model.hint import Hint

BATCH = 10
"""Messages in one request; SQS's limit."""
WAIT_S_MAX = 20
"""A long poll; SQS's limit."""
SEND_READ_S = 4
"""How long sending waits for an answer, once: a queue that hangs must not keep a process from ending. A request takes 10 to 50 ms."""
MOVED_MAX = 100_000
"""Messages that :meth:`Queue.redrive` moves by itself at most, where the service can't: at ten a request, some minutes."""

_AWS_HOST = re.compile(
    r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)$"
    r"|^([a-z0-9-]+)\.queue\.amazonaws\.com(?:\.cn)?$"
)
_NOT_OFFERED = {"InvalidAction", "UnknownOperationException", "UnknownAction", "NotImplemented"}


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received.

    Attributes:
        id: the same each time that it is delivered.
        receipt: what deletes it; of this delivery.
        body: a hint's, if all is well.
        received: how often it was delivered, this time included; 0 if the service does not tell.
    """

    id: str
    receipt: str
    body: str
    received: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue has, about; SQS's numbers lag behind by up to a minute.

    Attributes:
        visible: to be received now.
        in_flight: received, and neither deleted nor visible again.
        delayed: not visible yet.
    """

    visible: int
    in_flight: int
    delayed: int


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where messages go that were received too often.

    Attributes:
        arn: the dead-letter queue's.
        queue: the queue itself.
        receives_max: how often a message is delivered before it goes there.
    """

    arn: str
    queue: Queue
    receives_max: int


@dataclass(frozen=True, slots=True)
class Redrive:
    """A move of messages out of a dead-letter queue.

    Attributes:
        state: ``running``, ``completed``, ``cancelling``, ``cancelled`` or ``failed``.
        moved: messages so far.
        to_move: messages when it began; ``None`` if nobody counted.
        reason: why it failed.
    """

    state: str
    moved: int
    to_move: int | None
    reason: str | None = None


class Queue:
    """One standard queue. Safe to share between threads. No request is made before a method is called.

    Args:
        url: the queue's URL.
        options: where the account is, as for an ``s3://`` store (:mod:`chromalith.aws.clients`).

    Raises ``Invalid`` for what is no URL of a standard queue. The methods raise ``NotFound`` (no such queue), ``Invalid`` (not allowed, no
    credentials, no boto3) and ``Unavailable``.
    """

    def __init__(self, url: str, options: Mapping[str, object] | None = None) -> None:
        self.url, region = _checked(url)
        self._options = dict(options or {}) | ({"region": region} if region else {})
        self._lock = threading.Lock()
        self._clients: dict[bool, Any] = {}

    def __repr__(self) -> str:
        return f"Queue({self.url!r})"

    def send_batch(self, hints: Sequence[Hint]) -> int:
        """Send hints, ten in a request. Returns how many of them the queue did not take."""
        failed = 0
        for part in _in_tens(hints):
            entries = [{"Id": str(at), "MessageBody": hint.encode()} for at, hint in enumerate(part)]
            with self._asked():
                answer = self._client(sends=True).send_message_batch(QueueUrl=self.url, Entries=entries)
            failed += len(answer.get("Failed", ()))
        return failed

    def receive(self, n: int, wait_s: float = 0.0, visibility_s: float | None = None) -> list[Message]:
        """Up to ``n`` messages: those that come within ``wait_s`` (at most 20 s), and then what is there.

        What was received before the service failed is returned: nobody else could receive it for a while.

        Args:
            n: at most so many; each ten are a request.
            wait_s: for the first of them; SQS knows whole seconds.
            visibility_s: for how long nobody else receives them; ``None``: as the queue is set.
        """
        found: dict[str, Message] = {}
        wait = min(WAIT_S_MAX, max(0, round(wait_s)))
        more = {} if visibility_s is None else {"VisibilityTimeout": round(visibility_s)}
        while len(found) < n:
            request = {"QueueUrl": self.url, "MaxNumberOfMessages": min(BATCH, n - len(found)), "WaitTimeSeconds": wait, **more}
            try:
                with self._asked():
                    answer = self._client().receive_message(MessageSystemAttributeNames=["ApproximateReceiveCount"], **request)
            except Unavailable:
                if not found:
                    raise
                break
            before = len(found)
            # Of one that came twice the later receipt counts.
            found |= {each.id: each for each in map(_message, answer.get("Messages", ()))}
            if len(found) == before:
                break
            wait = 0
        return list(found.values())

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages by their receipts. Returns how many could not be; they come again."""
        failed = 0
        for part in _in_tens(receipts):
            entries = [{"Id": str(at), "ReceiptHandle": receipt} for at, receipt in enumerate(part)]
            with self._asked():
                answer = self._client().delete_message_batch(QueueUrl=self.url, Entries=entries)
            failed += len(answer.get("Failed", ()))
        return failed

    def give_back(self, receipts: Sequence[str], after_s: float = 0.0) -> int:
        """Let messages be received again ``after_s`` from now. Returns how many could not be; these wait for their visibility time."""
        failed = 0
        for part in _in_tens(receipts):
            entries = [
                {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": round(after_s)} for at, receipt in enumerate(part)
            ]
            with self._asked():
                answer = self._client().change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
            failed += len(answer.get("Failed", ()))
        return failed

    def depth(self) -> Depth:
        """How many messages there are, about."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
        found = self._attributes(*names)
        return Depth(*(int(found.get(name, 0)) for name in names))

    def dead_letters(self) -> DeadLetters | None:
        """The dead-letter queue that the queue's redrive policy names; ``None`` if it has none."""
        text = self._attributes("RedrivePolicy").get("RedrivePolicy")
        if not text:
            return None
        try:
            policy = json.loads(text)
            arn, receives_max = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
            account, name = arn.split(":")[4:6]
        except (ValueError, KeyError, TypeError) as error:
            raise Invalid(f"the redrive policy can't be read url={self.url} policy={text[:200]!r}", hint="set it anew") from error
        with self._asked():
            url = self._client().get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return DeadLetters(arn, Queue(url, self._options), receives_max)

    def purge(self) -> None:
        """Delete every message. SQS takes up to a minute for it, and allows it once a minute: else ``Unavailable``."""
        with self._asked():
            self._client().purge_queue(QueueUrl=self.url)

    def redrive(self) -> Redrive:
        """Move what is in the dead-letter queue back here. SQS does it by itself, in time; a second call while it does starts nothing.

        Where the service has no such task (emulators), the messages are moved from here: sent, then deleted, so that a crash between
        leaves one twice, which changes nothing.

        Raises ``NotFound`` if there is no dead-letter queue.
        """
        dead = self._dead_letters()
        last = self._last_move(dead)
        if last is not None and last.state == "running":
            return last
        from botocore.exceptions import ClientError

        with self._asked():
            try:
                self._client().start_message_move_task(SourceArn=dead.arn)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NOT_OFFERED:
                    raise
                return self._move(dead.queue)
        return self._last_move(dead) or Redrive("running", 0, None)

    def last_redrive(self) -> Redrive | None:
        """The last move out of the dead-letter queue; ``None`` if there was none, or none that SQS made. Raises as :meth:`redrive`."""
        return self._last_move(self._dead_letters())

    def _dead_letters(self) -> DeadLetters:
        found = self.dead_letters()
        if found is None:
            raise NotFound(f"the queue has no dead-letter queue url={self.url}", hint="give it a redrive policy")
        return found

    def _last_move(self, dead: DeadLetters) -> Redrive | None:
        from botocore.exceptions import ClientError

        with self._asked():
            try:
                found = self._client().list_message_move_tasks(SourceArn=dead.arn, MaxResults=1).get("Results", ())
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NOT_OFFERED:
                    raise
                found = ()
        return _redrive(found[0]) if found else None

    def _move(self, source: Queue) -> Redrive:
        moved = 0
        while moved < MOVED_MAX:
            found = source.receive(BATCH)
            if not found:
                break
            for each in found:
                with self._asked():
                    self._client().send_message(QueueUrl=self.url, MessageBody=each.body)
                source.delete([each.receipt])
                moved += 1
        return Redrive("completed", moved, None)

    def _attributes(self, *names: str) -> dict[str, str]:
        with self._asked():
            answer = self._client().get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names))
        return dict(answer.get("Attributes", {}))

    def _asked(self) -> Any:
        """No request of this class does harm when it is made twice, so none has an unknown ending."""
        return translated(f"queue url={self.url}")

    def _client(self, *, sends: bool = False) -> Any:
        with self._lock:
            if sends not in self._clients:
                attempts, read_timeout_s = (1, SEND_READ_S) if sends else (ATTEMPTS_MAX, READ_TIMEOUT_S)
                self._clients[sends] = client("sqs", self._options, attempts=attempts, read_timeout_s=read_timeout_s)
            return self._clients[sends]


def queue_named(url: str | None, options: Mapping[str, object] | None, configured: str | None) -> Queue | None:
    """The queue of a writer: the one that is given (empty: none), else the configured one. Makes no request.

    Raises ``Invalid`` for what is no queue's URL, and for a given one where boto3 is missing. (Where only the environment names a queue,
    a missing boto3 is told in the log: a process that only reads needs none.)
    """
    if url and importlib.util.find_spec("boto3") is None:
        raise Invalid("a queue needs boto3", hint="pip install 'chromalith[aws]'")
    named = configured if url is None else url
    return Queue(named, options) if named else None


def _checked(url: str) -> tuple[str, str | None]:
    """A queue's URL, and the region that it says. Raises ``Invalid``."""
    try:
        parts = urlsplit(url)
        path, host = parts.path.strip("/").split("/"), parts.hostname
    except ValueError:
        path, host, parts = [], None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or len(path) < 2 or not all(path[-2:]):
        raise Invalid(f"not the URL of a queue url={url!r}", hint="such as https://sqs.us-east-1.amazonaws.com/123456789012/chromadb-delta-queue")
    if path[-1].endswith(".fifo"):
        raise Invalid(f"a FIFO queue is not for hints url={url!r}", hint="make a standard queue: hints need no order, and may come twice")
    found = _AWS_HOST.search(host)
    return url, (found[1] or found[2]) if found else None


def _in_tens(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[at : at + BATCH] for at in range(0, len(values), BATCH))


def _message(value: Mapping[str, Any]) -> Message:
    received = int(value.get("Attributes", {}).get("ApproximateReceiveCount", 0))
    return Message(value["MessageId"], value["ReceiptHandle"], value["Body"], received)


def _redrive(value: Mapping[str, Any]) -> Redrive:
    return Redrive(
        str(value.get("Status", "running")).lower(),
        int(value.get("ApproximateNumberOfMessagesMoved", 0)),
        value.get("ApproximateNumberOfMessagesToMove"),
        value.get("FailureReason"),
    )
