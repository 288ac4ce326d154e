"""A restore beside everything else, and one that ends at any of its store calls: the records are the version's and later writes, and no
acknowledged delta vanishes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.restores import BEFORE, FIRST, SHORT, Recorded, accounted, prepared, prepared_to_merge, restorer
from tests.worlds import keys

from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.unapplied import list_aside, replay_aside
from chromalith.compaction.verify import verify
from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import read_manifest
from chromalith.coord.tags import put_tag, release_tag
from chromalith.errors import ChromalithError, Conflict, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.folded import State
from chromalith.model.ids import DeltaId, call_writer
from chromalith.store.port import Store
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore, at_calls

Act = Callable[[Recorded, Store], object]


def calls_of(act: Act, make: Callable[[], Recorded] = prepared) -> int:
    """How many store calls ``act`` makes when nothing goes wrong."""
    with make() as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        act(world, store)
        return len(store.calls)


def interrupted(world: Recorded, first: Act, second: Callable[[Recorded], object], number: int) -> BaseException | None:
    """``first``, with ``second`` run whole just before its call ``number``; what ``first`` raised."""
    ran = False

    def choose(call: Call) -> Fault | None:
        nonlocal ran
        if call.number == number and not ran:
            ran = True
            second(world)
        return None

    error = None
    try:
        first(world, FaultyStore(world.store, choose, world.clock))
    except ChromalithError as raised:
        error = raised
    if not ran:
        second(world)
    return error


def restore(to: int | str = 1, **options: bool) -> Act:
    return lambda world, store: restorer(world, store).run(world.cid, to, **options)


def compact(world: Recorded, store: Store | None = None) -> object:
    return world.compactor(store).run_once(world.cid)


def settled(world: Recorded, expected: dict[str, str]) -> None:
    """Nothing was lost, and later compactions and sweeps change nothing that is shown."""
    accounted(world)
    assert world.documents() == expected
    world.clock.advance(100)
    compact(world)
    assert world.documents() == expected
    run_sweep(world.store, world.clock, world.cid, SHORT)
    assert world.documents() == expected
    verify(world.store, world.cid)
    accounted(world)


@pytest.mark.parametrize("make", [prepared, prepared_to_merge])
def test_a_compaction_during_a_restore(make: Callable[[], Recorded]) -> None:
    """Whenever folds, a sweep and merges come in between, the restored records are shown, and what was pending is accounted for."""
    for number in range(1, calls_of(restore(), make) + 2):
        with make() as world:
            assert interrupted(world, restore(), compact, number) is None
            settled(world, FIRST)


@pytest.mark.parametrize("make", [prepared, prepared_to_merge])
def test_a_restore_during_a_compaction(make: Callable[[], Recorded]) -> None:
    """A fold that a restore overtakes starts again and folds nothing that was set aside; a merge is abandoned."""
    total = calls_of(compact, make)
    assert total > 10
    kinds = set()
    for number in range(1, total + 2):
        with make() as world:
            error = interrupted(world, compact, lambda w: restorer(w).run(w.cid, 1), number)
            assert error is None
            kinds.add(world.current().version)
            settled(world, FIRST)
    assert len(kinds) > 1  # the restore came before the fold, and after it


def test_a_write_during_a_restore() -> None:
    """A write that was acknowledged before a restore began is undone; one during it is either set aside or shown; none is lost."""
    seen = set()
    for number in range(1, calls_of(restore()) + 2):
        with prepared() as world:
            assert interrupted(world, restore(), lambda w: w.upsert("e", 9), number) is None
            shown = world.documents()
            assert shown in (FIRST, FIRST | {"e": "9"}), number
            seen.add("e" in shown)
            settled(world, shown)
    assert seen == {True, False}


def test_two_restores_at_once() -> None:
    """The one that publishes last decides; the other is a version in the history, and nothing is lost."""
    finals = set()
    for number in range(1, calls_of(restore()) + 2):
        with prepared() as world:
            assert interrupted(world, restore(1), lambda w: restorer(w).run(w.cid, 2), number) is None
            last = world.current().restores[-1][1]
            finals.add(last)
            assert [kind for _, kind in world.current().restores] in ([2, 1], [1, 2])
            settled(world, {1: FIRST, 2: {"a": "1", "b": "2", "c": "2"}}[last])
    assert finals == {1, 2}


def test_a_sweep_during_a_restore() -> None:
    """A restore either publishes the version whole, or finds that it was swept and changes nothing; never half of it."""
    endings = set()
    for number in range(1, calls_of(restore()) + 2):
        with prepared() as world:
            error = interrupted(world, restore(), lambda w: run_sweep(w.store, w.clock, w.cid, SHORT), number)
            assert error is None or isinstance(error, NotFound)
            endings.add(error is None)
            settled(world, FIRST if error is None else BEFORE)
    assert endings == {True, False}


def test_a_restore_during_a_sweep() -> None:
    """A sweep that a restore overtakes deletes nothing that the restored version names."""

    def sweep(world: Recorded, store: Store) -> object:
        return run_sweep(store, world.clock, world.cid, SHORT)

    def try_restore(world: Recorded) -> None:
        with suppress(NotFound):
            restorer(world).run(world.cid, 1)

    endings = set()
    for number in range(1, calls_of(sweep) + 2):
        with prepared() as world:
            assert interrupted(world, sweep, try_restore, number) is None
            restored = bool(world.current().restores)
            endings.add(restored)
            settled(world, FIRST if restored else BEFORE)
    assert endings == {True, False}


def tagged() -> Recorded:
    """Version 1 is held by a tag only."""
    world = prepared()
    put_tag(world.store, world.clock, world.cid, "good", manifest_at(world.store, world.cid, 1))
    run_sweep(world.store, world.clock, world.cid, SHORT)
    assert world.current().horizon > 1
    return world


def untag_and_sweep(world: Recorded) -> None:
    release_tag(world.store, world.clock, world.cid, "good")
    run_sweep(world.store, world.clock, world.cid, SHORT)


@pytest.mark.parametrize("to", ["good", 1])
def test_an_untag_and_a_sweep_during_a_restore(to: int | str) -> None:
    """The last tag of an old version goes while the version is being restored: it is restored whole, or not at all."""
    endings = set()
    for number in range(1, calls_of(restore(to), tagged) + 2):
        with tagged() as world:
            error = interrupted(world, restore(to), untag_and_sweep, number)
            assert error is None or isinstance(error, NotFound)
            endings.add(error is None)
            settled(world, FIRST if error is None else BEFORE)
    assert endings == {True, False}


def test_an_untag_during_a_restore_and_a_restore_during_a_sweep() -> None:
    """The sweep lists the tags while the tag is live or just released, the restore publishes while the sweep deletes: in any
    interleaving the current version is whole."""

    def sweep(world: Recorded, store: Store) -> object:
        return run_sweep(store, world.clock, world.cid, SHORT)

    def try_restore(world: Recorded) -> None:
        with suppress(NotFound):
            restorer(world).run(world.cid, "good")

    def untag_then(world: Recorded) -> None:
        """The restore has read the tag when it is released."""
        reads = 0

        def choose(call: Call) -> Fault | None:
            nonlocal reads
            if call.verb == "get" and call.key.startswith(layout.TAG_ROOT):
                reads += 1
            elif reads == 1:
                reads += 1
                release_tag(world.store, world.clock, world.cid, "good")
            return None

        with suppress(NotFound):
            restorer(world, FaultyStore(world.store, choose, world.clock)).run(world.cid, "good")

    def junk(world: Recorded) -> Recorded:
        world.upsert("z", 1)
        world.compact()
        return world

    total = calls_of(sweep, lambda: junk(tagged()))
    assert total > 8
    for second in (try_restore, untag_then):
        for number in range(1, total + 2):
            with junk(tagged()) as world:
                assert interrupted(world, sweep, second, number) is None
                restored = bool(world.current().restores)
                settled(world, FIRST if restored else BEFORE | {"z": "1"})


FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_can_end_at_any_call(fault: Fault) -> None:
    """It has happened whole or not at all; whoever comes next can restore, compact and sweep, and a late request changes nothing."""
    total = calls_of(restore())
    assert total > 10
    happened = set()
    for number in range(1, total + 1):
        with prepared() as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                restore()(world, store)
            shown = world.documents()
            assert shown in (FIRST, BEFORE), number
            happened.add(shown == FIRST)
            accounted(world)
            store.land()
            shown = world.documents()
            accounted(world)
            assert shown in (FIRST, BEFORE), number
            restore()(world, world.store)
            store.land()
            settled(world, FIRST)
            for key in keys(world.store, layout.SNAPSHOT_ROOT, ".json"):  # what the crash left is garbage, and was swept
                assert read_manifest(world.store, key).kind in ("restore", "fold", "sweep", "merge")
    assert happened == ({False} if fault in (Fault.CRASH_BEFORE, Fault.BEFORE) else {False, True})  # the last call is the publish


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST])
def test_a_restore_with_a_replay_can_end_at_any_call(fault: Fault) -> None:
    """After a crash during the replay, replaying all that it set aside brings everything back, each call once."""
    replaying = restore(replay=True)
    for number in range(1, calls_of(replaying) + 1):
        with prepared() as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            with suppress(Crash, Unavailable, Unknown, Conflict):
                replaying(world, store)
            accounted(world)
            store.land()
            if not world.current().restores:
                replaying(world, world.store)
            refs = {ref.id for ref in world.current().aside}
            aside = [each for each, _ in list_aside(world.store, world.cid, refs)]
            replay_aside(world.store, world.cid, aside, world.writer().put)
            world.clock.advance(1)
            compact(world)
            folded = world.current().folded
            latest = [each for each in aside if each.restore == max(refs)]
            runs = [folded.find(DeltaId(0, call_writer(each.call_id), 0, "")) for each in latest]
            assert [run is not None and run.state is State.FOLDED for run in runs] == [True] * len(latest)
            settled(world, BEFORE)


def test_a_takeover_at_any_call() -> None:
    """A second restorer that does the same at every call of the first changes nothing but the number of the version."""
    for number in range(1, calls_of(restore()) + 2):
        with prepared() as world:
            assert interrupted(world, restore(), lambda w: restorer(w).run(w.cid, 1), number) is None
            settled(world, FIRST)


def test_a_restore_gives_up_when_others_always_publish_first() -> None:
    """It says Conflict, and what it copied is garbage."""
    with prepared() as world:

        def choose(call: Call) -> Fault | None:
            if call.verb == "put" and call.key == layout.pointer_key(world.cid):
                world.upsert("n", 1)
                world.compact()
            return None

        with pytest.raises(Conflict, match="published first"):
            restore()(world, FaultyStore(world.store, choose, world.clock))
        assert world.current().restores == ()
        assert world.documents() == BEFORE | {"n": "1"}
        settled(world, BEFORE | {"n": "1"})
        assert keys(world.store, layout.QUARANTINE_ROOT) == []


