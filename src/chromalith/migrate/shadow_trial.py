"""One shadow read in a worker: ask the other side, compare, ask again where they differ, keep what still does.

Knows nothing of queues; a call may hang here for ever. Which calls are under way is written down, so that others can
see that one is over its limit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from chromalith.clock import Clock
from chromalith.migrate.comparators import Comparison, Tolerances, compare
from chromalith.migrate.mismatches import Cleaner, Mismatches, Record, describe, hider
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_count import Counting


@dataclass(slots=True, eq=False)
class _Call:
    """A call to a side that is under way."""

    read: ShadowRead
    role: Role
    began_s: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    answer: Any
    took_s: float


class _Counted(Exception):
    """The read has ended, and was counted."""


class Trials:
    """Tries reads on the other side. Safe to share between threads.

    Args:
        clock: of latencies.
        counting: where results go.
        mismatches, clean, client: where mismatches go, what is done to each before, and who found it.
        tolerances: of the comparison.
        time_limit_s: of one call.
    """

    def __init__(
        self,
        clock: Clock,
        counting: Counting,
        mismatches: Mismatches,
        clean: Cleaner,
        client: str,
        tolerances: Tolerances,
        time_limit_s: float,
    ) -> None:
        self._clock = clock
        self._counting = counting
        self._mismatches = mismatches
        self._clean = clean
        self._client = client
        self._tolerances = tolerances
        self._time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._calls: set[_Call] = set()

    def first(self, read: ShadowRead) -> bool:
        """Ask the other side and compare. Returns whether the read has ended; else it differs, and is to be looked at again."""
        with suppress(_Counted):
            asked = self._ask(read, read.side.other)
            self._counting.pair(read.verb, {read.side: read.took_s, read.side.other: asked.took_s})
            if not self._compare(read, read.answer, asked.answer).agrees:
                return False
            self._counting.add(read, "matches")
        return True

    def second(self, read: ShadowRead) -> None:
        """Ask both again, the side that answered twice: whatever is written meanwhile shows in its two answers, or is lag.

        A query is asked with its distances now: without them, which of equally near records was found can't be told from a miss."""
        if read.verb == "query" and "distances" not in (include := list(read.arguments.get("include") or ())):
            read = replace(read, arguments={**read.arguments, "include": [*include, "distances"]})
        with suppress(_Counted):
            before = self._ask(read, read.side)
            other = self._ask(read, read.side.other)
            found = self._compare(read, before.answer, other.answer)
            if found.agrees:
                self._counting.add(read, "lag")
                return
            after = self._ask(read, read.side)
            still = self._compare(read, after.answer, other.answer)
            if still.agrees or not self._compare(read, before.answer, after.answer).agrees:
                self._counting.add(read, "lag")
                return
            if not read.counts():
                self._counting.add(read, "dropped")
                return
            self._counting.add(read, "mismatches")
            answers = {read.side: after.answer, read.side.other: other.answer}
            took_s = {read.side: after.took_s, read.side.other: other.took_s}
            self._counting.add(read, "stored" if self._store(read, answers, took_s, still) else "not_stored")

    def look_for_overdue(self) -> None:
        """Count the calls that are over their limit and have not ended."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            late = [each for each in self._calls if not each.overdue and now_s - each.began_s > self._time_limit_s]
            for call in late:
                call.overdue = True
        for call in late:
            self._too_long(call)

    def _compare(self, read: ShadowRead, answered: Any, other: Any) -> Comparison:
        return compare(read.verb, read.arguments, answered, other, self._tolerances, read.space)

    def _ask(self, read: ShadowRead, role: Role) -> _Asked:
        """Call a side. Raises ``_Counted`` if it raised or took too long."""
        call = _Call(read, role, self._clock.monotonic_s())
        with self._lock:
            self._calls.add(call)
        error, answer = None, None
        try:
            answer = read.repeat(role, read.arguments)
        except BaseException as raised:  # a side may raise what it likes; nobody waits in this thread for it
            error = raised
        took_s = self._clock.monotonic_s() - call.began_s
        with self._lock:
            self._calls.discard(call)
            counted = call.overdue
            call.overdue = True
        if counted:
            raise _Counted
        if took_s > self._time_limit_s:
            self._too_long(call)
            raise _Counted
        if error is None:
            return _Asked(answer, took_s)
        if role is read.side:
            self._counting.add(read, "dropped")
        else:
            self._counting.failed(read, error)
        raise _Counted

    def _too_long(self, call: _Call) -> None:
        own = call.role is call.read.side  # the caller's own side: no fault of the other
        self._counting.add(call.read, "dropped" if own else "timeouts")

    def _store(
        self, read: ShadowRead, answers: Mapping[Role, Any], took_s: Mapping[Role, float], found: Comparison
    ) -> bool:
        if not self._mismatches.has_room(read.verb, read.collection):
            return False
        record = self._described(read, answers, took_s, found)
        known = {name: record[name] for name in ("format", "verb", "collection")}
        try:
            cleaned = self._clean(record)
        except Exception as error:  # the application's own: what it would have hidden is not known, so all is
            record = self._described(read, answers, took_s, found)
            cleaned = hider()(record) | {"cleaner_failed": type(error).__name__}
        if not isinstance(cleaned, dict):
            return False
        with suppress(Exception):  # the store is away: the count tells that there is something to look for
            return self._mismatches.store({**cleaned, **known})
        return False

    def _described(
        self, read: ShadowRead, answers: Mapping[Role, Any], took_s: Mapping[Role, float], found: Comparison
    ) -> Record:
        at_us, since = self._clock.now_us(), self._counting.since
        return describe(read, answers, took_s, found, at_us=at_us, client=self._client, since=since)
