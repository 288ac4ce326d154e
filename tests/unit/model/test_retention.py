"""Which versions are kept, and which jobs may go on: arithmetic."""

from __future__ import annotations

import pytest

from chromalith.errors import Invalid
from chromalith.model.retention import Retention, boundary_of, current_at, horizon_by_age, horizon_by_count

HOUR_US = 3_600_000_000
PUBLISHED = {version: version * HOUR_US for version in range(3, 8)}  # version 3 at 3 h, … version 7 at 7 h


@pytest.mark.parametrize(("hours", "version"), [(0, 3), (3, 3), (3.9, 3), (4, 4), (6.5, 6), (7, 7), (100, 7)])
def test_current_at(hours: float, version: int) -> None:
    """The latest version published by then; before the first one that is known, that one."""
    assert current_at(PUBLISHED, round(hours * HOUR_US)) == version


@pytest.mark.parametrize(("keep_age_s", "lowest"), [(0, 7), (3_600, 7), (3_601, 6), (4 * 3_600, 4), (10**9, 3)])
def test_horizon_by_age(keep_age_s: float, lowest: int) -> None:
    """What was current at any time in the last ``keep_age_s`` is kept, also what it began with."""
    assert horizon_by_age(PUBLISHED, 8 * HOUR_US, keep_age_s) == lowest


def test_horizon_by_count() -> None:
    """Versions are counted from the newest; those of sweeps are kept, but not counted."""
    chain = [(9, "sweep"), (8, "fold"), (7, "sweep"), (6, "merge"), (5, "restore"), (4, "create")]
    assert [horizon_by_count(chain, n) for n in (1, 2, 3, 4, 5)] == [8, 6, 5, 4, None]
    assert horizon_by_count([], 1) is None


@pytest.mark.parametrize(("grace_s", "boundary"), [(0, 8), (1, 7), (3_600, 7), (3_601, 6), (18_000, 3), (10**9, 0)])
def test_boundary(grace_s: float, boundary: int) -> None:
    """Jobs that began within the grace may go on, also if they are older than every version that is known; without a grace, none."""
    assert boundary_of(PUBLISHED, 8 * HOUR_US, grace_s, 8) == boundary


def test_the_boundary_is_not_above_the_sweep() -> None:
    """Whatever the dates say, the boundary is at most the sweep's own version: above it, no job could ever publish."""
    assert boundary_of({3: 0, 4: 0}, 9, 0.000001, 4) == 4


@pytest.mark.parametrize(
    "wrong", [{"keep_versions": 0}, {"keep_age_s": -1}, {"job_grace_s": -0.1}, {"keep_age_s": float("nan")}]
)
def test_wrong_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid) as error:
        Retention(**wrong)  # type: ignore[arg-type]
    assert error.value.hint
