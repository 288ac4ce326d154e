"""Lost replies are looked up: never guessed."""

from __future__ import annotations

import pytest

from chromalith.clock import ManualClock
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Absent, Condition, ETag, Matches, Object, PreconditionFailed, Store
from chromalith.store.readback import READBACK_POLICY, Overtaken, put_resolved
from chromalith.store.wrappers import DelegatingStore
from chromalith.testing.faulty import Choose, Fault, FaultyStore, at_calls, at_random, at_verb

TRIES = READBACK_POLICY.attempts


def faulty(choose: Choose, **settings: int) -> tuple[MemoryStore, FaultyStore, ManualClock]:
    clock = ManualClock()
    inner = MemoryStore(clock)
    return inner, FaultyStore(inner, choose, clock, **settings), clock


def test_a_put_that_is_answered_needs_no_second_request() -> None:
    inner, store, clock = faulty(at_calls({}))
    etag = put_resolved(store, "key", b"1", Absent(), clock)
    put_resolved(store, "key", b"2", Matches(etag), clock)
    assert [call.verb for call in store.calls] == ["put", "put"]
    assert inner.get("key").body == b"2"


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
@pytest.mark.parametrize("create", [True, False])
def test_a_lost_reply_ends_in_one_known_write(fault: Fault, create: bool) -> None:
    """Applied or still on its way: the caller gets the tag of its object, and a straggler changes nothing."""
    inner, store, clock = faulty(at_verb("put", fault))
    condition: Absent | Matches = Absent() if create else Matches(inner.put("key", b"old"))
    etag = put_resolved(store, "key", b"mine", condition, clock)
    after = inner.get("key")
    assert (after.body, after.etag) == (b"mine", etag)
    store.land()
    assert inner.get("key") == after


@pytest.mark.parametrize("create", [True, False])
def test_a_straggler_that_lands_between_the_look_and_the_next_attempt_is_recognised(create: bool) -> None:
    inner, store, clock = faulty(at_verb("put", Fault.LATE), late_calls=2)
    condition: Absent | Matches = Absent() if create else Matches(inner.put("key", b"old"))
    etag = put_resolved(store, "key", b"mine", condition, clock)
    assert (inner.get("key").body, inner.get("key").etag) == (b"mine", etag)
    assert [call.verb for call in store.calls] == ["put", "get", "put", "get"]


def test_a_create_that_was_made_before_is_success() -> None:
    """The same call again, with the same bytes, as after a crash."""
    _, store, clock = faulty(at_calls({}))
    first = put_resolved(store, "key", b"mine", Absent(), clock)
    assert put_resolved(store, "key", b"mine", Absent(), clock) == first


def test_other_bytes_mean_that_another_write_came_first() -> None:
    inner, store, clock = faulty(at_calls({}))
    inner.put("key", b"theirs")
    with pytest.raises(Overtaken) as caught:
        put_resolved(store, "key", b"mine", Absent(), clock)
    assert isinstance(caught.value, PreconditionFailed)
    assert caught.value.current == inner.get("key")
    assert not caught.value.ambiguous


def test_a_stale_tag_is_overtaken_with_the_current_object() -> None:
    inner, store, clock = faulty(at_calls({}))
    stale = inner.put("key", b"1")
    inner.put("key", b"2")
    with pytest.raises(Overtaken) as caught:
        put_resolved(store, "key", b"mine", Matches(stale), clock)
    assert caught.value.current is not None
    assert (caught.value.current.body, caught.value.ambiguous) == (b"2", False)
    inner.delete("key")
    with pytest.raises(Overtaken) as caught:
        put_resolved(store, "key", b"mine", Matches(stale), clock)
    assert caught.value.current is None


def test_applied_and_then_overwritten_is_ambiguous() -> None:
    """Another writer built upon this one's object before it could look: only the history can tell."""
    clock = ManualClock()

    class Hasty(MemoryStore):
        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            etag = super().put(key, body, condition)
            if body == b"mine":
                super().put(key, b"built upon mine", Matches(etag))
            return etag

    inner = Hasty(clock)
    etag = inner.put("key", b"old")
    store = FaultyStore(inner, at_verb("put", Fault.LOST), clock)
    with pytest.raises(Overtaken) as caught:
        put_resolved(store, "key", b"mine", Matches(etag), clock)
    assert caught.value.ambiguous
    assert caught.value.current is not None
    assert caught.value.current.body == b"built upon mine"


@pytest.mark.parametrize("create", [True, False])
def test_a_write_that_cannot_be_looked_up_is_unknown(create: bool) -> None:
    inner, store, clock = faulty(lambda call: Fault.LOST if call.verb == "put" else Fault.BEFORE)
    condition: Absent | Matches = Absent() if create else Matches(inner.put("key", b"old"))
    with pytest.raises(Unknown):
        put_resolved(store, "key", b"mine", condition, clock)
    assert inner.get("key").body == b"mine"


class Expiring(DelegatingStore):
    """Credentials that end after the first put, whose reply is lost."""

    def __init__(self, inner: Store, *, reads: bool) -> None:
        super().__init__(inner)
        self._reads, self._ended = reads, False

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if self._ended:
            raise Invalid("the credentials have expired")
        self._ended = True
        raise Unknown("no answer")

    def get(self, key: str) -> Object:
        if not self._reads:
            raise Invalid("the credentials have expired")
        return self.inner.get(key)


@pytest.mark.parametrize("reads", [True, False])
def test_a_refusal_after_a_lost_reply_is_unknown(reads: bool) -> None:
    """"Nothing was written" is what ``Invalid`` says: of a write that may still land it would be wrong."""
    clock = ManualClock()
    with pytest.raises(Unknown):
        put_resolved(Expiring(MemoryStore(clock), reads=reads), "key", b"mine", Absent(), clock)


def test_a_failed_precondition_that_cannot_be_looked_up_is_unknown() -> None:
    """It may be the echo of this writer's own success."""
    inner, store, clock = faulty(at_verb("get", Fault.BEFORE))
    inner.put("key", b"mine")
    with pytest.raises(Unknown):
        put_resolved(store, "key", b"mine", Absent(), clock)


@pytest.mark.parametrize("create", [True, False])
def test_requests_that_all_vanish_end_as_unknown_after_a_bounded_number(create: bool) -> None:
    inner, store, clock = faulty(at_verb("put", *[Fault.LATE] * 100))
    condition: Absent | Matches = Absent() if create else Matches(inner.put("key", b"old"))
    with pytest.raises(Unknown):
        put_resolved(store, "key", b"mine", condition, clock)
    assert [call.verb for call in store.calls] == ["put", "get"] * TRIES
    assert clock.slept_s > 0
    store.land()
    assert inner.get("key").body == b"mine", "one of them is applied, when they land"


def test_certainly_not_applied_is_unavailable_but_not_after_a_lost_reply() -> None:
    _, store, clock = faulty(at_verb("put", Fault.BEFORE))
    with pytest.raises(Unavailable):
        put_resolved(store, "key", b"mine", Absent(), clock)
    _, store, clock = faulty(at_verb("put", Fault.LATE, Fault.BEFORE))
    with pytest.raises(Unknown):
        put_resolved(store, "key", b"mine", Absent(), clock)


def test_a_condition_refused_although_it_holds_is_tried_again_then_unavailable() -> None:
    clock = ManualClock()

    class Stubborn(DelegatingStore):
        refusals = 0

        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            self.refusals -= 1
            if self.refusals >= 0:
                raise PreconditionFailed("409 in disguise")
            return super().put(key, body, condition)

    store = Stubborn(MemoryStore(clock))
    store.refusals = 2
    assert put_resolved(store, "key", b"mine", Absent(), clock) == store.head("key").etag
    store.refusals = 1_000
    with pytest.raises(Unavailable):
        put_resolved(store, "key", b"next", Matches(store.head("key").etag), clock)


@pytest.mark.parametrize("seed", range(150))
def test_no_history_tells_a_writer_the_opposite_of_what_happened(seed: int) -> None:
    """Writers build a chain by conditional puts through a store that loses replies; the chain itself is the judge."""
    clock = ManualClock(seed=seed)
    inner = MemoryStore(clock)
    rates = {Fault.LOST: 0.2, Fault.LATE: 0.2, Fault.BEFORE: 0.1}
    store = FaultyStore(inner, at_random(clock, rates), clock, late_calls=1 + seed % 5)
    written: list[bytes] = []
    known: dict[bytes, str] = {}

    class Recorded(DelegatingStore):
        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            etag = super().put(key, body, condition)
            written.append(body)
            return etag

    store.inner = Recorded(inner)
    held: list[Object] = []
    for number in range(12):
        body = f"{seed} {number}".encode()
        try:
            # Every third writer works from what it read a turn ago, and so races with the one before it.
            current = held[-1] if held and number % 3 == 0 else inner.get("key") if written else None
            condition: Absent | Matches = Absent() if current is None else Matches(current.etag)
            held += [current] if current is not None else []
            put_resolved(store, "key", body, condition, clock)
            known[body] = "written"
        except Overtaken as error:
            known[body] = "unsure" if error.ambiguous else "not written"
        except Unknown:
            known[body] = "unsure"
        except Unavailable:
            known[body] = "not written"
    store.land()
    for body, verdict in known.items():
        assert written.count(body) <= 1
        assert verdict == "unsure" or (body in written) == (verdict == "written"), (body, verdict)
