"""Backfill: what the source held before both sides were live is copied to the target, while people read and write.

The problem. A copy of a database that changes is wrong the moment it ends, and one of millions of records is killed before it ends.

1. ``dual`` has returned: from now on every client writes to both sides and notes it in the journal.
2. For each collection: is it of the same distance and dimension on both sides, and would the target take each record? All of that before
   anything is written.
3. The source's ids are taken *once*, after 1, and kept in the migration's store (:mod:`.backfill_ids`): what is added later, its
   client adds on both sides.
4. Chunks are copied (:mod:`.backfill_chunk`), side by side and as fast as is allowed (:mod:`.throttle`), and marked as done.
5. At the end, what the target had before and the source does not have is removed.

Every step may be repeated; who says the verb again goes on where it was. Records whose values a client changes meanwhile are the
journal's: a backfill that is finished says nothing of them, and the gates before ``verify`` and ``ramp`` want a short journal.

A lease keeps two backfills from doing the same work; no safety rests on it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from chromalith.coord.lease import HeldBy, Lease, Tenure
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import Invalid, LeaseHeld, NotFound
from chromalith.migrate.backfill_checks import Refused, check_fit
from chromalith.migrate.backfill_collection import CHUNK_ROWS, CollectionCopy, Tools
from chromalith.migrate.backfill_ids import NO_COUNTS, Counts, IdPlan, IdStore, Reject, attempts
from chromalith.migrate.backfill_meter import BackfillProgress, Meter, Tell
from chromalith.migrate.backfill_watch import LEASE_S, Watch, check_goes_on
from chromalith.migrate.equal import NOTHING, Applied
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import SideKind, Sides
from chromalith.migrate.state import State
from chromalith.migrate.states import States, change_of
from chromalith.migrate.throttle import ROWS, Throttle
from chromalith.threads import NewExecutor

WORKERS = 4
LOOK_S = 1.0
REJECTS_SHOWN = 100
REOPENINGS = 3
"""How often a collection may be dropped and made again while it is copied."""


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """How a backfill works.

    Attributes:
        rate: records a second at most; ``None``: as fast as it goes.
        workers: chunks side by side.
        max_source_ms: the ceiling of one read of the source; ``None``: none.
        pause_file: while it exists, nothing is read.
        skip_rejects: leave out what the target does not take, and keep a list; else nothing is begun, or the copy stops.
        again: begin anew, whatever was copied before.
        ordered: add the records in the source's order of insertion; ``None``: unless the target is Chroma Cloud, where that costs most.
        chunk_rows: records of a chunk at most.
    """

    rate: float | None = None
    workers: int = WORKERS
    max_source_ms: float | None = None
    pause_file: Path | None = None
    skip_rejects: bool = False
    again: bool = False
    ordered: bool | None = None
    chunk_rows: int = CHUNK_ROWS

    def __post_init__(self) -> None:
        for name, value, least in (("rate", self.rate, 0), ("max_source_ms", self.max_source_ms, 0)):
            if value is not None and not value > least:
                raise Invalid(f"not a positive number {name}={value}", hint="leave it out for no limit")
        if self.workers < 1 or self.chunk_rows < 1:
            raise Invalid(
                f"at least one workers={self.workers} chunk_rows={self.chunk_rows}", hint="4 is a good number"
            )


@dataclass(frozen=True, slots=True)
class BackfillOutcome:
    """What a backfill did.

    Attributes:
        run: its name.
        collections: how many were copied; ``gone``: those that the source does not have any more.
        records: of the source, when their ids were taken.
        counts: what became of them, in earlier attempts of this run, too.
        evened: what was done at the end about records that only the target had.
        rejects: what the target does not take; ``verify`` will show it as missing.
        seconds: of this attempt.
        already: whether it had finished before.
    """

    run: str
    collections: int
    gone: tuple[str, ...] = ()
    records: int = 0
    counts: Counts = NO_COUNTS
    evened: Applied = NOTHING
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0
    already: bool = False


class Backfill:
    """One backfill of one migration. Use it once.

    Args:
        place: of the migration.
        sides: both.
        options: how it works.
        tell: told of the progress, in any of its threads, one at a time.
        executor: where threads come from.
        journal: of the migration; one of its own if left out.
        who: for the audit log.
    """

    def __init__(
        self,
        place: Place,
        sides: Sides,
        options: BackfillOptions | None = None,
        *,
        tell: Tell = lambda progress: None,
        executor: NewExecutor = ThreadPoolExecutor,
        journal: Journal | None = None,
        who: str | None = None,
    ) -> None:
        self._place = place
        self._sides = sides
        self._options = options or BackfillOptions()
        self._tell = tell
        self._executor = executor
        self._own_journal = journal is None
        self._journal = journal or Journal(place, client="chromalith migrate backfill", executor=executor)
        self._states = States(place)
        self._who = who

    def run(self) -> BackfillOutcome:
        """Copy everything; returns when it is whole, and the migration's state says so.

        Raises:
            Invalid: not in phase ``backfill``; the sides do not fit; :class:`~.backfill_checks.Refused`: records that the target does
                not take.
            LeaseHeld: another backfill works on it.
            Conflict: the migration went on without it.
            Unavailable, Unknown: a side or the store failed for long. Say it again.
        """
        state = self._states.get()
        if state.backfill.get("finished") and not self._options.again:
            return _of_state(state)
        _check_phase(state)
        self._journal.timing = state.timing
        lease = Lease(
            ObjectLeases(self._place.store, self._place.clock),
            self._place.prefix("backfill") + "lease.json",
            self._place.clock,
            purpose="backfill",
            lease_s=LEASE_S,
        )
        held = self._acquired(lease)
        try:
            outcome = self._run(self._claimed(), held)
        except (Exception, KeyboardInterrupt):
            self._let_go(held)
            raise
        self._let_go(held)
        return outcome

    def _let_go(self, held: Tenure) -> None:
        held.release()
        if self._own_journal:
            self._journal.stop()

    def _acquired(self, lease: Lease) -> Tenure:
        """The lease; one whose holder was killed is waited for, and that is told."""
        clock = self._place.clock
        stop_s = clock.monotonic_s() + 2 * LEASE_S
        told = False
        while isinstance(found := lease.try_acquire(), HeldBy):
            if found.alive or clock.monotonic_s() >= stop_s:
                raise LeaseHeld(
                    f"another backfill works on it owner={found.owner}",
                    hint="`chromalith migrate status` shows how far it is",
                )
            if not told:
                told = True
                text = f"waits up to {found.wait_s:.0f} s to see whether another backfill lives owner={found.owner}"
                self._tell(BackfillProgress("", 0, 0, paused=text))
            clock.sleep(min(found.wait_s, LOOK_S))
        return found

    def _claimed(self) -> State:
        """The state with the name of this run in it: an unfinished one goes on, and keeps its objects, unless a new one is asked for."""
        clock = self._place.clock
        fresh = clock.random_hex(16)

        def claim(state: State) -> State | None:
            _check_phase(state)
            if state.backfill.get("run") == fresh or (state.backfill.get("run") and not self._options.again):
                return None
            change = change_of(clock, "backfill", str(state.phase), str(state.phase), "begins to copy", self._who)
            return state.changed(change, backfill={"run": fresh, "started_us": clock.now_us(), "finished": False})

        return self._states.change(claim)

    def _run(self, state: State, tenure: Tenure) -> BackfillOutcome:
        began_s = self._place.clock.monotonic_s()
        run = str(state.backfill["run"])
        options = self._options
        watch = Watch(self._states, run, tenure)
        limits = self._sides.target.limits
        throttle = Throttle(
            self._place.clock,
            rate=options.rate,
            max_source_ms=options.max_source_ms,
            pause_file=options.pause_file,
            tick=watch.tick,
            rows=min(ROWS, self._sides.source.limits.records_per_read),
        )
        ordered = options.ordered if options.ordered is not None else self._sides.target.kind is not SideKind.CLOUD
        mender = Mender(self._journal, self._states, self._sides)
        tools = Tools(
            self._journal,
            self._states,
            mender,
            throttle,
            watch,
            self._executor,
            run,
            max(1, min(options.workers, 2 * limits.writes_at_once + 2)),
            ordered,
            options.skip_rejects,
            options.chunk_rows,
        )
        work = _Work(self._place, self._sides, tools, self._tell)
        names = self._names(state)
        work.prepare(names)
        rejects = work.rejected()
        if rejects and not options.skip_rejects:
            raise Refused(rejects)
        for name in names:
            work.copy(name)
        outcome = BackfillOutcome(
            run,
            len(names) - len(work.gone),
            tuple(work.gone),
            work.records,
            work.counts(),
            work.evened,
            tuple(work.all_rejects()),
            self._place.clock.monotonic_s() - began_s,
        )
        self._finish(outcome)
        return outcome

    def _names(self, state: State) -> list[str]:
        there = self._sides.source.names()
        return sorted(there) if state.collections is None else list(state.collections)

    def _finish(self, outcome: BackfillOutcome) -> None:
        clock = self._place.clock
        at_us = clock.now_us()
        summary = {
            "finished": True,
            "finished_us": at_us,
            "collections": outcome.collections,
            "gone_collections": list(outcome.gone[:REJECTS_SHOWN]),
            "records": outcome.records,
            **asdict(outcome.counts),
            "evened": asdict(outcome.evened),
            "rejected": len(outcome.rejects),
            "rejects": [asdict(each) for each in outcome.rejects[:REJECTS_SHOWN]],
        }

        def finish(state: State) -> State | None:
            check_goes_on(state, outcome.run)
            if state.backfill.get("finished"):
                return None
            note = f"copied {outcome.counts.copied} of {outcome.records} records"
            change = change_of(clock, "backfill", str(state.phase), str(state.phase), note, self._who)
            return state.changed(change, backfill={**state.backfill, **summary})

        self._states.change(finish)


class _Work:
    """The collections of one backfill, and how far all of them are."""

    def __init__(self, place: Place, sides: Sides, tools: Tools, tell: Tell) -> None:
        self._place = place
        self._sides = sides
        self._tools = tools
        self._meter = Meter(place.clock, tools.throttle, tell)
        tools.throttle.on_pause = self._meter.pause
        self._copies: dict[str, tuple[CollectionCopy, IdStore, IdPlan]] = {}
        self._rejected: dict[str, list[Reject]] = {}
        self.evened = NOTHING
        self.gone: list[str] = []

    def prepare(self, names: list[str]) -> None:
        """Check every collection, then take the ids of each. Nothing is written to the target but collections that it lacks."""
        fits = {}
        for name in names:
            try:
                source = self._sides.source.collection(name)
            except NotFound:
                self.gone.append(name)
                continue
            with suppress(NotFound):
                check_fit(source, self._sides.target.collection(name))
            fits[name] = source
        for name in fits:
            self._tools.watch.tick()
            self._open(name)

    @property
    def records(self) -> int:
        """Of all collections, when their ids were taken."""
        return self._meter.total

    def _open(self, name: str) -> None:
        """Open a collection on both sides and take its ids; one that the source does not have any more is gone."""
        try:
            source = self._sides.source.collection(name)
            target = self._sides.target.create(name, source.definition)
            check_fit(source, target)
            for ids in attempts(self._place, name, self._tools.run):
                copy = CollectionCopy(self._tools, ids, source, target, self._sides.target.limits, self._meter)
                plan = copy.prepare()
                if plan is not None:
                    self._copies[name] = copy, ids, plan
                    self._meter.expect(name, plan.total)
                    return
        except NotFound:
            self._copies.pop(name, None)
            self._meter.forget(name)
            self.gone.append(name)

    def rejected(self) -> list[Reject]:
        """What the target does not take, as far as that shows before anything is written."""
        for name, (copy, _, plan) in self._copies.items():
            self._rejected[name] = copy.look(plan)
        return [each for found in self._rejected.values() for each in found]

    def copy(self, name: str) -> None:
        """Copy one collection; one that is dropped and made again meanwhile is begun anew, a few times."""
        for attempt in range(REOPENINGS + 1):
            if name not in self._copies:
                return
            copy, _, plan = self._copies[name]
            left_out = frozenset(each.id for each in self._rejected.get(name, ()))
            try:
                copy.copy(plan, left_out)
                self.evened += copy.finish(plan)
                return
            except NotFound:
                if attempt == REOPENINGS:
                    raise
                self._tools.watch.stop.clear()
                self._open(name)
                if name in self._copies:
                    self._rejected[name] = self._copies[name][0].look(self._copies[name][2])

    def counts(self) -> Counts:
        """Of all collections and attempts."""
        return sum((ids.done().counts for _, ids, _ in self._copies.values()), Counts())

    def all_rejects(self) -> list[Reject]:
        """Those that were found beforehand and those that the target refused, each once."""
        found: dict[tuple[str, str], Reject] = {}
        for _, ids, _ in self._copies.values():
            for each in ids.rejects() or ():
                found.setdefault((each.collection, each.id), each)
        return list(found.values())


def _check_phase(state: State) -> None:
    if state.phase is not Phase.BACKFILL:
        raise Invalid(
            f"a backfill is not possible in this phase phase={state.phase}",
            hint="`chromalith migrate backfill` enters its phase from `dual`, when every client writes to both sides",
        )


def _of_state(state: State) -> BackfillOutcome:
    """What a finished backfill noted in the state."""
    noted = state.backfill
    return BackfillOutcome(
        run=str(noted.get("run", "")),
        collections=int(noted.get("collections", 0)),
        gone=tuple(noted.get("gone_collections", ())),
        records=int(noted.get("records", 0)),
        counts=Counts(**{each.name: int(noted.get(each.name, 0)) for each in fields(Counts)}),
        evened=Applied(**noted.get("evened", {})),
        rejects=tuple(Reject(**each) for each in noted.get("rejects", ())),
        already=True,
    )
