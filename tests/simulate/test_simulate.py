"""Whole histories, each from one seed, judged by the ledger and by what the callers saw."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chromalith.testing.simulator.many import run_many
from chromalith.testing.simulator.profiles import PROFILES
from chromalith.testing.simulator.run import run_history

HISTORIES = int(os.environ.get("CHROMALITH_HISTORIES", "2002"))
PARTS = 4
"""Tests that the histories are divided among, for several workers."""
SEEDS = Path(__file__).with_name("seeds.txt")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_histories_hold(part: int) -> None:
    """Over two thousand histories of all kinds: nothing acknowledged is lost, nothing counts twice, every read says what it must."""
    seeds = range(HISTORIES * part // PARTS, HISTORIES * (part + 1) // PARTS)
    seen: Counter[str] = Counter()
    for result in run_many(seeds, None, jobs=1):
        assert result.violation is None, "\n" + result.report()
        seen.update({result.profile: 1, "versions": result.versions, "reads": result.reads})
        seen.update({"writes": result.writes, "pinned": result.pinned})
    print(dict(seen))
    assert sum(seen[profile] for profile in PROFILES) == len(seeds)
    # A simulation in which nothing happens would hold, too.
    assert seen["versions"] > 5 * len(seeds)
    assert seen["reads"] > 2 * len(seeds)
    assert seen["writes"] > 5 * len(seeds)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_seed_replays_call_by_call(profile: str) -> None:
    """The same seed gives the same history twice; another seed gives another one."""
    first, again, other = run_history(1, profile), run_history(1, profile), run_history(2, profile)
    assert first.trace == again.trace
    assert first.digest == again.digest != other.digest
    assert first.violation is None, first.report()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_replays_in_another_process(hash_seed: str) -> None:
    """The command that a failure prints makes the same history, whatever order that process keeps its sets in."""
    here = run_history(5, "storm")
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, *here.replay.split()[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    assert f"digest={here.digest}" in done.stdout


@pytest.mark.parametrize("line", [each for each in SEEDS.read_text().splitlines() if each and not each.startswith("#")])
def test_what_failed_once_holds(line: str) -> None:
    """Histories in which something was found hold now."""
    profile, seed, _ = line.split(maxsplit=2)
    result = run_history(int(seed), profile)
    assert result.violation is None, result.report()
