"""A verb acts on what it was decided on: a switch that has been overtaken changes nothing, and gates take no old evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.migrate.workflow_world import SOURCE, TARGET, TIMING, World

from chromalith.errors import Conflict, Invalid, Unavailable
from chromalith.migrate.phases import Phase, Verb
from chromalith.migrate.port import Role
from chromalith.migrate.state import HISTORY_MAX, Timing
from chromalith.migrate.states import change_of
from chromalith.migrate.workflow.gates import GateLimits, Refused
from chromalith.migrate.workflow.plan import Step, StepName, is_settled, routing_epoch
from chromalith.migrate.workflow.ports import ClientSeen
from chromalith.testing.faulty import Call, Crash, Fault
from chromalith.transfer.port import Definition


def at(step: StepName, act: Callable[[], object]) -> Callable[[Step], None]:
    """What a tool is told, so that ``act`` happens just before it begins ``step``."""
    return lambda told: (act(), None)[1] if told.name is step else None


def test_a_switch_after_all_writes_were_ramped_moves_the_catalog_under_a_freeze() -> None:
    """At `--writes 100` the source still has the catalog. A collection whose create the target missed is there after the switch, on both
    sides: a publication without a drain would make the reconciliation drop it from the source."""
    world = World().until(Phase.VERIFY)
    world.workflow().ramp(100, 100, 10)
    journal = world.workflow().parts._journal()  # type: ignore[attr-defined]
    entry = journal.open("new", (), authority=Role.SOURCE, op="create")
    world.source.create("new", Definition.of_space("l2"))
    journal.close(entry, "failed")
    journal.stop()
    world.compared()
    done = world.workflow().switch()
    assert StepName.FREEZE in [step.name for step in done.walked]
    assert [gate.name for gate in done.plan.gates].count("lag") == 1
    world.workflow().parts.reconcile()
    assert sorted(world.source.names()) == sorted(world.target.names()) == ["new", "words"]


@pytest.mark.parametrize("step", [StepName.RECONCILE, StepName.FREEZE])
def test_a_switch_that_was_overtaken_by_another_attempt_does_not_happen(step: StepName) -> None:
    """Rolled back and begun anew while it reconciled: the phase is the same again, and nothing that the gates saw is true any more."""
    world = World().until(Phase.VERIFY)

    def anew() -> None:
        flow = world.workflow()
        flow.rollback()
        flow.dual()
        flow.enter_backfill()
        world.copied()
        flow.enter_verify()
        world.compared()

    with pytest.raises(Conflict, match="meanwhile"):
        world.workflow(tell=at(step, anew)).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.VERIFY, None)


@pytest.mark.parametrize("step", [StepName.RECONCILE, StepName.FREEZE, StepName.DRAIN, StepName.FLIP])
def test_a_comparison_that_ends_meanwhile_counts(step: StepName) -> None:
    """One that finds differences while a switch is under way ends it; one that a person overruled at the beginning does not."""
    world = World().until(Phase.RAMP)
    spoil = at(step, lambda: world.compared(clean=False, missing=5))
    with pytest.raises((Conflict, Unavailable), match="found differences") as ended:
        world.workflow(tell=spoil).switch()
    assert "verify --repair" in (ended.value.hint or "")
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)
    world.workflow(tell=spoil).switch(force=["verify"])
    assert world.state.phase is Phase.CUTOVER


def test_a_verify_phase_is_not_entered_beside_a_new_copy() -> None:
    """Somebody says `backfill --again` between the look and the change."""
    world = World().until(Phase.BACKFILL)
    world.copied()
    again = at(StepName.PUBLISH, lambda: world._found(backfill={"run": "r2", "finished": False}))
    with pytest.raises(Conflict, match="begun again"):
        world.workflow(tell=again).enter_verify()
    assert world.state.phase is Phase.BACKFILL


def test_a_dual_that_was_rolled_back_does_not_settle_the_next_one() -> None:
    """Two tools: the first one's wait is over long before every client follows the second one's `dual`, so it must not say that they do."""
    world = World().until(Phase.DIRECT)

    def begun_anew() -> None:
        world.workflow().rollback()
        with pytest.raises(Crash):
            world.workflow(tell=killed).dual()

    def killed(step: Step) -> None:
        if step.name is StepName.PROPAGATE:
            raise Crash("while it waits")

    with pytest.raises(Conflict, match="meanwhile"):
        world.workflow(tell=at(StepName.COLLECTIONS, begun_anew)).dual()
    assert world.state.phase is Phase.DUAL
    assert not is_settled(world.state)
    assert StepName.PROPAGATE in [step.name for step in world.workflow().enter_backfill().walked]


def test_dual_is_not_published_while_a_side_is_down() -> None:
    """Every write of the application would wait for it."""
    world = World().until(Phase.DIRECT)
    world.faults.choose = lambda call: Fault.BEFORE
    with pytest.raises(Unavailable):
        world.workflow().dual()
    assert world.state.phase is Phase.DIRECT
    world.faults.choose = lambda call: None
    world.workflow().dual()


def test_a_tool_that_is_told_to_exit_takes_its_freeze_back() -> None:
    """A handler of a signal that raises `SystemExit`: writes go on at once."""
    world = World().until(Phase.RAMP)

    def stop(call: Call) -> None:
        if world.state.freeze is not None:
            raise SystemExit(1)

    tell = at(StepName.PROPAGATE, lambda: (world.write("r2", "x"), setattr(world.faults, "choose", stop)))
    with pytest.raises(SystemExit):
        world.workflow(tell=tell).switch()
    assert (world.state.phase, world.state.freeze) == (Phase.RAMP, None)


# Gates


def test_a_comparison_from_the_future_has_no_age() -> None:
    """Clocks of machines differ: one made on a machine that is hours ahead would count as recent for hours. A minute is forgiven."""
    world = World().until(Phase.RAMP)
    world.compared(at_us=world.clock.now_us() + 3_600_000_000)
    with pytest.raises(Refused, match="by this machine's clock") as refused:
        world.workflow().switch()
    assert [gate.name for gate in refused.value.gates] == ["verify"]
    world.compared(at_us=world.clock.now_us() + 30_000_000)
    world.workflow().switch()


def test_a_comparison_whose_records_are_equal_says_what_else_differs() -> None:
    """A collection's metadata, or the order, is no count of records."""
    world = World().until(Phase.RAMP)
    world.compared(clean=False)
    with pytest.raises(Refused, match="the collections themselves, or the order"):
        world.workflow().switch()


def test_a_client_that_died_is_waited_for_with_the_time_left() -> None:
    """It counts as live for a minute; who is refused because of it is told how many seconds that still is, of the last of them."""
    world = World().until(Phase.RAMP)
    world.live = (
        ClientSeen("c1", "shop", 1, 48.5),
        ClientSeen("c2", "shop", 1, 30.0),
        ClientSeen("c3", "new", 999, 1.0),
    )
    with pytest.raises(Refused, match="2 of 3 live clients") as refused:
        world.workflow().switch()
    assert "30 s" in (refused.value.hint or "")


def test_more_reads_of_the_target_want_a_short_journal() -> None:
    """A comparison is clean although what is in the journal differs; readers of the target would miss that. Fewer reads want nothing."""
    world = World().until(Phase.RAMP)
    world.write("q", "the target missed it", second=False)
    world.clock.advance(61)
    with pytest.raises(Refused, match="oldest entry") as refused:
        world.workflow().ramp(reads=50)
    assert [gate.name for gate in refused.value.gates] == ["lag"]
    world.workflow().ramp(reads=5)
    world.workflow().parts.reconcile()
    journal = world.workflow().parts._journal()  # type: ignore[attr-defined]
    journal.open("words", ["w"], authority=Role.SOURCE, op="add")
    world.clock.advance(20)  # one call of a process that died is no reason yet
    world.workflow().ramp(reads=50)


def test_a_journal_that_can_not_be_read_freezes_nobody() -> None:
    """A drain could never empty it, so the gate says so before anybody has to wait; overruled, the cancellation names the object."""
    world = World().until(Phase.RAMP)
    key = world.states.place.collection_prefix("touched", "words") + "of-another-form.json"
    world.store.put(key, b"{}")
    with pytest.raises(Refused, match="can't be read"):
        world.workflow().switch()
    assert not any("freeze" in change.note for change in world.state.history if change.verb == Verb.SWITCH)
    with pytest.raises(Unavailable, match=f"can't be read key={key}"):
        world.workflow().switch(force=["lag"])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_times_and_limits_are_numbers(wrong: float) -> None:
    """`--freeze-limit inf`, `--max-mismatches nan`: refused as such, not by a failure further down; no gate holds for everything."""
    world = World()
    for timing in (Timing(freeze_limit_s=wrong), Timing(abandoned_s=wrong)):
        with pytest.raises(Invalid, match="_s="):
            world.workflow().start(SOURCE, TARGET, timing=timing)
    if wrong != wrong:  # infinity is a limit that somebody may want
        with pytest.raises(Invalid, match="mismatch_rate_max"):
            GateLimits(mismatch_rate_max=wrong)


def test_a_freeze_that_was_left_behind_does_not_lock_the_way_back() -> None:
    """A tool died with writes frozen, and no client lives: nobody reconciles under a freeze, so the journal grows old; the next verb ends
    the freeze all the same."""
    world = World().until(Phase.CUTOVER)

    def killed(step: Step) -> None:
        if step.name is StepName.PROPAGATE:
            world.write("q", "the source missed it", second=False)
        if step.name is StepName.DRAIN:
            raise Crash("while writes are frozen")

    with pytest.raises(Crash):
        world.workflow(tell=killed).rollback()
    world.clock.advance(3_600)
    world.workflow().parts.reconcile()
    assert world.workflow().parts.lag().entries == 1
    world.workflow().rollback()
    assert (world.state.phase, world.state.freeze) == (Phase.DIRECT, None)
    assert world.documents("source")["q"] == "the source missed it"


def test_a_target_with_collections_of_its_own_is_refused() -> None:
    """The sides could never be compared as equal, and the way out would be to delete somebody's records. Where it is said which collections
    are moved, the others are nobody's business; so are empty ones."""
    world = World()
    world.target.create("empty", Definition.of_space("l2"))
    world.target.create("theirs", Definition.of_space("l2"))
    world.target.collection("theirs").write("add", ["x"], np.ones((1, 2), np.float32))
    with pytest.raises(Refused, match="does not have: theirs \\(1\\)") as refused:
        world.start()
    assert "--collection" in (refused.value.hint or "")
    assert world.workflow().states.find() is None
    world.start(collections=["words"])


def test_two_migrations_of_the_same_collections_are_not_live_at_once() -> None:
    """Each has clients and a journal of its own, so they would undo each other's writes. Other collections, or a migration that has both
    sides not yet or not any more, are not in the way."""
    world = World().until(Phase.DUAL)

    def refused(collections: list[str] | None, name: str) -> bool:
        flow, target = world.workflow(name=name), replace(TARGET, url="memory://third")
        flow.start(SOURCE, target, collections=collections, timing=TIMING, force=["records"])
        return [gate.name for gate in flow.dual(dry_run=True).plan.refused] == ["alone"]

    world.source.create("more", Definition.of_space("l2"))
    assert refused(None, "second")
    assert refused(["words"], "third")
    world.states.change(lambda now: replace(now, collections=("words",)))
    assert not refused(["more"], "fourth")
    with pytest.raises(Refused, match=r"'default' \(dual\)"):
        world.workflow(name="second").dual()
    world.workflow().rollback()
    world.workflow(name="second").dual()
    with pytest.raises(Refused, match=r"'second' \(dual\)"):
        world.workflow().dual()


# State and its end


def test_what_gates_look_for_stays_in_the_history() -> None:
    """A comparison every few minutes for a week: its lines go first, not those that say when a phase began and who followed."""
    world = World().until(Phase.CUTOVER)
    before = world.state
    state = before
    for number in range(HISTORY_MAX + 50):
        state = state.changed(change_of(world.clock, Verb.VERIFY, "cutover", "cutover", str(number), "cron"))
    assert len(state.history) == HISTORY_MAX
    assert state.history_dropped == len(before.history) + 50
    assert state.history[-1].note == str(HISTORY_MAX + 49)
    assert routing_epoch(state) == routing_epoch(before)
    assert [c.after for c in state.history if c.before != c.after] == [
        c.after for c in before.history if c.before != c.after
    ]
    assert is_settled(state)
    only = replace(state, history=state.history[-5:])
    assert routing_epoch(before) < routing_epoch(only) < only.history[0].epoch


def test_a_forget_that_stalled_leaves_the_next_migration_alone() -> None:
    """Another tool has forgotten the same one meanwhile, and one of this name has begun: neither its journal nor its state is removed."""
    world = World().until(Phase.CUTOVER)
    world.write("b", "x", second=False)
    world.workflow().rollback()
    world.workflow().cancel()
    forgetting = world.workflow()
    real, stalled = forgetting.place.store.list, []

    def stall(prefix: str, **options: str) -> object:
        if stalled:
            return real(prefix, **options)
        stalled.append("list")
        world.workflow().forget(yes=True)
        world.target.collections.clear()
        world.start()
        world.workflow().dual()
        world.write("c", "noted", second=False)
        return real(prefix, **options)

    forgetting.place.store.list = stall  # type: ignore[method-assign,assignment]
    with pytest.raises(Conflict, match="has begun meanwhile"):
        forgetting.forget(yes=True)
    assert world.state.phase is Phase.DUAL
    assert world.workflow().parts.lag().entries == 1
