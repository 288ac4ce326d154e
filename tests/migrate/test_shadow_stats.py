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

from chromalith.errors import Corrupt
from chromalith.migrate.latencies import BUCKETS, Histogram, bucket
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_stats import Counts, ShadowStats, summed

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


def test_latencies_of_pairs_come_before_those_of_all_reads() -> None:
    slow, fast = histogram([1.0]), histogram([0.01])
    pairs = {("get", Role.SOURCE): fast}
    value = ShadowStats(reads={("get", Role.SOURCE): slow, ("count", Role.TARGET): slow}, pairs=pairs)
    assert value.latency(Role.SOURCE) == fast
    assert value.latency(Role.TARGET) == slow
    assert value.latency(Role.TARGET, "get") == Histogram()
