"""Shadow reads: whatever the other side does, the caller does not notice, and every read is counted once."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.migrate.shadow_world import LONG_S, new_place, raising, read, settle, shadow
from tests.migrate.test_comparators import NONSENSE, get_answer, query_answer

from chromalith.errors import Invalid, Unavailable
from chromalith.migrate import shadow as shadow_module
from chromalith.migrate.mismatches import Mismatches
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.port import Role
from chromalith.migrate.shadow import ShadowSettings
from chromalith.migrate.shadow_stats import Counts, ShadowStats


def test_a_read_that_both_sides_answer_alike_matches() -> None:
    with shadow() as it:
        it.offer(read(3, lambda: 3))
        settle(it)
        assert it.stats().counts == {("count", "words"): Counts(matches=1)}


@pytest.mark.parametrize(
    "error", [ValueError("text"), Unavailable("gone"), SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_a_target_that_raises_is_counted_and_reaches_nobody(error: BaseException) -> None:
    with shadow() as it:
        it.offer(read(3, lambda: raising(error)))
        settle(it)
        it.offer(read(3, lambda: 3))  # the worker lives
        settle(it)
        assert it.stats().total == Counts(errors=1, matches=1)
        assert it.stats().failures == {type(error).__name__: 1}


@pytest.mark.parametrize("verb", ["query", "get", "count"])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: repr(value)[:40])
def test_a_target_that_answers_nonsense_is_counted_and_reaches_nobody(verb: str, nonsense: Any) -> None:
    sound = {
        "query": query_answer([("a", 0.5)], documents=[["one"]], metadatas=[[{"k": 1}]], embeddings=[[[1.0, 2.0]]]),
        "get": get_answer("a", documents=["one"], metadatas=[{"k": 1}], embeddings=[[1.0, 2.0]]),
        "count": 1,
    }
    place = new_place()
    with shadow(place) as it:
        it.offer(read(sound[verb], lambda: nonsense, verb=verb))
        settle(it)
        assert it.stats().total == Counts(mismatches=1, stored=1)
    assert len(Mismatches(place).newest(10)) == 1


def test_hanging_calls_hold_workers_and_everything_else_is_dropped_and_counted() -> None:
    hang, hanging = threading.Event(), threading.Semaphore(0)

    def target() -> int:
        hanging.release()
        assert hang.wait(LONG_S)
        return 3

    with shadow(settings={"workers": 2, "queue_max": 5, "time_limit_s": 0.01}) as it:
        for _ in range(2):
            it.offer(read(3, target))
            assert hanging.acquire(timeout=LONG_S)
        threading.Event().wait(0.05)
        assert it.stats().total == Counts(timeouts=2)  # before they have ended
        for _ in range(98):
            it.offer(read(3, lambda: 3))
        assert it.stats().total == Counts(timeouts=2, dropped=93)
        assert it.flush(0.0) == 7
        hang.set()
        settle(it)
        assert it.stats().total == Counts(timeouts=2, dropped=93, matches=5)


def test_a_flood_from_many_threads_is_bounded_and_every_read_is_counted() -> None:
    most, lock = [0], threading.Lock()

    def flood(number: int) -> None:
        for _ in range(300):
            it.offer(read(3, lambda: 3, collection=f"c{number % 3}"))
            with lock:
                most[0] = max(most[0], it.flush(0.0))

    with shadow(settings={"queue_max": 10, "workers": 3}) as it:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(flood, range(8)))
        settle(it)
        total = it.stats().total
        assert total.matches + total.dropped == 8 * 300
        assert total.matches > 0
        assert most[0] <= 10 + 3
        assert {collection for _, collection in it.stats().counts} == {"c0", "c1", "c2"}


def test_what_the_caller_does_to_its_answer_and_its_arguments_changes_nothing() -> None:
    begin = threading.Event()
    seen: list[Any] = []
    answer = query_answer([("a", 0.1), ("b", 0.2)], metadatas=[[{"k": ["x", "y"]}, None]], embeddings=[np.eye(2)])
    arguments = {"query_embeddings": [np.array([1.0, 2.0])], "where": {"k": {"$in": ["x"]}}}
    other = query_answer([("a", 0.1), ("b", 0.2)], metadatas=[[{"k": ["x", "y"]}, None]], embeddings=[np.eye(2)])

    def repeat(role: Role, given: Any) -> Any:
        assert begin.wait(LONG_S)
        seen.append(given)
        return other

    offered = replace(read(answer, lambda: None, verb="query", arguments=arguments), repeat=repeat)
    with shadow() as it:
        it.offer(offered)
        answer["ids"][0].clear()
        answer["metadatas"][0][0]["k"].append("z")
        answer["embeddings"][0][:] = 9
        arguments["query_embeddings"][0][:] = 9
        arguments["where"]["k"]["$in"].append("z")
        begin.set()
        settle(it)
        assert it.stats().total == Counts(matches=1)
    assert seen[0]["query_embeddings"][0].tolist() == [1.0, 2.0]
    assert seen[0]["where"] == {"k": {"$in": ["x"]}}


def test_the_callers_answer_is_neither_changed_nor_kept_alive() -> None:
    class Answer(dict[str, Any]):
        pass

    class Column(list[Any]):
        pass

    hang = threading.Event()
    with shadow() as it:
        column = Column(["a"])
        answer = Answer(get_answer("a") | {"ids": column, "embeddings": np.ones((1, 4), np.float32)})
        before = repr(answer)
        kept = [weakref.ref(answer), weakref.ref(column), weakref.ref(answer["embeddings"])]
        held = read(None, lambda: hang.wait(LONG_S), verb="get")
        it.offer(replace(held, answer=answer))
        assert repr(answer) == before
        del answer, column
        gc.collect()
        assert [each() for each in kept] == [None, None, None]
        hang.set()


def test_a_difference_that_is_gone_when_both_are_asked_again_is_lag() -> None:
    place, answers = new_place(), iter([2, 3])
    with shadow(place) as it:
        it.offer(read(3, lambda: next(answers)))
        settle(it)
        assert it.stats().total == Counts(lag=1)
    assert Mismatches(place).count() == 0


def test_an_answer_that_changes_while_it_is_looked_at_again_is_lag() -> None:
    """The source counts up, and the target is always one behind: nobody can say that they differ."""
    counts = iter(range(4, 100))
    with shadow() as it:
        it.offer(read(3, lambda: -5, lambda: next(counts)))
        settle(it)
        assert it.stats().total == Counts(lag=1)


@pytest.mark.parametrize(("distance", "verdict"), [(0.5, "lag"), (0.7, "mismatches")])
def test_ties_of_a_query_without_distances_are_no_mismatch(distance: float, verdict: str) -> None:
    """Which of two equally near records is found is chance; asked again, both sides are asked how far what they found is."""

    def repeat(role: Role, arguments: Any) -> Any:
        ids, far = (["a"], 0.5) if role is Role.SOURCE else (["b"], distance)
        wants = "distances" in arguments["include"]
        return {"ids": [ids], "documents": [["same text"]], "distances": [[far]] if wants else None}

    arguments = {"query_embeddings": [[1.0, 2.0]], "n_results": 1, "include": ["documents"]}
    with shadow() as it:
        answer = repeat(Role.SOURCE, arguments)
        it.offer(ShadowRead("words", "query", arguments, Role.SOURCE, answer, 0.001, repeat))
        settle(it)
        total = it.stats().total
        assert (total.judged, getattr(total, verdict)) == (1, 1)


def test_a_difference_that_stays_is_a_mismatch_and_is_stored() -> None:
    place = new_place()
    with shadow(place, client="me") as it:
        it.begin(7)
        it.offer(read(3, lambda: 2))
        settle(it)
        assert it.stats().total == Counts(mismatches=1, stored=1)
    (record,) = Mismatches(place).newest(10)
    assert (record["verb"], record["collection"], record["side"]) == ("count", "words", "source")
    assert (record["client"], record["since"]) == ("me", 7)
    assert record["answers"] == {"source": 3, "target": 2}
    assert [each["what"] for each in record["differences"]] == ["count"]


def test_a_source_that_fails_when_asked_again_is_not_the_targets_fault() -> None:
    with shadow() as it:
        it.offer(read(3, lambda: 2, lambda: raising(Unavailable("gone"))))
        settle(it)
        assert it.stats().total == Counts(dropped=1)
        assert it.stats().failures == {}


def test_more_differences_than_can_be_looked_at_again_are_counted_as_such() -> None:
    with shadow(settings={"queue_max": 3, "recheck_s": LONG_S}) as it:
        for _ in range(10):
            it.offer(read(3, lambda: 2))
            while it.flush(0.01) > 3:
                pass
        while it.stats().total.unchecked < 7:
            it.flush(0.01)
        assert it.stats().total == Counts(unchecked=7)
        it.close()
        assert it.stats().total == Counts(unchecked=7, dropped=3)


def test_a_store_that_fails_costs_the_stored_mismatch_only() -> None:
    place = new_place()
    broken = replace(place, store=_Broken(place.store))
    with shadow(broken) as it:
        it.offer(read(3, lambda: 2))
        settle(it)
        assert it.stats().total == Counts(mismatches=1, not_stored=1)


class _Broken:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def list(self, prefix: str, *, start_after: str = "") -> Any:
        raise Unavailable("gone")


def test_workers_stop_when_their_share_of_the_processor_is_used_up() -> None:
    used_s = iter(range(0, 10**9, 10**6))  # each read takes eleven days
    with shadow(settings={"cpu_share_max": 0.5}, cpu_s=lambda: next(used_s)) as it:
        it.offer(read(3, lambda: 3))
        settle(it)
        for _ in range(10):
            it.offer(read(3, lambda: 3))
        assert it.flush(0.05) == 10
        assert it.stats().total == Counts(matches=1)
        it.close()
        assert it.stats().total == Counts(matches=1, dropped=10)


def test_a_read_that_waited_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "WAIT_MAX_S", -1.0)
    with shadow() as it:
        it.offer(read(3, lambda: 3))
        settle(it)
        assert it.stats().total == Counts(dropped=1)


def test_an_answer_that_is_too_large_is_not_kept() -> None:
    with shadow() as it:
        it.offer(read(get_answer("a", documents=["x" * 10**7]), lambda: None, verb="get"))
        it.offer(read(get_answer("a", embeddings=np.zeros((1, 10**6), np.float32)), lambda: None, verb="get"))
        settle(it)
        assert it.stats().total == Counts(too_large=2)


@pytest.mark.parametrize(
    "offered",
    [None, object(), replace(read(1, lambda: 1), arguments=object()), read(1, lambda: 1, verb="x")],
    ids=["nothing", "object", "arguments", "verb"],
)
def test_offer_raises_nothing_whatever_is_offered(offered: Any) -> None:
    with shadow() as it:
        it.offer(offered)
        it.note("count", Role.SOURCE, float("nan"))
        settle(it)


def test_after_close_nothing_is_taken_and_what_waited_is_counted() -> None:
    hang, hanging = threading.Event(), threading.Event()
    with shadow(settings={"workers": 1}) as it:
        it.offer(read(3, lambda: hanging.set() or (hang.wait(LONG_S) and 3)))
        assert hanging.wait(LONG_S)
        it.offer(read(3, lambda: 3))
        it.close()
        it.close()
        it.offer(read(3, lambda: 3))
        assert it.stats().total == Counts(dropped=1)
        hang.set()
        settle(it)
        assert it.stats().total == Counts(dropped=1, matches=1)


def test_counting_begins_anew_when_the_state_says_so() -> None:
    with shadow() as it:
        it.offer(read(3, lambda: 3))
        settle(it)
        it.begin(0)
        assert it.stats().total == Counts(matches=1)
        it.begin(4)
        assert it.stats() == ShadowStats(since=4)


def test_latencies_are_kept_of_all_reads_and_of_pairs() -> None:
    with shadow() as it:
        it.note("get", Role.SOURCE, 0.5)
        it.note("get", Role.TARGET, 0.25)
        it.offer(read(3, lambda: 3))
        settle(it)
        stats = it.stats()
    assert {key: each.total for key, each in stats.reads.items()} == {("get", role): 1 for role in Role}
    assert {key: each.total for key, each in stats.pairs.items()} == {("count", role): 1 for role in Role}
    assert stats.latency(Role.SOURCE, "get").percentile_s(50) == pytest.approx(0.5, rel=0.1)
    assert stats.latency(Role.SOURCE, "count").percentile_s(50) == pytest.approx(0.001, rel=0.1)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Invalid, match="workers=0"):
        ShadowSettings(workers=0)


ENDING = """
import threading
from tests.migrate.shadow_world import LONG_S, read, shadow
hanging = threading.Event()
def target():
    hanging.set()
    threading.Event().wait()
context = shadow()
it = context.__enter__()
it.offer(read(3, target))
assert hanging.wait(LONG_S)
{then}
print("the end")
"""
FORKING = """
import os
child = os.fork()
if child == 0:
    it.offer(read(3, lambda: 3))
    assert it.stats().total.judged == 0
    it.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.parametrize(
    "then", ["", "it.close()", "del it, context", FORKING], ids=["open", "closed", "gone", "forked"]
)
def test_a_hanging_call_does_not_keep_a_process_from_ending(then: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ENDING.format(then=then)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
