"""The plan of ``start``: what was found on both sides, and what is still to be done. Nothing is written here."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace

from chromalith.errors import Conflict, Invalid
from chromalith.migrate.phases import Phase, legal_verbs
from chromalith.migrate.state import Change, Percent, State, Timing
from chromalith.migrate.workflow import gates
from chromalith.migrate.workflow.catalog import Found
from chromalith.migrate.workflow.gates import Gate, overrule
from chromalith.migrate.workflow.plan import Plan, Step, StepName

NAMED_MAX = 8
STATE_AGE_MIN_S = 1.0
"""The age limit of a client that has seen no state yet (:mod:`chromalith.migrate.follower`)."""


def plan_start(
    wanted: State,
    there: State | None,
    found: Sequence[Found],
    strangers: Mapping[str, int],
    force: Collection[str],
    begin: Change,
) -> Plan:
    """The plan.

    Args:
        wanted: the state to begin with.
        there: what stands under this name already, fit to be started again (:func:`may_start_again`).
        found: of each collection.
        strangers: records of the collections that only the target has.
        force: gates that are overruled.
        begin: the first line of the history, its note left open.
    """
    missing = [each.name for each in found if each.target_records is None]
    if there is not None:
        return Plan("start", there, Phase.DIRECT, Percent(), {}, (), _steps(False, missing))
    records = {each.name: each.target_records or 0 for each in found}
    checked = overrule([gates.records_gate(records, [each.name for each in found if each.same_id], strangers)], force)
    state = replace(wanted, history=(replace(begin, epoch=wanted.epoch, note=_note(wanted, checked)),))
    return Plan("start", state, Phase.DIRECT, Percent(), {}, tuple(checked), _steps(True, missing))


def check_timing(timing: Timing) -> None:
    """Raises ``Invalid`` for times that can't work together."""
    for name, value in asdict(timing).items():
        if not math.isfinite(value):
            raise Invalid(f"not a time {name}={value}", hint="give a number of seconds")
    if not timing.state_age_max_s >= STATE_AGE_MIN_S:
        raise Invalid(
            f"too short a time state_age_max_s={timing.state_age_max_s:g}",
            hint=f"give a state_age_max_s of at least {STATE_AGE_MIN_S:g}, which is what clients go by before the start",
        )
    if not timing.second_write_s > 0:
        raise Invalid(
            f"too short a time second_write_s={timing.second_write_s:g}", hint="give a second_write_s above 0"
        )
    if timing.freeze_limit_s <= timing.propagation_s:
        raise Invalid(
            f"a freeze would end before all clients know of it freeze_limit_s={timing.freeze_limit_s:g}"
            f" propagation_s={timing.propagation_s:g}",
            hint="give a freeze_limit_s well above twice state_age_max_s",
        )
    if timing.abandoned_s <= timing.second_write_s:
        raise Invalid(
            f"calls under way would be taken for dead abandoned_s={timing.abandoned_s:g} second_write_s={timing.second_write_s:g}",
            hint="give a larger abandoned_s",
        )


def may_start_again(there: State, wanted: State) -> None:
    """Raises ``Conflict`` (another migration has this name, or it has other times), ``Invalid`` (it has gone on)."""
    if (there.source, there.target, there.collections) != (wanted.source, wanted.target, wanted.collections):
        raise Conflict(
            f"there is a migration of this name between other sides name={there.name!r}"
            f" source={there.source.url} target={there.target.url}",
            hint="choose another --name, or take that one back: `chromalith migrate cancel`, then `chromalith migrate forget --yes`",
        )
    if there.phase is not Phase.DIRECT:
        legal = ", ".join(legal_verbs(there.phase))
        raise Invalid(
            f"this migration was started already name={there.name!r} phase={there.phase}",
            hint=f"legal here: {legal}" if legal else "it has ended; start another with its own --name",
        )
    differ = [name for name, value in asdict(there.timing).items() if value != getattr(wanted.timing, name)]
    if differ:
        kept = ", ".join(f"{name}={getattr(there.timing, name):g}" for name in differ)
        raise Conflict(
            f"this migration was started with other times name={there.name!r} {kept}",
            hint="say the same again, or take it back first: `chromalith migrate cancel`, then `chromalith migrate forget --yes`",
        )


def _note(state: State, checked: Sequence[Gate]) -> str:
    scope = "all collections" if state.collections is None else f"collections: {', '.join(state.collections)}"
    return "; ".join([scope, *(f"forced {gate.name}: {gate.reason}" for gate in checked if gate.overruled)])


def _steps(new: bool, missing: Sequence[str]) -> tuple[Step, ...]:
    steps: list[Step] = []
    if new:
        text = "write the migration's state; the phase is direct, and nothing changes for anybody"
        steps.append(Step(StepName.CREATE, text))
    if missing:
        more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
        steps.append(Step(StepName.COLLECTIONS, f"create at the target, empty: {', '.join(missing[:NAMED_MAX])}{more}"))
    return tuple(steps)
