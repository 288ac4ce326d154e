"""Verify beside what goes on: applications that write, collections that come and go; and what it costs where checksums are known."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.migrate.backfill_world import fill
from tests.migrate.client_world import words
from tests.migrate.client_world import world as client_world
from tests.migrate.memory_side import Row
from tests.migrate.test_diff import filled, verified
from tests.migrate.test_diff_sides import World
from tests.migrate.worlds import NAME

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compacting import compact
from chromalith.errors import Unavailable
from chromalith.migrate.client.open import core_of
from chromalith.migrate.diff import Options, Verifier
from chromalith.migrate.diff_report import VerifyReport
from chromalith.migrate.entries import CREATE
from chromalith.migrate.opening import open_side
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role, Sides
from chromalith.migrate.presence import Presence
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call
from chromalith.transfer.port import Definition

VERBS = ("get", "get_range", "get_if_changed", "put", "delete", "head", "list", "copy")


def test_writers_are_no_difference_and_hide_none() -> None:
    """While two clients write the same ids, a comparison ends clean; a difference that none of them touches is found and mended."""
    with client_world() as made:
        collection = words(made.client, 40)
        made.mirror()
        made.core.sides[Role.TARGET].collection("words").write(
            "add", **columns(made.core.sides[Role.SOURCE].collection("words"))
        )
        made.become(Phase.VERIFY)
        other = made.another()
        both = [collection, words(other)]
        stop, written = threading.Event(), Counter[int]()

        def writer(number: int) -> None:
            turn = 0
            while not stop.is_set():
                record_id = f"r{turn % 20}"
                both[number].upsert(ids=[record_id], embeddings=[[turn, number, 1.0]], documents=[f"{number}/{turn}"])
                if turn % 5 == 0:
                    both[number].delete(ids=[record_id])
                written[number] += 1
                turn += 1
                SYSTEM_CLOCK.sleep(0.05)  # nothing compacts here: each write makes every later read a little slower

        verifier = Verifier(made.place, made.core.sides.both(), look_wait_s=0.05)
        with ThreadPoolExecutor(2) as threads:
            writing = [threads.submit(writer, number) for number in range(2)]
            try:
                under_writers = [verifier.run(Options(again=True)) for _ in range(2)]
                made.core.sides[Role.TARGET].collection("words").write("update", ["r30"], documents=["planted"])
                planted = verifier.run(Options(again=True))
                mended = verifier.run(Options(again=True, repair=True))
            finally:
                stop.set()
            for each in writing:
                each.result()
        assert all(written[number] > 2 for number in range(2))
        assert [standing(report) for report in under_writers] == [[], []]
        assert standing(planted) == [("r30", ("document",))]
        assert (standing(mended), mended.total("repaired")) == ([], 1)
        assert core_of(other).journal.flush() == 0
        assert made.reconciled()
        assert made.unequal() == []
        (found,) = verifier.run(Options(again=True)).collections
        assert (found.clean, found.in_flight, found.matching) == (True, (), found.source_records)


def standing(report: VerifyReport) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.id, each.fields) for found in report.collections for each in found.standing]


def columns(collection: Any) -> dict[str, Any]:
    there = collection.read(collection.ids())
    return {name: getattr(there, name) for name in ("ids", "embeddings", "documents", "uris", "metadatas")}


def test_a_collection_that_is_being_made_is_no_difference() -> None:
    """It is looked at again, as records are: a client makes it on one side, then on the other."""
    two = filled()
    new = two.source.create("new", Definition.of_space("l2"))
    new.rows = {"a": Row((1.0,))}
    before_s = two.clock.monotonic_s()

    def later(call: Call) -> None:
        if two.clock.monotonic_s() > before_s and "new" not in two.target.collections:
            two.faults.choose = lambda call: None
            two.target.create("new", Definition.of_space("l2")).rows = dict(new.rows)

    two.faults.choose = later
    report = verified(two)
    assert report.clean
    assert report.total("matching") == 61


def test_a_collection_that_stays_away_is_a_difference_even_if_the_journal_has_it() -> None:
    """An entry about a collection is waited for, and then the difference stands: a cutover must not pass over it."""
    two = filled()
    two.source.create("new", Definition.of_space("l2"))
    two.journal.open("new", (), authority=Role.SOURCE, op=CREATE)
    report = verified(two)
    found = {each.name: each for each in report.collections}["new"]
    assert (found.definition, report.clean) == (("collection",), False)
    two.age()
    assert two.drained()
    assert verified(two).clean


def test_a_collection_that_is_dropped_and_made_again_meanwhile_is_compared_as_it_is_then() -> None:
    """Results about the old one are forgotten."""
    two = filled()
    done = False

    def drop(call: Call) -> None:
        nonlocal done
        if call.verb == "read" and not done and sum(each.verb == "read" for each in two.faults.calls) > 10:
            done = True
            for side in (two.source, two.target):
                side.collections.pop(NAME)
                side.create(NAME, Definition.of_space("l2")).rows = {f"new{n}": Row((1.0,)) for n in range(7)}
            two.target.collections[NAME].rows["new3"] = Row((2.0,))

    two.faults.choose = drop
    (found,) = verified(two).collections
    assert done
    assert (found.source_records, found.matching) == (7, 6)
    assert [(each.id, each.fields) for each in found.standing] == [("new3", ("embedding",))]


def test_the_order_is_not_restored_while_a_client_is_live() -> None:
    """It says who is live, and moves nothing; when they have ended it is restored, and the journal is empty."""
    two = filled(10)
    rows = two.target.collections[NAME].rows
    two.target.collections[NAME].rows = {i: rows[i] for i in [*list(rows)[1:], "r0"]}
    key = f"{two.place().prefix('clients')}app.json"
    two.inner.put(key, Presence("app", writes={"source": 1}).encode())
    (found,) = verified(two, order=True, repair=True).collections
    assert (found.out_of_place, found.repaired) == (1, 0)
    assert "app" in found.reasons[0]
    assert next(iter(two.rows(Role.TARGET))) == "r1"
    two.inner.put(key, Presence("app", ended=True).encode())
    (found,) = verified(two, order=True, repair=True).collections
    assert (found.out_of_place, found.clean, found.reasons) == (0, True, ())
    assert list(two.rows(Role.TARGET)) == list(two.rows(Role.SOURCE))
    assert two.new_journal().entries().empty


def test_an_order_whose_restoring_was_interrupted_loses_nothing() -> None:
    """The records were deleted, and could not be added again: the journal has them, and they come back."""
    two = filled(10)
    rows = two.target.collections[NAME].rows
    two.target.collections[NAME].rows = {i: rows[i] for i in [*list(rows)[1:], "r0"]}

    def fail(call: Call) -> None:
        if call.verb == "add":
            raise Unavailable("injected")

    two.faults.choose = fail
    (found,) = verified(two, order=True, repair=True).collections
    assert found.reasons
    assert two.rows(Role.TARGET) == {}
    two.faults.choose = lambda call: None
    two.age()
    assert two.drained()
    assert two.equal


def test_equal_chromalith_sides_cost_the_same_however_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of requests to the store does not grow with the records, and none reads them."""
    seen = Counter[str]()
    counted = [verb for verb in VERBS if hasattr(MemoryStore, verb)]
    for verb in counted:
        real = getattr(MemoryStore, verb)

        def count(self: Any, key: str, *rest: Any, _real: Any = real, _verb: str = verb, **named: Any) -> Any:
            seen[f"{_verb} {key.partition('/')[0]}"] += 1
            return _real(self, key, *rest, **named)

        monkeypatch.setattr(MemoryStore, verb, count)
    costs = []
    for records in (50, 3_000):
        urls = [f"memory://verify-cost-{SYSTEM_CLOCK.random_hex(12)}" for _ in range(2)]
        sides = [open_side(url) for url in urls]
        made = World(*sides, "l2")
        for side, url in zip(sides, urls, strict=True):
            fill(side, "many", records)
            compact(url)
        seen.clear()
        report = made.verify()
        costs.append(Counter(seen))
        assert report.clean
        assert all(each.unread for each in report.collections)
        assert report.total("matching") == records + 40
        for side in sides:
            side.close()
    assert costs[0] == costs[1]
    assert costs[0].total() > 0
    assert not any(what.endswith(" segment") for what in costs[0])


def test_only_what_differs_is_read_of_chromalith_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both know their checksums, one changed record costs the reading of its bucket, not of the collection."""
    urls = [f"memory://verify-bucket-{SYSTEM_CLOCK.random_hex(12)}" for _ in range(2)]
    sides = [open_side(url) for url in urls]
    made = World(*sides, "ip")
    for side in sides:
        fill(side, "many", 3_000, space="ip")
    sides[1].collection("many").write("update", ["id-00007"], metadatas=[{"n": 7.5}])
    for url in urls:
        compact(url)
    read: list[str] = []
    from chromalith.chroma.side import ChromaSideCollection

    real = ChromaSideCollection.read

    def reading(self: Any, ids: Any) -> Any:
        read.extend(ids)
        return real(self, ids)

    monkeypatch.setattr(ChromaSideCollection, "read", reading)
    found = {each.name: each for each in made.verify().collections}["many"]
    assert [each.id for each in found.standing] == ["id-00007"]
    assert "id-00007" in read
    assert len(set(read)) < 60  # of about 12 in each of 256 buckets
    for side in sides:
        side.close()


@pytest.mark.parametrize("known", [Role.SOURCE, Role.TARGET])
def test_a_side_that_knows_its_checksums_is_not_read(known: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side's records are read once, and compared with its sums."""
    urls = [f"memory://verify-known-{SYSTEM_CLOCK.random_hex(12)}" for _ in range(2)]
    sides = [open_side(url) for url in urls]
    made = World(*sides, "l2")
    compact(urls[0 if known is Role.SOURCE else 1])
    read: list[str] = []
    from chromalith.chroma.side import ChromaSideCollection

    real = ChromaSideCollection.read

    def reading(self: Any, ids: Any) -> Any:
        read.append(self._side.place)
        return real(self, ids)

    monkeypatch.setattr(ChromaSideCollection, "read", reading)
    assert made.verify().clean
    assert set(read) == {Sides(*sides)[known.other].place}
    for side in sides:
        side.close()
