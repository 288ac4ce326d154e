"""Records are made equal on every kind of side, whatever they were before: Chroma's verbs merge, so this must be tried on the real ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.migrate.memory_side import MemorySide
from tests.servers import ChromaServer

from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.equal import make_equal
from chromalith.migrate.opening import open_side
from chromalith.migrate.port import Side, SideCollection
from chromalith.migrate.records import differences
from chromalith.transfer.port import Batch, Definition

KINDS = ["memory", "directory", "server", "chromalith"]


@pytest.fixture(params=KINDS)
def second(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Side]:
    """A side of each kind, empty."""
    if request.param == "memory":
        yield MemorySide("memory")
        return
    if request.param == "directory":
        side = open_side(f"chroma:{tmp_path}", write=True)
    elif request.param == "server":
        server: ChromaServer = request.getfixturevalue("chroma_server")
        side = open_side(f"{server.url}?database={server.new_database()}")
    else:
        side = open_side(f"memory://equal-{SYSTEM_CLOCK.random_hex(8)}")
    yield side
    side.close()


EMBEDDINGS: list[list[float]] = [[1.0, 2.0], [0.1, -3.0]]
TEXTS = [None, "", "text", "länger \N{GRINNING FACE}"]
METADATA: list[dict[str, Any] | None] = [
    None,
    {"k": 1},
    {"k": 1.0},
    {"k": "1"},
    {"k": True},
    {"k": ["a", "b"]},
    {"other": "x", "k": 2},
]


def records() -> Batch:
    """Every combination of what a record may have or lack; each id says which."""
    rows = list(itertools.product(range(len(EMBEDDINGS)), TEXTS, [None, "s3://uri"], METADATA))
    return Batch(
        [f"r{n}" for n in range(len(rows))],
        np.array([EMBEDDINGS[row[0]] for row in rows], np.float32),
        [row[1] for row in rows],
        [row[2] for row in rows],
        [None if row[3] is None else dict(row[3]) for row in rows],
    )


def part(batch: Batch, rows: list[int], ids: list[str]) -> Batch:
    """These rows under other ids."""
    return Batch(
        ids,
        batch.embeddings[rows],
        [batch.documents[row] for row in rows],
        [batch.uris[row] for row in rows],
        [batch.metadatas[row] for row in rows],
    )


def written(collection: SideCollection, batch: Batch) -> None:
    collection.write("add", batch.ids, batch.embeddings, batch.documents, batch.uris, batch.metadatas)


@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_anything_becomes_anything(second: Side, space: str) -> None:
    """Of records that are anything, and records that are absent, each becomes each other one, and others are not touched."""
    collection = second.create("words", Definition.of_space(space))
    every = records()
    count = len(every)
    steps = [0, 1, 2, 3, 5, 7, 14, 28, 56] if second.place != "memory" else list(range(count))
    before: list[int] = []
    after: list[int] = []
    for step in steps:
        before += list(range(count))
        after += [(row + step) % count for row in range(count)]
    ids = [f"{step}-{row}" for step in steps for row in range(count)]
    written(collection, part(every, before, ids))
    written(collection, part(every, [0, 1], ["bystander", "extra"]))
    wanted = part(every, [*after, 2], [*ids, "new"])
    held = collection.read([*ids, "new", "extra"])
    applied = make_equal(collection, wanted, held, space)
    assert (applied.added, applied.deleted) == (1, 1)
    assert applied.changed > count
    assert differences(wanted, collection.read([*ids, "new", "extra"]), space) == []
    assert collection.count() == len(ids) + 2
    again = make_equal(collection, wanted, collection.read([*ids, "new", "extra"]), space)
    assert again.total == 0, "what is equal is not written again"


def test_one_bit_of_an_embedding_is_made_equal(second: Side) -> None:
    """The smallest change of an embedding is carried over, bit by bit."""
    collection = second.create("words", Definition.of_space("l2"))
    wanted = part(records(), [0], ["a"])
    held = part(records(), [0], ["a"])
    held.embeddings[0, 0] = np.nextafter(held.embeddings[0, 0], np.float32(9), dtype=np.float32)
    written(collection, held)
    assert make_equal(collection, wanted, collection.read(["a"]), "l2").changed == 1
    assert collection.read(["a"]).embeddings.tobytes() == wanted.embeddings.tobytes()


def test_the_last_records_can_go(second: Side) -> None:
    """An authority that has none of the ids empties the second of them."""
    collection = second.create("words", Definition.of_space("l2"))
    written(collection, part(records(), [0, 1], ["a", "b"]))
    nothing = Batch([], np.zeros((0, 0), np.float32), [], [], [])
    assert make_equal(collection, nothing, collection.read(["a", "b"]), "l2").deleted == 2
    assert collection.count() == 0
