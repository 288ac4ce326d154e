"""The demo's processes: writers that embed and write, and a reader that was not there when it was written.

They are spawned, and know of each other only through the store; the queue back to the demo carries what the bar shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue

from chromalith.clock import SYSTEM_CLOCK
from chromalith.wiring import Reader, Writer

CALL_RECORDS = 200


@dataclass(frozen=True, slots=True)
class Wrote:
    """One acknowledged call."""

    worker: int
    ids: tuple[str, ...]
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """A process ended well."""

    worker: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A process gave up."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Saw:
    """What the second reader saw: how many records, and for each query the ids and distances of the hits."""

    count: int
    ids: list[list[str]]
    distances: list[list[float]]


Message = Wrote | Done | Failed | Saw


def write(url: str, collection: str, worker: int, workers: int, texts_max: int, messages: SimpleQueue[Message]) -> None:
    """Embed one share of the texts and upsert it, ``CALL_RECORDS`` a call. The body of a writer process."""
    from chromalith.cli.demo_texts import share
    from chromalith.cli.embedding import wordllama

    try:
        embed = wordllama()
        texts = share(worker, workers, texts_max)
        with Writer(url) as writer:
            while batch := list(itertools.islice(texts, CALL_RECORDS)):
                vectors = embed([text.embedded for text in batch])
                began_s = SYSTEM_CLOCK.monotonic_s()
                receipt = writer.upsert(
                    collection,
                    ids=[text.id for text in batch],
                    embeddings=vectors,
                    documents=[text.text for text in batch],
                    metadatas=[
                        {"kind": text.kind, "module": text.module, "length": len(text.text), "writer": worker}
                        for text in batch
                    ],
                )
                took_s = SYSTEM_CLOCK.monotonic_s() - began_s
                messages.put(Wrote(worker, tuple(text.id for text in batch), receipt.bytes, took_s))
        messages.put(Done(worker))
    except Exception as error:
        messages.put(Failed(worker, f"{type(error).__name__}: {error}"))


def read(
    url: str,
    collection: str,
    cache_dir: str,
    queries: Sequence[tuple[list[float], dict[str, object] | None]],
    messages: SimpleQueue[Message],
) -> None:
    """Open the store anew, without chromadb, and answer ``queries``: pairs of a vector and a filter. The body of the reader process."""
    try:
        with Reader(url, cache_dir=cache_dir) as reader:
            found = [
                reader.query(collection, query_embeddings=vector, where=where, n_results=3)[0]
                for vector, where in queries
            ]
            messages.put(
                Saw(
                    reader.count(collection),
                    [hits.ids for hits in found],
                    [list(hits.distances or ()) for hits in found],
                )
            )
    except Exception as error:
        messages.put(Failed(-1, f"{type(error).__name__}: {error}"))
