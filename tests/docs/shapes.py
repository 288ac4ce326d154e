"""docs/cli.md by its sections, and the shapes of the JSON in it."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.docs.blocks import ROOT

DOCUMENT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = {
    match[1]: match[2]
    for match in re.finditer(r"^## `chromalith ([a-z ]+)`\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
}
FREE = {
    "metadata",
    "configuration",
    "checks",
    "timings_s",
    "where",
    "workload",
    "deployment",
    "saw",
    "backfill",
    "verify",
}
"""Fields whose keys are the user's, or are tested elsewhere."""


def shape(value: Any) -> Any:
    """The keys and types of a JSON value; of a list, its first element's."""
    if isinstance(value, dict):
        return {key: "free" if key in FREE else shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def same(a: Any, b: Any) -> bool:
    """Whether two shapes agree; ``None`` and an empty list agree with anything of their place."""
    if a is None or b is None or "free" in (a, b) or [] in (a, b):
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return same(a[0], b[0])
    return bool(a == b)


def documented(name: str) -> Any:
    match = re.search(r"```json\n(.*?)```", SECTIONS[name], re.DOTALL)
    assert match is not None, f"no example of the JSON of {name}"
    return shape(json.loads(match[1]))
