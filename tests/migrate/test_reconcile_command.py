"""`chromalith migrate reconcile` over two Chromalith stores: what it prints, how it ends, and that it repairs for good."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docs.shapes import documented, same, shape

from chromalith import Reader, Writer
from chromalith.cli.app import run
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import State
from chromalith.migrate.states import States
from chromalith.store.url import open_store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A migration in its dual phase; the target lacks one record, has another value of a second, and one too many."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    for side, ids, documents in (("./source", ["a", "b"], ["x", "y"]), ("./target", ["b", "c"], ["old", "z"])):
        with Writer(side) as writer:
            writer.create("words", space="l2")
            writer.upsert(
                "words", ids=ids, embeddings=[[1, 0], [0, 1]], documents=documents, metadatas=[{"n": 1}, {"m": 2}]
            )
    assert (
        run(
            [
                "migrate",
                "start",
                "--source",
                "chromalith:./source",
                "--target",
                "chromalith:./target",
                "--force",
                "records",
            ]
        )
        == 0
    )
    place = Place(open_store("./target"))

    def dual(state: State) -> State:
        return replace(state, phase=Phase.DUAL, epoch=state.epoch + 1)

    States(place).change(dual)
    return place


def note(place: Place, *ids: str, closed: bool = True) -> None:
    journal = Journal(place)
    entry = journal.open("words", ids, authority=Role.SOURCE, op="upsert")
    if closed:
        journal.close(entry, "failed", "it was away")
    journal.stop()


def reconcile(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["migrate", "reconcile", "--store", "./target", "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def test_it_repairs_what_is_noted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, different and extra records are repaired at the target; then nothing is left to do; the answers are as documented."""
    note(place, "a", "b")
    note(place, "c")
    planned = reconcile(capsys, "--dry-run")
    assert (planned["result"], planned["left"], planned["open"]) == ("planned", 2, 0)
    done = reconcile(capsys)
    assert [done[name] for name in ("checked", "added", "changed", "deleted", "removed", "left")] == [3, 1, 1, 1, 2, 0]
    assert same(shape(done), documented("migrate reconcile"))
    with Reader("./target") as reader:
        found = reader.get("words")
    assert dict(zip(found.ids, found.documents or [], strict=True)) == {"a": "x", "b": "y"}
    assert reconcile(capsys)["checked"] == 0


def test_what_is_in_the_way_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """An object that can't be read ends the command with exit code 3, and is kept; a call under way does not."""
    note(place, "a", closed=False)
    assert reconcile(capsys)["open"] == 1
    stray = place.prefix("touched") + "note.txt"
    place.store.put(stray, b"?")
    assert reconcile(capsys, code=3)["unreadable"] == [stray]
    assert run(["migrate", "reconcile", "--store", "./target"]) == 3
    assert "can't be read, and is kept" in capsys.readouterr().out
    place.store.delete(stray)


def test_following_ends_when_it_is_stopped(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds that did something are told, one JSON document each; others are silent; and the lease is left behind released."""
    note(place, "a", "b", "c")
    rounds = iter(range(3))

    def wait(self: object, seconds: float) -> None:
        assert seconds == 0.5
        if next(rounds) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("chromalith.clock.SystemClock.sleep", wait)
    capsys.readouterr()
    assert run(["migrate", "reconcile", "--store", "./target", "--follow", "--every", "0.5", "--json"]) == 130
    told = json.loads(capsys.readouterr().out)  # one document: two rounds had nothing to tell
    assert (told["checked"], told["removed"]) == (3, 1)
    assert json.loads(place.store.get(place.prefix("journal") + "lease.json").body)["released"] is True


def test_following_ends_with_the_migration(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower goes on over a change of authority, repairs the other way from then on, and ends by itself when the migration has."""
    phases = iter([Phase.CUTOVER, None, Phase.COMPLETE, Phase.COMPLETE])

    def wait(self: object, seconds: float) -> None:
        phase = next(phases)
        if phase is None:
            with Writer("./target") as writer:
                writer.upsert("words", ids=["late"], embeddings=[[2, 2]])
            note(place, "late")
            return

        def change(state: State) -> State:
            return replace(state, phase=phase, epoch=state.epoch + 1)

        States(place).change(change)

    monkeypatch.setattr("chromalith.clock.SystemClock.sleep", wait)
    assert run(["migrate", "reconcile", "--store", "./target", "--follow"]) == 0
    capsys.readouterr()
    with Reader("./source") as reader:
        assert "late" in reader.get("words").ids
