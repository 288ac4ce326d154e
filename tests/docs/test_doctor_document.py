"""docs/doctor.md has every code of the registry, with its severity and meaning, and no other."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT

from chromalith.doctor.codes import CODES

ROW = re.compile(r"^\| `([a-z_0-9]+)` \| (info|warning|error) \| (.+) \|$", re.MULTILINE)


def test_the_table_is_the_registry() -> None:
    """Row for row, in the same order."""
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert ROW.findall(text) == [(name, code.severity, code.meaning) for name, code in CODES.items()]
