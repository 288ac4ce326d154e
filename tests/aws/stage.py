"""A bucket on a real S3 server, behind a gate, with the functions that work on it: what a test of the runtime needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.aws.gate import Gate, gate_before
from tests.aws.lambda_runtime import Function
from tests.servers import Server

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.verify import verify
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import read_current
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.wiring import Reader, Writer
from chromalith.write.writer import Receipt

DIMENSION = 4


@cache
def store_on(server: Server) -> str:
    """The URL of one store for all tests of a server: a new one is probed first, with races that take seconds."""
    return f"s3://{server.new_bucket()}"


@dataclass
class Stage:
    """Everything of one test.

    Attributes:
        server: the S3 server itself; the test looks there, past the gate.
        gate: functions go through it.
        folder: disks of sandboxes.
        name: of the collection, which is the test's own.
    """

    server: Server
    gate: Gate
    folder: Path
    name: str = ""
    cid: CollectionId = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.name or f"words-{SYSTEM_CLOCK.random_hex(8)}"
        self.url = store_on(self.server)
        self._writer = Writer(self.url, storage_options=self.server.storage_options)
        self.cid = self._writer.create(self.name).collection.id
        self.store = self._writer.session.store

    def function(self, name: str, *, disk: str = "", timeout_s: int = 60, **environment: str) -> Function:
        """``chromalith.lambdas.{name}.handler``, configured as on AWS but for where the services are."""
        variables = {"CHROMADB_BUCKET": self.url, "AWS_ENDPOINT_URL_S3": self.gate.endpoint, **environment}
        return Function(f"chromalith.lambdas.{name}.handler", variables, self.folder / (disk or name), timeout_s, f"chromadb-{name}-test")

    def write(self, *ids: str) -> Receipt:
        """One delta, past the gate."""
        return self._writer.upsert(self.name, ids=ids, embeddings=[vector(each) for each in ids], documents=list(ids))

    def ids(self) -> list[str]:
        """Of all records, as a reader sees them that has no cache."""
        with Reader(self.url, cache_dir=self.folder / SYSTEM_CLOCK.random_hex(8), storage_options=self.server.storage_options) as reader:
            return sorted(reader.get(self.name).ids)

    def manifest(self) -> Manifest:
        """Of the current version."""
        return read_current(self.store, self.cid).manifest

    def folded(self, receipts: list[Receipt]) -> list[bool]:
        """Whether the current version has folded each of these deltas."""
        found = Folded(self.manifest(), FoldedParts.from_store(self.store)).find_all([each.delta for each in receipts])
        return [run is not None for run in found]

    def record(self, number: int, **columns: Any) -> dict[str, Any]:
        """A payload of the producer with one record."""
        name = f"id-{number}"
        return {"collection": self.name, "ids": [name], "embeddings": [vector(name)], "documents": [name], **columns}

    def nearest(self, name: str) -> dict[str, Any]:
        """A payload of the query handler, for the record nearest to this one's vector."""
        return {"collection": self.name, "query_embeddings": [vector(name)], "n_results": 1}

    def keys(self) -> set[str]:
        """Of all objects of the collection."""
        return {each.key for page in self.store.list("") for each in page if self.cid in each.key}

    def deltas(self) -> int:
        """How many are in the store."""
        return len(list(list_deltas(self.store, self.cid)))

    def check(self) -> None:
        """The deep verification has no finding."""
        verify(self.store, self.cid)

    def close(self) -> None:
        self._writer.close()


def vector(name: str) -> list[float]:
    """Any, but the same each time."""
    return [float(byte) for byte in name.encode().ljust(DIMENSION, b"\0")[:DIMENSION]]


def batch(*bodies: str) -> dict[str, Any]:
    """What an SQS event source mapping hands to a function; message ids are ``m-0``, ``m-1``, …"""
    arn = "arn:aws:sqs:us-east-1:000000000000:chromadb-delta-queue"
    records = [
        {
            "messageId": f"m-{number}", "receiptHandle": f"handle-{number}", "body": body, "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "us-east-1",
        }
        for number, body in enumerate(bodies)
    ]  # fmt: skip
    return {"Records": records}


def hint(receipt: Receipt) -> str:
    """The body of the message that tells of a write."""
    return Hint(receipt.collection, receipt.delta, receipt.rows, receipt.bytes).encode()


def failed(answer: Any) -> list[str]:
    """The messages that an answer to a batch wants to see again."""
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


def error_of(answer: Any) -> tuple[str, dict[str, Any]]:
    """The class and the JSON of a typed error."""
    return answer["errorType"], json.loads(answer["errorMessage"])


@contextmanager
def staged(server: Server, folder: Path) -> Iterator[Stage]:
    """A stage with an empty collection, taken down at the end."""
    with gate_before(server.endpoint) as gate:
        stage = Stage(server, gate, folder)
        try:
            yield stage
        finally:
            stage.close()
