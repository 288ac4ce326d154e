"""Sessions: a write hands out a token, and whoever is given it can wait until it sees that write, at any read level and never for ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.worlds import DATABASE, NAME, TENANT, World, altered, documents, vectors

from chromalith import Reader, Writer, compact, wait_for
from chromalith.clock import ManualClock
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.errors import ChromalithError, Conflict, Corrupt, Invalid, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.delta import VOID
from chromalith.model.ids import DeltaId
from chromalith.model.session_token import SessionToken
from chromalith.read.reader import ReadLevel
from chromalith.session import Session
from chromalith.store.wrappers import CountingStore
from chromalith.write.writer import DeltaWriter

WEAK = [ReadLevel.INDEX_ONLY, ReadLevel.INDEX_AND_BOUNDED_WAL]
LEVELS = [ReadLevel.INDEX_AND_WAL, *WEAK]


@dataclass(slots=True)
class Waker(ManualClock):
    """A clock that is held, on which something happens at the n-th sleep."""

    at_sleep: dict[int, Callable[[], object]] = field(default_factory=dict)
    sleeps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        ManualClock.sleep(self, seconds)
        self.at_sleep.pop(len(self.sleeps), lambda: None)()


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def reader_of(world: World, clock: Waker, level: ReadLevel = ReadLevel.INDEX_AND_WAL) -> Session:
    """A process with a clock of its own, which has read the collection before."""
    session = Session(world.store, clock=clock, read_level=level)
    world._exit.callback(session.close)
    session.view(world.cid)
    return session


# Seeing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_read_after_a_token_sees_the_write(world: World, level: ReadLevel) -> None:
    """At every level, also for a process that answers from what it read before; the weakest waits until the write is folded."""
    world.upsert("a", 1)
    world.compact()
    clock = Waker()
    session = reader_of(world, clock, level)
    token = world.upsert("b", 2).token
    clock.at_sleep[3] = world.compact
    assert (documents(session.view(world.cid)).keys() == {"a"}) is (level in WEAK)
    assert documents(session.view(world.cid, after=token)) == {"a": "1", "b": "2"}
    assert len(clock.sleeps) == (3 if level is ReadLevel.INDEX_ONLY else 0)
    assert documents(session.view(world.cid)) == {"a": "1", "b": "2"}, "and what was seen stays seen"


def test_a_token_outlives_fold_sweep_and_time(world: World) -> None:
    """It is satisfied by the overlay, by the folded set, and by the folded set when the delta's object is long gone."""
    token = world.upsert("a", 1).token
    for _ in range(3):
        assert documents(world.session().view(world.cid, after=token, timeout_s=0)) == {"a": "1"}
        world.clock.advance(100)
        world.compact()
    world.clock.advance(20 * 86_400)
    world.upsert("b", 1)
    world.compact()
    assert not [key for key in world.store.list(layout.delta_prefix(world.cid)) if token.split(":")[1] in key[0].key]
    world.session().wait(token, 0)


def test_a_call_that_was_repeated(world: World) -> None:
    """Each of its tokens is satisfied by whichever of its deltas counts, waiting or folded."""
    first = world.upsert("a", 1, call_id="x").token
    world.clock.advance(1)
    second = world.upsert("a", 1, call_id="x", writer=world.writer()).token
    assert first != second
    for _ in range(2):
        for token in (first, second):
            world.session().wait(token, 0)
        world.compact()


def test_what_it_costs(world: World) -> None:
    """Where the default level has it, as nearly always, a read after a token makes the requests of any other read."""
    token = world.upsert("a", 1).token
    store = CountingStore(world.store)
    session = world.session(store)
    session.view(world.cid)
    store.reset()
    session.view(world.cid)
    plain = store.reset().requests
    session.view(world.cid, after=token)
    assert store.reset().requests == plain == {"list": 1, "get_if_changed": 1}
    bounded = world.session(store, read_level=ReadLevel.INDEX_AND_BOUNDED_WAL)
    bounded.view(world.cid)
    store.reset()
    bounded.view(world.cid, after=token)
    assert store.reset().total == 0


# Not seeing -----------------------------------------------------------------------------------------------------------


def stranger(world: World) -> str:
    """A token of a write that nobody made."""
    return f"{world.cid}:{DeltaId(world.clock.now_us() << 12, 'f' * 32, 0, '0' * 16)}"


@pytest.mark.parametrize("timeout_s", [0, 0.01, 7.5])
@pytest.mark.parametrize("level", LEVELS)
def test_the_wait_is_bounded(world: World, level: ReadLevel, timeout_s: float) -> None:
    """It lasts as long as was asked, not longer, asks the store at growing distances, and says what to do."""
    world.upsert("a", 1)
    world.compact()
    clock = Waker()
    session = reader_of(world, clock, level)
    with pytest.raises(Unavailable, match="not seen in time") as caught:
        session.view(world.cid, after=stranger(world), timeout_s=timeout_s)
    assert caught.value.hint
    assert clock.slept_s == pytest.approx(timeout_s)
    assert len(clock.sleeps) <= 20
    assert max(clock.sleeps, default=0) <= 1.0


def test_the_snapshot_alone_needs_a_fold(world: World) -> None:
    """At INDEX_ONLY nothing but a fold can end the wait, and the error says so."""
    clock = Waker()
    session = reader_of(world, clock, ReadLevel.INDEX_ONLY)
    token = world.upsert("a", 1).token
    with pytest.raises(Unavailable) as caught:
        session.wait(token, 3)
    assert "compact" in str(caught.value.hint)
    session.wait(token, 0, ReadLevel.INDEX_AND_WAL)


def test_what_a_restore_set_aside(world: World) -> None:
    """A write that was waiting when an older version was restored is never seen: whoever waits is told at once."""
    world.upsert("a", 1)
    world.compact()
    token = world.upsert("b", 2).token
    session = world.session()
    session.restorer().run(world.cid, 1)
    for level in LEVELS:
        with pytest.raises(Conflict, match="set aside"):
            world.session().wait(token, 60, level)
    assert world.clock.slept_s == 0


def test_a_call_that_was_given_up(world: World) -> None:
    """A void delta, waiting or folded, is no write."""
    world.upsert("a", 1)
    token = SessionToken.parse(stranger(world))
    world.store.put(layout.delta_key(world.cid, token.delta), VOID)
    for _ in range(2):
        with pytest.raises(NotFound, match="gave up"):
            world.session().wait(token, 60)
        world.compact()
    assert world.clock.slept_s == 0


def test_a_quarantined_write(world: World) -> None:
    """A delta that was damaged after it was acknowledged is named, with the reason."""
    receipt = world.upsert("a", 1)
    altered(world.store, layout.delta_key(world.cid, receipt.delta), lambda body: body[:-1])
    world.compact()
    with pytest.raises(Corrupt, match="quarantined"):
        world.session().wait(receipt.token, 60)
    assert world.clock.slept_s == 0


def test_a_collection_that_is_gone(world: World) -> None:
    """Or is another one: neither is waited for."""
    token = world.upsert("a", 1).token
    other = world.create("other")
    with pytest.raises(Invalid, match="another collection"):
        world.session().view(other, after=token)
    session = world.session()
    world.catalog.delete(TENANT, DATABASE, NAME)
    for each in (session, world.session()):
        with pytest.raises(NotFound):
            each.wait(token, 60)
    assert world.clock.slept_s == 0


@pytest.mark.parametrize("text", ["", "x", ":", "00000000-0000-4000-8000-000000000000", "a:b", "é:ü", None, 7, "../x:y"])
def test_what_is_no_token(world: World, text: Any) -> None:
    """Refused before any request, with what a token looks like."""
    session = world.session()
    for act in (session.wait, session.order_after):
        with pytest.raises(Invalid, match="not a session token") as caught:
            act(text)
        assert "Receipt" in str(caught.value.hint)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf")])
def test_what_is_no_time(world: World, timeout_s: float) -> None:
    """A wait without an end is refused."""
    with pytest.raises(Invalid, match="not a time"):
        world.session().wait(world.upsert("a", 1).token, timeout_s)


# Order ----------------------------------------------------------------------------------------------------------------


def skewed(world: World, seconds: float) -> DeltaWriter:
    """A writer in a process whose clock is ``seconds`` ahead of the store's."""
    clock = ManualClock(world.clock.wall_us + round(seconds * 1e6), seed=round(10_000 + 10 * seconds))
    writer = DeltaWriter(world.store, Collections(world.store, Catalog(world.store, clock)), clock)
    world._exit.callback(writer.close)
    return writer


@pytest.mark.parametrize("ahead_s", [0.5, 40, 3_000])
@pytest.mark.parametrize("linked", [True, False])
def test_a_write_behind_a_token_wins(linked: bool, ahead_s: float) -> None:
    """P2: on a store with whole seconds, a write that was linked to another one by its token wins, whatever the writers' clocks say.

    Without the link and within one second the clocks decide: that this is told here shows that the token did it.
    """
    with World(remote=True) as world:
        fast, slow = skewed(world, ahead_s), skewed(world, -ahead_s)
        token = SessionToken.parse(world.upsert("a", 1, writer=fast).token)
        if linked:
            assert slow.saw(token.delta.hlc)
        world.upsert("a", 2, writer=slow)
        expected = {"a": "2" if linked else "1"}
        assert world.documents() == expected
        world.clock.advance(10)
        world.compact()
        assert world.documents() == expected


@pytest.mark.parametrize("level", LEVELS)
def test_a_read_after_a_token_links_the_writes_that_follow(level: ReadLevel) -> None:
    """Waiting is enough, at any level: what the process writes then comes after what it waited for."""
    with World(remote=True) as world:
        token = world.upsert("a", 1, writer=skewed(world, 40)).token
        if level is ReadLevel.INDEX_ONLY:  # its listing is none: only the token can tell
            world.clock.advance(10)
            world.compact()
        behind = Session(world.store, clock=ManualClock(world.clock.wall_us - 40_000_000, seed=5))
        world._exit.callback(behind.close)
        behind.view(world.cid, level, after=token)
        behind.writer.write(world.cid, "upsert", ["a"], vectors(1, 2), documents=["2"])
        assert world.documents() == {"a": "2"}
        written = behind.last_write(world.cid)
        assert written is not None
        assert written.hlc > SessionToken.parse(token).delta.hlc


def test_a_token_from_the_far_future(world: World) -> None:
    """A clock that is over a day ahead is not followed by an explicit order: the caller is told; reading it is possible."""
    receipt = world.upsert("a", 1, writer=skewed(world, 100_000))
    session = world.session()
    with pytest.raises(Invalid, match="clock"):
        session.order_after(receipt.token)
    session.wait(receipt.token)


# Real processes -------------------------------------------------------------------------------------------------------


def _write(store: str, name: str, value: float) -> str:
    with Writer(store) as writer:
        return writer.upsert("words", ids=[name], embeddings=[[value, 1.0]], documents=[f"{value:g}"]).token


def _append(store: str, token: str, value: float) -> str:
    """What a second service does: it has a reader that answers from snapshots, is handed a token, reads, and writes on."""
    with Reader(store, read_level="INDEX_AND_BOUNDED_WAL") as reader, Writer(store) as writer:
        reader.count("words")
        seen = reader.get("words", ids=["a"], after=token, timeout_s=30).documents
        assert seen is not None
        writer.after(token)
        return writer.upsert("words", ids=["a"], embeddings=[[value, 1.0]], documents=[f"{seen[0]} {value:g}"]).token


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    store = str(tmp_path / "store")
    with Writer(store) as writer:
        writer.create("words")
    return store


def test_processes_hand_tokens_on(directory: str) -> None:
    """Several processes in turn, each handed the last one's token, each see and extend what the one before wrote."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        token = pool.submit(_write, directory, "a", 0).result()
        for value in range(1, 5):
            token = pool.submit(_append, directory, token, value).result()
        waiting = pool.submit(wait_for, directory, token, 30.0)
        waiting.result()
    with Reader(directory) as reader:
        assert reader.get("words", after=token).documents == ["0 1 2 3 4"]
        with pytest.raises(Unavailable):
            reader.wait(f"{token[:-25]}{'7' * 8}{token[-17:]}", 0.2)  # another call of that writer


def test_a_process_waits_for_another_ones_compaction(directory: str) -> None:
    """At INDEX_ONLY a real process waits, in real time, until a compactor elsewhere has folded the write."""
    token = _write(directory, "a", 1)
    code = (
        "import sys; from chromalith import Reader\n"
        "reader = Reader(sys.argv[1], read_level='INDEX_ONLY'); print(reader.count('words'), flush=True)\n"
        "print(reader.count('words', after=sys.argv[2], timeout_s=30), flush=True); reader.close()"
    )
    with subprocess.Popen([sys.executable, "-c", code, directory, token], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        compact(directory)
        assert process.stdout.readline() == "1\n"
    assert process.returncode == 0


def test_reading_the_past_has_nothing_to_wait_for(directory: str) -> None:
    """A reader of older versions refuses a token."""
    token = _write(directory, "a", 1)
    compact(directory)
    with Reader(directory, at={"words": 1}) as reader, pytest.raises(Invalid, match="older versions"):
        reader.count("words", after=token)
    with Writer(directory) as writer:
        wait_for(writer, token, 0)
    with pytest.raises(ChromalithError):
        wait_for(object(), token)
