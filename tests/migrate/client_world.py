"""A migrating client between two real databases, with the state and the journal in memory, for tests of the client."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

import chromalith
from chromalith.migrate.client.core import Core
from chromalith.migrate.client.open import core_of
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.reconcile import Reconciler
from chromalith.migrate.records import differences
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.states import States, change_of
from chromalith.store.port import Store
from chromalith.store.url import open_store

TIMING = Timing(state_age_max_s=5.0, freeze_limit_s=30.0, abandoned_s=120.0, second_write_s=2.0)
SIDE = SideName(SideKind.CLIENT, "source", "default_tenant", "default_database")
_numbers = itertools.count()


class World:
    """One migration, started, in phase direct; ``client`` is the application's.

    Args:
        source, target: as :func:`chromalith.MigratingClient` takes them; Chromalith stores in memory if left out.
        options: of the client.
    """

    def __init__(self, source: Any = None, target: Any = None, *, started: bool = True, **options: Any) -> None:
        number = next(_numbers)
        self.urls = {Role.SOURCE: f"memory://client-source-{number}", Role.TARGET: f"memory://client-target-{number}"}
        self.given = {Role.SOURCE: source or self.urls[Role.SOURCE], Role.TARGET: target or self.urls[Role.TARGET]}
        self.url = f"memory://client-state-{number}"
        self.store: Store = open_store(self.url)
        self.place = Place(self.store)
        self.states = States(self.place)
        self._clients: list[Any] = []
        self._plain: dict[Role, Any] = {}
        if started:
            self.states.create(State("default", SIDE, replace(SIDE, url="target"), timing=TIMING))
        self.client = self.another(**options)

    def another(self, **options: Any) -> Any:
        """A client of its own, as another process would have it."""
        given = {"state": self.url, **options}
        client = chromalith.MigratingClient(self.given[Role.SOURCE], self.given[Role.TARGET], **given)
        self._clients.append(client)
        return client

    @property
    def core(self) -> Core:
        return core_of(self.client)

    def plain(self, role: Role) -> Any:
        """A client of one side alone."""
        if role not in self._plain:
            given = self.given[role]
            self._plain[role] = chromalith.Client(given) if isinstance(given, str) else given
        return self._plain[role]

    def held(self, role: Role, name: str = "words") -> dict[str, Any]:
        """The documents of one side by id."""
        found = self.plain(role).get_collection(name, embedding_function=None).get(include=["documents"])
        return dict(zip(found["ids"], found["documents"], strict=True))

    def ids(self, role: Role, name: str = "words") -> set[str]:
        return set(self.held(role, name))

    def become(
        self, phase: Phase | None = None, *, reads: float = 0, writes: float = 0, shadow: float = 0, **fields: Any
    ) -> None:
        """Change the state as a tool would, without its waiting; all clients look at it at once."""

        def change(state: State) -> State:
            percent = replace(state.percent, reads=reads, writes=writes, shadow=shadow)
            new = {"phase": phase or state.phase, "percent": percent, **fields}
            return state.changed(change_of(self.place.clock, "test", "", "", "", "test"), **new)

        self.states.change(change)
        for client in self._clients:
            core_of(client).follower.look()

    def mirror(self, name: str = "words") -> None:
        """Make the collection at the target, as ``start`` and ``dual`` do."""
        model = self.core.sides[Role.SOURCE].collection(name)
        self.core.sides[Role.TARGET].create(name, model.definition)

    def reconciled(self) -> bool:
        """Whether one follower's passes empty the journal."""
        assert self.core.journal.flush() == 0
        journal = Journal(self.place)
        try:
            for _ in range(5):
                outcome = Reconciler(journal, self.states, self.core.sides.both()).pass_once()
                if outcome.empty:
                    return True
            return False
        finally:
            journal.stop()

    def unequal(self, name: str = "words") -> list[str]:
        """Ids that differ between the sides."""
        source, target = (self.core.sides[role].collection(name) for role in Role)
        ids = sorted({*source.ids(), *target.ids()})
        return [each.id for each in differences(source.read(ids), target.read(ids), source.definition.space)]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for role, client in self._plain.items():
            if isinstance(self.given[role], str):
                client.close()


@contextmanager
def world(*given: Any, **options: Any) -> Iterator[World]:
    """One, closed with the block."""
    made = World(*given, **options)
    try:
        yield made
    finally:
        made.close()


def vectors(count: int, seed: int = 0) -> Any:
    """Different unit-free embeddings of three numbers."""
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def words(client: Any, count: int = 0) -> Any:
    """The collection ``words`` with ``count`` records ``r0``, ``r1``, …"""
    collection = client.get_or_create_collection("words", embedding_function=None)
    if count:
        ids = [f"r{n}" for n in range(count)]
        collection.add(
            ids=ids,
            embeddings=vectors(count),
            documents=[f"text {i}" for i in ids],
            metadatas=[{"n": n} for n in range(count)],
        )
    return collection


class Broken:
    """One side's engine, whose verbs go wrong when told: ``broken.act["_upsert"] = function``, called instead with the real verb first."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.act: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.inner, name)
        if not callable(real):
            return real

        def call(*args: Any, **named: Any) -> Any:
            self.calls.append(name)
            if name in self.act:
                return self.act[name](real, *args, **named)
            return real(*args, **named)

        return call


def breakable(made: World, role: Role) -> Broken:
    """Put a :class:`Broken` before one side of the client."""
    side = made.core.sides[role]
    broken = Broken(side.server)
    side.server = broken  # type: ignore[assignment]
    return broken


__all__ = ["SIDE", "TIMING", "Broken", "World", "breakable", "vectors", "words", "world"]
