"""Every call of a reconciliation could be its last, or go blind: to the store as to both sides. Then a client writes on, and another
reconciler finishes. What must hold all the while: an empty journal means equal sides; and at the end each record has its last write."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.migrate.worlds import NAME, Two

from chromalith.errors import ChromalithError
from chromalith.migrate.entries import CREATE, DELETE_COLLECTION, MODIFY
from chromalith.migrate.port import Limits, Role
from chromalith.testing.faulty import Crash, Fault, at_calls
from chromalith.transfer.port import Definition

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.BEFORE, Fault.LOST, Fault.LATE]


def prepared() -> Two:
    """Entries of every kind, whose process died before it wrote to the target: records to add, change, delete, one to delete and add
    again, and collections to make, to drop and to describe."""
    two = Two(limits=Limits(4, 4))
    two.write("add", "abcdef", 1, documents="d", metadatas={"k": 1})
    assert two.drained()
    for name in ("old", "described"):
        for side in (two.source, two.target):
            side.create(name, Definition.of_space("l2"))
    two.target.collections["old"]._write("add", "x", (1.0,), None, None, None)
    two.write("upsert", "a", 2, second=False, metadatas={"k": None, "l": "2"})
    two.write("delete", "b", second=False)
    two.source.collections[NAME].rows["c"] = two.source.collections[NAME].rows["c"].__class__((3.0, 1.0, 2.0))
    two.journal.open(NAME, ["c"], authority=Role.SOURCE, op="upsert")
    two.write("add", "ghi", 4, second=False)
    two.source.drop("old")
    two.source.create("new", Definition.of_space("ip"))
    two.source.describe("described", {"a": 1})
    for name, op in (("old", DELETE_COLLECTION), ("new", CREATE), ("described", MODIFY)):
        two.journal.open(name, (), authority=Role.SOURCE, op=op)
    two.age()
    two.faults.calls.clear()
    return two


def all_equal(two: Two) -> bool:
    source, target = (
        {name: (held.rows, dict(held.definition.metadata or {})) for name, held in side.collections.items()}
        for side in (two.source, two.target)
    )
    return source == target


def check(two: Two, where: object) -> None:
    """The claim, as it is at any moment at which no client is at work."""
    if two.new_journal().entries().empty:
        assert all_equal(two), where


def go_on(two: Two, land: object, where: object) -> None:
    """A client writes once more, what was late lands, and somebody else finishes."""
    check(two, where)
    two.faults.choose = lambda call: None
    two.write("upsert", "ah", 5)
    for _ in range(2):  # of somebody who comes at once: what is old or closed is settled, what may land is not
        two.reconciler().pass_once()
        check(two, where)
    land()  # type: ignore[operator]
    two.faults.land()
    check(two, where)
    two.age()
    assert two.drained(passes=6), where
    assert all_equal(two), where
    rows = two.rows(Role.TARGET)
    assert {i: row.embedding[0] for i, row in rows.items()} == {
        "a": 5,
        "c": 3,
        "d": 1,
        "e": 1,
        "f": 1,
        "g": 4,
        "h": 5,
        "i": 4,
    }, where
    assert rows["c"].document is None, where
    assert set(two.target.collections) == {NAME, "new", "described"}, where


def test_the_world_has_all_there_is_to_do() -> None:
    """Without a fault one pass does everything, with every verb of a side that changes something."""
    two = prepared()
    outcome = two.reconciler().pass_once()
    assert (outcome.fixed.added, outcome.fixed.changed, outcome.fixed.deleted) == (3, 2, 1)
    assert {call.verb for call in two.faults.calls} >= {"upsert", "delete", "create", "drop", "describe", "read"}
    assert two.drained()
    assert all_equal(two)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pass_can_end_at_any_call_of_a_side(fault: Fault) -> None:
    """Each call to a side in turn fails, is lost, lands late, or is the last of its process."""
    two = prepared()
    two.reconciler().pass_once()
    total = len(two.faults.calls)
    assert total > 30
    struck = set()
    for number in range(1, total + 1):
        two = prepared()
        two.faults.choose = at_calls({number: fault})
        with suppress(Crash, ChromalithError):
            two.reconciler().pass_once()
        struck |= {call.verb for call, _ in two.faults.struck}
        go_on(two, lambda: None, (fault, number))
    assert {"upsert", "delete", "create", "drop", "describe", "read", "collection"} <= struck


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pass_can_end_at_any_call_of_the_store(fault: Fault) -> None:
    """Each request to the journal's store in turn fails, is lost, lands late, or is the last of its process."""
    two = prepared()
    store = two.faulty()
    two.reconciler(store).pass_once()
    total = len(store.calls)
    assert total > 40
    struck = set()
    for number in range(1, total + 1):
        two = prepared()
        store = two.faulty(at_calls({number: fault}))
        with suppress(Crash, ChromalithError):
            two.reconciler(store).pass_once()
        struck |= {call.verb for call, _ in store.struck}
        go_on(two, store.land, (fault, number))
    assert {"put", "get", "list", "delete", "head"} <= struck


@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_came_between(fault: Fault) -> None:
    """A client writes just before each call of a side, and that call goes wrong: its value stays all the same."""
    two = prepared()
    two.reconciler().pass_once()
    total = len(two.faults.calls)
    for number in range(1, total + 1):
        two = prepared()
        between = [False]

        def choose(call: object, number: int = number, two: Two = two, between: list[bool] = between) -> Fault | None:
            if between[0] or call.number != number:  # type: ignore[attr-defined]
                return None
            between[0] = True
            two.write("upsert", "ag", 7)
            return fault

        two.faults.choose = choose  # type: ignore[assignment]
        with suppress(Crash, ChromalithError):
            two.reconciler().pass_once()
        go_on_values = {"a": 5, "c": 3, "d": 1, "e": 1, "f": 1, "g": 7, "h": 5, "i": 4}
        two.faults.choose = lambda call: None
        two.write("upsert", "ah", 5)
        two.reconciler().pass_once()
        two.faults.land()
        check(two, number)
        two.age()
        assert two.drained(passes=6), number
        assert all_equal(two), number
        assert {i: row.embedding[0] for i, row in two.rows(Role.TARGET).items()} == go_on_values, number


def test_two_faults_of_one_pass() -> None:
    """Any two calls of the sides that are lost in one pass change nothing either."""
    two = prepared()
    two.reconciler().pass_once()
    total = len(two.faults.calls)
    for first in range(1, total, 5):
        for second in range(first + 1, total + 4, 4):
            two = prepared()
            two.faults.choose = at_calls({first: Fault.LATE, second: Fault.LOST})
            with suppress(ChromalithError):
                two.reconciler().pass_once()
            go_on(two, lambda: None, (first, second))
