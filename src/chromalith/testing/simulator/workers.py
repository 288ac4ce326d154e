"""Actors that keep a collection: compactors, sweepers, and people who restore and tag."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.compaction.sweep import run_sweep
from chromalith.coord.catalog import Catalog
from chromalith.coord.history import manifest_at, tagged_version
from chromalith.coord.tags import put_tag, release_tag
from chromalith.errors import Conflict, LeaseHeld, NotFound, Unavailable, Unknown
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.retention import Retention
from chromalith.session import Session
from chromalith.testing.history import History, Violation
from chromalith.testing.reference import Row
from chromalith.testing.simulator.clients import answered
from chromalith.testing.simulator.process import LifeClock, Machine
from chromalith.testing.simulator.schedule import Life

EXPECTED = (Conflict, LeaseHeld, Unavailable, Unknown)
"""What a job may end with without anything being wrong: others were faster, or the store failed."""


@dataclass(slots=True)
class CompactorActor:
    """Compacts, again and again.

    Attributes:
        runs: how often in all its lives.
        settings: the compactor's.
        rest_s: how long at most it rests between two runs.
    """

    name: str
    machine: Machine
    cid: CollectionId
    runs: int
    settings: CompactionSettings
    rest_s: float = 5.0

    def live(self, life: Life) -> None:
        with self.machine.session(life) as session:
            compactor = Compactor(
                session.store,
                session.collections,
                session.clock,
                self.settings,
                executor=self.machine.executor(life),
                owner=life.name,  # the product's own would name this machine and process, and no two histories would be alike
            )
            while self.runs > 0:
                self.runs -= 1
                try:
                    compactor.run_once(self.cid)
                except EXPECTED:
                    pass
                except NotFound as error:
                    self.machine.ledger.must_be_gone(error)
                life.sleep(life.chance.uniform(0.0, self.rest_s))


@dataclass(slots=True)
class SweeperActor:
    """Sweeps, with little retention.

    Attributes:
        runs: how often in all its lives.
        retention: what is kept.
        rest_s: how long at most it rests before each run.
    """

    name: str
    machine: Machine
    cid: CollectionId
    runs: int
    retention: Retention
    rest_s: float = 30.0

    def live(self, life: Life) -> None:
        store, clock = self.machine.store(life), LifeClock(life)
        while self.runs > 0:
            self.runs -= 1
            life.sleep(life.chance.uniform(0.0, self.rest_s))
            with suppress(*EXPECTED):
                run_sweep(store, clock, self.cid, self.retention, executor=self.machine.executor(life))


@dataclass(slots=True)
class RestorerActor:
    """Restores recent versions, by number or by tag, sometimes with a replay of what that undoes."""

    name: str
    machine: Machine
    cid: CollectionId
    runs: int

    def live(self, life: Life) -> None:
        with self.machine.session(life) as session:
            while self.runs > 0:
                self.runs -= 1
                life.sleep(life.chance.uniform(0.0, 5.0))
                replay = life.chance.random() < 0.3
                # A version that was swept, a tag that nobody put, a replay whose deltas are gone: it says so, and did nothing.
                with suppress(NotFound, *EXPECTED):
                    session.restorer().run(self.cid, self._target(life), replay=replay)

    def _target(self, life: Life) -> int | str:
        if life.chance.random() < 0.3:
            return life.chance.choice(TAGS)
        newest = self.machine.ledger.current.manifest.version
        return life.chance.randint(max(0, newest - 3), newest)


TAGS = ("one", "two")


@dataclass(slots=True)
class TaggerActor:
    """Tags versions, lets them go again, and opens old versions and tags: what is kept must be whole."""

    name: str
    machine: Machine
    cid: CollectionId
    runs: int
    history: History

    def live(self, life: Life) -> None:
        with self.machine.session(life) as session:
            while self.runs > 0:
                self.runs -= 1
                name = life.chance.choice(TAGS)
                with suppress(NotFound, *EXPECTED):
                    match life.chance.choice(("tag", "tag", "release", "open", "open")):
                        case "tag":
                            put_tag(session.store, session.clock, self.cid, name, self._manifest(session, life))
                        case "release":
                            release_tag(session.store, session.clock, self.cid, name)
                        case _:
                            self._open(session, life, name)

    def _manifest(self, session: Session, life: Life) -> Manifest:
        newest = self.machine.ledger.current.manifest.version
        return manifest_at(session.store, self.cid, life.chance.randint(max(0, newest - 3), newest))

    def _open(self, session: Session, life: Life, name: str) -> None:
        by_tag = life.chance.random() < 0.5
        try:
            manifest = tagged_version(session.store, self.cid, name) if by_tag else self._manifest(session, life)
            rows, count = answered(session.reader.view_of(manifest))
        except NotFound:
            return  # whether it was kept all the time is what the ledger checks, at each delete
        self.history.pinned += 1
        expected = self.machine.ledger.versions[manifest.version].contents.in_order()
        if {key: replace(row, seq=0) for key, row in expected.items()} != rows or count != len(rows):
            raise Violation(f"an old version is not what it was version={manifest.version} found={rows} expected={expected}")


@dataclass(slots=True)
class DeleterActor:
    """Deletes the collection, after a while."""

    name: str
    machine: Machine
    cid: CollectionId
    runs: int

    def live(self, life: Life) -> None:
        while self.runs > 0:
            life.sleep(life.chance.uniform(0.0, 10.0))
            with suppress(NotFound, *EXPECTED):
                catalog = Catalog(self.machine.store(life), LifeClock(life))
                catalog.delete("default_tenant", "default_database", "words")
            self.runs -= 1


@dataclass(slots=True)
class ForkerActor:
    """Forks the collection as it is now, and reads what came of it."""

    name: str
    machine: Machine
    cid: CollectionId
    runs: int

    def live(self, life: Life) -> None:
        with self.machine.session(life) as session:
            while self.runs > 0:
                self.runs -= 1
                life.sleep(life.chance.uniform(0.0, 10.0))
                place = ("default_tenant", "default_database", f"{life.name}-{self.runs}")
                start_us = life.schedule.now_us
                with suppress(*EXPECTED):
                    forked = session.fork(self.cid, place)
                    rows, _ = answered(session.view(forked.named.collection.id))
                    self._check(forked.version, rows, start_us, life.schedule.now_us)

    def _check(self, number: int, rows: dict[str, Row], start_us: int, end_us: int) -> None:
        """The fork holds a version and what was listed on top of it, at some moment between its beginning and its end."""
        ledger = self.machine.ledger
        version = ledger.versions[number]
        on_top = sorted(
            (each for each in ledger.deltas.values() if ledger.knows(version.manifest, each) is None), key=lambda each: each.at_us
        )
        moments = [start_us, *(each.at_us for each in on_top if start_us < each.at_us <= end_us)]
        for moment in moments:
            expected = version.contents
            calls: set[tuple[str, int]] = set()
            for landed in sorted((each for each in on_top if each.at_us <= moment), key=lambda each: each.place):
                if landed.call not in calls:
                    calls.add(landed.call)
                    expected = expected.apply(landed.changes or ())
            if {key: replace(row, seq=0) for key, row in expected.in_order().items()} == rows:
                return
        raise Violation(f"a fork does not hold what its source did version={number} found={rows}")
