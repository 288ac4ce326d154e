"""The verbs of a migration for Python; the command line parses and prints, and does nothing else.

Each verb: is it legal in this phase (:mod:`chromalith.migrate.phases`), do its gates hold (:mod:`.gates`), what will be done
(:mod:`.plan`), do it (:mod:`.steps`). ``dry_run`` stops before the last. Every verb may be said again, whatever became of it before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from chromalith.errors import Invalid
from chromalith.migrate.phases import ENDED, Phase, Verb, legal_verbs
from chromalith.migrate.places import Place
from chromalith.migrate.port import Sides
from chromalith.migrate.state import Percent, SideName, State, Timing
from chromalith.migrate.states import States, change_of, whoami
from chromalith.migrate.workflow import catalog, gates
from chromalith.migrate.workflow.gates import GateLimits, Refused, overrule
from chromalith.migrate.workflow.gating import Evidence, dated, gates_of
from chromalith.migrate.workflow.parts import StoreParts
from chromalith.migrate.workflow.plan import Plan, Step, StepName, plan_of, wish
from chromalith.migrate.workflow.ports import Parts
from chromalith.migrate.workflow.starting import check_timing, may_start_again, plan_start
from chromalith.migrate.workflow.steps import Tell, Walk

SidesOpener = Callable[[], Sides]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a verb.

    Attributes:
        plan: what was, or with ``dry_run`` would be, done.
        state: what stands now; with ``dry_run`` what stood.
        dry_run: whether nothing was done.
        walked: the steps that were carried out, in order.
        created: collections that were made at the target.
        found: of ``start``: what it found of each collection.
    """

    plan: Plan
    state: State
    dry_run: bool = False
    walked: tuple[Step, ...] = ()
    created: tuple[str, ...] = ()
    found: tuple[catalog.Found, ...] = field(default=())

    @property
    def already(self) -> bool:
        """Whether there was nothing to do."""
        return not self.plan.steps


class Workflow:
    """One migration, as its operator sees it. Safe to share between threads; others may use verbs at the same time.

    Args:
        place: where its state is.
        sides: both, or what opens them when a step needs them (``status`` and most plans do not).
        parts: the journal and its relatives; the real ones if left out.
        limits: of the gates.
        who: for the audit log; ``user@host`` if left out.
        tell: told of each step before it begins.

    Verbs raise ``Invalid`` (not legal here; a bad argument), :class:`~.gates.Refused` (a gate does not hold), ``Conflict`` (somebody
    else changed the migration meanwhile), :class:`~.steps.Cancelled` (the freeze was taken back; nothing was changed), ``NotFound``
    (not started), ``Unavailable``, ``Unknown``.
    """

    def __init__(
        self,
        place: Place,
        sides: Sides | SidesOpener | None = None,
        *,
        parts: Parts | None = None,
        limits: GateLimits | None = None,
        who: str | None = None,
        tell: Tell = lambda step: None,
    ) -> None:
        self.place = place
        self.states = States(place)
        self.limits = limits or GateLimits()
        self._given = sides
        self._who = who or whoami()
        self._tell = tell
        self._parts = StoreParts(place, self.sides) if parts is None else parts

    def sides(self) -> Sides:
        """Both sides, opened if they were not. Raises ``Invalid`` if none were given."""
        if self._given is None:
            raise Invalid("this verb needs both sides", hint="give Workflow(place, sides)")
        if not isinstance(self._given, Sides):
            self._given = self._given()
        return self._given

    @property
    def parts(self) -> Parts:
        return self._parts

    # The way there

    def start(
        self,
        source: SideName,
        target: SideName,
        *,
        collections: Sequence[str] | None = None,
        timing: Timing | None = None,
        force: Collection[str] = (),
        dry_run: bool = False,
    ) -> Outcome:
        """Begin: check both sides, write the state (phase direct), and create the source's collections at the target.

        Raises ``Invalid``, before anything is written: the sides are one place; a collection of the target has another distance or
        dimension; the migration has gone on already. ``Conflict``: there is one of this name between other sides, or with other times."""
        if (source.url, source.tenant, source.database) == (target.url, target.tenant, target.database):
            raise Invalid(f"source and target are the same url={source.url}", hint="give another --target")
        chosen = None if collections is None else tuple(sorted(set(collections)))
        if chosen == ():
            raise Invalid("no collection is to be moved", hint="name some, or leave `collections` out for all")
        if timing is not None:
            check_timing(timing)
        there = self.states.find()
        timing = timing or (Timing() if there is None else there.timing)
        state = State(self.place.name, source, target, collections=chosen, timing=timing)
        if there is not None:
            may_start_again(there, state)
        found = tuple(catalog.examine(self.sides(), chosen))
        strangers = catalog.strangers(self.sides(), chosen)
        begin = change_of(self.place.clock, "start", "", str(Phase.DIRECT), who=self._who)
        plan = plan_start(state, there, found, strangers, force, begin)
        return replace(self._carry_out(plan, dry_run), found=found)

    def dual(self, *, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """Writes go to both sides from now on. Returns when every client acts on it (``propagation_s`` later)."""
        return self._verb(Verb.DUAL, force=force, dry_run=dry_run)

    def enter_backfill(self, *, dry_run: bool = False) -> Outcome:
        """The phase of the copy. Returns when it may begin: every client writes to both sides."""
        return self._verb(Verb.BACKFILL, dry_run=dry_run)

    def enter_verify(self, *, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """The phase of comparison, after a finished copy; in later phases nothing changes."""
        return self._verb(Verb.VERIFY, force=force, dry_run=dry_run)

    def ramp(
        self,
        reads: float | None = None,
        writes: float | None = None,
        shadow: float | None = None,
        *,
        force: Collection[str] = (),
        dry_run: bool = False,
    ) -> Outcome:
        """Set percentages (0 to 100); those left out stay. ``writes`` changes the authority of ids, and freezes writes for some seconds."""
        for name, value in (("reads", reads), ("writes", writes), ("shadow", shadow)):
            if value is not None and not 0 <= value <= 100:
                raise Invalid(f"not a percentage {name}={value}", hint="give a number from 0 to 100")
        return self._verb(Verb.RAMP, force=force, dry_run=dry_run, percents=(reads, writes, shadow))

    def switch(self, *, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """The target becomes the authority of everything and answers all reads; the source keeps receiving every write."""
        return self._verb(Verb.SWITCH, force=force, dry_run=dry_run)

    def complete(self, *, yes: bool = False, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """Let go of the source. There is no way back. Raises ``Invalid`` without ``yes``."""
        return self._verb(Verb.COMPLETE, force=force, dry_run=dry_run, yes=yes)

    # The way back

    def rollback(self, *, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """Back to the source alone, with everything that was written since, also after the switch."""
        return self._verb(Verb.ROLLBACK, force=force, dry_run=dry_run)

    def cancel(self, *, force: Collection[str] = (), dry_run: bool = False) -> Outcome:
        """Give the migration up, before the cutover: the source alone, for good."""
        return self._verb(Verb.CANCEL, force=force, dry_run=dry_run)

    def forget(
        self, *, yes: bool = False, and_state: bool = False, force: Collection[str] = (), dry_run: bool = False
    ) -> Outcome:
        """Remove the objects of a migration that has ended. Raises ``Invalid`` without ``yes``, and before the end.

        After ``complete`` the state itself stays, unless ``and_state``: a migrating client that finds no state writes to the source."""
        state = self.states.get()
        if state.phase not in ENDED:
            raise Invalid(
                f"`forget` is not possible in this phase phase={state.phase}",
                hint=f"legal here: {', '.join(legal_verbs(state.phase))}",
            )
        with_state = and_state or state.phase is Phase.CANCELLED
        seen = self.evidence(looking=dry_run)
        checked = overrule(dated([gates.gone_gate(seen.clients)], seen), force) if with_state else []
        what = (
            "all objects of this migration"
            if with_state
            else "all objects of this migration but its state, which clients still follow"
        )
        steps = (Step(StepName.REMOVE, f"remove {what}"),)
        plan = Plan("forget", state, state.phase, state.percent, {"with_state": with_state}, tuple(checked), steps)
        if not (yes or dry_run or plan.refused):
            raise Invalid("`forget` can't be undone", hint="say --yes (in Python: yes=True)")
        return self._carry_out(plan, dry_run)

    # Beside the way

    def pause(self, *, dry_run: bool = False) -> Outcome:
        """Ask the backfill to wait."""
        return self._set_paused(True, dry_run)

    def resume(self, *, dry_run: bool = False) -> Outcome:
        """Let the backfill go on."""
        return self._set_paused(False, dry_run)

    def evidence(self, *, looking: bool = False) -> Evidence:
        """What gates look at, as it is now. ``looking``: nothing will be carried out by it, so the right to read is enough."""
        return Evidence(self._parts.looking() if looking else self._parts, self.place.clock.now_us())

    def plan(
        self,
        verb: Verb,
        *,
        force: Collection[str] = (),
        percents: tuple[float | None, float | None, float | None] | None = None,
        looking: bool = True,
    ) -> Plan:
        """What ``verb`` would do now; failed gates are in it, and raise nothing. ``looking``: see :meth:`evidence`."""
        state = self.states.get()
        percent = None
        if percents is not None:
            old = state.percent
            reads, writes, shadow = (
                before if now is None else float(now)
                for before, now in zip((old.reads, old.writes, old.shadow), percents, strict=True)
            )
            percent = Percent(reads, writes, shadow)
        wanted = wish(verb, state, percent)
        return plan_of(wanted, overrule(gates_of(wanted, self.evidence(looking=looking), self.limits), force))

    def _verb(
        self,
        verb: Verb,
        *,
        force: Collection[str] = (),
        dry_run: bool = False,
        percents: tuple[float | None, float | None, float | None] | None = None,
        yes: bool = True,
    ) -> Outcome:
        plan = self.plan(verb, force=force, percents=percents, looking=dry_run)
        if plan.steps and not (yes or dry_run or plan.refused):
            raise Invalid(f"`{verb}` can't be undone", hint="say --yes (in Python: yes=True)")
        return self._carry_out(plan, dry_run)

    def _carry_out(self, plan: Plan, dry_run: bool) -> Outcome:
        if dry_run:
            return Outcome(plan, plan.state, True)
        if plan.refused:
            raise Refused(plan.verb, plan.refused)
        walked: list[Step] = []

        def tell(step: Step) -> None:
            walked.append(step)
            self._tell(step)

        walk = Walk(self.states, self.sides, self._parts, self.place.clock, who=self._who, tell=tell)
        state = walk.run(plan)
        return Outcome(plan, state, False, tuple(walked), tuple(walk.created))

    def _set_paused(self, paused: bool, dry_run: bool) -> Outcome:
        state, verb = self.states.get(), "pause" if paused else "resume"
        if state.phase in ENDED:
            raise Invalid(
                f"`{verb}` is not possible in this phase phase={state.phase}", hint="this migration has ended"
            )
        text = "ask the backfill to wait" if paused else "let the backfill go on"
        steps = () if state.paused is paused else (Step(StepName.PUBLISH, text),)
        return self._carry_out(Plan(verb, state, state.phase, state.percent, {"paused": paused}, (), steps), dry_run)
