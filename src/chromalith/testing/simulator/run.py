"""One history: from a seed and a profile to a verdict."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from chromalith.clock import Chance
from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.verify import verify
from chromalith.errors import Corrupt
from chromalith.testing.checkers.final import check_final
from chromalith.testing.checkers.registers import check_registers
from chromalith.testing.history import SECOND_US, Violation
from chromalith.testing.simulator.bases import Beginning, beginning, lagging_stamp
from chromalith.testing.simulator.clients import Client, Shared
from chromalith.testing.simulator.process import Machine
from chromalith.testing.simulator.profiles import NO_MERGE, PROFILES, Plan, Work, plan
from chromalith.testing.simulator.schedule import Actor, Schedule
from chromalith.testing.simulator.weather import CALM
from chromalith.testing.simulator.workers import (
    CompactorActor,
    DeleterActor,
    ForkerActor,
    RestorerActor,
    SweeperActor,
    TaggerActor,
)

TAIL_LINES = 40
VERIFIED = 1 / 8
"""Of so many histories the last version is verified too, by the product's own verification: it takes a third as long as the history."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one history came to.

    Attributes:
        seed, profile: what it is made of.
        digest: of its trace: the same for the same seed, in every process.
        calls: how many turns actors had.
        violation: what does not hold, or ``None``; ``cause``: the traceback of an error that an actor met.
        trace: what happened, line by line.
        versions, reads, writes, pinned: published, answered, called, and opened by number or tag.
    """

    seed: int
    profile: str
    digest: str
    calls: int
    violation: str | None
    cause: str
    trace: tuple[str, ...]
    versions: int
    reads: int
    writes: int
    pinned: int

    @property
    def replay(self) -> str:
        """The command that makes the same history again."""
        return f"python -m chromalith.testing.simulator --profile {self.profile} --seed {self.seed}"

    def report(self, lines: int = TAIL_LINES) -> str:
        """What failed, how it came to it, and how to see it again."""
        tail = self.trace[-lines:]
        return "\n".join((*tail, *self.cause.splitlines(), f"seed={self.seed} profile={self.profile}: {self.violation}", self.replay))


def profile_of(seed: int) -> str:
    """The profile that a seed stands for when none is named."""
    names = sorted(PROFILES)
    return names[seed % len(names)]


def run_history(seed: int, profile: str | None = None) -> Result:
    """Run one history and judge it. Does not raise what it finds: see ``Result.violation``."""
    profile = profile or profile_of(seed)
    chosen = plan(profile, Chance(f"{seed}/{profile}/plan"))
    begin = beginning(chosen.base, chosen.settle_s)
    schedule = Schedule(f"{seed}/{profile}", chosen.weather, begin.now_us, skew_s=chosen.skew_s)
    begin.store.stamp = lambda: lagging_stamp(schedule, chosen.settle_s)
    begin.store.page_entries = chosen.page_entries
    begin.ledger.grace_s = chosen.grace_s
    begin.ledger.keep_versions = chosen.retention.keep_versions
    directory = Path(tempfile.mkdtemp(prefix="chromalith-simulator-"))
    violation: Violation | None = None
    cause = ""
    try:
        machine = Machine(begin.store, begin.ledger, directory, chosen.attempts, chosen.staleness_s)
        shared = Shared(begin.cid, begin.history, chosen.ids, chosen.blind, chosen.named, chosen.staleness_s, chosen.levels, chosen.tokens)
        schedule.run(_actors(chosen, machine, shared, seed))
        _come_to_rest(schedule, machine, shared, chosen)
        tick_us = SECOND_US if chosen.settle_s else 0
        check_final(begin.ledger, begin.history, tick_us)
        if all(version.manifest.kind != "restore" for version in begin.ledger.versions):
            check_registers(begin.history, tick_us)
        if schedule.chance.random() < VERIFIED and begin.ledger.marked_us is None:
            _verify(begin)
    except Violation as found:
        violation = found
        cause = "".join(traceback.format_exception(found.__cause__)) if found.__cause__ is not None else ""
        schedule.trace.add(f"violation: {found}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    history = begin.history
    return Result(
        seed, profile, schedule.trace.digest, schedule.steps, None if violation is None else str(violation), cause,
        tuple(schedule.trace.lines), len(begin.ledger.versions), len(history.reads), len(history.writes), history.pinned,
    )  # fmt: skip


def _actors(chosen: Plan, machine: Machine, shared: Shared, seed: int) -> list[Actor]:
    clients = [
        Client(f"client-{at}", machine, shared, Chance(f"{seed}/{chosen.profile}/client-{at}/calls"), steps, writes, chosen.client_rest_s)
        for at, (steps, writes) in enumerate(chosen.clients)
    ]
    compactors = [
        CompactorActor(f"compactor-{at}", machine, shared.cid, runs, _settings(chosen, work), chosen.rest_s)
        for at, (runs, work) in enumerate(chosen.compactors)
    ]
    sweepers = [
        SweeperActor(f"sweeper-{at}", machine, shared.cid, runs, chosen.retention, chosen.sweep_rest_s)
        for at, runs in enumerate(chosen.sweepers)
    ]
    restorers = [RestorerActor(f"restorer-{at}", machine, shared.cid, runs) for at, runs in enumerate(chosen.restorers)]
    taggers = [TaggerActor(f"tagger-{at}", machine, shared.cid, runs, shared.history) for at, runs in enumerate(chosen.taggers)]
    forkers = [ForkerActor(f"forker-{at}", machine, shared.cid, runs) for at, runs in enumerate(chosen.forkers)]
    deleters = [DeleterActor(f"deleter-{at}", machine, shared.cid, runs) for at, runs in enumerate(chosen.deleters)]
    return [*clients, *compactors, *sweepers, *restorers, *taggers, *forkers, *deleters]


def _verify(begin: Beginning) -> None:
    """The product's own verification finds nothing either."""
    try:
        verify(begin.store, begin.cid)
    except Corrupt as error:
        raise Violation(f"verify: {error}") from error


def _settings(chosen: Plan, work: Work) -> CompactionSettings:
    match work:
        case Work.FOLD:
            return replace(chosen.compaction, merge=NO_MERGE)
        case Work.MERGE:
            return replace(chosen.compaction, fold_deltas_max=0)
        case _:
            return chosen.compaction


def _come_to_rest(schedule: Schedule, machine: Machine, shared: Shared, chosen: Plan) -> None:
    """Late requests land or never will; then nothing fails any more, what waits is folded, and a new process reads."""
    schedule.land_all(0.5)
    schedule.weather = CALM
    schedule.now_us += 1_000 * SECOND_US
    machine.shared.page_entries = 1_000
    alone = replace(chosen.compaction, lease=False, merge=NO_MERGE, fold_deltas_max=100)  # nobody is left to wait for
    schedule.run([CompactorActor("last-compactor", machine, shared.cid, 1, alone)])
    reader = Client("last-reader", machine, shared, Chance("last"), steps=1, writes=0.0)
    schedule.run([reader])


