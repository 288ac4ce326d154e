"""Every store call of a verb could be its last: the tool dies there, or its reply is lost. Then the verb is said again, and ends right."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.migrate.workflow_world import SOURCE, TARGET, TIMING, World

from chromalith.errors import Conflict, Unavailable, Unknown
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze
from chromalith.migrate.workflow.gates import Refused
from chromalith.migrate.workflow.plan import Step, StepName
from chromalith.migrate.workflow.steps import Cancelled, Tell
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore, at_calls
from chromalith.transfer.port import Definition

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE]
Act = Callable[[Workflow], object]

VERBS: list[tuple[str, Phase, Phase, Act]] = [
    ("dual", Phase.DIRECT, Phase.DUAL, lambda flow: flow.dual()),
    ("backfill", Phase.DUAL, Phase.BACKFILL, lambda flow: flow.enter_backfill()),
    ("ramp", Phase.VERIFY, Phase.RAMP, lambda flow: flow.ramp(25, 50, 10)),
    ("switch", Phase.RAMP, Phase.CUTOVER, lambda flow: flow.switch()),
    ("complete", Phase.CUTOVER, Phase.COMPLETE, lambda flow: flow.complete(yes=True)),
    ("rollback", Phase.BACKFILL, Phase.DIRECT, lambda flow: flow.rollback()),
    ("rollback", Phase.RAMP, Phase.DIRECT, lambda flow: flow.rollback()),
    ("rollback", Phase.CUTOVER, Phase.DIRECT, lambda flow: flow.rollback()),
    ("cancel", Phase.RAMP, Phase.CANCELLED, lambda flow: flow.cancel()),
    ("pause", Phase.BACKFILL, Phase.BACKFILL, lambda flow: flow.pause()),
]
IDS = [f"r{number}" for number in range(6)]


@functools.cache
def built(phase: Phase) -> World:
    """A migration in ``phase``, with writes since of which the second side missed every other one. Only to be copied."""
    world = World().until(phase)
    for number, record_id in enumerate(IDS):
        world.write(record_id, "second", second=number % 2 == 0)
    world.compared()
    return world


def prepared(phase: Phase) -> World:
    """A copy of what :func:`built` made: walking to the phase each time would take most of these tests' time."""
    return built(phase).copy()


def calls_of(phase: Phase, act: Act) -> int:
    """How many store calls the verb makes when nothing goes wrong."""
    world = prepared(phase)
    store = FaultyStore(world.store, lambda call: None, world.clock)
    act(world.workflow(store))
    return len(store.calls)


def authority_has_all(world: World) -> bool:
    """Whether each record has its last value at the side that is its authority now."""
    documents = {role: world.documents(role) for role in Role}
    if world.state.phase in (Phase.DIRECT, Phase.CANCELLED):
        return all(documents[Role.SOURCE].get(record_id) == "second" for record_id in IDS)
    route = Route(world.state)
    return all(documents[route.authority(record_id)].get(record_id) == "second" for record_id in IDS)


def again(world: World, act: Act) -> None:
    """The verb said by another tool. Died the first one in a repair, the entry of that repair is in the way until it counts as abandoned:
    then, as the error says, reconcile, and say it once more."""
    try:
        act(world.workflow())
    except (Cancelled, Refused) as error:
        assert "reconcile" in (error.hint or "") or "wait" in (error.hint or "")
        world.clock.advance(world.timing.abandoned_s + 1)
        world.workflow().parts.reconcile()
        world.compared()
        act(world.workflow())


def write_while_frozen(world: World, act: Callable[[], object] = lambda: None) -> Tell:
    """A call that began before the freeze, and that only the authority took, shortly before the tool looks for such calls."""

    def tell(step: Step) -> None:
        if step.name is StepName.PROPAGATE:
            world.write("r1", "second", second=False)
            act()

    return tell


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "before", "after", "act"), VERBS, ids=[f"{v[0]}-{v[1]}" for v in VERBS])
def test_a_verb_can_end_at_any_call(name: str, before: Phase, after: Phase, act: Act, fault: Fault) -> None:
    """Wherever it ends, the phase is the one before or the one after, each record is at its authority, and nobody's writes stay frozen:
    said again by another tool, the verb ends in its phase."""
    total = calls_of(before, act)
    struck: set[str] = set()
    for number in range(1, total + 1):
        world = prepared(before)
        store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
        with suppress(Crash, Unavailable, Unknown, Conflict):
            act(world.workflow(store))
        struck |= {call.verb for call, _ in store.struck}
        for _ in range(2):  # as it stands, and after a request that was late has landed
            assert world.state.phase in (before, after), number
            assert authority_has_all(world), number
            store.land()
        again(world, act)
        state = world.state
        assert (state.phase, state.freeze) == (after, None), number
        assert authority_has_all(world), number
    assert {"put", "get"} <= struck


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_can_end_at_any_call(fault: Fault) -> None:
    """Said again, it has begun once, and the collections are there."""
    for number in range(1, 8):
        world = World()
        store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
        flow = world.workflow(store)
        with suppress(Crash, Unavailable, Unknown, Conflict):
            _start(flow)
        store.land()
        world.start()
        assert world.state.phase is Phase.DIRECT
        assert [change.verb for change in world.state.history] == ["start"]
        assert world.target.names() == ["words"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forget_can_end_at_any_call(fault: Fault) -> None:
    """Said again, everything is gone; before that the state is there, so it can be said again."""
    for number in range(1, 20):
        world = World().until(Phase.CUTOVER)
        world.write("b", "x")
        world.workflow().rollback()
        world.workflow().cancel()
        store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
        with suppress(Crash, Unavailable, Unknown, Conflict):
            world.workflow(store).forget(yes=True)
        store.land()
        if world.workflow().states.find() is not None:
            world.workflow().forget(yes=True)
        assert list(world.store.list("")) == []


SIDE_VERBS = [verb for verb in VERBS if verb[0] in ("switch", "rollback") and verb[1] in (Phase.RAMP, Phase.CUTOVER)]
SIDE_FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.BEFORE]


@pytest.mark.parametrize("fault", SIDE_FAULTS)
@pytest.mark.parametrize(("name", "before", "after", "act"), SIDE_VERBS, ids=[f"{v[0]}-{v[1]}" for v in SIDE_VERBS])
def test_a_verb_can_end_at_any_call_of_a_side(name: str, before: Phase, after: Phase, act: Act, fault: Fault) -> None:
    """The same where it ends at a call to one of the two sides, with writes that only the authority took while the tool worked."""
    world = prepared(before)
    begun = len(world.faults.calls)
    act(world.workflow(tell=write_while_frozen(world)))
    total = len(world.faults.calls) - begun
    assert total > 10
    for number in range(1, total + 1):
        world = prepared(before)
        world.faults.choose = at_calls({len(world.faults.calls) + number: fault})
        with suppress(Crash, Unavailable, Unknown, Conflict):
            act(world.workflow(tell=write_while_frozen(world)))
        world.faults.choose = lambda call: None
        assert world.state.phase in (before, after), number
        assert authority_has_all(world), number
        again(world, act)
        assert (world.state.phase, world.state.freeze) == (after, None), number
        assert authority_has_all(world), number


def test_a_side_that_fails_cancels_the_switch() -> None:
    """If a side can't be reached while the journal is drained, writes go on as before, and the reason is told and kept."""
    world = prepared(Phase.RAMP)

    def fail(call: Call) -> None:
        if world.state.freeze is not None:
            raise Unavailable("the side is down")

    world.faults.choose = fail
    with pytest.raises(Unavailable, match="cancelled.*the side is down"):
        world.workflow(tell=write_while_frozen(world)).switch()
    state = world.state
    assert (state.phase, state.freeze) == (Phase.RAMP, None)
    assert "taken back" in state.history[-1].note
    assert "down" in state.history[-1].note
    assert authority_has_all(world)


def test_nobody_waits_for_a_side_that_is_down() -> None:
    """A side that can't be reached is found out before writes are frozen."""
    world = prepared(Phase.CUTOVER)

    def down(call: Call) -> None:
        raise Unavailable("the source is down")

    world.faults.choose = down
    epoch = world.state.epoch
    with pytest.raises(Unavailable, match="the source is down"):
        world.workflow().rollback()
    assert (world.state.epoch, world.state.freeze) == (epoch, None)


def test_a_call_that_does_not_end_cancels_the_switch() -> None:
    """An entry that stays open longer than a freeze may last: it cancels itself after its limit by the tool's clock."""
    world = prepared(Phase.RAMP)
    journal = world.workflow().parts._journal()  # type: ignore[attr-defined]
    journal.open("words", ["r1"], authority=Role.SOURCE, op="upsert")
    began_s = world.clock.monotonic_s()
    with pytest.raises(Unavailable, match="still under way calls=1"):
        world.workflow().switch()
    assert world.clock.monotonic_s() - began_s <= TIMING.freeze_limit_s + 1
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


FROZEN_STEPS = [StepName.FINISH_CALLS, StepName.DRAIN, StepName.CHECK, StepName.FLIP]


@pytest.mark.parametrize("step", FROZEN_STEPS)
def test_a_freeze_that_a_client_took_back_can_not_be_flipped(step: StepName) -> None:
    """A tool that was asleep while clients took its freeze back does not flip, whichever step it was at."""
    world = prepared(Phase.RAMP)

    def asleep(at: Step) -> None:
        write_while_frozen(world)(at)
        if at.name is step:
            world.states.change(lambda now: now.changed(now.history[-1], freeze=None))  # as a client does

    with pytest.raises(Unavailable, match="cancelled"):
        world.workflow(tell=asleep).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


def test_a_freeze_of_somebody_else_is_left_alone() -> None:
    """A tool whose freeze was taken back, and followed by another one's, neither flips under that one nor takes it back."""
    world = prepared(Phase.RAMP)
    other = Freeze("f" * 16, "rollback", "somebody", 0)

    def asleep(at: Step) -> None:
        if at.name is StepName.FLIP:
            world.states.change(lambda now: now.changed(now.history[-1], freeze=other))

    with pytest.raises(Unavailable, match="cancelled"):
        world.workflow(tell=asleep).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, other)


@pytest.mark.parametrize("step", FROZEN_STEPS)
def test_a_flip_comes_too_late(step: StepName) -> None:
    """A tool that was suspended for longer than a freeze may last does not flip, even if no client noticed."""
    world = prepared(Phase.RAMP)

    def suspended(at: Step) -> None:
        write_while_frozen(world)(at)
        if at.name is step:
            world.clock.advance(TIMING.freeze_limit_s)

    with pytest.raises(Unavailable, match="cancelled"):
        world.workflow(tell=suspended).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


def test_touched_records_that_differ_cancel_the_switch() -> None:
    """Should records differ although they were reconciled, the flip does not happen, and they are named."""
    world = prepared(Phase.RAMP)

    def spoil(at: Step) -> None:
        write_while_frozen(world)(at)
        if at.name is StepName.CHECK:
            world.put("target", "r1", "changed behind everybody's back")

    with pytest.raises(Unavailable, match="words/r1"):
        world.workflow(tell=spoil).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


def test_an_interrupted_switch_takes_its_freeze_back() -> None:
    """Control-C while writes are frozen: they go on at once."""
    world = prepared(Phase.RAMP)

    def interrupt(call: Call) -> None:
        if world.state.freeze is not None:
            raise KeyboardInterrupt

    world.faults.choose = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.workflow(tell=write_while_frozen(world)).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


def test_a_freeze_is_not_put_over_another() -> None:
    """Somebody else froze writes after the plan was made: his freeze stays as it is, and this verb is told to wait."""
    world = prepared(Phase.RAMP)
    other = Freeze("f" * 16, "rollback", "somebody", 0)

    def frozen(at: Step) -> None:
        if at.name is StepName.FREEZE:
            world.states.change(lambda now: now.changed(now.history[-1], freeze=other))

    with pytest.raises(Conflict, match="frozen by another verb=rollback by=somebody"):
        world.workflow(tell=frozen).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, other)


def test_a_backfill_waits_if_dual_was_killed_while_it_waited() -> None:
    """Nobody may copy before every client writes to both sides: the wait that was cut short is done before the phase changes."""
    world = World().until(Phase.DIRECT)

    def kill(at: Step) -> None:
        if at.name is StepName.PROPAGATE:
            raise Crash("while it waits")

    with pytest.raises(Crash):
        world.workflow(tell=kill).dual()
    assert world.state.phase is Phase.DUAL
    began_s = world.clock.monotonic_s()
    phases = []
    done = world.workflow(tell=lambda at: phases.append((at.name, world.state.phase))).enter_backfill()
    assert world.clock.monotonic_s() - began_s >= TIMING.propagation_s
    assert phases[0] == (StepName.PROPAGATE, Phase.DUAL)
    assert phases[-1] == (StepName.PUBLISH, Phase.DUAL)
    assert done.state.phase is Phase.BACKFILL
    assert world.workflow().enter_backfill().already


@pytest.mark.parametrize("applied", [True, False])
def test_a_flip_that_nobody_answered_is_looked_up(applied: bool) -> None:
    """The flip's reply is lost, and so are the looks after it: what is told then is what happened."""
    world = prepared(Phase.RAMP)
    flipping: list[str] = []

    def choose(call: Call) -> Fault | None:
        if not flipping or len(flipping) > 4:
            return None
        if call.verb == "put" and len(flipping) == 1:
            flipping.append(call.verb)
            return Fault.LOST if applied else Fault.LATE
        if len(flipping) > 1:
            flipping.append(call.verb)
            return Fault.BEFORE
        return None

    store = FaultyStore(world.store, choose, world.clock)
    flow = world.workflow(store, tell=lambda at: flipping.append("flip") if at.name is StepName.FLIP else None)
    if applied:
        assert flow.switch().state.phase is Phase.CUTOVER
    else:
        with pytest.raises(Unavailable, match="cancelled"):
            flow.switch()
        store.land()  # too late: the freeze that it was conditional on is gone
        assert world.state.phase is Phase.RAMP
    assert [fault for _, fault in store.struck].count(Fault.BEFORE) >= 3
    assert world.state.freeze is None


def test_a_collection_that_is_deleted_meanwhile_is_not_left_at_the_target() -> None:
    """The application deletes a collection between the tool's listing and its create: the target does not keep it."""
    world = World().until(Phase.DIRECT)
    world.source.create("fleeting", Definition.of_space("l2"))

    def deleted(call: Call) -> None:
        if (call.verb, call.key) == ("create", "fleeting"):
            world.source.collections.pop("fleeting", None)

    world.faults.choose = deleted
    assert world.workflow().dual().created == ()
    assert world.target.names() == ["words"]


def test_gone_clients_do_not_keep_a_freeze() -> None:
    """A tool that died with writes frozen: the next verb ends the freeze, however many verbs later."""
    world = prepared(Phase.RAMP)

    def kill(at: Step) -> None:
        if at.name is StepName.DRAIN:
            raise Crash("while writes are frozen")

    with pytest.raises(Crash):
        world.workflow(tell=kill).switch()
    assert world.state.freeze is not None
    world.workflow().pause()  # changes nothing for writes, and so does not wait
    assert world.state.freeze is not None
    world.workflow().ramp(reads=1)
    assert world.state.freeze is None
    assert world.state.percent.reads == 1


def _start(flow: Workflow) -> None:
    flow.start(SOURCE, TARGET, timing=TIMING)
