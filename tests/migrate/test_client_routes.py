"""The migrating client by its routes: freezes, percentages, sticky reads, two authorities, threads, and the verbs in its own process."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chromadb.errors import InvalidArgumentError
from tests.migrate.client_world import World, breakable, vectors, words

import chromalith
from chromalith.errors import Invalid
from chromalith.migrate.client.core import LOWERS
from chromalith.migrate.client.open import core_of, migration_of
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze, Timing
from chromalith.store.url import open_store


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
