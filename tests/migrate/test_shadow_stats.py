"""Statistics of shadow reads: sums over processes are exact, in any order, and survive JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.clock import ManualClock
from chromalith.errors import Corrupt
from chromalith.migrate.latencies import BUCKETS, Histogram, bucket
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_count import Counting
from chromalith.migrate.shadow_stats import MINUTES_MAX, Counts, ShadowStats, Verdicts, summed
from chromalith.migrate.workflow.parts import shadow_seen

durations = st.lists(st.floats(0, 600, allow_nan=False), max_size=30)
verbs = st.sampled_from(["get", "query", "count"])
histograms = st.builds(Histogram, st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 99), max_size=4))
latencies = st.dictionaries(st.tuples(verbs, st.sampled_from(Role)), histograms, max_size=3)
counts = st.builds(Counts, **{each.name: st.integers(0, 9) for each in fields(Counts)})
stats = st.builds(
    ShadowStats,
    since=st.integers(0, 2),
    counts=st.dictionaries(st.tuples(verbs, st.sampled_from("abc")), counts, max_size=3),
    failures=st.dictionaries(st.sampled_from("xyz"), st.integers(1, 9), max_size=2),
    reads=latencies,
    pairs=latencies,
    minutes=st.dictionaries(st.integers(0, 9), st.builds(Verdicts, st.integers(0, 99), st.integers(0, 9)), max_size=3),
)


def histogram(values: list[float]) -> Histogram:
    return reduce(add, (Histogram({bucket(value): 1}) for value in values), Histogram())


@settings(deadline=None)
@given(durations, durations)
def test_the_sum_of_two_histograms_is_the_histogram_of_both(one: list[float], other: list[float]) -> None:
    assert histogram(one) + histogram(other) == histogram(one + other)
    assert (histogram(one) + histogram(other)).total == len(one) + len(other)


@settings(deadline=None)
@given(st.lists(st.floats(0.0002, 300), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_right_to_within_ten_percent(values: list[float], percent: int) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    assert histogram(values).percentile_s(percent) == pytest.approx(exact, rel=0.1)


@settings(deadline=None)
@given(st.floats())
def test_every_float_has_a_bucket(value: float) -> None:
    assert 0 <= bucket(value) < BUCKETS
    assert bucket(value) == (0 if math.isnan(value) or value < 0 else bucket(abs(value)))


def test_no_calls_have_no_percentile() -> None:
    assert Histogram().percentile_s(50) is None


@settings(deadline=None)
@given(stats)
def test_statistics_survive_json(value: ShadowStats) -> None:
    assert ShadowStats.decode(json.loads(json.dumps(value.encode()))) == value


@settings(deadline=None)
@given(st.lists(stats, max_size=4), st.randoms())
def test_the_order_of_a_sum_does_not_matter(values: list[ShadowStats], chance: Any) -> None:
    shuffled = list(values)
    chance.shuffle(shuffled)
    assert summed(shuffled) == summed(values)


@settings(deadline=None)
@given(st.lists(stats, min_size=1, max_size=4))
def test_only_those_that_count_since_the_newest_moment_are_summed(values: list[ShadowStats]) -> None:
    newest = max(each.since for each in values)
    total = summed(values)
    assert total.since == newest
    assert total.total == sum((each.total for each in values if each.since == newest), Counts())


@pytest.mark.parametrize(
    "value", [{}, {"since": "x"}, [], {"since": 1, "counts": [{}], "failures": {}, "reads": [], "pairs": []}], ids=repr
)
def test_what_is_no_statistics_is_corrupt(value: Any) -> None:
    with pytest.raises(Corrupt):
        ShadowStats.decode(value)


@pytest.mark.parametrize("value", [{"88": 1}, {"-1": 1}, {"0": -1}, {"x": 1}, [1]], ids=repr)
def test_what_is_no_histogram_is_corrupt(value: Any) -> None:
    with pytest.raises(Corrupt):
        Histogram.decode(value)


def test_an_agreement_counts_what_the_caller_would_not_have_got() -> None:
    found = Counts(matches=90, lag=5, mismatches=1, unchecked=1, errors=2, timeouts=1, dropped=50, too_large=3)
    assert (found.compared, found.judged, found.disagreed) == (97, 100, 5)
    assert found.agreement == pytest.approx(0.95)
    assert Counts(dropped=5).agreement is None


def test_a_surge_shows_behind_a_long_time_without_any() -> None:
    """100,000 reads that agreed, then half of 40 that did not: the sum would allow it, the latest minute does not."""
    clock = ManualClock()
    counting, wanted = Counting(clock), ShadowRead("words", "get", {}, Role.SOURCE, None, 0.0, lambda side, arguments: None)

    def judged(what: str, times: int) -> None:
        for _ in range(times):
            counting.add(wanted, what)

    for _ in range(100):
        judged("matches", 100)
        clock.advance(60)
    judged("mismatches", 3)
    assert counting.stats().lately == Verdicts()
    judged("lag", 20)
    judged("errors", 17)
    judged("dropped", 500)
    stats = ShadowStats.decode(json.loads(json.dumps(counting.stats().encode())))
    assert stats.lately == Verdicts(40, 20)
    assert stats.total.agreement is not None
    assert stats.total.agreement > 0.99
    assert len(stats.minutes) == MINUTES_MAX
    assert shadow_seen(stats).lately_rate == 0.5
    clock.advance(60)
    judged("matches", 6_000)
    assert counting.stats().lately.rate < 0.01


def test_what_an_ended_process_saw_long_ago_is_not_lately() -> None:
    """Of a sum, too, the newest minutes count, in whatever order it is made."""
    old = ShadowStats(minutes={minute: Verdicts(10, 10) for minute in range(5)})
    good = {minute: Verdicts(100, 0) for minute in range(1_000, 1_000 + MINUTES_MAX)}
    some, others = (ShadowStats(minutes={at: each for at, each in good.items() if at % 2 == odd}) for odd in (0, 1))
    assert (old + some).lately.disagreed == 50
    for whole in (old + some + others, some + (others + old), others + (old + some)):
        assert whole.minutes == good
        assert whole.lately == Verdicts()


def test_a_client_of_an_earlier_release_says_nothing_of_minutes() -> None:
    value = ShadowStats(1, {("get", "words"): Counts(matches=3)}).encode()
    del value["minutes"]
    assert ShadowStats.decode(value).total.judged == 3


def test_latencies_of_pairs_come_before_those_of_all_reads() -> None:
    slow, fast = histogram([1.0]), histogram([0.01])
    pairs = {("get", Role.SOURCE): fast}
    value = ShadowStats(reads={("get", Role.SOURCE): slow, ("count", Role.TARGET): slow}, pairs=pairs)
    assert value.latency(Role.SOURCE) == fast
    assert value.latency(Role.TARGET) == slow
    assert value.latency(Role.TARGET, "get") == Histogram()
