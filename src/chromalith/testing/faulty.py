"""A store that fails on purpose: scripted call by call, or at random from a seed.

Four things can happen to a request, and every protocol in this package must survive each of them at each call:

- ``BEFORE``: it fails before anything was applied (``Unavailable``).
- ``LOST``: it is applied, and the reply is lost (``Unknown`` for a put or a copy, ``Unavailable`` for the rest).
- ``LATE``: the reply is lost, and the request is applied *later*: when :meth:`FaultyStore.land` is called, or before the
  ``n``-th next request. The condition is judged then. This is a request that sat in a proxy.
- ``DELAY``: it takes ``delay_s`` on the clock, and succeeds.
- ``CRASH_BEFORE``, ``CRASH_AFTER``: the process dies before or after the request was applied: :class:`Crash`, which is no
  ``Exception``, so that no handler of errors mistakes it for one.

Calls are numbered from 1 in the order in which they are made, over all verbs; a page of a listing is a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Unavailable, Unknown
from chromalith.store.port import Condition, ETag, Store
from chromalith.store.wrappers import EveryCallStore

Result = TypeVar("Result")

WRITES = ("put", "delete", "copy")


class Crash(BaseException):
    """The process died here. Only a test's harness catches it."""


class Fault(StrEnum):
    """What happens to one request."""

    BEFORE = "before"
    LOST = "lost"
    LATE = "late"
    DELAY = "delay"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as the script and the log see it: its number from 1, the port's verb, the key (or prefix)."""

    number: int
    verb: str
    key: str


Choose = Callable[[Call], Fault | None]
"""Decides what happens to a call; ``None``: nothing."""


def at_calls(faults: Mapping[int, Fault]) -> Choose:
    """Faults by the number of the call."""
    return lambda call: faults.get(call.number)


def at_verb(verb: str, *faults: Fault | None, key_prefix: str = "") -> Choose:
    """The first, second, … request with this verb (and key prefix) meets the first, second, … of ``faults``."""
    rest = list(faults)

    def choose(call: Call) -> Fault | None:
        if call.verb != verb or not call.key.startswith(key_prefix) or not rest:
            return None
        return rest.pop(0)

    return choose


def at_random(clock: Clock, rates: Mapping[Fault, float], *, verbs: Iterable[str] = ()) -> Choose:
    """Each fault with its probability, drawn from ``clock`` (a ``ManualClock`` has a seed); only ``verbs``, if any are given.

    ``LATE`` strikes writes only."""
    wanted = frozenset(verbs)

    def choose(call: Call) -> Fault | None:
        drawn = clock.uniform(0.0, 1.0)
        if wanted and call.verb not in wanted:
            return None
        for fault, rate in rates.items():
            drawn -= rate
            if drawn < 0:
                return None if fault is Fault.LATE and call.verb not in WRITES else fault
        return None

    return choose


class FaultyStore(EveryCallStore):
    """Delegates to ``inner``, and lets ``choose`` decide what goes wrong. Safe to use from many threads.

    Args:
        inner: what really happens.
        choose: see :func:`at_calls`, :func:`at_verb`, :func:`at_random`, or a function of your own.
        clock: for ``DELAY``.
        delay_s: how long a ``DELAY`` is.
        late_calls: a ``LATE`` request lands before the ``late_calls``-th request after it; 0: only when ``land`` is called.
    """

    def __init__(
        self, inner: Store, choose: Choose, clock: Clock, *, delay_s: float = 1.0, late_calls: int = 0
    ) -> None:
        super().__init__(inner)
        self._choose = choose
        self._clock = clock
        self._delay_s = delay_s
        self._late_calls = late_calls
        self._lock = threading.Lock()
        self._late: list[tuple[int, Callable[[], object]]] = []
        self.calls: list[Call] = []
        """Every call so far."""
        self.struck: list[tuple[Call, Fault]] = []
        """Every call that met a fault, with the fault."""

    def call(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        call, fault = self._begin(verb, key)
        match fault:
            case None:
                return request()
            case Fault.BEFORE:
                raise Unavailable(f"injected: failed before it was applied verb={verb} key={key} call={call.number}")
            case Fault.CRASH_BEFORE:
                raise Crash(f"before {verb} {key} call={call.number}")
            case Fault.CRASH_AFTER:
                request()
                raise Crash(f"after {verb} {key} call={call.number}")
            case Fault.DELAY:
                self._clock.sleep(self._delay_s)
                return request()
            case Fault.LATE if verb in WRITES:
                with self._lock:
                    self._late.append((call.number + self._late_calls if self._late_calls else 0, request))
            case Fault.LOST | Fault.LATE:
                self._apply(request)
        # A lost reply hides success and failure alike, so the error is the same whatever the store answered.
        lost = Unknown if verb in ("put", "copy") else Unavailable
        raise lost(f"injected: the reply was lost verb={verb} key={key} call={call.number}")

    def land(self) -> int:
        """Apply the late requests now, in their order; returns how many there were."""
        with self._lock:
            landing, self._late = self._late, []
        for _, request in landing:
            self._apply(request)
        return len(landing)

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        # The body is copied, as a network would: a late request must not see what the caller does to it afterwards.
        return super().put(key, bytes(body), condition)

    def _begin(self, verb: str, key: str) -> tuple[Call, Fault | None]:
        with self._lock:
            call = Call(len(self.calls) + 1, verb, key)
            self.calls.append(call)
            due = [request for number, request in self._late if number and number <= call.number]
            self._late = [(number, request) for number, request in self._late if not number or number > call.number]
            fault = self._choose(call)
            if fault is not None:
                self.struck.append((call, fault))
        for request in due:
            self._apply(request)
        return call, fault

    def _apply(self, request: Callable[[], object]) -> None:
        with suppress(ChromalithError):
            request()
