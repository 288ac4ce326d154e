"""``chromalith doctor`` as a person and a script meet it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from chromalith import Writer
from chromalith.cli.app import app, run
from chromalith.model import layout
from chromalith.store.url import open_store

ROOT = Path(__file__).parents[3]
SAID = re.compile(r"\bchromalith ([a-z]+(?: [a-z]+)?)(?: (?:\{[^}]*\}|[A-Z]+|'\{[^}]*\}'))*(?: --[a-z-]+)*")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    with Writer() as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])


def test_the_exit_code_says_how_bad_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """0, then 4 for a warning, then 5 for an error; the last line is the verdict; a remedy stands by each finding."""
    store = open_store("./store")
    assert run(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("healthy: nothing to report")
    store.put("delta/stray.txt", b"x")
    assert run(["doctor", "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], [each["code"] for each in told["findings"]]) == ("needs_attention", ["foreign_objects"])
    store.put(layout.store_key(), b"?")
    assert run(["doctor"]) == 5
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith("not well: 1 error, 1 warning")
    assert "→ restore store.json" in shown


def test_read_only_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "words", "--read-only", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["probed"], told["clock_skew_s"]) == (False, None)
    assert [each["code"] for each in told["findings"]] == ["not_checked"]


def test_a_hostile_name_does_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in what a store says are not printed."""
    with Writer() as writer:
        writer.create("evil\x1b[2J\nname")
    cid = next(entry.key for page in open_store("./store").list("collection/") for entry in page)
    open_store("./store").put(cid, b"{}")
    assert run(["doctor"]) == 5
    assert "\x1b" not in capsys.readouterr().out


def test_the_commands_in_remedies_exist() -> None:
    """Whatever a remedy tells a person to type is a command, and its options are that command's."""
    commands = dict(_commands(typer.main.get_command(app)))
    text = "".join(path.read_text() for path in (ROOT / "src" / "chromalith" / "doctor").glob("*.py"))
    said = [match for match in SAID.finditer(text) if match[1].split()[0] not in ("on", "in", "where")]  # prose
    assert len(said) > 15
    for match in said:
        words = match[1].split()
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands), None)
        assert name is not None, match[0]
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", match[0])) <= options, match[0]


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield path + name, command


def test_an_unknown_collection_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "word"]) == 1
    assert "did you mean 'words'" in capsys.readouterr().err
