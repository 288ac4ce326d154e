"""One stock Chroma collection is the oracle: whatever is done to a Chromalith collection, by however many writers, and however it is
folded, merged and swept meanwhile, it answers as stock Chroma does that received the operations one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.worlds import DIMENSION, World

from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.verify import verify
from chromalith.model.plan import MergePolicy
from chromalith.read.view import View

chromadb = pytest.importorskip("chromadb")

IDS = ["a", "b", "c", "d", "é", "f"]
KEYS = st.sampled_from(["k", "l", "m"])
VALUES = st.one_of(
    st.sampled_from([0, 1, 1.0, -0.5, True, False, "", "null", "x"]),
    st.sampled_from([[1, 2], [1.5], ["p", "null"], [True, False]]),
)
METADATA = st.dictionaries(KEYS, VALUES, min_size=1, max_size=2)
PATCH = st.dictionaries(KEYS, VALUES | st.none(), min_size=1, max_size=3)
TEXT = st.sampled_from(["", "one", "two", "héllo", "VOID"])
WRITERS = 3


@dataclass(frozen=True)
class Call:
    """One call: an operation, the writer who issues it, and its columns."""

    op: str
    writer: int
    ids: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    embeds: bool = True


@st.composite
def calls(draw: st.DrawFn) -> Call:
    op = draw(st.sampled_from(["add", "update", "upsert", "upsert", "delete"]))
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True))
    writer = draw(st.integers(0, WRITERS - 1))
    if op == "delete":
        return Call(op, writer, ids, embeds=False)
    columns: dict[str, list[Any]] = {}
    rows = {"min_size": len(ids), "max_size": len(ids)}
    if draw(st.booleans()):
        columns["metadatas"] = draw(st.lists((METADATA if op == "add" else PATCH) | st.none(), **rows))
    if draw(st.booleans()):
        columns["documents"] = draw(st.lists(TEXT, **rows))
    if draw(st.integers(0, 3)) == 0:
        columns["uris"] = draw(st.lists(TEXT, **rows))
    embeds = op != "update" or draw(st.booleans())
    if not embeds and not columns:
        columns["documents"] = ["two"] * len(ids)  # stock refuses an update of nothing
    return Call(op, writer, ids, columns, embeds)


STEPS = st.lists(
    st.one_of(calls(), calls(), st.sampled_from(["compact", "compact", "sweep", "look", "restart"])), min_size=8, max_size=16
)


@pytest.fixture(scope="module")
def oracle() -> Any:
    return chromadb.EphemeralClient(settings=chromadb.Settings(anonymized_telemetry=False))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=STEPS,
    space=st.sampled_from(["l2", "l2", "ip", "cosine"]),
    index_threshold=st.sampled_from([3, 10_000]),
    fold_deltas_max=st.sampled_from([1, 2, 10_000]),
    fan_in=st.sampled_from([2, 3, 8]),
    remote=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_answers_as_stock_chroma_does(
    oracle: Any,
    steps: list[Any],
    space: str,
    index_threshold: int,
    fold_deltas_max: int,
    fan_in: int,
    remote: bool,
    seed: int,
) -> None:
    """Any history of calls, folds, merges, sweeps and restarts leaves what stock Chroma has, and each version keeps I1 to I8."""
    random = np.random.default_rng(seed)
    # Never deleted: a deleted collection of stock Chroma 1.5.9 leaves list elements behind that later ones seem to have.
    stock = oracle.create_collection(
        f"oracle-{oracle.count_collections()}", configuration={"hnsw": {"space": space}}, embedding_function=None
    )
    compaction = CompactionSettings(
        index_threshold=index_threshold, merge=MergePolicy(fan_in=fan_in, rows_floor=2), fold_deltas_max=fold_deltas_max
    )
    with World(remote=remote, space=space, settings=compaction) as world:
        writers = [world.writer() for _ in range(WRITERS)]
        reader, compactor = world.session(), world.compactor()
        for step in steps:
            if isinstance(step, Call):
                # Issued one after the other, by the store's clock: only that makes an order between writers that know nothing
                # of each other. On the remote store the newest ones are then not settled when a fold comes.
                world.clock.advance(1 if remote else 0)
                columns: dict[str, Any] = dict(step.columns)
                if step.embeds:
                    columns["embeddings"] = random.standard_normal((len(step.ids), DIMENSION)).astype(np.float32)
                writers[step.writer].write(world.cid, step.op, step.ids, **columns)
                tell(stock, step.op, *without_ghosts(stock, step.op, step.ids, columns))
            elif step == "look":
                compare(reader.view(world.cid), stock, random, space)
            elif step == "restart":
                reader, compactor = world.session(), world.compactor()
            else:
                if step == "sweep":
                    world.clock.advance(61)
                outcome = compactor.run_once(world.cid)
                event(f"merged {min(outcome.merged, 4)}")
                if outcome.published:
                    verify(world.store, world.cid)
        compare(reader.view(world.cid), stock, random, space)
        world.clock.advance(4)
        compactor.run_once(world.cid)
        report = verify(world.store, world.cid)
        for view in (reader.view(world.cid), world.view()):
            assert view.overlay == ()
            assert view.manifest.live == report.live
            compare(view, stock, random, space)


def without_ghosts(stock: Any, op: str, ids: list[str], columns: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Without updates of embeddings of records that are not there.

    Chroma 1.5.9 ignores one until a record of that id is added and read, and something is written after that: then it replays its log onto
    what it has, and the record's embedding becomes the one of the update from before it was there (also in a directory on disk)."""
    if op != "update" or "embeddings" not in columns:
        return ids, columns
    there = set(stock.get(ids=ids, include=[])["ids"])
    rows = [row for row, record in enumerate(ids) if record in there]
    return [ids[row] for row in rows], {name: [column[row] for row in rows] for name, column in columns.items()}


def test_an_update_of_nothing_comes_back_at_stock_chroma_and_not_here(oracle: Any) -> None:
    """Why :func:`without_ghosts` is needed. Where a new Chroma makes this fail, it is not needed any more."""
    stock = oracle.create_collection(f"ghost-{oracle.count_collections()}", embedding_function=None)
    with World(space="l2") as world:
        writer = world.writer()
        for op, record, vector in (("update", "b", [9, 9, 9]), ("add", "b", [1, 1, 1]), ("look", "", []), ("add", "a", [2, 2, 2])):
            if op == "look":
                assert stock.get(ids=["b"], include=["embeddings"])["embeddings"].tolist() == [[1, 1, 1]]
                stock.query(query_embeddings=[[1, 1, 1]], n_results=1)
            else:
                writer.write(world.cid, op, [record], embeddings=np.array([vector], np.float32))
                getattr(stock, op)(ids=[record], embeddings=[vector])
        found = world.view().get(ids=["b"], include=("embeddings",))
    assert found.embeddings is not None
    assert found.embeddings.tolist() == [[1, 1, 1]]
    assert stock.get(ids=["b"], include=["embeddings"])["embeddings"].tolist() == [[9, 9, 9]]


def tell(stock: Any, op: str, ids: list[str], columns: dict[str, Any]) -> None:
    if not ids:
        return
    if op == "update" and "embeddings" not in columns:
        # Below the collection's own method, which would embed the documents with a model.
        columns = {"metadatas": None, "documents": None, "uris": None} | columns
        stock._client._update(
            collection_id=stock.id, ids=ids, embeddings=None, tenant=stock.tenant, database=stock.database, **columns
        )
    else:
        getattr(stock, op)(ids=ids, **columns)


def compare(view: View, stock: Any, random: np.random.Generator, space: str) -> None:
    expected = stock.get(include=["documents", "metadatas", "uris", "embeddings"])
    found = view.get(include=("documents", "metadatas", "uris", "embeddings"))
    assert found.ids == expected["ids"]
    assert view.count() == len(expected["ids"])
    assert found.documents == expected["documents"]
    assert found.uris == expected["uris"]
    assert typed(found.metadatas) == typed(expected["metadatas"])
    if not found.ids:
        return
    assert found.embeddings is not None
    if space == "cosine":  # stock keeps them normalised
        given = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
        stored = expected["embeddings"] / np.linalg.norm(expected["embeddings"], axis=1, keepdims=True)
        np.testing.assert_allclose(given, stored, atol=1e-5)
    else:
        np.testing.assert_array_equal(found.embeddings, expected["embeddings"])
    queries = random.standard_normal((2, DIMENSION)).astype(np.float32)
    for n_results in (2, 10):
        answers = view.query(queries, n_results)
        nearest = stock.query(query_embeddings=queries, n_results=n_results)
        assert [answer.ids for answer in answers] == nearest["ids"]
        assert [answer.documents for answer in answers] == nearest["documents"]
        for answer, distances in zip(answers, nearest["distances"], strict=True):
            np.testing.assert_allclose(answer.distances, distances, rtol=1e-5, atol=1e-5)


def typed(metadatas: list[dict[str, Any] | None] | None) -> list[Any]:
    """Metadata with the types of its values, and an empty dictionary as none: what stock says of a record that has only a uri."""
    return [
        {key: (type(value), [type(v) for v in value] if isinstance(value, list) else None, value) for key, value in each.items()}
        if each
        else None
        for each in metadatas or []
    ]
