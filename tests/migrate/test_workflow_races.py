"""Several operators at once: threads that really run side by side, each with its own tool, on one migration."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.migrate.workflow_world import SOURCE, TARGET, World

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import ChromalithError
from chromalith.migrate.phases import Phase
from chromalith.migrate.state import Freeze, Timing
from chromalith.migrate.workflow.verbs import Outcome, Workflow

QUICK = Timing(state_age_max_s=0.02, freeze_limit_s=2.0, abandoned_s=30.0, second_write_s=1.0)
Act = Callable[[Workflow], Outcome]


def real(phase: Phase) -> World:
    """A migration in ``phase`` on the machine's clock, with short times."""
    world = World(SYSTEM_CLOCK)
    world.timing = QUICK
    return world.until(phase)


def together(world: World, acts: Sequence[Act]) -> list[Outcome | ChromalithError]:
    """Each act with a tool of its own, all begun at the same moment."""
    results: list[Outcome | ChromalithError] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Act) -> None:
        flow = world.workflow()
        barrier.wait()
        try:
            results.append(act(flow))
        except ChromalithError as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == len(acts)
    return results


def moves(world: World) -> list[tuple[str, str]]:
    """Each change of the phase or the percentages, in the order of the log."""
    return [(change.before, change.after) for change in world.state.history if change.before != change.after]


def is_a_chain(world: World) -> bool:
    """Whether each change began where the one before it had ended."""
    changes = moves(world)
    return all(first[1] == second[0] for first, second in itertools.pairwise(changes))


def test_one_verb_said_by_many() -> None:
    """Eight operators say `dual` at once: it is published once, and all are told that it is so, or that somebody was first."""
    world = real(Phase.DIRECT)
    results = together(world, [lambda flow: flow.dual()] * 8)
    assert [after for _, after in moves(world)] == ["direct", "dual"]
    assert world.state.phase is Phase.DUAL
    assert any(isinstance(result, Outcome) for result in results)


def test_one_start_by_many() -> None:
    """One migration comes of it, and each of them is told of that one."""
    world = World(SYSTEM_CLOCK)
    together(world, [lambda flow: flow.start(SOURCE, TARGET)] * 8)
    assert [change.verb for change in world.state.history] == ["start"]
    assert world.target.names() == ["words"]


@pytest.mark.parametrize("round_", range(4))
def test_switch_and_rollback_at_once(round_: int) -> None:
    """Whoever is second waits for the first's freeze or is told to decide again; the log is one chain, and no freeze stays."""
    world = real(Phase.RAMP)
    world.write("b", "kept")
    world.compared()
    together(world, [lambda flow: flow.switch(), lambda flow: flow.rollback()] * 2)
    state = world.state
    assert state.freeze is None
    assert state.phase in (Phase.CUTOVER, Phase.DIRECT)
    assert is_a_chain(world), moves(world)
    assert world.documents("target" if state.phase is Phase.CUTOVER else "source")["b"] == "kept"
    assert max(Counter(moves(world)).values()) == 1


def test_ramps_with_different_percentages() -> None:
    """Two operators who want different percentages: one after the other, or one is told to decide again; never a mixture."""
    world = real(Phase.VERIFY)
    results = together(world, [lambda flow: flow.ramp(10, 10, 0), lambda flow: flow.ramp(40, 80, 0)])
    state = world.state
    assert state.freeze is None
    assert (state.percent.reads, state.percent.writes) in {(10, 10), (40, 80)}
    assert is_a_chain(world)
    won = [result for result in results if isinstance(result, Outcome)]
    assert any(result.state.percent == state.percent for result in won)


def test_a_freeze_left_behind_is_taken_back_by_the_next_verb() -> None:
    """The next verb waits as long as a freeze may last, by its own clock, takes it back, and does its work; the plan said so."""
    world = real(Phase.RAMP)
    short, left = replace(QUICK, freeze_limit_s=1.0), Freeze("f" * 16, "switch", "somebody", 0)
    world.states.change(lambda now: replace(now.changed(now.history[-2], freeze=left), timing=short))
    planned = world.workflow().rollback(dry_run=True)
    assert "somebody" in planned.plan.steps[0].text
    done = world.workflow().rollback()
    assert done.walked == planned.plan.steps
    assert (world.state.phase, world.state.freeze) == (Phase.DIRECT, None)
    assert any("somebody left it behind" in change.note for change in world.state.history)
