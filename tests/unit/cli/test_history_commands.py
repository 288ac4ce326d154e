"""``snapshot`` and ``delta``: older versions, tags, rollbacks, and the deltas that these set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.commands import EMBEDDINGS, Shell

from chromalith import Writer


@pytest.fixture
def versions(shell: Shell, words: str, store: str) -> str:
    """Version 1 with three records; 2 in which ``a`` changed and ``b`` went, and its merge, 3; and a pending delta that inserts ``z``."""
    shell("compact")
    with Writer(store) as writer:
        writer.update("words", ids=["a"], documents=["avocado"])
        writer.delete("words", ids=["b"])
        shell("compact")
        writer.upsert("words", ids=["z"], embeddings=EMBEDDINGS[:1])
    return words


def test_tags(shell: Shell, versions: str) -> None:
    """A tag is listed, read by every command that reads, and released once."""
    assert shell("snapshot", "tag", versions, "good", 1, "--json").json["version"] == 1
    assert shell("snapshot", "tag", versions, "now", "--json").json["version"] == 3
    assert shell("snapshot", "tag", versions, "good", 1, "--json").json["result"] == "already_tagged"
    assert shell("snapshot", "tag", versions, "good", 2).code == 3
    assert shell("snapshot", "tag", versions, "12").code == 2
    listed = {each["version"]: each for each in shell("snapshot", "list", versions, "--json").json["versions"]}
    assert [listed[version]["tags"] for version in (3, 2, 1, 0)] == [["now"], [], ["good"], []]
    assert listed[1]["kept_by"] == "history"
    assert "good" in shell("snapshot", "list", versions).out
    assert shell("snapshot", "show", versions, "good", "--json").json["version"] == 1
    assert shell("snapshot", "untag", versions, "good").out == "untagged good\n"
    assert shell("snapshot", "untag", versions, "good", "--json").json["result"] == "already_absent"
    assert shell("snapshot", "show", versions, "good").code == 1


def test_reading_the_past(shell: Shell, versions: str, tmp_path: Path) -> None:
    """``--at`` takes a version, a tag or a time; of what could be a tag or a time, the tag that exists."""
    shell("snapshot", "tag", versions, "2001-01-01", 1)
    assert [shell("count", versions, "--at", at).out for at in ("0", "1", "2001-01-01")] == ["0\n", "3\n", "3\n"]
    assert shell("count", versions).out == "3\n"
    got = shell("get", versions, "--id", "a", "--at", 1, "--json").json["records"]
    assert [each["document"] for each in got] == ["apple"]
    assert shell("query", versions, "--embedding", "[1, 0, 0]", "--at", "1", "--json").json["version"] == 1
    assert shell("export", versions, "--at", "2001-01-01", "--to", "old.jsonl", "--json").json["version"] == 1
    assert shell("count", versions, "--at", "2999-01-01T00:00:00Z").out == "2\n"
    assert shell("count", versions, "--at", "2001-01-02T00:00:00Z").code == 1
    assert "time zone" in shell("count", versions, "--at", "2999-01-01").err
    assert shell("count", versions, "--at", "1", "--after", "token").code == 2
    assert shell("export", versions, "--at", "1", "--version", "1", "--to", "x.jsonl").code == 2
    assert "kept is version 0" in shell("count", versions, "--at", "9").err


def test_diff(shell: Shell, versions: str) -> None:
    """Counts and ids of what differs; the exit code tells only when it is asked to."""
    found = shell("snapshot", "diff", versions, 1, "--json")
    assert found.code == 0
    assert (found.json["from"], found.json["to"]) == (1, 3)
    assert (found.json["added_ids"], found.json["removed_ids"], found.json["changed_ids"]) == ([], ["b"], ["a"])
    assert shell("snapshot", "diff", versions, 1, 2, "--exit-code").code == 4
    assert shell("snapshot", "diff", versions, 2, 3, "--exit-code").code == 0
    assert shell("snapshot", "diff", versions, 2, 1).out == "1 added, 0 removed, 1 changed, version 2 to 1\n+ b\n~ a\n"
    cut = shell("snapshot", "diff", versions, 0, 1, "--limit", 1)
    assert cut.out.endswith("+ a\n")
    assert "2 more" in cut.err


def test_rollback(shell: Shell, versions: str) -> None:
    """It must be confirmed; a dry run changes nothing; then the old records are back, and again what was undone."""
    unasked = shell("snapshot", "rollback", versions, 1)
    assert unasked.code == 2
    assert "--yes" in unasked.err
    planned = shell("snapshot", "rollback", versions, 1, "--dry-run", "--json").json
    assert (planned["result"], planned["version"], planned["pending"], len(planned["set_aside"])) == ("would_restore", None, 1, 3)
    assert shell("count", versions).out == "3\n"
    done = shell("snapshot", "rollback", versions, 1, "--yes", "--json").json
    assert done | {"result": "would_restore", "version": None, "restore": None} == planned
    assert (done["from"], done["to"], done["version"], done["records"]) == (3, 1, 4, 3)
    assert shell("get", versions, "--id", "a", "--json").json["records"][0]["document"] == "apple"
    assert shell("snapshot", "list", versions, "--json").json["versions"][0]["restored"] == 1
    assert shell("snapshot", "rollback", versions, 4, "--yes", "--json").json["result"] == "already_restored"
    again = shell("delta", "replay", versions, "--all", "--restore", done["restore"], "--json").json
    assert (again["result"], len(again["deltas"])) == ("replayed", 3)
    assert shell("get", versions, "--id", "a", "--json").json["records"][0]["document"] == "avocado"
    assert shell("delta", "replay", versions, "--all", "--json").json["result"] == "already_replayed"


def test_rollback_with_a_replay(shell: Shell, versions: str) -> None:
    """What was excepted stays set aside; everything else is applied again."""
    bad = shell("delta", "list", versions, "--json").json["deltas"][0]["delta"]
    done = shell("snapshot", "rollback", versions, 1, "--replay", "--except", bad[:20], "--yes", "--json").json
    assert (done["replayed"], len(done["set_aside"])) == (2, 3)
    found = {each["id"]: each["document"] for each in shell("get", versions, "--json").json["records"]}
    assert found == {"a": "avocado", "c": "radio"}
    listed = shell("delta", "list", versions, "--status", "set_aside", "--json").json["deltas"]
    assert {each["delta"] for each in listed if not each["replayed"]} == {bad}
    assert shell("snapshot", "rollback", versions, 1, "--except", bad, "--yes").code == 2
    assert shell("snapshot", "rollback", versions, 77, "--yes").code == 1


def test_deltas(shell: Shell, versions: str) -> None:
    """What waits is listed, shown by the beginning of its id, and verified; folded ones only when asked for."""
    listed = shell("delta", "list", versions, "--json").json
    assert [each["status"] for each in listed["deltas"]] == ["waiting"]
    assert shell("delta", "list", versions, "--status", "folded", "--json").json["total"] == 3
    shown = shell("delta", "show", versions, listed["deltas"][0]["delta"], "--embeddings", "--json").json
    assert shown["shown"][0] | {"embedding": None} == {
        "op": "upsert", "id": "z", "document": None, "uri": None, "metadata": None, "embedding": None
    }  # fmt: skip
    assert shown["shown"][0]["embedding"] == EMBEDDINGS[0]
    assert "upsert z" in shell("delta", "show", versions, listed["deltas"][0]["delta"]).out
    assert shell("delta", "verify", versions, "--json").json["damaged"] == 0
    assert shell("delta", "show", versions, "f" * 16).code == 1
    assert "several deltas" in shell("delta", "show", versions, "6").err


def test_dropping(shell: Shell, versions: str) -> None:
    """What a restore set aside is given up only when that is confirmed."""
    restore = shell("snapshot", "rollback", versions, 1, "--yes", "--json").json["restore"]
    assert shell("delta", "drop", versions, "--restore", restore).code == 2
    assert shell("delta", "drop", versions, "--restore", restore, "--dry-run", "--json").json["result"] == "would_drop"
    assert len(shell("delta", "drop", versions, "--restore", restore[:20], "--yes", "--json").json["deltas"]) == 3
    assert shell("delta", "drop", versions, "--restore", restore, "--yes").code == 1
    assert shell("delta", "list", versions, "--json").json["deltas"] == []
    assert shell("delta", "drop", versions).code == 2
    assert shell("count", versions).out == "3\n"


def test_a_damaged_delta(shell: Shell, versions: str, store: str) -> None:
    """It is found by ``verify``, quarantined by a fold, listed with its reason, and folded once its bytes are back."""
    found = shell("delta", "list", versions, "--json").json["deltas"][0]
    file = Path(store) / found["key"]
    good = file.read_bytes()
    file.write_bytes(good[:-5])
    assert shell("delta", "verify", versions).code == 5
    shell("compact")
    listed = shell("delta", "list", versions, "--json").json["deltas"]
    assert [each["status"] for each in listed] == ["quarantined"]
    assert "digest" in listed[0]["reason"]
    assert shell("delta", "replay", versions, found["delta"]).code == 5
    file.write_bytes(good)
    assert shell("delta", "replay", versions, found["delta"], "--json").json["released"] == [found["delta"]]
    assert shell("count", versions).out == "3\n"
    shell("compact")
    assert shell("delta", "list", versions, "--json").json["deltas"] == []
    assert shell("count", versions, "--at", shell("status", "--json").json["collections"][0]["version"]).out == "3\n"
