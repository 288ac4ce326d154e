"""RUNBOOK.md and TROUBLESHOOTING.md have an entry for everything that can call a person, and none for what does not exist."""

from __future__ import annotations

import re

from tests.docs.blocks import AWS_TEST, ROOT, blocks

from chromalith import errors
from chromalith.doctor.codes import CODES
from chromalith.errors import Kind

DOCS = ROOT / "docs"
TROUBLESHOOTING, RUNBOOK, DESIGN = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("TROUBLESHOOTING", "RUNBOOK", "TECHNICAL_DESIGN")
)
PIPELINE = ROOT / "infra" / "chromadb_compaction" / "pipeline"
FIRST_CELL = re.compile(r"^\| `([a-z_0-9]+)` \|", re.MULTILINE)


def part(text: str, title: str) -> str:
    """A section of the second level."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_kind_of_error_has_its_entry() -> None:
    """Each kind once, in the order of the code, with its class; and none besides."""
    table = part(TROUBLESHOOTING, "Kinds")
    assert FIRST_CELL.findall(table) == [str(kind) for kind in Kind]
    for name, kind in re.findall(r"\| `([a-z_]+)` \| `(\w+)` \|", table):
        assert getattr(errors, kind).kind == name


def test_every_code_of_the_doctor_has_its_entry() -> None:
    """Each code once, in the order of the registry; and none besides."""
    assert FIRST_CELL.findall(part(TROUBLESHOOTING, "Codes of the doctor")) == list(CODES)


def test_every_alarm_has_its_section() -> None:
    """The runbook has a section for each alarm that the infrastructure declares, under its name; and none besides."""
    declared = re.findall(r'^        Alarm\(\s*"(\w+)"', (PIPELINE / "alarms.py").read_text(encoding="utf-8"), re.MULTILINE)
    prefix = re.search(r'alarm_prefix: str = _setting\(\s*"([\w-]+)"', (PIPELINE / "config.py").read_text(encoding="utf-8"))
    assert declared
    assert prefix is not None
    sections = re.findall(r"^### ([\w-]+)$", part(RUNBOOK, "Alarms"), re.MULTILINE)
    assert sorted(sections) == sorted(f"{prefix[1]}-{name}" for name in declared)


def test_what_one_document_sends_to_another_is_there() -> None:
    """A section that is named as "RUNBOOK, *Title*", or as "*Title*, below", exists."""
    titles = {title.removeprefix("ChromaDB-Migration-") for title in re.findall(r"^#{2,3} (.+)$", RUNBOOK, re.MULTILINE)}
    own = set(re.findall(r"^#{2,3} (.+)$", TROUBLESHOOTING, re.MULTILINE))
    for text in (TROUBLESHOOTING, DESIGN):
        for names in re.findall(r"RUNBOOK, ((?:\*[^*]+\*(?:, )?)+)", text):
            assert set(re.findall(r"\*([^*]+)\*", names)) <= titles, names
    for names in re.findall(r"TROUBLESHOOTING, ((?:\*[^*]+\*(?: and )?)+)", RUNBOOK):
        assert set(re.findall(r"\*([^*]+)\*", names)) <= own, names
    for name in re.findall(r"\*([A-Z][^*]+)\*(?:, below|: \*)", RUNBOOK):
        assert name in titles


def test_messages_that_are_quoted_are_in_the_code() -> None:
    """Each message of TROUBLESHOOTING.md that is quoted from us stands in our source, so that a search from a log ends here."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    said = re.findall(r"^> (.+)$", TROUBLESHOOTING, re.MULTILINE)
    ours = [re.split(r"AWS: |CloudWatch: |`doctor`: ", line)[0] for line in said]
    quoted = [text for line in ours for text in re.findall(r"`([^`]+)`", line)]
    assert len(quoted) >= 20
    assert not [text for text in quoted if text not in joined]


def test_what_damages_is_told_from_what_repairs() -> None:
    """A block of the runbook that loses or alters records says so in its first line, and is apart from the repair; there are some."""
    damage = re.compile(r"s3api delete-object (?!.*--version-id)|chromalith import|delta replay .*--all")
    drills = [block for block in blocks(DOCS / "RUNBOOK.md") if block.marker == AWS_TEST and block.text.startswith("# drill\n")]
    found = [block for block in blocks(DOCS / "RUNBOOK.md") if block.marker == AWS_TEST and damage.search(block.text)]
    assert drills
    assert [str(block) for block in found] == [str(block) for block in drills]


def test_a_log_is_read_from_its_end_and_an_invocation_waited_for() -> None:
    """CloudWatch lists the oldest lines first, unless a start is given; the CLI waits a minute, and repeats, unless told otherwise."""
    for block in blocks(DOCS / "RUNBOOK.md"):
        if block.marker == AWS_TEST:
            assert block.text.count("filter-log-events") == block.text.count("--start-time"), str(block)
            assert block.text.count("lambda invoke") == block.text.count("--cli-read-timeout"), str(block)
