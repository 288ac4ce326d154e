"""The runbook's way out of a lost region: a copy of the store that lacks some of the newest objects, and no delete of a delta."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.commands import Shell


@pytest.mark.parametrize("lost", ["segment", "manifest"])
def test_a_copy_that_is_behind_comes_back_with_every_delta_that_arrived(shell: Shell, store: str, lost: str) -> None:
    """What a later version had folded is applied again from its delta, by the commands that `doctor` and `verify` lead to."""
    for name in ("a", "b", "c"):
        Path(f"{name}.jsonl").write_text(json.dumps({"id": name, "embedding": [1, 0], "document": name}) + "\n")
        assert shell("import", f"{name}.jsonl", "--as", "words").code == 0
        assert shell("compact").code == 0
    cid = shell("collections", "show", "words", "--json").json["id"]
    versions = shell("snapshot", "list", "words", "--json").json["versions"]
    assert [each["version"] for each in versions] == [3, 2, 1, 0]
    newest = shell("snapshot", "show", "words", "--json").json
    if lost == "segment":
        new = next(each["id"] for each in newest["segment_list"] if each["id"].startswith("0000000000000002-"))
        for path in (Path(store) / "segment" / cid / new).iterdir():
            path.unlink()
        told = shell("verify", "words", "--json")
        assert told.code == 5
        whole = told.json["collections"][0]["newest_whole_version"]
        assert whole == 2
        assert shell("snapshot", "rollback", "words", whole, "--replay", "--yes").code == 0
    else:
        (Path(store) / newest["manifest"]).unlink()
        found = shell("doctor", "words", "--read-only", "--json").json["findings"]
        assert "manifest_missing" in {each["code"] for each in found}
        pointed = f"{versions[1]['manifest']}\n{versions[1]['manifest'].rpartition('-')[2].removesuffix('.json')}\n"
        (Path(store) / "snapshot" / cid / "latest" / "pointer.txt").write_text(pointed)
    assert shell("compact").code == 0
    assert shell("count", "words", "--json").json["count"] == 3
    left = shell("verify", "words", "--json").json["collections"][0]["findings"]
    assert {version for each in left for version in each["versions"]} <= {3}, "only the damaged version itself, until it is swept"
    assert shell("doctor", "words", "--read-only").code == 0
