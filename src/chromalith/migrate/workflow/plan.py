"""What a verb will do, as data: chosen here, printed by ``--dry-run``, and walked by :mod:`chromalith.migrate.workflow.steps`.

Pure. A plan is made of the state it was decided on; whoever carries it out finds out by compare-and-set whether that state still stands.

Which steps there are follows from one question: *does the authority of any id, or of the catalog, change?* If so, writes are frozen, what
is under way ends, the journal is drained, and the flip is conditional on the freeze. If not, the state is just published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chromalith.errors import Bug
from chromalith.migrate.phases import Phase, Verb, after
from chromalith.migrate.route import Route
from chromalith.migrate.state import Percent, State
from chromalith.migrate.workflow.gates import Gate

SETTLED = "every client follows"
"""The note of the history's line that ends ``dual``: from then on nobody writes to the source alone."""


class StepName(StrEnum):
    """What a step does. Names are stable: they appear in JSON."""

    CREATE = "create"
    AWAIT_FREEZE = "await_freeze"
    COLLECTIONS = "collections"
    RECONCILE = "reconcile"
    FREEZE = "freeze"
    PROPAGATE = "propagate"
    FINISH_CALLS = "finish_calls"
    DRAIN = "drain"
    CHECK = "check"
    FLIP = "flip"
    PUBLISH = "publish"
    SETTLED = "settled"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and the sentence that says it to a person."""

    name: StepName
    text: str

    def encode(self) -> dict[str, Any]:
        return {"step": str(self.name), "text": self.text}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a verb will do.

    Attributes:
        verb: its name.
        state: what it was decided on.
        phase, percent, fields: what the state shall be; ``fields`` are the others that change.
        gates: what was checked.
        steps: in this order; empty: it is so already.
    """

    verb: str
    state: State
    phase: Phase
    percent: Percent
    fields: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def refused(self) -> list[Gate]:
        """The gates that don't hold and were not overruled."""
        return [gate for gate in self.gates if not (gate.passed or gate.overruled)]

    @property
    def overruled(self) -> list[Gate]:
        """The gates that don't hold, and that a person overruled."""
        return [gate for gate in self.gates if gate.overruled and not gate.passed]

    @property
    def before(self) -> str:
        """Where it begins, for the audit log."""
        return described(self.state.phase, self.state.percent)

    @property
    def after(self) -> str:
        """Where it leads to, for the audit log."""
        return described(self.phase, self.percent)

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verb": self.verb,
            "before": self.before,
            "after": self.after,
            "gates": [gate.encode() for gate in self.gates],
            "steps": [step.encode() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants the state to be: the way of a verb, before gates and steps are known.

    Attributes:
        moves_authority: whether the authority of some id changes, or that of the catalog.
        raises: whether more of the traffic comes to depend on the target; gates guard this direction only.
    """

    verb: Verb
    state: State
    phase: Phase
    percent: Percent
    fields: Mapping[str, Any]

    @property
    def moves_authority(self) -> bool:
        # Both: at `ramp --writes 100` the target has every id, and the source still has the catalog, until the switch.
        return self._writes(self.state) != self._writes(self._then) or self.state.main is not self._then.main

    @property
    def raises(self) -> bool:
        return (
            self.phase is Phase.CUTOVER
            or self._writes(self._then) > self._writes(self.state)
            or (self.phase is Phase.RAMP and self.percent.reads > self.state.percent.reads)
        )

    @property
    def already(self) -> bool:
        """Whether the state is so."""
        return self.phase is self.state.phase and self.percent == self.state.percent

    @property
    def _then(self) -> State:
        """The state as far as it routes."""
        return replace(self.state, phase=self.phase, percent=self.percent)

    @staticmethod
    def _writes(state: State) -> float:
        return Route(state).writes_percent


_ALREADY = {Verb.SWITCH: Phase.CUTOVER, Verb.COMPLETE: Phase.COMPLETE, Verb.CANCEL: Phase.CANCELLED}
"""Verbs whose end is one phase that they can't be used in: whoever says them again, perhaps after a crash, has what he wants."""


def wish(verb: Verb, state: State, percent: Percent | None = None) -> Wish:
    """Where ``verb`` leads to from ``state``. Raises ``Invalid`` that names the legal verbs."""
    if _ALREADY.get(verb) is state.phase:
        return Wish(verb, state, state.phase, state.percent, {})
    phase = after(verb, state.phase)
    fields: dict[str, Any] = {}
    if phase is state.phase and percent is None:
        return Wish(verb, state, phase, state.percent, fields)
    if phase in (Phase.DIRECT, Phase.DUAL):
        # What was copied and compared is worth nothing once writes have gone to one side alone.
        percent, fields = Percent(), {"backfill": {}, "verify": {}, "paused": False, "shadow_since": state.epoch + 1}
    elif phase is Phase.CANCELLED:
        percent = Percent()
    elif phase is Phase.CUTOVER:
        percent = Percent(100.0, 100.0, state.percent.shadow)
    elif phase is Phase.BACKFILL and state.phase is Phase.VERIFY:
        fields = {"backfill": {}, "verify": {}}
    return Wish(verb, state, phase, percent or state.percent, fields)


def plan_of(wanted: Wish, gates: Sequence[Gate] = ()) -> Plan:
    """The plan of a verb that changes the phase or the percentages."""
    plan = Plan(wanted.verb, wanted.state, wanted.phase, wanted.percent, wanted.fields, tuple(gates))
    return _with(plan, _steps(wanted, plan))


def described(phase: Phase, percent: Percent) -> str:
    """A phase for the audit log, with its percentages where it has any."""
    if phase is not Phase.RAMP:
        return str(phase)
    return f"{phase} reads={percent.reads:g} writes={percent.writes:g} shadow={percent.shadow:g}"


def is_settled(state: State) -> bool:
    """Whether, since ``dual`` was last published, somebody has waited until every client followed it."""
    for change in reversed(state.history):
        if change.verb == Verb.DUAL:
            return change.note == SETTLED
    return False


def routing_epoch(state: State) -> int:
    """The epoch of the last change that clients act on differently. Summaries and pauses raise the epoch, too, and mean nothing to them."""
    for change in reversed(state.history):
        if change.before != change.after:
            return change.epoch
    # Its line is not kept any more, so it was before all lines that are.
    return state.history[0].epoch - 1 if state.history_dropped and state.history else 1


def _with(plan: Plan, steps: Sequence[Step]) -> Plan:
    return Plan(plan.verb, plan.state, plan.phase, plan.percent, plan.fields, plan.gates, tuple(steps))


def _steps(wanted: Wish, plan: Plan) -> list[Step]:
    state, steps = wanted.state, list[Step]()
    if state.freeze is not None and not wanted.already:
        steps.append(await_freeze(state))
    if wanted.moves_authority:
        return steps + _flip(wanted, plan)
    publish = [] if wanted.already else [Step(StepName.PUBLISH, f"set the phase: {plan.before} becomes {plan.after}")]
    if wanted.phase is Phase.DUAL and not (state.is_dual and is_settled(state)):
        return [*steps, *publish, *_settling(state)]
    if wanted.phase is Phase.BACKFILL and not is_settled(state):  # whoever said `dual` died while it waited
        return [*steps, *_settling(state), *publish]
    return steps + publish


def await_freeze(state: State) -> Step:
    """Somebody's freeze is in the way."""
    if state.freeze is None:
        raise Bug("a freeze to wait for that is not there")
    return Step(
        StepName.AWAIT_FREEZE,
        f"wait until the freeze of {state.freeze.by} for {state.freeze.verb} ends, and take it back after"
        f" {state.timing.freeze_limit_s:g} s",
    )


def _settling(state: State) -> list[Step]:
    """``dual`` has been published; who copies must know that every client acts on it."""
    return [
        Step(StepName.PROPAGATE, f"wait {state.timing.propagation_s:g} s: by then every client writes to both sides"),
        Step(StepName.COLLECTIONS, "create at the target the collections that the source got meanwhile"),
        Step(StepName.SETTLED, "note that every client writes to both sides"),
    ]


def _flip(wanted: Wish, plan: Plan) -> list[Step]:
    timing, state = wanted.state.timing, wanted.state
    old = Route(state).writes_percent
    side = {0.0: "the source", 100.0: "the target"}.get(old, f"the authority of each id (the target for {old:g} %)")
    return [
        Step(StepName.RECONCILE, "reconcile once before anything is frozen, so that the freeze is short"),
        Step(
            StepName.FREEZE,
            f"freeze writes; reads go on; it ends by itself after {timing.freeze_limit_s:g} s",
        ),
        Step(StepName.PROPAGATE, f"wait {timing.propagation_s:g} s: by then every client has seen the freeze"),
        Step(StepName.FINISH_CALLS, "wait until no write is under way"),
        Step(StepName.DRAIN, f"reconcile from {side} until the journal is empty"),
        Step(StepName.CHECK, "compare the touched records on both sides"),
        Step(StepName.FLIP, f"flip and end the freeze, if it still stands: {plan.before} becomes {plan.after}"),
    ]
