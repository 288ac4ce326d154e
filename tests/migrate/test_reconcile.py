"""Reconciliation over two sides in memory: what differs is mended from the authority, and entries go only when it is equal."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.migrate.worlds import NAME, Two

from chromalith.errors import Unavailable
from chromalith.migrate.entries import CREATE, DELETE_COLLECTION, MODIFY
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Limits, Role
from chromalith.migrate.state import Percent
from chromalith.testing.faulty import Fault
from chromalith.transfer.port import Definition


def test_a_failed_second_write_is_made_up_for() -> None:
    """What the second side missed, of every kind, is there after one pass, and the journal is empty."""
    two = Two()
    two.write("add", "abc", 1, documents="d", metadatas={"k": 1, "gone": "x"})
    assert two.equal
    two.faults.choose = lambda call: Fault.BEFORE if two.target.collections[NAME] and broken(call.number) else None
    calls = iter(range(10_000))

    def broken(number: int) -> bool:
        return next(calls) % 4 == 3  # collection, write, collection, write: the second's write

    two.write("upsert", "a", 2, documents="e", metadatas={"k": "1", "gone": None})
    two.write("delete", "b")
    two.write("add", "d", 3)
    two.faults.choose = lambda call: None
    assert not two.equal
    assert two.journal.entries().failed == 3
    outcome = two.reconciler().pass_once()
    assert two.equal
    assert (outcome.fixed.added, outcome.fixed.changed, outcome.fixed.deleted) == (1, 1, 1)
    assert outcome.empty
    assert outcome.removed == 4
    assert two.journal.entries().empty


def test_what_is_equal_is_not_written() -> None:
    """Entries of writes that went well cost reads, and no write to either side."""
    two = Two()
    for n in range(10):
        two.write("add", [str(n)], n)
    two.faults.calls.clear()
    outcome = two.reconciler().pass_once()
    assert outcome.empty
    assert outcome.fixed.total == 0
    assert {call.verb for call in two.faults.calls} == {"collection", "read"}


def test_an_open_entry_stays() -> None:
    """The entry of a write that is under way is left, and so is an ended one with the same id that differs; the others go."""
    two = Two()
    two.write("add", "a", 1)
    two.write("add", "b", 1)
    two.write("upsert", "a", 2, second=False)
    outcome = two.reconciler().pass_once()
    assert (outcome.removed, outcome.left, outcome.open) == (1, 2, 1)
    assert not two.equal, "left to the writer, who is at it"
    two.age()
    outcome = two.reconciler().pass_once()
    assert outcome.empty
    assert two.equal


def test_an_abandoned_entry_is_reconciled() -> None:
    """A process that died between its two writes is made up for once its entry is old, not before."""
    two = Two()
    two.write("add", "a", 1, second=False)
    assert two.reconciler().pass_once().left == 1
    assert two.rows(Role.TARGET) == {}
    two.age()
    assert two.reconciler().pass_once().empty
    assert two.equal


def test_a_write_that_may_land_keeps_its_entry() -> None:
    """A second write whose answer was lost is waited for: it may land after a newer one."""
    two = Two()
    two.write("add", "a", 1)
    two.faults.choose = lambda call: (
        Fault.LATE if call.verb == "upsert" and two.rows(Role.SOURCE)["a"].embedding[0] == 2 else None
    )
    two.write("upsert", "a", 2)
    two.faults.choose = lambda call: None
    two.write("upsert", "a", 3)
    assert two.equal
    outcome = two.reconciler().pass_once()
    assert (outcome.left, outcome.open) == (1, 1)
    two.faults.land()
    assert not two.equal, "the older value came last"
    two.age()
    assert two.reconciler().pass_once().empty
    assert two.rows(Role.TARGET)["a"].embedding[0] == 3


@pytest.mark.parametrize(("phase", "winner"), [(Phase.DUAL, 1.0), (Phase.CUTOVER, 2.0)])
def test_repairs_go_from_the_states_authority(phase: Phase, winner: float) -> None:
    """Before the cutover the source is believed, after it the target; whatever the entry says."""
    two = Two(phase=phase)
    entry = two.journal.open(NAME, ["a"], authority=Role.SOURCE, op="add")
    two.source.collections[NAME]._write("add", "a", (1.0, 0.0), None, None, None)
    two.target.collections[NAME]._write("add", "a", (2.0, 0.0), None, None, None)
    two.journal.close(entry, "failed")
    assert two.reconciler().pass_once().empty
    assert {two.rows(role)["a"].embedding[0] for role in Role} == {winner}


def test_each_id_has_its_own_authority() -> None:
    """During a ramp each id is repaired from its own side."""
    two = Two(phase=Phase.RAMP)
    two.set(percent=Percent(writes=50.0))
    ids = [f"id{n}" for n in range(40)]
    entry = two.journal.open(NAME, ids, authority=Role.SOURCE, op="add")
    for value, side in ((1.0, two.source), (2.0, two.target)):
        for record_id in ids:
            side.collections[NAME]._write("add", record_id, (value,), None, None, None)
    two.journal.close(entry, "ok")
    assert two.reconciler().pass_once().empty
    assert two.equal
    kept = Counter(row.embedding[0] for row in two.rows(Role.SOURCE).values())
    assert set(kept) == {1.0, 2.0}


@pytest.mark.parametrize("phase", [Phase.DIRECT, Phase.COMPLETE, Phase.CANCELLED])
def test_nothing_is_done_while_one_side_is_written(phase: Phase) -> None:
    """Entries that are left when the sides are no longer written both stay where they are, and no side is asked."""
    two = Two()
    two.write("add", "a", 1, second=False)
    two.age()
    two.set(phase=phase)
    two.faults.calls.clear()
    outcome = two.reconciler().pass_once()
    assert (outcome.left, outcome.empty, two.faults.calls) == (1, False, [])
    assert outcome.reasons == ("writes don't go to both sides now",)


def test_a_freeze_stops_all_but_its_own_drain() -> None:
    """While an authority changes nobody else mends; and the drain stops when its freeze was cancelled."""
    two = Two()
    two.write("add", "a", 1, second=False)
    two.age()
    two.freeze("mine")
    assert two.reconciler().pass_once().reasons == ("writes are frozen by `switch`",)
    assert two.reconciler().pass_once(freeze_id="another").left == 1
    assert two.reconciler().mender.mend(NAME, ["a"]).left == {"a"}
    assert two.rows(Role.TARGET) == {}
    two.freeze(None)
    assert two.reconciler().pass_once(freeze_id="mine").reasons == ("the freeze was cancelled",)
    two.freeze("mine")
    outcome = two.reconciler().drain(lambda: True, freeze_id="mine")
    assert outcome.empty
    assert outcome.touched == {NAME: frozenset("a")}
    assert two.equal


def test_the_state_is_read_after_the_entry_is_open() -> None:
    """A tool that is stalled before it writes finds the freeze that came meanwhile, and leaves nothing behind."""
    two = Two()
    two.write("add", "a", 1, second=False)
    two.age()
    store = two.faulty()
    mender = two.reconciler(store).mender

    def meanwhile(call: object) -> None:
        if getattr(call, "verb", "") == "put" and "/touched/" in getattr(call, "key", ""):
            two.freeze("theirs")

    store._choose = meanwhile
    assert mender.mend(NAME, ["a"]).reasons == ("writes are frozen by `switch`",)
    assert two.rows(Role.TARGET) == {}
    assert len(two.journal.entries().touched) == 1, "the writer's"


def test_a_side_that_is_away_leaves_everything() -> None:
    """While the second can't be reached, nothing is removed and no entry is added, however often it is tried."""
    two = Two()
    two.write("add", "ab", 1, second=False)
    two.age()
    two.faults.choose = lambda call: Fault.BEFORE if call.verb in ("upsert", "read") else None
    for _ in range(3):
        outcome = two.reconciler().pass_once()
        assert (outcome.left, outcome.open) == (1, 0)
        assert "injected" in outcome.reasons[0]
    assert len(two.journal.entries().touched) == 1
    assert two.drained()
    assert two.equal


def test_a_refused_record_keeps_no_other() -> None:
    """One record that the second refuses for good is told with its id; its neighbours are mended, and the journal does not grow."""
    two = Two()
    two.write("add", [f"i{n}" for n in range(20)], 1, second=False)
    two.write("add", "z", 1, second=False)
    two.age()
    two.target.collections[NAME].refused = {"i7"}
    for _ in range(2):
        outcome = two.reconciler().pass_once()
        assert any("i7" in reason and "not wanted" in reason for reason in outcome.reasons)
        assert outcome.left == 1
    assert two.rows(Role.SOURCE).keys() - two.rows(Role.TARGET).keys() == {"i7"}
    two.target.collections[NAME].refused = set()
    assert two.drained()
    assert two.equal


def test_what_can_not_be_read_stops_nobody() -> None:
    """An entry of another form is reported and kept; the others are reconciled; the journal is not called empty."""
    two = Two()
    two.write("add", "a", 1, second=False)
    damaged = two.journal.open(NAME, ["b"], authority=Role.SOURCE, op="add")
    two.inner.put(damaged.key, b'{"format": 7}')
    stray = two.place().prefix("touched") + "note.txt"
    two.inner.put(stray, b"hello")
    two.age()
    outcome = two.reconciler().pass_once()
    assert sorted(outcome.unreadable) == sorted([damaged.key, stray])
    assert not outcome.empty
    assert outcome.removed == 1
    assert two.equal
    assert two.inner.get(damaged.key).body == b'{"format": 7}'


def test_requests_are_bounded() -> None:
    """A pass of many entries reads ids in batches; each entry costs a get and a delete of the store, and its part of the rest."""
    two = Two(limits=Limits(100, 100))
    count = 3_000
    for n in range(count):
        two.write("add", [f"i{n}"], n, second=n % 10 > 0)
    two.age()
    store = two.faulty()
    reconciler = two.reconciler(store)
    two.faults.calls.clear()
    outcome = reconciler.pass_once()
    assert (outcome.checked, outcome.fixed.added, outcome.empty) == (count, count // 10, True)
    assert two.equal
    verbs = Counter(call.verb for call in store.calls)
    pieces = count // 100
    assert verbs["get"] <= 2 * count + 2 * pieces + 10, (
        "an entry, its closing (one each here), and a state for each mended piece"
    )
    assert verbs["delete"] <= 2 * count + pieces
    assert verbs["put"] <= pieces + 3
    side = Counter(call.verb for call in two.faults.calls)
    assert side["read"] <= 8 * pieces
    assert side["upsert"] <= pieces
    assert side["collection"] <= 6 * pieces + 4


def test_limits_of_a_side_are_kept() -> None:
    """An entry with more ids than a side takes at once is mended in pieces."""
    two = Two(limits=Limits(7, 7))
    two.write("add", [f"i{n}" for n in range(50)], 1, second=False)
    two.age()
    two.faults.calls.clear()
    assert two.reconciler().pass_once().empty
    assert two.equal
    assert Counter(call.verb for call in two.faults.calls)["upsert"] == 8


# -- collections -----------------------------------------------------------------------------------------------------


def note(two: Two, name: str, op: str) -> None:
    two.journal.close(two.journal.open(name, (), authority=Role.SOURCE, op=op), "failed")


def test_a_collection_that_the_second_lacks_is_made() -> None:
    """Created at the authority, or written to before the backfill came: it is made with the authority's definition, and filled."""
    two = Two()
    two.source.create("new", Definition({"hnsw": {"space": "ip"}}, None, {"why": "not"}))
    note(two, "new", CREATE)
    two.target.drop(NAME)
    two.journal.close(two.journal.open(NAME, ["a"], authority=Role.SOURCE, op="add"), "failed")
    two.source.collections[NAME]._write("add", "a", (1.0,), None, None, None)
    assert two.drained()
    made = two.target.collections["new"].definition
    assert (made.space, made.metadata) == ("ip", {"why": "not"})
    assert two.equal


def test_a_deleted_collection_is_dropped() -> None:
    """Deleted at the authority through a client: dropped at the second, with its records; entries of its records go, too."""
    two = Two()
    two.write("add", "a", 1)
    two.source.drop(NAME)
    note(two, NAME, DELETE_COLLECTION)
    assert two.drained()
    assert NAME not in two.target.collections


def test_nothing_is_dropped_that_nobody_deleted() -> None:
    """A collection that is missing at the authority without an entry that says so is left at the second, and told."""
    two = Two()
    two.write("add", "a", 1)
    two.source.drop(NAME)
    outcome = two.reconciler().pass_once()
    assert "nobody deleted it" in outcome.reasons[0]
    assert outcome.left == 1
    assert two.rows(Role.TARGET).keys() == {"a"}


def test_a_name_that_was_deleted_and_made_again() -> None:
    """What the second kept of the old collection is removed, though no entry names its ids."""
    two = Two()
    two.write("add", "old", 1)
    assert two.drained()
    two.source.drop(NAME)
    note(two, NAME, DELETE_COLLECTION)
    two.source.create(NAME, Definition.of_space("l2"))
    note(two, NAME, CREATE)
    two.write("add", "n", 2)
    assert two.drained()
    assert two.equal
    assert two.rows(Role.TARGET).keys() == {"n"}


def test_what_a_late_drop_took_away_is_copied_again() -> None:
    """Both sides have the name again, and the second lacks records that no entry names: they are copied, once a copy is to be whole."""
    two = Two()
    two.write("add", "ab", 1)
    assert two.drained()
    two.target.drop(NAME)
    two.target.create(NAME, Definition.of_space("l2"))
    note(two, NAME, DELETE_COLLECTION)
    assert two.drained()
    assert two.rows(Role.TARGET) == {}, "the backfill has not begun, and will bring them"
    two.set(phase=Phase.VERIFY)
    note(two, NAME, DELETE_COLLECTION)
    assert two.drained()
    assert two.equal


def test_a_name_that_was_made_again_with_another_distance_is_made_again_at_the_second() -> None:
    """Its drop had failed: else it would measure the old distance for ever, with all records equal. Without a delete nothing is dropped."""
    two = Two(phase=Phase.VERIFY)
    two.write("add", "ab", 1)
    assert two.drained()
    two.source.drop(NAME)
    two.source.create(NAME, Definition.of_space("ip"))
    two.source.collections[NAME]._write("add", "b", (1.0,), None, None, None)
    note(two, NAME, CREATE)
    assert not two.drained()
    assert two.rows(Role.TARGET).keys() == {"a", "b"}
    note(two, NAME, DELETE_COLLECTION)
    assert two.drained()
    assert two.target.collections[NAME].definition.space == "ip"
    assert two.equal
    assert two.rows(Role.TARGET).keys() == {"b"}


def test_a_collections_own_metadata_follows() -> None:
    """Modified at the authority: the second's is set, and what Chroma derives by itself is not compared."""
    two = Two()
    two.source.describe(NAME, {"a": 1})
    note(two, NAME, MODIFY)
    assert two.drained()
    assert two.target.collections[NAME].definition.metadata == {"a": 1}
    two.source.describe(NAME, {"a": 1, "hnsw:space": "l2"})
    two.faults.calls.clear()
    note(two, NAME, MODIFY)
    assert two.drained()
    assert "describe" not in {call.verb for call in two.faults.calls}


# -- following ---------------------------------------------------------------------------------------------------------


def test_one_of_several_followers_works() -> None:
    """A second follower sees who holds the lease and touches no side; when the first has ended, it goes on."""
    two = Two()
    two.write("add", "a", 1)
    outcomes = []

    def other() -> bool:
        outcomes.append(two.reconciler().follow(lambda: True))
        return True

    two.faults.calls.clear()
    first = two.reconciler().follow(other)
    assert first.empty
    assert outcomes[0].held_by
    assert not outcomes[0].empty
    assert two.reconciler().follow(lambda: True).held_by is None


def test_following_goes_on_after_a_failure() -> None:
    """A store that fails for one round is told as a reason; the next round does the work."""
    two = Two()
    two.write("add", "a", 1, second=False)
    two.age()
    store = two.faulty(lambda call: Fault.BEFORE if call.verb == "list" and call.number < 12 else None)
    told = []
    rounds = iter([False, False, False, True])
    outcome = two.reconciler(store).follow(lambda: next(rounds), tell=told.append)
    assert told[0].reasons
    assert outcome.empty
    assert two.equal


def test_a_store_that_fails_is_an_error() -> None:
    """A pass that can't look at the journal raises: it must not be taken for one that found nothing."""
    two = Two()
    two.write("add", "a", 1)
    with pytest.raises(Unavailable):
        two.reconciler(two.faulty(lambda call: Fault.BEFORE if call.verb == "list" else None)).pass_once()
