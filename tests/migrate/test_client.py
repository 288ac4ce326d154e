"""The migrating client is a Chroma client: every call answers as the side that counts answers, in every phase."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.api.client import AdminClient
from chromadb.api.types import Documents, EmbeddingFunction, Embeddings
from chromadb.config import Settings
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError
from tests.migrate.client_world import SIDE, TIMING, World, vectors, words, world

import chromalith
from chromalith.errors import Invalid
from chromalith.migrate.client.open import core_of, migration_of
from chromalith.migrate.phases import DUAL_PHASES, Phase
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_stats import ShadowStats
from chromalith.migrate.state import State

EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]


class Lengths(EmbeddingFunction[Documents]):
    """Embeds a text as its length and two constants."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: Documents) -> Embeddings:
        return [np.array([len(text), 1.0, 0.5], np.float32) for text in input]

    @staticmethod
    def name() -> str:
        return "lengths-of-a-test"

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Lengths:
        return Lengths()

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.fixture(params=["chromalith", "stock"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "chromalith":
        with world() as two:
            yield two
        return
    source = chromadb.PersistentClient(str(tmp_path / "source"), Settings(anonymized_telemetry=False))
    try:
        with world(source) as two:
            yield two
    finally:
        source.close()


def test_a_client_before_its_migration_is_started_is_the_sources() -> None:
    """No state object: only the source is opened, written and read."""
    with world(started=False) as made:
        words(made.client, 3)
        assert made.ids(Role.SOURCE) == {"r0", "r1", "r2"}
        assert Role.TARGET not in made.core.sides._opened
        assert made.core.journal.counts().entries == 0


@pytest.mark.parametrize("phase", [Phase.DIRECT, Phase.CANCELLED, Phase.COMPLETE])
def test_phases_with_one_side_write_and_read_that_side_alone(made: World, phase: Phase) -> None:
    """direct and cancelled: the source; complete: the target; nothing is journaled."""
    words(made.client)
    made.mirror()
    made.become(phase)
    words(made.client, 2)
    there, elsewhere = (Role.TARGET, Role.SOURCE) if phase is Phase.COMPLETE else (Role.SOURCE, Role.TARGET)
    assert (made.ids(there), made.ids(elsewhere)) == ({"r0", "r1"}, set())
    assert made.core.journal.counts().entries == 0
    assert words(made.client).count() == 2


@pytest.mark.parametrize("phase", sorted(DUAL_PHASES))
def test_dual_phases_write_both_sides_and_journal_each_call(made: World, phase: Phase) -> None:
    """add, update, upsert, delete and delete by filter reach both sides; each leaves one closed entry."""
    collection = words(made.client)
    made.mirror()
    made.become(phase)
    collection = words(made.client, 6)
    collection.update(ids=["r0"], metadatas=[{"n": 100, "new": [1, 2]}])
    collection.upsert(ids=["r1", "u"], embeddings=vectors(2, 1), documents=["again", "upserted"])
    collection.delete(ids=["r2"])
    assert collection.delete(where={"n": {"$gte": 4}}) == {"deleted": 3}  # r0 has 100 now
    assert made.ids(Role.SOURCE) == made.ids(Role.TARGET) == {"r1", "r3", "u"}
    assert made.unequal() == []
    assert made.core.tally.failures == 0
    assert made.core.journal.flush() == 0
    listing = made.core.journal.entries()
    assert (listing.open, listing.ended) == (0, 6)  # get_or_create_collection, and five of records
    assert made.reconciled()


def test_collection_api_of_chroma_works_as_it_is(made: World) -> None:
    """Documents through an embedding function, uris, lists in metadata, include variants, peek, query, filters, modify."""
    client = made.client
    client.create_collection("words", embedding_function=Lengths(), metadata={"about": "words"})
    made.mirror()
    made.become(Phase.DUAL)
    collection = client.get_collection("words", embedding_function=Lengths())
    collection.add(
        ids=["a", "bb"], documents=["a", "bb"], metadatas=[{"tags": ["x", "y"], "n": 1}, {"n": 2.5, "ok": True}]
    )
    collection.upsert(ids=["c"], embeddings=[[3.0, 1.0, 0.5]], documents=["ccc"], uris=["file:///c"])
    collection.update(ids=["a"], documents=["aaaa"])
    collection.modify(metadata={"about": "more words"})
    assert made.unequal() == []
    for role in Role:
        plain = made.plain(role).get_collection("words", embedding_function=Lengths())
        assert plain.metadata == {"about": "more words"}
        assert plain.get(ids=["a"])["metadatas"] == [{"tags": ["x", "y"], "n": 1}]
        assert plain.get(ids=["a"], include=["embeddings"])["embeddings"].tolist() == [[4.0, 1.0, 0.5]]
        assert plain.get(ids=["c"], include=["uris"])["uris"] == ["file:///c"]
    assert collection.query(query_texts=["zzzz"], n_results=1, include=["documents"])["documents"] == [["aaaa"]]
    assert collection.get(where_document={"$contains": "bb"}, include=[])["ids"] == ["bb"]
    assert collection.peek(2)["ids"] == ["a", "bb"]
    assert collection.get(limit=1, offset=1, include=["metadatas"])["metadatas"] == [{"n": 2.5, "ok": True}]
    assert collection.count() == 3


def test_an_application_error_of_the_authority_is_chromas_own_and_nothing_is_written(made: World) -> None:
    """A wrong dimension, a bad filter: what a plain client of the source raises, class and message; the second is not asked."""
    collection = words(made.client, 2)
    made.mirror()
    made.become(Phase.DUAL)
    wrong: list[Any] = [
        lambda one: one.add(ids=["x"], embeddings=[[1.0, 2.0]]),
        lambda one: one.query(query_embeddings=[[1.0, 2.0]]),
        lambda one: one.add(ids=["x", "x"], embeddings=vectors(2)),
        lambda one: one.get(where={"n": {"$nope": 1}}),
        lambda one: one.delete(),
    ]
    plain = made.plain(Role.SOURCE).get_collection("words", embedding_function=None)
    for call in wrong:
        with pytest.raises(Exception) as ours:
            call(collection)
        with pytest.raises(Exception) as stock:
            call(plain)
        assert (type(ours.value), str(ours.value)) == (type(stock.value), str(stock.value))
    assert made.ids(Role.TARGET) == set()
    assert made.core.tally.failures == 0


def test_a_collection_object_outlives_every_phase_and_the_way_back(made: World) -> None:
    """One object, got before the migration, reads and writes through all phases, rollback included."""
    collection = words(made.client, 1)
    made.mirror()
    made.become(Phase.DUAL)
    collection.upsert(ids=["r0"], embeddings=vectors(1), documents=["text r0"])
    way = [
        Phase.BACKFILL,
        Phase.VERIFY,
        Phase.RAMP,
        Phase.CUTOVER,
        Phase.DIRECT,
        Phase.DUAL,
        Phase.CUTOVER,
        Phase.COMPLETE,
    ]
    for n, phase in enumerate(way):
        made.become(phase, reads=50, writes=50 if phase is Phase.RAMP else 0)
        if phase is Phase.DUAL:
            assert made.core.sides[Role.TARGET].collection("words").present(["new 4"]) == set()
        collection.add(ids=[f"new {n}"], embeddings=vectors(1, n))
        assert collection.get(ids=[f"new {n}"], include=[])["ids"] == [f"new {n}"]
    in_cutover = made.another().get_collection("words", embedding_function=None)
    assert in_cutover.id != collection.id
    made.become(Phase.DIRECT)
    in_cutover.add(ids=["back"], embeddings=vectors(1))
    assert "back" in made.ids(Role.SOURCE)


def test_an_object_of_a_collection_that_was_deleted_and_made_again_gets_not_found(made: World) -> None:
    """In every dual phase, and in another process than the one that deleted it."""
    for phase in [Phase.DUAL, Phase.CUTOVER]:
        made.become(Phase.DIRECT)
        held = words(made.client)
        made.mirror()
        made.become(phase)
        held.upsert(ids=["a"], embeddings=vectors(1))
        another = made.another()
        seen = another.get_collection("words", embedding_function=None)
        another.delete_collection("words")
        another.create_collection("words", embedding_function=None)
        for stale in (held, seen):
            with pytest.raises(NotFoundError):
                stale.upsert(ids=["b"], embeddings=vectors(1))
            with pytest.raises(NotFoundError):
                stale.count()
        assert made.ids(Role.SOURCE) == made.ids(Role.TARGET) == set()
        another.delete_collection("words")


def test_collections_are_made_changed_and_deleted_on_both_sides(made: World) -> None:
    """While both are live; a new name is refused with one clear error, and allowed before and after."""
    client = made.client
    made.become(Phase.DUAL)
    collection = client.create_collection(
        "words", embedding_function=None, metadata={"a": 1}, configuration={"hnsw": {"space": "cosine"}}
    )
    for role in Role:
        there = made.plain(role).get_collection("words", embedding_function=None)
        assert (there.metadata, there.configuration_json["hnsw"]["space"]) == ({"a": 1}, "cosine")
    assert [each.name for each in client.list_collections()] == ["words"]
    assert client.count_collections() == 1
    with pytest.raises(InvalidArgumentError, match="can't be renamed while it is migrated"):
        collection.modify(name="others")
    collection.modify(name="words", metadata={"b": 2})
    assert made.plain(Role.TARGET).get_collection("words", embedding_function=None).metadata == {"b": 2}
    with pytest.raises(ChromaError):
        client.create_collection("words", embedding_function=None)
    client.delete_collection("words")
    assert made.plain(Role.SOURCE).list_collections() == made.plain(Role.TARGET).list_collections() == []
    with pytest.raises(NotFoundError):
        client.delete_collection("words")
    assert made.core.journal.flush() == 0
    assert made.core.journal.entries().open == 0
    assert made.reconciled()
    made.become(Phase.DIRECT)
    words(client).modify(name="others")
    assert [each.name for each in made.plain(Role.SOURCE).list_collections()] == ["others"]


def test_a_collection_renamed_before_the_sides_became_live_is_known_by_its_new_name(made: World) -> None:
    """Another client renamed it in phase direct: an object of the old name journals and mirrors the new one."""
    held = words(made.client, 1)
    words(made.another()).modify(name="others")
    made.mirror("others")
    made.become(Phase.DUAL)
    held.upsert(ids=["a"], embeddings=vectors(1))
    assert made.ids(Role.TARGET, "others") == {"a"}


def test_only_chosen_collections_are_moved(made: World) -> None:
    """With a choice of collections the others stay at the source, in cutover and complete too, and listings show both."""
    client = made.client
    for name in ["words", "other"]:
        client.create_collection(name, embedding_function=None)
    made.mirror()
    made.become(Phase.DUAL, collections=("words",))
    for name in ["words", "other"]:
        client.get_collection(name, embedding_function=None).add(ids=["a"], embeddings=vectors(1))
    assert [each.name for each in made.plain(Role.TARGET).list_collections()] == ["words"]
    assert made.core.journal.counts().entries == 1
    for phase in [Phase.CUTOVER, Phase.COMPLETE]:
        made.become(phase)
        assert sorted(each.name for each in client.list_collections()) == ["other", "words"]
        for name in ["words", "other"]:
            client.get_collection(name, embedding_function=None).add(ids=[phase], embeddings=vectors(1))
    assert made.ids(Role.SOURCE, "other") == {"a", "cutover", "complete"}
    assert made.ids(Role.TARGET) == {"a", "cutover", "complete"}
    assert made.ids(Role.SOURCE) == {"a", "cutover"}


def test_another_database_of_the_source_is_none_of_the_migrations(made: World) -> None:
    """A client that is turned to another database reads and writes the source's, in every phase."""
    made.become(Phase.CUTOVER)
    AdminClient.from_system(made.client._system).create_database("elsewhere")
    made.client.set_database("elsewhere")
    collection = made.client.create_collection("words", embedding_function=None)
    collection.add(ids=["a"], embeddings=vectors(1))
    assert collection.get(include=[])["ids"] == ["a"]
    assert made.plain(Role.SOURCE).list_collections() == made.plain(Role.TARGET).list_collections() == []
    assert made.core.journal.counts().entries == 0


def test_what_is_no_migrating_client_is_refused() -> None:
    """core_of and migration_of name what they got; the state needs a store; a closed client says so."""
    with world() as made:
        plain = made.plain(Role.SOURCE)
        for take in (core_of, migration_of):
            with pytest.raises(Invalid, match="not a migrating client"):
                take(plain)
        collection = words(made.client, 1)
        made.client.close()
        with pytest.raises(InvalidArgumentError, match="closed"):
            collection.count()
    with pytest.raises(Invalid, match="no store was named"):
        chromalith.MigratingClient("chroma:/nowhere", "http://127.0.0.1:1")


def test_a_chromalith_side_keeps_the_state_if_no_store_is_named() -> None:
    """The target's store, where only that is Chromalith; a client that is given open counts as well."""
    with world() as made:
        target = made.plain(Role.TARGET)
        with tempfile.TemporaryDirectory() as directory:
            client = chromalith.MigratingClient(f"chroma:{directory}", target)
            assert core_of(client).place.store.url == made.urls[Role.TARGET]
            client.close()


def test_the_two_sides_may_be_databases_of_other_names() -> None:
    """The application sees the source's names, on both sides, through every phase."""
    with world(started=False) as made:
        for role, tenant, database in [(Role.SOURCE, "people", "first"), (Role.TARGET, "others", "second")]:
            admin = AdminClient.from_system(made.plain(role)._system)
            admin.create_tenant(tenant)
            admin.create_database(database, tenant)
            made.given[role] = f"{made.urls[role]}?tenant={tenant}&database={database}"
        made.states.create(State("default", SIDE, replace(SIDE, url="target"), timing=TIMING))
        client = made.another()
        assert (client.tenant, client.database) == ("people", "first")
        for phase in [Phase.DIRECT, Phase.DUAL, Phase.CUTOVER, Phase.COMPLETE]:
            made.become(phase)
            collection = words(client)
            if phase is Phase.DIRECT:
                core_of(client).sides[Role.TARGET].create(
                    "words", core_of(client).sides[Role.SOURCE].collection("words").definition
                )
            collection.add(ids=[phase], embeddings=vectors(1))
            assert (collection.tenant, collection.database) == ("people", "first")
            assert collection.get(include=[])["ids"][-1] == phase
            client.set_database("first")
        held = {role: set(core_of(client).sides[role].collection("words").ids()) for role in Role}
        assert held == {Role.SOURCE: {"direct", "dual", "cutover"}, Role.TARGET: {"dual", "cutover", "complete"}}
        assert made.plain(Role.SOURCE).list_collections() == made.plain(Role.TARGET).list_collections() == []


def test_reads_are_shadowed_as_the_state_says(made: World) -> None:
    """At 100 %: each read of the application is made on the other side and counted; what differs too; the caller sees nothing of it."""
    collection = words(made.client)
    made.mirror()
    made.become(Phase.DUAL)
    words(made.client, 3)
    made.become(Phase.VERIFY, shadow=100)
    made.plain(Role.TARGET).get_collection("words", embedding_function=None).delete(ids=["r2"])
    assert collection.get(ids=["r1"], include=["documents"])["documents"] == ["text r1"]
    assert len(collection.query(query_embeddings=vectors(1), n_results=3, include=[])["ids"][0]) == 3
    assert collection.count() == 3
    until_s = time.monotonic() + 20
    while (total := ShadowStats.decode(made.core.shadow.seen()).total).judged < 3 and time.monotonic() < until_s:
        time.sleep(0.05)
    assert (total.judged, total.disagreed) == (3, 2)
    made.become(Phase.DUAL, shadow=100)
    collection.count()
    assert ShadowStats.decode(made.core.shadow.seen()).total.judged == 3


def test_what_only_one_side_can_do_is_refused_in_words(made: World) -> None:
    """Forks, attached functions, reset; a search is the side's own answer."""
    collection = words(made.client, 1)
    for call in [lambda: collection.fork("fork"), made.client.reset, lambda: collection.detach_function("f")]:
        with pytest.raises((InvalidArgumentError, TypeError, ValueError)):
            call()
    with pytest.raises(InvalidArgumentError, match="fork"):
        collection.fork("fork")
    assert [each.name for each in made.plain(Role.SOURCE).list_collections()] == ["words"]
