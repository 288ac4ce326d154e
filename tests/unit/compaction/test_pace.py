"""Estimates of how long a fold or a merge takes: they decide what is begun where time is limited."""

from __future__ import annotations

import pytest

from chromalith.compaction import pace
from chromalith.model.delta import OPERATIONS_MAX, ROWS_MAX
from chromalith.model.ids import DeltaId
from chromalith.model.order import Listed


def listed(count: int, size: int) -> list[Listed]:
    return [Listed(number, DeltaId(number, "0" * 32, number, "0" * 16), size) for number in range(count)]


def test_without_a_limit_everything_fits() -> None:
    """As on a machine of one's own."""
    deltas = listed(10_000, 2**20)
    assert pace.that_fit(deltas, pace.forever()) == deltas


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
    assert pace.fold_s(10_000, 0, 1536, 10_000) <= 60.0 - 3.0


def test_the_largest_calls_fit_into_a_lambda() -> None:
    """Whatever one call may be: a delta can't be passed over, so one that never fits would stop all that come after it."""
    limit_s = 900.0 - 3.0 - 64 * 2**20 / pace.BYTES_PER_S
    assert pace.fold_s(OPERATIONS_MAX, 0, 8 * 1536, 10_000) <= limit_s
    assert pace.fold_s(0, ROWS_MAX, 1536, 10_000) <= limit_s


def test_deletes_build_no_index() -> None:
    """However many there are, they are only looked up."""
    assert pace.fold_s(0, 200_000, 1536, 10_000) < pace.fold_s(0, 200_001, 1536, 10_000) < pace.fold_s(20_000, 0, 1536, 10_000)


@pytest.mark.parametrize("dimension", [None, 64, 384, 1536, 3072])
def test_rows_with_an_index_take_longer_than_rows_without(dimension: int | None) -> None:
    """From the threshold on the index is counted, of all rows; and more rows never take less."""
    threshold = 10_000
    seconds = [pace.fold_s(rows, 0, dimension, threshold) for rows in range(0, 30_000, 500)]
    assert seconds == sorted(seconds)
    step = pace.fold_s(threshold, 0, dimension, threshold) - pace.fold_s(threshold - 1, 0, dimension, threshold)
    assert step == pytest.approx(pace.index_s(threshold, dimension) + 1 / pace.ROWS_PER_S)


def test_a_wider_vector_takes_longer() -> None:
    """An unknown dimension counts as a wide one."""
    assert pace.index_s(1_000, 384) < pace.index_s(1_000, 1536) == pace.index_s(1_000, None)
