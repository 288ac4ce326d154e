"""The harness itself: the application on a plain client, and a judge that can tell right from wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.migrate.live import story
from tests.migrate.live.application import Plan, let_go, seed, source_client
from tests.migrate.live.crew import Application
from tests.migrate.live.diary import ACKNOWLEDGED, FAILED, UNKNOWN, Told
from tests.migrate.live.judge import Expected, held, last_of_shared, own_states, unequal
from tests.migrate.live.story import COLLECTIONS, Call
from tests.servers import ChromaServer

from chromalith.testing.reference import Row

ROW = Row(0, (1.0, 0.5), "text", None, {"a": 1})


@pytest.mark.server
@pytest.mark.slow
def test_the_application_alone_is_judged_right(own_chroma_server: ChromaServer, tmp_path: Path) -> None:
    """Without a migration, on a server that is killed and started again: the diaries say what stock Chroma holds, and reads agree."""
    plan = Plan(own_chroma_server.url, "", "", "", str(tmp_path), 2, 30, 0.01, "alone")
    seed(plan)
    with Application(plan) as application:
        application.work(60)
        own_chroma_server.restart()
        application.work(40)
        application.kill(1)
        application.start(1)
        application.work(60)
        application.finish()
    client = source_client(plan)
    expected = application.expected()
    faults = [
        fault
        for name, space in COLLECTIONS.items()
        for fault in expected.faults("source", name, space, held(client, name))
    ]
    let_go(client)
    assert faults == []
    assert application.wrong_reads() == []
    outcomes = [told.outcome for each in application.stories().values() for told in each.calls]
    assert outcomes.count(ACKNOWLEDGED) > 60
    assert len(outcomes) > outcomes.count(ACKNOWLEDGED), "nothing failed: the server's restart was not noticed"


def _told(
    number: int, op: str, start: float, end: float = 0.0, outcome: str = ACKNOWLEDGED, process: int = 0, **row: object
) -> Told:
    call = Call(number, op, "words", ({"id": "p0-1", "embedding": [1.0, 0.5], **row},))
    return Told(process, call, start, end or start + 1, outcome)


def test_an_unknown_call_leaves_two_states_and_a_failed_one_none() -> None:
    """Only what is unknown may be either; the next blind write ends the doubt."""
    first, second = _told(1, "add", 1, document="a"), _told(2, "update", 3, document="b")
    key = ("words", "p0-1")
    known = own_states([first, second], 0, 3).states[key]
    assert [state.document for state in known if state] == ["b"]
    doubt = own_states([first, replace(second, outcome=UNKNOWN)], 0, 3).states[key]
    assert [state.document for state in doubt if state] == ["a", "b"]
    refused = own_states([first, replace(second, outcome=FAILED)], 0, 3).states[key]
    assert [state.document for state in refused if state] == ["a"]
    ended = own_states([first, replace(second, outcome=UNKNOWN), _told(3, "delete", 5)], 0, 3).states[key]
    assert ended == [None]


def test_of_a_shared_id_one_of_the_last_writes_must_remain() -> None:
    """A write that began after another was acknowledged overrules it; two at the same time do not."""
    early = _told(1, "upsert", 1, 2, id="s-1", document="early")
    left = _told(2, "upsert", 3, 6, process=0, id="s-1", document="left")
    right = _told(1, "upsert", 4, 5, process=1, id="s-1", document="right")
    found = last_of_shared([early, left, right])["words", "s-1"]
    assert sorted(state.document or "" for state in found if state) == ["left", "right"]


@pytest.mark.parametrize(
    ("space", "held_row", "finding"),
    [
        ("l2", ROW, None),
        ("l2", None, "must be one of"),
        ("l2", replace(ROW, document="Text"), "must be one of"),
        ("l2", replace(ROW, uri=""), "must be one of"),
        ("l2", replace(ROW, metadata={"a": 1.0}), "must be one of"),
        ("l2", replace(ROW, metadata={"a": True}), "must be one of"),
        ("l2", replace(ROW, metadata=None), "must be one of"),
        ("l2", replace(ROW, embedding=(1.0, 0.5 + 2**-24)), "must be one of"),
        ("cosine", replace(ROW, embedding=(1.0, 0.5 + 2**-24)), None),
        ("cosine", replace(ROW, embedding=(1.0, 0.5 + 1e-4)), "must be one of"),
    ],
)
def test_the_judge_finds_each_kind_of_difference(space: str, held_row: Row | None, finding: str | None) -> None:
    """Missing, document, uri, type and value of metadata, one bit of an embedding; and that two sides differ."""
    expected = Expected({("words", "p0-1"): [ROW]})
    rows = {} if held_row is None else {"p0-1": held_row}
    faults = expected.faults("target", "words", space, rows)
    assert [finding in fault for fault in faults] == ([True] if finding else []) if finding else faults == []
    assert bool(unequal({"p0-1": ROW}, rows, "words", space)) == bool(finding)


def test_the_judge_finds_a_record_that_nobody_wrote() -> None:
    """What was deleted, or never there, is a fault on either side."""
    assert "nobody wrote" in Expected({}).faults("target", "words", "l2", {"x": ROW})[0]
    assert Expected({("words", "x"): [None]}).faults("target", "words", "l2", {"x": ROW}) != []


def test_calls_of_a_run_can_be_told_again() -> None:
    """A call is a function of seed, process and number; every kind of call is made."""
    calls = [story.call("s", 1, number, 30, list(COLLECTIONS)) for number in range(1, 300)]
    assert calls == [story.call("s", 1, number, 30, list(COLLECTIONS)) for number in range(1, 300)]
    assert {call.op for call in calls} == {
        "add",
        "update",
        "upsert",
        "delete",
        "delete_where",
        "get",
        "owned",
        "query",
        "count",
    }
    assert all(Call.decoded(call.encoded()) == call for call in calls)
