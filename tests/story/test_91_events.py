"""What observers are told of writes and compactions: each event's numbers are what really happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from tests.story.sweeps import DAY_S, sweep, with_history
from tests.story.test_35_leased import LEASED, other_holder
from tests.worlds import DATABASE, TENANT, World, altered, keys, merging, vectors

import chromalith
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.coord.collections import Collections
from chromalith.coord.pointer import read_current
from chromalith.errors import ChromalithError, Conflict, Corrupt, Kind, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.plan import MergePolicy
from chromalith.model.retention import Retention
from chromalith.observe.events import Compacted, CompactionFailed, DeltaWritten, Event, Looked
from chromalith.observe.hooks import Observer
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.faulty import Fault, FaultyStore, at_calls, at_verb
from chromalith.wiring import open_session

Kept = TypeVar("Kept")


class Told(list[Event]):
    """An observer that keeps what it is told."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def only(self, kind: type[Kept]) -> list[Kept]:
        return [event for event in self if isinstance(event, kind)]

    def take(self, kind: type[Kept]) -> Kept:
        """The one event, of this kind; forgotten then."""
        assert len(self) == 1, list(self)
        event = self.pop()
        assert isinstance(event, kind)
        return event


def compactor(world: World, told: Observer, store: Store | None = None, settings: CompactionSettings | None = None) -> Compactor:
    store = store or world.store
    return Compactor(
        store, Collections(store, world.catalog), world.clock, settings or world.settings, observe=told
    )


class Before(EveryCallStore):
    """Before the first put of a key with this beginning and end, something else happens."""

    def __init__(self, inner: Store, prefix: str, happens: Callable[[], object], suffix: str = "") -> None:
        super().__init__(inner)
        self._what = (prefix, suffix)
        self._happens: Callable[[], object] | None = happens

    def call(self, verb, key, request):  # type: ignore[no-untyped-def]
        prefix, suffix = self._what
        if verb == "put" and key.startswith(prefix) and key.endswith(suffix) and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        return request()


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_acknowledged_call_is_told_after_it_is_durable() -> None:
    """Its rows and bytes are those of the stored delta; a call that is refused is not told."""
    with World() as world:
        told = Told()
        there: list[list[str]] = []
        session = world.session(observe=lambda event: (told(event), there.append(keys(world.store, layout.DELTA_ROOT)))[0])
        receipt = session.writer.write(world.cid, "upsert", ["a", "b"], vectors(2, 1))
        key = layout.delta_key(world.cid, receipt.delta)
        assert told.take(DeltaWritten) == DeltaWritten(world.cid, receipt.delta, 2, len(world.store.get(key).body))
        assert there == [[key]]
        with pytest.raises(ChromalithError):
            session.writer.write(world.cid, "upsert", ["a", "a"], vectors(2, 1))
        assert told == []


# -- compaction --------------------------------------------------------------------------------------------------------


def test_a_fold_is_told_with_its_numbers() -> None:
    """Deltas, versions, records and bytes; and nothing waits afterwards."""
    with World() as world:
        told = Told()
        for value in range(3):
            world.upsert("ab", value)
        outcome = compactor(world, told).run_once(world.cid)
        event = told.take(Compacted)
        assert (event.collection, event.published, event.deltas, event.live) == (world.cid, 1, 3, 2)
        assert (event.backlog, event.oldest_delta_s, event.quarantined, event.lost_races) == (0, 0.0, 0, 0)
        assert not event.left
        assert event.bytes_written == outcome.bytes_written > 0


def test_an_idle_run_is_a_success_with_nothing_in_it() -> None:
    """One event for each run, also while folded deltas are still listed; they are no backlog."""
    with World() as world:
        told = Told()
        world.upsert("ab", 1)
        world.compact()
        compactor(world, told).run_once(world.cid)
        event = told.take(Compacted)
        assert (event.published, event.deltas, event.bytes_written, event.backlog, event.live) == (0, 0, 0, 0, 2)
        assert not event.left


def test_what_is_too_young_waits() -> None:
    """On a store whose timestamps settle, the backlog and its age are those of the deltas that the fold left."""
    with World(remote=True) as world:
        told = Told()
        world.upsert("a", 1)
        world.clock.advance(10)
        world.upsert("b", 2)
        world.upsert("c", 3)
        world.clock.advance(1)
        compactor(world, told).run_once(world.cid)
        event = told.take(Compacted)
        assert (event.deltas, event.backlog, event.live) == (1, 2, 1)
        assert event.oldest_delta_s is not None
        assert 1 <= event.oldest_delta_s <= 2


def test_a_failed_run_tells_what_waits() -> None:
    """A fold that was not published took nothing from the backlog, and the oldest delta keeps its age."""
    with World() as world:
        told = Told()
        world.upsert("a", 1)
        world.clock.advance(100)
        world.upsert("b", 2)
        failing = FaultyStore(world.store, at_verb("put", *[Fault.BEFORE] * 50, key_prefix="segment/"), world.clock)
        with pytest.raises(Unavailable):
            compactor(world, told, failing).run_once(world.cid)
        event = told.take(CompactionFailed)
        assert (event.kind, event.published, event.deltas, event.backlog, event.live) == (Kind.UNAVAILABLE, 0, 0, 2, 0)
        assert event.oldest_delta_s is not None
        assert event.oldest_delta_s >= 99


def test_what_cannot_be_listed_is_not_guessed() -> None:
    """A store that is away: the failure is told, and of the backlog nothing, not even that there is none."""
    with World() as world:
        told = Told()
        world.upsert("a", 1)
        away = FaultyStore(world.store, at_verb("list", *[Fault.BEFORE] * 50), world.clock)
        with pytest.raises(Unavailable):
            compactor(world, told, away).run_once(world.cid)
        event = told.take(CompactionFailed)
        assert (event.backlog, event.oldest_delta_s, event.quarantined, event.live) == (None, None, None, None)


def test_what_was_published_before_a_failure_counts() -> None:
    """The fold is published, the merge fails: its deltas and bytes are told all the same, and nothing waits."""
    with World() as world:
        told = Told()
        world.upsert("a", 1)
        world.compact()
        world.upsert("b", 2)
        second: list[int] = []

        class NoMerge(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("segment/") and key.endswith("records.parquet"):
                    second.append(1)
                    if len(second) > 1:
                        raise Unavailable("away")
                return request()

        with pytest.raises(Unavailable):
            compactor(world, told, NoMerge(world.store), merging()).run_once(world.cid)
        event = told.take(CompactionFailed)
        assert (event.published, event.deltas, event.backlog, event.live) == (1, 1, 0, 2)
        assert event.bytes_written > 0


def test_what_is_left_to_the_holder_of_the_lease_waits() -> None:
    """No success is told, and the deltas that wait are: an alarm on them does not fall silent."""
    with World(settings=LEASED) as world:
        told = Told()
        world.upsert("ab", 1)
        world.upsert("c", 1)
        other = other_holder(world)
        world.clock.advance(7)
        compactor(world, told).run_once(world.cid)
        event = told.take(Compacted)
        assert event.left
        assert (event.backlog, event.published) == (2, 0)
        assert event.oldest_delta_s is not None
        assert event.oldest_delta_s >= 6
        other.release()
        compactor(world, told).run_once(world.cid)
        event = told.take(Compacted)
        assert (event.left, event.backlog, event.deltas) == (False, 0, 2)


def test_a_corrupt_collection_is_told_with_what_may_wait() -> None:
    """Its pointer is damaged, so nobody knows what is folded: every listed delta counts as waiting."""
    with World() as world:
        told = Told()
        world.upsert("ab", 1)
        world.clock.advance(50)
        altered(world.store, layout.pointer_key(world.cid), lambda body: b"nonsense")
        with pytest.raises(Corrupt):
            compactor(world, told).run_once(world.cid)
        event = told.take(CompactionFailed)
        assert (event.kind, event.backlog, event.live) == (Kind.CORRUPT, 1, None)
        assert event.oldest_delta_s is not None
        assert event.oldest_delta_s >= 49


def test_a_deleted_collection_is_no_failure() -> None:
    """What is left of its deltas is the sweep's: nothing is told of it."""
    with World() as world:
        told = Told()
        world.upsert("ab", 1)
        world.catalog.delete(TENANT, DATABASE, "words")
        with pytest.raises(NotFound):
            compactor(world, told).run_once(world.cid)
        assert told == []


def test_an_error_of_another_kind_is_told_too() -> None:
    """One that is not Chromalith's own is a bug until somebody knows better."""
    with World() as world:
        told = Told()
        world.upsert("ab", 1)

        class Broken(EveryCallStore):
            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put":
                    raise MemoryError
                return request()

        with pytest.raises(MemoryError):
            compactor(world, told, Broken(world.store)).run_once(world.cid)
        assert told.take(CompactionFailed).kind is Kind.BUG


def test_a_lost_race_is_counted_once_and_each_delta_too() -> None:
    """Another compactor folds everything just before the publish: this one starts again, finds nothing left, and says how it was."""
    with World() as world:
        first, second = Told(), Told()
        for value in range(3):
            world.upsert("ab", value)
        racing = Before(world.store, layout.pointer_key(world.cid), lambda: compactor(world, second).run_once(world.cid))
        compactor(world, first, racing).run_once(world.cid)
        lost, won = first.take(Compacted), second.take(Compacted)
        assert (lost.lost_races, won.lost_races) == (1, 0)
        assert (lost.deltas, won.deltas) == (0, 3)
        assert (lost.published, lost.backlog, lost.live) == (0, 0, 2)
        assert lost.bytes_written == 0, "what was not published was written in vain, and is garbage"


def test_a_fold_that_is_put_onto_a_sweeps_version_lost_one_race() -> None:
    """The same job is published: its deltas count once, its race too."""
    with World() as world:
        told = Told()
        with_history(world=world)
        world.clock.advance(DAY_S)
        before = world.current()
        world.upsert("d", 5)
        racing = Before(world.store, layout.pointer_key(world.cid), lambda: sweep(world, Retention(1, 0)))
        compactor(world, told, racing).run_once(world.cid)
        event = told.take(Compacted)
        assert (event.lost_races, event.deltas, event.published, event.backlog) == (1, 1, 1, 0)
        assert world.current().version == before.version + 2


def test_a_merge_that_lost_a_race_is_counted() -> None:
    """A fold is published while the merge writes its manifest: the merge is put onto it."""
    with World() as world:
        told = Told()
        for value, ids in enumerate(("ab", "cd")):
            world.upsert(ids, value)
            world.compact()
        world.clock.advance(61)
        world.compact()  # nothing left to fold or to sweep

        def fold() -> None:
            world.upsert("e", 9)
            world.compact()

        racing = Before(world.store, f"snapshot/{world.cid}/", fold, ".json")
        settings = replace(merging(), merge=MergePolicy(fan_in=2, rows_floor=10))
        compactor(world, told, racing, settings).run_once(world.cid)
        event = told.take(Compacted)
        assert event.lost_races == 1
        assert event.deltas == 0, "the fold was somebody else's"
        assert event.published >= 1
        assert event.live == 5


def test_quarantined_deltas_are_told_until_somebody_acts() -> None:
    """They are no backlog; each later run says again that there is one."""
    with World() as world:
        told = Told()
        receipt = world.upsert("a", 1)
        world.upsert("b", 2)
        altered(world.store, layout.delta_key(world.cid, receipt.delta), lambda body: body[:-9] + b"damaged!!")
        for deltas in (1, 0):
            compactor(world, told).run_once(world.cid)
            event = told.take(Compacted)
            assert (event.quarantined, event.deltas, event.backlog) == (1, deltas, 0)


def test_a_look_over_the_store_says_how_many_have_deltas() -> None:
    """None: then nothing waits anywhere."""
    with World() as world:
        told = Told()
        compactor(world, told).waiting()
        assert told.take(Looked) == Looked(0)
        world.upsert("a", 1)
        compactor(world, told).waiting()
        assert told.take(Looked) == Looked(1)


def test_one_corrupt_collection_does_not_keep_the_others_from_being_compacted(tmp_path: Path) -> None:
    """All are run and told; then the failure is raised."""
    url = str(tmp_path / "store")
    told = Told()
    with chromalith.Writer(url) as writer:
        cids = [writer.create(name).collection.id for name in ("a1", "b2", "c3")]
        for name in ("a1", "b2", "c3"):
            writer.upsert(name, ids=["x"], embeddings=[[1.0, 2.0]])
    damaged, *others = sorted(cids)  # the first that a listing shows
    with open_session(url) as session:
        altered(session.store, layout.pointer_key(damaged), lambda body: b"nonsense")
    with pytest.raises(Corrupt):
        chromalith.compact(url, observe=told)
    assert [event.collection for event in told.only(Compacted) if event.deltas == 1] == others
    (failed,) = told.only(CompactionFailed)
    assert (failed.collection, failed.kind, failed.backlog) == (damaged, Kind.CORRUPT, 1)
    assert told.only(Looked) == [Looked(3)]


# -- whatever happens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.LOST])
def test_each_delta_is_counted_once_whichever_call_fails(fault: Fault) -> None:
    """A run is repeated until it succeeds: its events add up to the versions and deltas that there are. Only of an ending that nobody
    knows nothing is counted, because it may not have been."""
    number, failed, calls = -1, 0, 1  # at first none fails, which says how many there are
    while number < calls:
        number += 1
        with World() as world:
            told = Told()
            for value in range(3):
                world.upsert("ab", value)
                if value < 2:
                    compactor(world, told).run_once(world.cid)
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(ChromalithError):
                compactor(world, told, store, merging()).run_once(world.cid)
            calls = max(calls, len(store.calls))
            compactor(world, told, settings=merging()).run_once(world.cid)
            runs = told.only(Compacted) + told.only(CompactionFailed)
            deltas, versions = sum(run.deltas for run in runs), sum(run.published for run in runs)
            unknown = any(run.kind is Kind.UNKNOWN for run in told.only(CompactionFailed))
            failed += len(told.only(CompactionFailed))
            assert world.documents() == {"a": "2", "b": "2"}
            assert deltas <= 3
            assert versions <= world.current().version
            assert unknown or (deltas, versions) == (3, world.current().version), (number, list(told))
            assert isinstance(told[-1], Compacted)
            assert (told[-1].backlog, told[-1].live) == (0, 2)
    assert calls > 20
    assert failed > 5, "a fault that no run noticed tests nothing"


def test_compactors_at_once_count_each_delta_once() -> None:
    """Without leases they race; their events add up to the deltas that were written and the versions that were published."""
    with World() as world:
        told, stop = Told(), threading.Event()
        store = MemoryStore(SYSTEM_CLOCK)
        with Session(store) as session:
            cid = session.catalog.create(TENANT, DATABASE, "words", configuration={"hnsw": {"space": "l2"}}).collection.id

            def work() -> None:
                with Session(store, observe=told) as own:
                    last = False
                    while not last:
                        last = stop.is_set()
                        with suppress(Conflict):
                            own.compactor(merging()).run_once(cid)

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for value in range(40):
                session.writer.write(cid, "upsert", ["a", f"b{value % 7}"], vectors(2, value))
            stop.set()
            for thread in threads:
                thread.join()
            session.compactor(world.settings).run_once(cid)
            manifest = read_current(store, cid).manifest
        runs = told.only(Compacted) + told.only(CompactionFailed)
        assert sum(run.deltas for run in runs) == 40
        assert sum(run.published for run in runs) == manifest.version
