"""The journal alone: durable before a write, closed in batches, aged by the store's dates, and never in anybody's way for good."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import Unavailable, Unknown
from chromalith.migrate.entries import Closing, decode_closings, decode_entries
from chromalith.migrate.journal import Journal
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import Timing
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Condition, ETag
from chromalith.testing.faulty import Call, Fault, FaultyStore, at_verb

ABANDONED_S = Timing().abandoned_s


class World:
    """A journal over a memory store whose calls are recorded, and can fail."""

    def __init__(self, faults: object = None) -> None:
        self.clock = ManualClock()
        self.inner = MemoryStore(clock=self.clock)
        self.store = FaultyStore(self.inner, faults or (lambda call: None), self.clock)  # type: ignore[arg-type]
        self.place = Place(self.store, "m", self.clock)
        self.journal = Journal(self.place, client="test", linger_s=0)

    def calls(self) -> Counter[str]:
        return Counter(call.verb for call in self.store.calls)

    def keys(self, part: str) -> list[str]:
        return [item.key for page in self.inner.list(self.place.prefix(part)) for item in page]


def test_an_entry_is_durable_when_it_is_open() -> None:
    """Another process that looks right after ``open`` returned sees the ids, the collection, the authority and the verb."""
    world = World()
    entry = world.journal.open("words", ["a", "b"], authority=Role.SOURCE, op="upsert")
    other = Journal(world.place)
    listing = other.entries()
    assert (listing.open, listing.ended, listing.abandoned, listing.empty) == (1, 0, 0, False)
    read, unreadable = other.read(listing.touched)
    assert read == {entry.key: [entry]}
    assert (entry.collection, entry.ids, entry.authority, entry.op, unreadable) == (
        "words",
        ("a", "b"),
        Role.SOURCE,
        "upsert",
        [],
    )


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.LOST, Fault.LATE])
def test_an_entry_that_can_not_be_opened_is_an_error(fault: Fault) -> None:
    """Whoever gets no entry writes nothing; what may stand of it is said to be nothing's, so it waits for no time to pass."""
    world = World(lambda call: fault if "/touched/" in call.key and call.verb in ("put", "get") else None)
    with pytest.raises((Unavailable, Unknown), match="so nothing was"):
        world.journal.open("words", ["a"], authority=Role.SOURCE, op="add")
    world.store._choose = lambda call: None
    world.journal.flush()
    world.store.land()
    assert world.journal.entries().open == 0


def test_a_lost_answer_is_looked_up() -> None:
    """An entry whose PUT was applied and whose reply was lost is open, once."""
    world = World(at_verb("put", Fault.LOST, key_prefix="migration/"))
    world.journal.open("words", ["a"], authority=Role.SOURCE, op="add")
    assert world.journal.entries().open == 1


def test_closings_end_entries() -> None:
    """A closed entry has ended; one whose write may still land is under way until it is old; the failed ones are counted."""
    world = World()
    entries = [world.journal.open("words", [i], authority=Role.SOURCE, op="add") for i in "abcd"]
    for entry, second in zip(entries, ("ok", "failed", "unknown"), strict=False):
        world.journal.close(entry, second, "why" if second != "ok" else None)  # type: ignore[arg-type]
    assert world.journal.flush() == 0
    listing = world.journal.entries()
    assert (listing.open, listing.ended, listing.abandoned, listing.failed) == (2, 2, 0, 2)
    counts = world.journal.counts()
    assert (counts.entries, counts.closed, counts.open, counts.failed) == (4, 3, 1, 2)
    world.clock.advance(ABANDONED_S + 1)
    listing = world.journal.entries()
    assert (listing.open, listing.ended, listing.abandoned) == (0, 4, 1)
    assert listing.oldest_s >= ABANDONED_S


def test_age_is_the_stores() -> None:
    """A client whose clock is a year off neither abandons others' entries nor has its own abandoned."""
    world = World()
    wrong = ManualClock(wall_us=world.clock.now_us() - 365 * 86_400_000_000)
    journal = Journal(Place(world.store, "m", wrong))
    journal.open("words", ["a"], authority=Role.SOURCE, op="add")
    assert journal.entries().open == 1
    assert world.journal.entries().open == 1


class Gate(MemoryStore):
    """A store whose puts of entries wait until they may go on; how many were asked for is counted."""

    def __init__(self) -> None:
        super().__init__(SYSTEM_CLOCK)
        self.free = threading.Event()
        self.puts: list[str] = []

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if "/touched/" in key:
            self.puts.append(key)
            assert self.free.wait(30)
        return super().put(key, body, condition)


def test_calls_of_one_moment_share_an_object() -> None:
    """Forty calls that come while one entry is being written are made durable by one request more for each collection."""
    store = Gate()
    journal = Journal(Place(store, "m", SYSTEM_CLOCK))
    with ThreadPoolExecutor(41) as pool:
        first = pool.submit(journal.open, "words", ["first"], authority=Role.SOURCE, op="add")
        wait_until(lambda: len(store.puts) == 1)
        rest = [pool.submit(journal.open, "words", [str(n)], authority=Role.SOURCE, op="add") for n in range(40)]
        wait_until(lambda: len(journal._queues["words"].waiting) == 40)
        store.free.set()
        opened = [first.result().ids, *(future.result().ids for future in rest)]
    assert len(store.puts) == 2
    listing = journal.entries()
    assert (len(listing.touched), listing.open) == (2, 41)
    read, _ = journal.read(listing.touched)
    assert sorted(i for found in read.values() for entry in found for i in entry.ids) == sorted(i for (i,) in opened)
    for future in (first, *rest):
        journal.close(future.result(), "ok")
    journal.flush()
    assert journal.entries().open == 0


def test_who_shares_a_failed_request_fails() -> None:
    """If the request that several wait for fails, each of them is told, by an error of its own."""
    store = Gate()
    faulty = FaultyStore(
        store, lambda call: Fault.BEFORE if call.number > 1 and "/touched/" in call.key else None, SYSTEM_CLOCK
    )
    journal = Journal(Place(faulty, "m", SYSTEM_CLOCK))
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(journal.open, "words", ["first"], authority=Role.SOURCE, op="add")
        wait_until(lambda: len(store.puts) == 1)
        rest = [pool.submit(journal.open, "words", [str(n)], authority=Role.SOURCE, op="add") for n in range(10)]
        wait_until(lambda: len(journal._queues["words"].waiting) == 10)
        store.free.set()
        errors = [future.exception() for future in rest]
    assert first.exception() is None
    assert all(isinstance(error, Unavailable) for error in errors)
    assert len({id(error) for error in errors}) == 10


def test_a_full_object_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that together have more ids than an object takes are divided; one call never is."""
    monkeypatch.setattr("chromalith.migrate.journal.IDS_PER_OBJECT", 5)
    store = Gate()
    journal = Journal(Place(store, "m", SYSTEM_CLOCK))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(journal.open, "words", list("abcdefgh"), authority=Role.SOURCE, op="add")
        wait_until(lambda: len(store.puts) == 1)
        rest = [
            pool.submit(journal.open, "words", list(ids), authority=Role.SOURCE, op="add")
            for ids in ("abc", "de", "fg")
        ]
        wait_until(lambda: len(journal._queues["words"].waiting) == 3)
        store.free.set()
        for future in (first, *rest):
            future.result()
    sizes = sorted(item.entries for item in journal.entries().touched)
    assert sizes in ([1, 1, 2], [1, 1, 1, 1])
    assert len(store.puts) == len(sizes)


def test_closings_are_batched_and_tried_again() -> None:
    """Many closings are a few objects; a store that fails for a while delays them and loses none."""
    world = World(at_verb("put", *[None] * 50, Fault.BEFORE, Fault.LOST, key_prefix="migration/"))
    entries = [world.journal.open("words", [str(n)], authority=Role.SOURCE, op="add") for n in range(50)]
    for entry in entries:
        world.journal.close(entry, "ok")
    for _ in range(5):
        if world.journal.flush() == 0:
            break
    assert world.journal.entries().open == 0
    assert len(world.store.struck) == 2
    assert len(world.keys("closed")) < 25


def test_settling_leaves_nothing() -> None:
    """An own entry that is settled is gone at once; if it shares its object, or can't be removed, it is closed."""
    world = World()
    world.journal.settle(world.journal.open("words", ["a"], authority=Role.SOURCE, op="repair"))
    assert world.journal.entries().empty
    world.store._choose = at_verb("delete", Fault.BEFORE)
    world.journal.settle(world.journal.open("words", ["a"], authority=Role.SOURCE, op="repair"))
    world.journal.flush()
    assert (world.journal.entries().open, world.journal.entries().ended) == (0, 1)


DAMAGE = [
    b"",
    b"nonsense",
    b"[]",
    b'{"format": 2}',
    b'{"format": 1}',
    b'{"format": 1, "collection": "c", "entries": [{"ids": "ab"}]}',
]


@pytest.mark.parametrize("body", DAMAGE)
def test_what_can_not_be_read_is_kept_and_told(body: bytes) -> None:
    """An entry of another form is reported and stops nobody else; until it is gone the journal is not empty."""
    world = World()
    whole = world.journal.open("words", ["a"], authority=Role.SOURCE, op="add")
    damaged = world.journal.open("words", ["b"], authority=Role.SOURCE, op="add")
    world.inner.put(damaged.key, body)
    world.inner.put(world.place.prefix("closed") + "0-0-1-0.json", body)
    world.inner.put(world.place.prefix("touched") + "stray", b"")
    listing = world.journal.entries()
    assert sorted(listing.unreadable) == sorted(
        [world.place.prefix("closed") + "0-0-1-0.json", world.place.prefix("touched") + "stray"]
    )
    assert not listing.empty
    read, unreadable = world.journal.read(listing.touched)
    assert (list(read), unreadable) == ([whole.key], [damaged.key])


def test_bodies_are_what_the_format_says() -> None:
    """The objects' JSON, field by field: others write and read it, too."""
    world = World()
    entry = world.journal.open("wörds", ["a\ud800"], authority=Role.TARGET, op="delete")
    world.journal.close(entry, "failed", "it is away")
    world.journal.flush()
    (touched,), (closed,) = world.keys("touched"), world.keys("closed")
    body = world.inner.get(touched).body
    rows = [{"ids": ["a\ud800"], "authority": "target", "op": "delete"}]
    assert json.loads(body.decode("utf-8", "surrogatepass")) == {
        "format": 1,
        "collection": "wörds",
        "client": "test",
        "entries": rows,
    }
    assert decode_entries(touched, body) == [entry]
    closings = {touched: {"0": {"second": "failed", "error": "it is away"}}}
    assert json.loads(world.inner.get(closed).body) == {"format": 1, "closings": closings}
    assert decode_closings(closed, world.inner.get(closed).body) == {touched: {0: Closing("failed", "it is away")}}


def test_looking_is_cheap() -> None:
    """A status takes two listings whatever there is; a look reads each object of closings once in its life."""
    world = World()
    for n in range(30):
        world.journal.close(world.journal.open("words", [str(n)], authority=Role.SOURCE, op="add"), "ok")
        world.journal.flush()
    del world.store.calls[:]
    assert world.journal.counts().entries == 30
    assert world.calls() == {"list": 2}
    world.journal.entries()
    closed = len(world.keys("closed"))
    assert world.calls()["get"] == closed
    world.journal.entries()
    assert world.calls()["get"] == closed


def test_closings_are_listed_before_entries() -> None:
    """The order decides: listed after the entries, a closing of an entry that came between would be taken for garbage."""
    world = World()
    world.journal.close(world.journal.open("words", ["a"], authority=Role.SOURCE, op="add"), "ok")
    world.journal.flush()

    def meanwhile(call: Call) -> None:
        if call.verb == "list" and call.key == second[0]:
            second.clear()
            second.append("")
            other = Journal(Place(world.inner, "m", world.clock), linger_s=0)
            other.close(other.open("words", ["b"], authority=Role.SOURCE, op="add"), "ok")
            other.flush()

    second = [world.place.prefix("touched")]
    world.store._choose = meanwhile
    listing = world.journal.entries()
    world.store._choose = lambda call: None
    assert listing.open == 1, "the one that came between the two listings"
    world.journal.remove([item.key for item in listing.touched if item.ended])
    world.journal.tidy(listing, {item.key for item in listing.touched if item.ended})
    after = world.journal.entries()
    assert (after.open, after.ended) == (0, 1)


def test_stopping_writes_what_waits() -> None:
    """A client that ends has its closings written first."""
    world = World()
    journal = Journal(world.place, linger_s=60)
    journal.close(journal.open("words", ["a"], authority=Role.SOURCE, op="add"), "ok")
    journal.stop()
    assert world.journal.entries().open == 0


def wait_until(condition: object) -> None:
    for _ in range(5_000):
        if condition():  # type: ignore[operator]
            return
        threading.Event().wait(0.002)
    raise AssertionError("it never came to be")


def test_stopping_waits_no_longer_than_it_says() -> None:
    """A store that hangs keeps nobody from ending; what was not written is found abandoned."""
    go, hangs = threading.Event(), threading.Event()

    def faults(call: Call) -> None:
        if call.verb == "put" and "/closed/" in call.key:
            hangs.set()
            go.wait(30)

    world = World(faults)
    entry = world.journal.open("words", ["a"], authority=Role.SOURCE, op="add")
    world.journal.close(entry, "ok")
    assert hangs.wait(10)
    stopping = threading.Thread(target=world.journal.stop, args=(0.05,))
    stopping.start()
    stopping.join(10)
    ended = not stopping.is_alive()
    go.set()
    stopping.join(10)
    assert ended
