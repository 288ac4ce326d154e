"""The handlers under AWS's own emulator of the Lambda runtime, with AWS's own runtime client, from the zip, on a real S3 server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.aws.lambda_runtime import emulated, warmed_up
from tests.aws.stage import Stage, batch, error_of, failed, hint, staged, vector
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("lambda-emulator")]


@pytest.fixture
def stage(seaweed: Server, tmp_path: Path) -> Iterator[Stage]:
    """A bucket with an empty collection, and a gate before it."""
    with staged(seaweed, tmp_path) as stage:
        yield stage


def test_a_cold_start_fills_the_cache_and_a_warm_one_uses_it(stage: Stage) -> None:
    """The first query works with an empty disk; the next one, in the same process, makes two requests, and reads no segment."""
    ids = [f"id-{number}" for number in range(20)]
    stage.write(*ids)
    with emulated(stage.function("compactor")) as compactor:
        told = compactor.invoke({"source": "manual", "collection": stage.name})
        assert (told["status"], told["deltas_folded"], told["deltas_waiting"]) == ("success", 1, 0)

    query = stage.nearest("id-7")
    with emulated(stage.function("query")) as emulator:
        cache = stage.folder / "query" / "cache"
        assert not cache.exists()
        assert emulator.function_pid() is None, "nothing is started before there is an event"
        start = len(stage.gate.seen)
        cold = emulator.invoke(query)
        cold_seen = stage.gate.seen[start:]
        assert (cold["ids"], cold["documents"]) == ([["id-7"]], [["id-7"]])
        filled, pid = files(cache), emulator.function_pid()
        assert filled

        start = len(stage.gate.seen)
        warm = emulator.invoke(query)
        warm_seen = stage.gate.seen[start:]
        assert warm["ids"] == cold["ids"]
        assert [each.key for each in cold_seen if each.key.startswith(("segment/", "catalog/"))], "it was found and fetched"
        pointer = f"snapshot/{stage.cid}/latest/pointer.txt"
        assert sorted(each.key for each in warm_seen) == ["", pointer], "one listing of new deltas, and one look at the pointer"
        assert files(cache) == filled
        assert emulator.function_pid() == pid
        print(f"requests cold={len(cold_seen)} warm={len(warm_seen)}", *report_lines(emulator.log_text()), sep="\n")


def test_the_cache_outlives_its_process(stage: Stage) -> None:
    """A fresh process of the same sandbox finds the segments on its disk, and fetches none."""
    stage.write("id-1")
    with emulated(stage.function("compactor")) as compactor:
        compactor.invoke({"source": "manual", "collection": stage.name})
    query = stage.nearest("id-1")
    answers = []
    for _ in range(2):
        start = len(stage.gate.seen)
        with emulated(stage.function("query")) as emulator:
            answers.append(emulator.invoke(query))
    assert answers[0] == answers[1]
    assert not [each for each in stage.gate.seen[start:] if "segment/" in each.key]


def test_a_poison_message_is_the_only_one_that_comes_back(stage: Stage) -> None:
    """Of a batch, exactly what is no hint is reported as failed; the deltas of all others are folded before the function answers."""
    receipts = [stage.write(f"id-{number}") for number in range(3)]
    with emulated(stage.function("compactor")) as emulator:
        answer = emulator.invoke(batch(hint(receipts[0]), "{not a hint", hint(receipts[1]), hint(receipts[2])))
        assert failed(answer) == ["m-1"]
        assert stage.folded(receipts) == [True, True, True]
        version = stage.manifest().version
        again = emulator.invoke(batch(*map(hint, receipts)))
        assert failed(again) == []
    assert stage.manifest().version == version, "a redelivered batch changes nothing"
    assert stage.ids() == ["id-0", "id-1", "id-2"]
    stage.check()


def test_an_error_is_typed_json(stage: Stage) -> None:
    """What Lambda calls the error's type is the class that says what to do; its message is JSON with kind, message and hint."""
    with emulated(stage.function("producer")) as emulator:
        kind, told = error_of(emulator.invoke(stage.record(1, embeddings=[[1.0, 2.0]]) | {"ids": ["a", "b"]}))
        assert (kind, told["kind"]) == ("Invalid", "invalid")
        assert told["message"]
        assert told["hint"]
        assert emulator.invoke(stage.record(1))["status"] == "success", "the process goes on"
    with emulated(stage.function("query")) as emulator:
        kind, told = error_of(emulator.invoke({"collection": "nobody-made-this", "query_embeddings": [vector("a")]}))
        assert (kind, told["kind"]) == ("NotFound", "not_found")


def test_a_time_out_ends_the_process_and_loses_nothing(stage: Stage) -> None:
    """A producer that waits for a slow store is ended at its limit; a fresh process takes the next event, and the write counts once."""
    event = stage.record(1, call_id="the-call")
    with emulated(stage.function("producer", timeout_s=4)) as emulator:
        assert warmed_up(emulator, stage.record(3, call_id="another"))["status"] == "success"
        pid = emulator.function_pid()
        held = stage.gate.hold("PUT", "delta/", "after")
        timed_out = emulator.invoke(event)
        assert held.arrived.is_set()
        assert "Task timed out after 4.00 seconds" in str(timed_out)
        held.throw_away()
        assert stage.deltas() == 2, "the store had it already; nobody was told"
        assert emulator.function_pid() != pid
        again = emulator.invoke(event)
        assert again["status"] == "success"
        assert emulator.invoke(stage.record(2))["status"] == "success"
    with emulated(stage.function("compactor")) as compactor:
        compactor.invoke({"source": "scheduled", "action": "compact", "collection": stage.name})
    assert stage.ids() == ["id-1", "id-2", "id-3"]
    stage.check()


def test_too_little_time_is_said_and_not_tried(stage: Stage) -> None:
    """A compactor whose limit leaves no time for a fold begins none: it asks for the messages again, in time, and leaves nothing behind."""
    receipts = [stage.write("id-1")]
    before = stage.keys()
    with emulated(stage.function("compactor", timeout_s=5)) as emulator:
        warmed_up(emulator, {"source": "of nothing"})
        answer = emulator.invoke(batch(*map(hint, receipts)))
        assert failed(answer) == ["m-0"]
        assert stage.keys() == before
    with emulated(stage.function("compactor", disk="longer")) as emulator:
        assert failed(emulator.invoke(batch(*map(hint, receipts)))) == []
    assert stage.folded(receipts) == [True]


def files(folder: Path) -> dict[str, int]:
    """Name and size of each file below a folder."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def report_lines(log: str) -> list[str]:
    """What Lambda reports of each invocation."""
    return re.findall(r"REPORT RequestId.*", log)
