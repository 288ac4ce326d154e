"""The migrating client where things go wrong: a second that fails, hangs or talks nonsense, a state that can't be had, much at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import chromadb
import pytest
from chromadb.config import Settings
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError
from tests.migrate.client_world import SIDE, World, breakable, vectors, words, world

import chromalith
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Corrupt, Invalid, Unavailable
from chromalith.migrate.client.core import LOWERS
from chromalith.migrate.client.open import core_of, migration_of
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze, State, Timing
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.store.url import open_store
from chromalith.testing.faulty import Call, Fault, FaultyStore


@pytest.fixture(params=["chromalith", "stock"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """In phase dual, with the collection ``words`` on both sides."""
    source = None
    if request.param == "stock":
        source = chromadb.PersistentClient(str(tmp_path / "source"), Settings(anonymized_telemetry=False))
    try:
        with world(source) as two:
            words(two.client)
            two.mirror()
            two.become(Phase.DUAL)
            yield two
    finally:
        if source is not None:
            source.close()


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


def test_writes_wait_while_they_are_frozen_and_reads_do_not(made: World) -> None:
    """Eight threads write into a freeze; none is done until it ends; then all are, with the new authority."""
    collection = words(made.client, 1)
    made.become(freeze=Freeze("f", "switch", "tool", 0))
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(collection.upsert, ids=[f"w{n}"], embeddings=vectors(1)) for n in range(8)]
        for _ in range(5):
            assert collection.count() == 1
        assert not any(write.done() for write in writes)
        made.become(Phase.CUTOVER, freeze=None)
        for write in writes:
            write.result(20)
    assert made.ids(Role.TARGET) == {"r0"} | {f"w{n}" for n in range(8)}
    made.core.journal.flush()
    listing = made.core.journal.entries()
    entries, _ = made.core.journal.read(listing.touched)
    written = [entry for found in entries.values() for entry in found if entry.ids and entry.ids[0].startswith("w")]
    assert {entry.authority for entry in written} == {Role.TARGET}


def test_a_freeze_whose_tool_died_ends_by_itself(made: World) -> None:
    """The client takes it back after its limit, and writes as before."""
    collection = words(made.client)
    made.become(freeze=Freeze("f", "switch", "tool", 0), timing=Timing(freeze_limit_s=0.5))
    collection.upsert(ids=["a"], embeddings=vectors(1))
    state = made.states.get()
    assert (state.freeze, state.phase) == (None, Phase.DUAL)
    assert "taken back" in state.history[-1].note
    assert made.core.client in state.history[-1].who
    assert made.ids(Role.TARGET) == {"a"}


def test_reads_are_divided_by_the_percentage_and_stick_to_a_key(made: World) -> None:
    """In a ramp about the percentage of calls reads the target; calls with one key all read one side; other phases never divide."""
    collection = words(made.client, 3)
    reads = made.core.tally.reads
    for phase in [Phase.DUAL, Phase.VERIFY]:
        made.become(phase, reads=100)
        collection.count()
    assert reads[Role.TARGET] == 0
    made.become(Phase.RAMP, reads=30)
    for _ in range(300):
        collection.count()
    assert 50 <= reads[Role.TARGET] <= 130
    sides = set()
    for key in ["ann", "bob", "eve", "joe", "kim", "lea", "max", "pia"]:
        before = dict(reads)
        with chromalith.sticky(key):
            for _ in range(5):
                collection.count()
        moved = {role for role in Role if reads[role] - before[role]}
        assert len(moved) == 1
        sides |= moved
        assert moved == {Route(made.states.get()).reads(key)}
    assert sides == set(Role)
    by_argument = made.another(sticky=lambda: "kim")
    one = words(by_argument)
    for _ in range(20):
        one.count()
    assert sorted(core_of(by_argument).tally.reads.values()) == [0, 20]
    made.become(Phase.CUTOVER)
    before = reads[Role.SOURCE]
    collection.count()
    assert reads[Role.SOURCE] == before


def test_in_a_ramp_a_read_that_the_target_fails_is_the_sources_and_counted(made: World) -> None:
    """Its answer, or its error; in a cutover the target's error is the caller's."""
    collection = words(made.client, 3)
    made.become(Phase.RAMP, reads=100)
    target = breakable(made, Role.TARGET)

    def fail(real: Any, *args: Any, **named: Any) -> Any:
        raise OSError("gone")

    target.act = dict.fromkeys(["_get", "_query", "_count"], fail)
    assert collection.get(ids=["r1"], include=["documents"])["documents"] == ["text r1"]
    assert collection.count() == 3
    assert (made.core.tally.fallbacks, made.core.tally.reads[Role.TARGET]) == (2, 0)
    with pytest.raises(Exception) as caught:
        collection.query(query_embeddings=[[1.0, 2.0]])
    assert not isinstance(caught.value, OSError)
    made.become(Phase.CUTOVER)
    with pytest.raises(OSError, match="gone"):
        collection.count()


def test_deletes_by_filter_find_each_id_at_its_authority(made: World) -> None:
    """With both sides authorities of some: what matches there is deleted on both; the limit counts once."""
    collection = words(made.client, 40)
    made.become(Phase.RAMP, writes=50)
    route = Route(made.states.get())
    ids = [f"r{n}" for n in range(40)]
    at_target = {i for i in ids if route.authority(i) is Role.TARGET}
    assert 5 < len(at_target) < 35
    for role in Role:  # the sides disagree about every record: each is authority of its own
        plain = made.plain(role).get_collection("words", embedding_function=None)
        plain.update(ids=ids, metadatas=[{"who": str(role)} for _ in ids])
    assert collection.delete(where={"who": "target"}, limit=3)["deleted"] == 3
    assert collection.delete(where={"who": "target"})["deleted"] == len(at_target) - 3
    left = set(ids) - at_target
    made.reconciled()
    assert made.ids(Role.SOURCE) == made.ids(Role.TARGET) == left
    assert collection.delete(where={"who": "source"}, limit=3)["deleted"] == 3
    assert len(made.ids(Role.SOURCE)) == len(left) - 3
    assert collection.delete(where={"who": "nobody"}) == {"deleted": 0}


def test_the_environment_lowers_one_process_at_once(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at each call; nonsense is refused when the client is opened and when it is changed to; below 1 is refused after the cutover."""
    collection = words(made.client)
    made.become(Phase.RAMP, writes=100)
    for text, first in [("0", Role.SOURCE), ("", Role.TARGET), ("1", Role.TARGET), ("0.0", Role.SOURCE)]:
        monkeypatch.setenv(LOWERS, text)
        collection.upsert(ids=["a"], embeddings=vectors(1), documents=[text])
        made.core.journal.flush()
        listing = made.core.journal.entries()
        entries, _ = made.core.journal.read(listing.touched)
        assert entries[max(entries)][-1].authority is first
    assert made.held(Role.TARGET) == {"a": "0.0"}
    for text in ["-0.1", "1.5", "half", "nan", "inf"]:
        monkeypatch.setenv(LOWERS, text)
        with pytest.raises(Invalid, match="not a part of a whole"):
            made.another()
        with pytest.raises(InvalidArgumentError, match="not a part of a whole"):
            collection.upsert(ids=["b"], embeddings=vectors(1))
    monkeypatch.setenv(LOWERS, "0.5")
    made.become(Phase.CUTOVER)
    with pytest.raises(InvalidArgumentError, match="can't be below 1"):
        collection.upsert(ids=["b"], embeddings=vectors(1))
    assert made.ids(Role.SOURCE) == made.ids(Role.TARGET) == {"a"}


def test_a_target_that_takes_less_at_once_gets_several_calls(made: World) -> None:
    """The second's write is cut to what that side takes; the application is told the smaller number."""
    collection = words(made.client)
    side = made.core.sides[Role.TARGET]
    side._limits = type(side.limits)(records_per_write=4, records_per_read=4)
    target = breakable(made, Role.TARGET)
    ids = [f"a{n}" for n in range(10)]
    collection.upsert(ids=ids, embeddings=vectors(10), metadatas=[{"n": n} for n in range(10)])
    assert target.calls.count("_upsert") == 3
    assert made.unequal() == []
    collection.delete(ids=ids)
    assert target.calls.count("_delete") == 3
    assert made.ids(Role.TARGET) == set()
    assert made.client.get_max_batch_size() == 4


def test_what_one_of_two_authorities_would_refuse_is_refused_before_the_other_writes(made: World) -> None:
    """A call with two authorities and one bad record: nothing is written or noted, as with one database."""
    collection = words(made.client)
    made.become(Phase.RAMP, writes=50)
    made.reconciled()
    ids = [f"a{n}" for n in range(20)]
    for bad in range(20):
        metadatas: list[Any] = [{"n": 1, "gone": None} if n == bad else {"n": n} for n in range(20)]
        with pytest.raises(InvalidArgumentError, match=f"None id='a{bad}'"):
            collection.add(ids=ids, embeddings=vectors(20), metadatas=metadatas)
    assert made.ids(Role.SOURCE) == made.ids(Role.TARGET) == set()
    assert made.core.journal.counts().entries == 0
    collection.update(ids=ids, metadatas=[{"n": None}] * 20)
    collection.upsert(ids=ids, embeddings=vectors(20), metadatas=[{"n": None, "k": 1}] * 20)
    assert made.unequal() == []


def test_threads_share_one_client_and_nothing_is_lost(made: World) -> None:
    """Eight threads add, update, upsert, delete and read through one Collection while the target fails now and then.

    Each reads what it wrote; afterwards the journal makes the sides equal, and every id is what was last acknowledged of it."""
    collection = words(made.client)
    target = breakable(made, Role.TARGET)
    lock, count = threading.Lock(), [0]

    def flaky(real: Any, *args: Any, **named: Any) -> Any:
        with lock:
            count[0] += 1
            if count[0] % 5 == 0:
                raise InvalidArgumentError("now and then")
        return real(*args, **named)

    target.act = dict.fromkeys(["_add", "_upsert", "_update", "_delete"], flaky)
    wanted: dict[str, str] = {}

    def work(thread: int) -> None:
        for n in range(12):
            own = f"t{thread}-{n % 4}"
            text = f"{thread} {n}"
            collection.upsert(ids=[own, f"t{thread}-{n % 4}b"], embeddings=vectors(2, n), documents=[text, text])
            wanted[own] = wanted[f"{own}b"] = text
            if n % 6 == 5:
                collection.delete(ids=[own])
                del wanted[own]
            found = collection.get(ids=[own], include=["documents"])["documents"]
            assert found == ([] if own not in wanted else [text])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    target.act.clear()
    assert made.reconciled()
    assert made.unequal() == []
    assert made.held(Role.SOURCE) == made.held(Role.TARGET) == wanted
    assert made.core.tally.failures > 0


def test_the_verbs_run_in_the_applications_process(made: World) -> None:
    """migration_of works over the sides that the client has open."""
    collection = words(made.client, 3)
    made.reconciled()
    flow = migration_of(made.client)
    assert flow.states.get().phase is Phase.DUAL
    assert flow.sides().source is made.core.sides[Role.SOURCE]
    flow.pause()
    assert made.states.get().paused
    flow.parts.close()
    assert collection.count() == 3


def test_a_process_ends_though_the_second_hangs_and_nobody_closed_the_client(tmp_path: Path) -> None:
    """What hangs is cut off; its entry stays open for those who look."""
    program = f"""
import sys, time, threading
from dataclasses import replace
import numpy as np
import chromalith
from chromalith.migrate.client.open import core_of
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.states import States
client = chromalith.MigratingClient("memory://a", "memory://b", state={str(tmp_path)!r})
collection = client.create_collection("words", embedding_function=None)
core = core_of(client)
core.sides[Role.TARGET].create("words", core.sides[Role.SOURCE].collection("words").definition)
side = SideName(SideKind.CLIENT, "source", "t", "d")
States(core.place).create(State("default", side, replace(side, url="t"), Phase.DUAL, timing=Timing(second_write_s=0.05)))
core.follower.look()
core.sides[Role.TARGET].server._upsert = lambda *args, **named: threading.Event().wait()
collection.upsert(ids=["a"], embeddings=np.ones((1, 3)))
print("done", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
    journal = Journal(Place(open_store(str(tmp_path))))
    assert journal.entries().open == 1
    journal.stop()
