"""The verbs of a migration, told in order: the way there and back, what is refused and why, and that a plan is what is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.migrate.workflow_world import SOURCE, TARGET, TIMING, World

from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.migrate.phases import LEGAL, Phase, Verb, legal_verbs
from chromalith.migrate.port import Role
from chromalith.migrate.state import Percent, Timing
from chromalith.migrate.workflow.gates import NAMES, GateLimits, Refused
from chromalith.migrate.workflow.ports import ClientSeen, ShadowSeen
from chromalith.migrate.workflow.verbs import Outcome, Workflow
from chromalith.transfer.port import Definition

PHASES = list(Phase)
ACTS: dict[Verb, Callable[[Workflow, bool], Outcome]] = {
    Verb.DUAL: lambda flow, dry: flow.dual(dry_run=dry),
    Verb.BACKFILL: lambda flow, dry: flow.enter_backfill(dry_run=dry),
    Verb.VERIFY: lambda flow, dry: flow.enter_verify(dry_run=dry),
    Verb.RAMP: lambda flow, dry: flow.ramp(30, 60, 10, dry_run=dry),
    Verb.SWITCH: lambda flow, dry: flow.switch(dry_run=dry),
    Verb.COMPLETE: lambda flow, dry: flow.complete(yes=True, dry_run=dry),
    Verb.ROLLBACK: lambda flow, dry: flow.rollback(dry_run=dry),
    Verb.CANCEL: lambda flow, dry: flow.cancel(dry_run=dry),
}
SAID_AGAIN = {(Verb.SWITCH, Phase.CUTOVER), (Verb.COMPLETE, Phase.COMPLETE), (Verb.CANCEL, Phase.CANCELLED)}
PAIRS = [(verb, phase) for verb in LEGAL for phase in PHASES]


def test_the_whole_way() -> None:
    """Each verb leads to its phase; at the end the target is the authority, nothing is frozen, and the log names every change."""
    world = World().until(Phase.COMPLETE)
    state = world.state
    assert (state.phase, state.main, state.freeze) == (Phase.COMPLETE, Role.TARGET, None)
    assert world.documents("target") == {"a": "first"}
    moved = [change.after for change in state.history if change.before != change.after]
    assert moved == ["direct", "dual", "backfill", "verify", "ramp reads=25 writes=50 shadow=10", "cutover", "complete"]
    assert [change.epoch for change in state.history] == list(range(1, state.epoch + 1))


@pytest.mark.parametrize(("verb", "phase"), [pair for pair in PAIRS if pair[1] not in LEGAL[pair[0]]])
def test_what_is_illegal_names_what_is_legal(verb: Verb, phase: Phase) -> None:
    """A verb that has no meaning in a phase changes nothing, and its error names those that have; said again after its end, it is done."""
    world = World().until(phase)
    before = world.state
    if (verb, phase) in SAID_AGAIN:
        assert ACTS[verb](world.workflow(), False).already
    else:
        with pytest.raises(Invalid) as refused:
            ACTS[verb](world.workflow(), False)
        legal = legal_verbs(phase)
        assert all(name in (refused.value.hint or "") for name in legal or ["--name"])
    assert world.state == before


@pytest.mark.parametrize(("verb", "phase"), [pair for pair in PAIRS if pair[1] in LEGAL[pair[0]]])
def test_a_plan_is_what_is_done(verb: Verb, phase: Phase) -> None:
    """A dry run writes nothing; what is carried out then is the very same list of steps, and ends where the plan said."""
    world = World().until(phase)
    if verb is Verb.VERIFY and phase is Phase.BACKFILL:
        world.copied()
    world.compared()
    before, clock_s = world.state, world.clock.monotonic_s()
    planned = ACTS[verb](world.workflow(), True)
    assert (world.state, world.clock.monotonic_s()) == (before, clock_s)
    assert planned.dry_run
    assert not planned.walked
    done = ACTS[verb](world.workflow(), False)
    assert done.plan.steps == planned.plan.steps == done.walked
    assert done.plan.encode() == planned.plan.encode()
    assert done.state.phase is planned.plan.phase is LEGAL[verb][phase]
    assert done.state.percent == planned.plan.percent
    assert done.state == world.state


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase in LEGAL[Verb.ROLLBACK]])
def test_back_from_everywhere_and_there_again(phase: Phase) -> None:
    """Rollback leads to the source alone with everything written since, also where the target's answer counted; the way begins again."""
    world = World().until(phase)
    for number in range(20):
        world.write(f"r{number}", f"written in {phase}")
    world.write("a", "changed")
    world.workflow().rollback()
    state = world.state
    assert (state.phase, state.main, state.percent, state.freeze) == (Phase.DIRECT, Role.SOURCE, Percent(), None)
    assert world.documents("source") == {
        "a": "changed",
        **{f"r{number}": f"written in {phase}" for number in range(20)},
    }
    flow = world.workflow()
    flow.dual()
    flow.enter_backfill()
    with pytest.raises(Refused, match="backfill"):  # what was copied before the way back is worth nothing
        flow.enter_verify()


def test_start_creates_the_collections() -> None:
    """The source's collections are made at the target with their definitions; no record is copied, and saying it again does nothing."""
    world = World()
    world.source.create("more", Definition({"hnsw": {"space": "cosine", "ef_search": 7}}, None, {"kind": "demo"}))
    done = world.start()
    assert sorted(done.created) == ["more", "words"]
    assert world.target.collection("more").definition == world.source.collection("more").definition
    assert world.documents("target") == {}
    assert [(found.name, found.source_records, found.target_records) for found in done.found] == [
        ("words", 1, None),
        ("more", 0, None),
    ]
    assert world.start().already
    assert world.start(collections=None, dry_run=True).already


def test_start_of_some_collections() -> None:
    """Only the collections that were named are made; one that is not there is refused with the names that are."""
    world = World()
    world.source.create("more", Definition.of_space("ip"))
    with pytest.raises(Invalid, match="nothing") as refused:
        world.start(collections=["nothing"])
    assert "more, words" in (refused.value.hint or "")
    with pytest.raises(Invalid, match="no collection"):
        world.start(collections=[])
    world.start(collections=["more", "more"])
    assert world.target.names() == ["more"]
    assert world.state.collections == ("more",)
    world.source.create("other", Definition.of_space("ip"))
    flow = world.workflow(name="two")
    for names in (["other", "more"], ["more", "other"]):  # the order says nothing
        flow.start(SOURCE, TARGET, collections=names, timing=TIMING)


def test_start_refuses_before_anything_is_written() -> None:
    """Another distance, another dimension, or the same place at both ends: `Invalid`, no state, no collection."""

    def refused(world: World, pattern: str) -> None:
        with pytest.raises(Invalid, match=pattern):
            world.start()
        assert world.workflow().states.find() is None
        assert "other" not in world.target.names()

    for space, dimension, pattern in (("cosine", 2, "another distance"), ("l2", 3, "another dimension")):
        world = World()
        world.source.create("other", Definition.of_space("l2"))
        world.target.create("words", Definition.of_space(space))
        world.target.collection("words").write("add", ["x"], np.ones((1, dimension), np.float32))
        refused(world, pattern)
    world = World()
    with pytest.raises(Invalid, match="the same"):
        world.workflow().start(SOURCE, SOURCE)
    world.sides = replace(world.sides, target=world.source)
    refused(world, "the same")


@pytest.mark.parametrize(
    "timing",
    [Timing(state_age_max_s=0.9), Timing(freeze_limit_s=10.0), Timing(abandoned_s=10.0), Timing(second_write_s=0.0)],
)
def test_start_refuses_times_that_can_not_work(timing: Timing) -> None:
    """A freeze that ends before everybody knows of it, calls that count as dead while they are waited for, and the like."""
    world = World()
    with pytest.raises(Invalid, match="_s="):
        world.workflow().start(SOURCE, TARGET, timing=timing)
    assert world.workflow().states.find() is None


def test_start_refuses_a_target_with_records() -> None:
    """Records that the copy would remove are not put at risk, unless a person says so; the log keeps that."""
    world = World()
    world.target.create("words", Definition.of_space("l2"))
    world.put("target", "precious", "kept?")
    with pytest.raises(Refused, match="words \\(1\\)"):
        world.start()
    assert world.workflow().states.find() is None
    world.start(force=["records"])
    assert "forced records" in world.state.history[0].note


def test_start_of_another_migration_of_the_same_name() -> None:
    """A name belongs to one pair of sides; one that has gone on is not started again."""
    world = World()
    world.start()
    with pytest.raises(Conflict, match="between other sides"):
        world.workflow().start(TARGET, SOURCE, timing=TIMING)
    with pytest.raises(Conflict, match="other times .*freeze_limit_s") as refused:
        world.workflow().start(SOURCE, TARGET, timing=replace(TIMING, freeze_limit_s=TIMING.freeze_limit_s + 1))
    assert "cancel" in (refused.value.hint or "")
    world.workflow().start(SOURCE, TARGET)
    assert world.state.timing == TIMING, "without times it means those that it has"
    world.workflow().dual()
    with pytest.raises(Invalid, match="started already") as refused:
        world.start()
    assert "backfill" in (refused.value.hint or "")


def test_no_verb_without_a_start() -> None:
    """`NotFound` with the way to begin."""
    with pytest.raises(NotFound) as refused:
        World().workflow().dual()
    assert "start" in (refused.value.hint or "")


def test_dual_returns_when_every_client_follows() -> None:
    """It waits for twice the state's greatest age, and creates what the source got since the start."""
    world = World()
    world.start()
    world.source.create("late", Definition.of_space("ip"))
    before_s = world.clock.monotonic_s()
    assert world.workflow().dual().created == ("late",)
    assert world.clock.monotonic_s() - before_s == pytest.approx(2 * TIMING.state_age_max_s, abs=0.5)


GATES: list[tuple[str, Callable[[World], object], str]] = [
    ("verify", lambda world: world.compared(clean=False, missing=3), "3 missing"),
    ("verify", lambda world: world.clock.advance(3_601), "min old"),
    ("verify", lambda world: world.compared(epoch=1), "from before backfill"),
    ("verify", lambda world: world._found(verify={}), "never compared"),
    ("shadow", lambda world: setattr(world, "reads", ShadowSeen(1_000, 11, 0, 1.0, 1.0)), "1.10% of 1000"),
    ("shadow", lambda world: setattr(world, "reads", ShadowSeen(99, 0, 0, 1.0, 1.0)), "99 reads"),
    (
        "shadow",
        lambda world: setattr(world, "reads", ShadowSeen(100_000, 60, 0, 1.0, 1.0, 500, 60)),
        "12.00% of the latest 500",
    ),
    ("latency", lambda world: setattr(world, "reads", ShadowSeen(1_000, 0, 0, 10.0, 15.1)), "1.5 times"),
    ("latency", lambda world: setattr(world, "reads", ShadowSeen(1_000, 0, 0)), "no latencies"),
    ("clients", lambda world: setattr(world, "live", (ClientSeen("c1", "shop", 1, 2.0),)), "shop"),
    (
        "lag",
        lambda world: (
            world.workflow().parts._journal().open("words", ["q"], authority=Role.SOURCE, op="add")
            and world.clock.advance(16)
        ),
        "under way",
    ),  # type: ignore[attr-defined]
    ("lag", lambda world: (world.write("q", "x"), world.clock.advance(61)), "oldest entry"),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), GATES)
def test_each_gate_of_switch_refuses(name: str, spoil: Callable[[World], object], reason: str) -> None:
    """A switch whose precondition fails changes nothing and says which, why, and what to do; the same plan is seen by a dry run."""
    world = World().until(Phase.RAMP)
    spoil(world)
    before = world.state
    with pytest.raises(Refused, match=reason) as refused:
        world.workflow().switch()
    assert [gate.name for gate in refused.value.gates] == [name]
    assert refused.value.gates[0].todo in (refused.value.hint or "")
    assert [gate.name for gate in world.workflow().switch(dry_run=True).plan.refused] == [name]
    assert world.state == before


def test_the_limits_of_gates_are_parameters() -> None:
    """What one limit refuses, another allows; a limit that is met exactly holds."""
    world = World().until(Phase.RAMP)
    world.reads = ShadowSeen(100, 5, 0, 10.0, 20.0)
    with pytest.raises(Refused):
        world.workflow().switch()
    world.workflow(limits=GateLimits(mismatch_rate_max=0.05, latency_ratio_max=2.0)).switch()
    assert world.state.phase is Phase.CUTOVER


def test_a_gate_can_be_overruled_by_name() -> None:
    """--force lets one gate be, no other; the history says which and why; a name that is no gate's is refused."""
    world = World().until(Phase.RAMP)
    world.reads = ShadowSeen(5, 5, 0, 10.0, 11.0)
    world.compared(clean=False, extra=1)
    with pytest.raises(Refused, match="verify"):
        world.workflow().switch(force=["shadow"])
    with pytest.raises(Invalid, match="no such gate") as unknown:
        world.workflow().switch(force=["everything"])
    assert all(gate in (unknown.value.hint or "") for gate in NAMES)
    world.workflow().switch(force=["shadow", "verify"])
    notes = " ".join(change.note for change in world.state.history if change.verb == "switch")
    assert "forced verify" in notes
    assert "forced shadow" in notes
    assert "forced latency" not in notes


def test_less_of_the_target_needs_no_gate() -> None:
    """Lowering percentages is always allowed; so is shadowing; raising is not, where the sides differ."""
    world = World().until(Phase.RAMP)
    world.compared(clean=False, different=1)
    world.workflow().ramp(reads=5, shadow=80)
    assert world.state.percent == Percent(5, 50, 80)
    for raised in ({"reads": 6}, {"writes": 51}):
        with pytest.raises(Refused, match="1 different"):
            world.workflow().ramp(**raised)
    world.workflow().ramp(writes=0)
    assert world.state.percent == Percent(5, 0, 80)


@pytest.mark.parametrize("wrong", [{"reads": -1}, {"writes": 101}, {"shadow": float("nan")}])
def test_percentages_are_percentages(wrong: dict[str, float]) -> None:
    """0 to 100, nothing else."""
    with pytest.raises(Invalid, match="not a percentage"):
        World().until(Phase.VERIFY).workflow().ramp(**wrong)


def test_complete_wants_a_yes() -> None:
    """Without it nothing happens; the dry run needs none."""
    world = World().until(Phase.CUTOVER)
    world.compared()
    with pytest.raises(Invalid, match="undone") as refused:
        world.workflow().complete()
    assert "--yes" in (refused.value.hint or "")
    assert world.workflow().complete(dry_run=True).plan.phase is Phase.COMPLETE
    assert world.state.phase is Phase.CUTOVER


def test_complete_wants_a_clean_recent_verify() -> None:
    """A `yes` does not replace it; nor does one from before the switch."""
    world = World().until(Phase.CUTOVER)
    with pytest.raises(Refused, match="from before cutover"):
        world.workflow().complete(yes=True)
    world.compared()
    world.clock.advance(4_000)
    with pytest.raises(Refused, match="min old"):
        world.workflow().complete(yes=True)
    assert world.state.phase is Phase.CUTOVER


def test_pause_and_resume() -> None:
    """They change one field, in every phase before the end, and say so when it is so already."""
    world = World().until(Phase.BACKFILL)
    assert not world.workflow().pause().already
    assert world.workflow().pause().already
    assert world.state.paused
    world.workflow().resume()
    assert not world.state.paused
    with pytest.raises(Invalid):
        World().until(Phase.COMPLETE).workflow().pause()


def test_forget_after_the_end() -> None:
    """Refused before the end; after complete the state stays for clients that still follow it, unless that is asked for and none lives."""
    world = World().until(Phase.CUTOVER)
    world.write("b", "x")
    with pytest.raises(Invalid, match="forget"):
        world.workflow().forget(yes=True)
    world.compared()
    world.workflow().complete(yes=True)
    with pytest.raises(Invalid, match="undone"):
        world.workflow().forget()
    world.workflow().forget(yes=True)
    assert [entry.key for page in world.store.list("") for entry in page] == [world.states.place.state_key]
    assert world.state.phase is Phase.COMPLETE
    world.live = (ClientSeen("c1", "shop", 99, 1.0),)
    with pytest.raises(Refused, match="shop"):
        world.workflow().forget(yes=True, and_state=True)
    world.live = ()
    world.workflow().forget(yes=True, and_state=True)
    assert list(world.store.list("")) == []
    cancelled = World().until(Phase.CANCELLED)
    cancelled.workflow().forget(yes=True)
    assert list(cancelled.store.list("")) == []
