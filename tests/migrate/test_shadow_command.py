"""`chromalith migrate shadow`: what clients counted and stored is summed and shown, and can be cleared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.docs.shapes import documented, same, shape
from tests.migrate.shadow_world import read, settle, shadow
from tests.migrate.test_comparators import get_answer

from chromalith.cli.app import run
from chromalith.migrate.mismatches import Mismatches
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.presence import Announcer, Presence
from chromalith.migrate.shadow import Shadow
from chromalith.migrate.shadow_stats import Counts, ShadowStats
from chromalith.migrate.state import SideName, State
from chromalith.migrate.states import States
from chromalith.store.url import open_store

SIDE = SideName(SideKind.CHROMALITH, "memory://x", "default_tenant", "default_database")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    found = Place(open_store("./store"))
    States(found).create(State("default", SIDE, SIDE))
    return found


def told(place: Place, client: str, it: Shadow) -> None:
    """The client says what it counted, for the last time."""
    Announcer(place, client, lambda: Presence(client, shadow=it.seen()), executor=None).stop()


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run(["migrate", "shadow", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def two_clients(place: Place) -> None:
    """One found a document that differs, the other an error and a match."""
    with shadow(place, client="c1") as it:
        other = get_answer("a", documents=["secret2"])
        it.offer(read(get_answer("a", documents=["secret"]), lambda: other, verb="get", arguments={"ids": ["a"]}))
        settle(it)
        told(place, "c1", it)
    with shadow(place, client="c2") as it:
        it.note("count", Role.SOURCE, 0.01)
        it.offer(read(3, lambda: 3, collection="other"))
        it.offer(read(3, lambda: 1 // 0, collection="other"))
        settle(it)
        told(place, "c2", it)


def test_the_sum_of_all_clients_has_the_documented_shape(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    two_clients(place)
    found = answer(capsys)
    assert (found["clients"], found["judged"], found["matches"], found["mismatches"], found["errors"]) == (
        2,
        3,
        1,
        1,
        1,
    )
    assert found["agreement"] == pytest.approx(1 / 3)
    assert found["failures"] == {"ZeroDivisionError": 1}
    assert [(each["verb"], each["collection"]) for each in found["by"]] == [("count", "other"), ("get", "words")]
    (record,) = found["mismatched_reads"]
    assert record["answers"]["source"]["documents"] == [{"type": "str", "length": 6}]
    del record["answers"]  # Chroma's own shape, and what is hidden in it: tested with the cleaner
    expected = documented("migrate shadow")
    del expected["mismatched_reads"][0]["answers"], expected["failures"]
    del found["failures"]
    assert same(shape(found), expected), shape(found)


def test_a_verb_and_a_collection_can_be_chosen(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    two_clients(place)
    assert answer(capsys, "--verb", "count")["judged"] == 2
    assert answer(capsys, "--collection", "words")["judged"] == 1
    assert answer(capsys, "--collection", "other")["mismatched_reads"] == []


def test_it_is_told_to_people_without_what_records_say(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    two_clients(place)
    assert run(["migrate", "shadow"]) == 0
    text = capsys.readouterr().out
    assert "33.33%" in text
    assert "id='a' document" in text
    assert "ZeroDivisionError 1" in text
    assert "secret" not in text


def test_reads_that_took_too_long_say_where_to_look(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A target whose deltas nobody folds is the first thing to think of."""
    seen = ShadowStats(0, {("query", "words"): Counts(timeouts=4)}).encode()
    Announcer(place, "c1", lambda: Presence("c1", shadow=seen), executor=None).stop()
    assert run(["migrate", "shadow"]) == 0
    assert "too long for 4" in capsys.readouterr().out


def test_nothing_yet_says_how_to_begin(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "shadow"]) == 0
    assert "ramp --shadow" in capsys.readouterr().out


def test_clearing_removes_mismatches_and_old_counts_do_not_count_any_more(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    two_clients(place)
    assert answer(capsys, "--clear", "--dry-run") == {
        "result": "planned",
        "name": "default",
        "removed": 1,
        "since_epoch": 0,
    }
    assert Mismatches(place).count() == 1
    assert answer(capsys, "--clear") == {"result": "cleared", "name": "default", "removed": 1, "since_epoch": 2}
    assert Mismatches(place).count() == 0
    state = States(place).get()
    assert (state.epoch, state.shadow_since, state.history[-1].verb) == (2, 2, "shadow --clear")
    assert answer(capsys)["judged"] == 0
    with shadow(place) as it:
        it.begin(state.shadow_since)
        it.offer(read(3, lambda: 3))
        settle(it)
        told(place, "c2", it)
    assert answer(capsys)["judged"] == 1
