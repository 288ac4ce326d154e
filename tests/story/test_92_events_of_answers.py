"""What observers are told of answers; and of anything: at no request, and no observer can undo what was done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.story.test_91_events import Told
from tests.worlds import World, merging, vectors

from chromalith.errors import ChromalithError
from chromalith.model import layout
from chromalith.observe.events import Compacted, DeltaWritten, Event, Looked, Queried
from chromalith.observe.hooks import Observer
from chromalith.read.reader import ReadLevel
from chromalith.session import Session
from chromalith.store.wrappers import CountingStore, EveryCallStore


class Slow(EveryCallStore):
    """Each GET of a segment's object takes a second, each LIST ten."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store)
        self._world = world

    def call(self, verb: str, key: str, request: Callable[[], Any]) -> Any:
        if verb.startswith("get") and key.startswith(("segment/", "folded/")):
            self._world.clock.advance(1)
        if verb == "list":
            self._world.clock.advance(10)
        return request()


def test_an_answer_tells_what_it_took() -> None:
    """Cold: the fetches; warm: none. The opening of the view counts with its first answer only."""
    with World() as world:
        told = Told()
        world.upsert("abc", 1)
        world.compact()
        world.clock.advance(500)
        session = world.session(Slow(world), observe=told)
        view = session.view(world.cid)
        assert told == [], "a view alone is no answer"
        view.query(vectors(1, 0), 2)
        cold = told.take(Queried)
        fetched = cold.hydration_s
        assert fetched >= 1
        assert cold.seconds == pytest.approx(10 + fetched)
        assert cold.overlay_rows == 0
        assert cold.snapshot_age_s == pytest.approx(510 + fetched, abs=1)
        view.get(ids=["a"])
        again = told.take(Queried)
        assert again.seconds == again.hydration_s, "the listing of the opening has been counted"
        session.view(world.cid).get(ids=["a"])
        warm = told.take(Queried)
        assert (warm.collection, warm.seconds, warm.hydration_s) == (world.cid, 10, 0)


def test_an_answer_tells_what_is_not_folded() -> None:
    """Records that deltas brought, and not those that they deleted."""
    with World() as world:
        told = Told()
        world.upsert("abc", 1)
        world.compact()
        world.upsert("cd", 2)
        world.writer().write(world.cid, "delete", ["a"])
        world.session(observe=told).view(world.cid).query(vectors(1, 0), 2)
        assert told.take(Queried).overlay_rows == 2


def test_an_old_version_has_the_age_of_its_own() -> None:
    """However new the current one is."""
    with World() as world:
        told = Told()
        world.upsert("abc", 1)
        world.compact()
        old = world.current()
        world.clock.advance(1000)
        world.upsert("d", 1)
        world.compact()
        session = world.session(observe=told)
        session.view(world.cid).get()
        assert told.take(Queried).snapshot_age_s < 1
        session.reader.view_of(old).get()
        assert told.take(Queried).snapshot_age_s > 999


def test_waiting_for_a_token_is_no_latency() -> None:
    """The last look counts, the waiting does not."""
    with World() as world:
        told = Told()
        world.upsert("a", 1)
        world.compact()
        receipt = world.upsert("b", 1)

        class Waiting(EveryCallStore):
            reads = 0

            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if key == layout.pointer_key(world.cid):
                    self.reads += 1
                    world.clock.advance(5)
                    if self.reads == 4:
                        world.compact()
                return request()

        store = Waiting(world.store)
        reader = world.session(store, observe=told, read_level=ReadLevel.INDEX_ONLY)
        reader.view(world.cid, after=receipt.token, timeout_s=1000).get()
        assert store.reads == 4
        assert told.take(Queried).seconds == pytest.approx(5)


def test_an_answer_that_raises_is_none() -> None:
    """A wrong filter is the caller's; nothing is told."""
    with World() as world:
        told = Told()
        world.upsert("a", 1)
        view = world.session(observe=told).view(world.cid)
        with pytest.raises(ChromalithError):
            view.get(where={"$nonsense": 1})
        assert told == []


# -- all ---------------------------------------------------------------------------------------------------------------


def story(world: World, observe: Observer | None) -> list[tuple[Any, int]]:
    """A whole life, and the requests that it took."""
    counting = CountingStore(world.store)
    options: dict[str, Any] = {} if observe is None else {"observe": observe}
    with Session(counting, clock=world.clock, **options) as session:
        for value in range(4):
            session.writer.write(world.cid, "upsert", ["a", "b", f"c{value}"], vectors(3, value))
            session.view(world.cid).query(vectors(1, 0), 2)
            run = session.compactor(replace(merging(), lease=True, heartbeat=False))
            for cid in run.waiting():
                run.run_once(cid)
            session.view(world.cid).get()
        world.clock.advance(61)
        run.waiting()
        run.run_once(world.cid)
        run.waiting()
    return sorted(counting.counts.kinds.items())


def test_no_request_is_made_for_an_event() -> None:
    """The same life costs the same requests, watched or not."""
    with World() as watched, World() as alone:
        told = Told()
        assert story(watched, told) == story(alone, None)
        assert {type(event) for event in told} == {DeltaWritten, Looked, Compacted, Queried}


def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Calls return what they return without it; what it raised is in the log."""

    def broken(event: Event) -> None:
        raise RuntimeError(type(event).__name__)

    with World() as watched, World() as alone:
        assert story(watched, broken) == story(alone, None)
        assert watched.documents() == alone.documents()
    failed = {str(record.exc_info[1]) for record in caplog.records if record.exc_info is not None}
    assert failed == {"DeltaWritten", "Looked", "Compacted", "Queried"}


def test_an_observer_that_hangs_delays_its_own_caller_only() -> None:
    """What was written is durable and visible to others before anybody is told; so is what was folded."""
    with World() as world:
        told, go_on = threading.Event(), threading.Event()

        def hangs(event: Event) -> None:
            told.set()
            assert go_on.wait(60)

        def work() -> None:
            with Session(world.store, clock=world.clock, observe=hangs) as session:
                session.writer.write(world.cid, "upsert", ["a"], vectors(1, 1))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert told.wait(60)
            assert world.view().count() == 1
            world.upsert("b", 2)
            assert world.compact().folded == 2
        finally:
            go_on.set()
            thread.join()
