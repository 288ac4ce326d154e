"""The migrating client where things go wrong: a second that fails, hangs or talks nonsense, a state that can't be had, much at once."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError
from tests.migrate.client_world import SIDE, World, breakable, vectors, words, world

import chromalith
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Corrupt, Unavailable
from chromalith.migrate.client.open import core_of
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import State, Timing
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call, Fault, FaultyStore


def test_a_second_that_raises_whatever_is_never_the_applications_error(made: World) -> None:
    """Errors of Chroma, of the transport, of nobody; the journal brings the second back to the authority's records."""
    collection = words(made.client)
    target = breakable(made, Role.TARGET)
    errors = [InternalError("broken"), InvalidArgumentError("no"), OSError("reset"), ZeroDivisionError("nonsense")]
    for n, error in enumerate(errors):

        def fail(real: Any, *args: Any, error: Exception = error, **named: Any) -> Any:
            raise error

        target.act["_upsert"] = fail
        collection.upsert(ids=[f"a{n}"], embeddings=vectors(1), documents=["kept"])
    assert made.ids(Role.SOURCE) == {f"a{n}" for n in range(4)}
    assert made.ids(Role.TARGET) == set()
    assert made.core.tally.failures == 4
    target.act.clear()
    made.core.journal.flush()
    left = made.core.journal.entries()
    assert (left.failed, left.open) == (4, 2)  # of two nobody can say whether they are on the way
    made.reconciled()
    assert made.ids(Role.TARGET) >= {"a0", "a1"}


def test_a_second_that_answers_nonsense_changes_no_answer(made: World) -> None:
    """What it returns is not looked at."""
    collection = words(made.client, 2)
    target = breakable(made, Role.TARGET)
    target.act = {
        name: lambda real, *args, **named: object() for name in ["_upsert", "_delete", "_add", "create_collection"]
    }
    collection.upsert(ids=["a"], embeddings=vectors(1))
    assert collection.delete(ids=["a"]) == {"deleted": 1}
    assert made.client.create_collection("more", embedding_function=None).name == "more"


def test_a_second_that_hangs_is_waited_for_no_longer_than_its_limit(made: World) -> None:
    """The call returns; closing the client waits for the rest, and the entry is closed when it has really ended."""
    collection = words(made.client)
    made.become(timing=Timing(second_write_s=0.05))
    target, go = breakable(made, Role.TARGET), threading.Event()

    def hang(real: Any, *args: Any, **named: Any) -> Any:
        assert go.wait(20)
        return real(*args, **named)

    target.act["_upsert"] = hang
    collection.upsert(ids=["a"], embeddings=vectors(1))
    assert (made.core.tally.late, made.ids(Role.TARGET)) == (1, set())
    made.core.journal.flush()
    assert made.core.journal.entries().open == 1
    go.set()
    made.core._writer.stop(20)
    made.core.journal.flush()
    assert made.core.journal.entries().open == 0
    assert made.ids(Role.TARGET) == {"a"}


def test_a_target_that_is_not_there_yet_keeps_nobody_from_working(tmp_path: Path) -> None:
    """It is opened when it is needed, and its absence is the second's failure."""
    with world(target="http://127.0.0.1:1") as made:
        collection = words(made.client, 2)
        made.become(Phase.DUAL)
        collection.upsert(ids=["a"], embeddings=vectors(1))
        assert collection.count() == 3
        assert made.client.get_max_batch_size() > 0
        assert made.core.tally.failures == 1
        made.core.journal.flush()
        assert (made.core.journal.entries().open, made.core.journal.entries().failed) == (0, 1)


def test_a_source_that_is_let_go_is_not_needed_any_more(tmp_path: Path) -> None:
    """After complete the client opens, writes and reads though nobody is at the source's address."""
    with world() as made:
        words(made.client)
        made.mirror()
        made.become(Phase.COMPLETE)
        later = chromalith.MigratingClient("http://127.0.0.1:1", made.given[Role.TARGET], state=made.url)
        collection = words(later, 2)
        assert (collection.count(), made.ids(Role.TARGET)) == (2, {"r0", "r1"})
        later.close()
        # and in a cutover a source that fails is only the second
        made.become(Phase.CUTOVER)
        later = chromalith.MigratingClient("http://127.0.0.1:1", made.given[Role.TARGET], state=made.url)
        words(later).upsert(ids=["c"], embeddings=vectors(1))
        assert core_of(later).tally.failures == 2
        later.close()


def test_an_object_that_was_held_since_before_works_in_a_cutover_without_the_source(made: World) -> None:
    """The source fails every call after the cutover; the object's id is the source's."""
    collection = words(made.client)
    collection.upsert(ids=["a"], embeddings=vectors(1))
    made.become(Phase.CUTOVER)
    source = breakable(made, Role.SOURCE)

    def fail(real: Any, *args: Any, **named: Any) -> Any:
        raise OSError("gone")

    source.act = dict.fromkeys(["_upsert", "get_collection", "get_collection_by_id", "_get", "_count"], fail)
    collection.upsert(ids=["b"], embeddings=vectors(1))
    assert collection.count() == 2
    assert made.core.tally.failures == 1


def test_a_target_collection_that_was_made_anew_is_found_again(made: World) -> None:
    """A tool dropped and made it: the application's id still stands on the source, so its object goes on."""
    collection = words(made.client)
    collection.upsert(ids=["a"], embeddings=vectors(1))
    made.core.sides[Role.TARGET].drop("words")
    made.mirror()
    collection.upsert(ids=["b"], embeddings=vectors(1))
    assert (made.ids(Role.TARGET), made.core.tally.failures) == ({"b"}, 0)
    made.core.sides[Role.TARGET].drop("words")
    made.mirror()
    made.become(Phase.CUTOVER)
    collection.upsert(ids=["c"], embeddings=vectors(1))
    assert made.ids(Role.TARGET) == {"c"}
    made.core.sides[Role.TARGET].drop("words")
    with pytest.raises(NotFoundError):
        collection.upsert(ids=["d"], embeddings=vectors(1))


def test_an_object_of_a_deleted_collection_never_writes_into_what_the_target_kept_of_it(made: World) -> None:
    """The target failed the deletion, and keeps the old collection as the counterpart of the new one."""
    held = words(made.client)
    held.upsert(ids=["a"], embeddings=vectors(1))
    target = breakable(made, Role.TARGET)

    def fail(real: Any, *args: Any, **named: Any) -> Any:
        raise OSError("gone")

    target.act["delete_collection"] = fail
    made.client.delete_collection("words")
    new = words(made.client)
    for phase in [Phase.DUAL, Phase.CUTOVER]:
        made.become(phase)
        with pytest.raises(NotFoundError):
            held.upsert(ids=["b"], embeddings=vectors(1))
        new.upsert(ids=["c"], embeddings=vectors(1))
    assert made.ids(Role.SOURCE) == {"c"}
    assert made.ids(Role.TARGET) == {"a", "c"}  # until the deletion's entry is reconciled


def test_without_its_state_nothing_is_written_and_reads_go_on() -> None:
    """The state's store fails: Unavailable when the last reading is too old, neither side touched; it comes back by itself."""
    down = False

    def choose(call: Call) -> Fault | None:
        return Fault.BEFORE if down else None

    inner = MemoryStore(SYSTEM_CLOCK)
    store = FaultyStore(inner, choose, SYSTEM_CLOCK)
    states = States(Place(inner))
    with world(started=False, state=store) as made:
        collection = words(made.client, 1)
        made.mirror()
        states.create(
            State("default", SIDE, replace(SIDE, url="target"), Phase.DUAL, timing=Timing(state_age_max_s=1.0))
        )
        made.core.follower.look()
        collection.upsert(ids=["a"], embeddings=vectors(1))
        down = True
        with pytest.raises(Unavailable):  # the journal
            collection.upsert(ids=["b"], embeddings=vectors(1))
        time.sleep(1.1)
        with pytest.raises(Unavailable):
            collection.upsert(ids=["b"], embeddings=vectors(1))
        with pytest.raises(Unavailable):
            made.client.create_collection("more", embedding_function=None)
        assert collection.count() == 2
        assert made.ids(Role.SOURCE) == {"r0", "a"}
        assert made.ids(Role.TARGET) == {"a"}
        down = False
        collection.upsert(ids=["b"], embeddings=vectors(1))
        assert made.ids(Role.SOURCE) - made.ids(Role.TARGET) == {"r0"}
        inner.delete(states.place.state_key)
        time.sleep(1.1)
        with pytest.raises(Corrupt, match="is gone"):
            collection.upsert(ids=["c"], embeddings=vectors(1))
