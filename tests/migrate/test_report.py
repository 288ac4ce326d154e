"""The report: one file that anybody can open, says first in plain words how it stands, and obeys nothing that stands in the evidence."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.docs.shapes import documented, same, shape
from tests.migrate.evidence_samples import (
    BEGIN_US,
    HOUR_US,
    NOW_US,
    STEPS,
    latency,
    producer,
    scanned,
    shadow,
    state,
    stored,
    whole,
)
from tests.unit.cli.commands import Shell

from chromalith.migrate.evidence import plots, story
from chromalith.migrate.evidence.gather import Evidence, Part
from chromalith.migrate.evidence.report import report
from chromalith.migrate.evidence.steps import checklist
from chromalith.migrate.evidence.timeline import Span, spans
from chromalith.migrate.latencies import Histogram
from chromalith.migrate.phases import Phase
from chromalith.migrate.state import Change
from chromalith.store.url import open_store

NASTY = "<script>alert('x')</script>\"'&`</title>"
_VOID = {"meta"}


class Page(HTMLParser):
    """Reads a file, and fails on tags that do not match. Keeps headings, tags, attributes, and the text without tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def made(e: Evidence) -> Page:
    return Page(report(e, checklist(e), "1.2.3"))


def test_its_sections() -> None:
    """Plain words first, then what is open, then the evidence."""
    assert made(whole()).headings == [
        "In short",
        "Open points",
        "Phases and times",
        "Records",
        "Answers and speed compared",
        "Who wrote and read",
        "Cost, a month",
        "Checklist",
        "Who changed what",
    ]


def test_a_good_end_in_words() -> None:
    """Somebody who knows no phase learns what was moved, that all is there, how fast it is, and what it costs."""
    text = made(whole()).text
    for said in (
        "Done: all criteria of success are met",
        "the move of a Chroma server (all its collections) to Chromalith on object storage",
        "200,000 records were compared on",
        "each is the same in both systems",
        "99.96 % got the same answer",
        "it is faster",
        "A month costs about",
        "All 19 checks are met by evidence; nothing is open.",
        "34 h in all",
    ):
        assert said in text, said


def test_a_bad_end_in_words() -> None:
    """What is not met stands in the verdict, in the summary and among the open points, with what to do."""
    e = whole()
    e = replace(
        e,
        state=replace(e.state, verify={**e.state.verify, "clean": False, "different": 7}),
        shadow=shadow(latency((4, 500)), latency((40, 500)), matches=400, errors=100),
        cost=replace(e.cost, before=1.0) if e.cost else None,
        unreadable=["the journal: it is gone"],
    )
    text = made(e).text
    for said in (
        "Completed, but 4 of 6 criteria of success are not met",
        "7 different",
        "80.00 % got the same answer",
        "it is slower",
        "% more",
        "chromalith migrate verify --repair",
        "the journal: it is gone",
    ):
        assert said in text, said


def test_words_and_numbers_of_a_slow_migration_without_evidence() -> None:
    """Seconds are seconds, counts have names, and what is completed is not under way."""
    e = whole()
    e = replace(e, scans=[], shadow=shadow(latency((400, 500)), latency((1_800, 500)), matches=500), state=replace(e.state, backfill={
        "finished": True, "gone": 3}))  # fmt: skip
    text = made(e).text
    assert "e+03" not in text
    assert re.search(r"1\.\d+ s on the new system", text)
    assert "deleted by the application while the copy ran" in text
    e = replace(whole(), scans=[])
    assert "Completed: 5 of 6 criteria of success are met, and for the others there is no evidence yet" in made(e).text


@pytest.mark.parametrize("phase", [phase for phase in Phase if any(step[2].split()[0] == phase for step in STEPS)])
def test_each_phase_has_a_report(phase: Phase) -> None:
    """It can be written at any time, with all evidence or none, and says what the phase means."""
    for e in (
        replace(whole(), state=state(phase)),
        Evidence(NOW_US, "memory://x", state(phase, verify={}, backfill={})),
    ):
        assert story.MEANINGS[phase] in made(e).text
    assert set(story.MEANINGS) == set(Phase)


def test_it_needs_nothing_else() -> None:
    """No script, no picture, no font, no link: it opens without a network, and forbids itself to use one."""
    text = report(whole(), checklist(whole()), "1.2.3")
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "a", "form"} & set(page.tags)
    assert not {"src", "href", "srcset", "onload", "onclick", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"@import|url\(|//cdn|xmlns", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert page.tags.count("svg") >= 5


def test_nothing_of_the_evidence_is_obeyed() -> None:
    """Whatever a name holds stands there as text."""
    e = whole()
    change = Change(9, NOW_US, NASTY, NASTY, NASTY, NASTY, NASTY)
    nasty = replace(
        e,
        store=NASTY,
        state=replace(
            e.state, name=NASTY, history=(*e.state.history, change), source=replace(e.state.source, url=NASTY)
        ),
        producers=[producer(1, app=NASTY, host=NASTY, id=NASTY)],
        scans=[scanned(root=NASTY, errors=1, places=[NASTY])],
        shadow=replace(e.shadow, counts={(NASTY, NASTY): next(iter(e.shadow.counts.values()))}),
        cost=replace(e.cost, what=NASTY, load=NASTY) if e.cost else None,
        stack=[Part(NASTY, NASTY)],
        unreadable=[NASTY],
    )
    text = report(nasty, checklist(nasty), NASTY)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count("<script>alert('x')</script>") >= 12


def test_plots_show_what_was_counted() -> None:
    """A bar for each bucket that has reads, the median of each side; a bar for each phase, with its length."""
    svg = plots.latencies(latency((4, 10), (8, 90)), latency((2, 50)))
    assert svg.count("<title>") == 3
    assert "90 reads of" in svg
    assert svg.count("median") == 2
    found = spans(state(), NOW_US)
    assert [(str(span.phase), span.seconds / 3600) for span in found] == [
        ("direct", 1.0), ("dual", 1.0), ("backfill", 3.0), ("verify", 1.0), ("ramp", 4.0), ("cutover", 24.0), ("complete", 0.0),
    ]  # fmt: skip
    drawn = plots.timeline(found)
    assert drawn.count("<rect") == 7
    assert ">24 h<" in drawn
    assert plots.timeline([]) == plots.latencies(Histogram(), Histogram()) == plots.stacked([]) == ""


def test_a_phase_that_goes_on() -> None:
    """The last phase ends now, unless it is the end; a rollback enters a phase again."""
    e = state(Phase.RAMP)
    back = Change(6, BEGIN_US + 9 * HOUR_US, "ann", "rollback", "ramp reads=50 writes=0 shadow=10", "direct")
    now = replace(e, phase=Phase.DIRECT, history=(*e.history, back))
    found = spans(now, BEGIN_US + 12 * HOUR_US)
    assert found[-1] == Span(Phase.DIRECT, BEGIN_US + 9 * HOUR_US, BEGIN_US + 12 * HOUR_US, is_open=True)
    assert [span.phase for span in found].count(Phase.DIRECT) == 2
    assert "so far" in plots.timeline(found)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It writes the file that was named, says what the documentation says, and refuses a place that is not there."""
    shell, url, place = Shell(capsys), str(tmp_path / "state"), stored(whole())
    store = open_store(url)
    for page in place.store.list("migration/"):
        for entry in page:
            store.put(entry.key, place.store.get(entry.key).body)
    said = shell("migrate", "report", "--state", url, "--output", tmp_path / "r.html", "--json")
    assert said.code == 0
    assert same(shape(said.json), documented("migrate report"))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert said.json["bytes"] == len(text.encode())
    assert "200,000 records were compared" in Page(text).text
    assert "met," in shell("migrate", "report", "--state", url, "--output", tmp_path / "r.html").out
    assert shell("migrate", "report", "--state", url, "--output", tmp_path / "no" / "r.html").code == 2
