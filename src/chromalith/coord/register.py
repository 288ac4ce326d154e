"""A register: one JSON object that many processes change, each change conditional on what its writer had read.

A generic mechanism with no domain in it (after slatedb's transactional object). The protocol of one change:

1. Read the object: its value and its entity tag, or that it is absent.
2. Compute the new value from the old one. No change asked for: stop, nothing is written.
3. Put it on condition that the object is still what was read (``Absent`` or ``Matches(etag)``). A lost reply is looked
   up before it is believed (:mod:`chromalith.store.readback`).
4. Somebody else was first: wait a little, at random, and begin again with 1.

Invariants:
    Each body carries a fresh ``write_id``, so two writes of one value differ in their bytes. Without it, an object that
    went A → B → A would have its first entity tag again, and a writer that had read the first A would not notice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chromalith.clock import Clock
from chromalith.errors import Conflict, Corrupt, NotFound, Unknown
from chromalith.store.port import Absent, ETag, Matches, Store
from chromalith.store.readback import Overtaken, put_resolved

Value = Mapping[str, Any]

WRITE_ID = "write_id"
WRITE_ID_DIGITS = 32
ATTEMPTS_MAX = 64
"""Each lost race means that another writer won one, so 64 losses in a row need 64 concurrent winners on one object."""
BACKOFF_FIRST_S = 0.005
BACKOFF_MAX_S = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """What one read saw: the value without its ``write_id``, and the entity tag; ``None`` if there is no object."""

    value: dict[str, Any] | None
    etag: ETag | None


class Register:
    """One JSON object, changed by compare-and-set.

    Args:
        store: where it is.
        key: its key.
        clock: for waiting between attempts, and for the ``write_id``.
    """

    def __init__(self, store: Store, key: str, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._clock = clock

    @property
    def key(self) -> str:
        return self._key

    def read(self) -> Held:
        """The present value. Raises ``Unavailable``; ``Corrupt`` if it is not a JSON object."""
        try:
            held = self._store.get(self._key)
        except NotFound:
            return Held(None, None)
        return Held(decode(self._key, held.body), held.etag)

    def create(self, value: Value) -> bool:
        """Write ``value`` if the object is absent; whether it was. Raises ``Unknown``, ``Unavailable``."""
        try:
            return self._put(value, Held(None, None)) is not None
        except _Ambiguous as error:
            raise Unknown(
                f"it was created and then changed, by us or by another key={self._key}", hint="look, then decide again"
            ) from error

    def update(self, change: Callable[[dict[str, Any] | None], Value | None]) -> dict[str, Any] | None:
        """Apply ``change`` to the value, however many writers compete, and return the value that then stands.

        Args:
            change: gets the present value (``None``: absent), which it may change in place or not, and returns the new
                one; ``None`` asks for no write. It may be called many times, and what it raises ends the update.
                After a lost reply it can meet its own earlier success under somebody else's later change, so it must
                ask for a state (the name stands for this id), not for a step (one more).

        Raises: ``Conflict`` after ``ATTEMPTS_MAX`` lost races, ``Unknown``, ``Unavailable``, ``Corrupt``.
        """
        for attempt in range(ATTEMPTS_MAX):
            held = self.read()
            before = json.dumps(held.value, sort_keys=False)
            new = change(held.value)
            if new is None or json.dumps(new, sort_keys=False) == before:
                return json.loads(before)  # type: ignore[no-any-return]  # as it was read, even if `change` wrote in it
            with suppress(_Ambiguous):
                if self._put(new, held) is not None:
                    return dict(new)
            ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10))
            self._clock.sleep(self._clock.uniform(0, ceiling))
        raise Conflict(
            f"others kept writing first key={self._key} attempts={ATTEMPTS_MAX}",
            hint="try again; if it lasts, something writes this object in a loop",
        )

    def _put(self, value: Value, held: Held) -> ETag | None:
        condition = Absent() if held.etag is None else Matches(held.etag)
        body = encode({**value, WRITE_ID: self._clock.random_hex(WRITE_ID_DIGITS)})
        try:
            return put_resolved(self._store, self._key, body, condition, clock=self._clock)
        except Overtaken as error:
            if error.ambiguous:
                raise _Ambiguous from error
            return None


class _Ambiguous(Exception):
    """Another body stands, and ours may have stood before it."""


def encode(value: Value) -> bytes:
    """The bytes of a JSON object: UTF-8, keys in the order given (collections are listed in that order)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )


def _finite(text: str) -> float:
    """A number that can be written again. Raises ``ValueError`` for NaN, the infinities, and what is rounded to one."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text:.50}")
    return value


def decode(key: str, body: bytes) -> dict[str, Any]:
    """The inverse of :func:`encode`, without the ``write_id``. Raises ``Corrupt`` with the ``key``."""
    try:
        value = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"not JSON key={key}", hint="restore the object from the bucket's versions") from error
    if not isinstance(value, dict):
        raise Corrupt(f"not a JSON object key={key}", hint="restore the object from the bucket's versions")
    value.pop(WRITE_ID, None)
    return value
