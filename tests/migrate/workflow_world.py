"""A migration between two memory sides, for tests of the workflow: the real state and journal, and a client that follows the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tests.migrate.memory_side import Faults, MemorySide, Row

from chromalith.clock import ManualClock
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.port import Role, SideKind, Sides
from chromalith.migrate.route import Route
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.states import States, change_of
from chromalith.migrate.workflow.parts import StoreParts
from chromalith.migrate.workflow.ports import ClientSeen, ShadowSeen
from chromalith.migrate.workflow.verbs import Outcome, Workflow
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.port import Definition

SOURCE = SideName(SideKind.SERVER, "http://127.0.0.1:1", "default_tenant", "default_database")
TARGET = SideName(SideKind.CHROMALITH, "memory://target", "default_tenant", "default_database")
TIMING = Timing(state_age_max_s=1.0, freeze_limit_s=10.0, abandoned_s=60.0, second_write_s=2.0)
GOOD_SHADOW = ShadowSeen(compared=1_000, mismatched=1, source_p50_ms=10.0, target_p50_ms=11.0)


class SeenParts(StoreParts):
    """The real parts, but what clients and shadow reads would have reported is said by the test."""

    live: tuple[ClientSeen, ...] = ()
    reads: ShadowSeen = GOOD_SHADOW

    def clients(self) -> tuple[ClientSeen, ...]:
        return self.live

    def shadow(self) -> ShadowSeen:
        return self.reads


@dataclass
class World:
    """One migration, named ``default``, of a source with the collection ``words``."""

    clock: Any = field(default_factory=ManualClock)
    timing: Timing = TIMING

    def __post_init__(self) -> None:
        self.store: Store = MemoryStore(self.clock)
        self.faults = Faults()
        self.source, self.target = (MemorySide(name, faults=self.faults) for name in ("source", "target"))
        self.sides = Sides(self.source, self.target)
        self.source.create("words", Definition.of_space("l2"))
        self.put("source", "a", "first")
        self.live: tuple[ClientSeen, ...] = ()
        self.reads = GOOD_SHADOW

    def copy(self) -> World:
        """Another world in the same state, which shares nothing with this one."""
        clock = ManualClock(
            wall_us=self.clock.now_us(), seed=1
        )  # other chance: else the id of the next freeze would be that of an old one
        other = World(clock, self.timing)
        for entry in [entry for page in self.store.list("") for entry in page]:
            other.store.put(entry.key, self.store.get(entry.key).body)
        for mine, copied in ((self.source, other.source), (self.target, other.target)):
            for name, collection in mine.collections.items():
                copied.create(name, collection.definition).rows = dict(collection.rows)
        other.live, other.reads = self.live, self.reads
        return other

    def workflow(self, store: Store | None = None, *, name: str = DEFAULT_NAME, **options: Any) -> Workflow:
        """A tool of its own, over ``store`` if one is given."""
        place = Place(store or self.store, name, clock=self.clock)
        journal = Journal(place, executor=lambda count, name: InLineExecutor(), linger_s=0)
        parts = SeenParts(place, lambda: self.sides, journal)
        parts.live, parts.reads = self.live, self.reads
        return Workflow(place, self.sides, parts=parts, who="test", **options)

    @property
    def states(self) -> States:
        return States(Place(self.store, clock=self.clock))

    @property
    def state(self) -> State:
        return self.states.get()

    def start(self, **options: Any) -> Outcome:
        done = self.workflow().start(SOURCE, TARGET, timing=TIMING, **options)
        if self.timing != TIMING and not done.dry_run:
            self.states.change(lambda state: replace(state, timing=self.timing))
        return done

    def put(self, side: str, record_id: str, document: str) -> None:
        """A write to one side alone."""
        vector = np.array([[1.0, len(document)]], np.float32)
        # The application's own call, which is not among those that a test makes fail.
        choose, self.faults.choose = self.faults.choose, lambda call: None
        self.sides[Role(side)].collection("words").write("upsert", [record_id], vector, [document])
        self.faults.choose = choose

    def documents(self, side: str) -> dict[str, str | None]:
        """What a side holds."""
        return {record_id: row.document for record_id, row in self.rows_of(side).items()}

    def rows_of(self, side: str) -> dict[str, Row]:
        """Its records, without a call."""
        held = (self.source if Role(side) is Role.SOURCE else self.target).collections.get("words")
        return {} if held is None else held.rows

    def write(self, record_id: str, document: str, *, second: bool = True) -> None:
        """As a migrating client writes on the present state; ``second``: whether the side that is not the authority takes it."""
        authority = Route(self.state).authority(record_id)
        if not self.state.is_dual:
            self.put(authority, record_id, document)
            return
        journal = self.workflow().parts._journal()  # type: ignore[attr-defined]
        entry = journal.open("words", [record_id], authority=authority, op="upsert")
        self.put(authority, record_id, document)
        if second:
            self.put(authority.other, record_id, document)
        journal.close(entry, "ok" if second else "failed")
        assert journal.flush() == 0
        journal.stop()

    def copied(self) -> None:
        """As a backfill that ended."""
        for record_id, row in self.rows_of("source").items():
            self.rows_of("target").setdefault(record_id, row)
        self._found(backfill={"finished": True})

    def compared(self, **found: Any) -> None:
        """As a comparison that ended, clean unless ``found`` says otherwise."""
        clean = {"at_us": self.clock.now_us(), "clean": True, "missing": 0, "extra": 0, "different": 0}
        self._found(verify={**clean, "epoch": self.state.epoch, **found})

    def _found(self, **fields: Any) -> None:
        self.states.change(lambda state: state.changed(change_of(self.clock, "test", "", "", "", "test"), **fields))

    def until(self, phase: Phase) -> World:
        """Walk to ``phase`` on the straight way; returns itself."""
        flow = self.workflow()
        steps = [
            (Phase.DIRECT, self.start),
            (Phase.DUAL, flow.dual),
            (Phase.BACKFILL, flow.enter_backfill),
            (Phase.VERIFY, lambda: (self.copied(), flow.enter_verify(), self.compared())),
            (Phase.RAMP, lambda: flow.ramp(25, 50, 10)),
            (Phase.CUTOVER, flow.switch),
            (Phase.COMPLETE, lambda: (self.compared(), flow.complete(yes=True))),
        ]
        if phase is Phase.CANCELLED:
            self.start()
            flow.cancel()
            return self
        for reached, act in steps:
            act()
            assert self.state.phase is reached
            if reached is phase:
                return self
        raise AssertionError(phase)


__all__ = ["GOOD_SHADOW", "SOURCE", "TARGET", "TIMING", "World", "replace"]
