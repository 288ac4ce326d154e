"""How plans, gates and outcomes of a migration are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from chromalith.cli.failures import TRY_AGAIN
from chromalith.cli.invocation import Invocation
from chromalith.migrate.workflow.gates import Gate
from chromalith.migrate.workflow.verbs import Outcome

_DONE = {
    "start": "started",
    "dual": "dual",
    "ramp": "ramped",
    "switch": "switched",
    "complete": "completed",
    "rollback": "rolled_back",
    "cancel": "cancelled",
    "pause": "paused",
    "resume": "resumed",
    "forget": "forgotten",
}


def outcome_encoded(outcome: Outcome) -> dict[str, Any]:
    """A verb's answer as JSON."""
    plan, state = outcome.plan, outcome.state
    word = _DONE.get(plan.verb, plan.verb)
    return {
        "result": "refused"
        if plan.refused
        else "planned"
        if outcome.dry_run
        else f"already_{word}"
        if outcome.already
        else word,
        "name": state.name,
        "phase": str(state.phase),
        "epoch": state.epoch,
        "percent": asdict(state.percent),
        "plan": plan.encode(),
        "created": list(outcome.created),
        "found": [asdict(each) for each in outcome.found],
    }


def print_outcome(run: Invocation, outcome: Outcome) -> None:
    """Show it; a dry run of what would be refused ends with exit code 3."""
    value = outcome_encoded(outcome)
    run.output.data(value, lambda: _tell(run, outcome, value))
    if outcome.dry_run and outcome.plan.refused:
        raise typer.Exit(TRY_AGAIN)


def _tell(run: Invocation, outcome: Outcome, value: dict[str, Any]) -> None:
    plan = outcome.plan
    if outcome.found:
        rows = [(f.name, f.space, f.dimension, f.source_records, f.target_records) for f in outcome.found]
        run.output.table(("collection", "distance", "dimension", "at the source", "at the target"), rows)
    print_gates(run, plan.gates)
    if outcome.dry_run:
        run.output.line(f"plan of `{plan.verb}`: {plan.before} → {plan.after}", style="bold")
        for number, step in enumerate(plan.steps, 1):
            run.output.line(f"  {number}. {step.text}")
        if not plan.steps:
            run.output.line("  nothing to do")
        if plan.refused:
            run.output.line("it would be refused: " + ", ".join(gate.name for gate in plan.refused), style="bold")
        return
    run.output.line(f"{value['result']}: {outcome.state.name} is in phase {plan.after if plan.steps else plan.before}")


def print_gates(run: Invocation, gates: Sequence[Gate]) -> None:
    """One line each: whether it holds, and why; what to do if not."""
    for gate in gates:
        word = "ok" if gate.passed else "overruled" if gate.overruled else "refused"
        run.output.line(f"  {word:9} {gate.name}: {gate.reason}")
        if not gate.passed and not gate.overruled:
            run.output.line(f"            → {gate.todo}")
