"""A migration in phase ``backfill`` between two sides of a test's choice, and what its tests ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.migrate.backfill import Backfill, BackfillOptions, BackfillOutcome
from chromalith.migrate.backfill_meter import BackfillProgress
from chromalith.migrate.journal import Journal
from chromalith.migrate.opening import open_side
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, Side, SideCollection, SideKind, Sides
from chromalith.migrate.reconcile import Reconciler
from chromalith.migrate.records import differences
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.transfer.port import Definition

TIMING = Timing(state_age_max_s=1.0, freeze_limit_s=10.0, abandoned_s=60.0, second_write_s=2.0)


class BackfillWorld:
    """``source`` and ``target`` may be any sides; the state is in a memory store of its own, or in ``store``."""

    def __init__(
        self,
        source: Side,
        target: Side,
        *,
        store: Store | None = None,
        clock: Clock = SYSTEM_CLOCK,
        timing: Timing = TIMING,
    ) -> None:
        self.source, self.target = source, target
        self.sides = Sides(source, target)
        self.clock = clock
        self.place = Place(store or MemoryStore(clock), "test", clock)
        self.states = States(self.place)
        names = [SideName(SideKind.CLIENT, f"test:{role}", "t", "d") for role in Role]
        self.states.create(State("test", names[0], names[1], phase=Phase.BACKFILL, timing=timing))
        self.told: list[BackfillProgress] = []

    def change(self, **fields: Any) -> None:
        """Change the state, as another process would."""
        self.states.change(lambda state: replace(state, epoch=state.epoch + 1, **fields))

    def backfill(
        self, *, executor: Any = ThreadPoolExecutor, journal: Journal | None = None, **options: Any
    ) -> BackfillOutcome:
        """Run one to its end."""
        work = Backfill(
            self.place,
            self.sides,
            BackfillOptions(**options),
            tell=self.told.append,
            executor=executor,
            journal=journal,
            who="test",
        )
        return work.run()

    def reconcile(self) -> bool:
        """One or two passes; whether the journal is empty then."""
        with_journal = Journal(self.place, client="test", timing=self.states.get().timing)
        outcome = Reconciler(with_journal, self.states, self.sides).drain(lambda: True)
        with_journal.stop()
        return outcome.empty

    def journal_is_empty(self) -> bool:
        return Journal(self.place, client="test").entries().empty

    def differing(self, name: str) -> list[str]:
        """The ids of a collection that are not equal on both sides, records compared one by one."""
        return differing(self.source.collection(name), self.target.collection(name))


def differing(source: SideCollection, target: SideCollection) -> list[str]:
    ids = list(dict.fromkeys([*source.ids(), *target.ids()]))
    space = source.definition.space
    return [each.id for each in differences(source.read(ids), target.read(ids), space)] if ids else []


def memory_side(name: str) -> Side:
    """A Chromalith store in memory, of a name that no other test has."""
    return open_side(f"memory://{name}-{SYSTEM_CLOCK.random_hex(12)}")


def records(count: int, dimension: int = 4, first: int = 0) -> dict[str, Any]:
    """Columns of records of every kind: with and without document, uri and metadata, lists among the metadata."""
    numbers = range(first, first + count)
    metadatas: list[dict[str, Any] | None] = [
        None
        if n % 7 == 0
        else {"n": n, "half": n / 2 + 0.25, "odd": bool(n % 2), "tags": [f"t{n % 3}", "all"], "name": f"ü-{n}"}
        for n in numbers
    ]
    return {
        "ids": [f"id-{n:05d}" for n in numbers],
        "embeddings": np.sin(np.outer(np.arange(first, first + count) + 1.0, np.arange(dimension) + 1.0)).astype(
            np.float32
        ),
        "documents": [None if n % 5 == 0 else f"document {n} ☃" for n in numbers],
        "uris": [f"file:///{n}" if n % 4 == 0 else None for n in numbers],
        "metadatas": metadatas,
    }


def fill(side: Side, name: str, count: int, *, space: str = "l2", dimension: int = 4, first: int = 0) -> SideCollection:
    """A collection with ``count`` records."""
    collection = side.create(name, Definition.of_space(space))
    if count:
        collection.write("add", **records(count, dimension, first))
    return collection


def until(true: Callable[[], bool], clock: Clock = SYSTEM_CLOCK, seconds: float = 30.0) -> None:
    """Wait for something that other threads do."""
    stop_s = clock.monotonic_s() + seconds
    while not true():
        assert clock.monotonic_s() < stop_s, "it did not happen"
        clock.sleep(0.01)


def ordered(ids: Iterable[str]) -> list[str]:
    return sorted(ids)
