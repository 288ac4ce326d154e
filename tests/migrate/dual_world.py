"""The write protocol without any database: two dictionaries for sides, a state and a journal in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chromalith.clock import Clock, ManualClock
from chromalith.errors import Unknown
from chromalith.migrate.dual import DualWriter, Write
from chromalith.migrate.entries import Closing
from chromalith.migrate.follower import Follower
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.route import Route
from chromalith.migrate.state import Percent, SideName, State, Timing
from chromalith.migrate.states import States, change_of
from chromalith.migrate.tally import Tally
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call, Fault, FaultyStore

SIDE = SideName(SideKind.CLIENT, "source", "t", "d")
S, T = Role.SOURCE, Role.TARGET


class Rig:
    """A writer over two dictionaries, a real journal, and a store whose calls the test can break."""

    def __init__(
        self,
        phase: Phase = Phase.DUAL,
        *,
        clock: Clock | None = None,
        writes: float = 0,
        limit: float = 1.0,
        look_s: float = 1.0,
        **timing: float,
    ) -> None:
        self.clock = clock or ManualClock()
        self.choose: Callable[[Call], Fault | None] = lambda call: None
        self.inner = MemoryStore(self.clock)
        self.store = FaultyStore(self.inner, lambda call: self.choose(call), self.clock)
        self.states = States(Place(self.inner, clock=self.clock))
        self.states.create(
            State(
                "default",
                SIDE,
                replace(SIDE, url="target"),
                phase,
                percent=Percent(writes=writes),
                timing=Timing(**timing),
            )
        )
        place = Place(self.store, clock=self.clock)
        self.follower = Follower(States(place), executor=None)
        self.journal = Journal(place, linger_s=0)
        self.tally = Tally()
        self.limit = limit
        self.writer = DualWriter(
            self.follower,
            self.journal,
            may_land=lambda role, error: isinstance(error, Unknown),
            lowered_to=lambda: self.limit,
            tally=self.tally,
            look_s=look_s,
        )
        self.rows: dict[Role, dict[str, str]] = {S: {}, T: {}}
        self.order: list[Any] = []
        self.fails: dict[Role, Callable[[], None]] = {}

    def change(self, **fields: Any) -> None:
        self.states.change(lambda state: state.changed(change_of(self.clock, "test", "", "", "", "test"), **fields))

    def write(self, value: str, *ids: str) -> list[Any]:
        def send(role: Role, rows: Sequence[int] | None, second: bool) -> str:
            chosen = list(ids) if rows is None else [ids[row] for row in rows]
            self.order.append((role, tuple(chosen), "second" if second else "first"))
            if role in self.fails:
                self.fails[role]()
            self.rows[role].update(dict.fromkeys(chosen, value))
            return f"{role}:{len(chosen)}"

        return self.writer.write(Write("words", "upsert", ids, send))

    def entries(self) -> dict[tuple[str, ...], tuple[Role, Closing | None]]:
        """The journal: ids → the authority named, and how it ended."""
        assert self.journal.flush() == 0
        reading = Journal(Place(self.inner, clock=self.clock))
        listing = reading.entries()
        found, damaged = reading.read(listing.touched)
        reading.stop()
        assert not damaged
        ends = {item.key: item.closings for item in listing.touched}
        return {
            entry.ids: (entry.authority, ends[entry.key].get(entry.index)) for each in found.values() for entry in each
        }

    def endings(self) -> list[str | None]:
        return sorted(str(closing.second) if closing else "open" for _, closing in self.entries().values())

    def close(self) -> None:
        self.writer.stop(5)
        self.journal.stop()


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def split(route: Route, count: int = 200) -> dict[Role, list[str]]:
    """Ids by their authority."""
    ids = [f"id{n}" for n in range(count)]
    return {role: [ids[row] for row in rows] for role, rows in route.by_authority(ids).items()}
