"""What the processes of the pipeline's test do. They are spawned, so it must be importable, and must not import pytest.

Each writes down what it did in a file of its own, line by line: what the test believes is what a producer was told, and nothing else.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIMENSION = 8
IDS = 60
"""In all of a collection: few, so that producers overwrite and delete each other's records."""


@dataclass(frozen=True)
class Job:
    """What all processes of one run share.

    Attributes:
        environment: where the store, the queue and the table are, for handlers and library alike.
        folder: where they write down what they did.
        seed: of everything.
        collections: names.
        calls, rows: of each producer, and of each call.
    """

    environment: dict[str, str]
    folder: Path
    seed: int
    collections: tuple[str, ...]
    calls: int
    rows: int

    def take_up(self, name: str) -> random.Random:
        """Make this process one of the run; its own chance."""
        os.environ.update(self.environment)
        os.environ["CHROMALITH_CACHE_DIR"] = str(self.folder / f"cache-{name}")
        os.dup2(os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT), 1)  # a function's log and metrics, line by line
        return random.Random(f"{self.seed} {name}")


@dataclass(frozen=True)
class Call:
    """One call that was acknowledged."""

    collection: str
    op: str
    delta: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: tuple[tuple[float, ...], ...]


Act = Callable[[str, str, list[str], list[str], list[list[float]]], str]
"""Collection, operation, ids, texts, vectors: the id of the delta that was acknowledged."""


def produce_by_handler(job: Job, number: int) -> None:
    """Write calls through the producer's function."""
    chance = job.take_up(f"producer-{number}")
    from tests.aws.pump import Context

    from chromalith.lambdas.producer import handler

    def act(collection: str, op: str, ids: list[str], texts: list[str], vectors: list[list[float]]) -> str:
        context = Context(f"{chance.getrandbits(128):032x}", function_name="chromadb-producer-test")
        payload: dict[str, Any] = {"collection": collection, "op": op, "ids": ids}
        if op != "delete":
            payload |= {"documents": texts, "embeddings": vectors, "metadatas": [{"text": text} for text in texts]}
        answer = handler(json.loads(json.dumps(payload)), context)
        assert answer["status"] == "success", answer
        return str(answer["delta_id"])

    _produce(job, number, chance, act)


def produce_by_writer(job: Job, number: int) -> None:
    """Write calls through the library's writer. It ends like one that is killed: hints that it still had are lost."""
    chance = job.take_up(f"producer-{number}")
    from chromalith.wiring import Writer

    writer = Writer(queue_url=os.environ["CHROMALITH_QUEUE_URL"])

    def act(collection: str, op: str, ids: list[str], texts: list[str], vectors: list[list[float]]) -> str:
        if op == "delete":
            return str(writer.delete(collection, ids=ids).delta)
        metadatas = [{"text": text} for text in texts]
        return str(writer.upsert(collection, ids=ids, documents=texts, embeddings=vectors, metadatas=metadatas).delta)

    _produce(job, number, chance, act)
    os._exit(0)


def _produce(job: Job, number: int, chance: random.Random, act: Act) -> None:
    with (job.folder / f"acknowledged-{number}.jsonl").open("w") as log:
        for call in range(job.calls):
            collection = chance.choice(job.collections)
            op = "delete" if chance.random() < 0.15 else "upsert"
            ids = [f"id-{each:03d}" for each in chance.sample(range(IDS), job.rows)]
            texts = [f"{name} by {number} in call {call}" for name in ids]
            vectors = [[float(chance.randrange(-1000, 1000)) for _ in range(DIMENSION)] for _ in ids]
            delta = act(collection, op, ids, texts, vectors)
            log.write(json.dumps([collection, op, delta, ids, texts, vectors]) + "\n")
            log.flush()
            time.sleep(chance.uniform(0, 0.1))


def acknowledged(job: Job) -> list[Call]:
    """What all producers were told."""
    found = []
    for path in sorted(job.folder.glob("acknowledged-*.jsonl")):
        for line in path.read_text().splitlines():
            collection, op, delta, ids, texts, vectors = json.loads(line)
            found.append(Call(collection, op, delta, tuple(ids), tuple(texts), tuple(map(tuple, vectors))))
    return found


def pump(job: Job, number: int, silenced: tuple[str, ...], stop: Any) -> None:
    """Deliver messages to the compactor's function until told to stop, and then until the queue is empty."""
    chance = job.take_up(f"pump-{number}")
    from tests.aws.pump import Pump, Weather

    from chromalith.aws.clients import client
    from chromalith.lambdas.compactor import handler

    url = os.environ["DELTA_QUEUE_URL"]
    mapping = Pump(client("sqs"), url, handler, chance, Weather(silenced=silenced))
    quiet = 0
    while quiet < 3:
        delivered = mapping.round()
        quiet = quiet + 1 if stop.is_set() and not delivered and _empty(mapping.sqs, url) else 0
        if not delivered:
            time.sleep(0.2)
    (job.folder / f"pump-{number}.json").write_text(json.dumps({"seen": mapping.seen, "errors": mapping.errors}))


def _empty(sqs: Any, url: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    depth = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return all(int(depth[name]) == 0 for name in names)
