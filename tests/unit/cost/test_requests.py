"""The formulas of a bill are the counts of the real code: each step is made once, counted at the store, and compared."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws
from tests.dynamo_place import create_table
from tests.worlds import NEVER, World

from chromalith.aws.dynamodb_lease import DynamoLeases
from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.compaction.hinted import consume
from chromalith.compaction.outcome import Outcome
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.cost.model import GRACE_S
from chromalith.cost.requests import (
    IDLE_TICK,
    LEASED_FOLD,
    LEASED_LOOK,
    LEASED_MERGE,
    POINTER_READ,
    TABLE_INSTEAD,
    WARM_READ,
    WRITE,
    Requests,
    fold,
    look,
    lookup,
    merge,
    told,
)
from chromalith.model.hint import Hint
from chromalith.model.plan import MergePolicy
from chromalith.read.reader import ReadLevel
from chromalith.store.wrappers import CountingStore, Counts

ALONE = MergePolicy(fan_in=64, rows_floor=NEVER, deleted_fraction_max=1)


def charged(counts: Counts) -> Requests:
    """What a bill would say of these requests: HEAD, ranges and conditional GETs are charged as GET."""
    made = counts.requests
    gets = made["get"] + made["get_if_changed"] + made["get_range"] + made["head"]
    return Requests(made["put"] + made["copy"], made["list"], gets, made["delete"])


class Counted:
    """One process that compacts, and what its last run asked of the store. Deltas settle, and graces end, before each run."""

    def __init__(self, world: World, policy: MergePolicy = ALONE, **settings: Any) -> None:
        self.world = world
        self.store = CountingStore(world.store)
        self.compactor = world.compactor(self.store, CompactionSettings(merge=policy, heartbeat=False, **settings))

    def run(self) -> tuple[Requests, Outcome]:
        self.world.clock.advance(61)
        self.store.reset()
        outcome = self.compactor.run_once(self.world.cid)
        return charged(self.store.reset()), outcome


def test_the_grace_of_the_model_is_the_compactors() -> None:
    """Folded deltas stay as long as the model says."""
    assert CompactionSettings().fold_grace_s == GRACE_S


def test_writes_reads_and_idle_ticks() -> None:
    """A write, a warm read at each level, and a tick with nothing to do."""
    with World() as world:
        store = CountingStore(world.store)
        writer = world.writer(store)
        world.upsert("a", 1, writer=writer)
        store.reset()
        world.upsert("ab", 2, writer=writer)
        assert charged(store.reset()) == WRITE
        world.clock.advance(61)
        world.compact()
        world.clock.advance(61)
        world.compact()
        assert (world.compactor(store).waiting(), charged(store.reset())) == ([], IDLE_TICK)
        session = world.session(store, max_staleness_s=10)
        for level, expected in ((ReadLevel.INDEX_AND_WAL, WARM_READ), (ReadLevel.INDEX_ONLY, POINTER_READ)):
            session.view(world.cid, level).query(np.zeros((1, 3), np.float32), 1)
            world.clock.advance(11)
            store.reset()
            session.view(world.cid, level).query(np.zeros((1, 3), np.float32), 1)
            assert charged(store.reset()) == expected
        session.view(world.cid, ReadLevel.INDEX_ONLY).get()
        assert charged(store.reset()) == Requests(), "within its bound a weaker read asks for nothing"


@pytest.mark.parametrize("deltas", [1, 3, 20])
def test_folds_and_looks(deltas: int) -> None:
    """A fold of new ids, one that also deletes what was folded before, and a look that finds nothing new."""
    with World() as world:
        counted = Counted(world)
        world.upsert("a", 1)
        counted.run()
        counted.run()
        for number in range(deltas):
            world.upsert([f"b{number}"], number)
        made, outcome = counted.run()
        assert (made, outcome.folded) == (fold(deltas), deltas)
        for number in range(deltas):
            world.upsert([f"c{number}"], number)
        made, outcome = counted.run()
        assert (made, outcome.folded, outcome.swept) == (fold(deltas, swept=deltas), deltas, deltas)
        made, outcome = counted.run()
        assert (made, outcome.folded, outcome.swept) == (look(deltas), 0, deltas)


def test_a_fold_that_touches_older_segments() -> None:
    """Each segment in which a row dies gets a new deletes object; small id tables and records are one GET each."""
    with World() as world:
        counted = Counted(world)
        for name in "abc":
            world.upsert([f"{name}1", f"{name}9"], 1)
            counted.run()
        world.upsert(["a1", "c9"], 5)
        made, outcome = counted.run()
        assert outcome.operations == 2
        assert made.puts == fold(1, touched=2).puts
        assert made.lists == fold(1).lists
        assert fold(1).gets < made.gets <= fold(1, lookups=2 * 2).gets


def test_a_fold_with_an_index() -> None:
    """An index is one object more."""
    with World() as world:
        counted = Counted(world, index_threshold=2)
        world.upsert("abcd", 1)
        counted.run()
        world.upsert(["x", "y", "z"], 2)
        made, _ = counted.run()
        assert made == fold(1, swept=1, indexed=1)


@pytest.mark.parametrize("ages", [[5.2], [5, 3, 1], [5, 4, 3, 2, 1, 0.5, 0], [0]])
def test_a_run_by_hints(ages: list[float]) -> None:
    """Deltas of these ages are folded at once, when the youngest has settled; then it is looked what is done."""
    with World(remote=True) as world:
        counted = Counted(world)
        world.upsert("x", 1)
        counted.run()
        counted.run()
        messages = []
        for number, (age, before) in enumerate(zip(ages, [ages[0], *ages], strict=False)):
            world.clock.advance(before - age)
            wrote = world.upsert([f"a{number}"], 1)
            messages.append((str(number), Hint(wrote.collection, wrote.delta, wrote.rows, wrote.bytes).encode()))
        world.clock.advance(ages[-1])
        counted.store.reset()
        consumed = consume(messages, counted.compactor, counted.store, world.clock, time_left=lambda: 600)
        assert len(consumed.done) == len(ages)
        assert charged(counted.store.reset()) == fold(len(ages)) + told()


@pytest.mark.parametrize("inputs", [2, 4])
def test_merges(inputs: int) -> None:
    """A fold with the merge that it causes."""
    with World() as world:
        counted = Counted(world, MergePolicy(fan_in=inputs, rows_floor=NEVER, deleted_fraction_max=1))
        for number in range(inputs - 1):
            world.upsert([f"a{number}"], 1)
            counted.run()
        world.upsert(["b"], 1)
        made, outcome = counted.run()
        assert outcome.merged == inputs
        assert made == fold(1, swept=1) + merge(inputs)


@pytest.mark.parametrize(("rows", "known"), [(1, False), (40, False), (400, False), (40, True), (300, True)])
def test_lookups_of_spread_ids(rows: int, known: bool) -> None:
    """With ids of chance, a fold looks into every older segment: as many GETs as the formula expects, within a fifth."""
    chance = random.Random(7)

    def ids(count: int) -> list[str]:
        return [f"{chance.getrandbits(128):032x}" for _ in range(count)]

    with World() as world:
        counted = Counted(world, index_threshold=NEVER)
        writer = world.writer()
        stored = [ids(9_000) for _ in range(2)]

        def write(names: Sequence[str]) -> None:
            writer.write(world.cid, "upsert", list(names), np.full((len(names), 3), len(names), np.float32))

        for names in stored:
            write(names)
            counted.run()
        touched = chance.sample(stored[0] + stored[1], rows) if known else ids(rows)
        write(touched)
        made, outcome = counted.run()
        assert outcome.operations == rows
        expected = 2 * lookup(rows, 9_000, hits=rows / 2 if known else 0)
        assert made.gets - fold(1).gets == pytest.approx(expected, rel=0.2, abs=3)


class CountingLeases(DynamoLeases):
    """Leases in a table, whose requests are counted."""

    asked: Counter[str]

    def _ask(self, verb: str, request: Mapping[str, Any], *, changes: bool) -> Any:
        self.asked[verb] += 1
        return super()._ask(verb, request, changes=changes)


def test_leases_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fold, a look and a merge ask of the table, and what they then ask of the store."""
    for name, value in (("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    with mock_aws(), World() as world:
        table = create_table(boto3.client("dynamodb", region_name="us-east-1"))
        store = CountingStore(world.store)
        leases = CountingLeases(table, {"region": "us-east-1"}, store, world.clock)
        leases.asked = Counter()
        settings = CompactionSettings(merge=MergePolicy(fan_in=2, rows_floor=NEVER, deleted_fraction_max=1), heartbeat=False)
        compactor = Compactor(store, Collections(store, Catalog(store, world.clock)), world.clock, settings, leases=leases)

        def run() -> tuple[Requests, Requests]:
            world.clock.advance(61)
            store.reset()
            leases.asked.clear()
            compactor.run_once(world.cid)
            return charged(store.reset()), Requests(puts=leases.asked["put_item"], gets=leases.asked["get_item"])

        world.upsert("a", 1)
        run()
        run()
        world.upsert("b", 1)
        assert run() == (fold(1) + merge(2) + 2 * TABLE_INSTEAD, LEASED_FOLD + LEASED_MERGE)
        assert run() == (look(1) + TABLE_INSTEAD, LEASED_LOOK)
