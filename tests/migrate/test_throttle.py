"""The pace of a copy: records a second, the ceiling of the source's latency, and pauses. Time is a clock that only moves when told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.migrate.memory_side import MemorySide, Row

from chromalith.clock import ManualClock
from chromalith.errors import Conflict
from chromalith.migrate.throttle import ROWS_MIN, Throttle
from chromalith.transfer.port import Definition


class SlowSource:
    """A collection whose reads take so many milliseconds a record, on the test's clock."""

    def __init__(self, clock: ManualClock, records: int, ms_a_record: Callable[[], float]) -> None:
        self.clock = clock
        self.ids_ = [f"id-{n}" for n in range(records)]
        side = MemorySide("source")
        self.inner = side.create("words", Definition.of_space("l2"))
        self.inner.rows = {record_id: Row((1.0,)) for record_id in self.ids_}
        self.ms_a_record = ms_a_record
        self.reads: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def read(self, ids: list[str]) -> object:
        self.reads.append(len(ids))
        self.clock.advance(len(ids) * self.ms_a_record() / 1_000)
        return self.inner.read(ids)


def read_all(throttle: Throttle, source: SlowSource) -> list[str]:
    return [record_id for batch in throttle.read(source, source.ids_) for record_id in batch.ids]  # type: ignore[arg-type]


def test_no_more_records_are_read_in_a_second_than_the_rate() -> None:
    clock = ManualClock()
    source = SlowSource(clock, 1_000, lambda: 0.0)
    began_s = clock.monotonic_s()
    assert read_all(Throttle(clock, rate=100, rows=50), source) == source.ids_
    assert clock.monotonic_s() - began_s >= (1_000 - 50) / 100


def test_without_limits_nothing_waits() -> None:
    clock = ManualClock()
    source = SlowSource(clock, 1_000, lambda: 1.0)
    read_all(Throttle(clock, rows=100), source)
    assert clock.slept_s == 0
    assert source.reads == [100] * 10


def test_reads_above_the_ceiling_become_smaller_until_they_are_below_it() -> None:
    clock = ManualClock()
    source = SlowSource(clock, 5_000, lambda: 1.0)
    throttle = Throttle(clock, max_source_ms=200, rows=1_000)
    assert read_all(throttle, source) == source.ids_
    assert source.reads[0] == 1_000
    later = source.reads[4:]
    assert max(later) <= 250, "a read that just grew may be above it by a quarter, and then shrinks again"


def test_a_source_that_is_slow_even_with_small_reads_gets_rests_as_long_as_its_reads() -> None:
    clock = ManualClock()
    source = SlowSource(clock, 10_000, lambda: 10.0)
    throttle = Throttle(clock, max_source_ms=100, rows=1_000)
    read_all(throttle, source)
    assert min(source.reads[:-1]) == ROWS_MIN, "the last one has what is left"
    small = sum(1 for rows in source.reads if rows == ROWS_MIN)
    assert clock.slept_s == pytest.approx(small * ROWS_MIN * 0.010, rel=0.05)


def test_reads_grow_again_when_the_source_recovers() -> None:
    clock = ManualClock()
    slow = [10.0]
    source = SlowSource(clock, 20_000, lambda: slow[0])
    throttle = Throttle(clock, max_source_ms=200, rows=1_000)
    batches = throttle.read(source, source.ids_)  # type: ignore[arg-type]
    while throttle.rows > ROWS_MIN:
        next(batches)
    slow[0] = 0.01
    for _ in batches:
        pass
    assert throttle.rows == 1_000


def test_a_pause_by_file_lasts_as_long_as_the_file_and_is_told(tmp_path: Path) -> None:
    clock = ManualClock()
    pause = tmp_path / "pause"
    pause.touch()
    ticks = [0]

    def tick() -> str | None:
        ticks[0] += 1
        if ticks[0] == 3:
            pause.unlink()
        return None

    throttle = Throttle(clock, pause_file=pause, tick=tick, rows=10)
    told: list[str | None] = []
    throttle.on_pause = told.append
    source = SlowSource(clock, 10, lambda: 0.0)
    assert read_all(throttle, source) == source.ids_
    assert told == [f"there is a file {pause}", None]


def test_a_pause_by_the_state_lasts_until_it_is_lifted() -> None:
    clock = ManualClock()
    answers: list[str | None] = ["paused", "paused", None]
    throttle = Throttle(clock, tick=lambda: answers.pop(0) if answers else None)
    throttle.admit(1)
    assert answers == []
    assert throttle.paused is None


def test_what_ends_the_copy_ends_a_pause_and_a_rest() -> None:
    clock = ManualClock()

    def tick() -> str | None:
        if clock.monotonic_s() > 5:
            raise Conflict("the migration went on")
        return None

    throttle = Throttle(clock, rate=0.001, tick=tick)
    throttle.admit(1)
    with pytest.raises(Conflict):
        throttle.admit(1)
    assert clock.monotonic_s() < 10, "not through the thousand seconds that the rate asks for"
