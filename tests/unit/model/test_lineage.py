"""What a version's records come from, against a model that keeps the set of folds for every version."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.model.folded import Run, State
from chromalith.model.ids import DeltaId
from chromalith.model.lineage import Calls, folded_since, lineage, undone

STEPS = st.lists(st.one_of(st.none(), st.integers(0, 1_000)), max_size=12)
"""Each step publishes a version: a fold, or (a number) a restore of one of the versions before it."""


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_lineages(steps: list[int | None]) -> None:
    """The ranges hold exactly the folds that a version shows; what a restore undoes is what the target does not show."""
    shows: list[set[int]] = [{0}]
    restores: list[tuple[int, int]] = []
    for step in steps:
        version = len(shows)
        if step is None:
            shows.append(shows[-1] | {version})
        else:
            target = step % version
            restores.append((version, target))
            shows.append(shows[target])
    for version, expected in enumerate(shows):
        assert {each for versions in lineage(version, restores) for each in versions} == expected
    for target, kept in enumerate(shows):
        ranges = undone(len(shows) - 1, target, restores)
        assert {each for versions in ranges for each in versions} == shows[-1] - kept
        assert sum(map(len, ranges)) == len(shows[-1] - kept)


COUNTERS = st.sets(st.integers(0, 12))


def runs(counters: set[int], state: State = State.FOLDED) -> list[tuple[str, Run]]:
    return [("w", Run(counter, counter + 1, state, 1, 1)) for counter in sorted(counters)]


@given(COUNTERS, COUNTERS, COUNTERS)
def test_what_was_folded_since(later: set[int], earlier: set[int], aside: set[int]) -> None:
    """The folded calls of the later set that the earlier one has in no state; nothing that was set aside."""
    found = folded_since(runs(later - aside) + runs(aside, State.ASIDE), runs(earlier))
    assert {counter for calls in found for counter in range(calls.start, calls.stop)} == later - aside - earlier
    assert folded_since([("w", Run(0, 13, State.FOLDED, 1, 1))], runs(earlier)) == Calls("w", 0, 13).without(earlier)
    assert folded_since(runs(later), [("other", Run(0, 13, State.FOLDED, 1, 1))]) == folded_since(runs(later), ())


def test_calls() -> None:
    """Half-open, of one writer."""
    calls = Calls("w", 2, 5)
    assert [DeltaId(0, "w", counter, "") in calls for counter in range(1, 6)] == [False, True, True, True, False]
    assert DeltaId(0, "v", 3, "") not in calls
    assert calls.without([3, 9]) == [Calls("w", 2, 3), Calls("w", 4, 5)]
