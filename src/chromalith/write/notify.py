"""Hints on their way to a queue, beside the writes that they tell of: best effort, and never in a write's way.

A :class:`Notifier` is an observer of acknowledged writes. What it hears it puts into a bounded buffer, and one thread sends what is there,
up to ten at a time: so a lone write is told at once, and under load ten share a request.

1. A write costs an append. A full buffer, a slow queue and a failing one cost it nothing more: hints are dropped then.
2. Each hint is tried once. Each that was not sent is counted: ``HintsFailed`` goes to the notifier's own observer.
3. ``flush`` waits a while for what is under way: a Lambda freezes its threads the moment it answers.
4. A process that ends goes on sending for :data:`EXIT_S`; what is left then is counted and dropped.
5. In a forked child nothing is done at all: its lock may be held by a thread that is not there.

Whatever is lost here, the deltas are durable, and the next scheduled compaction finds them.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.model.hint import Hint
from chromalith.model.ids import DeltaId
from chromalith.observe.events import DeltaWritten, Event, HintsFailed
from chromalith.observe.hooks import Observer, silent, together
from chromalith.threads import NewExecutor

Sender = Callable[[Sequence[Hint]], int]
"""Sends up to :data:`BATCH` hints, and returns how many of them were not taken; raises if none was, or if nobody knows."""

BATCH = 10
"""What SQS takes in one request."""
HINTS_MAX = 10_000
"""Waiting in one process; about 5 MB. At 100 writes a second, a queue that does not answer for a minute loses nothing."""
EXIT_S = 2.0
"""How long a process that ends goes on sending, beside the request that is under way (whose time-outs are its sender's)."""
CLOSE_S = 2.0
_POLL_S = 0.002

_log = logging.getLogger(__name__)


class Notifier:
    """Sends a hint for each acknowledged write. Safe to share between threads; does nothing in a forked process.

    Args:
        send: takes the hints to the queue.
        observe: told of the hints that were not sent.
        executor: where its one thread comes from.
        clock: monotonic time.
        hints_max: how many may wait.
    """

    def __init__(
        self,
        send: Sender,
        *,
        observe: Observer = silent,
        executor: NewExecutor = ThreadPoolExecutor,
        clock: Clock = SYSTEM_CLOCK,
        hints_max: int = HINTS_MAX,
    ) -> None:
        self._send = send
        self._observe = together(observe)
        self._clock = clock
        self._hints_max = hints_max
        self._process = os.getpid()
        self._pool = executor(1, "chromalith-hints")
        self._lock = threading.Lock()
        self._waiting: deque[Hint] = deque()
        self._under_way: set[DeltaId] = set()  # waiting, or in the request that is being made
        self._taken: OrderedDict[DeltaId, None] = OrderedDict()
        self._working = False
        self._future: Future[None] | None = None
        self._closed = False
        self._stalled = False
        self._failing = False

    def __call__(self, event: Event) -> None:
        """Take a hint of an acknowledged write; other events are not for it. Returns at once, and raises nothing."""
        if not isinstance(event, DeltaWritten) or os.getpid() != self._process:
            return
        with self._lock:
            fits = not self._closed and len(self._waiting) < self._hints_max
            if fits:
                self._waiting.append(Hint(event.collection, event.delta, event.rows, event.bytes))
                self._under_way.add(event.delta)
            begin = fits and not self._working
            self._working = self._working or begin
        if not fits:
            self._lost(1, "the notifier is closed" if self._closed else f"{self._hints_max} hints wait already")
        elif begin and not self._submit():
            self._drop("the process ends")

    def flush(self, timeout_s: float) -> int:
        """Wait until everything was tried, for so many seconds at most. Returns how many hints were not: they are still under way."""
        return 0 if self._forked else self._wait(lambda: len(self._under_way), timeout_s)

    def handed_over(self, delta: DeltaId, timeout_s: float) -> bool:
        """Whether the queue is known to have taken the hint of a delta that was written a moment ago; waits until it was tried.

        After a wait that was in vain nobody waits again until something was sent: a queue that hangs must not slow every write down.
        """
        if self._forked:
            return False
        left = self._wait(lambda: int(delta in self._under_way), 0.0 if self._stalled else timeout_s)
        if left:
            self._stalled = True
        with self._lock:
            return delta in self._taken

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush for so long; then count what is left, and drop it. Hints that come later are counted too."""
        if self._forked:
            return
        self.flush(0.0 if self._closed else timeout_s)
        self._closed = True
        self._drop("closed before they were sent")
        self._pool.shutdown(wait=False)

    @property
    def _forked(self) -> bool:
        return os.getpid() != self._process

    def _wait(self, left: Callable[[], int], timeout_s: float) -> int:
        stop_s = self._clock.monotonic_s() + timeout_s
        while True:
            with self._lock:
                count, future = left(), self._future
            rest_s = stop_s - self._clock.monotonic_s()
            if count == 0 or rest_s <= 0:
                return count
            if future is None or future.done():  # between two jobs
                self._clock.sleep(min(rest_s, _POLL_S))
            else:
                with suppress(TimeoutError, CancelledError):
                    future.exception(rest_s)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _submit(self) -> bool:
        """Give the next batch a job of its own, if anything waits; ``False`` if there can be none."""
        with self._lock:
            self._working = bool(self._waiting)
            if not self._working:
                return True
        try:
            self._future = self._pool.submit(self._job)
        except RuntimeError:
            return False
        return True

    def _job(self) -> None:
        """One batch, then a job for the next. A pool takes none any more once the interpreter is ending: that is how it is noticed here."""
        try:
            self._send_batch()
            if self._submit():
                return
            stop_s = self._clock.monotonic_s() + EXIT_S
            while self._clock.monotonic_s() < stop_s and self._send_batch():
                pass
            self._drop("the process ended before they were sent")
        except BaseException:
            self._working = False  # without this, one surprise would keep every later hint waiting
            raise

    def _send_batch(self) -> bool:
        """Try up to ten. Returns whether there were any."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        if not batch:
            return False
        failed, reason = len(batch), "the queue did not take them"
        try:
            failed = min(max(0, self._send(batch)), failed)
        except Exception as error:
            reason = str(error) or type(error).__name__
        if failed:  # counted before a flush can end: what is told after it may be told too late
            self._lost(failed, reason)
        with self._lock:
            self._under_way.difference_update(hint.delta for hint in batch)
            if failed == 0:  # of a batch of which some failed it is not known which
                self._taken.update((hint.delta, None) for hint in batch)
                while len(self._taken) > self._hints_max:
                    self._taken.popitem(last=False)
                self._failing = self._stalled = False
        return True

    def _drop(self, reason: str) -> None:
        with self._lock:
            dropped = list(self._waiting)
            self._waiting.clear()
            self._working = False
        if dropped:
            self._lost(len(dropped), reason)
        with self._lock:
            self._under_way.difference_update(hint.delta for hint in dropped)

    def _lost(self, count: int, reason: str) -> None:
        first, self._failing = not self._failing, True
        if first:  # once, not for each write for as long as the queue is away
            _log.warning("hints were not sent; the deltas are durable, and a scheduled compaction finds them: %s", reason)
        self._observe(HintsFailed(count, reason))
