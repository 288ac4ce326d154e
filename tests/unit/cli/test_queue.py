"""``queue`` and ``compact --from-queue``, as a script sees them, on moto's SQS."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.docs.shapes import SECTIONS, documented, same, shape
from tests.queue_contract import bounced, hints, named_by_the_environment, new_queue, with_dead_letters
from tests.servers import Server
from tests.unit.cli.commands import EMBEDDINGS, Shell

from chromalith import Writer
from chromalith.aws.queue import Queue, Redrive
from chromalith.cli import queue_worker


@pytest.fixture
def sqs(store: str, moto: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """moto's SQS, which the environment names too (after ``store`` took the machine's settings out of it)."""
    yield from named_by_the_environment(moto, monkeypatch)


@pytest.fixture
def queue(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """An empty queue that the environment names."""
    queue = new_queue(sqs)
    monkeypatch.setenv("CHROMALITH_QUEUE_URL", queue.url)
    return queue


def written(store: str, count: int = 3) -> None:
    """So many calls, each told to the queue of the environment."""
    with Writer(store) as writer:
        writer.create("words", get_or_create=True)
        for at in range(count):
            writer.upsert("words", ids=[f"id-{at}"], embeddings=EMBEDDINGS[:1])


def test_status_counts_here_and_behind(shell: Shell, sqs: Any) -> None:
    """The numbers of the queue and of its dead-letter queue; without one it says so."""
    queue = new_queue(sqs)
    queue.send_batch(hints(3))
    queue.receive(1)
    said = shell("queue", "status", "--queue-url", queue.url, "--json").json
    assert said == {"queue": queue.url, "visible": 2, "in_flight": 1, "delayed": 0, "dead_letters": None}
    assert "no dead-letter queue" in shell("queue", "status", "--queue-url", queue.url).err


def test_the_documented_shapes(shell: Shell, sqs: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/cli.md says of these commands' JSON, and of a worker's batch."""
    monkeypatch.setattr(Queue, "last_redrive", lambda self: Redrive("completed", 7, 7))  # moto has no move of dead letters
    monkeypatch.setattr(Queue, "redrive", lambda self: Redrive("running", 0, 7))
    queue, _ = with_dead_letters(sqs)
    monkeypatch.setenv("CHROMALITH_QUEUE_URL", queue.url)
    for name in ("status", "purge", "redrive"):
        assert same(shape(shell("queue", name, "--json").json), documented(f"queue {name}")), name
    written(store, 1)
    sqs.send_message(QueueUrl=queue.url, MessageBody="poison")
    batch = re.findall(r"```json\n(.*?)```", SECTIONS["compact"], re.DOTALL)[1]
    assert same(shape(shell("compact", "--from-queue", "--once", "--json").json), shape(json.loads(batch)))


def test_purge_is_a_dry_run_without_yes(shell: Shell, queue: Queue) -> None:
    """Counting deletes nothing, and says what deleting would mean; with --yes the messages are gone."""
    queue.send_batch(hints(3))
    said = shell("queue", "purge")
    assert "would_purge" in said.out
    assert "stays in the store" in said.err
    assert queue.depth().visible == 3
    assert shell("queue", "purge", "--yes", "--json").json["result"] == "purged"
    assert queue.depth().visible == 0


def test_purge_of_dead_letters(shell: Shell, sqs: Any) -> None:
    """Only those go; a queue without them is told so."""
    queue, dead = with_dead_letters(sqs)
    bounced(queue, dead, 2)
    queue.send_batch(hints(1))
    said = shell("queue", "status", "--queue-url", queue.url)
    assert said.code == 0
    assert dead.url in said.out
    assert "could not be asked" in said.err  # moto does not know the moves of dead letters; the numbers are told all the same
    assert shell("queue", "purge", "--dead-letters", "--yes", "--queue-url", queue.url, "--json").json["queue"] == dead.url
    assert (queue.depth().visible, dead.depth().visible) == (1, 0)
    assert shell("queue", "purge", "--dead-letters", "--queue-url", dead.url).code == 2


def test_without_a_queue(shell: Shell, words: str) -> None:
    """No queue, a wrong one, and options that don't go together are wrong usage, with a hint."""
    for arguments in (("queue", "status"), ("compact", "--from-queue"), ("queue", "purge", "--queue-url", "https://x/1/q.fifo")):
        said = shell(*arguments, "--json")
        assert (said.code, said.error["kind"]) == (2, "invalid")
    url = ("--queue-url", "https://sqs.us-east-1.amazonaws.com/123456789012/q")
    for arguments in (("words", "--from-queue", *url), ("--watch", "--from-queue", *url), ("--once",), url):
        assert shell("compact", *arguments).code == 2


def test_a_queue_that_is_not_there(shell: Shell, queue: Queue, sqs: Any) -> None:
    """It is said, with exit code 1, by each command."""
    sqs.delete_queue(QueueUrl=queue.url)
    for arguments in (("queue", "status"), ("queue", "purge"), ("queue", "redrive"), ("compact", "--from-queue", "--once")):
        said = shell(*arguments, "--json")
        assert (said.code, said.error["kind"]) == (1, "not_found")


def test_a_worker_compacts_what_it_is_told_of(shell: Shell, queue: Queue, store: str) -> None:
    """Writers tell, the worker compacts once for all of it, and the messages are gone; the next time there is nothing."""
    written(store)
    said = shell("compact", "--from-queue", "--once", "--json").json
    assert (said["messages"], said["done"], said["undeleted"], said["failed"]) == (3, 3, 0, [])
    assert [(each["collection"], each["deltas_folded"], each["published"]) for each in said["outcomes"]] == [("words", 3, [1])]
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (0, 0)
    again = shell("compact", "--from-queue", "--once")
    assert (again.code, again.out) == (0, "")


def test_what_is_no_hint_comes_again(shell: Shell, queue: Queue, store: str, sqs: Any) -> None:
    """A worker deletes what is done, and tells of the rest, which it gives back."""
    written(store, 1)
    sqs.send_message(QueueUrl=queue.url, MessageBody="poison")
    said = shell("compact", "--from-queue", "--once")
    assert "1 of 2 messages done" in said.out
    assert "not a hint" in said.err
    depth = queue.depth()
    assert depth.visible + depth.in_flight == 1


def test_a_worker_that_is_interrupted_gives_back(
    shell: Shell, queue: Queue, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle, it leaves its messages to others at once, and ends as an interrupted command does."""
    written(store, 2)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queue_worker, "consume", interrupted)
    assert shell("compact", "--from-queue").code == 130
    assert len(queue.receive(10)) == 2


def test_a_worker_goes_on_until_it_is_stopped(queue: Queue, store: str) -> None:
    """Without --once it waits for what comes, and ends when it is interrupted."""
    command = [sys.executable, "-m", "chromalith.cli.app", "compact", "--from-queue", "--json"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert worker.stdout is not None
        written(store, 1)
        assert '"done": 1' in worker.stdout.readline()
        written(store, 1)
        assert '"done": 1' in worker.stdout.readline()
        time.sleep(0.2)
        worker.send_signal(signal.SIGINT)
        out, err = worker.communicate(timeout=40)
        assert (worker.returncode, out) == (130, "")
        assert "waiting for hints" in err
    finally:
        worker.kill()
        worker.wait()


def test_a_writer_tells_the_queue_of_the_environment_and_a_reader_needs_none(
    shell: Shell, queue: Queue, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each acknowledged call is one message with its numbers; an empty URL is none."""
    import chromalith
    from chromalith.model.hint import Hint

    with Writer(store) as writer:
        writer.create("words")
        receipts = [writer.upsert("words", ids=[str(at)], embeddings=EMBEDDINGS[:1]) for at in range(12)]
    told = {Hint.decode(each.body) for each in queue.receive(20, 1)}
    assert told == {Hint(each.collection, each.delta, each.rows, each.bytes) for each in receipts}
    with Writer(store, queue_url="") as writer:
        writer.upsert("words", ids=["x"], embeddings=EMBEDDINGS[:1])
    with chromalith.Reader(store) as reader:
        assert reader.count("words") == 13
        assert reader.session.notifier is None
    assert queue.depth().visible == 0
    client = chromalith.Client(store)
    client.get_collection("words").upsert(ids=["y"], embeddings=EMBEDDINGS[:1])
    client.close()
    assert len(queue.receive(5, 1)) == 1


def test_the_guides_function_says_whether_it_was_queued(queue: Queue, store: str, sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``queued`` is true only once the queue has it; a queue that is gone fails nothing; a wrong URL fails before anything is written."""
    import chromalith
    from chromalith.errors import Invalid

    def produce(**more: Any) -> Any:
        return chromalith.produce_embedding_delta(["a"], EMBEDDINGS[:1], ["x"], bucket=store, **more)["queued"]

    monkeypatch.setattr("chromalith.guide.HAND_OVER_S", 30.0)  # a busy machine may take longer than a caller should wait
    assert produce() is True
    assert produce(queue_url="") is False
    other = new_queue(sqs)
    monkeypatch.setenv("DELTA_QUEUE_URL", other.url)
    assert produce() is True
    assert (queue.depth().visible, other.depth().visible) == (1, 1)
    sqs.delete_queue(QueueUrl=other.url)
    assert produce() is False
    before = chromalith.query_snapshot_count(bucket=store)
    with pytest.raises(Invalid):
        produce(queue_url="https://x/1/q.fifo")
    assert chromalith.query_snapshot_count(bucket=store) == before == 1


