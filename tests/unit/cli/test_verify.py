"""``chromalith verify`` as a person and as a script sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.commands import Shell

from chromalith import Writer


@pytest.fixture
def folded(shell: Shell, words: str) -> str:
    assert shell("compact", words).code == 0
    return words


def stored(tmp: str, pattern: str) -> Path:
    (found,) = Path(tmp.removeprefix("file://")).rglob(pattern)
    return found


def damage(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[:-20] + bytes([body[-20] ^ 1]) + body[-19:])


def test_what_is_whole(shell: Shell, folded: str) -> None:
    """Exit code 0, with what was looked at; without a collection, all are."""
    said = shell("verify", folded)
    assert said.code == 0
    assert said.out.startswith("whole words version 1: 3 records, 2 versions, ")
    each = shell("verify", folded, "--deep", "--json").json["collections"][0]
    assert (each["result"], each["findings"], each["deep"], each["newest_whole_version"]) == ("whole", [], True, 1)
    assert [each["collection"] for each in shell("verify", "--json").json["collections"]] == ["words"]
    assert shell("verify", folded, "--deep", "--version", 0, "--json").json["collections"][0]["version"] == 0


def test_damage_ends_with_5_and_says_what_to_do(shell: Shell, folded: str, store: str) -> None:
    """Each finding with its invariant, and the commands that help."""
    with Writer(store) as writer:
        writer.upsert("words", ids=["new"], embeddings=[[1.0, 1.0, 0.0]])
    shell("compact", folded)
    newest = max(Path(store).glob("segment/*/*"), key=lambda path: path.name)
    damage(newest / "records.parquet")
    assert shell("verify", folded).code == 0  # the size is right
    said = shell("verify", folded, "--deep")
    assert said.code == 5
    assert said.out.startswith("damaged words version 2")
    assert "I5: a stored object is not what its manifest says" in said.out
    assert "[version 2]" in said.out
    assert "`chromalith snapshot rollback words 1`" in said.err
    (finding,) = shell("verify", folded, "--deep", "--json").json["collections"][0]["findings"]
    assert (finding["invariant"], finding["versions"], finding["repairable"]) == ("I5", [2], False)
    left = shell("verify", folded, "--repair")
    assert left.code == 5
    assert shell("get", folded).code == 5
    (newest / "records.parquet").unlink()
    assert shell("verify", folded).code == 5


def test_repair(shell: Shell, folded: str, store: str) -> None:
    """What is derived is written again, and the command says in which version."""
    damage(stored(store, "ids.parquet"))
    said = shell("verify", folded, "--deep")
    assert (said.code, "(repairable)" in said.out) == (5, True)
    assert "`chromalith verify words --repair`" in said.err
    each = shell("verify", folded, "--repair", "--json").json["collections"][0]
    assert (each["result"], each["repaired_in_versions"], each["version"]) == ("repaired", [2], 2)
    assert [finding["versions"] for finding in each["findings"]] == [[1]]
    assert shell("count", folded).out == "3\n"


def test_wrong_calls(shell: Shell, folded: str) -> None:
    """What makes no sense together is refused with a hint."""
    for arguments in (["--repair"], ["--version", "1"], [folded, "--repair", "--version", "1"]):
        said = shell("verify", *arguments, "--json")
        assert (said.code, said.error["kind"]) == (2, "invalid")
    assert shell("verify", "wrods").code == 1
    assert shell("verify", folded, "--deep", "--version", 99, "--json").error["kind"] == "not_found"
