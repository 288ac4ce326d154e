"""The report's sentences: what the numbers mean, for somebody who has never heard of a phase. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chromalith.migrate.evidence.cost import CostFound
from chromalith.migrate.evidence.criteria import verified
from chromalith.migrate.evidence.gather import Evidence
from chromalith.migrate.evidence.item import Item, Outcome
from chromalith.migrate.evidence.moments import latency, length, moment
from chromalith.migrate.evidence.timeline import spans
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role

MEANINGS = {
    Phase.DIRECT: "The application reads and writes the old system only.",
    Phase.DUAL: "Every write goes to both systems; the old one's answer counts.",
    Phase.BACKFILL: "As before, while what was there already is copied to the new system.",
    Phase.VERIFY: "The copy is whole; both systems are compared, record by record.",
    Phase.RAMP: "A part of the reads is answered by the new system.",
    Phase.CUTOVER: "The new system's answer counts; the old one still gets every write, so there is a way back.",
    Phase.COMPLETE: "The old system gets nothing any more, and can be removed.",
    Phase.CANCELLED: "The move was given up; the old system is used as before.",
}


def verdict(e: Evidence, items: Sequence[Item]) -> tuple[str, str]:
    """How it stands: a colour (``good``, ``bad``, ``open``), and words."""
    criteria = [item for item in items if item.phase == 0]
    met = sum(item.outcome is Outcome.MET for item in criteria)
    if e.state.phase is Phase.CANCELLED:
        return "open", "Given up before the switch"
    if met == len(criteria):
        return "good", "Done: all criteria of success are met"
    failed = sum(item.outcome is Outcome.NOT_MET for item in criteria)
    if failed and e.state.phase is Phase.COMPLETE:
        return "bad", f"Completed, but {failed} of {len(criteria)} criteria of success are not met"
    if e.state.phase is Phase.COMPLETE:
        return "open", f"Completed: {met} of {len(criteria)} criteria of success are met, and for the others there is no evidence yet"
    return "open", f"Under way, phase {e.state.phase}: {met} of {len(criteria)} criteria of success are met"


def summary(e: Evidence, items: Sequence[Item]) -> list[str]:
    """A few paragraphs in plain words."""
    found = [_whither(e), f"{records(e)} {shadow(e)}".strip()]
    if e.cost is not None:
        found.append(cost(e.cost))
    return [*found, _left(items)]


def _whither(e: Evidence) -> str:
    begun = spans(e.state, e.now_us)
    source, target = (_KINDS[str(side.kind)] for side in (e.state.source, e.state.target))
    what = "all its collections" if e.state.collections is None else f"{len(e.state.collections)} of its collections"
    said = f"This is the move of {source} ({what}) to {target}. {MEANINGS[e.state.phase]}"
    if begun:
        so_far = sum(span.seconds for span in begun)
        last = "" if begun[-1].is_open else f", and ended {moment(begun[-1].begin_us)}"
        said += f" It began {moment(begun[0].begin_us)}{last}: {length(so_far)} in all."
    return said


def records(e: Evidence) -> str:
    """What was compared, and how it came out."""
    problem = verified(e)
    if problem is not None and problem[0] is Outcome.NO_EVIDENCE:
        return "Whether both systems hold the same records is not known now: " + problem[1] + "."
    equal = f"{int(e.verify.get('matching', 0)):,} records were compared on {moment(int(e.verify.get('at_us', 0)))}"
    if problem is None:
        repaired = int(e.verify.get("repaired", 0))
        mended = f" {repaired:,} that differed before were repaired." if repaired else ""
        return f"{equal}, and each is the same in both systems; none is missing, and none is too many.{mended}"
    return f"{equal} and found equal; {problem[1]}."


def shadow(e: Evidence) -> str:
    """Whether both systems answer alike, and as fast."""
    total = e.shadow.total
    if not total.judged or total.agreement is None:
        return "No answers of the two systems have been compared yet."
    same = f"{100 * total.agreement:.2f} % got the same answer"
    said = f"Of {total.judged:,} reads of the application that were asked of both systems, {same}."
    before, now = (e.shadow.latency(role).percentile_s(50) for role in Role)
    if before is not None and now is not None:
        word = "faster" if now < before / 1.1 else "slower" if now > before * 1.1 else "as fast, as far as can be told"
        said += f" Half of them took less than {latency(now)} on the new system, {latency(before)} on the old: it is {word}."
    return said


def traffic(e: Evidence) -> str:
    """Who wrote and read."""
    if not e.producers:
        return "No process of the application has been seen yet."
    writes = sum(max(each.writes.values(), default=0) for each in e.producers)
    reads = sum(sum(each.reads.values()) for each in e.producers)
    failures = sum(each.second_failures for each in e.producers)
    most, minute = e.together()
    said = f"{e.processes} processes made {writes:,} calls that write and {reads:,} that read."
    if minute is not None:
        said += f" At most {most} wrote in the same minute, {moment(minute * 60_000_000)}."
    if failures:
        said += f" {failures:,} writes were taken by one system and not by the other; they are noted, and repaired from the notes."
    return said


def cost(found: CostFound) -> str:
    """Before and after."""
    before, now = found.before, found.after.total
    said = f"A month costs about {now:,.2f} {found.currency} on the new system, by an estimate from counted requests"
    said += f"; before, it was {before:,.2f} {found.currency} ({found.what}{'' if found.is_stated else ', estimated'})."
    if before <= 0:
        return said
    change = 100 * abs(now - before) / before
    return f"{said} That is {change:.0f} % {'less' if now < before else 'more'}."


def _left(items: Sequence[Item]) -> str:
    failed = [item.title for item in items if item.outcome is Outcome.NOT_MET]
    unknown = sum(item.outcome is Outcome.NO_EVIDENCE for item in items)
    if not failed and not unknown:
        return f"All {len(items)} checks are met by evidence; nothing is open."
    open_ones = f"{len(failed)} of {len(items)} checks are not met, and for {unknown} there is no evidence yet"
    return f"{open_ones}: see “Open points”."


def numbers(found: Mapping[str, Any], before: str = "") -> dict[str, int]:
    """All counts in a summary, those of its parts as well; times and settings are left out."""
    counted: dict[str, int] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            counted |= numbers(value, f"{before}{name}: ")
        elif isinstance(value, int) and not isinstance(value, bool) and not name.endswith(("_us", "epoch", "run")):
            counted[f"{before}{name}"] = value
    return counted


def worded(name: str) -> str:
    """A count of :func:`numbers` in words; one that is new here by its name."""
    return _WORDS.get(name, name.replace("_", " "))


_WORDS = {
    "in_flight": "differed, and were being written: judged by the next comparison",
    "repaired": "differed, and were repaired",
    "records": "records that the old system held when the copy began",
    "copied": "copied",
    "equal": "were there already, and equal",
    "fixed": "were there already, differed, and were corrected",
    "gone": "deleted by the application while the copy ran",
    "rejected": "the new system does not take",
    "evened: added": "at the end: added after all",
    "evened: changed": "at the end: corrected",
    "evened: deleted": "at the end: removed, because only the new system had them",
}
_KINDS = {
    "chroma-directory": "a Chroma directory",
    "chroma-server": "a Chroma server",
    "chroma-cloud": "a database of Chroma Cloud",
    "chromalith": "Chromalith on object storage",
    "client": "a database behind a client that the application opened",
}
