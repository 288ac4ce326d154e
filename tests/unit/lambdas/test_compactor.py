"""The compactor handler: hints, schedule, by hand; what it answers, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lambdas.invocations import SCHEDULED, Context, hint_of, queue_event, write

from chromalith import Reader
from chromalith.compaction import pace
from chromalith.compaction.leasing import FOLD, Leasing, lease_key
from chromalith.coord.lease import HeldBy, Lease, Sightings
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import read_current
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.lambdas import producer
from chromalith.lambdas.compactor import handler
from chromalith.model import layout
from chromalith.wiring import Writer, open_session


def produce(*ids: str, number: int = 0, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = producer.handler(write(*ids, **more), Context(aws_request_id=f"produce-{number}"))
    return answer


def versions(store_url: str) -> dict[str, tuple[int, int]]:
    """Version and live records of each collection's snapshot."""
    with open_session(store_url, queue_url="") as session:
        named = session.catalog.listing("default_tenant", "default_database")
        found = {each.name: read_current(session.store, each.collection.id).manifest for each in named}
    return {name: (manifest.version, manifest.live) for name, manifest in found.items()}


@pytest.mark.parametrize("event", [{"source": "manual"}, {"source": "scheduled", "action": "compact"}, SCHEDULED])
def test_every_collection_with_deltas_is_compacted(store_url: str, event: dict[str, Any]) -> None:
    """By hand, by the schedule's own input, and by a rule that has none."""
    produce("a", "b", number=1)
    produce("c", number=2, collection="other")
    answer = handler(event, Context())
    assert (answer["status"], answer["deltas_folded"], answer["deltas_waiting"]) == ("success", 2, 0)
    told = {each["collection"]: (each["result"], each["version"], each["operations"]) for each in answer["collections"]}
    assert told == {"words": ("compacted", 1, 2), "other": ("compacted", 1, 1)}
    assert versions(store_url) == {"words": (1, 2), "other": (1, 1)}


def test_one_collection_by_name(store_url: str) -> None:
    """The others are left alone; a second time there is nothing to do; a name that is not there is said."""
    produce("a", number=1)
    produce("c", number=2, collection="other")
    assert handler({"source": "manual", "collection": "other"}, Context())["deltas_folded"] == 1
    assert versions(store_url) == {"words": (0, 0), "other": (1, 1)}
    again = handler({"source": "manual", "collection": "other"}, Context())
    assert [each["result"] for each in again["collections"]] == ["already_compacted"]
    with pytest.raises(NotFound, match="nothing"):
        handler({"source": "manual", "collection": "nothing"}, Context())


def test_nothing_to_do_is_a_success() -> None:
    """An empty store: no collection, no error."""
    assert handler({"source": "scheduled", "action": "compact"}, Context())["collections"] == []


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"source": "cron"}, "source='cron'"),
        ({}, "source=None"),
        ({"source": "manual", "colection": "words"}, "did you mean collection"),
        ({"source": "scheduled", "action": "sweep"}, "field=action"),
        ("compact", "not a JSON object"),
        ({"source": "migration"}, "field=snapshot_path"),
        ({"source": "migration", "snapshot_path": "x/", "as": "y"}, "give collection"),
    ],
)
def test_a_wrong_event_says_what_is_wrong(event: Any, said: str) -> None:
    """Unknown sources and fields are named."""
    with pytest.raises(Invalid) as raised:
        handler(event, Context())
    assert said in str(raised.value)


def test_a_batch_of_hints_is_consumed_and_poison_comes_again(store_url: str) -> None:
    """Doubled hints, hints of several collections and one that is none: one fold each, and only the last one is to come again."""
    first, second = produce("a", number=1), produce("b", number=2)
    other = produce("c", number=3, collection="other")
    bodies = [hint_of(first), hint_of(second), "poison", hint_of(first), hint_of(other)]
    assert handler(queue_event(*bodies), Context()) == {"batchItemFailures": [{"itemIdentifier": "m2"}]}
    assert versions(store_url) == {"words": (1, 2), "other": (1, 1)}
    assert handler(queue_event(*bodies[:2]), Context()) == {"batchItemFailures": []}
    assert versions(store_url) == {"words": (1, 2), "other": (1, 1)}


def test_a_batch_without_time_comes_again_whole(store_url: str) -> None:
    """No fold is begun that can't end; the messages are not deleted, and the next invocation finds the work."""
    hint = hint_of(produce("a"))
    assert handler(queue_event(hint), Context(left_s=4.0)) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert versions(store_url) == {"words": (0, 0)}
    assert handler(queue_event(hint), Context()) == {"batchItemFailures": []}
    assert versions(store_url) == {"words": (1, 1)}


def test_without_time_nothing_is_begun_and_the_answer_says_so(store_url: str) -> None:
    """The deltas wait, and stay readable."""
    produce("a")
    (told,) = handler({"source": "manual"}, Context(left_s=4.0))["collections"]
    assert (told["result"], told["out_of_time"], told["deltas_waiting"], told["published"]) == ("out_of_time", True, 1, [])
    with Reader(store_url) as reader:
        assert reader.count("words") == 1


def test_a_fold_shrinks_to_what_fits(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With time for a part of the rows, whole deltas are folded as far as they fit; the rest waits for the next invocation."""
    monkeypatch.setattr(pace, "ROWS_PER_S", 1)
    for number, ids in enumerate((("a", "b"), ("c",), ("a", "b", "c"))):
        produce(*ids, number=number)
    (told,) = handler({"source": "manual"}, Context(left_s=pace.START_S + 3.0 + 4.5))["collections"]
    assert (told["deltas_folded"], told["deltas_waiting"], told["out_of_time"]) == (2, 1, True)
    assert versions(store_url)["words"][1] == 3
    (told,) = handler({"source": "manual"}, Context())["collections"]
    assert (told["deltas_folded"], told["deltas_waiting"], told["out_of_time"]) == (1, 0, False)


def test_what_somebody_else_works_on_is_told(store_url: str) -> None:
    """A live lease is left to its holder, and the answer names them."""
    produce("a")
    with open_session(store_url, queue_url="") as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        sightings = Sightings(session.clock)
        leasing = Leasing(
            session.store, session.clock, session.leases(), sightings, "elsewhere/1", enabled=True, lease_s=30.0, heartbeat=False
        )
        with leasing.hold(cid, FOLD, 0.0) as right:
            assert not isinstance(right, HeldBy)
            (told,) = handler({"source": "manual"}, Context(left_s=pace.START_S + 3.5))["collections"]
    assert told["result"] == "held"
    assert str(told["held_by"]).startswith("elsewhere/1")


def test_a_damaged_collection_does_not_keep_the_others(store_url: str) -> None:
    """They are compacted; then the invocation fails, with the collection's name: a failure never looks like a success."""
    produce("a", number=1)
    produce("c", number=2, collection="other")
    with open_session(store_url, queue_url="") as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        session.store.put(layout.pointer_key(cid), b"damaged")
    for event in ({"source": "manual"}, {"source": "manual", "collection": "words"}):
        with pytest.raises(Corrupt) as raised:
            handler(event, Context())
        assert "collection='words' failed=1" in str(raised.value)
    with open_session(store_url, queue_url="") as session:
        other = session.catalog.lookup("default_tenant", "default_database", "other").collection.id
        assert read_current(session.store, other).manifest.version == 1


def test_the_lease_of_a_killed_compactor_is_taken_over_by_a_new_process(store_url: str) -> None:
    """A tick in a process that was just started has seen nobody beat: it waits until it is known that the holder is dead."""
    produce("a")
    with open_session(store_url, queue_url="") as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        dead = Lease(session.leases(), lease_key(cid, FOLD), session.clock, purpose=FOLD, owner="killed/1", lease_s=1.0)
        assert not isinstance(dead.try_acquire(), HeldBy)
        assert handler({"source": "scheduled", "action": "compact"}, Context())["deltas_folded"] == 1


def test_the_deadline_of_an_earlier_invocation_is_forgotten(store_url: str) -> None:
    """A warm process that ran out of time does its work in the next invocation."""
    produce("a")
    assert handler({"source": "manual"}, Context(left_s=1.0))["deltas_folded"] == 0
    assert handler({"source": "manual"}, Context(left_s=60.0))["deltas_folded"] == 1


def test_merges_that_do_not_fit_are_left(
    store_url: str, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[dict[str, Any]]]
) -> None:
    """Eight small segments wait for a merge: without time for it there are eight, and answer and log say so; with time, one."""
    monkeypatch.setattr(pace, "MERGE_ROWS_PER_S", 0.1)
    with Writer(store_url, queue_url="") as writer:
        writer.create("words")
    for number in range(8):
        with Writer(store_url, queue_url="") as writer:
            writer.upsert("words", ids=[f"{number}"], embeddings=[[1.0, float(number)]])
        answer = handler({"source": "manual"}, Context(left_s=60.0))
    (told,) = answer["collections"]
    assert (told["segments_merged"], told["merges_left"], told["out_of_time"]) == (0, True, False)
    assert segments(store_url) == 8
    assert [line["collection"] for line in log() if line["message"].startswith("merges are left")] == ["words"]
    monkeypatch.undo()
    monkeypatch.setenv("CHROMADB_BUCKET", store_url)
    (told,) = handler({"source": "manual"}, Context())["collections"]
    assert (told["segments_merged"], told["merges_left"], segments(store_url)) == (8, False, 1)


def segments(store_url: str) -> int:
    with open_session(store_url, queue_url="") as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        assert all(delta.size for delta in list_deltas(session.store, cid))
        return len(read_current(session.store, cid).manifest.segments)
