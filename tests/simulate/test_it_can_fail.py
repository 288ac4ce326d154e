"""The simulation notices: each seeded defect of the protocol fails a history before long."""

from __future__ import annotations

import pytest
from tests.simulate.mutants import MUTANTS, kill

SEEDS_MAX = 150


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_dies(name: str) -> None:
    """Some history of the profile that was made for it fails."""
    mutant, profile = MUTANTS[name]
    assert kill(mutant, profile, range(SEEDS_MAX)) is not None, f"it lives: {name}"
