"""Two sides in memory, a state and a journal: what the tests of journal and repair begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tests.migrate.memory_side import Faults, MemorySide

from chromalith.clock import ManualClock
from chromalith.errors import ChromalithError, Unknown
from chromalith.migrate.entries import Second
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Limits, Role, SideKind, Sides
from chromalith.migrate.reconcile import Reconciler
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze, SideName, State
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Choose, FaultyStore
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.port import Definition

NAME = "words"


def embedding(value: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([value, 1.0, 2.0], np.float32)


@dataclass
class Two:
    """A migration between two sides in memory. ``faults`` numbers the calls of both sides."""

    limits: Limits = field(default_factory=lambda: Limits(300, 300))
    phase: Phase = Phase.DUAL
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.faults = Faults()
        self.inner = MemoryStore(self.clock)
        self.source = MemorySide("source", limits=self.limits, faults=self.faults)
        self.target = MemorySide("target", limits=self.limits, faults=self.faults)
        self.sides = Sides(self.source, self.target)
        for side in (self.source, self.target):
            side.create(NAME, Definition.of_space("l2"))
        self.faults.calls.clear()
        names = [SideName(SideKind.CLIENT, place, "t", "d") for place in ("source", "target")]
        self.states(self.inner).create(State("m", names[0], names[1], self.phase))
        self.journal = self.new_journal()

    def place(self, store: Any = None) -> Place:
        return Place(self.inner if store is None else store, "m", self.clock)

    def states(self, store: Any = None) -> States:
        return States(self.place(store))

    def new_journal(self, store: Any = None) -> Journal:
        """Another process's, without threads: so that a crash of one call is a crash of all."""
        return Journal(self.place(store), executor=lambda count, name: InLineExecutor(), linger_s=0)

    def set(self, **changes: Any) -> State:
        """Change the state, as its own verbs would."""

        def change(state: State) -> State:
            return replace(state, epoch=state.epoch + 1, **changes)

        return self.states().change(change)

    def freeze(self, freeze_id: str | None) -> None:
        self.set(freeze=None if freeze_id is None else Freeze(freeze_id, "switch", "a test", 0))

    def reconciler(self, store: Any = None, journal: Journal | None = None) -> Reconciler:
        return Reconciler(journal or self.new_journal(store), self.states(store), self.sides)

    def faulty(self, choose: Choose = lambda call: None) -> FaultyStore:
        return FaultyStore(self.inner, choose, self.clock)

    def write(
        self,
        op: Any,
        ids: str | list[str],
        value: float = 0.0,
        *,
        journal: Journal | None = None,
        second: bool = True,
        **columns: Any,
    ) -> None:
        """A dual write as a client makes it; ``second=False``: the process dies before the second side's write."""
        journal = journal or self.journal
        route = Route(self.states().get())
        ids = list(ids)
        for authority, rows in route.by_authority(ids).items():
            some = [ids[row] for row in rows]
            entry = journal.open(NAME, some, authority=authority, op=op)
            try:
                self._on(authority, op, some, value, columns)
            except ChromalithError as error:
                journal.close(entry, "unknown" if isinstance(error, Unknown) else "not_written")
                raise
            if not second:
                continue
            ended: Second = "ok"
            try:
                self._on(authority.other, op, some, value, columns)
            except Unknown:
                ended = "unknown"
            except ChromalithError:
                ended = "failed"
            journal.close(entry, ended)

    def _on(self, role: Role, op: Any, ids: list[str], value: float, columns: dict[str, Any]) -> None:
        collection = self.sides[role].collection(NAME)
        if op == "delete":
            collection.delete(ids)
            return
        column = {name: [given] * len(ids) for name, given in columns.items()}
        collection.write(op, ids, np.array([embedding(value)] * len(ids), np.float32), **column)

    def rows(self, role: Role, name: str = NAME) -> dict[str, Any]:
        """What a side holds, by id, without a call."""
        side = self.source if role is Role.SOURCE else self.target
        held = side.collections.get(name)
        return {} if held is None else dict(held.rows)

    @property
    def equal(self) -> bool:
        return self.rows(Role.SOURCE) == self.rows(Role.TARGET)

    def age(self) -> None:
        """Long enough for entries that nobody closed."""
        self.clock.advance(self.states().get().timing.abandoned_s + 1)

    def drained(self, passes: int = 4) -> bool:
        """Somebody without faults reconciles, as often as that may take; whether the journal is empty then."""
        self.faults.choose = lambda call: None
        done = 0
        return self.reconciler().drain(counted(lambda: done, passes)).empty


def counted(_: Callable[[], int], times: int) -> Callable[[], bool]:
    """``True`` at the ``times``-th call."""
    calls = iter(range(times))
    return lambda: next(calls, None) is None or False
