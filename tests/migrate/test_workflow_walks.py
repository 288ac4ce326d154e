"""Walks at random through a migration: any verb after any other, killed at any call, with clients that write, create and delete meanwhile.

What a client was told is done must be at the side that counts, after each step and after each late request has landed; and the way back is
open from wherever a walk ends. A walk is its seed: the same one takes the same way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from tests.migrate.workflow_world import World

from chromalith.errors import ChromalithError
from chromalith.migrate.entries import CREATE, DELETE_COLLECTION
from chromalith.migrate.phases import ENDED, Phase
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.states import change_of
from chromalith.migrate.workflow.plan import Step
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.testing.faulty import Crash, Fault, FaultyStore, at_calls
from chromalith.transfer.port import Definition

STEPS = 25
KILLS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.BEFORE]
ONWARD: dict[Phase, list[str]] = {
    Phase.DIRECT: ["dual"],
    Phase.DUAL: ["backfill"],
    Phase.BACKFILL: ["verify"],
    Phase.VERIFY: ["ramp", "switch", "reconcile"],
    Phase.RAMP: ["ramp", "switch", "reconcile", "wait"],
    Phase.CUTOVER: ["rollback", "reconcile", "wait"],
}
ANY = ["dual", "backfill", "verify", "ramp", "switch", "rollback", "reconcile", "wait", "complete"]


class Walk:
    """One migration, its clients, and what they were told is done."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.world.start()
        self.documents = {"a": "first"}
        self.collections = {"words"}
        self.log: list[object] = [seed]

    def run(self) -> None:
        for _ in range(STEPS):
            if self.world.state.phase in ENDED:
                return
            self._wait_for_freeze()
            self._write()
            self._say(self._choose())
        self._go_back()

    # -- clients

    def _write(self) -> None:
        """What clients do on the present state; the side that does not count misses a part of it. While writes are frozen, they wait."""
        if self.world.state.freeze is not None:
            return
        for _ in range(self.chance.randint(0, 3)):
            record_id, document = self.chance.choice("abcdefgh"), f"v{self.chance.random()}"
            self.world.write(record_id, document, second=self.chance.random() < 0.6)
            self.documents[record_id] = document
        if self.chance.random() < 0.3:
            self._change_catalog(self.chance.choice("xy"), second=self.chance.random() < 0.6)

    def _change_catalog(self, name: str, *, second: bool) -> None:
        state, op = self.world.state, DELETE_COLLECTION if name in self.collections else CREATE

        def change(role: Role) -> None:
            side = self.world.sides[role]
            side.drop(name) if op == DELETE_COLLECTION else side.create(name, Definition.of_space("l2"))

        if state.is_dual:
            journal: Any = self.world.workflow().parts._journal()  # type: ignore[attr-defined]
            entry = journal.open(name, (), authority=state.main, op=op)
            change(state.main)
            if second:
                change(state.main.other)
            journal.close(entry, "ok" if second else "failed")
            journal.stop()
        else:
            change(state.main)
        self.collections ^= {name}
        self.log.append((op, name, state.main, second))

    def _wait_for_freeze(self) -> None:
        """Where a tool died with writes frozen: now and then a client waits for longer than the limit, and takes it back."""
        freeze = self.world.state.freeze
        if freeze is None or self.chance.random() < 0.5:
            return
        self.world.clock.advance(self.world.timing.freeze_limit_s + 1)
        line = change_of(self.world.clock, freeze.verb, "", "", "a client takes it back")
        self.world.states.change(lambda now: now.changed(line, freeze=None))

    # -- tools

    def _choose(self) -> str:
        onward = ONWARD[self.world.state.phase]
        return self.chance.choice(onward if self.chance.random() < 0.75 else ANY)

    def _say(self, verb: str) -> None:
        world, chance = self.world, self.chance
        kill = {chance.randint(1, 60): chance.choice([*KILLS, Fault.LATE])} if chance.random() < 0.6 else {}
        store = FaultyStore(world.store, at_calls(kill), world.clock)

        def tell(step: Step) -> None:
            if chance.random() < 0.3:
                with self._unharmed():
                    self._write()

        if chance.random() < 0.2:
            at, fault = len(world.faults.calls) + chance.randint(1, 30), chance.choice(KILLS)
            world.faults.choose = lambda call: fault if call.number == at else None
        try:
            self._act(verb, world.workflow(store, tell=tell))
            self.log.append((verb, "done"))
        except (Crash, ChromalithError) as error:
            self.log.append((verb, repr(error)[:200]))
        world.faults.choose = lambda call: None
        self._check()
        store.land()
        self._check()

    def _act(self, verb: str, flow: Workflow) -> None:
        world = self.world
        acts: dict[str, Callable[[], object]] = {
            "dual": flow.dual,
            "backfill": flow.enter_backfill,
            "verify": flow.enter_verify,
            "ramp": lambda: flow.ramp(self.chance.choice([0, 100]), self.chance.choice([0, 30, 60, 100]), 10),
            "switch": flow.switch,
            "rollback": flow.rollback,
            "reconcile": flow.parts.reconcile,
            "complete": lambda: flow.complete(yes=True),
            "wait": lambda: (world.clock.advance(world.timing.abandoned_s + 1), world.workflow().parts.reconcile()),
        }
        if verb == "verify" and world.state.phase is Phase.BACKFILL:
            self._copy()
        acts[verb]()
        if verb == "verify" or (world.state.verify and self.chance.random() < 0.7):
            world.compared()

    def _copy(self) -> None:
        """As a backfill and a comparison with `--repair`, of records and of collections."""
        source, target = self.world.source.collections, self.world.target.collections
        for name in set(target) - set(source):
            del target[name]
        with self._unharmed():
            for name in set(source) - set(target):
                self.world.target.create(name, Definition.of_space("l2"))
        for name, collection in source.items():
            target[name].rows = dict(collection.rows)
        self.world._found(backfill={"finished": True})

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """The application's own calls are not among those that fail here."""
        choose, self.world.faults.choose = self.world.faults.choose, lambda call: None
        try:
            yield
        finally:
            self.world.faults.choose = choose

    # -- what must hold

    def _check(self) -> None:
        state, route = self.world.state, Route(self.world.state)
        held = {role: self.world.documents(role) for role in Role}
        for record_id, document in self.documents.items():
            assert held[route.authority(record_id)].get(record_id) == document, (record_id, self.log)
        assert set(self.world.sides[state.main].names()) == self.collections, self.log

    def _go_back(self) -> None:
        """Whatever became of it: when calls of the dead are too old to be under way, reconcile, and roll back."""
        for _ in range(3):
            if self.world.state.phase in {Phase.DIRECT, *ENDED}:
                break
            self.world.clock.advance(self.world.timing.abandoned_s + 1)
            with suppress(ChromalithError):
                self.world.workflow().parts.reconcile()
            with suppress(ChromalithError):
                self.world.workflow().rollback()
        assert self.world.state.phase in {Phase.DIRECT, *ENDED}, self.log
        assert self.world.state.freeze is None, self.log
        self._check()


@pytest.mark.parametrize("seed", range(12))
def test_a_walk(seed: int) -> None:
    """Nothing acknowledged is lost on it, nothing stays frozen, and there is a way back from its end."""
    Walk(seed).run()


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(60))
def test_many_walks(tens: int) -> None:
    """The same, hundreds of times."""
    for seed in range(1_000 + 10 * tens, 1_010 + 10 * tens):
        Walk(seed).run()
