"""docs/metrics.md is generated from the table of metrics where it lists them, and names the alarms that there are."""

from __future__ import annotations

import json
import re

import pytest
from tests.docs.blocks import ROOT, blocks
from tests.unit.observe.test_emf import check

from chromalith.cost.workload import Deployment
from chromalith.observe.document import parts, regenerated
from chromalith.observe.metrics import BY_NAME, METRICS

PATH = ROOT / "docs" / "metrics.md"
DOCUMENT = PATH.read_text(encoding="utf-8")
ALARMS = ROOT / "infra" / "chromadb_compaction" / "pipeline" / "alarms.py"


def test_the_generated_parts_are_those_of_the_table() -> None:
    """If not: ``python -m chromalith.observe.document docs/metrics.md``."""
    assert regenerated(DOCUMENT) == DOCUMENT
    assert set(re.findall(r"<!-- generated: (\w+) -->", DOCUMENT)) == set(parts())


def test_another_table_would_be_noticed() -> None:
    """A row that is gone, a number that was edited: the comparison is not of the document with itself."""
    assert regenerated(DOCUMENT.replace("| `ChromaDB/Query` · `SnapshotAge` |", "| |")) == DOCUMENT
    assert regenerated(DOCUMENT.replace(f"**{len(METRICS)} metrics**", "**3 metrics**")) == DOCUMENT


def test_the_example_is_a_line_that_is_written() -> None:
    """It is JSON, and what the specification asks for."""
    (example,) = [block for block in blocks(PATH) if block.language == "json"]
    namespace, found = check(json.loads(example.text))
    assert namespace == "ChromaDB/Compaction"
    assert {name for name in BY_NAME if BY_NAME[name].namespace == namespace} == set(found)


def test_every_alarm_is_listed() -> None:
    """Those of the infrastructure, and what ours look at is in the table."""
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCUMENT.partition("## Which alarm")[2].partition("\n## ")[0], re.MULTILINE))
    source = ALARMS.read_text(encoding="utf-8")
    assert set(listed) == set(re.findall(r"\bAlarm\(\s*\"(\w+)\"", source))
    said = {name for text in listed.values() for name in re.findall(r"`(\w+)`", text)}
    used = set(re.findall(r"\bours\(\"\w+\", \"(\w+)\"\)", source))
    assert used
    assert used <= said & set(BY_NAME)


def test_the_estimate_of_costs_counts_them() -> None:
    """``chromalith cost`` takes a custom metric for each row of the table."""
    assert Deployment().metrics == len(METRICS)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_metric_is_in_the_document(name: str) -> None:
    assert f"`{name}` |" in DOCUMENT
