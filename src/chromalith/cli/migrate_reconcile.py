"""``chromalith migrate reconcile``: the ids that the journal names are made equal on both sides, once or until it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Annotated, Any

import typer

from chromalith.chroma.private_copy import WRITTEN
from chromalith.cli.failures import TRY_AGAIN
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import DryRunOption, NameOption, StateOption, open_place, open_sides
from chromalith.errors import ChromalithError, NotFound, Unavailable
from chromalith.migrate.entries import Listing
from chromalith.migrate.journal import Journal
from chromalith.migrate.journal_reader import JournalReader
from chromalith.migrate.looking import OWN_CLOCK, looked_at
from chromalith.migrate.phases import ENDED
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.reconcile import FOLLOW_WAIT_S, ReconcileOutcome, Reconciler
from chromalith.migrate.route import Route
from chromalith.migrate.state import State
from chromalith.migrate.states import States, whoami

FollowOption = Annotated[
    bool, typer.Option("--follow", help="Go on until it is stopped; of several that follow, one works.")
]
EveryOption = Annotated[
    float, typer.Option("--every", min=0.1, metavar="SECONDS", help="With --follow: the time between two rounds.")
]


def declare(group: typer.Typer) -> None:
    """Add ``reconcile`` to the group."""

    @command(group, "reconcile")
    def reconcile(
        run: Invocation,
        follow: FollowOption = False,
        every: EveryOption = FOLLOW_WAIT_S,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Compare the records that were written lately on both sides, and repair the side that missed a write.

        \b
        Example:
          chromalith migrate reconcile --dry-run
          chromalith migrate reconcile --follow
        """
        place = open_place(run, state, name)
        found = States(place).get()
        journal = Journal(place, client=whoami(), timing=found.timing)
        try:
            if dry_run:
                _print_plan(run, name, *_looked(place, found))
                return
            if follow:
                _follow(run, journal, every)
                return
            with _reconciler(run, found, journal) as reconciler:
                outcome = reconciler.pass_once()
        finally:
            journal.stop()
        _print(run, name, outcome)
        if outcome.reasons or outcome.unreadable:
            raise typer.Exit(TRY_AGAIN)


def _follow(run: Invocation, journal: Journal, every_s: float) -> None:
    """Until the migration has ended, whatever fails on the way. What is wrong with the call shows when the sides are first opened; one that
    is only away then is waited for.

    The sides are opened anew when it changes which of them is written by tools (a Chroma directory is only read while it is the authority
    of everything, because the application has it open), and after a round that found its copy of one to be old."""
    follower = _Follower(run, journal, every_s)
    state: State | None = States(journal.place).get()
    while state is not None and state.phase not in ENDED:
        state = follower.follow(state)
    run.output.say("the migration has ended: there is nothing to reconcile any more")


class _Follower:
    """Rounds, and a look at the state after each."""

    def __init__(self, run: Invocation, journal: Journal, every_s: float) -> None:
        self._run = run
        self._journal = journal
        self._every_s = every_s
        self._states = States(journal.place)
        self._teller = _Teller(run, journal.place.name)
        self._opened = False
        self._is_old = False

    def follow(self, state: State) -> State | None:
        """With both sides open, until something of them has changed. Returns the state then; ``None``: it was removed."""
        try:
            with _reconciler(self._run, state, self._journal) as reconciler:
                self._opened = True
                reconciler.follow(partial(self._changed, state), wait_s=self._every_s, tell=self._tell)
        except ChromalithError as error:  # a side that is away when it is opened
            if not self._opened and not isinstance(error, Unavailable):
                raise
            self._tell(ReconcileOutcome(reasons=(str(error),)))
            self._journal.place.clock.sleep(self._every_s)
        return self._look(state)

    def _tell(self, outcome: ReconcileOutcome) -> None:
        self._is_old = any(WRITTEN in reason for reason in outcome.reasons)
        self._teller(outcome)

    def _changed(self, state: State) -> bool:
        now = self._look(state)
        if now is None or now.phase in ENDED or _writes_source(now) != _writes_source(state):
            return True
        if self._is_old:
            self._journal.place.clock.sleep(self._every_s)
        return self._is_old

    def _look(self, before: State) -> State | None:
        try:
            return self._states.get()
        except NotFound:
            return None
        except ChromalithError:  # the next round needs the state, too, and tells what is wrong
            return before


def _writes_source(state: State) -> bool:
    return Route(state).writes_percent > 0


@contextmanager
def _reconciler(run: Invocation, state: State, journal: Journal) -> Iterator[Reconciler]:
    sides = open_sides(run, state)
    try:
        yield Reconciler(journal, States(journal.place), sides)
    finally:
        for side in (sides.source, sides.target):
            # Each read of a copy was checked already; an error now would take the place of an interrupt.
            with suppress(ChromalithError):
                side.close()


def encoded(name: str, outcome: ReconcileOutcome) -> dict[str, Any]:
    """A pass as JSON."""
    return {
        "result": "held" if outcome.held_by else "reconciled",
        "name": name,
        "checked": outcome.checked,
        "added": outcome.fixed.added,
        "changed": outcome.fixed.changed,
        "deleted": outcome.fixed.deleted,
        "removed": outcome.removed,
        "left": outcome.left,
        "open": outcome.open,
        "unreadable": list(outcome.unreadable),
        "reasons": list(outcome.reasons),
        "held_by": outcome.held_by,
    }


def _looked(place: Place, state: State) -> tuple[Listing, bool]:
    """The journal now, and whether its ages are by this machine's clock."""
    looking, store = looked_at(place)
    reader = JournalReader(looking, timing=state.timing)
    try:
        return reader.entries(), store.own_clock
    finally:
        reader.let_go()


def _print_plan(run: Invocation, name: str, listing: Listing, own_clock: bool) -> None:
    outcome = ReconcileOutcome(left=listing.open + listing.ended, open=listing.open, unreadable=listing.unreadable)
    value = encoded(name, outcome) | {"result": "planned"}

    def human() -> None:
        run.output.line(
            f"{listing.ended} calls would be compared ({listing.failed} missed a side, {listing.abandoned} by a process that died),"
            f" {listing.open} are under way, oldest {listing.oldest_s:.0f} s"
        )

    run.output.data(value, human)
    if own_clock:
        run.output.say(f"ages are {OWN_CLOCK}")


def _print(run: Invocation, name: str, outcome: ReconcileOutcome) -> None:
    run.output.data(encoded(name, outcome), lambda: _tell(run, outcome))


def _tell(run: Invocation, outcome: ReconcileOutcome) -> None:
    fixed = outcome.fixed
    run.output.line(
        f"{outcome.checked} records compared: {fixed.added} added, {fixed.changed} changed, {fixed.deleted} deleted;"
        f" {outcome.removed} calls settled, {outcome.left} left, {outcome.open} of them under way"
    )
    for reason in outcome.reasons:
        run.output.line(f"in the way: {reason}")
    for key in outcome.unreadable:
        run.output.line(f"can't be read, and is kept: {key}")


class _Teller:
    """Tells of rounds that did something, and once of what is in their way."""

    def __init__(self, run: Invocation, name: str) -> None:
        self._run = run
        self._name = name
        self._said: tuple[object, ...] = ()

    def __call__(self, outcome: ReconcileOutcome) -> None:
        said = (outcome.reasons, outcome.unreadable, outcome.held_by)
        news, self._said = said != self._said and any(said), said
        if outcome.held_by is not None:
            if news:
                self._run.output.say(f"{outcome.held_by} reconciles; waiting for it to end")
        elif outcome.removed or outcome.fixed.total or news:
            _print(self._run, self._name, outcome)
