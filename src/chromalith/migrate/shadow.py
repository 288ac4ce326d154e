"""Shadow reads: a read that one side answered is made again on the other, behind the caller's back, and the two answers
are compared.

The idea, and the rule that a candidate must not be able to hurt, are Scientist's. One read:

1. The client hands over what it answered (:meth:`Shadow.offer`). Its own part of it is copied and put into a bounded
   queue; if the queue is full, the read is dropped. That is all that the caller pays: no request, no waiting, no
   exception.
2. A worker asks the other side. What raises is an error, what takes longer than ``time_limit_s`` is a timeout; both are
   counted.
3. The answers are compared (:mod:`chromalith.migrate.comparators`).
4. If they differ, both sides are asked again ``recheck_s`` later: the side that answered, the other one, and the first
   again. If the other agrees with either answer of the first, or if these two differ, it was lag: a write was on its
   way. Else it is a mismatch, and is stored (:mod:`chromalith.migrate.mismatches`).

Invariants:

- Every read that was offered is counted once: as a match, lag, a mismatch, unchecked, an error, a timeout, dropped, or
  too large; or it waits.
- A call that hangs holds a worker, never the caller. If all workers hang, every read is dropped, and counted as such.
- Workers use at most ``cpu_share_max`` of one processor. Python runs one thread at a time: without this, a target that
  computes would slow the application down as if it were part of it.
- Nothing here keeps a process from ending. In a forked child nothing is done at all: its threads are not there.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from chromalith.clock import thread_cpu_s
from chromalith.errors import Invalid
from chromalith.migrate.comparators import DEFAULT, VERBS, Tolerances
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.mismatches import Cleaner, Mismatches, hider
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_copy import Copier, TooLarge
from chromalith.migrate.shadow_count import Counting
from chromalith.migrate.shadow_stats import ShadowStats
from chromalith.migrate.shadow_trial import Trials
from chromalith.threads import NewExecutor

CELLS_MAX = 250_000
"""Of one read: 2 MB of text, or 160 embeddings of 1,536 numbers that came as lists (8 MB)."""
QUEUED_CELLS_MAX = 2_000_000
"""Of all that wait: 16 MB of text, or 64 MB of numbers in lists."""
BURST_S = 0.05
"""Processor time that workers spend at once before they pause: some ten to fifty reads of a fast target."""
WAIT_MAX_S = 10.0
"""A read that waited longer is dropped: too much was written meanwhile, and asking twice for each costs the source."""


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """How much shadow reads may take, and what counts as equal.

    Attributes:
        tolerances: of the comparison.
        time_limit_s: for one call to a side.
        queue_max: reads that may wait, and as many that wait to be asked again.
        workers: calls at once.
        recheck_s: after a difference, how long until both sides are asked again.
        cpu_share_max: of one processor, 0 to 1, what all workers together may use; dropped is what does not fit.
    """

    tolerances: Tolerances = DEFAULT
    time_limit_s: float = 5.0
    queue_max: int = 64
    workers: int = 2
    recheck_s: float = 1.0
    cpu_share_max: float = 0.05

    def __post_init__(self) -> None:
        if self.workers < 1 or self.queue_max < 1 or self.time_limit_s <= 0 or not 0 < self.cpu_share_max <= 1:
            raise Invalid(
                f"not a setting of shadow reads workers={self.workers} queue_max={self.queue_max}"
                f" time_limit_s={self.time_limit_s} cpu_share_max={self.cpu_share_max}",
                hint="to have none, set the migration's shadow percentage to 0",
            )


@dataclass(slots=True, eq=False)
class _Job:
    """One read on its way. ``read`` is a copy: nothing of it is the caller's.

    Attributes:
        cells: what it takes in memory.
        offered_s, due_s: when it was offered, and when it may be worked on.
        again: whether the answers differed once.
    """

    read: ShadowRead
    cells: int
    offered_s: float
    due_s: float
    again: bool = False


class Shadow:
    """Compares reads in the background. Safe to share between threads.

    Args:
        place: the migration; mismatches are stored there, and its clock is used.
        client: the id of this process's presence, for the mismatches.
        settings: see :class:`ShadowSettings`.
        clean: called with each mismatch before it is stored, returns what is stored instead, or ``None`` for nothing. By default document
            texts, uris and metadata values are replaced by their type and length.
        keep_fields: what the default shows all the same: ``document``, ``uri``, ``metadata.<key>``.
        executor: where its threads come from. It must not keep a process from ending.
        cpu_s: the processor time of the calling thread.
    """

    def __init__(
        self,
        place: Place,
        *,
        client: str = "",
        settings: ShadowSettings | None = None,
        clean: Cleaner | None = None,
        keep_fields: Sequence[str] = (),
        executor: NewExecutor = DaemonExecutor,
        cpu_s: Callable[[], float] = thread_cpu_s,
    ) -> None:
        self._settings = settings or ShadowSettings()
        self._clock = place.clock
        self._cpu_s = cpu_s
        self._process = os.getpid()
        self._counting = Counting(place.clock)
        self._mismatches = Mismatches(place)
        self._trials = Trials(
            place.clock, self._counting, self._mismatches, clean or hider(keep_fields), client,
            self._settings.tolerances, self._settings.time_limit_s,
        )  # fmt: skip
        self._pool = executor(self._settings.workers, "chromalith-shadow")
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._again: deque[_Job] = deque()  # in the order in which they are due
        self._cells = 0
        self._taken = 0
        self._workers = 0
        self._idle = 0
        self._resume_s = 0.0
        self._saved_s, self._saved_at_s = BURST_S, place.clock.monotonic_s()
        self._closed = False
        _end_with(self, self._pool)

    # -- the caller's side ----------------------------------------------------------------------------------------------

    def offer(self, read: ShadowRead) -> None:
        """Take a read, or drop and count it. Costs some microseconds; never blocks, never raises."""
        if self._closed or os.getpid() != self._process:
            return
        with suppress(Exception):
            self._offer(read)

    def note(self, verb: str, side: Role, took_s: float) -> None:
        """A read was answered, shadowed or not: count its latency. Never raises."""
        if os.getpid() == self._process:
            with suppress(Exception):
                self._counting.read(verb, side, took_s)

    def begin(self, since: int) -> None:
        """Count from anew, if ``since`` is another than before. What is on its way then is counted as new."""
        if since != self._counting.since and os.getpid() == self._process:
            self._counting.begin(since)
            self._mismatches.begin()

    def stats(self) -> ShadowStats:
        """What was found so far. A call that hangs is counted as soon as it is over the limit."""
        if os.getpid() != self._process:  # whoever held a lock when it was forked is not here to give it back
            return ShadowStats()
        self._trials.look_for_overdue()
        return self._counting.stats()

    def seen(self) -> Mapping[str, Any]:
        """:meth:`stats` as JSON, for the presence of this process."""
        return self.stats().encode()

    def flush(self, timeout_s: float) -> int:
        """Wait until nothing is on its way, for so many seconds at most. Returns how many reads still are."""
        stop_s = self._clock.monotonic_s() + timeout_s
        with self._changed:
            while self._left() and (rest_s := stop_s - self._clock.monotonic_s()) > 0:
                self._changed.wait(min(rest_s, 0.05))
            return self._left()

    def close(self) -> None:
        """Let go; what waits is dropped and counted, what is under way goes on by itself. Calling it again is allowed."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closed = True
            left = [*self._waiting, *self._again]
            self._waiting.clear()
            self._again.clear()
            self._changed.notify_all()
        for job in left:
            self._counting.add(job.read, "dropped")
        self._pool.shutdown(wait=False)

    def _offer(self, read: ShadowRead) -> None:
        if read.verb not in VERBS:
            return  # nothing is known of its answers
        with self._changed:
            room = len(self._waiting) < self._settings.queue_max
            cells_max = min(CELLS_MAX, QUEUED_CELLS_MAX - self._cells)
        if not room:
            self._counting.add(read, "dropped")
            return
        copier = Copier(cells_max)
        try:
            copy = replace(read, arguments=copier.copy(read.arguments), answer=copier.copy(read.answer))
        except TooLarge:
            self._counting.add(read, "too_large" if cells_max == CELLS_MAX else "dropped")
            return
        now_s = self._clock.monotonic_s()
        if not self._put(_Job(copy, copier.cells, now_s, now_s)):
            self._counting.add(read, "dropped")

    def _put(self, job: _Job) -> bool:
        """Into its queue, and a worker for it: one that waits, or one more. ``False``: the queue is full, or nothing works any more."""
        with self._changed:
            queue = self._again if job.again else self._waiting
            if self._closed or len(queue) >= self._settings.queue_max:
                return False
            queue.append(job)
            self._cells += job.cells
            begin = self._idle < len(self._waiting) + len(self._again) and self._workers < self._settings.workers
            self._workers += begin
            self._changed.notify()
        if begin:
            try:
                self._pool.submit(self._work)
            except RuntimeError:  # the interpreter ends
                self.close()
        return True

    # -- in the threads -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """A worker: one read after the other, until nothing waits."""
        while (job := self._next()) is not None:
            cpu_s = self._cpu_s()
            try:
                self._try(job)
            except BaseException as error:  # a defect of ours; the next read is worth trying all the same
                self._counting.failed(job.read, error)
            used_s = self._cpu_s() - cpu_s
            with self._changed:
                self._pay(used_s)
                self._taken -= 1
                self._cells -= job.cells
                self._changed.notify_all()
            del job  # while this worker waits, nothing is kept alive

    def _try(self, job: _Job) -> None:
        if job.again:
            self._trials.second(job.read)
        elif not self._trials.first(job.read):
            due_s = self._clock.monotonic_s() + self._settings.recheck_s
            read = replace(job.read, answer=None)  # it will be asked for anew
            if not self._put(_Job(read, 0, job.offered_s, due_s, again=True)):
                self._counting.add(read, "dropped" if self._closed else "unchecked")

    def _next(self) -> _Job | None:
        """The next read, once it is due and the share of the processor allows it; ``None``: nothing waits, this worker ends."""
        with self._changed:
            while self._waiting or self._again:
                now_s = self._clock.monotonic_s()
                due_s = now_s if self._waiting else self._again[0].due_s
                wait_s = max(due_s, self._resume_s) - now_s
                if wait_s > 0:
                    self._idle += 1
                    self._changed.wait(wait_s)
                    self._idle -= 1
                    continue
                due_again = bool(self._again) and self._again[0].due_s <= now_s
                job = self._again.popleft() if due_again else self._waiting.popleft()
                if not job.again and now_s - job.offered_s > WAIT_MAX_S:
                    self._cells -= job.cells
                    self._counting.add(job.read, "dropped")
                    continue
                self._taken += 1
                return job
            self._workers -= 1
            self._changed.notify_all()
            return None

    def _pay(self, used_s: float) -> None:
        """Processor time is saved up at the allowed share, up to a burst, and spent without a pause: short pieces of work between
        the caller's own would each be in the way of one of its calls, and so of most of them."""
        now_s, share = self._clock.monotonic_s(), self._settings.cpu_share_max
        saved_s = self._saved_s + share * (now_s - self._saved_at_s)
        self._saved_s, self._saved_at_s = min(BURST_S, saved_s) - used_s, now_s
        if self._saved_s <= 0:
            self._resume_s = now_s + (BURST_S - self._saved_s) / share

    def _left(self) -> int:
        return len(self._waiting) + len(self._again) + self._taken


def _end_with(shadow: Shadow, pool: Executor) -> None:
    """Close it when the process ends, and let its threads go when nobody has it any more; neither keeps it alive."""
    reference = weakref.ref(shadow)

    def close() -> None:
        found = reference()
        if found is not None:
            found.close()

    atexit.register(close)
    weakref.finalize(shadow, pool.shutdown, wait=False).atexit = False
