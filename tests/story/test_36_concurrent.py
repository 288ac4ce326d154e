"""Several compactors at once: with leases they share the work, without they race for it, and either way each delta counts once."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.story.test_80_crash import AFTER, finish, prepared
from tests.worlds import DATABASE, TENANT, World, merging

import chromalith
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.compaction.verify import verify
from chromalith.coord.collections import Collections
from chromalith.coord.history import manifest_at
from chromalith.coord.lease_table import LEASE_S
from chromalith.coord.pointer import read_current
from chromalith.errors import Conflict, LeaseHeld, Unavailable, Unknown
from chromalith.model.plan import MergePolicy
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.faulty import Call, Choose, Crash, Fault, FaultyStore

WRITERS, CALLS, ROWS, COMPACTORS = 4, 12, 5, 3
BUSY = MergePolicy(fan_in=3, rows_floor=10)
"""Merges all the time, in small groups."""


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore(SYSTEM_CLOCK) if request.param == "memory" else open_store((tmp_path / "store").as_uri())


class Crew:
    """Threads that write and compact one collection, each with a session of its own."""

    def __init__(self, store: Store, settings: CompactionSettings) -> None:
        self.store = store
        self.settings = settings
        self.stop = threading.Event()
        self.failed: list[BaseException] = []
        self.outcomes: list[Outcome] = []
        with Session(store) as session:
            configuration = {"hnsw": {"space": "l2"}}
            self.cid = session.catalog.create(TENANT, DATABASE, "words", configuration=configuration).collection.id

    def run(self) -> None:
        writers = [threading.Thread(target=self._guarded, args=(self._write, number)) for number in range(WRITERS)]
        compactors = [threading.Thread(target=self._guarded, args=(self._compact, number)) for number in range(COMPACTORS)]
        for thread in (*compactors, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        self.stop.set()
        for thread in compactors:
            thread.join()

    def _guarded(self, act: Callable[[int], None], number: int) -> None:
        try:
            act(number)
        except BaseException as error:
            self.failed.append(error)

    def _write(self, number: int) -> None:
        with Session(self.store) as session:
            for call in range(CALLS):
                # Each writer's own ids, of which every other call writes some again; and one id that all of them write.
                ids = [f"w{number}-{call // 2 * 2}-{row}" for row in range(ROWS)] + ["shared"]
                vectors = np.full((len(ids), 2), call, np.float32)
                session.writer.write(self.cid, "upsert", ids, vectors, documents=[f"{number} {call}"] * len(ids))
                if call % 4 == 3:
                    session.writer.write(self.cid, "delete", [f"w{number}-{call // 2 * 2}-0"])

    def _compact(self, number: int) -> None:
        with Session(self.store) as session:
            compactor = session.compactor(self.settings)
            last = False
            while not last:
                last = self.stop.is_set()
                with suppress(Conflict):
                    self.outcomes.append(compactor.run_once(self.cid))

    def check(self) -> None:
        assert not self.failed
        deltas = WRITERS * (CALLS + CALLS // 4)
        with Session(self.store) as session:
            session.compactor(replace(self.settings, lease=False)).run_once(self.cid)
            records = session.view(self.cid).get(include=("documents",))
        expected = {
            f"w{number}-{call}-{row}": f"{number} {call + 1}"
            for number in range(WRITERS)
            for call in range(0, CALLS, 2)
            for row in range(ROWS)
            if row or call % 4 != 2
        }
        found = dict(zip(records.ids, records.documents or [], strict=True))
        assert found.pop("shared").endswith(f" {CALLS - 1}")
        assert found == expected
        assert len(records.ids) == len(set(records.ids))
        verify(self.store, self.cid)
        manifest = read_current(self.store, self.cid).manifest
        taken = sum(run.stop - run.start for runs in manifest.folded.runs.values() for run in runs)
        assert taken == deltas
        kinds = Counter(manifest_at(self.store, self.cid, version).kind for version in range(manifest.version + 1))
        assert kinds["create"] == 1
        assert kinds["merge"] > 0
        folded = sum(outcome.folded for outcome in self.outcomes)
        assert folded <= deltas, "deltas were folded twice"


@pytest.mark.parametrize("lease", [True, False])
def test_several_compactors_fold_each_delta_once(store: Store, lease: bool) -> None:
    """Whether they share the work or race for it: every acknowledged write is there, once, and the checksums are right."""
    crew = Crew(store, CompactionSettings(merge=BUSY, lease=lease, lease_s=2.0, fold_grace_s=0.5, fold_deltas_max=7))
    crew.run()
    crew.check()
    held = sum(outcome.held_by is not None for outcome in crew.outcomes)
    assert (held > 0) is lease


# -- merges side by side -----------------------------------------------------------------------------------------------


class Inline(Executor):
    """Runs what is submitted at once, and counts."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def two_tiers(world: World) -> dict[str, str]:
    """Two groups that can be merged apart: three segments of one record, three of nine."""
    for value in range(3):
        world.upsert([f"small{value}"], value)
        world.compact()
    for value in range(3):
        world.upsert([f"large{value}-{row}" for row in range(9)], value)
        world.compact()
    return {f"small{v}": str(v) for v in range(3)} | {f"large{v}-{r}": str(v) for v in range(3) for r in range(9)}


TWO_TIERS = MergePolicy(fan_in=3, rows_floor=2, deleted_fraction_max=1)


def compactor(world: World, executor: Executor | None, store: Store | None = None) -> Compactor:
    store = store or world.store
    settings = replace(world.settings, merge=TWO_TIERS)
    return Compactor(store, Collections(store, world.catalog), world.clock, settings, merge_executor=executor)


def test_independent_merges_run_side_by_side() -> None:
    """All groups of a plan are submitted at once; each is published onto those before it; the result is that of one after the other."""
    results = []
    for executor in (None, Inline(), ThreadPoolExecutor(4)):
        with World() as world:
            expected = two_tiers(world)
            outcome = compactor(world, executor).run_once(world.cid)
            assert outcome.merged == 6
            assert len(outcome.published) == 2
            assert [manifest_at(world.store, world.cid, version).kind for version in outcome.published] == ["merge", "merge"]
            assert world.documents() == expected
            verify(world.store, world.cid)
            current = world.current()
            results.append((current.content, current.embedding, sorted(segment.rows for segment in current.segments)))
            if isinstance(executor, Inline):
                assert executor.submitted == 2
        if executor is not None:
            executor.shutdown()
    assert results[0] == results[1] == results[2]
    assert results[0][2] == [3, 27]


def test_a_fold_meanwhile_is_carried_by_every_merge() -> None:
    """Merges that run side by side each carry the deletes of a fold that was published while they wrote."""
    with World() as world, ThreadPoolExecutor(2) as executor:
        expected = two_tiers(world)
        once = threading.Event()

        class Meanwhile(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("snapshot/") and not once.is_set():
                    once.set()
                    world.upsert(["small0", "large1-4"], 9)
                    world.writer().write(world.cid, "delete", ["large0-0"])
                    world.compact()
                return request()

        outcome = compactor(world, executor, Meanwhile(world.store)).run_once(world.cid)
        assert once.is_set()
        assert outcome.merged >= 6
        del expected["large0-0"]
        assert world.documents() == expected | {"small0": "9", "large1-4": "9"}
        verify(world.store, world.cid)


def test_a_merge_that_fails_leaves_the_others() -> None:
    """One group's failure is raised when the others have ended; nothing goes on behind the caller's back."""
    with World() as world, ThreadPoolExecutor(2) as executor:
        expected = two_tiers(world)
        puts = Counter[str]()
        ended = threading.Event()

        class Failing(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("segment/"):
                    puts["segment"] += 1
                    if puts["segment"] == 1:
                        raise Unavailable("no")
                    SYSTEM_CLOCK.sleep(0.2)
                    ended.set()
                return request()

        with pytest.raises(Unavailable):
            compactor(world, executor, Failing(world.store)).run_once(world.cid)
        assert ended.is_set() or puts["segment"] == 1
        calls = puts["segment"]
        SYSTEM_CLOCK.sleep(0.5)
        assert puts["segment"] == calls
        assert world.documents() == expected
        assert compactor(world, executor).run_once(world.cid).merged == 6
        assert world.documents() == expected


@pytest.mark.slow
def test_merges_run_in_other_processes(tmp_path: Path) -> None:
    """An executor of processes gets orders that open the store there; the planner publishes what they wrote."""
    url = (tmp_path / "store").as_uri()
    with Session(open_store(url)) as session:
        cid = session.catalog.create(TENANT, DATABASE, "words", configuration={"hnsw": {"space": "l2"}}).collection.id
        never = CompactionSettings(merge=MergePolicy(fan_in=99, deleted_fraction_max=1))
        for number in range(6):
            rows = 1 if number < 3 else 9
            ids = [f"{number}-{row}" for row in range(rows)]
            session.writer.write(cid, "upsert", ids, np.full((rows, 2), number, np.float32))
            session.compactor(never).run_once(cid)
        before = read_current(session.store, cid).manifest
        assert len(before.segments) == 6
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
            outcome = session.compactor(CompactionSettings(merge=TWO_TIERS), merge_executor=executor).run_once(cid)
        after = read_current(session.store, cid).manifest
        assert outcome.merged == 6
        assert (after.live, after.content, after.embedding, len(after.segments)) == (30, before.content, before.embedding, 2)
        verify(session.store, cid)


# -- crashes under a lease ---------------------------------------------------------------------------------------------


def dying(number: int, fault: Fault) -> Choose:
    """A fault at one call; and if it is a crash, none after it comes through: who died releases nothing on the way out."""

    def choose(call: Call) -> Fault | None:
        if call.number == number:
            return fault
        return Fault.CRASH_BEFORE if call.number > number and fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER) else None

    return choose


@pytest.mark.parametrize(("fault", "step"), [(Fault.CRASH_AFTER, 2), (Fault.CRASH_BEFORE, 5), (Fault.LOST, 5), (Fault.LATE, 5)])
def test_a_leased_compaction_can_end_at_any_call(fault: Fault, step: int) -> None:
    """As without a lease: whatever call is the last, another takes over when the lease has run out, and everything is there once."""
    leased = merging(lease=True, heartbeat=False)
    number, waited, struck = 0, 0, True
    while struck:
        number += step
        with prepared() as world:
            store = FaultyStore(world.store, dying(number, fault), world.clock)
            world.clock.advance(10)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                world.compactor(store, leased).run_once(world.cid)
            struck = bool(store.struck)
            assert world.documents() == AFTER, number
            store.land()
            other = world.compactor(settings=leased)
            if other.run_once(world.cid).held_by is not None:
                waited += 1
                world.clock.advance(LEASE_S)
                assert other.run_once(world.cid).held_by is None, number
            finish(world)
            store.land()
            assert world.documents() == AFTER, number
    assert number > 30
    # A lost reply is looked up, so the lease is released as ever; who dies leaves it to run out.
    assert (waited > 2) is (fault not in (Fault.LOST, Fault.LATE))


# -- the public verb ---------------------------------------------------------------------------------------------------


def test_compact_raises_only_if_nothing_could_be_done(tmp_path: Path) -> None:
    """For one collection that was named, and nothing else: of all collections each outcome says for itself."""
    from tests.unit.cli.test_lock import taken

    url = str(tmp_path / "store")
    with chromalith.Writer(url) as writer:
        writer.create("words")
        writer.create("other")
        for name in ("words", "other"):
            writer.upsert(name, ids=["a"], embeddings=[[1, 2]])
    fold = taken(url, lease_s=60)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            fold.beat()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LeaseHeld, match=fold.record.owner):
            chromalith.compact(url, "words")
        outcomes = chromalith.compact(url)
        assert sorted((outcome.folded, outcome.held_by is not None) for outcome in outcomes) == [(0, True), (1, False)]
        settings = CompactionSettings(lease=False)
        assert chromalith.compact(url, "words", settings=settings)[0].folded == 1
    finally:
        stop.set()
        thread.join()
