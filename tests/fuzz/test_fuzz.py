"""Bad bytes: whatever a decoder is given, it ends with a value, ``Corrupt`` or ``Invalid``.

The short form. ``make fuzz`` is the long one; docs/testing.md says what was run, and how a failure is replayed.
"""

from __future__ import annotations

from random import Random

import pytest
from tests.fuzz.corpus import kept, seeds_of
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

INPUTS = 150


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_are_accepted(target: Target) -> None:
    """Else a fuzzer would only ever see the first check refuse."""
    for seed in target.seeds():
        assert target.accepts(seed), seed[:200]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_was_once_wrong(target: Target) -> None:
    """Each input of the corpus once made its decoder raise something else, or take too much."""
    for path in kept(target.name):
        target.accepts(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutations(target: Target) -> None:
    """A few inputs of a fixed seed, so that a run is like any other."""
    seeds = seeds_of(target)
    for number in range(INPUTS):
        chance = Random(f"{target.name} {number}")
        target.accepts(mutated(chance.choice(seeds), target.kind, chance, seeds))
