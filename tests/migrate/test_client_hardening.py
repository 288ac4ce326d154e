"""What an application may do around its calls, and what outlasts them, changes nothing of what was written or answered."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from chromadb.errors import InvalidArgumentError, NotFoundError
from tests.migrate.client_world import TIMING, World, breakable, vectors, words, world

from chromalith.chroma.side import ChromaSide
from chromalith.clock import ManualClock
from chromalith.errors import Invalid, Unavailable
from chromalith.migrate.client.at_hand import AtHand
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.presence import EVERY_S, Announcer, Presence
from chromalith.store.memory import MemoryStore

HASTY = replace(TIMING, second_write_s=0.05)


def held_back(made: World, verb: str) -> threading.Event:
    """The target's ``verb`` waits for the event that is returned: its write outlasts the application's call."""
    go = threading.Event()

    def late(real: Any, *args: Any, **named: Any) -> Any:
        assert go.wait(10)
        return real(*args, **named)

    breakable(made, Role.TARGET).act[verb] = late
    return go


def settled(made: World) -> None:
    """Wait until no write to the second is under way."""
    until_s = time.monotonic() + 10
    while made.core.journal.flush() or made.core.journal.entries().open:
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.mark.parametrize("verb", ["add", "upsert", "update"])
def test_an_application_may_fill_its_lists_anew_while_the_second_is_still_written(verb: str) -> None:
    """The second gets the call's own ids, embeddings, documents and metadata, and nothing of the next batch."""
    with world() as made:
        collection = words(made.client)
        made.mirror()
        made.become(Phase.DUAL, timing=HASTY)
        if verb == "update":
            collection.add(ids=["a", "b"], embeddings=vectors(2))
        go = held_back(made, f"_{verb}")
        ids, documents, tags = ["a", "b"], ["text a", "text b"], ["x"]
        embeddings = np.ones((2, 3), np.float32)
        metadatas: list[Any] = [{"n": 1, "tags": tags}, {"n": 2}]
        getattr(collection, verb)(ids=ids, embeddings=embeddings, documents=documents, metadatas=metadatas)
        ids[:], documents[:] = ["c", "d"], ["text c", "text d"]
        embeddings[:] = 7
        tags.append("y")
        metadatas[1]["n"] = 3
        go.set()
        settled(made)
        assert made.ids(Role.TARGET) == {"a", "b"}
        assert made.unequal() == []


def test_the_ids_and_the_filter_of_a_delete_are_those_of_the_call() -> None:
    """Changed by the application while the second still deletes."""
    with world() as made:
        collection = words(made.client)
        made.mirror()
        made.become(Phase.DUAL, timing=HASTY)
        words(made.client, 6)
        settled(made)
        go = held_back(made, "_delete")
        ids, where = ["r0"], {"n": {"$lt": 3}}
        collection.delete(ids=ids)
        collection.delete(where=where)
        ids[:], where["n"] = ["r5"], {"$gt": 100}
        go.set()
        settled(made)
        assert made.ids(Role.TARGET) == {"r3", "r4", "r5"} == made.ids(Role.SOURCE)


def test_a_delete_by_filter_keeps_to_what_chroma_cloud_takes_at_once() -> None:
    """After the switch to Cloud: no answer has more ids, and no delete more, than it takes of one request; all are found and deleted."""
    with world() as made:
        collection = words(made.client)
        made.mirror()
        made.become(Phase.DUAL)
        words(made.client, 60)
        made.become(Phase.CUTOVER)
        target = made.core.sides[Role.TARGET]
        target.cut_listings = True
        target._limits = replace(target.limits, records_per_write=25, records_per_read=25)
        broken, seen = breakable(made, Role.TARGET), []

        def count(real: Any, *args: Any, **named: Any) -> Any:
            found = real(*args, **named)
            seen.append(len(found["ids"] if "ids" in found else named["ids"]))
            assert named.get("limit") == 25 or "ids" not in found
            return found

        broken.act = {"_get": count, "_delete": count}
        assert collection.delete(where={"n": {"$gte": 2}}) == {"deleted": 58}
        assert max(seen) == 25
        settled(made)
        assert made.ids(Role.SOURCE) == {"r0", "r1"} == made.ids(Role.TARGET)


def test_what_outlasts_a_client_opens_no_side_again() -> None:
    """A side is closed once: a call that goes on behind a closed client is refused, and one that is just being opened is let go."""
    opened: list[ChromaSide] = []
    sides: AtHand
    with world() as made:
        real = made.core.sides[Role.TARGET]

        def side(close_first: bool) -> ChromaSide:
            if close_first:
                sides.close()
            one = ChromaSide(real.server, real.kind, "test", real.limits, close=lambda: opened.remove(one))
            opened.append(one)
            return one

        for close_first in (False, True):
            sides = AtHand({Role.SOURCE: lambda close_first=close_first: side(close_first)})  # type: ignore[misc]
            if close_first:
                with pytest.raises(Invalid, match="closed"):
                    sides[Role.SOURCE]
            else:
                assert sides[Role.SOURCE] is opened[0]
                sides.close()
            with pytest.raises(Invalid, match="closed"):
                sides.server(Role.SOURCE)
            assert opened == []


def test_presences_do_not_queue_up_behind_a_store_that_hangs() -> None:
    """However long it hangs, one is under way, and closing waits for that one only."""
    clock = ManualClock()
    go, calls = threading.Event(), []

    class Hangs(MemoryStore):
        def put(self, key: str, *args: Any, **named: Any) -> Any:
            calls.append(key)
            assert go.wait(10)
            raise Unavailable("away")

    one = Announcer(Place(Hangs(clock), clock=clock), "c1", lambda: Presence("c1"))
    for epoch in range(1, 100):
        clock.advance(EVERY_S)
        one.touch(epoch)
    go.set()
    one.stop()
    assert len(calls) == 2  # the one that hung, and the last words


def test_closing_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last words are not worth more than a moment, and come after the write that hangs, or never."""
    clock = ManualClock()
    go, calls = threading.Event(), []

    class Hangs(MemoryStore):
        def put(self, key: str, *args: Any, **named: Any) -> Any:
            calls.append(go.wait(60))
            raise Unavailable("away")

    monkeypatch.setattr("chromalith.migrate.presence.STOP_S", 0.05)
    one = Announcer(Place(Hangs(clock), clock=clock), "c1", lambda: Presence("c1"))
    one.touch(1)
    one.stop()
    assert calls == [], "it returned while the store hung"
    go.set()


def test_a_rename_that_would_change_sides_is_refused_after_a_migration_of_chosen_collections() -> None:
    """In phase complete the name tells the side: the records must not vanish behind the source's old ones."""
    with world() as made:
        for name in ["words", "other"]:
            made.client.create_collection(name, embedding_function=None)
        made.mirror()
        made.become(Phase.DUAL, collections=("words",))
        collection = words(made.client, 2)
        made.become(Phase.COMPLETE, collections=("words",))
        collection.add(ids=["new"], embeddings=vectors(1))
        with pytest.raises(InvalidArgumentError, match="renamed across the migration's choice"):
            collection.modify(name="renamed")
        assert collection.count() == 3
        made.client.get_collection("other", embedding_function=None).modify(name="another")
        assert sorted(each.name for each in made.client.list_collections()) == ["another", "words"]


def test_an_object_of_a_collection_that_was_deleted_after_the_migration_does_not_write_into_its_successor() -> None:
    """Phase complete: the source still has the old one, and is not asked."""
    with world() as made:
        held = words(made.client)
        made.mirror()
        made.become(Phase.DUAL)
        made.become(Phase.COMPLETE)
        made.client.delete_collection("words")
        new = words(made.client)
        with pytest.raises(NotFoundError):
            held.add(ids=["a"], embeddings=vectors(1))
        with pytest.raises(NotFoundError):
            held.count()
        assert new.count() == 0


def test_collections_that_were_deleted_take_no_memory() -> None:
    """An application that makes one for each of its tasks."""
    with world() as made:
        for number in range(20):
            made.client.create_collection(f"task-{number}", embedding_function=None)
            made.client.delete_collection(f"task-{number}")
        assert (len(made.core.bindings._bound), len(made.core.bindings._gone)) == (0, 0)


@pytest.mark.parametrize(
    ("limit", "offset"), [(None, None), (2, None), (2, 1), (0, 0), (None, 2), (-1, None), (2, -1), (9, 9)]
)
def test_a_page_of_collections_is_chromas_own(tmp_path: Path, limit: int | None, offset: int | None) -> None:
    """Limit and offset mean what they mean to the side; its refusals too."""
    source = chromadb.PersistentClient(str(tmp_path), Settings(anonymized_telemetry=False))
    try:
        for name in ("bbb", "aaa", "ccc", "ddd"):
            source.create_collection(name, embedding_function=None)
        with world(source) as made:
            results = []
            for client in (source, made.client):
                try:
                    results.append([each.name for each in client.list_collections(limit=limit, offset=offset)])
                except Exception as error:
                    results.append((type(error), str(error)))
            assert results[0] == results[1]
    finally:
        source.close()
