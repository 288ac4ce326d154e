"""What each command does, as a person and as a script sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.unit.cli.commands import EMBEDDINGS, Shell

from chromalith import Reader, Writer
from chromalith.cli import compaction
from chromalith.cli.app import run
from chromalith.cli.output import duration, shown, size
from chromalith.compaction.outcome import Outcome, as_json
from chromalith.model.ids import CollectionId


def test_collections(shell: Shell) -> None:
    """Creating and deleting say what they did, and are no errors when it was done already."""
    assert shell("collections", "create", "x", "--space", "cosine").out.startswith("created x id=")
    again = shell("collections", "create", "x", "--space", "cosine", "--json").json
    assert again["result"] == "already_exists"
    assert again["collection"]["space"] == "cosine"
    assert [each["name"] for each in shell("collections", "list", "--json").json["collections"]] == ["x"]
    assert "x" in shell("collections", "list").out
    assert shell("collections", "show", "x", "--json").json["id"] == again["collection"]["id"]
    assert shell("collections", "delete", "x", "--yes", "--json").json["result"] == "deleted"
    absent = shell("collections", "delete", "x", "--yes")
    assert (absent.code, absent.out) == (0, "already_absent x\n")


def test_no_collections(shell: Shell) -> None:
    """An empty store is told on stderr; its data is an empty list."""
    assert shell("collections", "list").out == ""
    assert shell("collections", "list", "--json").json == {"collections": []}
    assert shell("status", "--json").json["collections"] == []
    assert shell("compact", "--json").json == {"outcomes": []}


def test_shared_options_anywhere(shell: Shell, words: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared options stand before the command, within its group or after it; the nearer one wins."""
    monkeypatch.delenv("CHROMALITH_STORE")
    expected = shell("--store", store, "collections", "list", "--json").json
    assert shell("--json", "collections", "--store", store, "list").json == expected
    assert shell("--store", "memory://other", "collections", "list", "--store", store, "--json").json == expected
    assert expected["collections"]


def test_tenant_and_database(shell: Shell, words: str) -> None:
    """A collection is looked for in the database that was named."""
    assert shell("collections", "list", "--database", "default_database", "--json").json["collections"]
    assert shell("collections", "list", "--tenant", "another", "--json").json == {"collections": []}


def test_count(shell: Shell, words: str) -> None:
    """The count includes what is not folded yet."""
    assert shell("count", words).out == "3\n"
    assert shell("count", words, "--json").json == {"collection": words, "count": 3}


def test_get(shell: Shell, words: str) -> None:
    """Records are chosen by id and filters, cut by limit and offset, and show what was included."""
    assert [r["id"] for r in shell("get", words, "--json").json["records"]] == ["a", "b", "c"]
    assert [r["id"] for r in shell("get", words, "--limit", 1, "--offset", 1, "--json").json["records"]] == ["b"]
    assert [r["id"] for r in shell("get", words, "--id", "c", "--id", "a", "--json").json["records"]] == ["a", "c"]
    assert [r["id"] for r in shell("get", words, "--where", '{"year": 1990}', "--json").json["records"]] == ["b"]
    found = shell(
        "get", words, "--where-document", '{"$contains": "adi"}', "--include", "embeddings,metadatas", "--json"
    ).json
    assert found["records"] == [{"id": "c", "embedding": [0.0, 0.0, 1.0], "metadata": {"year": 2024}}]
    assert "apple" in shell("get", words).out
    assert shell("get", words, "--id", "absent").out == ""


def test_query(shell: Shell, words: str, tmp_path: Path) -> None:
    """The nearest come first, whether the vector comes as JSON, in a file, or from a function."""
    said = shell("query", words, "--embedding", "[0.9, 0.1, 0]", "--n", 2, "--json").json
    (answer,) = said["queries"]
    assert [hit["id"] for hit in answer["hits"]] == ["a", "b"]
    assert answer["hits"][0]["distance"] < answer["hits"][1]["distance"]
    assert answer["hits"][0]["document"] == "apple"
    Path("v.json").write_text("[[0.9, 0.1, 0], [0, 0, 1]]")
    both = shell("query", words, "--file", "v.json", "--n", 1, "--json").json["queries"]
    assert [each["hits"][0]["id"] for each in both] == ["a", "c"]
    np.save("v.npy", np.array([0.0, 1.0, 0.0], np.float32))
    assert shell("query", words, "--file", "v.npy", "--n", 1, "--json").json["queries"][0]["hits"][0]["id"] == "b"
    filtered = shell("query", words, "--embedding", "[0.9, 0.1, 0]", "--where", '{"year": 1990}', "--json").json
    assert [hit["id"] for hit in filtered["queries"][0]["hits"]] == ["b"]
    assert "bread" in shell("query", words, "--embedding", "[0, 1, 0]", "--n", 1).out


def test_query_by_text(shell: Shell, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--embed names a function of a module in the current folder."""
    Path("models_of_a_test.py").write_text("def embed(texts):\n    return [[0, len(t), 0] for t in texts]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = shell(
        "query", words, "--text", "xyz", "--text", "y", "--embed", "models_of_a_test:embed", "--n", 1, "--json"
    )
    assert [each["hits"][0]["id"] for each in said.json["queries"]] == ["b", "b"]


def test_compact_and_status(shell: Shell, words: str) -> None:
    """Status shows what waits; compact folds it, and says so when there is nothing to do."""
    (before,) = shell("status", "--json").json["collections"]
    assert (before["version"], before["records"], before["deltas_waiting"]) == (0, 0, 1)
    assert before["oldest_waiting_s"] >= 0
    assert before["deltas_waiting_bytes"] > 0
    (outcome,) = shell("compact", "--json").json["outcomes"]
    assert (outcome["result"], outcome["collection"], outcome["deltas_folded"], outcome["operations"]) == (
        "compacted",
        words,
        1,
        3,
    )
    (after,) = shell("status", words, "--json").json["collections"]
    assert (after["version"], after["records"], after["segments"], after["deltas_waiting"]) == (1, 3, 1, 0)
    assert after["oldest_waiting_s"] is None
    assert shell("compact", words).out == f"already_compacted {words} version 1\n"
    assert "words" in shell("status").out


def test_compact_watches(shell: Shell, words: str, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    """--watch folds round after round, prints the rounds that did something, and ends when it is interrupted."""
    rounds = 0

    class Waiting:
        def sleep(self, seconds: float) -> None:
            nonlocal rounds
            rounds += 1
            assert seconds == 7
            if rounds == 2:
                with Writer(store) as writer:
                    writer.delete(words, ids=["a"])
            if rounds == 4:
                raise KeyboardInterrupt

    monkeypatch.setattr(compaction, "SYSTEM_CLOCK", Waiting())
    said = shell("compact", "--watch", "--every", 7, "--json")
    assert said.code == 130
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["outcomes"][0]["operations"] for line in lines] == [3, 1]


def test_snapshots(shell: Shell, words: str) -> None:
    """The versions are listed newest first, and each can be shown."""
    shell("compact")
    listed = shell("snapshot", "list", words, "--json").json
    assert [(v["version"], v["kind"], v["records"]) for v in listed["versions"]] == [(1, "fold", 3), (0, "create", 0)]
    assert [v["version"] for v in shell("snapshot", "list", words, "--limit", 1, "--json").json["versions"]] == [1]
    current = shell("snapshot", "show", words, "--json").json
    assert (current["version"], current["segment_list"][0]["records"]) == (1, 3)
    assert shell("snapshot", "show", words, 0, "--json").json["segment_list"] == []
    assert "fold" in shell("snapshot", "list", words).out
    assert current["segment_list"][0]["id"] in shell("snapshot", "show", words).out


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "chroma-directory"])
def test_export_and_import(shell: Shell, words: str, store: str, name: str) -> None:
    """What is exported and imported again has the same records, and says how many there were."""
    shell("compact")
    exported = shell("export", words, "--to", name, "--json").json
    assert (exported["records"], exported["version"], exported["result"]) == (3, 1, "exported")
    (imported,) = shell("import", name, "--as", "again", "--space", "cosine", "--json").json["imports"]
    assert (imported["records"], imported["collection"]) == (3, "again")
    assert (
        shell("get", "again", "--include", "documents,metadatas,embeddings", "--json").json["records"]
        == (shell("get", words, "--include", "documents,metadatas,embeddings", "--json").json["records"])
    )
    assert shell("export", words, "--to", name).code == 2  # it exists


def test_export_of_an_older_version(shell: Shell, words: str, store: str) -> None:
    """--version exports the records as they were."""
    shell("compact")
    with Writer(store) as writer:
        writer.delete(words, ids=["a"])
    assert shell("export", words, "--to", "new.jsonl", "--json").json["records"] == 2
    assert shell("export", words, "--to", "old.jsonl", "--version", 1, "--json").json["records"] == 3


def test_import_of_foreign_columns(shell: Shell, store: str) -> None:
    """--column says where a Parquet file has what."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"key": ["a", "b", "c"], "vec": EMBEDDINGS}), "foreign.parquet")
    said = shell("import", "foreign.parquet", "here", "--column", "id=key", "--column", "embedding=vec")
    assert said.code == 0, said.err
    with Reader(store) as reader:
        assert reader.get("here").ids == ["a", "b", "c"]


def test_config(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is shown with its value and where that comes from."""
    found = {each["name"]: each for each in shell("config", "--json").json["settings"]}
    assert found["store"]["origin"] == "environment"
    assert found["index_threshold"] == {
        **found["index_threshold"],
        "origin": "default",
        "variable": "CHROMALITH_INDEX_THRESHOLD",
    }
    assert all(each["description"] for each in found.values())
    given = {each["name"]: each for each in shell("config", "--store", "memory://x", "--json").json["settings"]}
    assert (given["store"]["value"], given["store"]["origin"]) == ("memory://x", "command line")
    assert "CHROMALITH_INDEX_THRESHOLD" in shell("config").out


def test_help_and_version(shell: Shell) -> None:
    """--version prints one line; no command prints the help, and is wrong usage."""
    assert shell("--version").out.startswith("chromalith 0.")
    assert "Usage: chromalith" in shell("--help").out
    assert shell().code == 2
    bare = shell("snapshot")
    assert bare.code == 2
    assert "list" in bare.out + bare.err
    assert "Example:" in (example := shell("compact", "--help").out)
    assert "\\b" not in example


def test_the_output_cannot_be_steered(shell: Shell, store: str) -> None:
    """Control characters in stored text never reach the terminal."""
    with Writer(store) as writer:
        writer.create("x")
        writer.upsert("x", ids=["a\x1b[2Jb"], embeddings=[[1.0]], documents=["red \x1b[31m [bold]text[/bold]"])
    said = shell("get", "x")
    assert "\x1b" not in said.out
    assert "[bold]text[/bold]" in said.out


def test_interrupted() -> None:
    """An interrupted command ends with the shell's own code for it."""

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chromalith.cli.app.app", stop)
        assert run(["config"]) == 130


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_300_000, "2.3 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_texts_for_a_person() -> None:
    """Text is one line, cut where it is too long; lengths of time have the unit that a person would choose."""
    assert shown("a\n  b") == "a b"
    assert shown("abcdef", 4) == "abc…"
    assert shown(None) == "–"
    assert (duration(3), duration(600), duration(90_000), duration(10**6)) == ("3 s", "10 min", "25 h", "12 d")


def test_what_must_settle_first_is_said_to_wait() -> None:
    """On S3 a delta is folded only when its timestamp is two seconds old: until then "already_compacted" would be untrue."""
    cid = CollectionId("00000000-0000-4000-8000-000000000001")
    assert as_json(Outcome(cid, waiting=2), "words")["result"] == "waiting"
    assert as_json(Outcome(cid), "words")["result"] == "already_compacted"
    assert as_json(Outcome(cid, published=[3], waiting=2), "words")["result"] == "compacted"
