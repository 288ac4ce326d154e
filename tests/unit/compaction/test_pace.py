"""Estimates of how long a fold or a merge takes: they decide what is begun where time is limited."""

from __future__ import annotations

import math

import pytest

from chromalith.compaction import pace
from chromalith.model.ids import DeltaId
from chromalith.model.order import Listed


def listed(count: int, size: int) -> list[Listed]:
    return [Listed(number, DeltaId(number, "0" * 32, number, "0" * 16), size) for number in range(count)]


def test_without_a_limit_everything_fits() -> None:
    """As on a machine of one's own."""
    deltas = listed(10_000, 2**20)
    assert pace.that_fit(deltas, pace.forever()) == deltas
    assert math.isinf(pace.rows_that_fit(pace.forever(), 384, 10_000))


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_what_fits_is_a_prefix_and_grows_with_the_time(size: int) -> None:
    """Nothing without the time that every job takes; then one delta after the other."""
    deltas = listed(500, size)
    taken = [len(pace.that_fit(deltas, left_s)) for left_s in (0, pace.START_S, pace.START_S + 1, pace.START_S + 10, 900)]
    assert taken[:2] == [0, 0]
    assert taken == sorted(taken)
    assert taken[2] < taken[4]
    assert pace.that_fit(deltas, pace.START_S + 1) == deltas[: taken[2]]


def test_the_largest_delta_fits_into_a_minute() -> None:
    """64 MiB, 10,000 rows of 1,536 dimensions, with the index that they get: else a function of a minute would never get past it."""
    (largest,) = pace.that_fit(listed(1, 64 * 2**20), 60.0 - 3.0)
    assert largest.size == 64 * 2**20
    assert pace.rows_that_fit(60.0 - 3.0, 1536, 10_000) >= 10_000


@pytest.mark.parametrize("dimension", [None, 64, 384, 1536, 3072])
def test_rows_with_an_index_take_longer_than_rows_without(dimension: int | None) -> None:
    """From the threshold on the index is counted; below it, no more rows are taken than stay below it."""
    threshold = 10_000
    left = [pace.START_S + seconds for seconds in range(200)]
    rows = [pace.rows_that_fit(seconds, dimension, threshold) for seconds in left]
    assert rows == sorted(rows)
    for seconds, count in zip(left, rows, strict=True):
        cost_s = pace.START_S + count / pace.ROWS_PER_S + (pace.index_s(int(count), dimension) if count >= threshold else 0)
        assert cost_s <= seconds + 1e-6
    assert any(count >= threshold for count in rows)
    assert any(0 < count < threshold for count in rows)


def test_a_wider_vector_takes_longer() -> None:
    """An unknown dimension counts as a wide one."""
    assert pace.index_s(1_000, 384) < pace.index_s(1_000, 1536) == pace.index_s(1_000, None)
