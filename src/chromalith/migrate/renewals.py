"""Calls that hang longer than an entry of the journal lives: their ids stay noted for as long as they may land.

An entry that nobody closed is taken for abandoned after ``timing.abandoned_s``. For a process that died that is right. But a call of
one that lives may hang for much longer (stock clients have no time limit, and a broken network repeats a request for a quarter of an
hour); if its entry were removed meanwhile, and the authority changed, then what lands late would overwrite what counts by then. So
while such a call is under way, its ids are noted anew at half that age, and no change of authority begins.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from typing import Any

from chromalith.errors import ChromalithError
from chromalith.migrate.entries import Entry, Second
from chromalith.migrate.journal import Journal
from chromalith.threads import NewExecutor

LOOK_S = 1.0
"""Between two looks at the calls that hang."""
RENEWED_MAX_S = 3600.0
"""So long the note of a call that hangs is renewed: no network repeats a request for longer, and `switch` must not wait for ever."""

_log = logging.getLogger(__name__)


class Kept:
    """What one call noted in the journal, whichever entry that is by now. Safe to share between threads.

    Args:
        journal: of the migration, with its timing.
        entry: that was opened for the call.
        opened_s: a monotonic time before that.
    """

    def __init__(self, journal: Journal, entry: Entry, opened_s: float) -> None:
        self._journal = journal
        self._clock = journal.place.clock
        self._lock = threading.Lock()
        self._opened = self._renewed = (opened_s, self._clock.now_us())
        self._closed = False
        self.entry = entry

    def is_old(self) -> bool:
        """Whether the first half of the first entry's life is over: nothing may begin under it any more."""
        return self._is_old(self._opened)

    def close(self, ending: Second, why: str | BaseException | None = None) -> None:
        """The call has ended; see :meth:`Journal.close`. Once; raises nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._journal.close(self.entry, ending, why)
        if ending != "not_written" and self._is_old(self._renewed):
            try:  # it may have been called abandoned, and removed, before the call ended
                self._journal.close(self._journal.open_again(self.entry), ending, why)
            except ChromalithError as failed:
                _log.warning("a call that took too long could not be noted again key=%s: %s", self.entry.key, failed)

    def settle(self) -> None:
        """See :meth:`Journal.settle`."""
        with self._lock:
            self._closed = True
        self._journal.settle(self.entry)

    def renew(self) -> None:
        """Note it anew; the former entry ends. Raises what the journal raises."""
        renewed = (self._clock.monotonic_s(), self._clock.now_us())
        entry = self._journal.open_again(self.entry)
        with self._lock:
            if not self._closed:
                self.entry, self._renewed, entry = entry, renewed, self.entry
        self._journal.close(entry, "failed", "the call took long, and was noted again")

    def renew_in_time(self) -> bool:
        """Renew, if it is time; whether to ask again. Raises nothing."""
        if self._clock.monotonic_s() - self._opened[0] > RENEWED_MAX_S:
            return False
        if self._is_old(self._renewed):
            with suppress(ChromalithError):  # asked again soon
                self.renew()
        return not self._closed

    def _is_old(self, since: tuple[float, int]) -> bool:
        """By either clock: in a machine that was suspended the steady one may have stood still, and too early costs a request."""
        since_s, since_us = since
        lasted_s = max(self._clock.monotonic_s() - since_s, (self._clock.now_us() - since_us) / 1_000_000)
        return lasted_s > self._journal.timing.abandoned_s / 2


class Renewals:
    """Keeps the notes of hanging calls young. Safe to share between threads; a forked child begins with none.

    Args:
        executor: where its one thread comes from; it is made for the first call that hangs.
        look_s: between two looks.
    """

    def __init__(self, executor: NewExecutor, *, look_s: float = LOOK_S) -> None:
        self._executor = executor
        self._look_s = look_s
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._hanging: dict[Future[Any], Callable[[], bool]] = {}
        self._working = False

    def keep(self, call: Future[Any], kept: Kept) -> None:
        """Look after what ``call`` noted until it has ended."""
        if os.getpid() != self._process:
            self._begin()  # the lock, the calls and their thread are the parent's
        with self._lock:
            self._hanging[call] = kept.renew_in_time
            begin, self._working = not self._working, True
        if begin:
            try:
                pool = self._executor(1, "chromalith-renewals")
                pool.submit(self._run)
                pool.shutdown(wait=False)  # its thread ends with the last of these calls
            except RuntimeError:  # the interpreter ends, and the calls with it
                with self._lock:
                    self._working = False

    @contextmanager
    def while_it_lasts(self, kept: Kept) -> Iterator[None]:
        """Look after what the block noted."""
        call: Future[None] = Future()
        self.keep(call, kept)
        try:
            yield
        finally:
            call.set_result(None)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._hanging = hanging = {call: renew for call, renew in self._hanging.items() if not call.done()}
                if not hanging:
                    self._working = False
                    return
            for call, renew in list(hanging.items()):
                if not call.done() and not renew():
                    with self._lock:
                        self._hanging.pop(call, None)
            wait_for(list(hanging), self._look_s)
