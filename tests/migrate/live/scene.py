"""A migration under way: a stock server, an application that works all the time, and an operator. With the checks that every test makes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.migrate.live.application import Plan, seed
from tests.migrate.live.crew import DIFFERENT, DONE, TRY_AGAIN, Application, Operator, sides_faults
from tests.servers import ChromaServer

from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.journal import Journal
from chromalith.migrate.places import Place
from chromalith.migrate.states import States
from chromalith.store.url import open_store

LONG = [
    pytest.mark.slow,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif("'slow' not in config.option.markexpr", reason="long: make migrate-live"),
]
"""The marks of a long form."""
DRAIN_S_MAX = 60.0
FORCED = ("--force", "shadow", "--force", "latency")
"""A walk of seconds has too few shadow reads, and nobody promises that two busy cores answer evenly."""


@dataclass(frozen=True)
class Size:
    """How much of it: processes, ids of each in each collection, calls between two steps."""

    processes: int = 2
    pool: int = 40
    calls: int = 25
    pause_s: float = 0.03


@dataclass
class Scene:
    """What a test holds in its hands."""

    plan: Plan
    server: ChromaServer
    application: Application
    operator: Operator
    size: Size
    checked: list[str] = field(default_factory=list)

    def step(self, verb: str, *arguments: str) -> None:
        """One verb of the operator, while everybody works; then some calls more."""
        self.operator.run(verb, *arguments)
        self.application.work(self.size.calls)

    def to(self, phase: str) -> None:
        """Walk from ``direct`` (started) to ``phase``, without looking."""
        for name, steps in WALK:
            for verb, *arguments in steps:
                self.step(verb, *arguments)
            if name == phase:
                return
        raise AssertionError(phase)

    def check(self, what: str, *, source: bool = True, target: bool = True) -> None:
        """While nobody writes: the journal can be emptied, and then the sides named hold what the diaries say, and are equal."""
        with self.application.paused():
            if target:
                self.drain()
            faults = sides_faults(self.plan, self.application.expected(), source=source, target=target)
        assert faults == [], f"after {what}: {len(faults)} faults\n" + "\n".join(faults[:5])
        self.checked.append(what)

    def drain(self) -> None:
        """Wait until the journal is empty; reconcile by hand if no follower does. Entries of processes that died take a while."""
        deadline = time.monotonic() + DRAIN_S_MAX
        place = Place(open_store(self.plan.state or self.plan.target), self.plan.migration)
        journal = Journal(place, timing=States(place).get().timing)
        while True:
            if not self.operator.follows:
                self.operator.run("reconcile", codes=(DONE, TRY_AGAIN, DIFFERENT), again=1)
            listing = journal.entries()
            if listing.empty:
                journal.stop()
                return
            assert time.monotonic() < deadline, f"the journal does not get empty: {listing}"
            time.sleep(0.2)

    def end(self, *, source: bool = True, target: bool = True) -> None:
        """Everybody stops in order; the last look."""
        if target and source:
            self.check("the end")
        self.application.finish()
        expected = self.application.expected()
        faults = sides_faults(self.plan, expected, source=source and not target, target=target and not source)
        assert faults == []
        assert self.application.wrong_reads(self.operator.stale_reads_allowed()) == []


WALK: list[tuple[str, list[tuple[str, ...]]]] = [
    ("dual", [("dual",)]),
    ("backfill", [("backfill",)]),
    ("verify", [("verify",)]),
    (
        "ramp",
        [("ramp", "--reads", "25", "--shadow", "50", *FORCED), ("ramp", "--reads", "50", "--writes", "50", *FORCED)],
    ),
    ("cutover", [("switch", *FORCED)]),
]
"""The phases, and how to get to each from the one before."""


@contextmanager
def scene(
    server: ChromaServer,
    folder: Path,
    size: Size,
    *,
    target: str = "",
    state: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[Scene]:
    """The application is at work on a server that holds something, and the migration is started; nothing goes to the target yet."""
    run = SYSTEM_CLOCK.random_hex(8)
    folder.mkdir(exist_ok=True)
    plan = Plan(
        source=server.url,
        target=target or str(folder / "target"),
        state=state,
        migration="live",
        folder=str(folder),
        processes=size.processes,
        pool=size.pool,
        pause_s=size.pause_s,
        seed=run,
    )
    seed(plan)
    with Application(plan, environment or {}) as application, Operator(plan, environment or {}) as operator:
        application.work(size.calls)  # the client is deployed before the migration is started
        operator.start()
        application.work(size.calls)
        yield Scene(plan, server, application, operator, size)
