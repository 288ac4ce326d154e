"""`chromalith migrate reconcile` over two Chromalith stores: what it prints, how it ends, and that it repairs for good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import chromadb
import pytest
from tests.docs.shapes import documented, same, shape

from chromalith import Reader, Writer
from chromalith.cli import migrate_common
from chromalith.cli.app import run
from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import State
from chromalith.migrate.states import States
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.testing.faulty import Call, Fault, FaultyStore


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


def each_wait(monkeypatch: pytest.MonkeyPatch, steps: Iterator[Callable[[], object]]) -> None:
    """Do one of them instead of each wait of the follower; then end it."""

    def wait(self: object, seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr("chromalith.clock.SystemClock.sleep", wait)


def test_following_outlives_the_store_of_the_state(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the state's store fails at each call the follower says so, and goes on; what is noted afterwards is repaired."""
    down = False

    def choose(call: Call) -> Fault | None:
        return Fault.BEFORE if down else None

    def turn(now: bool) -> None:
        nonlocal down
        down = now
        if not now:
            note(place, "a", "b", "c")

    def opened(url: str, **options: Any) -> FaultyStore:
        return FaultyStore(open_store(url, **options), choose, SYSTEM_CLOCK)

    monkeypatch.setattr(migrate_common, "open_store", opened)
    waits = [lambda: turn(True), *[lambda: None] * 3, lambda: turn(False), lambda: None]
    each_wait(monkeypatch, iter(waits))
    capsys.readouterr()
    assert run(["migrate", "reconcile", "--store", "./target", "--follow", "--json"]) == 130
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bool(each["reasons"]) for each in told] == [True] * 4 + [False]
    assert (told[-1]["checked"], told[-1]["removed"], told[-1]["left"]) == (3, 1, 0)


def test_following_begins_while_a_side_is_away(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, waits, and does its work when the side is back."""
    down = True

    def choose(call: Call) -> Fault | None:
        return Fault.BEFORE if down else None

    def back() -> None:
        nonlocal down
        down = False

    def opened(url: str, **options: Any) -> Store:
        store = open_store(url, **options)
        return FaultyStore(store, choose, SYSTEM_CLOCK) if "source" in url else store

    monkeypatch.setattr("chromalith.client.client.open_store", opened)
    note(place, "a", "b", "c")
    each_wait(monkeypatch, iter([lambda: None, back, lambda: None]))
    capsys.readouterr()
    assert run(["migrate", "reconcile", "--store", "./target", "--follow", "--json"]) == 130
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(bool(each["reasons"]), each["checked"]) for each in told] == [(True, 0), (False, 3)]


def test_following_takes_a_new_copy_of_a_directory_that_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application writes its directory while the follower has a copy of it: the target gets what the directory holds then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    words = chromadb.PersistentClient(str(tmp_path / "source")).create_collection("words")
    words.add(ids=["a"], embeddings=[[1.0, 0.0]], documents=["old"])
    assert run(["migrate", "start", "--source", "./source", "--target", "chromalith:./target"]) == 0
    place = Place(open_store("./target"))
    States(place).change(lambda state: replace(state, phase=Phase.DUAL, epoch=state.epoch + 1))

    def write() -> None:
        words.update(ids=["a"], embeddings=[[1.0, 0.0]], documents=["new"])
        note(place, "a")

    each_wait(monkeypatch, iter([write, *[lambda: None] * 3]))
    note(place, "a")
    capsys.readouterr()
    assert run(["migrate", "reconcile", "--store", "./target", "--follow", "--json"]) == 130
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bool(each["reasons"]) for each in told] == [False, True, False]
    with Reader("./target") as reader:
        assert reader.get("words").documents == ["new"]
    assert not list(Journal(place).entries().touched)


def test_an_interrupt_ends_the_follower_though_its_copy_is_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sides have to say when they are closed does not take the interrupt's place."""
    monkeypatch.chdir(tmp_path)
    words = chromadb.PersistentClient(str(tmp_path / "source")).create_collection("words")
    words.add(ids=["a"], embeddings=[[1.0, 0.0]])
    assert run(["migrate", "start", "--source", "./source", "--target", "chromalith:./target"]) == 0

    def interrupt() -> None:
        words.add(ids=["b"], embeddings=[[1.0, 0.0]])
        raise KeyboardInterrupt

    went_on: list[int] = []
    each_wait(monkeypatch, iter([interrupt, lambda: went_on.append(1)]))
    assert run(["migrate", "reconcile", "--store", "./target", "--follow"]) == 130
    assert went_on == []
