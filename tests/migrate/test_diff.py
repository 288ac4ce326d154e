"""The comparison itself, on sides in memory: edits are found exactly, every call can be its last, what is under way is no difference."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.migrate.memory_side import Row
from tests.migrate.worlds import NAME, Two

from chromalith.errors import ChromalithError, Invalid, NotFound
from chromalith.migrate.diff import LOOKS_MAX, Options, Verifier
from chromalith.migrate.diff_order import out_of_place
from chromalith.migrate.diff_report import VerifyReport
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.testing.faulty import Crash, Fault, at_calls
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.port import Definition

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.BEFORE, Fault.LOST]


def verifier(two: Two, store: Any = None) -> Verifier:
    place = Place(two.inner if store is None else store, "m", two.clock)
    journal = two.new_journal(store)
    return Verifier(place, two.sides, journal, executor=lambda count, name: InLineExecutor())


def verified(two: Two, store: Any = None, **options: Any) -> VerifyReport:
    return verifier(two, store).run(Options(**options))


def filled(count: int = 60) -> Two:
    two = Two(phase=Phase.VERIFY)
    for side in (two.source, two.target):
        side.collections[NAME].rows = {
            f"r{n}": Row((float(n), 1.0, 2.0), f"d{n}", None, {"n": n}) for n in range(count)
        }
    two.faults.calls.clear()
    return two


edits = st.dictionaries(
    st.integers(0, 59), st.sampled_from(["missing", "extra", "document", "embedding", "metadata.n", "metadata.x"])
)


@given(edits=edits)
@settings(deadline=None, max_examples=60)
def test_the_report_is_the_set_of_edits(edits: dict[int, str]) -> None:
    """Whatever is changed on one side is what the report says, record by record and in its counts."""
    two = filled()
    rows = two.target.collections[NAME].rows
    for number, edit in edits.items():
        record_id, row = f"r{number}", rows.get(f"r{number}")
        assert row is not None
        if edit == "missing":
            del rows[record_id]
        elif edit == "extra":
            rows[f"extra{number}"] = row
        elif edit == "document":
            rows[record_id] = replace(row, document="another")
        elif edit == "embedding":
            rows[record_id] = replace(row, embedding=(float(number), 1.0, 2.0000002384185791))
        else:
            rows[record_id] = replace(
                row, metadata={**(row.metadata or {}), edit.removeprefix("metadata."): float(number)}
            )
    (found,) = verified(two).collections
    assert {(each.kind, each.id) for each in found.standing} == {
        ("missing", f"r{n}")
        if edit == "missing"
        else ("extra", f"extra{n}")
        if edit == "extra"
        else ("different", f"r{n}")
        for n, edit in edits.items()
    }
    assert {each.id: each.fields for each in found.standing if each.fields} == {
        f"r{n}": (edit,) for n, edit in edits.items() if edit not in ("missing", "extra")
    }
    assert found.matching == 60 - sum(edit != "extra" for edit in edits.values())
    assert verified(two, repair=True).clean
    assert two.equal


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["side", "store"])
def test_a_run_can_end_at_any_call(fault: Fault, where: str) -> None:
    """Each call in turn fails or is the last of its process; the next run ends with the same report, and mends the same."""

    def damaged() -> Two:
        two = filled(20)
        rows = two.target.collections[NAME].rows
        del rows["r3"]
        rows["r5"] = replace(rows["r5"], document="another")
        rows["extra"] = rows["r1"]
        return two

    two = damaged()
    store = two.faulty()
    verified(two, store, repair=True)
    total = len(two.faults.calls) if where == "side" else len(store.calls)
    assert total > 15
    for number in range(1, total + 1):
        two = damaged()
        store = two.faulty(at_calls({number: fault}) if where == "store" else lambda call: None)
        if where == "side":
            two.faults.choose = at_calls({number: fault})
        with suppress(Crash, ChromalithError):
            verified(two, store, repair=True)
        two.faults.choose = lambda call: None
        two.age()
        assert two.drained()
        report = verified(two, repair=True)
        assert report.clean, (fault, number, report)
        assert two.equal, (fault, number)
        assert verified(two, again=True).total("matching") == 20


def test_an_interrupted_run_goes_on() -> None:
    """The parts that were compared are not compared again; another question, or an hour, begins anew."""
    two = filled()
    verifier_ = verifier(two)
    two.faults.choose = lambda call: Fault.BEFORE if call.verb == "read" and len(two.faults.calls) > 20 else None
    with pytest.raises(ChromalithError):
        verifier_.run()
    two.faults.choose = lambda call: None
    report = verified(two)
    assert report.clean
    assert 0 < report.resumed < 16
    assert verified(two).resumed == 0  # that one had ended


def test_an_hour_old_run_is_no_evidence() -> None:
    """What was compared long ago is compared again."""
    two = filled()
    two.faults.choose = lambda call: Fault.BEFORE if call.verb == "read" and len(two.faults.calls) > 20 else None
    with pytest.raises(ChromalithError):
        verified(two)
    two.faults.choose = lambda call: None
    two.clock.advance(3_601)
    assert verified(two).resumed == 0


def test_what_the_journal_has_is_in_flight() -> None:
    """A record that differs and that a client has noted is told apart, and is no difference; when it is reconciled it matches."""
    two = filled()
    two.write("upsert", ["r1"], 9.0, second=False)
    (found,) = verified(two).collections
    assert (found.in_flight, found.standing, found.clean) == (("r1",), (), True)
    assert LOOKS_MAX > 3
    two.age()
    assert two.drained()
    (found,) = verified(two).collections
    assert (found.in_flight, found.matching) == ((), 60)


def test_a_difference_that_settles_is_none() -> None:
    """What is equal at a later look was only under way."""
    two = filled()
    wanted = two.source.collections[NAME].rows["r1"]
    two.target.collections[NAME].rows["r1"] = replace(wanted, document="not yet")
    reads = 0

    def settle(call: Any) -> None:
        nonlocal reads
        reads += call.verb == "read"
        if two.clock.monotonic_s() > began + 0.5:  # after the first wait
            two.target.collections[NAME].rows["r1"] = wanted

    began = two.clock.monotonic_s()
    two.faults.choose = settle
    assert verified(two).clean
    assert reads > 16


def test_what_can_not_be_asked() -> None:
    """A repair while one side is written only, and a collection that is not moved: refused before anything is written."""
    two = filled()
    two.set(phase=Phase.DIRECT)
    with pytest.raises(Invalid, match="nothing is repaired"):
        verified(two, repair=True)
    with pytest.raises(NotFound, match="no such collection"):
        verified(two, collections=("nothing",))


def test_a_part_of_the_migration_is_no_evidence() -> None:
    """Comparing one collection says nothing about the others: the state keeps its older result."""
    two = filled()
    assert verified(two, collections=(NAME,)).clean
    assert two.states().get().verify == {}
    assert verified(two).clean
    assert two.states().get().verify["clean"] is True


def test_another_distance_and_other_metadata_are_differences() -> None:
    """What a collection is belongs to the comparison; its metadata is repaired, its distance can't be."""
    two = filled()
    two.target.drop(NAME)
    two.target.create(NAME, Definition({"hnsw": {"space": "ip"}}, None, {"about": "x"}))
    two.target.collections[NAME].rows = dict(two.rows(Role.SOURCE))
    (found,) = verified(two).collections
    assert found.definition == ("space", "metadata")
    (found,) = verified(two, repair=True).collections
    assert found.definition == ("space",)
    assert not found.clean


@given(st.permutations(list("abcdefgh")), st.sets(st.sampled_from("abcdefgh")))
def test_out_of_place_is_the_fewest_moves(order: list[str], removed: set[str]) -> None:
    """It is none for the same order, one for one that was moved, and never counts what only one side has."""
    there = [i for i in order if i not in removed]
    assert out_of_place(order, there) == 0
    assert out_of_place(there, order) == 0
    if len(there) > 1:
        assert out_of_place(there, [*there[1:], there[0]]) == 1


def test_another_embedding_function_is_a_difference() -> None:
    """It decides what a text becomes: the target would answer texts with other records. None and Chroma's default one are the same."""

    def defined(side: Any, function: Any) -> None:
        rows = side.collections[NAME].rows
        side.drop(NAME)
        side.create(NAME, Definition({"hnsw": {"space": "l2"}, "embedding_function": function}))
        side.collections[NAME].rows = rows

    two = filled()
    own = {"type": "known", "name": "sentence_transformer", "config": {"model_name": "a"}}
    for source, target, found in (
        (own, own, ()),
        (own, {**own, "config": {"model_name": "b"}}, ("embedding_function",)),
        (own, None, ("embedding_function",)),
        ({"type": "known", "name": "default", "config": {}}, None, ()),
        ({"type": "legacy"}, own, ()),
    ):
        defined(two.source, source)
        defined(two.target, target)
        (report,) = verified(two).collections
        assert report.definition == found
        assert report.clean is not bool(found)


def test_metadata_of_a_collection_is_compared_with_its_types() -> None:
    """1 and true are equal to Python, and not to who filters by them."""
    two = filled()
    for side, value in ((two.source, 1), (two.target, True)):
        side.collections[NAME]._definition = Definition({"hnsw": {"space": "l2"}}, None, {"level": value})
    (found,) = verified(two).collections
    assert found.definition == ("metadata",)
    assert verified(two, repair=True).clean
