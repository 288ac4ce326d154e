"""Compaction by hints: messages are deleted only after a publish, and whatever is told, what is stored is the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.worlds import NAME, World, altered, keys

from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.compaction.hinted import ERRORS_MAX, MESSAGES_MAX, Consumed, consume
from chromalith.compaction.leasing import FOLD, lease_key
from chromalith.coord.lease import Lease, Tenure
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import Corrupt, Invalid, Unavailable
from chromalith.model import layout
from chromalith.model.delta import VOID
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.store.port import Condition, ETag, Store
from chromalith.store.wrappers import DelegatingStore
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore, at_calls
from chromalith.write.writer import Receipt

FOREVER = float("inf")


def hint(receipt: Receipt) -> str:
    return Hint(receipt.collection, receipt.delta, receipt.rows, receipt.bytes).encode()


def consumed(
    world: World, *bodies: str, store: Store | None = None, compactor: Compactor | None = None, time_s: float = FOREVER
) -> Consumed:
    """What becomes of these messages, named 0, 1, …; the clock moves only while somebody waits."""
    stop_s = world.clock.monotonic_s() + time_s
    return consume(
        [(str(at), body) for at, body in enumerate(bodies)],
        compactor or world.compactor(store),
        store or world.store,
        world.clock,
        time_left=lambda: stop_s - world.clock.monotonic_s(),
    )


def test_a_hint_is_done_when_its_delta_is_folded() -> None:
    """One message, one compaction, one version; the message may go."""
    with World() as world:
        found = consumed(world, hint(world.upsert("a", 1)))
        assert (found.done, found.failed) == (("0",), {})
        assert [outcome.published for outcome in found.outcomes] == [[1]]
        assert world.documents() == {"a": "1"}


def test_the_hints_of_a_collection_share_one_compaction() -> None:
    """Any number of messages of one collection is one version, and each other collection is one more."""
    with World() as world:
        other = world.create("other")
        first = [hint(world.upsert(name, 1)) for name in "abcde"]
        second = hint(world.writer().write(other, "upsert", ["x"], [[1.0, 2.0, 3.0]]))
        found = consumed(world, *first[:3], second, *first[3:])
        assert sorted(found.done) == ["0", "1", "2", "3", "4", "5"]
        told = [(outcome.collection, outcome.folded, outcome.published) for outcome in found.outcomes]
        assert told == [(world.cid, 5, [1]), (other, 1, [1])]


def test_what_no_message_told_of_is_folded_too() -> None:
    """A lost hint costs nothing where another one of its collection arrives: the fold is by LIST."""
    with World() as world:
        world.upsert("a", 1)
        assert consumed(world, hint(world.upsert("b", 2))).outcomes[0].folded == 2


def test_a_redelivered_message_is_done_and_writes_nothing() -> None:
    """A message that comes again after its delta was folded, and again after that was swept, is done; no version is published."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        assert consumed(world, body).done == ("0",)
        before = keys(world.store)
        assert consumed(world, body, body).done == ("0", "1")
        assert keys(world.store) == before
        world.clock.advance(3_600)
        assert consumed(world, body).outcomes[0].swept == 1
        assert consumed(world, body).done == ("0",)
        assert world.current().version == 1


def test_poison_keeps_nobody_waiting() -> None:
    """What is no hint has failed with its reason; the messages around it are done."""
    newer = hint_of(format=2)
    with World() as world:
        found = consumed(world, "", "{", hint(world.upsert("a", 1)), newer, '{"format":1}', "null", hint_of(collection="../../x"))
        assert found.done == ("2",)
        assert sorted(found.failed) == ["0", "1", "3", "4", "5", "6"]
        assert "newer format" in found.failed["3"]
        assert world.documents() == {"a": "1"}


def hint_of(**changed: object) -> str:
    value = json.loads(Hint(CollectionId("00000000-0000-4000-8000-000000000000"), DeltaId(1, "a" * 32, 0, "b" * 16), 1, 1).encode())
    return json.dumps(value | changed)


def test_a_hint_of_nothing_is_done() -> None:
    """A collection that never was, and a delta that never was, leave nothing to do: the message goes."""
    with World() as world:
        receipt = world.upsert("a", 1)
        nobody = Hint(CollectionId("00000000-0000-4000-8000-000000000000"), receipt.delta, 1, 1).encode()
        nothing = replace(Hint.decode(hint(receipt)), delta=DeltaId(1, "a" * 32, 0, "b" * 16)).encode()
        assert sorted(consumed(world, nobody, nothing).done) == ["0", "1"]


def test_a_deleted_collection_is_done() -> None:
    """Hints of a collection that was deleted are done, also for a compactor that knew it."""
    with World() as world:
        compactor = world.compactor()
        assert consumed(world, hint(world.upsert("a", 1)), compactor=compactor).done == ("0",)
        late = hint(world.upsert("b", 2))
        world.catalog.delete("default_tenant", "default_database", NAME)
        assert consumed(world, late, compactor=compactor).done == ("0",)
        assert consumed(world, late).done == ("0",)


def test_a_quarantined_delta_is_done() -> None:
    """A delta that is corrupt is set aside, told, and its message goes: delivering it again would not mend it."""
    with World() as world:
        bad, good = world.upsert("a", 1), world.upsert("b", 2)
        altered(world.store, layout.delta_key(world.cid, bad.delta), lambda body: body[:-1])
        found = consumed(world, hint(bad), hint(good))
        assert sorted(found.done) == ["0", "1"]
        assert [delta for delta, _ in found.outcomes[0].quarantined] == [str(bad.delta)]
        assert consumed(world, hint(bad)).done == ("0",)


def test_a_void_delta_is_done() -> None:
    """A hint of a call that was given up, whoever sent it."""
    with World() as world:
        receipt = world.upsert("a", 1)
        altered(world.store, layout.delta_key(world.cid, receipt.delta), lambda body: VOID)
        assert consumed(world, hint(receipt)).done == ("0",)
        assert world.documents() == {}


def test_a_delta_that_was_set_aside_is_done() -> None:
    """What a restore has set aside is not folded any more, and its message goes."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        late = world.upsert("b", 2)
        world.session().restorer().run(world.cid, 0)
        assert consumed(world, hint(late)).done == ("0",)
        assert world.documents() == {}


def test_young_deltas_are_waited_for() -> None:
    """On a store whose timestamps settle, a hint that comes at once waits for the seconds that it takes."""
    with World(remote=True) as world:
        found = consumed(world, hint(world.upsert("a", 1)))
        assert found.done == ("0",)
        assert world.current().live == 1
        assert 2 <= world.clock.slept_s <= 4


def test_a_batch_under_load_is_folded_once() -> None:
    """Deltas of several seconds, the last of them a moment old, and more that are written meanwhile: one version, not one a second."""
    with World(remote=True) as world:
        receipts = []
        for second in range(4):
            receipts.append(world.upsert(f"r{second}", second))
            world.clock.advance(1)
        found = consumed(world, *[hint(receipt) for receipt in receipts])
        assert len(found.done) == len(receipts)
        assert [len(outcome.published) for outcome in found.outcomes] == [1]


def test_settled_deltas_are_not_waited_for() -> None:
    """A batch that the queue has held back for long enough begins at once."""
    with World(remote=True) as world:
        receipt = world.upsert("a", 1)
        world.clock.advance(10)
        assert consumed(world, hint(receipt)).done == ("0",)
        assert world.clock.slept_s == 0


def test_a_delta_that_a_listing_does_not_show_yet_is_not_taken_for_absent() -> None:
    """A listing may lag behind: a delta that is there is waited for, and not believed to be gone."""
    with World(remote=True) as world:
        receipt = world.upsert("a", 1)
        hidden = world.store
        hidden.hidden.add(layout.delta_key(world.cid, receipt.delta))  # type: ignore[attr-defined]
        found = consumed(world, hint(receipt), time_s=5)
        assert (found.done, list(found.failed)) == ((), ["0"])
        hidden.hidden.clear()  # type: ignore[attr-defined]
        assert consumed(world, hint(receipt)).done == ("0",)
        assert world.documents() == {"a": "1"}


def leased(world: World) -> Compactor:
    return world.compactor(settings=CompactionSettings(merge=world.settings.merge, heartbeat=False))


def held(world: World, owner: str = "elsewhere") -> Tenure:
    """Somebody else's fold lease."""
    leases = ObjectLeases(world.store, world.clock)
    tenure = Lease(leases, lease_key(world.cid, FOLD), world.clock, purpose=FOLD, owner=owner).try_acquire()
    assert isinstance(tenure, Tenure)
    return tenure


class Meanwhile:
    """The world's clock, with something that happens whenever somebody waits."""

    def __init__(self, world: World, act: object) -> None:
        self._clock, self._act = world.clock, act

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)
        self._act()  # type: ignore[operator]

    def __getattr__(self, name: str) -> object:
        return getattr(self._clock, name)


def test_what_the_holder_of_the_lease_folds_is_done() -> None:
    """A live holder is waited for; then the folded set is looked at, and what they folded needs nobody else."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        other = held(world)
        rounds: list[int] = []

        def act() -> None:
            rounds.append(1)
            other.beat()
            if len(rounds) == 3:
                world.compact()

        clock = Meanwhile(world, act)
        found = consume([("m", body)], leased(world), world.store, clock, time_left=lambda: FOREVER)  # type: ignore[arg-type]
        assert found.done == ("m",)
        assert found.outcomes[0].published == []
        assert len(rounds) == 3


def test_a_dead_holder_is_taken_over() -> None:
    """A lease that nobody beats is taken over after its time, if there is as much; the message is done."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        held(world)
        found = consumed(world, body, compactor=leased(world))
        assert found.done == ("0",)
        assert found.outcomes[0].published == [1]


def test_without_time_a_held_collection_fails_and_the_others_are_done() -> None:
    """What could not be done in time comes again, with the reason; nothing of it was deleted, and nothing else waited for it."""
    with World() as world:
        free = world.create("free")
        mine = hint(world.upsert("a", 1))
        theirs = hint(world.writer().write(free, "upsert", ["x"], [[1.0, 2.0, 3.0]]))
        held(world)
        found = consumed(world, mine, theirs, compactor=leased(world), time_s=5)
        assert found.done == ("1",)
        assert list(found.failed) == ["0"]
        assert "elsewhere" in found.failed["0"]
        assert world.clock.slept_s <= 5


def test_out_of_time_nothing_begins() -> None:
    """Without time no request is made; readable messages come again."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        store = FaultyStore(world.store, lambda call: None, world.clock)
        found = consumed(world, body, "poison", store=store, time_s=0)
        assert (found.done, sorted(found.failed), store.calls) == ((), ["0", "1"], [])


class Broken(DelegatingStore):
    """One collection's pointer fails, ``times`` times, as ``error`` says."""

    def __init__(self, inner: Store, cid: CollectionId, error: Exception, times: int) -> None:
        super().__init__(inner)
        self._key, self._error, self.left = layout.pointer_key(cid), error, times

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if key == self._key and self.left:
            self.left -= 1
            raise self._error
        return self.inner.put(key, body, condition)


@pytest.mark.parametrize("error", [Corrupt("damaged"), Invalid("newer"), RuntimeError("a defect"), MemoryError()], ids=repr)
def test_a_collection_that_fails_keeps_no_other(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with one collection fails its own messages only, and is tried once."""
    with World() as world:
        other = world.create("other")
        bad = hint(world.upsert("a", 1))
        good = hint(world.writer().write(other, "upsert", ["x"], [[1.0, 2.0, 3.0]]))
        store = Broken(world.store, world.cid, error, 99)
        found = consumed(world, bad, good, store=store)
        assert found.done == ("1",)
        assert list(found.failed) == ["0"]
        assert str(error) in found.failed["0"]
        assert consumed(world, bad).done == ("0",)


def test_what_passes_is_tried_again() -> None:
    """A store that fails for a moment is asked again, in the same call; one that goes on failing is left to the next delivery."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        store = Broken(world.store, world.cid, Unavailable("away"), ERRORS_MAX - 1)
        assert consumed(world, body, store=store).done == ("0",)
        late = hint(world.upsert("b", 1))
        store.left = 99
        found = consumed(world, late, store=store)
        assert found.failed == {"0": "away"}
        assert store.left == 99 - ERRORS_MAX


@pytest.mark.parametrize("applied", [True, False])
def test_an_unknown_ending_is_looked_up(applied: bool) -> None:
    """A publish of which nobody knows whether it happened is decided by looking: done only if the folded set has it."""
    with World() as world:
        body = hint(world.upsert("a", 1))
        lost: list[Call] = []

        def choose(call: Call) -> Fault | None:
            if call.key != layout.pointer_key(world.cid):
                return None
            if call.verb == "put" and not lost:
                lost.append(call)
                return Fault.LOST if applied else Fault.LATE
            return Fault.BEFORE if lost and call.number == lost[0].number + 1 else None  # the reading back

        store = FaultyStore(world.store, choose, world.clock)
        assert consumed(world, body, store=store).done == ("0",)
        assert [call.verb for call, _ in store.struck] == ["put", "get"]
        assert world.current().version == 1
        store.land()
        assert world.current().version == 1


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST, Fault.LATE, Fault.BEFORE])
def test_every_request_could_be_the_last(fault: Fault) -> None:
    """Whichever request fails or is a worker's last: a message that was called done is folded, and one that was not is done next time."""
    for number in range(1, 60):
        with World() as world:
            body = hint(world.upsert("a", 1))
            store = FaultyStore(world.store, at_calls({number: fault}), world.clock)
            try:
                found = consumed(world, body, store=store)
            except Crash:
                pass
            else:
                assert not found.done or world.current().live == 1
            assert consumed(world, body).done == ("0",)
            store.land()
            assert world.current().live == 1
            assert world.documents() == {"a": "1"}
            if not store.struck:
                assert number > 8
                return
    raise AssertionError("the sweep over the requests never came to its end")


def test_there_is_a_limit() -> None:
    """More messages than the limit are refused at once, before anything is done."""
    with World() as world, pytest.raises(Invalid, match="too many messages"):
        consumed(world, *["x"] * (MESSAGES_MAX + 1))
