"""Whoever dies, dies without harm: the operator's tool at any call, the reconciler, a process of the application in mid-write."""

from __future__ import annotations

import itertools
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.migrate.live.crew import DIFFERENT, DONE, TRY_AGAIN
from tests.migrate.live.scene import LONG, WALK, Scene, Size, scene
from tests.servers import ChromaServer

pytestmark = pytest.mark.server
TRIES = 3
FREEZING = ("switch", "rollback", "ramp")
"""Verbs that freeze writes. A freeze that nobody ends costs ``freeze_limit_s``, so the short form kills few of them."""


def kill_at_calls(on: Scene, calls: list[int], verb: str, *arguments: str) -> int:
    """Run a verb once for each of ``calls``, killed there, in turn before the call and after it. Returns how many of the runs were killed.

    A run that was not killed, as what it found was not in order, is made again at the same call."""
    killed = 0
    for call, moment in zip(calls, itertools.cycle(("after", "before")), strict=False):
        for _ in range(TRIES):
            command = on.operator.command(verb, *arguments)
            done = on.operator.once([sys.executable, "-m", "tests.migrate.live.killed", str(call), moment, *command])
            assert done.code in (-signal.SIGKILL, DONE, TRY_AGAIN, DIFFERENT), done.output[-3_000:]
            if done.code in (-signal.SIGKILL, DONE):
                break
        killed += done.code == -signal.SIGKILL
        if done.code == DONE:  # it has fewer calls, and has done what it should
            break
    return killed


@pytest.mark.parametrize(
    ("calls", "freezing", "least"),
    [
        pytest.param([11], [14], 1, id="few", marks=LONG),
        pytest.param(list(range(1, 120, 3)), list(range(1, 60, 4)), 5, id="long", marks=LONG),
    ],
)
def test_the_tool_killed_at_store_calls_and_run_again_walks_the_same_way(
    calls: list[int], freezing: list[int], least: int, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """Each verb is killed at calls to the store, early and late, and then simply run again; at the end nothing is lost."""
    killed: Counter[str] = Counter()
    with scene(own_chroma_server, tmp_path, Size(calls=10)) as on:
        on.operator.follow()
        for _, steps in WALK:
            for verb, *arguments in steps:
                killed[verb] += kill_at_calls(on, freezing if verb in FREEZING else calls, verb, *arguments)
                on.step(verb, *arguments)
        on.check("cutover, each verb killed")
        killed["rollback"] += kill_at_calls(on, freezing, "rollback")
        on.step("rollback")
        on.end(target=False)
    assert all(times >= least for times in killed.values()), killed


@pytest.mark.parametrize("seed", [pytest.param(5, marks=LONG)])
def test_the_tool_killed_at_random_moments_walks_the_same_way(
    seed: int, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """SIGKILL between any two instructions, many times for each verb."""
    chance = random.Random(seed)
    with scene(own_chroma_server, tmp_path, Size(processes=3, pool=150, calls=20)) as on:
        on.operator.follow()
        for _, steps in WALK:
            for verb, *arguments in steps:
                for _ in range(8):
                    command = [sys.executable, "-m", "chromalith.cli.app", *on.operator.command(verb, *arguments)]
                    on.operator.once(command, kill_after_s=chance.uniform(0.6, 6.0))
                on.step(verb, *arguments)
        on.check("cutover, each verb killed")
        on.step("rollback")
        on.end(target=False)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="few", marks=LONG), pytest.param(12, id="long", marks=LONG)])
def test_processes_of_the_application_killed_in_mid_write_leave_equal_sides(
    rounds: int, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """In every phase: what a dead process left open is reconciled when it counts as abandoned, and the judge finds both sides right."""
    chance = random.Random(7)
    with scene(own_chroma_server, tmp_path, Size(processes=3, calls=20, pause_s=0.0)) as on:
        reconciler = on.operator.follow()
        for name, steps in WALK:
            for verb, *arguments in steps:
                on.step(verb, *arguments)
            for _ in range(rounds):
                number = chance.randrange(on.size.processes)
                on.application.work(chance.randint(1, 9))
                on.application.kill(number)
                on.application.start(number)
                on.application.work(on.size.calls)
            if name in ("backfill", "ramp"):
                reconciler.kill()
                reconciler.wait()
                reconciler = on.operator.follow()
        on.end()
