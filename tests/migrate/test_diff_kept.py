"""What a comparison believes of an earlier moment: parts of an interrupted run, checksums, another run's summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.migrate.memory_side import Row, batch
from tests.migrate.test_diff import filled, verified, verifier
from tests.migrate.worlds import NAME, Two

from chromalith.errors import ChromalithError
from chromalith.migrate.diff import LOOKS
from chromalith.migrate.diff_parts import sums_of
from chromalith.migrate.port import Role
from chromalith.testing.faulty import Call, Fault
from chromalith.transfer.port import Definition


def interrupted() -> Two:
    """Two equal sides, and a run that failed after half of its parts."""
    two = filled()
    two.faults.choose = lambda call: Fault.BEFORE if call.verb == "read" and len(two.faults.calls) > 22 else None
    with pytest.raises(ChromalithError):
        verified(two)
    two.faults.choose = lambda call: None
    return two


def _remade(two: Two) -> None:
    """Dropped and made again under its name, with the same ids and other values."""
    rows = dict(two.rows(Role.TARGET))
    two.target.drop(NAME)
    two.target.create(NAME, Definition.of_space("l2"))
    two.target.collections[NAME].rows = {record_id: replace(row, document="remade") for record_id, row in rows.items()}


def _only_at_the_source(two: Two) -> None:
    two.source.collections[NAME].rows |= {f"new{n}": Row((1.0, 1.0, 1.0)) for n in range(60)}


def _another_at_each_side(two: Two) -> None:
    two.source.collections[NAME].rows |= {f"new{n}": Row((1.0, 1.0, 1.0)) for n in range(60)}
    two.target.collections[NAME].rows |= {f"new{n}": Row((2.0, 1.0, 1.0)) for n in range(60)}


def _gone_at_the_target(two: Two) -> None:
    two.target.collections[NAME].rows.clear()


@pytest.mark.parametrize(
    "change", [_remade, _only_at_the_source, _another_at_each_side, _gone_at_the_target], ids=lambda each: each.__name__
)
def test_a_run_that_goes_on_calls_nothing_equal_that_it_did_not_compare(change: Callable[[Two], None]) -> None:
    """Whatever happened between the two runs, each of the sixty records that differ now is told."""
    two = interrupted()
    change(two)
    (found,) = verified(two).collections
    assert len(found.standing) == 60
    assert len({each.id for each in found.standing}) == 60


def test_what_is_equal_still_is_not_read_again() -> None:
    """The parts that were kept cost no read when nothing changed."""
    two = interrupted()
    two.faults.calls.clear()
    report = verified(two)
    assert report.clean
    assert report.total("matching") == 60
    assert report.resumed > 0
    assert sum(call.verb == "read" for call in two.faults.calls) == 2 * (16 - report.resumed)


def test_a_record_that_came_after_the_checksums_were_taken_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """One side's sums are of the moment before its ids: they say nothing of an id that only one side lists."""
    two = filled()
    target = two.target.collections[NAME]
    sums = sums_of(batch(target.rows))
    target.rows["late"] = Row((1.0, 2.0, 3.0))
    monkeypatch.setattr(target, "buckets", lambda: sums)
    (found,) = verified(two).collections
    assert [(each.id, each.kind) for each in found.standing] == [("late", "extra")]
    assert (found.source_records, found.target_records, found.matching) == (60, 61, 60)


def test_a_comparison_that_began_earlier_does_not_replace_a_later_one() -> None:
    """It ended last, and says clean; the state keeps the one that began last, which found a difference."""
    two = filled()
    slow, ran = verifier(two), False

    def meanwhile(call: object) -> None:
        nonlocal ran
        if ran or len(two.faults.calls) < 20:
            return
        ran = True
        choose, two.faults.choose = two.faults.choose, lambda call: None
        two.clock.advance(1)
        two.target.collections[NAME].rows["extra"] = Row((1.0, 2.0, 3.0))
        assert not verified(two, again=True).clean
        del two.target.collections[NAME].rows["extra"]
        two.faults.choose = choose

    two.faults.choose = meanwhile
    assert slow.run().clean
    assert ran
    assert two.states().get().verify["clean"] is False


def test_what_was_compared_before_the_migration_went_on_is_compared_again() -> None:
    """A gate takes a comparison for what the state was when it began; parts of an earlier one would carry a later date."""
    two = interrupted()
    two.set(paused=True)
    assert verified(two).resumed == 0


def test_what_is_reconciled_while_it_is_looked_at_is_no_difference() -> None:
    """The journal is read before the records: a note that is gone afterwards would have explained what was seen."""
    two = filled()
    two.write("upsert", ["r1"], 9.0, second=False)
    two.age()
    listings = 0

    def reconcile(call: Call) -> None:
        nonlocal listings
        listings += call.verb == "list" and "/touched/" in call.key
        if listings == LOOKS:
            assert two.drained()

    assert verified(two, two.faulty(reconcile)).clean
    assert listings >= LOOKS
