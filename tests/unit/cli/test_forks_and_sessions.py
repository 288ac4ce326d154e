"""``collections fork``, and reads that wait for a session token, as a person and as a script sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.docs.shapes import documented, same, shape
from tests.unit.cli.commands import EMBEDDINGS, Shell

from chromalith import Writer


def test_fork(shell: Shell, words: str) -> None:
    """It holds what ``get`` shows, folded or not; and says what it took over, in the documented shape."""
    shell("compact")
    with Writer() as writer:
        writer.delete(words, ids=["b"])
    said = shell("collections", "fork", words, "copy", "--json")
    assert said.code == 0, said.err
    assert same(shape(said.json), documented("collections fork"))
    told = said.json
    assert (told["result"], told["from"], told["collection"], told["version"]) == ("forked", words, "copy", 1)
    assert (told["deltas"], told["operations"], told["quarantined"]) == (1, 1, 0)
    assert told["objects"] >= 2
    assert shell("get", "copy", "--json").json["records"] == shell("get", words, "--json").json["records"]
    assert shell("collections", "show", "copy", "--json").json["id"] == told["id"]
    assert "forked words version 1 to again: " in shell("collections", "fork", words, "again").out


def test_a_dry_run_writes_nothing(shell: Shell, words: str, store: str) -> None:
    """It tells the same numbers, as far as they can be known without reading the records."""
    shell("compact")
    before = sorted(Path(store).rglob("*"))
    said = shell("collections", "fork", words, "copy", "--dry-run", "--json").json
    assert (said["result"], said["id"], said["operations"]) == ("would_fork", None, None)
    assert sorted(Path(store).rglob("*")) == before
    made = shell("collections", "fork", words, "copy", "--json").json
    assert {key: said[key] for key in ("objects", "bytes", "deltas", "version")} == {
        key: made[key] for key in ("objects", "bytes", "deltas", "version")
    }


def test_fork_an_older_version(shell: Shell, words: str) -> None:
    """What was written since, folded or not, is not in it."""
    shell("compact")
    with Writer() as writer:
        writer.upsert(words, ids=["d"], embeddings=EMBEDDINGS[:1])
    shell("compact")
    assert shell("collections", "fork", words, "old", "--at", "1", "--json").json["version"] == 1
    assert (shell("count", "old").out, shell("count", words).out) == ("3\n", "4\n")
    assert shell("collections", "fork", words, "x-1", "--at", "99").code == 1
    assert shell("collections", "fork", words, "x-2", "--at", "no-such-tag").code == 1


def test_forks_that_are_refused(shell: Shell, words: str) -> None:
    """A taken name says try again under another; a source that is not there says what was probably meant."""
    taken = shell("collections", "fork", words, words, "--json")
    assert (taken.code, taken.error["kind"]) == (3, "conflict")
    assert taken.error["hint"]
    missing = shell("collections", "fork", "word", "copy", "--json")
    assert (missing.code, missing.error["kind"], missing.error["hint"]) == (1, "not_found", "did you mean 'words'")


@pytest.mark.parametrize("command", [("count",), ("get",), ("query", "--embedding", "[1, 0, 0]")])
def test_reads_wait_for_a_token(shell: Shell, words: str, command: tuple[str, ...]) -> None:
    """One that is there answers; one that never comes ends with exit code 3 after the timeout, and says what to do."""
    with Writer() as writer:
        token = writer.upsert(words, ids=["d"], embeddings=EMBEDDINGS[:1]).token
    name, *options = command
    assert "d" in shell(name, words, *options, "--after", token, "--json").out or name == "count"
    assert shell("count", words, "--after", token, "--timeout", "0").out == "4\n"
    other = f"{token[:-25]}{'7' * 8}{token[-17:]}"
    late = shell(name, words, *options, "--after", other, "--timeout", "0.1", "--json")
    assert (late.code, late.error["kind"]) == (3, "unavailable")
    assert late.error["hint"]
    wrong = shell(name, words, *options, "--after", "x", "--json")
    assert (wrong.code, wrong.error["kind"]) == (2, "invalid")


def test_import_prints_a_token(shell: Shell, tmp_path: Path) -> None:
    """The token of an import's last delta: who waits for it sees all of it."""
    source = tmp_path / "more.jsonl"
    source.write_text("".join(json.dumps({"id": f"{n}", "embedding": [n, 1.0]}) + "\n" for n in range(5)))
    said = shell("import", source, "--as", "more", "--batch", "2", "--json")
    (told,) = said.json["imports"]
    assert told["deltas"] == 3
    assert shell("count", "more", "--after", told["token"], "--timeout", "0").out == "5\n"
    assert "--after" in shell("import", source, "--as", "more").err
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert shell("import", empty, "--as", "empty", "--json").json["imports"][0]["token"] is None
