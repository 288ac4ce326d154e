"""The planner: a pure choice, in a table."""

from __future__ import annotations

import pytest

from chromalith.engine.plan import EXACT_ROWS_MAX, Approximate, Exact, ask_more, candidates_max, plan


@pytest.mark.parametrize(
    ("rows", "passing", "n_results", "has_index", "expected"),
    [
        (60_000, 60_000, 10, False, Exact(gather=False)),
        (60_000, 60_000, 10, True, Approximate(160)),
        (60_000, 60_000, 500, True, Approximate(500)),
        (60_000, 60_000, 4_097, True, Approximate(4_097)),
        (60_000, 60_000, 6_001, True, Exact(gather=False)),  # a tenth of all rows: a scan is cheaper
        (60_000, EXACT_ROWS_MAX, 10, True, Exact(gather=True)),
        (60_000, 6_000, 10, True, Approximate(160 + 1_000)),
        (60_000, 30_000, 10, True, Approximate(160 + 200)),
        (60_000, 5_000, 500, True, Exact(gather=True)),  # 60,000 candidates would be needed
        (60_000, 20_000, 10, False, Exact(gather=False)),
        (60_000, 15_000, 10, False, Exact(gather=True)),
        (10, 0, 10, False, Exact(gather=True)),
        (1_000, 1_000, 1_000, True, Exact(gather=False)),
    ],
)
def test_the_choice_follows_from_the_counts(
    rows: int, passing: int, n_results: int, has_index: bool, expected: Exact | Approximate
) -> None:
    assert plan(rows, passing, n_results, has_index=has_index, candidates_min=160) == expected


def test_asking_for_more_ends() -> None:
    """However little an index yields, the requests grow, and after a few of them the planner gives up."""
    for found in (0, 1, 9):
        count: int | None = 160
        asked = []
        while count is not None:
            asked.append(count)
            count = ask_more(count, found, 60_000, 10)
        assert asked == sorted(set(asked))
        assert len(asked) < 8
        assert asked[-1] <= candidates_max(60_000, 10)
