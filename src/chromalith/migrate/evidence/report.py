"""The report of a migration: one HTML file that needs nothing else, for people who run none of this.

It begins with plain words and ends with the evidence. Nothing of a record's content is in it; names of collections, hosts and people are.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from chromalith.migrate.evidence import page, story
from chromalith.migrate.evidence.gather import Evidence
from chromalith.migrate.evidence.item import Item, Outcome
from chromalith.migrate.evidence.moments import latency, length, moment
from chromalith.migrate.evidence.page import card, folded, legend, section, table, text, tile
from chromalith.migrate.evidence.plots import Slice, bars, latencies, stacked, timeline
from chromalith.migrate.evidence.timeline import spans
from chromalith.migrate.port import Role

HISTORY_SHOWN = 300
CLIENTS_SHOWN = 50
_SIGNS = {
    Outcome.MET: ("good", "✓ met"),
    Outcome.NOT_MET: ("bad", "✗ not met"),
    Outcome.NO_EVIDENCE: ("open", "? no evidence"),
}
_PHASES = ("Criteria of success", "Infrastructure", "Code", "Parallel running", "Queries", "Cutover", "Cleanup")


def report(e: Evidence, items: Sequence[Item], version: str) -> str:
    """The file's text.

    Args:
        items: the checklist of the same evidence.
        version: of Chromalith."""
    title = f"Migration “{e.state.name}”"
    return page.page(
        title,
        [
            _head(e, items, title, version),
            section("In short", *(text(said) for said in story.summary(e, items))),
            _tiles(e, items),
            _open(e, items),
            _phases(e),
            _records(e),
            _shadow(e),
            _traffic(e),
            _cost(e),
            _checks(items),
            _history(e),
        ],
    )


def _head(e: Evidence, items: Sequence[Item], title: str, version: str) -> str:
    kind, verdict = story.verdict(e, items)
    when = f"As of {moment(e.now_us)}; state kept in {e.store}; written by chromalith {version}."
    sides = f"{e.state.source.url} ({e.state.source.kind}) → {e.state.target.url} ({e.state.target.kind})"
    return (
        f"<header><h1>{escape(title)}</h1>"
        f'<p><span class="verdict {kind}">{escape(verdict)}</span></p>'
        f'<p class="mono">{escape(sides)}</p>'
        f'<p class="muted">{escape(when)}</p></header>'
    )


def _tiles(e: Evidence, items: Sequence[Item]) -> str:
    met = sum(item.outcome is Outcome.MET for item in items)
    tiles = [tile(f"{met} of {len(items)}", "checks are met by evidence")]
    matching = e.verify.get("matching")
    if isinstance(matching, int):
        tiles.append(tile(f"{matching:,}", "records compared, and equal"))
    agreement = e.shadow.total.agreement
    if agreement is not None:
        tiles.append(tile(f"{100 * agreement:.2f} %", f"of {e.shadow.total.judged:,} compared reads agree"))
    before, now = (e.shadow.latency(role).percentile_s(50) for role in Role)
    if before is not None and now is not None:
        tiles.append(tile(f"{latency(before)} → {latency(now)}", "median of a read, before → after"))
    if e.cost is not None:
        tiles.append(
            tile(f"{e.cost.before:,.0f} → {e.cost.after.total:,.0f}", f"{e.cost.currency} a month, before → after")
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _open(e: Evidence, items: Sequence[Item]) -> str:
    rows = [
        (_SIGNS[item.outcome][1], item.title, "; ".join(item.evidence[-2:]), item.todo) for item in items if item.todo
    ]
    rows += [("? no evidence", "Something could not be read", each, "") for each in e.unreadable]
    if not rows:
        return section("Open points", text("None."))
    return section("Open points", card(table(("", "What", "Why", "What to do"), rows)))


def _phases(e: Evidence) -> str:
    found = spans(e.state, e.now_us)
    rows = [
        (
            str(span.phase),
            moment(span.begin_us),
            "goes on" if span.is_open else "" if span.end_us == span.begin_us else length(span.seconds),
        )
        for span in found
    ]
    meanings = [(str(span.phase), story.MEANINGS[span.phase]) for span in {span.phase: span for span in found}.values()]
    return section(
        "Phases and times",
        card(timeline(found)),
        card(table(("Phase", "Began", "Took"), rows)),
        folded("What the phases mean", table(("Phase", "Meaning"), meanings)),
    )


def _records(e: Evidence) -> str:
    found = e.verify
    counts = {name: found.get(name) for name in ("matching", "missing", "extra", "different")}
    slices = [
        Slice(label, float(counts[name] or 0), colour)
        for name, label, colour in (
            ("matching", "equal on both sides", "--good"),
            ("missing", "missing at the other side", "--bad"),
            ("extra", "only at the other side", "--open"),
            ("different", "different", "--source"),
        )
        if isinstance(counts[name], int)
    ]
    compared = legend([(each.colour, each.label, f"{each.amount:,.0f}") for each in slices])
    rest = [(story.worded(name), value) for name, value in sorted(story.numbers(found).items()) if name not in counts]
    copied = [(story.worded(name), value) for name, value in sorted(story.numbers(e.state.backfill).items())]
    runs = [
        (moment(c.at_us), c.verb, c.note)
        for c in e.state.history
        if c.verb in ("verify", "backfill", "reconcile") and c.note
    ]
    return section(
        "Records",
        text(story.records(e)),
        card(stacked(slices), compared),
        folded("All numbers of the last comparison", table(("What", "Number"), rest)),
        folded("All numbers of the copy", table(("What", "Number"), copied)),
        folded("Differences found and repaired, run by run", table(("When", "What", "Result"), runs)),
    )


def _shadow(e: Evidence) -> str:
    total = e.shadow.total
    if not total.judged:
        return section(
            "Answers and speed compared", text("No reads of the application were repeated on the other side.")
        )
    parts = [
        Slice("same answer", total.matches, "--good"),
        Slice("same a second later", total.lag, "--target"),
        Slice("different answer", total.mismatches, "--bad"),
        Slice("different, not asked again", total.unchecked, "--source"),
        Slice("the other side failed", total.errors, "--open"),
        Slice("the other side was too slow", total.timeouts, "--soft"),
    ]
    rows: list[tuple[str | int, ...]] = []
    for role in Role:
        timed = e.shadow.latency(role)
        values = [timed.percentile_s(percent) for percent in (50, 90, 95, 99)]
        rows.append((str(role), timed.total, *("–" if value is None else latency(value) for value in values)))
    by_name = [
        (
            verb,
            collection,
            each.judged,
            each.disagreed,
            "–" if each.agreement is None else f"{100 * each.agreement:.2f} %",
        )
        for (verb, collection), each in sorted(e.shadow.counts.items())
    ]
    return section(
        "Answers and speed compared",
        text(story.shadow(e)),
        card(
            stacked(parts), legend([(each.colour, each.label, f"{each.amount:,.0f}") for each in parts if each.amount])
        ),
        card(latencies(e.shadow.latency(Role.SOURCE), e.shadow.latency(Role.TARGET))),
        card(table(("Side", "Timed reads", "p50", "p90", "p95", "p99"), rows)),
        folded(
            "By kind of read and collection",
            table(("Read", "Collection", "Compared", "Disagreed", "Agreement"), by_name),
        ),
    )


def _traffic(e: Evidence) -> str:
    shown = sorted(e.producers, key=lambda each: -each.seen_us)[:CLIENTS_SHOWN]
    rows = [
        (
            each.app or each.id,
            each.host,
            moment(each.seen_us),
            int(each.writes.get("source", 0)),
            int(each.writes.get("target", 0)),
            int(each.reads.get("source", 0)),
            int(each.reads.get("target", 0)),
            each.second_failures,
        )
        for each in shown
    ]
    columns = (
        "Application",
        "Machine",
        "Last seen",
        "Writes: source",
        "Writes: target",
        "Reads: source",
        "Reads: target",
        "To repair",
    )
    return section("Who wrote and read", text(story.traffic(e)), card(table(columns, rows)))


def _cost(e: Evidence) -> str:
    if e.cost is None:
        return section("Cost", text(f"Not known: {e.cost_missing or 'nobody gave a load'}."))
    found = e.cost
    rows = [
        ("before", found.before, f"{found.before:,.2f} {found.currency}", "--source"),
        ("after", found.after.total, f"{found.after.total:,.2f} {found.currency}", "--target"),
    ]
    groups = [(name, f"{cost:,.2f} {found.currency}") for name, cost in found.after.by_group().items()]
    return section(
        "Cost, a month",
        text(story.cost(found)),
        card(bars(rows)),
        folded("What it consists of, after", table(("What", "A month"), groups)),
        text(f"The load: {found.load}. Prices of {found.after.prices.as_of}, {found.after.prices.region}.", "muted"),
    )


def _checks(items: Sequence[Item]) -> str:
    parts = []
    for phase, name in enumerate(_PHASES):
        chosen = [item for item in items if item.phase == phase]
        if chosen:
            title = f"Phase {phase}: {name}" if phase else name
            rows = "".join(_check(item) for item in chosen)
            parts.append(f'<h3>{escape(title)}</h3><div class="card"><ul class="checks">{rows}</ul></div>')
    return section(
        "Checklist",
        text("Each answer is computed from what the store and the clients recorded; nobody ticks anything."),
        *parts,
    )


def _check(item: Item) -> str:
    kind, sign = _SIGNS[item.outcome]
    said = [*item.evidence, *([f"→ {item.todo}"] if item.todo else [])]
    inside = "".join(f"<li>{page.inline(each)}</li>" for each in said)
    return f'<li><span class="sign {kind}">{escape(sign)}</span>{escape(item.title)}<ul>{inside}</ul></li>'


def _history(e: Evidence) -> str:
    rows = [
        (moment(c.at_us), c.who, c.verb, f"{c.before} → {c.after}" if c.before != c.after else c.after, c.note)
        for c in e.state.history
    ]
    dropped = f"{e.state.history_dropped:,} older lines are not kept." if e.state.history_dropped else ""
    forced = [c for c in e.state.history if "force" in c.note.lower()]
    said = f"{len(forced)} changes overruled a gate." if forced else ""
    shown = rows[-HISTORY_SHOWN:]
    return section(
        "Who changed what",
        text(" ".join(filter(None, [said, dropped]))),
        folded(f"{len(shown)} changes", table(("When", "Who", "Verb", "What", "Note"), shown)),
    )
