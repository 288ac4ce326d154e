"""The six criteria of success of the migration guide, each answered from evidence. Pure.

What would flatter is left out: a comparison from before the last change of authority, a latency of too few reads, a price against the
dearer of two servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chromalith.migrate.evidence.gather import Evidence
from chromalith.migrate.evidence.item import Item, Outcome, Question
from chromalith.migrate.evidence.moments import age, latency, moment
from chromalith.migrate.evidence.record import Record
from chromalith.migrate.evidence.timeline import reached
from chromalith.migrate.phases import ENDED, Phase
from chromalith.migrate.port import Role
from chromalith.migrate.presence import LIVE_S
from chromalith.migrate.workflow.plan import routing_epoch
from chromalith.migrate.workflow.ports import Lag

LATENCY_RATIO_MAX = 1.1
"""Of the target's latency to the source's: buckets of latencies are a fifth wide, so a smaller difference can't be seen in them."""
READS_MIN = 100
"""Compared reads: of fewer, one slow one moves the percentiles."""
AGREEMENT_MIN = 0.99
WAITS_MAX_S = 60.0
"""An entry of the journal that nobody has compared for so long. Under load there are always some: each call is one for a moment."""
RECENT_US = 24 * 3_600 * 1_000_000
"""Clients that said nothing for a day are not counted as producers of today."""
CUT_OVER = (Phase.CUTOVER, Phase.COMPLETE)

VERIFY = "run `chromalith migrate verify`"
RECONCILE = "run `chromalith migrate reconcile --follow` beside the application"
SCAN = "run `chromalith migrate scan PATH --record` over all code that writes"
SHADOW = "run `chromalith migrate ramp --shadow 10` and let the application read for a while"


def producers(e: Evidence) -> Item:
    """Criterion 1."""
    q = Question(
        "producers", 0, "All producers write through the migration, and the target's answer is the one that counts"
    )
    recent = [each for each in e.producers if e.now_us - each.seen_us < RECENT_US]
    wrote = [each for each in recent if any(each.writes.values())]
    if not wrote:
        return q.no_evidence(
            f"{len(recent)} clients were seen in the last day, and none of them wrote",
            todo="open the application's clients with chromalith.MigratingClient",
        )
    seen = (
        f"{len(wrote)} clients wrote in the last day: {', '.join(sorted({each.app or each.id for each in wrote})[:8])}"
    )
    epoch = routing_epoch(e.state)
    behind = [each for each in recent if not each.ended and each.seen_s <= LIVE_S and each.epoch < epoch]
    if e.state.phase not in CUT_OVER:
        return q.not_met(
            seen,
            f"the phase is {e.state.phase}: the source's answer still counts",
            todo="go on to `chromalith migrate switch`",
        )
    if behind:
        names = ", ".join(sorted(each.app or each.id for each in behind)[:8])
        return q.not_met(
            seen, f"{len(behind)} live clients act on an older state: {names}", todo="look at those processes"
        )
    switch = reached(e.state, Phase.CUTOVER)
    since = epoch if switch is None else switch.epoch
    after = [each for each in wrote if each.epoch >= since]
    if not after:
        return q.no_evidence(
            seen, "none of them was seen since the switch", todo="let the application write, and look again"
        )
    return q.met(
        seen, f"{len(after)} of them have followed the switch, epoch {since}; no live one follows an older state"
    )


def code(e: Evidence) -> Item:
    """Criterion 2."""
    q = Question("code", 0, "No direct Chroma writes in the code")
    if not e.scans:
        return q.no_evidence("no scan was recorded", todo=SCAN)
    found = [each.found for each in e.last_scans]
    said = [line for each in e.last_scans for line in _scanned(e, each)]
    if not all(_count(each, "files") for each in found):
        return q.no_evidence(*said, "no file of code was there", todo=SCAN)
    if any(_count(each, "errors") or _count(each, "unreadable") for each in found):
        return q.not_met(
            *said,
            *(place for each in found for place in _places(each)),
            todo="change what `chromalith migrate scan PATH` lists, then scan with --record again",
        )
    return q.met(*said)


def _scanned(e: Evidence, scan: Record) -> tuple[str, str]:
    """What was looked through, and what was found there."""
    found = scan.found
    commit = (
        f"commit {str(found.get('commit'))[:12]}" if found.get("commit") else f"digest {str(found.get('digest'))[:12]}"
    )
    what = f"{found.get('root')} at {commit}, {_count(found, 'files')} files, scanned {age(e.now_us, scan.at_us)} by {scan.by}"
    errors, warnings, allowed, unreadable = (
        _count(found, name) for name in ("errors", "warnings", "allowed", "unreadable")
    )
    return (
        what,
        f"{errors} direct writes, {warnings} other uses, {allowed} allowed with a reason, {unreadable} not readable",
    )


def performance(e: Evidence) -> Item:
    """Criterion 3."""
    q = Question("performance", 0, "Queries are as fast as before, or faster")
    source, target = e.shadow.latency(Role.SOURCE), e.shadow.latency(Role.TARGET)
    few = min(source.total, target.total)
    if few < READS_MIN:
        return q.no_evidence(f"{few} reads were timed on both sides, and {READS_MIN} are needed", todo=SHADOW)
    said, slower = [f"timed reads: source {source.total:,}, target {target.total:,}"], []
    late = e.shadow.total.timeouts  # nobody knows how long they would have taken: longer than all that were timed
    if late:
        said.append(f"{late:,} more took longer than a shadow read may")
    for percent in (50, 95):
        before, now = source.percentile_s(percent) or 0.0, target.percentile_s(percent) or 0.0
        said.append(f"p{percent}: source {latency(before)}, target {latency(now)}")
        if now > LATENCY_RATIO_MAX * before or late > (1 - percent / 100) * (target.total + late):
            slower.append(f"p{percent}")
    if slower:
        return q.not_met(
            *said,
            todo=f"{' and '.join(slower)} of the target are slower: a read level, a cache, an index (docs/concepts.md)",
        )
    return q.met(*said)


def data(e: Evidence) -> Item:
    """Criterion 4."""
    q = Question("data", 0, "No record is lost: both sides were compared, and are equal")
    problem = verified(e)
    if problem is not None and problem[0] is Outcome.NO_EVIDENCE:
        return q.no_evidence(problem[1], todo=VERIFY)
    found = compared(e)
    if problem is not None:
        return q.not_met(found, problem[1], todo=f"{VERIFY} --repair")
    if e.lag is None:
        return q.no_evidence(found, "the journal could not be read", todo="`chromalith migrate status` says why")
    waits, told = waiting(e.lag, e.state.phase)
    if waits:
        return q.not_met(found, told, todo=RECONCILE)
    return q.met(found, told)


def waiting(lag: Lag, phase: Phase) -> tuple[bool, str]:
    """Whether calls of the journal wait to be repaired, or wait for too long; and what waits, in words."""
    ended = lag.entries - lag.open
    if phase in ENDED:  # `complete` lets go of the source in the middle of its writes: what was noted of them is nobody's concern any more
        return False, f"one system is written alone now; {ended:,} calls were not compared any more"
    oldest = f"the oldest for {lag.oldest_s:.0f} s"
    if lag.missed or lag.unreadable:
        return True, f"{lag.missed + lag.unreadable:,} calls wait to be repaired, {oldest}"
    if ended > 0 and lag.oldest_s > WAITS_MAX_S:
        return True, f"{ended:,} calls wait to be compared, {oldest}"
    if ended > 0:
        return False, f"none of the {ended:,} calls that wait to be compared missed a side, {oldest}"
    return False, f"the journal is empty but for {lag.open} calls under way" if lag.open else "the journal is empty"


def verified(e: Evidence) -> tuple[Outcome, str] | None:
    """What is wrong with the last comparison; ``None``: nothing is."""
    found = e.verify
    if not found:
        return Outcome.NO_EVIDENCE, "the sides were not compared yet"
    wrong = {name: _count(found, name) for name in ("missing", "extra", "different")}
    if not found.get("clean") or any(wrong.values()):
        told = ", ".join(f"{count:,} {name}" for name, count in wrong.items() if count)
        return Outcome.NOT_MET, told or "the last comparison did not end clean"
    # The one in force when the source got its last write: after `complete` it gets none, and nothing can be compared any more.
    flip = reached(e.state, Phase.CUTOVER) if e.state.phase in CUT_OVER else reached(e.state, Phase.DUAL)
    is_older = flip is not None and (
        _count(found, "epoch") < flip.epoch if "epoch" in found else _count(found, "at_us") < flip.at_us
    )
    if flip is not None and is_older:
        return Outcome.NO_EVIDENCE, f"the last comparison is older than the change to {flip.after}"
    if under_way := _count(found, "in_flight"):
        return (
            Outcome.NO_EVIDENCE,
            f"{under_way:,} records were being written while the sides were compared, and were not judged",
        )
    return None


def compared(e: Evidence) -> str:
    """The last comparison in a sentence."""
    found = e.verify
    equal, at = f"{_count(found, 'matching'):,} records are equal", moment(_count(found, "at_us"))
    return f"{equal} in {_collections(found)} collections, compared {at}"


def cost(e: Evidence) -> Item:
    """Criterion 5."""
    q = Question("cost", 0, "It costs less than before, and the old volumes are gone")
    if e.cost is None:
        return q.no_evidence(
            e.cost_missing or "nobody computed it",
            todo="give the load: `chromalith migrate checklist --writes-per-s … --reads-per-s …`",
        )
    found = e.cost
    said = (
        f"before: {found.before:,.2f} {found.currency} a month, {found.what}{'' if found.is_stated else ' (estimated)'}",
        f"after: {found.after.total:,.2f} {found.currency} a month (estimated by `chromalith cost`)",
        f"the load: {found.load}",
    )
    if not found.is_lower:
        return q.not_met(*said, todo="see the levers in docs/cost.md, or keep it for what else it gives")
    if e.state.phase is not Phase.COMPLETE:
        return q.not_met(
            *said,
            "the source is still kept, and paid",
            todo="`chromalith migrate complete`, then remove the old machine and its volume",
        )
    return q.met(*said, "the migration is complete: the source can be removed")


def several(e: Evidence) -> Item:
    """Criterion 6."""
    q = Question("several", 0, "Several producers write at the same time")
    dual = reached(e.state, Phase.DUAL)  # before it they wrote to the old system alone
    most, minute = (0, None) if dual is None else e.together(dual.at_us)
    if minute is None:
        return q.no_evidence(
            "no client has told of a write since `dual`", todo="let two processes of the application write at once"
        )
    said = f"at most {most} processes wrote in the same minute, {moment(minute * 60_000_000)}"
    if most < 2:
        return q.no_evidence(
            said, todo="let two processes of the application write at once, or run a load test with two"
        )
    problem = verified(e)
    if problem is not None and problem[0] is Outcome.NOT_MET:
        return q.not_met(said, f"and the sides differ: {problem[1]}", todo=f"{VERIFY} --repair")
    return q.met(said)


CRITERIA: tuple[Callable[[Evidence], Item], ...] = (producers, code, performance, data, cost, several)


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0


def _collections(found: Mapping[str, Any]) -> int:
    value = found.get("collections", 0)
    return len(value) if isinstance(value, list | tuple | dict) else _count(found, "collections")


def _places(found: Mapping[str, Any]) -> tuple[str, ...]:
    places = [str(each) for each in found.get("places", [])][:5]
    return (f"for example {', '.join(places)}",) if places else ()
