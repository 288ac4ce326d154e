"""The handlers in sandboxes of our own, under AWS's runtime client: what the emulator can't do. Killed in the middle, several at once, an
error while the process starts, the same request twice.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.aws.gate import Held
from tests.aws.lambda_runtime import Function, Sandbox, emulated, sandboxed, warmed_up
from tests.aws.runtime_api import Answer
from tests.aws.stage import Stage, batch, error_of, failed, hint, staged
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("lambda-sandbox")]

DELIVERIES_MAX = 10  # maxReceiveCount of the queue


@pytest.fixture
def stage(seaweed: Server, tmp_path: Path) -> Iterator[Stage]:
    """A bucket with an empty collection, and a gate before it."""
    with staged(seaweed, tmp_path) as stage:
        yield stage


def killed_while(stage: Stage, sandbox: Sandbox, event: object, held: Held) -> None:
    """Hand out an event, wait until its request is held, and kill the process there."""
    request = sandbox.begin(event)
    assert held.arrived.wait(60), sandbox.log_text()
    pid = sandbox.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert sandbox.end(request).how == "crashed"


def delivered_until_done(sandbox: Sandbox, event: dict[str, object]) -> Answer:
    """Deliver a batch again and again, as the queue does, until no message is reported as failed."""
    for _ in range(DELIVERIES_MAX):
        answer = sandbox.invoke(event)
        if answer.how == "ok" and not failed(answer.value):
            return answer
    pytest.fail(f"not done after {DELIVERIES_MAX} deliveries: {answer}\n{sandbox.log_text()}")


# Where a compactor is killed, in the order of a fold: which request is held (the manifest's key begins with its version), on which side
# of the server, and whether it is let through after the death.
KILLS = {
    "the segment was on its way": ("PUT", "segment/", "before", Held.throw_away),
    "the manifest was on its way": ("PUT", "/0000000000000001-", "before", Held.throw_away),
    "it was about to publish": ("PUT", "pointer.txt", "before", Held.throw_away),
    "its publish arrives after its death": ("PUT", "pointer.txt", "before", Held.let_through),
    "it had published, and did not know": ("PUT", "pointer.txt", "after", Held.throw_away),
}


def test_a_compactor_that_is_killed_leaves_only_garbage(seaweed: Server, tmp_path: Path) -> None:
    """Killed at any step, a fold is there whole or not at all; the batch, delivered again, is folded exactly once; and all is verified."""
    # A dead holder's lease is waited for, half a minute each: the cases wait side by side.
    with ThreadPoolExecutor(len(KILLS) + 1) as pool:
        cases = {name: pool.submit(killed_compactor, seaweed, tmp_path / name.replace(" ", "-"), *case) for name, case in KILLS.items()}
        cases["its time ran out"] = pool.submit(timed_out_compactor, seaweed, tmp_path / "timed-out")
    problems = {name: case.exception() for name, case in cases.items() if case.exception() is not None}
    assert not problems, problems
    versions = {name: case.result() for name, case in cases.items()}
    assert set(versions.values()) == {1}, "each of the batches was folded once, in one version"


def killed_compactor(server: Server, folder: Path, method: str, part: str, when: str, afterwards: Callable[[Held], None]) -> int:
    """One case; returns the version in which its deltas are."""
    with staged(server, folder) as stage:
        receipts = [stage.write(f"id-{number}") for number in range(3)]
        event = batch(*map(hint, receipts))
        held = stage.gate.hold(method, part, when)  # type: ignore[arg-type]
        with sandboxed(stage.function("compactor", disk="killed")) as sandbox:
            killed_while(stage, sandbox, event, held)
            afterwards(held)
            arrived = wait_for_version(stage, 1 if (when, afterwards) != ("before", Held.throw_away) else 0)
            assert stage.folded(receipts) == [arrived] * 3
            assert stage.ids() == ["id-0", "id-1", "id-2"], "readers miss nothing meanwhile"
            delivered_until_done(sandbox, event)
        assert stage.folded(receipts) == [True] * 3
        assert stage.ids() == ["id-0", "id-1", "id-2"]
        stage.check()
        return stage.manifest().version


def timed_out_compactor(server: Server, folder: Path) -> int:
    """A fold that a slow store keeps beyond the function's limit, in AWS's own emulator: it ends the process, and starts a fresh one."""
    with staged(server, folder) as stage:
        receipts = [stage.write(f"id-{number}") for number in range(3)]
        event = batch(*map(hint, receipts))
        with emulated(stage.function("compactor", timeout_s=10)) as emulator:
            warmed_up(emulator, {"source": "of nothing"})
            pid = emulator.function_pid()
            held = stage.gate.hold("PUT", "segment/")
            assert emulator.invoke(event) == "Task timed out after 10.00 seconds"
            assert held.arrived.is_set()
            held.throw_away()
            assert stage.folded(receipts) == [False] * 3
            for _ in range(DELIVERIES_MAX):
                answer = emulator.invoke(event)
                if not isinstance(answer, str) and not failed(answer):
                    break
            assert emulator.function_pid() != pid
        assert stage.folded(receipts) == [True] * 3
        assert stage.ids() == ["id-0", "id-1", "id-2"]
        stage.check()
        return stage.manifest().version


def wait_for_version(stage: Stage, version: int) -> bool:
    """Wait for what was let through to arrive; whether anything was published."""
    deadline = time.monotonic() + 20
    while stage.manifest().version < version and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stage.manifest().version == version
    return version > 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_producer_that_is_killed_can_be_repeated(stage: Stage, when: str) -> None:
    """Killed before or after its delta reached the store, the same request, repeated as Lambda repeats it, counts once."""
    held = stage.gate.hold("PUT", "delta/", when)  # type: ignore[arg-type]
    with sandboxed(stage.function("producer")) as sandbox:
        request = sandbox.begin(stage.record(1))
        assert held.arrived.wait(60), sandbox.log_text()
        sandbox.kill()
        assert sandbox.end(request).how == "crashed"
        held.throw_away()
        assert stage.deltas() == (0 if when == "before" else 1)
        again = sandbox.end(sandbox.begin(stage.record(1), request))
        assert again.how == "ok", again
        assert sandbox.invoke(stage.record(2)).how == "ok"
    with sandboxed(stage.function("compactor")) as sandbox:
        told = sandbox.invoke({"source": "manual", "collection": stage.name}).value
    assert told["deltas_waiting"] == 0
    assert stage.ids() == ["id-1", "id-2"]
    stage.check()


def test_a_query_that_is_killed_leaves_a_cache_that_works(stage: Stage) -> None:
    """Killed while a segment is on its way to the disk, the next process of the sandbox fetches it again, and answers right."""
    stage.write("id-1", "id-2")
    with sandboxed(stage.function("compactor")) as sandbox:
        assert sandbox.invoke({"source": "manual", "collection": stage.name}).value["deltas_waiting"] == 0
    held = stage.gate.hold("GET", "segment/", "after")
    with sandboxed(stage.function("query")) as sandbox:
        killed_while(stage, sandbox, stage.nearest("id-2"), held)
        held.throw_away()
        assert sandbox.invoke(stage.nearest("id-2")).value["ids"] == [["id-2"]]
        start = len(stage.gate.seen)
        assert sandbox.invoke(stage.nearest("id-1")).value["ids"] == [["id-1"]]
    assert not [each for each in stage.gate.seen[start:] if each.key.startswith("segment/")]


def test_batches_in_parallel_fold_each_delta_once(stage: Stage) -> None:
    """Three compactors at once, with overlapping batches, each see all of their messages done; no delta is folded twice."""
    receipts = [stage.write(f"id-{number}") for number in range(9)]
    batches = [batch(*map(hint, receipts[start : start + 5])) for start in (0, 2, 4)]
    functions = [stage.function("compactor", disk=f"sandbox-{number}") for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(delivered_in, functions, batches))
    assert [answer.how for answer in answers] == ["ok", "ok", "ok"]
    assert stage.folded(receipts) == [True] * 9
    assert stage.ids() == [f"id-{number}" for number in range(9)]
    stage.check()


def delivered_in(function: Function, event: dict[str, object]) -> Answer:
    """The batch in a sandbox of its own, delivered until it is done."""
    with sandboxed(function) as sandbox:
        return delivered_until_done(sandbox, event)


def test_an_error_while_it_starts_is_told(stage: Stage) -> None:
    """A handler that can't be imported is an error of the start, with the module's name; no event is lost to a process that never was."""
    wrong = replace(stage.function("producer"), handler="chromalith.lambdas.nothing.handler")
    with sandboxed(wrong) as sandbox:
        answer = sandbox.invoke(stage.record(1))
    assert answer.how == "init_error"
    assert answer.value["errorType"] == "Runtime.ImportModuleError"
    assert "chromalith.lambdas.nothing" in answer.value["errorMessage"]
    assert stage.deltas() == 0


def test_a_missing_setting_is_a_typed_error(stage: Stage) -> None:
    """A function without a bucket starts, and says what to set."""
    bare = replace(stage.function("query"), environment={})
    with sandboxed(bare) as sandbox:
        answer = sandbox.invoke(stage.nearest("id-1"))
    assert answer.how == "error"
    kind, told = error_of(answer.value)
    assert (kind, told["kind"]) == ("Invalid", "invalid")
    assert "CHROMADB_BUCKET" in f"{told['message']} {told['hint']}"
