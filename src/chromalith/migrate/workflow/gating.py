"""Which gates a change has: those that its direction calls for, looked at with evidence that is asked for once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from chromalith.migrate.looking import OWN_CLOCK
from chromalith.migrate.phases import Phase, Verb
from chromalith.migrate.state import Change, State
from chromalith.migrate.workflow import gates
from chromalith.migrate.workflow.gates import Gate, GateLimits
from chromalith.migrate.workflow.plan import Wish, routing_epoch
from chromalith.migrate.workflow.ports import ClientSeen, Lag, Parts, ShadowSeen


class Evidence:
    """What gates look at, each asked for when the first gate needs it, and not again. All raise ``Unavailable``.

    Args:
        parts: who is asked.
        now_us: the tool's wall time, for the age of the last comparison.
    """

    def __init__(self, parts: Parts, now_us: int) -> None:
        self._parts = parts
        self.now_us = now_us

    @property
    def own_clock(self) -> bool:
        """Whether ages in what was looked at so far are by this machine's clock, not by the store's."""
        return self._parts.own_clock

    @cached_property
    def lag(self) -> Lag:
        return self._parts.lag()

    @cached_property
    def clients(self) -> Sequence[ClientSeen]:
        return self._parts.clients()

    @cached_property
    def others(self) -> Sequence[State]:
        return self._parts.others()

    @cached_property
    def shadow(self) -> ShadowSeen:
        return self._parts.shadow()


def gates_of(wanted: Wish, seen: Evidence, limits: GateLimits) -> list[Gate]:
    """The gates of a change, in the order in which they are told.

    More dependence on the target wants proof, and a short journal: what stands there, readers of the target may miss. So does a change of
    authority, which drains it. Letting go of the source wants a comparison from after the switch, and `dual` that no
    other migration moves the same collections. Everything else has none."""
    state, verb = wanted.state, wanted.verb
    if wanted.already:
        return []
    if verb is Verb.VERIFY:
        return [gates.backfill_gate(state)]
    if verb is Verb.DUAL:
        return [gates.alone_gate(state, seen.others)]
    checked: list[Gate] = []
    if wanted.raises or verb is Verb.COMPLETE:
        since = (Phase.CUTOVER,) if verb is Verb.COMPLETE else (Phase.DUAL, Phase.BACKFILL)
        checked.append(gates.verify_gate(state, seen.now_us, limits, _entered(state, since)))
        checked.append(gates.clients_gate(seen.clients, routing_epoch(state)))
    if wanted.moves_authority or wanted.raises:
        frozen = state.freeze is not None and wanted.moves_authority
        if not wanted.moves_authority:  # nobody waits for a call that is under way
            limits = replace(limits, open_age_max_s=math.inf)
        checked.append(gates.lag_gate(seen.lag, limits, abandoned_s=state.timing.abandoned_s, frozen=frozen))
    if wanted.raises:
        is_switch = verb is Verb.SWITCH
        reads_min = limits.shadow_reads_min if is_switch else 0
        checked.append(gates.shadow_gate(seen.shadow, limits, reads_min=reads_min))
        checked.append(gates.latency_gate(seen.shadow, limits, wanted=is_switch))
    return dated(checked, seen)


def dated(checked: list[Gate], seen: Evidence) -> list[Gate]:
    """The gates; those that go by ages say so where this machine's clock has told them. Only who changes nothing sees such ones."""
    if not seen.own_clock:
        return checked
    return [
        replace(gate, reason=f"{gate.reason} ({OWN_CLOCK})") if gate.name in gates.BY_DATES else gate
        for gate in checked
    ]


def _entered(state: State, phases: Sequence[Phase]) -> Change | None:
    """When one of ``phases`` was entered last: a comparison from before it says nothing of what is there now."""
    for change in reversed(state.history):
        if change.before != change.after and change.after in phases:
            return change
    return None
