"""`chromalith migrate verify` over two Chromalith stores: what it prints, how it ends, what it writes and what it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docs.shapes import documented, same, shape

from chromalith import Reader, Writer
from chromalith.cli.app import run
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.states import States
from chromalith.store.url import open_store


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> States:
    """A migration whose copy is finished, to a target that lacks one record of three and has another value of a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    with Writer("./source") as writer:
        writer.create("words", space="l2")
        writer.upsert(
            "words", ids=["a", "b", "c"], embeddings=[[1, 0], [0, 1], [1, 1]], metadatas=[{"n": 1}, {"n": 2}, {"n": 3}]
        )
    sides = ["--source", "chromalith:./source", "--target", "chromalith:./target"]
    assert run(["migrate", "start", *sides, "--state-age-max", "1"]) == 0
    with Writer("./target") as writer:
        writer.upsert("words", ids=["a", "b"], embeddings=[[1, 0], [0, 1]], metadatas=[{"n": 1}, {"n": 2.0}])
    monkeypatch.setenv("CHROMALITH_STORE", "./target")
    found = States(Place(open_store("./target")))
    found.change(lambda state: replace(state, phase=Phase.BACKFILL, backfill={"finished": True}, epoch=state.epoch + 1))
    return found


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["--json", "migrate", "verify", *arguments]) == code
    return json.loads(capsys.readouterr().out)


def test_differences_are_told_repaired_and_noted(states: States, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4 with the documented shape; --repair ends with 0; the state has what was found, and the phase is verify."""
    assert "compare all collections" in printed(capsys, "--dry-run", "--deep", "--order")["steps"][1]
    assert states.get().phase is Phase.BACKFILL  # nothing was done
    found = printed(capsys, code=4)
    assert same(shape(found), documented("migrate verify"))
    assert (found["missing"], found["different"], found["fields"]) == (1, 1, {"metadata.n": 1})
    assert states.get().phase is Phase.VERIFY
    assert not states.get().verify["clean"]
    with Reader("./target") as reader:
        assert reader.count("words") == 2  # nothing was written
    assert printed(capsys, "--repair", "--collection", "words")["repaired"] == 2
    assert not states.get().verify["clean"]  # a part is no evidence
    assert printed(capsys)["clean"]
    assert states.get().verify["clean"]


def test_people_read_it_too(states: States, capsys: pytest.CaptureFixture[str]) -> None:
    """The text names the record, the field, and what to do."""
    assert run(["migrate", "verify", "--again"]) == 4
    shown = capsys.readouterr()
    assert "missing: c" in shown.out
    assert "b (metadata.n)" in shown.out
    assert "--repair" in shown.err


def test_what_differs_in_order_only(states: States, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint names what restores the order, the history says that it is the order, and a collection that is named twice is one."""
    assert run(["migrate", "verify", "--repair"]) == 0
    with Writer("./target") as writer:
        writer.delete("words", ids=["a"])
        writer.upsert("words", ids=["a"], embeddings=[[1, 0]], metadatas=[{"n": 1}])
    capsys.readouterr()
    assert run(["migrate", "verify", "--order"]) == 4
    assert "verify --order --repair" in capsys.readouterr().err
    assert "the order of their records" in states.get().history[-1].note
    twice = printed(capsys, "--order", "--repair", "--collection", "words", "--collection", "words")
    assert (twice["clean"], twice["matching"], len(twice["collections"])) == (True, 3, 1)


def test_a_gate_that_is_named_can_be_overruled(states: States, capsys: pytest.CaptureFixture[str]) -> None:
    """While the copy goes on the refusal says how to compare all the same, and that works; a dry run tells the same."""
    states.change(lambda state: replace(state, backfill={}, epoch=state.epoch + 1))
    assert run(["migrate", "verify"]) == 3
    assert "--force backfill" in capsys.readouterr().err
    assert printed(capsys, "--dry-run", code=3)["result"] == "refused"
    assert printed(capsys, "--dry-run", "--force", "backfill")["gates"][0]["overruled"]
    assert run(["migrate", "verify", "--force", "backfill"]) == 4
    assert "forced backfill" in next(change.note for change in states.get().history if change.after == Phase.VERIFY)
