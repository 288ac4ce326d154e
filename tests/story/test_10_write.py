"""Writing: one immutable object a call, acknowledged once it is durable and the collection is known to be alive."""

from __future__ import annotations

import numpy as np
import pytest
from tests.worlds import Settling, World, keys, vectors

from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.delta import VOID
from chromalith.model.ids import HLC_LOGICAL_BITS, DeltaId
from chromalith.model.order import Listed
from chromalith.store.port import Absent, Condition, ETag, Object, Store
from chromalith.store.wrappers import DelegatingStore
from chromalith.testing.faulty import Call, Fault, FaultyStore, at_verb


def test_one_call_is_one_object() -> None:
    """However many rows a call has, it is one delta, under the name that its receipt tells."""
    with World() as world:
        receipt = world.upsert("abc", 1)
        assert keys(world.store, layout.DELTA_ROOT) == [layout.delta_key(world.cid, receipt.delta)]
        assert (receipt.rows, receipt.collection) == (3, world.cid)
        assert receipt.bytes == world.store.head(layout.delta_key(world.cid, receipt.delta)).size


def test_what_is_acknowledged_is_visible_to_everyone() -> None:
    """A read that begins after the acknowledgement sees the write, from a process that knew the collection before and from a new one."""
    with World() as world:
        old = world.session()
        assert old.view(world.cid).count() == 0
        world.upsert("a", 1)
        assert old.view(world.cid).get().ids == ["a"]
        assert world.documents() == {"a": "1"}


def test_an_invalid_call_writes_nothing() -> None:
    """A call that is refused leaves no object, and fixes no dimension."""
    with World() as world:
        before = keys(world.store)
        for columns in ({"embeddings": [[float("nan")]]}, {"embeddings": None}, {"embeddings": [[1.0], [2.0]]}):
            with pytest.raises(Invalid):
                world.writer().write(world.cid, "upsert", ["a"], **columns)
        assert keys(world.store) == before
        assert world.catalog.get(world.cid).dimension is None


def test_the_dimension_is_fixed_before_the_first_delta() -> None:
    """Of two writers that both begin with an empty collection, the second must have the dimension of the first."""
    with World() as world:
        first, second = world.writer(), world.writer()
        for writer in (first, second):
            writer.write(world.cid, "delete", ["nothing"])  # both know the collection as having no dimension
        world.upsert("a", writer=first)
        with pytest.raises(Invalid):
            second.write(world.cid, "upsert", ["b"], np.ones((1, 7), np.float32))
        assert world.documents() == {"a": "0"}


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BEFORE, Fault.LATE])
@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_reply_is_resolved_by_looking(fault: Fault, times: int) -> None:
    """However often replies of the put are lost, the call ends as one delta, or as a call that certainly did not happen."""
    with World() as world:
        store = FaultyStore(world.store, at_verb("put", *[fault] * times, key_prefix="delta/"), world.clock)
        writer = world.writer(store)
        try:
            world.upsert("a", 1, writer=writer)
        except Unavailable:
            assert fault is Fault.BEFORE
            store.land()
            assert world.documents() == {}
            return
        store.land()
        assert len(keys(world.store, layout.DELTA_ROOT)) == 1
        assert world.documents() == {"a": "1"}


def test_who_gives_up_puts_a_void() -> None:
    """A writer that can't learn whether its put will land takes its key with a void, so that the call never happens."""
    with World() as world:
        body_puts = at_verb("put", *[Fault.LATE] * 6, key_prefix="delta/")
        store = FaultyStore(world.store, body_puts, world.clock)
        with pytest.raises(Unavailable):
            world.upsert("a", 1, writer=world.writer(store))
        store.land()  # the straggler finds its key taken
        (key,) = keys(world.store, layout.DELTA_ROOT)
        assert world.store.get(key).body == VOID
        assert world.documents() == {}
        assert world.compact().folded == 1
        world.clock.advance(61)
        assert world.compact().swept == 1
        store.inner.put(key, b"late", Absent())  # and one that was in flight for as long as the void was there
        assert world.documents() == {}
        assert world.compact().folded == 0


def test_who_can_not_even_do_that_says_unknown() -> None:
    """If neither the delta nor the void is answered, the ending is unknown, and not guessed."""

    def choose(call: Call) -> Fault | None:
        return Fault.LOST if call.verb == "put" and call.key.startswith("delta/") else (
            Fault.BEFORE if call.verb == "get" and call.key.startswith("delta/") else None
        )

    with World() as world:
        with pytest.raises(Unknown):
            world.upsert("a", 1, writer=world.writer(FaultyStore(world.store, choose, world.clock)))
        assert world.documents() == {"a": "1"}  # it did happen, as it happens


@pytest.mark.parametrize("settle", [False, True])
def test_a_call_with_a_name_is_repeated_until_it_is_answered(settle: bool) -> None:
    """A named call whose ending was unknown is repeated by another process, and counts once, whether or not the first one landed."""
    with World() as world:
        shared = Settling(world.store) if settle else world.store
        for landed in (True, False):
            store = FaultyStore(shared, at_verb("put", *[Fault.LATE] * 6, key_prefix="delta/"), world.clock)
            name = f"call {landed}"
            with pytest.raises(Unknown):
                world.upsert("a", 1, writer=world.writer(store), call_id=name)
            if landed:
                store.land()
            world.upsert("a", 1, writer=world.writer(shared), call_id=name)
            world.upsert("b", 2)
            assert world.documents(shared)["a"] == "1"
            world.writer(shared).write(world.cid, "delete", ["a"])
            store.land()  # at the latest now
            world.upsert("a", 1, writer=world.writer(shared), call_id=name)
            assert "a" not in world.documents(shared)  # the repetition did not bring it back
            world.clock.advance(5)
            world.compactor(shared).run_once(world.cid)
            assert "a" not in world.documents(shared)


def test_what_is_read_is_ordered_before_what_is_then_written() -> None:
    """On a store of whole seconds, a process whose clock is behind still writes after what it has read."""
    with World() as world:
        store = Settling(world.store)
        ahead = world.writer(store)
        ahead._hlc = (world.clock.now_us() + 500_000) << HLC_LOGICAL_BITS  # as a machine whose clock is half a second ahead
        world.upsert("a", 1, writer=ahead)
        process = world.session(store)
        assert process.view(world.cid).get().documents == ["1"]
        process.writer.write(world.cid, "upsert", ["a"], vectors(1, 2), documents=["2"])
        assert process.view(world.cid).get().documents == ["2"]
        assert world.documents(store) == {"a": "2"}


def test_a_clock_that_is_far_ahead_is_not_followed() -> None:
    """One wrong clock does not drive every other to the end of the digits, after which no delta could be named."""
    with World() as world:
        writer = world.writer()
        writer.saw(2**64 - 1)
        receipt = world.upsert("a", 1, writer=writer)
        assert receipt.delta.hlc >> HLC_LOGICAL_BITS == world.clock.now_us()
        assert DeltaId.parse(str(receipt.delta)) == receipt.delta


@pytest.mark.parametrize("reason", ["Unavailable", "deleted"])
def test_the_acknowledgement_needs_the_collection_to_be_alive(reason: str) -> None:
    """On a remote store the question goes out beside the put; without a yes there is no acknowledgement, and never a wrong no."""
    from chromalith.errors import NotFound

    with World() as world:
        store = FaultyStore(Settling(world.store), at_verb("get_if_changed", Fault.BEFORE), world.clock)
        writer = world.writer(store)
        world.upsert("a", 1, writer=writer)  # asks by a whole GET, once
        if reason == "deleted":
            store = FaultyStore(Settling(world.store), lambda call: None, world.clock)
            writer = world.writer(store)
            world.upsert("a", 1, writer=writer)
            world.catalog.delete("default_tenant", "default_database", "words")
        with pytest.raises(NotFound if reason == "deleted" else Unknown):
            world.upsert("b", 2, writer=writer)


class Expiring(DelegatingStore):
    """Credentials that end with the put of a delta, ``lost``: whose reply is lost."""

    ended: bool | None = None  # ``False``: soon

    def __init__(self, inner: Store, *, lost: bool) -> None:
        super().__init__(inner)
        self._lost = lost

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        self._check()
        etag = self.inner.put(key, body, condition)
        if self.ended is False:
            self.ended = True
            if self._lost:
                raise Unknown("no answer")
        return etag

    def get(self, key: str) -> Object:
        self._check()
        return self.inner.get(key)

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        if self.ended is False and not self._lost:
            raise Invalid("the credentials have expired")
        return self.inner.get_if_changed(key, etag)

    def _check(self) -> None:
        if self.ended:
            raise Invalid("the credentials have expired")


@pytest.mark.parametrize("lost", [True, False])
def test_a_write_that_is_there_is_not_called_invalid(lost: bool) -> None:
    """Credentials that end beside the put, or before its lost reply is looked up: ``Invalid`` would say that nothing was written."""
    with World() as world:
        store = Expiring(Settling(world.store), lost=lost)
        writer = world.writer(store)
        world.upsert("a", 1, writer=writer)
        store.ended = False
        with pytest.raises(Unknown, match="can't be told .*credentials have expired"):
            world.upsert("b", 2, writer=writer)
        assert world.documents() == {"a": "1", "b": "2"}


def test_listed_knows_its_order() -> None:
    """Deltas are ordered by the store's time first, and by their id only where that is the same."""
    early, late = DeltaId(1, "a" * 32, 0, "0" * 16), DeltaId(2, "0" * 32, 0, "0" * 16)
    assert Listed(5, late, 1) < Listed(6, early, 1)
    assert Listed(5, early, 1) < Listed(5, late, 1)
