"""Closings on their way to the journal, in the background and in batches: they cost the call that ended nothing.

The first closing waits for :data:`LINGER_S`, so that those of the next calls share its object; a ``flush`` waits for nobody. A batch that
can't be written is tried again with the next; what was never written is found abandoned by the journal's readers, so a bound on what
waits (:data:`CLOSINGS_MAX`) loses nothing but time.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor

from chromalith.errors import ChromalithError
from chromalith.migrate.entries import Closing, Entry, encode_closings, failures
from chromalith.migrate.places import Place
from chromalith.threads import NewExecutor

LINGER_S = 0.25
"""Four objects a second and process at most, whatever it writes."""
RETRY_S = 1.0
TRIES = 10
"""Then they wait for the next closing, or a flush."""
BATCH = 2_000
"""Closings of one object; about 300 kB."""
CLOSINGS_MAX = 100_000


class Closer:
    """Writes closings in the background. Safe to share between threads.

    Args:
        place: of the migration.
        executor: where its one thread comes from; it is made for the first closing.
    """

    def __init__(self, place: Place, executor: NewExecutor, *, linger_s: float = LINGER_S) -> None:
        self._place = place
        self._executor = executor
        self._linger_s = linger_s
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._pool: Executor | None = None
        self._waiting: list[tuple[Entry, Closing]] = []
        self._under_way = 0
        self._working = False
        self.dropped = 0
        """Closings that were given up: their entries will be found abandoned."""

    def add(self, entry: Entry, closing: Closing) -> None:
        """Take a closing. Returns at once, raises nothing."""
        with self._changed:
            if len(self._waiting) >= CLOSINGS_MAX:
                self.dropped += 1
                return
            self._waiting.append((entry, closing))
            begin, self._working = not self._working, True
        if begin:
            self._submit()

    def flush(self, timeout_s: float) -> int:
        """Wait until all were written, for so long at most. Returns how many were not."""
        self._hurry.set()
        try:
            with self._changed:  # its thread may have given up: one more try
                begin = not self._working and bool(self._waiting)
                self._working = self._working or begin
            if begin and not self._submit():
                self._write()
            with self._changed:
                self._changed.wait_for(lambda: not self._working, timeout_s)
                return len(self._waiting) + self._under_way
        finally:
            self._hurry.clear()

    def stop(self, timeout_s: float) -> None:
        """Flush, and end the thread. One that hangs in a request is not waited for: it ends with that."""
        left = self.flush(timeout_s)
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            pool, self._pool = self._pool, None
        self._hurry.set()  # whoever lingers ends at once
        if pool is not None:
            pool.shutdown(wait=left == 0)
        if left == 0:  # else who hangs is to give up after this request
            self._hurry.clear()

    def _submit(self) -> bool:
        """Begin to write in the background; ``False``: the interpreter is ending, and no thread is made any more."""
        try:
            with self._changed:
                if self._pool is None:
                    self._pool = self._executor(1, "chromalith-closings")
                pool = self._pool
            pool.submit(self._run)
        except RuntimeError:  # a flush writes them in its caller's
            with self._changed:
                self._working = False
            return False
        return True

    def _run(self) -> None:
        """Write until nothing waits, or too many tries failed."""
        failed = 0
        try:
            while True:
                self._hurry.wait(RETRY_S if failed else self._linger_s)
                failed = 0 if self._write() else failed + 1
                with self._changed:  # in one with the look: a closing that comes now finds either this thread or none
                    if not self._waiting or failed == TRIES or (failed and self._hurry.is_set()):
                        self._working = False
                        self._changed.notify_all()
                        return
        except BaseException:  # one surprise must not keep every later closing waiting
            with self._changed:
                self._working = False
                self._changed.notify_all()
            raise

    def _write(self) -> bool:
        """Write one batch; whether it stands."""
        with self._changed:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._under_way += len(batch)
        written = False
        try:
            if batch:
                self._put(batch)
            written = True
        except ChromalithError:
            pass  # tried again with the next: a second object with the same closings says the same
        finally:
            with self._changed:
                self._under_way -= len(batch)
                if not written:
                    self._waiting = batch + self._waiting
                self._changed.notify_all()
        return written

    def _put(self, batch: list[tuple[Entry, Closing]]) -> None:
        closings: dict[str, dict[int, Closing]] = {}
        for entry, closing in batch:
            closings.setdefault(entry.key, {})[entry.index] = closing
        clock = self._place.clock
        failed = failures(closing for _, closing in batch)
        name = f"{clock.now_us():016d}-{clock.random_hex(12)}-{len(batch)}-{failed}.json"
        self._place.store.put(self._place.prefix("closed") + name, encode_closings(closings))
