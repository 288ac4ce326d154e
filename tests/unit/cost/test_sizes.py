"""The sizes of a bill are those of what the code writes, within a fifth."""

from __future__ import annotations

import numpy as np
import pytest
from tests.worlds import NEVER, World

from chromalith.compaction.compactor import CompactionSettings
from chromalith.cost import sizes
from chromalith.cost.merging import merging, rewritten_by_updates
from chromalith.model.plan import MergePolicy, plan_merges
from chromalith.store.wrappers import CountingStore

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz     "))


@pytest.mark.parametrize(("rows", "dimension", "text"), [(1, 384, 200), (50, 384, 200), (1_000, 768, 1_000), (1_000, 128, 0)])
def test_deltas_and_segments(rows: int, dimension: int, text: int) -> None:
    """One call, and the segment that its fold writes, with an index and without."""
    chance = np.random.default_rng(1)
    ids = [f"record-{number:08d}" for number in range(rows)]
    columns = {"documents": ["".join(chance.choice(LETTERS, text)) for _ in ids]} if text else {}
    embeddings = chance.standard_normal((rows, dimension), dtype=np.float32)
    for threshold in (1, NEVER):
        with World() as world:
            written = world.writer().write(world.cid, "upsert", ids, embeddings, **columns)
            assert written.bytes == pytest.approx(sizes.delta_bytes(rows, dimension, text), rel=0.2)
            world.clock.advance(61)
            world.compactor(settings=CompactionSettings(heartbeat=False, index_threshold=threshold)).run_once(world.cid)
            stored = world.current().bytes
            if rows > 1:  # below that, it is the formats' own bytes, which a bill does not see
                expected = 3_000 + rows * sizes.record_bytes(dimension, text, indexed=threshold == 1)
                assert stored == pytest.approx(expected, rel=0.2)


def test_what_a_publish_writes() -> None:
    """Manifest, pointer and checksums by bucket, with several segments."""
    with World() as world:
        store = CountingStore(world.store)
        settings = CompactionSettings(heartbeat=False, merge=MergePolicy(fan_in=64))
        for number in range(10):
            world.upsert([f"a{number}"], number)
            world.clock.advance(61)
            world.compactor(store, settings).run_once(world.cid)
        segment = world.current().segments[-1].bytes
        store.reset()
        world.upsert(["b"], 1)
        world.clock.advance(61)
        world.compactor(store, settings).run_once(world.cid)
        assert store.counts.bytes_written - segment == pytest.approx(sizes.publish_bytes(11, with_buckets=True), rel=0.2)


def test_the_merges_are_those_of_the_compactor() -> None:
    """A real compactor's folds of ten records merge as often, and as much, as the model says."""
    policy = MergePolicy(fan_in=4, rows_floor=50)
    with World() as world:
        compactor = world.compactor(settings=CompactionSettings(heartbeat=False, merge=policy))
        merged, folds = 0, 30
        for number in range(folds):
            world.upsert([f"{number}-{i}" for i in range(10)], number)
            world.clock.advance(61)
            merged += compactor.run_once(world.cid).merged
        expected = merging(10, folds * 10, policy)
        assert merged == pytest.approx(folds * expected.inputs, rel=0.15)
        assert plan_merges(world.current().segments, policy) == []


def test_a_larger_collection_costs_one_rewrite_for_each_tier() -> None:
    """Eight times the records are one more time that each row is written; above the largest segment, none."""
    small, large = merging(1_000, 8_000 * 64), merging(1_000, 8_000 * 512)
    assert small.rows / 1_000 <= large.rows / 1_000 <= small.rows / 1_000 + 1.5
    assert merging(1_000, 100_000_000).rows == pytest.approx(merging(1_000, 50_000_000).rows)


def test_updates_rewrite_what_is_left_of_a_segment() -> None:
    """A segment is written again when a fifth of it is dead: four rows for each that died."""
    assert rewritten_by_updates() == pytest.approx(4.0)
    assert rewritten_by_updates(MergePolicy(deleted_fraction_max=0.5)) == pytest.approx(1.0)
