"""``docs/failures.md``: every failure that was met elsewhere has a test here that exists, or a reason why it cannot occur."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "failures.md").read_text()
ROW = re.compile(r"^\| ([OP]\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_every_failure_has_its_test() -> None:
    """Each row names tests that are there; one without a test says that the failure can't occur."""
    for number, _, here, tests in ROW.findall(DOCUMENT):
        names = re.findall(r"`([^`]+)`", tests)
        assert names or here.startswith("can't occur: "), number
        for name in names:
            assert exists(name), f"{number}: {name}"


def exists(name: str) -> bool:
    """Whether ``file.py::function`` is a test, or ``file.py`` has some."""
    file, _, function = name.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return (function in functions) if function else any(each.startswith("test_") for each in functions)


def test_the_claims_of_the_readme_name_their_tests() -> None:
    """Each test that README names is there, and every row of the table of claims names one."""
    readme = (TESTS.parent / "README.md").read_text()
    table = readme.split("## Why you can trust it", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 7
    for row in rows:
        names = re.findall(r"`([a-z_0-9/]+\.py::[a-z_0-9]+)`", row)
        assert names, row
        assert all(exists(name) for name in names), row


def test_the_rows_are_numbered_without_a_gap() -> None:
    """No row was lost: O1, O2, … and P1, P2, …, each once, and the table has no line that is not read."""
    numbers = [number for number, *_ in ROW.findall(DOCUMENT)]
    for kind in "OP":
        own = [int(number[1:]) for number in numbers if number[0] == kind]
        assert own == list(range(1, len(own) + 1))
    assert len(numbers) == len(re.findall(r"^\| [OP]\d", DOCUMENT, re.MULTILINE)) >= 40
