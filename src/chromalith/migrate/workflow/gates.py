"""What must hold before more of an application comes to depend on the target: named checks, each with the evidence it looked at.

Pure: evidence in, gates out. A gate that does not hold says why and what to do; a person may overrule it by name, and the audit log
keeps that. Going back has no gates but one, so that a bad day is not made worse.

The habit, and the limit of 30 seconds on a switch, are Vitess' (SwitchTraffic refuses above a lag, and cancels itself).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from chromalith.errors import Conflict, Invalid
from chromalith.migrate.presence import LIVE_S
from chromalith.migrate.state import Change, State
from chromalith.migrate.workflow.ports import ClientSeen, Lag, ShadowSeen

NAMES = ("alone", "backfill", "clients", "lag", "latency", "records", "shadow", "verify")
BY_DATES = ("clients", "lag")
"""Those that go by how old objects are, by the store's dates."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What each gate allows.

    Attributes:
        lag_entries_max: of the journal. A pass reconciles about a hundred a second over a network, and the drain has some 15 s.
        lag_age_max_s: of its oldest entry: older means that nobody reconciles.
        open_age_max_s: of its oldest open entry: a call that lasts longer would not end within the freeze.
        verify_age_max_s: since the last comparison.
        mismatch_rate_max: of shadow reads, 0 to 1.
        shadow_reads_min: fewer comparisons than this prove nothing (``switch`` only).
        latency_ratio_max: of the median of the target's reads to the source's.
    """

    lag_entries_max: int = 1_000
    lag_age_max_s: float = 60.0
    open_age_max_s: float = 15.0
    verify_age_max_s: float = 3_600.0
    mismatch_rate_max: float = 0.01
    shadow_reads_min: int = 100
    latency_ratio_max: float = 1.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if math.isnan(value):  # nothing is above it, so the gate would hold for everything
                raise Invalid(f"not a limit {name}={value}", hint="give a number")


_NONE: Mapping[str, int] = MappingProxyType({})

CLOCKS_S = 60.0
"""How far the clocks of two machines may be apart before a comparison counts as one from the future."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One check and its result.

    Attributes:
        name: what ``--force`` calls it.
        passed: whether it holds.
        saw: the evidence, as JSON.
        reason: why it holds or not, one sentence's worth.
        todo: what to do if it does not.
        overruled: whether a person goes on all the same.
    """

    name: str
    passed: bool
    saw: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    todo: str = ""
    overruled: bool = False

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Refused(Conflict):
    """Gates don't hold; nothing was changed.

    Args:
        verb: that was refused.
        gates: those that don't hold.
    """

    def __init__(self, verb: str, gates: Sequence[Gate]) -> None:
        super().__init__(
            f"`{verb}` was refused: " + "; ".join(f"{gate.name}: {gate.reason}" for gate in gates),
            hint="; ".join(dict.fromkeys(gate.todo for gate in gates))
            + f"; or overrule with {' '.join(f'--force {gate.name}' for gate in gates)}",
        )
        self.gates = tuple(gates)


def overrule(gates: Sequence[Gate], forced: Collection[str]) -> list[Gate]:
    """The gates, those named in ``forced`` overruled. Raises ``Invalid`` for a name that is no gate's."""
    unknown = sorted(set(forced) - set(NAMES))
    if unknown:
        raise Invalid(f"no such gate name={unknown[0]!r}", hint=f"gates are {', '.join(NAMES)}")
    return [replace(gate, overruled=gate.name in forced and not gate.passed) for gate in gates]


def lag_gate(lag: Lag, limits: GateLimits, *, abandoned_s: float, frozen: bool = False) -> Gate:
    """The journal is short and young enough to be drained while writes are frozen.

    ``frozen``: they are already, by a tool that may be dead. Nobody reconciles then, so the journal grows old until the freeze is ended,
    which is the first thing that the change does: its age must not be in the way. ``abandoned_s``: of the migration's timing."""
    saw = asdict(lag)
    if lag.unreadable:
        reason = f"{lag.unreadable} objects of the journal can't be read, and nobody knows which ids they name"
        return Gate(
            "lag", False, saw, reason, "`chromalith migrate reconcile` names them; a newer release may read them"
        )
    todo = "run `chromalith migrate reconcile --follow` beside the application, and try again when it has caught up"
    if lag.entries > limits.lag_entries_max:
        return Gate(
            "lag", False, saw, f"{lag.entries} calls are not reconciled; {limits.lag_entries_max} are allowed", todo
        )
    if lag.oldest_open_s > limits.open_age_max_s:
        reason = f"a write has been under way for {lag.oldest_open_s:.0f} s; {limits.open_age_max_s:.0f} s are allowed"
        left_s = math.ceil(max(0.0, abandoned_s - lag.oldest_open_s))
        return Gate("lag", False, saw, reason, f"wait: if its process died, it is taken for ended {left_s} s from now")
    if lag.oldest_s > limits.lag_age_max_s and not frozen:
        reason = (
            f"the oldest entry of the journal is {lag.oldest_s:.0f} s old; {limits.lag_age_max_s:.0f} s are allowed"
        )
        return Gate("lag", False, saw, reason, todo)
    return Gate("lag", True, saw, f"{lag.entries} calls wait to be reconciled, the oldest for {lag.oldest_s:.0f} s")


def verify_gate(state: State, now_us: int, limits: GateLimits, since: Change | None) -> Gate:
    """The last comparison was clean, recent, and from after ``since``, the change that made the data what it is."""
    found, todo = state.verify, "run `chromalith migrate verify`"
    if not found:
        return Gate("verify", False, {}, "the sides were never compared", todo)
    age_s = (now_us - int(found.get("at_us", 0))) / 1e6
    if -CLOCKS_S <= age_s < 0:
        age_s = 0.0
    saw = {"age_s": age_s, **{name: found.get(name) for name in ("clean", "missing", "extra", "different", "epoch")}}
    if not found.get("clean"):
        counts = ", ".join(f"{found.get(name, 0)} {name}" for name in ("missing", "extra", "different"))
        if not any(found.get(name) for name in ("missing", "extra", "different")):
            counts = "the collections themselves, or the order of their records"
        return Gate(
            "verify",
            False,
            saw,
            f"the last comparison found differences: {counts}",
            "run `chromalith migrate verify --repair`",
        )
    if since is not None and int(found.get("epoch", 0)) < since.epoch:
        return Gate("verify", False, saw, f"the last comparison is from before {since.after}", todo)
    if age_s < 0:
        reason = (
            f"by this machine's clock, the last comparison will be made in {-age_s / 60:.0f} min: nobody knows its age"
        )
        return Gate(
            "verify", False, saw, reason, "set the clocks of both machines, and run `chromalith migrate verify`"
        )
    if age_s > limits.verify_age_max_s:
        reason = f"the last comparison is {age_s / 60:.0f} min old; {limits.verify_age_max_s / 60:.0f} min are allowed"
        return Gate("verify", False, saw, reason, todo)
    return Gate("verify", True, saw, f"the sides were equal {_age(age_s)} ago")


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def clients_gate(clients: Sequence[ClientSeen], epoch: int) -> Gate:
    """Every client that lives follows the state of ``epoch``, the last change that matters to it."""
    behind = [client for client in clients if client.epoch < epoch]
    saw = {"live": len(clients), "behind": [client.id for client in behind], "epoch": epoch}
    if behind:
        names = ", ".join(f"{client.app or client.id} (epoch {client.epoch})" for client in behind[:5])
        return Gate(
            "clients",
            False,
            saw,
            f"{len(behind)} of {len(clients)} live clients have not been seen on the state of epoch {epoch}: {names}",
            f"wait some seconds, or {_silence_s(behind)} s if they are processes that died or do nothing now; those that go on"
            " can't read the migration's state",
        )
    if not clients:
        return Gate("clients", True, saw, "no client is live: none told of itself lately")
    return Gate("clients", True, saw, f"all of {len(clients)} live clients follow the present state")


def shadow_gate(shadow: ShadowSeen, limits: GateLimits, *, reads_min: int) -> Gate:
    """Shadow reads agree. ``reads_min``: fewer comparisons than this are no evidence (0: none is needed)."""
    saw = {"compared": shadow.compared, "mismatched": shadow.mismatched, "rate": shadow.mismatch_rate}
    if shadow.compared < reads_min:
        return Gate(
            "shadow",
            False,
            saw,
            f"{shadow.compared} reads were compared on both sides; {reads_min} are wanted",
            "run `chromalith migrate ramp --shadow 10`, and wait for reads",
        )
    if shadow.mismatch_rate > limits.mismatch_rate_max:
        return Gate(
            "shadow",
            False,
            saw,
            f"{shadow.mismatch_rate:.2%} of {shadow.compared} compared reads differ; {limits.mismatch_rate_max:.2%} may",
            "`chromalith migrate shadow` shows what differs",
        )
    if shadow.lately_rate > limits.mismatch_rate_max:
        return Gate(
            "shadow",
            False,
            saw | {"lately_compared": shadow.lately_compared, "lately_mismatched": shadow.lately_mismatched},
            f"{shadow.lately_rate:.2%} of the latest {shadow.lately_compared} compared reads differ;"
            f" {limits.mismatch_rate_max:.2%} may",
            "`chromalith migrate shadow` shows what differs; when it is repaired, count anew with --clear",
        )
    return Gate("shadow", True, saw, f"{shadow.mismatched} of {shadow.compared} compared reads differ")


def latency_gate(shadow: ShadowSeen, limits: GateLimits, *, wanted: bool) -> Gate:
    """The target answers about as fast as the source. ``wanted``: whether having measured nothing is too little."""
    saw = {"source_p50_ms": shadow.source_p50_ms, "target_p50_ms": shadow.target_p50_ms, "ratio": shadow.latency_ratio}
    if shadow.latency_ratio is None:
        return Gate(
            "latency",
            not wanted,
            saw,
            "no latencies were measured",
            "run `chromalith migrate ramp --shadow 10`, and wait for reads",
        )
    if shadow.latency_ratio > limits.latency_ratio_max:
        return Gate(
            "latency",
            False,
            saw,
            f"the target's median read takes {shadow.latency_ratio:.1f} times the source's;"
            f" {limits.latency_ratio_max:g} times are allowed",
            "see what waits to be folded, and fold it (`chromalith status`, `chromalith compact --watch`), look at the target's cache"
            " and indexes (`chromalith doctor`), or take the slower reads with open eyes",
        )
    return Gate("latency", True, saw, f"the target's median read takes {shadow.latency_ratio:.1f} times the source's")


def backfill_gate(state: State) -> Gate:
    """The copy is whole."""
    finished = bool(state.backfill.get("finished"))
    saw = {"finished": finished}
    if not finished:
        return Gate("backfill", False, saw, "the copy is not finished", "run `chromalith migrate backfill` to its end")
    return Gate("backfill", True, saw, "the copy is finished")


def records_gate(records: Mapping[str, int], same: Sequence[str] = (), strangers: Mapping[str, int] = _NONE) -> Gate:
    """The target's collections of the same names are empty, so that a copy destroys nothing. ``records``: their counts.

    ``same``: those that have one id on both sides. A URL does not show it (``localhost`` and ``127.0.0.1``); without this a migration
    from a place to itself would prove itself equal, and its source be removed. ``strangers``: the counts of those that the target has
    alone: a comparison of everything could never be clean, and whoever wants it to be would have to delete them."""
    if same:
        return Gate(
            "records",
            False,
            {"records": records, "same": list(same)},
            f"both sides call {', '.join(sorted(same)[:5])} by the same id: they seem to be one place under two names",
            "choose another target; go on only if the one is a copy of the other's files",
        )
    full = {name: count for name, count in records.items() if count}
    if full:
        return Gate(
            "records",
            False,
            {"records": full},
            f"the target has collections with records already: {_counted(full)}; what the source does not have would be removed",
            "choose another target or database, or delete those collections",
        )
    if strangers:
        return Gate(
            "records",
            False,
            {"records": dict(strangers)},
            f"the target has collections that the source does not have: {_counted(strangers)}; the sides could never be equal",
            "choose another target or database, or say with --collection which ones are moved",
        )
    return Gate("records", True, {"records": {}}, "the target's collections are empty or not there")


def _counted(records: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(records.items())[:5])


def alone_gate(state: State, others: Sequence[State]) -> Gate:
    """No other migration has a collection of these on one of these sides while both of its sides are live: its clients and journal know
    nothing of this one's, so each would take the other's writes for differences, and after a switch write another side first."""
    mine = {(side.url, side.tenant, side.database) for side in (state.source, state.target)}
    found = [
        other
        for other in others
        if other.is_dual
        and any((side.url, side.tenant, side.database) in mine for side in (other.source, other.target))
        and (
            None in (state.collections, other.collections)
            or set(state.collections or ()) & set(other.collections or ())
        )
    ]
    saw = {"others": [other.name for other in found]}
    if found:
        names = ", ".join(f"{other.name!r} ({other.phase})" for other in found[:5])
        reason = f"another migration in this store moves the same collections: {names}"
        return Gate(
            "alone",
            False,
            saw,
            reason,
            "go on with that one (--name), or end it first: `rollback`, `cancel` or `complete`",
        )
    return Gate("alone", True, saw, "no other migration in this store moves the same collections")


def gone_gate(clients: Sequence[ClientSeen]) -> Gate:
    """No client lives that would miss the state."""
    saw = {"live": len(clients)}
    if clients:
        names = ", ".join(client.app or client.id for client in clients[:5])
        reason = f"{len(clients)} clients still follow it: {names}; without it they would use the source"
        todo = (
            "take the migrating client out of the application first; a process that died without a word counts for"
            f" {_silence_s(clients)} s more"
        )
        return Gate("clients", False, saw, reason, todo)
    return Gate("clients", True, saw, "no client follows it any more")


def _silence_s(clients: Sequence[ClientSeen]) -> int:
    """After how long none of them counts as live any more, unless it says something."""
    return math.ceil(max(0.0, *(LIVE_S - client.seen_s for client in clients)))
