"""Hints leave beside the writes: none is ever waited for by a write, and each that is not sent is counted."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chromalith.clock import SYSTEM_CLOCK
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.observe.events import DeltaWritten, Event, HintsFailed, Looked
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.testing.in_line import InLineExecutor
from chromalith.write.notify import BATCH, Notifier

CID = CollectionId("00000000-0000-4000-8000-000000000000")
LONG_S = 30.0


def written(number: int) -> DeltaWritten:
    return DeltaWritten(CID, DeltaId(number, "a" * 32, number, "b" * 16), 1, 100)


class Gate:
    """A queue that takes nothing until it is opened."""

    def __init__(self, failed: int = 0) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self.batches: list[list[Hint]] = []
        self.failed = failed

    def __call__(self, hints: Sequence[Hint]) -> int:
        self.asked.set()
        assert self.open.wait(LONG_S)
        self.batches.append(list(hints))
        return self.failed


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.open.set()  # else its thread would keep this process from ending


def lost(events: Sequence[Event]) -> int:
    return sum(event.count for event in events if isinstance(event, HintsFailed))


def test_each_write_is_told_once_and_other_events_are_not() -> None:
    """What was written is told, with its numbers; a compaction's events are none of the queue's business."""
    sent: list[Hint] = []
    notifier = Notifier(lambda hints: sent.extend(hints) or 0, executor=lambda n, name: InLineExecutor())
    notifier(Looked(3))
    notifier(written(1))
    notifier(written(2))
    assert [(hint.collection, hint.delta.counter, hint.rows, hint.bytes) for hint in sent] == [(CID, 1, 1, 100), (CID, 2, 1, 100)]


def test_what_waits_shares_requests_of_ten(gate: Gate) -> None:
    """While one request is under way, what comes is gathered; then ten go at a time, in their order."""
    notifier = Notifier(gate)
    for number in range(26):
        notifier(written(number))
        assert gate.asked.wait(LONG_S)
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert [len(batch) for batch in gate.batches] == [1, BATCH, BATCH, 5]
    assert [hint.delta.counter for batch in gate.batches for hint in batch] == list(range(26))
    notifier.close()


def test_a_full_buffer_drops_and_counts(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound, a hint is dropped in the writer's own thread; the log says it once."""
    events: list[Event] = []
    notifier = Notifier(gate, observe=events.append, hints_max=3)
    notifier(written(0))
    assert gate.asked.wait(LONG_S)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 8):
            notifier(written(number))
    assert lost(events) == 4
    assert len(caplog.records) == 1
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert sum(map(len, gate.batches)) == 4
    notifier.close()


@pytest.mark.parametrize("error", [OSError("no route"), ValueError(), TimeoutError("slow")])
def test_a_failing_queue_fails_no_write_and_is_counted(error: Exception) -> None:
    """What the sender raises is counted for the whole batch; the next hint is tried again."""
    events: list[Event] = []

    def send(hints: Sequence[Hint]) -> int:
        raise error

    notifier = Notifier(send, observe=events.append, executor=lambda n, name: InLineExecutor())
    notifier(written(1))
    notifier(written(2))
    assert [(event.count, bool(event.reason)) for event in events if isinstance(event, HintsFailed)] == [(1, True), (1, True)]
    assert notifier.flush(0) == 0
    assert not notifier.handed_over(written(1).delta, 0)


def test_a_session_tells_of_what_it_wrote_and_of_what_it_could_not_tell() -> None:
    """The session's observer hears of each write, and of each hint that was not sent; the writes are durable."""
    events: list[Event] = []

    def send(hints: Sequence[Hint]) -> int:
        raise OSError("no route")

    with Session(MemoryStore(SYSTEM_CLOCK), hints_to=send, observe=events.append) as session:
        cid = session.catalog.create("default_tenant", "default_database", "words", configuration={"hnsw": {"space": "l2"}}).collection.id
        for name in "abc":
            session.writer.write(cid, "upsert", [name], [[1.0]])
        assert session.notifier is not None
        assert session.notifier.flush(LONG_S) == 0
        assert session.view(cid).count() == 3
    assert sum(isinstance(event, DeltaWritten) for event in events) == lost(events) == 3


def test_a_part_of_a_batch_that_failed_is_counted(gate: Gate) -> None:
    """Of a batch only those are counted that the queue did not take; but it can't be said which, so none is called handed over."""
    events: list[Event] = []
    gate.failed = 2
    notifier = Notifier(gate, observe=events.append)
    for number in range(5):
        notifier(written(number))
        assert gate.asked.wait(LONG_S)
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert lost(events) == 3  # the first, alone in its batch, and two of the other four
    assert not any(notifier.handed_over(written(number).delta, 0) for number in range(5))
    notifier.close()


def test_an_observer_that_raises_breaks_nothing(gate: Gate) -> None:
    """A metric that can't be counted keeps neither the writer nor the sending thread from going on."""

    def observe(event: Event) -> None:
        raise RuntimeError("no")

    gate.failed = 1
    gate.open.set()
    notifier = Notifier(gate, observe=observe)
    notifier(written(1))
    assert notifier.flush(LONG_S) == 0
    notifier(written(2))
    assert notifier.flush(LONG_S) == 0
    assert len(gate.batches) == 2
    notifier.close()


def test_each_hint_of_many_threads_is_sent_or_counted() -> None:
    """Whatever fails and whatever is dropped: what was sent and what was counted add up to what was written, and nothing is sent twice."""
    lost_in: list[int] = []
    taken: list[Hint] = []
    requests: list[int] = []

    def send(hints: Sequence[Hint]) -> int:
        requests.append(len(hints))
        if len(requests) % 3 == 0:
            raise OSError("away")
        if len(requests) % 3 == 1:
            taken.extend(hints[1:])
            return 1
        taken.extend(hints)
        return 0

    notifier = Notifier(send, observe=lambda event: lost_in.append(getattr(event, "count", 0)), hints_max=40)
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(notifier, [written(number) for number in range(3_000)]))
    assert notifier.flush(LONG_S) == 0
    notifier.close()
    assert len({hint.delta for hint in taken}) == len(taken)
    assert len(taken) + sum(lost_in) == 3_000
    assert max(requests) <= BATCH


def test_what_was_not_sent_is_counted_before_a_flush_ends() -> None:
    """A function writes its metrics after the flush, and is frozen then: what is counted later would be counted in another invocation."""
    counted = threading.Event()

    def observe(event: Event) -> None:
        threading.Event().wait(0.2)  # as slow as an observer may be at most
        counted.set()

    def send(hints: Sequence[Hint]) -> int:
        raise OSError("away")

    notifier = Notifier(send, observe=observe)
    notifier(written(1))
    assert notifier.flush(LONG_S) == 0
    assert counted.is_set()
    notifier.close()


def test_flush_says_what_is_left(gate: Gate) -> None:
    """A flush that runs out of time leaves the hints where they are, and says how many: they go when the queue answers."""
    notifier = Notifier(gate)
    for number in range(3):
        notifier(written(number))
    assert notifier.flush(0.05) == 3
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert sum(map(len, gate.batches)) == 3
    notifier.close()


def test_handed_over_is_known_or_no(gate: Gate) -> None:
    """A hint counts as handed over only once the queue took it; after a wait in vain, the next one does not wait."""
    notifier = Notifier(gate)
    notifier(written(1))
    assert not notifier.handed_over(written(1).delta, 0.05)
    notifier(written(2))
    assert not notifier.handed_over(written(2).delta, 10 * LONG_S)  # a test's time-out would end a wait
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert notifier.handed_over(written(1).delta, 0)
    assert notifier.handed_over(written(2).delta, 0)
    assert not notifier.handed_over(written(3).delta, 0)
    notifier.close()


def test_close_counts_what_was_not_sent(gate: Gate) -> None:
    """What waits when it is closed, and what comes later, is counted; closing again does nothing."""
    events: list[Event] = []
    notifier = Notifier(gate, observe=events.append)
    notifier(written(0))
    assert gate.asked.wait(LONG_S)
    notifier(written(1))
    notifier.close(0.05)
    assert lost(events) == 1
    notifier(written(2))
    notifier.close()
    assert lost(events) == 2
    gate.open.set()


def test_an_in_line_executor_that_waits_is_asked() -> None:
    """Without threads, what was put off is done when a flush asks for it: so a simulation stays one thread."""
    sent: list[Hint] = []
    notifier = Notifier(lambda hints: sent.extend(hints) or 0, executor=lambda n, name: InLineExecutor(lambda: False))
    for number in range(25):
        notifier(written(number))
    assert not sent
    assert notifier.flush(LONG_S) == 0
    assert len(sent) == 25


def test_a_forked_child_does_nothing(gate: Gate) -> None:
    """In a forked process nothing is sent, nothing is waited for, and no lock is taken that a thread of the parent may hold."""
    notifier = Notifier(gate)
    notifier(written(1))
    assert gate.asked.wait(LONG_S)
    with notifier._lock:  # as another thread of the parent might, at the moment of the fork
        child = forked()
        if child == 0:
            signal_alarm()
            notifier(written(2))
            fine = notifier.flush(LONG_S) == 0 and not notifier.handed_over(written(1).delta, LONG_S)
            notifier.close()
            os._exit(0 if fine else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    gate.open.set()
    assert notifier.flush(LONG_S) == 0
    assert sum(map(len, gate.batches)) == 1
    notifier.close()


def forked() -> int:
    """What must not be done is done here, to see that it does no harm. Newer Pythons warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def signal_alarm() -> None:
    """End a child that hangs."""
    signal.alarm(20)


ENDING = """
import sys, time
from chromalith.observe.events import HintsFailed
from chromalith.write.notify import Notifier
from tests.unit.write.test_notify import written

def send(hints):
    time.sleep(float(sys.argv[1]))
    print("sent", len(hints), flush=True)
    return 0

notifier = Notifier(send, observe=lambda event: print("lost", event.count, flush=True))
for number in range(int(sys.argv[2])):
    notifier(written(number))
print("written", flush=True)
"""


def ended(*arguments: str) -> list[str]:
    """What a process printed that ends right after its last write."""
    command = [sys.executable, "-c", ENDING, *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.split("\n")[:-1]


def test_a_process_that_ends_sends_what_waits() -> None:
    """Hints that wait when a process ends without closing anything are sent on its way out."""
    lines = ended("0.01", "25")
    assert sum(int(line.split()[1]) for line in lines if line.startswith("sent")) == 25
    assert not any(line.startswith("lost") for line in lines)


def test_a_process_that_ends_does_not_wait_for_a_slow_queue() -> None:
    """A queue that takes a second a request is given two or three, and the rest is counted, not sent."""
    lines = ended("1", "200")
    sent = sum(int(line.split()[1]) for line in lines if line.startswith("sent"))
    dropped = sum(int(line.split()[1]) for line in lines if line.startswith("lost"))
    assert sent + dropped == 200
    assert dropped > 100


def test_a_writer_goes_on_while_sqs_hangs() -> None:
    """With an endpoint that takes connections and never answers, writes are acknowledged, and the process ends."""
    script = """
import chromalith
with chromalith.Writer("memory://hangs", queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/q") as writer:
    writer.create("words")
    for n in range(20):
        writer.upsert("words", ids=[str(n)], embeddings=[[1.0, 2.0]])
    print("written", flush=True)
"""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(64)
        environment = os.environ | {
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr
    assert "hints were not sent" in done.stderr
