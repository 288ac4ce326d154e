"""Writes to the second side, which may hang without anybody waiting for them: a bounded pool of threads, and a bound on what hangs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout

from chromalith.clock import Clock
from chromalith.errors import Unavailable
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.state import Timing
from chromalith.threads import NewExecutor

AT_ONCE = 32
"""Writes to the second side at once in one process; more wait for a thread, and their callers no longer than for a slow side."""
LATE_MAX = 8
"""While so many hang, no further one is begun: what the side misses is reconciled, and callers do not wait for it."""

Failure = BaseException | None
Act = Callable[[], Failure]
"""Makes one write; returns the error it ended with. Raises nothing."""


class Seconds:
    """Runs them. Safe to share between threads; a forked child begins with none.

    Args:
        clock: monotonic time.
        executor: where the threads come from. One that hangs must not keep the process from ending: what it was to write is noted.
    """

    def __init__(self, clock: Clock, executor: NewExecutor = DaemonExecutor) -> None:
        self._clock = clock
        self._executor = executor
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pool: Executor | None = None
        self._under_way: dict[Future[Failure], float] = {}

    def begin(self, act: Act, timing: Timing, skip: Callable[[Exception], Failure]) -> Future[Failure]:
        """Begin a write. ``skip`` is called instead, with the reason, while too many hang."""
        if os.getpid() != self._process:
            self._begin()  # the lock and the threads are the parent's
        with self._lock:
            now_s = self._clock.monotonic_s()
            ages = [now_s - began_s for began_s in self._under_way.values()]
            hanging = sum(timing.second_write_s < age_s <= timing.abandoned_s for age_s in ages)
            future = None if hanging >= LATE_MAX else self._submit(act, now_s)
        if future is None:
            done: Future[Failure] = Future()
            reason = Unavailable(f"the second side hangs, and is not written for a while calls={hanging}")
            done.set_result(skip(reason) if hanging >= LATE_MAX else act())
            return done
        future.add_done_callback(self._ended)
        return future

    def _submit(self, act: Act, now_s: float) -> Future[Failure] | None:
        """``None``: closed meanwhile, or the interpreter ends and makes no threads. Then the caller's own has to do."""
        try:
            if self._pool is None:
                self._pool = self._executor(AT_ONCE, "chromalith-second")
            future = self._pool.submit(act)
        except RuntimeError:
            return None
        self._under_way[future] = now_s
        return future

    def _ended(self, future: Future[Failure]) -> None:
        with self._lock:
            self._under_way.pop(future, None)

    @staticmethod
    def wait(future: Future[Failure], timeout_s: float) -> tuple[bool, Failure]:
        """Whether it ended, and the error it ended with."""
        try:
            return True, future.result(timeout_s)
        except FutureTimeout:
            return False, None

    def stop(self, timeout_s: float) -> None:
        """Wait for those under way, for so long at most, and let the threads go."""
        with self._lock:
            pool, self._pool = self._pool, None
            waiting = list(self._under_way)
        until_s = self._clock.monotonic_s() + timeout_s
        for future in waiting:
            self.wait(future, max(0.0, until_s - self._clock.monotonic_s()))
        if pool is not None:
            pool.shutdown(wait=False)
