"""What a migration looks like now, for a person and as JSON: where it stands, what was found, who follows it, and what can be done next.

Reads the store only: neither side is opened, so it answers also while one of them is down.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chromalith.migrate.phases import Phase, Verb, legal_verbs
from chromalith.migrate.route import Route
from chromalith.migrate.state import SideName, State
from chromalith.migrate.workflow.gates import GateLimits
from chromalith.migrate.workflow.gating import Evidence, gates_of
from chromalith.migrate.workflow.plan import described, is_settled, plan_of, routing_epoch, wish
from chromalith.migrate.workflow.ports import ShadowSeen
from chromalith.migrate.workflow.verbs import Workflow

_WORK = frozenset({Verb.BACKFILL, Verb.VERIFY})
"""Verbs that do something besides changing the state."""


def status_of(workflow: Workflow) -> dict[str, Any]:
    """The whole of it. Raises ``NotFound`` (not started), ``Unavailable``, ``Corrupt``."""
    state, seen = workflow.states.get(), workflow.evidence(looking=True)
    found = {
        "name": state.name,
        "store": workflow.place.store.url,
        "phase": str(state.phase),
        "epoch": state.epoch,
        "settled": state.is_dual and is_settled(state),
        "source": side_encoded(state.source),
        "target": side_encoded(state.target),
        "collections": None if state.collections is None else list(state.collections),
        "authority": _authority(state),
        "percent": asdict(state.percent),
        "freeze": None if state.freeze is None else asdict(state.freeze),
        "paused": state.paused,
        "backfill": dict(state.backfill),
        "lag": asdict(seen.lag),
        "verify": dict(state.verify),
        "shadow": shadow_encoded(seen.shadow),
        "clients": [{**asdict(client), "follows": client.epoch >= routing_epoch(state)} for client in seen.clients],
        "next": [
            each for verb in legal_verbs(state.phase) if (each := _next(verb, state, seen, workflow.limits)) is not None
        ],
    }
    return {**found, "own_clock": seen.own_clock}


def history_of(state: State) -> dict[str, Any]:
    """The audit log."""
    return {"name": state.name, "dropped": state.history_dropped, "changes": [asdict(each) for each in state.history]}


def side_encoded(side: SideName) -> dict[str, str]:
    """A side's name as JSON."""
    return {"kind": str(side.kind), "url": side.url, "tenant": side.tenant, "database": side.database}


def shadow_encoded(shadow: ShadowSeen) -> dict[str, Any]:
    """What shadow reads found, as JSON; ``agreement`` is ``None`` where nothing was compared."""
    agreement = None if not shadow.compared else 1 - shadow.mismatch_rate
    return {**asdict(shadow), "agreement": agreement, "latency_ratio": shadow.latency_ratio}


def _authority(state: State) -> str:
    percent = Route(state).writes_percent
    return {0.0: "source", 100.0: "target"}.get(percent, f"target for {percent:g} % of the ids")


def _next(verb: Verb, state: State, seen: Evidence, limits: GateLimits) -> dict[str, Any] | None:
    """A legal verb, where it leads to, and what is in its way; ``None`` if there is nothing to do for it."""
    if verb is Verb.RAMP:  # its gates depend on what is asked
        return {"verb": str(verb), "after": str(Phase.RAMP), "ready": True, "refused": []}
    wanted = wish(verb, state)
    if verb not in _WORK and not plan_of(wanted).steps:
        return None
    failed = [gate for gate in gates_of(wanted, seen, limits) if not gate.passed]
    return {
        "verb": str(verb),
        "after": described(wanted.phase, wanted.percent),
        "ready": not failed,
        "refused": [gate.encode() for gate in failed],
    }
