"""``chromalith sweep`` and ``chromalith.sweep``, as a person and as a script see them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.commands import EMBEDDINGS, Shell

import chromalith
from chromalith import Reader, Writer
from chromalith.cli.sweep import seconds
from chromalith.errors import Invalid, NotFound


@pytest.fixture
def versions(store: str, words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A collection with four versions; no job is at work."""
    monkeypatch.setenv("CHROMALITH_JOB_GRACE_S", "0")
    with Writer(store) as writer:
        for text in ("red", "green"):
            chromalith.compact(store)
            writer.upsert(words, ids=["a"], embeddings=EMBEDDINGS[:1], documents=[text])
    chromalith.compact(store)
    return words


def files(store: str) -> set[str]:
    root = Path(store)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".chromalith" not in path.parts}


def test_nothing_to_sweep(shell: Shell, versions: str) -> None:
    """With what is kept by default, a fresh store has no garbage; that is no error."""
    said = shell("sweep")
    assert (said.code, said.out) == (0, "already_swept: nothing to delete\n")
    assert shell("sweep", versions, "--delete", "--json").json["result"] == "already_swept"


def test_a_dry_run_changes_nothing(shell: Shell, versions: str, store: str) -> None:
    """Without --delete the plan is shown, with totals by reason, and nothing is written."""
    before = files(store)
    said = shell("sweep", "--keep-versions", 1, "--keep-age", "0s")
    assert said.code == 0
    assert "version" in said.out
    assert "would delete" in said.out
    assert "--delete" in said.err
    told = shell("sweep", "--keep-versions", 1, "--keep-age", "0s", "--json").json
    assert told["result"] == "would_sweep"
    assert told["objects"] == sum(each["objects"] for each in told["reasons"])
    assert told["bytes"] == sum(each["bytes"] for each in told["outcomes"])
    assert told["outcomes"][0]["collection"] == versions
    assert files(store) == before


def test_delete(shell: Shell, versions: str, store: str) -> None:
    """With --delete it is gone, and what is current is there; again, there is nothing to do."""
    arguments = ("sweep", versions, "--keep-versions", 1, "--keep-age", "0s", "--delete")
    planned = shell(*arguments[:-1], "--keys", "--json").json
    before = files(store)
    told = shell(*arguments, "--json").json
    assert told["result"] == "swept"
    assert told["objects"] == planned["objects"]
    assert before - files(store) == {each["key"] for each in planned["outcomes"][0]["keys"]}
    assert shell("get", versions, "--id", "a", "--json").json["records"][0]["document"] == "green"
    assert shell(*arguments).out == "already_swept: nothing to delete\n"


def test_keys(shell: Shell, versions: str) -> None:
    """Each object can be shown, a line each, with its reason."""
    said = shell("sweep", "--keep-versions", 1, "--keep-age", "0s", "--keys")
    lines = said.out.splitlines()
    assert lines[0].split()[0] == "version"
    assert lines[0].split()[-1].startswith("snapshot/")
    assert lines[-1].startswith("would delete")


def test_settings(shell: Shell, versions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept can be set in the environment; an option counts more."""
    monkeypatch.setenv("CHROMALITH_KEEP_VERSIONS", "1")
    monkeypatch.setenv("CHROMALITH_KEEP_AGE_S", "0")
    assert shell("sweep", "--json").json["result"] == "would_sweep"
    assert shell("sweep", "--keep-versions", 9, "--json").json["result"] == "already_swept"
    assert shell("sweep", "--keep-age", "1h", "--json").json["result"] == "already_swept"


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("1.5 min", 90), ("24h", 86_400), ("7D", 604_800)])
def test_ages(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "-1h", "3y", "1h30"])
def test_wrong_ages(shell: Shell, text: str) -> None:
    """A wrong age is a wrong call, with what to write instead."""
    with pytest.raises(Invalid):
        seconds(text)
    said = shell("sweep", "--keep-age", text)
    assert said.code == 2
    assert "24h" in said.err


def test_no_such_collection(shell: Shell, versions: str) -> None:
    """The nearest name is told."""
    said = shell("sweep", "wrods")
    assert said.code == 1
    assert "words" in said.err


def test_in_python(versions: str, store: str) -> None:
    """The same as a function: a dry run unless it is told to delete; outcomes say what, how much and why."""
    [planned, rest] = chromalith.sweep(store, keep_versions=1, keep_age_s=0)
    assert not planned.deleted
    assert rest.collection is None
    [swept] = chromalith.sweep(store, versions, keep_versions=1, keep_age_s=0, delete=True)
    assert swept.deleted
    assert swept.published
    assert set(swept.garbage) == set(planned.garbage)
    with Reader(store) as reader:
        assert reader.count(versions) == 3
    with pytest.raises(NotFound):
        chromalith.sweep(store, "wrods")
    with pytest.raises(Invalid):
        chromalith.sweep(store, keep_versions=0)


def test_a_collection_without_a_name(shell: Shell, store: str, versions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is marked by a first sweep, which says so, and that it goes a day later."""
    from chromalith.clock import SYSTEM_CLOCK
    from chromalith.coord.catalog import Catalog
    from chromalith.store.url import open_store

    catalog = Catalog(open_store(store))
    made = catalog.create("default_tenant", "default_database", "nameless", configuration={})
    catalog.take_name("default_tenant", "default_database", made.collection.id)
    now_us = SYSTEM_CLOCK.now_us()
    monkeypatch.setattr("chromalith.clock.SystemClock.now_us", lambda self: now_us + 2 * 86_400_000_000)
    said = shell("sweep", "--delete", "--keep-age", "9d")
    assert said.code == 0
    assert "abandoned_collection" in said.out
    assert "deleted in a day" in said.err
    assert shell("sweep", "--keep-age", "9d", "--json").json["result"] == "already_swept"
