"""How a process of the application follows the migration's state: never far behind, and without a request for each call.

1. While it is used, the state is looked at about every third of ``timing.state_age_max_s``, in the background: one conditional request,
   begun by whoever calls next. A process that does nothing asks nothing.
2. No write begins on a state whose reading began longer than ``state_age_max_s`` ago: then it is read in the caller's way, by one caller
   for all that wait. If it can't be read, nothing is written (must: else a client writes to what was the authority before a change).
3. A write waits while writes are frozen. A freeze that has stood for longer than ``freeze_limit_s``, as this process has seen it or by the
   store's dates, was left behind, and is taken back by compare-and-set; so a tool that comes back later finds it gone, and must not change
   the authority any more. (Taken back too early, it costs that tool another try, and nothing else.)
4. Reads wait for no freeze, and go on for :data:`READ_AGE_MAX_S` on the last state known while its store can't be read.

No state at all is a migration that was not started: phase direct. But one that was there and live, and is gone, is a mistake: refused.
"""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chromalith.clock import Clock
from chromalith.coord.store_date import date_by
from chromalith.errors import ChromalithError, Corrupt, Unavailable
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.state import Freeze, SideName, State
from chromalith.migrate.states import Seen, States, change_of
from chromalith.threads import NewExecutor

READ_AGE_MAX_S = 300.0
"""How long reads go on while the state can't be read: an outage of its store is no outage of reads. After a change of the reading side in
that time such a process reads what no longer gets every write; it can't write meanwhile, and its presence shows the old epoch."""
POLL_S = 0.25
"""Between two looks at a freeze."""
DATES_US = 1_000_000
"""The resolution of a remote store's dates."""
SLOW_MAX = 5
"""After so many readings, each slower than a state may be old, a write gives up."""
NOT_STARTED_AGE_MAX_S = 1.0
"""The age limit while there is no state that says one: the shortest that a migration may choose (its ``propagation_s`` is twice that)."""

_NO_SIDE = SideName(SideKind.CLIENT, "", "", "")


@dataclass(frozen=True, slots=True)
class View:
    """A state, and when its reading began (monotonic seconds)."""

    state: State
    at_s: float

    def covers(self, collection: str) -> bool:
        """Whether this collection is one of those that are moved; what is not stays at the source, whatever the phase."""
        return self.state.collections is None or collection in self.state.collections

    def is_dual(self, collection: str) -> bool:
        """Whether both sides get every write to it."""
        return self.state.is_dual and self.covers(collection)

    def main(self, collection: str) -> Role:
        """The side that is asked about the collection itself."""
        return self.state.main if self.covers(collection) else Role.SOURCE

    @property
    def age_max_s(self) -> float:
        """No write begins on it when its reading began longer ago."""
        return self.state.timing.state_age_max_s if self.state.epoch else NOT_STARTED_AGE_MAX_S

    @property
    def routing(self) -> tuple[Any, ...]:
        """All that decides where a write goes: two views with the same routing send it the same way."""
        return (self.state.phase, self.state.percent.writes, self.state.freeze, self.state.collections)


class Follower:
    """One process's view of one migration. Safe to share between threads.

    Args:
        states: the migration's.
        who: for the audit log, where a freeze is taken back.
        executor: where the one thread comes from that looks in the background; ``None``: nobody does.
    """

    def __init__(
        self, states: States, *, who: str | None = None, executor: NewExecutor | None = ThreadPoolExecutor
    ) -> None:
        self._states = states
        self._who = who
        self._executor = executor
        self._clock: Clock = states.place.clock
        self._seen: Seen | None = None
        self.failures = 0
        """How often the state could not be read."""
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._failed: tuple[float, ChromalithError] | None = None
        self._frozen: dict[str, float] = {}
        self._refreshing = False
        self._pool: Executor | None = None

    @property
    def latest(self) -> State | None:
        """The state as last read; ``None``: the migration was not started, or nothing was read yet. No request."""
        return None if self._seen is None else self._seen.state

    def view(self) -> View:
        """A state to read on. Raises ``Unavailable``, ``Corrupt`` if none can be had."""
        now_s = self._now()
        seen = self._seen
        if seen is not None and now_s - seen.at_s <= self._age_max_s(seen):
            self._refresh(seen, now_s)
            return _view(seen, self._states.place.name)
        try:
            return self._look(now_s)
        except Unavailable:
            if seen is None or now_s - seen.at_s > READ_AGE_MAX_S:
                raise
            return _view(seen, self._states.place.name)

    def writable(self) -> View:
        """A state to write on: fresh, and not frozen. Waits for the end of a freeze.

        Raises ``Unavailable``, ``Unknown``, ``Corrupt``: then nothing may be written."""
        now_s = self._now()
        seen = self._seen
        if seen is None or now_s - seen.at_s > self._age_max_s(seen):
            view = self._look(now_s)
        else:
            self._refresh(seen, now_s)
            view = _view(seen, self._states.place.name)
        slow = 0
        while True:
            since_s = self._clock.monotonic_s() + POLL_S / 2  # those who wait share a reading
            freeze = view.state.freeze
            if freeze is not None:
                if self._left_behind(freeze, view.state):
                    self._take_back(freeze)
                    since_s = math.inf
                else:
                    self._clock.sleep(POLL_S)
            elif self._clock.monotonic_s() - view.at_s <= view.age_max_s:
                return view
            elif (slow := slow + 1) == SLOW_MAX:
                raise Unavailable(
                    f"the migration's state takes longer to read than it may be old age_max_s={view.age_max_s:g}",
                    hint="nothing was written; try again",
                )
            view = self._look(since_s)

    def holds(self, view: View) -> bool:
        """Whether a write may still begin on ``view``: it is not too old, and nothing newer is known that would send it elsewhere."""
        seen = self._seen
        if seen is None or self._clock.monotonic_s() - view.at_s > view.age_max_s:
            return False
        return _view(seen, view.state.name).routing == view.routing

    def confirm(self, view: View) -> View | None:
        """A view on which a write may begin that was prepared on ``view``, or ``None``: it would go elsewhere now, or wait.

        What took long to prepare is not thrown away: the state is read again, once. Call it when the write's note stands: who
        changes the authority after that reading looks for notes after it. Raises ``Unavailable``, ``Corrupt``."""
        if self.holds(view):
            return view
        now = self.look()
        return now if now.routing == view.routing and self.holds(now) else None

    def look(self) -> View:
        """The state, read now. Raises ``Unavailable``, ``Corrupt``."""
        self._now()
        return self._look(math.inf)

    def stop(self) -> None:
        """Let the thread go. It is made again if it is needed."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def _now(self) -> float:
        if os.getpid() != self._process:
            self._begin()  # the locks and the thread are the parent's
        return self._clock.monotonic_s()

    @staticmethod
    def _age_max_s(seen: Seen) -> float:
        return NOT_STARTED_AGE_MAX_S if seen.state is None else seen.state.timing.state_age_max_s

    def _look(self, since_s: float) -> View:
        """A state whose reading began at ``since_s`` or later: read now, by one caller for all that wait. So is a failure."""
        with self._reading:
            seen, failed = self._seen, self._failed
            if seen is not None and seen.at_s >= since_s:
                return _view(seen, self._states.place.name)
            if failed is not None and failed[0] >= since_s:
                raise Unavailable(failed[1].message, hint=failed[1].hint) from failed[1]
            began_s = self._clock.monotonic_s()
            try:
                found = self._states.look(seen)
                self._check_gone(seen, found)
            except ChromalithError as error:
                self.failures += 1
                self._failed = (began_s, error)
                raise
            self._seen, self._failed = found, None
            return _view(found, self._states.place.name)

    def _check_gone(self, before: Seen | None, found: Seen) -> None:
        if found.state is not None or before is None or before.state is None:
            return
        if before.state.phase not in (Phase.DIRECT, Phase.CANCELLED):
            raise Corrupt(
                f"the state of a live migration is gone key={self._states.place.state_key} phase={before.state.phase}",
                hint="restore the object from the bucket's versions: writing to the source now could lose what the target has; or, if it"
                " was cancelled and forgotten, start this process anew",
                key=self._states.place.state_key,
            )

    def _refresh(self, seen: Seen, now_s: float) -> None:
        """Look in the background, if it is time."""
        if self._executor is None or now_s - seen.at_s < self._age_max_s(seen) / 3:
            return
        with self._lock:
            if self._refreshing:
                return
            self._refreshing = True
            if self._pool is None:
                self._pool = self._executor(1, "chromalith-follower")
            pool = self._pool
        try:
            pool.submit(self._refresh_now, now_s)
        except RuntimeError:  # closed, or the interpreter ends: whoever needs it reads by himself
            self._refreshing = False

    def _refresh_now(self, since_s: float) -> None:
        try:
            self._look(since_s)
        except ChromalithError:
            pass  # counted; the next caller whose state is too old is told
        finally:
            self._refreshing = False

    def _left_behind(self, freeze: Freeze, state: State) -> bool:
        now_s = self._clock.monotonic_s()
        with self._lock:
            first = freeze.id not in self._frozen
            since_s = self._frozen.setdefault(freeze.id, now_s)
        if first:
            since_s = now_s - self._stood_s(freeze, state.timing.freeze_limit_s)
            with self._lock:
                self._frozen[freeze.id] = since_s
        return now_s - since_s > state.timing.freeze_limit_s

    def _stood_s(self, freeze: Freeze, limit_s: float) -> float:
        """How long it has stood already, at least, by the store's dates. Processes that live shorter than a freeze may last (a function, a
        worker with a time limit) would else all begin to count anew, and nobody would ever take it back."""
        seen, place = self._seen, self._states.place
        if seen is None or seen.state is None or seen.state.freeze != freeze:
            return 0.0
        # Another machine's clock decides nothing but whether it is worth asking.
        if self._clock.now_us() - freeze.at_us <= limit_s * 1_000_000:
            return 0.0
        try:
            date_us = date_by(place.store, place.date_key, place.clock)
        except ChromalithError:
            return 0.0
        return max(0, date_us - seen.modified_us - DATES_US) / 1_000_000

    def _take_back(self, freeze: Freeze) -> None:
        def decide(now: State) -> State | None:
            if now.freeze is None or now.freeze.id != freeze.id:
                return None
            note = f"freeze {freeze.id} taken back: a client waited longer than its limit; {freeze.by} left it behind"
            here = str(now.phase)
            return now.changed(change_of(self._clock, freeze.verb, here, here, note, self._who), freeze=None)

        self._states.change(decide)


def _view(seen: Seen, name: str) -> View:
    return View(State(name, _NO_SIDE, _NO_SIDE, epoch=0) if seen.state is None else seen.state, seen.at_s)
