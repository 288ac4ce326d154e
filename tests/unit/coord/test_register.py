"""The register: a change is applied to what stands, once, whoever else writes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.coord.register import ATTEMPTS_MAX, Register
from chromalith.errors import Conflict, Corrupt, Unavailable, Unknown
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Condition, ETag, Store


def make(store: Store | None = None) -> Register:
    return Register(store or MemoryStore(ManualClock()), "catalog/x.json", ManualClock())


def increment(value: dict[str, Any] | None) -> dict[str, Any]:
    return {"n": (value or {"n": 0})["n"] + 1}


def test_an_absent_object_reads_as_none_and_is_created_once() -> None:
    register = make()
    assert register.read().value is None
    assert register.create({"a": 1})
    assert not register.create({"a": 2})
    assert register.read().value == {"a": 1}


def test_a_body_never_recurs_even_if_its_value_does() -> None:
    store = MemoryStore(ManualClock())
    register = make(store)
    bodies = set()
    for value in ("x", "y", "x"):
        register.update(lambda _, value=value: {"v": value})  # type: ignore[misc]
        bodies.add(store.get("catalog/x.json").body)
    assert len(bodies) == 3


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    store = MemoryStore(ManualClock())
    register = make(store)
    register.create({"v": 1})
    before = store.get("catalog/x.json")
    assert register.update(lambda value: value) == {"v": 1}
    assert register.update(lambda value: None) == {"v": 1}
    assert store.get("catalog/x.json").etag == before.etag


def test_concurrent_changes_are_all_applied() -> None:
    store = MemoryStore(SYSTEM_CLOCK)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(Register(store, "k", SYSTEM_CLOCK).update, increment) for _ in range(40)]:
            done.result()
    assert Register(store, "k", SYSTEM_CLOCK).read().value == {"n": 40}


class Intruder:
    """A store on which somebody else always writes between our read and our write."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self._count = 0

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        self._count += 1
        self._inner.put(key, json.dumps({"n": -self._count}).encode())
        return self._inner.put(key, body, condition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_race_that_is_always_lost_ends_in_conflict_and_leaves_the_winner() -> None:
    store = MemoryStore(ManualClock())
    with pytest.raises(Conflict, match=f"attempts={ATTEMPTS_MAX}"):
        make(Intruder(store)).update(increment)  # type: ignore[arg-type]
    assert json.loads(store.get("catalog/x.json").body) == {"n": -ATTEMPTS_MAX}


class LostReply:
    """A store whose first conditional write is applied, but whose reply never arrives."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self._lost = False

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        etag = self._inner.put(key, body, condition)
        if not self._lost:
            self._lost = True
            raise Unknown("the reply was lost")
        return etag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_change_whose_reply_was_lost_is_applied_once() -> None:
    store = MemoryStore(ManualClock())
    assert make(LostReply(store)).update(increment) == {"n": 1}  # type: ignore[arg-type]
    assert make(store).read().value == {"n": 1}


class LostAndOverwritten:
    """A store whose first conditional write is applied and then overwritten by somebody, and whose reply never arrives."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self._lost = False

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        etag = self._inner.put(key, body, condition)
        if not self._lost:
            self._lost = True
            self._inner.put(key, json.dumps({**json.loads(body), "theirs": True, "write_id": "0" * 32}).encode())
            raise Unknown("the reply was lost")
        return etag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_change_that_asks_for_a_state_is_right_even_if_its_lost_success_was_built_on() -> None:
    store = MemoryStore(ManualClock())
    done = make(LostAndOverwritten(store)).update(lambda value: {**(value or {}), "mine": True})  # type: ignore[arg-type]
    assert done == {"mine": True, "theirs": True}


def test_a_create_whose_lost_success_was_built_on_is_unknown_and_not_a_no() -> None:
    with pytest.raises(Unknown):
        make(LostAndOverwritten(MemoryStore(ManualClock()))).create({"mine": True})  # type: ignore[arg-type]


def test_what_is_not_a_json_object_is_corrupt() -> None:
    store = MemoryStore(ManualClock())
    for body in (b"\xff", b"{", b"[]", b"1"):
        store.put("catalog/x.json", body)
        with pytest.raises(Corrupt, match="catalog/x.json"):
            make(store).read()


def test_an_error_in_the_change_writes_nothing() -> None:
    store = MemoryStore(ManualClock())

    def fail(value: dict[str, Any] | None) -> dict[str, Any]:
        raise Unavailable("no")

    with pytest.raises(Unavailable):
        make(store).update(fail)
    assert make(store).read().value is None
