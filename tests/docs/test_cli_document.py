"""docs/cli.md says everything about the command line that a script relies on, and nothing that is not so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.docs.shapes import DOCUMENT, SECTIONS, documented, same, shape

from chromalith import Writer
from chromalith.cli.app import app, run
from chromalith.cli.invocation import SHARED
from chromalith.errors import Kind


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups too."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands())


def test_every_command_is_documented() -> None:
    """There is one section for each command, and none for a command that does not exist."""
    assert sorted(SECTIONS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_documented(name: str) -> None:
    """Each of a command's own options stands in its section, and each option there exists."""
    shared = {option for annotation in SHARED.values() for option in annotation.__metadata__[0].param_decls or ()}
    shared |= {
        annotation.__metadata__[0].default
        for annotation in SHARED.values()
        if isinstance(annotation.__metadata__[0].default, str)
    }
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    own = options - shared - {"--help"}
    assert options - own >= {"--store", "--json", "--tenant", "--database", "--endpoint-url", "--region", "--option"}
    said = set(re.findall(r"--[a-z][a-z-]*", SECTIONS[name]))
    assert own <= said, f"not documented: {sorted(own - said)}"
    assert said <= options, f"do not exist: {sorted(said - options)}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_has_an_example(name: str) -> None:
    """The help of each command teaches by an example of that very command."""
    text = COMMANDS[name].help or ""
    assert "Example:" in text
    assert f"chromalith {name}" in text.partition("Example:")[2]


def test_every_error_kind_is_documented() -> None:
    """The table of exit codes has every kind of error."""
    for kind in Kind:
        assert f"`{kind}`" in DOCUMENT


SCENARIO = {
    "collections create": ["words", "--space", "cosine"],
    "import": ["words.jsonl", "--as", "words"],
    "collections list": [],
    "collections fork": ["words", "words-try"],
    "collections show": ["words"],
    "count": ["words"],
    "get": ["words"],
    "compact": [],
    "query": ["words", "--embedding", "[1, 0, 0]"],
    "status": [],
    "snapshot list": ["words"],
    "snapshot show": ["words"],
    "export": ["words", "--to", "words.parquet"],
    "snapshot tag": ["words", "good"],
    "snapshot diff": ["words", "0", "good"],
    "snapshot rollback": ["words", "0", "--yes"],
    "snapshot untag": ["words", "good"],
    "delta list": ["words"],
    "delta show": ["words", "6"],
    "delta verify": ["words"],
    "delta replay": ["words", "--all"],
    "delta drop": ["words", "--restore", "0", "--yes"],
    "lock status": ["words"],
    "lock break": ["words", "--expect-owner", "nobody"],
    "sweep": ["words", "--keep-versions", "1", "--keep-age", "0s"],
    "verify": ["words", "--deep"],
    "doctor": [],
    "cost": ["--measured", "--writes-per-s", "1"],
    "config": [],
    "collections delete": ["words", "--yes"],
}

ELSEWHERE = {
    "aws smoke": "aws/test_smoke.py",
    "aws status": "aws/test_smoke.py",
    "demo": "unit/cli/test_process.py",
    "migrate start": "migrate/test_workflow_cli.py",
    "migrate dual": "migrate/test_workflow_cli.py",
    "migrate ramp": "migrate/test_workflow_cli.py",
    "migrate switch": "migrate/test_workflow_cli.py",
    "migrate complete": "migrate/test_workflow_cli.py",
    "migrate rollback": "migrate/test_workflow_cli.py",
    "migrate cancel": "migrate/test_workflow_cli.py",
    "migrate pause": "migrate/test_workflow_cli.py",
    "migrate resume": "migrate/test_workflow_cli.py",
    "migrate status": "migrate/test_workflow_cli.py",
    "migrate history": "migrate/test_workflow_cli.py",
    "migrate forget": "migrate/test_workflow_cli.py",
    "migrate reconcile": "migrate/test_reconcile_command.py",
    "migrate backfill": "migrate/test_backfill_command.py",
    "migrate verify": "migrate/test_verify_command.py",
    "migrate scan": "migrate/test_scan_command.py",
    "migrate checklist": "migrate/test_checklist.py",
    "migrate shadow": "migrate/test_shadow_command.py",
    "migrate report": "migrate/test_report.py",
    "queue status": "unit/cli/test_queue.py",
    "queue purge": "unit/cli/test_queue.py",
    "queue redrive": "unit/cli/test_queue.py",
}
"""Commands that are run, and their shapes compared, by other tests."""


def test_json_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What each command prints with --json has the documented shape."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    records = [
        {"id": i, "embedding": [1, n, 0], "document": f"text {i}", "metadata": {"n": n}} for n, i in enumerate("ab")
    ]
    Path("words.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert {*SCENARIO, *ELSEWHERE} == set(COMMANDS)
    for name, arguments in SCENARIO.items():
        if name == "import":
            with Writer() as writer:
                writer.create("other")
            arguments = [*arguments, "--space", "cosine"]
        capsys.readouterr()
        assert run([*name.split(), *arguments, "--json"]) == 0, capsys.readouterr().err
        told = shape(json.loads(capsys.readouterr().out))
        assert same(told, documented(name)), f"{name}: {told} is not {documented(name)}"


def test_the_comparison_of_shapes_sees_differences() -> None:
    """A missing key, another key, and another type are differences."""
    assert same(shape({"a": 1, "b": None}), shape({"a": 2.5, "b": "x"}))
    assert not same(shape({"a": 1}), shape({"a": 1, "b": 2}))
    assert not same(shape({"a": 1}), shape({"a": "1"}))
    assert not same(shape({"a": [{"b": 1}]}), shape({"a": [{"c": 1}]}))
