"""A fork beside sweeps, and a fork that ends at any moment: what it copies is held, what it leaves is garbage, no half has a name."""

from __future__ import annotations

import pytest
from tests.forks import RECORDS, SHORTEST, Meanwhile, busy, id_of, make, prepared, shown, sweep_the_store, whole
from tests.worlds import DATABASE, TENANT, keys

from chromalith.compaction.fork import TAG_KEPT_US, Forked
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.verify import verify
from chromalith.coord.tags import find_tag, list_tags
from chromalith.errors import ChromalithError, Conflict, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore, at_calls

# Sweeps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("list", "delta/"),
        ("get", "snapshot/"),
        ("get", "delta/"),
        ("get", "tag/"),
        ("put", "tag/"),
        ("put", "collection/"),
        ("copy", ""),
        ("put", "snapshot/"),
    ],
)
def test_a_fork_and_a_sweep(verb: str, kind: str) -> None:
    """Whenever everything is folded, merged and swept while a fork works, the fork is one whole state of the source."""
    with prepared() as world:
        store = Meanwhile(world.store, lambda v, key: v == verb and key.startswith(kind), lambda: busy(world))
        made = make(world, store=store)
        assert store.happened
        assert shown(world, id_of(made)) in (RECORDS, RECORDS | {"x": "1"})
        whole(world, id_of(made))
        whole(world, world.cid)
        assert not [tag for tag in list_tags(world.store, world.cid) if tag.manifest is not None]


def test_a_held_version_is_not_swept() -> None:
    """While a fork's tag holds, the hardest sweep leaves what is copied; when the fork is done, it goes."""
    with prepared() as world:
        source = world.current()
        seen: list[bool] = []

        def sweep() -> None:
            busy(world)
            seen.append(set(keys(world.store, layout.segment_prefix(world.cid))) >= {k for k in source.objects if "segment/" in k})

        store = Meanwhile(world.store, lambda verb, key: verb == "copy", sweep)
        make(world, store=store)
        assert seen == [True]
        run_sweep(world.store, world.clock, world.cid, SHORTEST)
        assert not set(keys(world.store)) & source.objects.keys()


def test_the_tag_of_a_crashed_fork_goes_after_a_day() -> None:
    """A younger one is left alone: it may be a fork at work."""
    with prepared() as world:
        source = world.current()
        store = FaultyStore(world.store, lambda call: Fault.CRASH_BEFORE if call.verb == "copy" else None, world.clock)
        with pytest.raises(Crash):
            make(world, store=store)
        (tag,) = list_tags(world.store, world.cid)
        assert find_tag(world.store, world.cid, tag.name).purpose == "fork"
        busy(world)
        assert set(keys(world.store)) >= source.objects.keys()
        world.clock.advance(TAG_KEPT_US / 1_000_000)
        busy(world)
        assert not set(keys(world.store)) & source.objects.keys()
        with pytest.raises(NotFound):
            find_tag(world.store, world.cid, tag.name)


def test_a_fork_that_took_longer_than_a_day() -> None:
    """Its tag was released and what it copies was swept: it fails, and says so; nothing has the name."""
    with prepared() as world:

        def a_day_later() -> None:
            world.clock.advance(TAG_KEPT_US / 1_000_000 + 1)
            busy(world)

        copies = iter(range(100))
        store = Meanwhile(world.store, lambda verb, key: verb == "copy" and next(copies) == 1, a_day_later)
        with pytest.raises(Unavailable, match="tag"):
            make(world, store=store)
        assert world.catalog.count(TENANT, DATABASE) == 1
        whole(world, world.cid)


def test_a_fork_that_stalled_for_a_day_is_told() -> None:
    """A sweep of the store took what it had made for a crashed one's: it gets no name, its source stays whole, and a new fork works."""
    with prepared() as world:

        def a_day_later() -> None:
            world.clock.advance(TAG_KEPT_US / 1_000_000 + 1)
            sweep_the_store(world)

        store = Meanwhile(world.store, lambda verb, key: verb == "put" and key.startswith("catalog/"), a_day_later)
        with pytest.raises(Unavailable, match="sweep"):
            make(world, store=store)
        assert store.happened
        assert world.catalog.count(TENANT, DATABASE) == 1
        whole(world, id_of(make(world)))
        whole(world, world.cid)


@pytest.mark.parametrize("number", [8, 16, 24, 30])
def test_what_a_crashed_fork_left_is_reclaimed(number: int) -> None:
    """Two days of sweeps after the crash nothing of it is in the store, and everything of the source is."""
    with prepared() as world:
        before = {key for key in keys(world.store) if not key.startswith("tag/")}
        store = FaultyStore(world.store, at_calls({number: Fault.CRASH_AFTER}), world.clock)
        with pytest.raises(Crash):
            make(world, store=store)
        sweep_the_store(world)
        for _ in range(3):
            world.clock.advance(TAG_KEPT_US / 1_000_000 + 1)
            sweep_the_store(world)
        left = {key for key in keys(world.store) if world.cid not in key and not key.startswith(("catalog/", "store.json", "lease/"))}
        assert not left - before
        assert world.documents() == RECORDS
        whole(world, world.cid)


# Crashes --------------------------------------------------------------------------------------------------------------


def calls_of_a_fork() -> int:
    with prepared() as world:
        store = FaultyStore(world.store, lambda call: None, world.clock)
        make(world, store=store)
        return len(store.calls)


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE])
def test_a_fork_can_end_at_any_call(fault: Fault) -> None:
    """Nothing is lost, the source is untouched, and under the name is nothing or a whole fork, whoever takes over."""
    total = calls_of_a_fork()
    assert total > 30
    struck, named, unnamed = set(), 0, 0
    crash = fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
    for number in range(1, total + 1, 1 if crash else 3):
        with prepared() as world:
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            ending: object = None
            try:
                ending = make(world, store=store)
            except (Crash, Unavailable, Unknown) as error:
                ending = type(error)
            struck |= {call.verb for call, _ in store.struck}
            assert world.documents() == RECORDS, number
            world.clock.advance(10)
            for cid in world.compactor().waiting():  # what a scheduled tick does: the half of a fork must not stop it
                world.compactor().run_once(cid)
            store.land()
            try:
                first = world.catalog.lookup(TENANT, DATABASE, "copy").collection.id
                named += 1
                assert isinstance(ending, Forked) or ending in (Crash, Unknown), "Unavailable means that there is none"
            except NotFound:
                assert not isinstance(ending, Forked)
                unnamed += 1
                first = id_of(make(world))
            assert shown(world, first) == RECORDS, number
            verify(world.store, first)
            if crash and number % 4 == (fault is Fault.CRASH_AFTER):  # the long end, here and there
                busy(world)
                whole(world, first)
                whole(world, world.cid)
                assert world.documents() == RECORDS | {"x": "1"}
    assert {"put", "get", "copy"} <= struck
    assert {"list", "head"} <= struck or not crash
    assert named
    assert unnamed or fault in (Fault.LOST, Fault.LATE)


def test_what_cannot_be_told_is_not_called_failed() -> None:
    """The name is given, and then the store is away: the fork may exist, so the caller is told to look; and it does."""
    named: list[Call] = []

    def choose(call: Call) -> Fault | None:
        if call.verb == "put" and call.key.startswith("catalog/"):
            named.append(call)
        return Fault.BEFORE if named and call.verb == "get" and call.key.startswith("collection/") else None

    with prepared() as world:
        with pytest.raises(Unknown, match="copy"):
            make(world, store=FaultyStore(world.store, choose, world.clock))
        whole(world, world.catalog.lookup(TENANT, DATABASE, "copy").collection.id)


def test_a_fork_survives_two_lost_replies() -> None:
    """Any two of its replies lost: there is a whole fork, or none and the caller was told so, or could not be told."""
    total = calls_of_a_fork()
    for one in range(1, total, 5):
        for other in range(one + 1, total, 7):
            with prepared() as world:
                store = FaultyStore(world.store, at_calls({one: Fault.LOST, other: Fault.LATE}), world.clock)
                ending: object = None
                try:
                    ending = make(world, store=store)
                except ChromalithError as error:
                    ending = type(error)
                store.land()
                count = world.catalog.count(TENANT, DATABASE)
                assert (count == 2) if isinstance(ending, Forked) else (count == 1 or ending in (Unknown, Conflict)), (one, other, ending)
                if count == 2:
                    cid = world.catalog.lookup(TENANT, DATABASE, "copy").collection.id
                    assert shown(world, cid) == RECORDS
                    verify(world.store, cid)
                assert world.documents() == RECORDS
