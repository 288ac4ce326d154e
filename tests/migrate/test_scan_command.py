"""``chromalith migrate scan``: what it prints, writes and keeps, and the exit codes that a pipeline relies on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from tests.docs.shapes import documented, same, shape
from tests.migrate.evidence_samples import state
from tests.migrate.sarif_schema import SARIF
from tests.unit.cli.commands import Shell

from chromalith.clock import ManualClock
from chromalith.migrate.evidence.commit import commit_of, tree_of
from chromalith.migrate.evidence.record import SCAN, record, records
from chromalith.migrate.places import Place
from chromalith.migrate.scan.finding import RULES
from chromalith.migrate.scan.run import scan
from chromalith.migrate.scan.sarif import sarif
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.store.url import open_store

SAMPLES = Path(__file__).parent / "scan_samples"
READS = 'import chromadb  # chromalith: allow direct-client nothing\nwords = chromadb.Client().get_collection("x")\nwords.count()\n'


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_exit_codes(shell: Shell, tmp_path: Path) -> None:
    """0: clean; 4: something found, or not looked at; with ``--level error`` reads alone do not fail; 1: no such path."""
    assert shell("migrate", "scan", SAMPLES / "clean").code == 0
    assert shell("migrate", "scan", SAMPLES / "plain").code == 4
    (tmp_path / "reads.py").write_text(READS)
    assert shell("migrate", "scan", tmp_path).code == 4
    assert shell("migrate", "scan", tmp_path, "--level", "error").code == 0
    assert shell("migrate", "scan", SAMPLES / "plain", "--level", "error").code == 4
    (tmp_path / "reads.py").write_text("print 1")
    said = shell("migrate", "scan", tmp_path, "--level", "error")
    assert said.code == 4
    assert "not looked at: reads.py" in said.out
    assert shell("migrate", "scan", tmp_path / "nowhere").code == 1


def test_json(shell: Shell, tmp_path: Path) -> None:
    """The documented shape, with all findings; those that are allowed have their reason."""
    (tmp_path / "app.py").write_text(READS + 'words.add(ids=["a"])  # chromalith: allow direct-write seeds\n')
    (tmp_path / "old.py").write_text("print 1")
    said = shell("migrate", "scan", tmp_path, "--json").json
    assert same(shape(said), documented("migrate scan"))
    assert (said["result"], said["errors"], said["warnings"], said["allowed"]) == ("found", 0, 2, 1)
    assert [each["allowed"] for each in said["findings"]] == [None, None, "seeds"]
    assert [each["line"] for each in said["unused_allowances"]] == [1]
    assert [each["file"] for each in said["unreadable"]] == ["old.py"]


def test_lines_for_people(shell: Shell, tmp_path: Path) -> None:
    """Place, rule and code of each on one line, however long, what to write instead, and a verdict in words."""
    out = shell("migrate", "scan", SAMPLES / "plain").out
    assert 'app.py:14:7: error: direct-write (certain): words.add(ids=["a"]' in out
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    (deep / "app.py").write_text(READS)
    assert f"{'a' * 60}/{'b' * 60}/app.py:3:7: warning: direct-read" in shell("migrate", "scan", tmp_path).out
    assert "direct-write: keep the call" in out
    assert "errors" in out.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()))
def test_sarif_is_valid(name: str) -> None:
    """The log keeps the schema's rules, and has each finding under its rule."""
    scanned = scan(SAMPLES / name)
    log = sarif(scanned, "1.2.3")
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == list(RULES)
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [(f.rule, str(f.severity)) for f in scanned.findings]
    assert all(rules[r["ruleIndex"]] == r["ruleId"] for r in run["results"])


def test_sarif_of_the_unusual(shell: Shell, tmp_path: Path) -> None:
    """Allowed findings are suppressed with the reason; what could not be read fails the run; a cell is a logical location."""
    (tmp_path / "a b.py").write_text("import chromadb\nchromadb.Client()  # chromalith: allow direct-client a reason\n")
    (tmp_path / "old.py").write_text("print 1")
    cell = {"cell_type": "code", "source": "import chromadb\nchromadb.Client()"}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    shell("migrate", "scan", tmp_path, "--sarif", tmp_path / "log.sarif")
    log = json.loads((tmp_path / "log.sarif").read_text())
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    first, second = run["results"]
    assert first["suppressions"][0]["justification"] == "a reason"
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.py"
    assert second["locations"][0]["logicalLocations"][0]["name"] == "cell 1, line 2"
    assert not run["invocations"][0]["executionSuccessful"]
    assert "old.py" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_the_schema_refuses_what_is_no_log() -> None:
    """The check above can fail."""
    log = sarif(scan(SAMPLES / "plain"), "1.2.3")
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, SARIF)


def test_a_place_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    """A SARIF file in a folder that is not there is refused in a sentence."""
    said = shell("migrate", "scan", SAMPLES / "clean", "--sarif", tmp_path / "no" / "log.sarif")
    assert said.code == 2
    assert "can't be written" in said.err


def test_record(shell: Shell, tmp_path: Path) -> None:
    """With ``--record`` the counts and the commit are kept in the migration's store, again with each scan."""
    tree = tmp_path / "code"
    (tree / ".git" / "refs" / "heads").mkdir(parents=True)
    (tree / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tree / ".git" / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    (tree / "app.py").write_text(READS)
    for _ in range(2):
        said = shell("migrate", "scan", tree, "--record", "--state", tmp_path / "state", "--name", "m", "--json")
        assert said.json["recorded"].startswith("migration/")
    status = shell("migrate", "scan", tree, "--json").json
    assert status["recorded"] is None
    kept = records(Place(open_store(str(tmp_path / "state")), "m"), SCAN)
    assert len(kept) == 2
    found = kept[-1].found
    assert (found["commit"], found["errors"], found["warnings"], found["digest"]) == ("a" * 40, 0, 2, status["digest"])


def test_records_are_in_order() -> None:
    """The newest is the last, and other kinds are not among them."""
    clock = ManualClock()
    place = Place(MemoryStore(clock), "m", clock)
    for number in range(3):
        place.clock.sleep(1)
        record(place, SCAN, {"errors": number})
    record(place, "other", {})
    assert [each.found["errors"] for each in records(place, SCAN)] == [0, 1, 2]


def test_a_clean_folder_does_not_stand_for_another_of_its_name(shell: Shell, tmp_path: Path) -> None:
    """Two folders `src` are two: the clean one, recorded later, leaves the other's writes open in the checklist."""
    url = str(tmp_path / "state")
    States(Place(open_store(url), "m")).create(replace(state(), name="m"))
    for name, text in (("jobs", READS + "words.add(ids=['a'])\n"), ("shop", "a = 1\n")):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "app.py").write_text(text)
        shell("migrate", "scan", tmp_path / name / "src", "--record", "--state", url, "--name", "m")
    said = shell("migrate", "checklist", "--state", url, "--name", "m", "--json").json
    assert next(item["outcome"] for item in said["items"] if item["id"] == "code") == "not_met"


def test_the_name_of_a_tree(tmp_path: Path) -> None:
    """Of a checkout: where it came from and the way there, and no password; of any other folder its path."""
    below = tmp_path / "repo" / "src"
    below.mkdir(parents=True)
    assert tree_of(below) == str(below)
    (tmp_path / "repo" / ".git").mkdir()
    config = tmp_path / "repo" / ".git" / "config"
    for url in (
        "https://me:secret@example.org/team/shop.git",
        "git@example.org:team/shop",
        "ssh://example.org:22/team/shop/",
    ):
        config.write_text(f'[core]\n\tbare = false\n[remote "origin"]\n\tfetch = +x\n\turl = {url}\n[branch "main"]\n')
        assert tree_of(below) == "team/shop/src"
    config.write_text('[remote "other"]\n\turl = https://example.org/a/b\n')
    assert tree_of(below) == str(below)


def test_the_commit(tmp_path: Path) -> None:
    """Loose, packed, detached, in a worktree; none where there is none or it is not understood."""
    git, below = tmp_path / ".git", tmp_path / "deep" / "er"
    below.mkdir(parents=True)
    assert commit_of(below) is None or not str(commit_of(below)).startswith("b" * 40)
    git.mkdir()
    (git / "HEAD").write_text("b" * 40 + "\n")
    assert commit_of(below) == "b" * 40
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(below) is None
    (git / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{'c' * 40} refs/heads/other\n{'d' * 40} refs/heads/main\n"
    )
    assert commit_of(below) == "d" * 40
    tree = git / "worktrees" / "w"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/other\n")
    (tree / "commondir").write_text("../..\n")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".git").write_text(f"gitdir: {tree}\n")
    assert commit_of(tmp_path / "w") == "c" * 40
