"""Each wrapper changes one thing, and the retry table is what is retried."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.store.memory import MemoryStore, forget_memory_store, named_memory_store
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, PreconditionFailed, Store
from chromalith.store.probe import probe
from chromalith.store.retry import RetryingStore, RetryPolicy
from chromalith.store.wrappers import CountingStore, DelegatingStore, LatencyStore, PrefixStore
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls, at_random, at_verb

VERBS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("key"),
    "get_if_changed": lambda store: store.get_if_changed("key", "x"),
    "get_range": lambda store: store.get_range("key", 0, 1),
    "head": lambda store: store.head("key"),
    "list": lambda store: list(store.list("k")),
    "put": lambda store: store.put("key", b"new"),
    "delete": lambda store: store.delete("key"),
    "copy": lambda store: store.copy("key", "other"),
}


def filled(clock: ManualClock) -> MemoryStore:
    store = MemoryStore(clock)
    store.put("key", b"body")
    return store


@pytest.mark.parametrize("verb", VERBS)
def test_what_failed_and_may_be_repeated_is_repeated_until_it_works(verb: str) -> None:
    clock = ManualClock()
    plain, inner = VERBS[verb](filled(ManualClock())), filled(clock)
    faulty = FaultyStore(inner, at_calls({1: Fault.BEFORE, 2: Fault.LOST}), clock)
    result = VERBS[verb](RetryingStore(faulty, clock))
    assert len(faulty.calls) == 3
    assert 0 < clock.slept_s < 0.1 + 0.2
    if verb not in ("put", "copy", "delete"):
        assert result == plain


@pytest.mark.parametrize("verb", VERBS)
def test_attempts_are_bounded_and_the_last_error_is_raised(verb: str) -> None:
    clock = ManualClock()
    faulty = FaultyStore(filled(clock), lambda call: Fault.BEFORE, clock)
    with pytest.raises(Unavailable):
        VERBS[verb](RetryingStore(faulty, clock, RetryPolicy(attempts=4)))
    assert len(faulty.calls) == 4


@pytest.mark.parametrize("condition", [Absent(), Matches("x")])
def test_a_conditional_put_is_repeated_only_when_it_was_certainly_not_applied(condition: Condition) -> None:
    clock = ManualClock()
    inner = MemoryStore(clock)
    faulty = FaultyStore(inner, at_calls({1: Fault.BEFORE, 2: Fault.LOST}), clock)
    with pytest.raises(Unknown):
        RetryingStore(faulty, clock).put("new", b"x", condition)
    assert len(faulty.calls) == 2


def test_a_lost_reply_among_the_failures_makes_the_outcome_unknown() -> None:
    clock = ManualClock()
    faulty = FaultyStore(MemoryStore(clock), lambda call: Fault.LOST if call.number == 1 else Fault.BEFORE, clock)
    with pytest.raises(Unknown):
        RetryingStore(faulty, clock).put("key", b"x")


@pytest.mark.parametrize("error", [NotFound("x"), PreconditionFailed("x"), Invalid("x")])
def test_answers_are_not_retried(error: ChromalithError) -> None:
    clock = ManualClock()

    class Answering(DelegatingStore):
        calls = 0

        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            self.calls += 1
            raise error

    store = Answering(MemoryStore(clock))
    with pytest.raises(type(error)):
        RetryingStore(store, clock).put("key", b"x")
    assert (store.calls, clock.slept_s) == (1, 0)


def test_a_listing_goes_on_after_the_last_key_when_a_later_page_fails() -> None:
    clock = ManualClock()
    inner = MemoryStore(clock)
    keys = [f"k/{number:05d}" for number in range(2_500)]
    for key in keys:
        inner.put(key, b"")
    faulty = FaultyStore(inner, at_calls({2: Fault.BEFORE, 3: Fault.BEFORE, 5: Fault.LOST}), clock)
    pages = list(RetryingStore(faulty, clock).list("k/"))
    assert [entry.key for page in pages for entry in page] == keys
    assert [len(page) for page in pages] == [1_000, 1_000, 500]


def test_waits_double_up_to_a_cap_with_full_jitter() -> None:
    policy, clock = RetryPolicy(base_s=0.1, cap_s=1.0), ManualClock(seed=3)
    for failures, most in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (60, 1.0)):
        waits = [policy.wait_s(failures, clock) for _ in range(300)]
        assert 0 <= min(waits) < 0.1 * most
        assert 0.9 * most < max(waits) <= most


def test_counting_counts_requests_kinds_and_bytes() -> None:
    store = CountingStore(MemoryStore(SYSTEM_CLOCK))
    store.put("delta/a", b"12345")
    etag = store.put("delta/b", b"123")
    with pytest.raises(PreconditionFailed):
        store.put("delta/b", b"x", Absent())
    store.get("delta/a")
    assert store.get_if_changed("delta/b", etag) is None
    store.get_range("delta/a", 0, 2)
    list(store.list("delta/"))
    list(store.list("nothing/"))
    assert store.counts.requests == Counter({"put": 3, "list": 2, "get": 1, "get_if_changed": 1, "get_range": 1})
    assert store.counts.kinds["put", "delta"] == 3
    assert store.counts.kinds["list", "nothing"] == 1
    assert (store.counts.bytes_written, store.counts.bytes_read, store.counts.total) == (9, 7, 8)
    assert store.reset().total == 8
    assert store.counts.total == 0


def test_each_page_of_a_listing_counts() -> None:
    inner = MemoryStore(SYSTEM_CLOCK)
    for number in range(2_000):
        inner.put(f"{number:05d}", b"")
    store = CountingStore(inner)
    assert sum(len(page) for page in store.list("")) == 2_000
    assert store.counts.requests["list"] == 2
    next(store.list(""))
    assert store.counts.requests["list"] == 3


def test_latency_is_added_to_each_request_and_bytes_take_time() -> None:
    clock = ManualClock()
    store = LatencyStore(MemoryStore(clock), clock, 0.1, bytes_per_s=1_000)
    store.put("key", b"x" * 500)
    assert clock.slept_s == pytest.approx(0.6)
    store.get("key")
    assert clock.slept_s == pytest.approx(1.2)
    list(store.list(""))
    assert clock.slept_s == pytest.approx(1.3)


def test_a_prefix_hides_itself_and_the_neighbours() -> None:
    inner = MemoryStore(SYSTEM_CLOCK)
    store = PrefixStore(inner, "a/b")
    store.put("key", b"x")
    inner.put("a/b-neighbour", b"x")
    inner.put("a/bb/key", b"x")
    assert [entry.key for page in inner.list("") for entry in page] == ["a/b-neighbour", "a/b/key", "a/bb/key"]
    assert [entry.key for page in store.list("") for entry in page] == ["key"]
    assert store.get("key").key == store.head("key").key == "key"
    assert store.url == f"{inner.url}/a/b"


def test_a_named_memory_store_is_shared_until_it_is_forgotten() -> None:
    name = SYSTEM_CLOCK.random_hex(8)
    first = named_memory_store(name, SYSTEM_CLOCK)
    assert named_memory_store(name, SYSTEM_CLOCK) is first
    forget_memory_store(name)
    assert named_memory_store(name, SYSTEM_CLOCK) is not first
    assert MemoryStore(SYSTEM_CLOCK).url != MemoryStore(SYSTEM_CLOCK).url


def test_a_store_refuses_to_work_in_a_forked_child() -> None:
    """In a process of its own: this one may have threads that do not survive a fork."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split("\n") == [*["open the store again in this process"] * 10, "parent: x", ""], run.stdout


FORK = """
import os
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid
from chromalith.store.memory import MemoryStore
from chromalith.store.wrappers import ProcessBoundStore
store = ProcessBoundStore(MemoryStore(SYSTEM_CLOCK))
store.put("key", b"x")
uses = [
    lambda: store.get("key"), lambda: store.get_if_changed("key", "x"), lambda: store.get_range("key", 0, 1),
    lambda: store.head("key"), lambda: list(store.list("")), lambda: store.put("key", b"y"), lambda: store.delete("key"),
    lambda: store.copy("key", "other"), lambda: store.url, lambda: store.settle_s,
]
child = os.fork()
if child == 0:
    for use in uses:
        try:
            use()
            print("it worked", flush=True)
        except Invalid as error:
            print(error.hint.partition(";")[0], flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent:", store.get("key").body.decode())
"""


def test_faults_strike_where_the_script_says() -> None:
    clock = ManualClock()
    inner = MemoryStore(clock)
    store = FaultyStore(
        inner, at_verb("put", Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.DELAY, key_prefix="a"), clock
    )
    store.put("b", b"x")
    with pytest.raises(Crash):
        store.put("a", b"1")
    assert [entry.key for page in inner.list("") for entry in page] == ["b"]
    with pytest.raises(Crash):
        store.put("a", b"2")
    assert inner.get("a").body == b"2"
    store.put("a", b"3")
    assert clock.slept_s == 1.0
    assert [(call.number, fault) for call, fault in store.struck] == [
        (2, Fault.CRASH_BEFORE), (3, Fault.CRASH_AFTER), (4, Fault.DELAY),
    ]  # fmt: skip
    assert not isinstance(Crash(), Exception)


def test_a_late_request_lands_when_it_is_due_and_its_condition_is_judged_then() -> None:
    clock = ManualClock()
    inner = MemoryStore(clock)
    store = FaultyStore(inner, at_calls({1: Fault.LATE, 2: Fault.LATE}), clock, late_calls=2)
    for key in ("a", "b"):
        with pytest.raises(Unknown):
            store.put(key, b"late", Absent())
    inner.put("b", b"meanwhile")
    store.head("b")
    assert inner.get("a").body == b"late"
    store.head("b")
    assert inner.get("b").body == b"meanwhile"


def test_random_faults_repeat_with_the_seed_and_follow_their_rates() -> None:
    def struck(seed: int) -> list[tuple[int, Fault]]:
        clock = ManualClock(seed=seed)
        store = FaultyStore(filled(clock), at_random(clock, {Fault.BEFORE: 0.3, Fault.LATE: 0.2}), clock)
        for _ in range(400):
            with suppress(Unavailable):
                store.head("key")
        return [(call.number, fault) for call, fault in store.struck]

    assert struck(1) == struck(1) != struck(2)
    assert {fault for _, fault in struck(1)} == {Fault.BEFORE}, "late strikes writes only"
    assert 80 < len(struck(1)) < 160


class IgnoresAbsent(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return super().put(key, body, None if isinstance(condition, Absent) else condition)


class IgnoresMatches(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return super().put(key, body, None if isinstance(condition, Matches) else condition)


class IgnoresMatchesOfAbsent(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        try:
            return super().put(key, body, condition)
        except PreconditionFailed:
            if isinstance(condition, Matches) and "nothing" in key:
                return super().put(key, body)
            raise


class LetsTwoWin(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        try:
            return super().put(key, body, condition)
        except PreconditionFailed:
            if key.endswith("/race"):
                return "also won"
            raise


class NeverUnchanged(DelegatingStore):
    def get_if_changed(self, key: str, etag: ETag) -> None:
        return None


class ForgetsToDelete(DelegatingStore):
    def delete(self, key: str) -> None:
        pass


class ClockGoesBack(DelegatingStore):
    def head(self, key: str) -> Entry:
        entry = super().head(key)
        return Entry(entry.key, entry.size, entry.etag, 10**15 - entry.modified_us)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (IgnoresAbsent, "absent"), (IgnoresMatches, "matches"), (IgnoresMatchesOfAbsent, "matches"), (LetsTwoWin, "race"),
        (NeverUnchanged, "conditional_get"), (ForgetsToDelete, "delete"), (ClockGoesBack, "timestamps"),
    ],
)  # fmt: skip
def test_a_probe_refuses_a_store_that_breaks_a_promise(broken: type[DelegatingStore], check: str) -> None:
    inner = MemoryStore(SYSTEM_CLOCK)
    with pytest.raises(Invalid, match=f"check={check} ") as caught:
        probe(broken(inner), SYSTEM_CLOCK)
    assert "must not be used" in str(caught.value.hint)
    if broken is not ForgetsToDelete:
        assert list(inner.list("")) == []


def test_a_probe_passes_a_good_store_and_leaves_nothing(any_store: Store) -> None:
    report = probe(any_store, SYSTEM_CLOCK)
    assert report.checks[-1] == "delete"
    assert (report.url, report.settle_s, report.whole_seconds) == (any_store.url, 0, False)
    assert list(any_store.list("")) == []
    assert report.as_json()["checks"] == list(report.checks)
