"""Walking a plan: each step carried out, in the plan's order, and nothing besides.

The protocol of a change of authority (docs/protocol.md has its proof):

1. Note the monotonic time; publish the freeze, on condition that the state is what the plan was made of, and nobody else's freeze stands.
2. Wait ``propagation_s``: then no client begins a write on a state from before the freeze.
3. Wait until the journal has no open entry: then no write is under way.
4. Reconcile from the present authority until the journal is empty; compare what it had named.
5. Flip by compare-and-set, on condition that *the same* freeze still stands and less than ``freeze_limit_s`` has passed since 1.

Invariants:
    Whatever fails between 1 and 5 takes the freeze back, and tells why. A tool that dies leaves it to the clients, which take it back after
    ``freeze_limit_s``, or to the next verb: 5 then fails, however late it comes, because the freeze's id is gone.
    A flip whose reply is lost is looked up before it is told (its line in the audit log has the freeze's id).
"""

from __future__ import annotations

from collections.abc import Callable

from chromalith.clock import Clock
from chromalith.errors import Bug, ChromalithError, Conflict, Corrupt, Unavailable, Unknown
from chromalith.migrate.phases import DUAL_PHASES, Verb
from chromalith.migrate.port import Role, SideKind, Sides
from chromalith.migrate.state import Freeze, State
from chromalith.migrate.states import States, change_of, whoami
from chromalith.migrate.workflow.catalog import mirror
from chromalith.migrate.workflow.forget import remove
from chromalith.migrate.workflow.plan import SETTLED, Plan, Step, StepName, described, is_settled, routing_epoch
from chromalith.migrate.workflow.ports import Parts, Touched

POLL_S = 0.25
"""Between two looks at the journal or at somebody's freeze: a hundredth of the freeze's limit."""

Tell = Callable[[Step], None]


class Cancelled(Unavailable):
    """A change of authority that ended by itself: writes go on as before, nothing was changed."""


class Walk:
    """One plan being carried out, by one tool.

    Args:
        states: the migration's.
        sides: opens both; called when a step needs them.
        parts: the journal, reconciliation, and what else steps use.
        clock: its monotonic time limits the freeze.
        who: for the audit log.
        tell: told of each step before it begins.
    """

    def __init__(
        self, states: States, sides: Callable[[], Sides], parts: Parts, clock: Clock, *, who: str = "", tell: Tell
    ) -> None:
        self._states = states
        self._sides = sides
        self._parts = parts
        self._clock = clock
        self._who = who or whoami()
        self._tell = tell
        self._freeze_id: str | None = None
        self._waited_for = 0
        self._began_s = 0.0
        self._limit_s = 0.0
        self._touched: Touched = {}
        self.created: list[str] = []
        """The collections that were made at the target."""

    def run(self, plan: Plan) -> State:
        """Carry out ``plan``; the state that then stands.

        Raises ``Cancelled`` (the freeze was taken back), ``Conflict`` (the state is not what was planned on), ``Unknown``,
        ``Unavailable``."""
        act: dict[StepName, Callable[[Plan], State | None]] = {
            StepName.CREATE: lambda plan: self._states.create(plan.state),
            StepName.AWAIT_FREEZE: self._await_freeze,
            StepName.COLLECTIONS: self._collections,
            StepName.RECONCILE: lambda _: self._reconcile(),
            StepName.FREEZE: self._freeze,
            StepName.PROPAGATE: self._propagate,
            StepName.FINISH_CALLS: lambda _: self._finish_calls(),
            StepName.DRAIN: lambda _: self._drain(),
            StepName.CHECK: lambda _: self._check(),
            StepName.FLIP: self._flip,
            StepName.PUBLISH: self._publish,
            StepName.SETTLED: self._settled,
            StepName.REMOVE: lambda plan: remove(self._states.place, with_state=bool(plan.fields["with_state"])),
        }
        state = plan.state
        try:
            for step in plan.steps:
                self._tell(step)
                state = act[step.name](plan) or state
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if self._freeze_id is None:
                raise
            return self._end_freeze(plan, error)
        return state

    # Without a freeze

    def _publish(self, plan: Plan) -> State:
        both = any(step.name is StepName.COLLECTIONS for step in plan.steps)
        if (
            both and plan.state.source.kind is not SideKind.DIRECTORY
        ):  # of which a copy, made now, would be old after the wait
            self._reach_sides()  # once both sides are written, one that is down makes callers wait

        def decide(now: State) -> State | None:
            wanted = {"phase": plan.phase, "percent": plan.percent, **plan.fields}
            if all(getattr(now, name) == value for name, value in wanted.items()):
                return None
            _same_ground(plan, now)
            return now.changed(
                change_of(self._clock, plan.verb, plan.before, plan.after, _forced(plan), self._who), **wanted
            )

        return self._states.change(decide)

    def _propagate(self, plan: Plan) -> None:
        if self._freeze_id is None:
            self._waited_for = routing_epoch(self._states.get())
        self._clock.sleep(plan.state.timing.propagation_s)

    def _settled(self, plan: Plan) -> State:
        def decide(now: State) -> State | None:
            if now.phase not in DUAL_PHASES or routing_epoch(now) != self._waited_for:
                raise _changed(plan, now)  # also if it is `dual` again: nobody has waited for that one
            if is_settled(now):
                return None
            here = described(now.phase, now.percent)
            return now.changed(change_of(self._clock, Verb.DUAL, here, here, SETTLED, self._who))

        return self._states.change(decide)

    def _collections(self, plan: Plan) -> None:
        self.created += mirror(self._sides(), plan.state.collections)

    def _reconcile(self) -> None:
        self._reach_sides()
        self._parts.reconcile()

    def _reach_sides(self) -> None:
        """A side that is down is found out before anybody has to wait for it."""
        sides = self._sides()
        for role in Role:
            sides[role].names()

    def _await_freeze(self, plan: Plan) -> State:
        """Its end, or its limit on our own clock: whoever published it can't flip after that either way, or has flipped before."""
        began_s, freeze = self._clock.monotonic_s(), plan.state.freeze
        if freeze is None:
            raise Bug("a freeze to wait for that is not there")
        while self._clock.monotonic_s() - began_s < plan.state.timing.freeze_limit_s:
            now = self._states.get()
            if now.freeze is None or now.freeze.id != freeze.id:
                return now
            self._clock.sleep(POLL_S)
        return self._unfreeze(freeze.id, plan.verb, f"{freeze.by} left it behind")

    # With a freeze

    def _freeze(self, plan: Plan) -> State:
        self._began_s, self._limit_s = self._clock.monotonic_s(), plan.state.timing.freeze_limit_s
        freeze = Freeze(self._clock.random_hex(16), plan.verb, self._who, self._clock.now_us())

        def decide(now: State) -> State | None:
            if now.freeze is not None and now.freeze.id == freeze.id:
                return None
            _same_ground(plan, now)
            note = f"freeze {freeze.id}" + (f"; {_forced(plan)}" if plan.overruled else "")
            return now.changed(
                change_of(self._clock, plan.verb, plan.before, plan.before, note, self._who), freeze=freeze
            )

        self._freeze_id = freeze.id  # from here on it may stand, also if the reply is lost
        try:
            return self._states.change(decide)
        except Conflict:
            self._freeze_id = None  # it does not stand: somebody else's change does
            raise

    @property
    def _spent_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s

    def _go_on(self) -> None:
        """Raises if the freeze's time is over."""
        if self._spent_s >= self._limit_s:
            raise Unavailable(f"it took longer than a freeze may last limit_s={self._limit_s:g}")

    def _finish_calls(self) -> None:
        while (lag := self._parts.lag()).open:
            if self._spent_s + POLL_S >= self._limit_s:
                raise Unavailable(
                    f"writes were still under way calls={lag.open} oldest_s={lag.oldest_open_s:.0f} limit_s={self._limit_s:g}"
                )
            self._clock.sleep(POLL_S)

    def _drain(self) -> None:
        freeze_id = self._freeze_id
        if freeze_id is None:
            raise Bug("a drain without a freeze")
        done = self._parts.drain(lambda: self._spent_s >= self._limit_s, freeze_id)
        self._touched = done.touched
        if not done.empty:
            why = f": {done.reasons[0]}" if done.reasons else ""
            raise Unavailable(
                f"the journal could not be emptied in time calls={done.left} limit_s={self._limit_s:g}{why}"
            )

    def _check(self) -> None:
        different = self._parts.differing(self._touched, self._go_on)
        if different:
            raise Conflict(f"touched records differ although they were reconciled ids={', '.join(different[:5])}")

    def _flip(self, plan: Plan) -> State:
        def decide(now: State) -> State | None:
            if self._flipped(now):
                return None
            if now.freeze is None or now.freeze.id != self._freeze_id:
                raise Conflict("the freeze was taken back by somebody who waited for it")
            _same_evidence(plan, now)
            self._go_on()
            records = sum(len(ids) for ids in self._touched.values())
            note = f"{self._flip_note}; {records} touched records compared"
            change = change_of(self._clock, plan.verb, plan.before, plan.after, note, self._who)
            return now.changed(change, phase=plan.phase, percent=plan.percent, **plan.fields, freeze=None)

        state = self._states.change(decide)
        self._freeze_id = None
        return state

    @property
    def _flip_note(self) -> str:
        return f"flip {self._freeze_id}"

    def _flipped(self, now: State) -> bool:
        return any(change.note.startswith(self._flip_note) for change in now.history)

    def _end_freeze(self, plan: Plan, error: BaseException) -> State:
        """Something failed between freeze and flip: take the freeze back; or find that the flip was done, its reply lost."""
        why = error.message if isinstance(error, ChromalithError) else f"{type(error).__name__}: {error}"
        freeze_id = self._freeze_id
        if freeze_id is None:
            raise Bug("no freeze to end") from error
        state = self._unfreeze_surely(freeze_id, plan.verb, why)
        if self._flipped(state):
            return state
        if not isinstance(error, Exception):
            raise error
        todo = (
            error.hint
            if isinstance(error, Conflict) and error.hint
            else "`chromalith migrate reconcile`, then try again"
        )
        raise Cancelled(
            f"`{plan.verb}` was cancelled, and writes go on as before: {why}", hint=f"nothing was changed; {todo}"
        ) from error

    def _unfreeze_surely(self, freeze_id: str, verb: str, why: str) -> State:
        """Everybody's writes wait for it: it is tried until clients would do it themselves. Raises ``Unknown``."""
        while True:
            try:
                return self._unfreeze(freeze_id, verb, why)
            except ChromalithError as error:
                if self._spent_s >= self._limit_s or isinstance(error, Corrupt):
                    raise Unknown(
                        f"`{verb}` failed, and the state can't be reached to take the freeze back: {why}",
                        hint="clients take it back by themselves after its limit; look with `chromalith migrate status`",
                    ) from error
            self._clock.sleep(POLL_S)

    def _unfreeze(self, freeze_id: str, verb: str, why: str) -> State:
        def decide(now: State) -> State | None:
            if now.freeze is None or now.freeze.id != freeze_id:
                return None
            here = described(now.phase, now.percent)
            note = f"freeze {freeze_id} taken back: {why}"
            return now.changed(change_of(self._clock, verb, here, here, note, self._who), freeze=None)

        return self._states.change(decide)


def _same_ground(plan: Plan, now: State) -> None:
    """The plan still fits what is there. Raises ``Conflict``.

    The epoch, too: by the way of `rollback` and `dual` the phase can be the same again, and nothing that was looked at is true any more."""
    ground = (plan.state.phase, plan.state.percent)
    if (now.phase, now.percent) != ground or routing_epoch(now) != routing_epoch(plan.state):
        raise _changed(plan, now)
    _same_evidence(plan, now)
    if now.freeze is not None and (plan.phase, plan.percent) != ground:
        raise Conflict(
            f"writes are frozen by another verb={now.freeze.verb} by={now.freeze.by}",
            hint="wait for it to end, look with `chromalith migrate status`, then decide again",
        )


def _same_evidence(plan: Plan, now: State) -> None:
    """What the gates went by has not been overtaken: a reconciliation before the freeze may take long. Raises ``Conflict``."""
    passed = {gate.name for gate in plan.gates if gate.passed}
    if "verify" in passed and not now.verify.get("clean"):
        raise Conflict(
            "a comparison that ended meanwhile found differences", hint="run `chromalith migrate verify --repair`"
        )
    if "backfill" in passed and not now.backfill.get("finished"):
        raise Conflict(
            "a copy was begun again meanwhile", hint="run `chromalith migrate backfill` to its end, then try again"
        )


def _changed(plan: Plan, now: State) -> Conflict:
    who = now.history[-1].who if now.history else "?"
    return Conflict(
        f"somebody changed the migration meanwhile by={who} planned_on={plan.before} now={described(now.phase, now.percent)}",
        hint="look with `chromalith migrate status`, then decide again",
    )


def _forced(plan: Plan) -> str:
    return "; ".join(f"forced {gate.name}: {gate.reason}" for gate in plan.overruled)
