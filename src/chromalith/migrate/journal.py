"""The journal: which ids may differ between the two sides. Durable before anything is written, removed only when they are equal.

The problem. A client writes to two databases that know nothing of each other, and it, or one of them, can fail between the two
writes. Nobody can see from the databases which ids are affected, and comparing all of them takes hours.

1. ``open`` makes a note durable *before* the first write (must: else a client that dies leaves a difference nobody looks for). Calls
   that are made at the same moment in one process share an object: one of them writes for all that wait.
2. ``close`` says that the call's requests have ended, and how. It costs its caller nothing: closings are written in the background, some
   at once. A closing that is lost costs time only: the entry is *abandoned* after ``timing.abandoned_s`` by the store's own dates.
3. A reconciliation (:mod:`chromalith.migrate.reconcile`) compares the ids of entries that ended before it began, makes them equal,
   and removes the entries, then their closings. (Should: a closing that is left over is removed by the next.)
4. ``settle`` removes an own entry at once. Only for who knows: nothing was written, or all of it ended and both sides, read *after*
   that, are equal.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from chromalith.errors import ChromalithError, Invalid, Unavailable, Unknown
from chromalith.migrate.closer import LINGER_S, Closer
from chromalith.migrate.entries import Closing, Entry, Second, decode_entries, encode_entries, entries_of, said_of
from chromalith.migrate.journal_reader import JournalReader
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import Timing
from chromalith.store.port import Absent
from chromalith.store.readback import put_resolved
from chromalith.threads import NewExecutor

IDS_PER_OBJECT = 20_000
"""Of calls that share an object; about 1 MB. A larger call has an object of its own."""
STOP_S = 5.0
"""How long a client that ends waits for its closings; what is not written then is found abandoned."""


@dataclass(slots=True)
class _Ask:
    ids: tuple[str, ...]
    authority: Role
    op: str
    entry: Entry | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.entry is not None or self.error is not None


@dataclass(slots=True)
class _Queue:
    waiting: list[_Ask] = field(default_factory=list)
    writing: bool = False


class Journal(JournalReader):
    """The journal of one migration. Safe to share between threads; a forked child begins with nothing waiting.

    Args:
        place: of the migration; its store and clock are used.
        client: who writes here, for people.
        executor: where the threads come from: one for closings, some for reading.
        timing: of the migration, for the age of an abandoned entry; whoever reads the state may replace it.
        linger_s: how long a closing waits for others to share its object.
    """

    def __init__(
        self,
        place: Place,
        *,
        client: str = "",
        executor: NewExecutor = ThreadPoolExecutor,
        timing: Timing | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(place, executor=executor, timing=timing)
        self._client = client
        self._linger_s = linger_s
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._closer = Closer(self._place, self._executor, linger_s=self._linger_s)
        self._readers = None

    # -- writing -----------------------------------------------------------------------------------------------------

    def open(self, collection: str, ids: Sequence[str], *, authority: Role, op: str) -> Entry:
        """Note that ``ids`` are about to be written. Durable when it returns.

        Raises ``Unavailable``, ``Unknown``, ``Invalid``: then nothing may be written to either side."""
        if os.getpid() != self._process:
            self._begin()  # the locks and threads are the parent's
        ask = _Ask(tuple(ids), authority, op)
        with self._changed:
            queue = self._queues.setdefault(collection, _Queue())
            queue.waiting.append(ask)
            while not ask.done:
                if queue.writing:
                    self._changed.wait()
                    continue
                queue.writing = True
                batch = _next_batch(queue)
                self._changed.release()
                try:
                    self._write(collection, batch)
                finally:
                    self._changed.acquire()
                    queue.writing = False
                    self._changed.notify_all()
        if ask.entry is None:
            raise _again(ask.error)
        return ask.entry

    def open_again(self, entry: Entry) -> Entry:
        """Note the same once more: for a call that lasts longer than its entry may be open. Raises as :meth:`open`."""
        return self.open(entry.collection, entry.ids, authority=entry.authority, op=entry.op)

    def close(self, entry: Entry, second: Second, why: str | BaseException | None = None) -> None:
        """Say how an entry ended (:data:`~chromalith.migrate.entries.Second`: what may be said when). Returns at once, raises nothing."""
        if os.getpid() != self._process:
            self._begin()
        self._closer.add(entry, Closing(second, said_of(why) if isinstance(why, BaseException) else why))

    def settle(self, entry: Entry) -> None:
        """Remove an own entry now, if it has its object for itself; else close it. Raises nothing: what can't be removed is closed.

        Only if nothing was written under it, or if all writes ended and both sides, read after that, were equal."""
        if entries_of(entry.key) == 1:
            with suppress(ChromalithError):
                self._place.store.delete(entry.key)
                return
        self.close(entry, "ok")

    def flush(self, timeout_s: float = STOP_S) -> int:
        """Wait until all closings are written, for so long at most. Returns how many are not."""
        return self._closer.flush(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Flush, and end the threads. Entries can be opened again later."""
        self._closer.stop(timeout_s)
        self.let_go()

    def _write(self, collection: str, batch: list[_Ask]) -> None:
        clock = self._place.clock
        name = f"{clock.now_us():016d}-{clock.random_hex(12)}-{len(batch)}.json"
        key, body = "", b""
        try:
            key = self._place.collection_prefix("touched", collection) + name
            body = encode_entries(collection, self._client, [(ask.ids, ask.authority, ask.op) for ask in batch])
            made = decode_entries(key, body)
            put_resolved(self._place.store, key, body, Absent(), clock)
        except Exception as error:  # each of those who wait gets it
            if isinstance(error, Unknown):  # should it stand after all, nothing was written under it
                for entry in decode_entries(key, body):
                    self._closer.add(entry, Closing("not_written"))
            for ask in batch:
                ask.error = error
            return
        except BaseException:  # this thread is being ended; the others must not wait for it
            for ask in batch:
                ask.error = Unavailable(
                    "the write of the journal was interrupted", hint="nothing was written; try again"
                )
            raise
        for ask, entry in zip(batch, made, strict=True):
            ask.entry = entry


def _next_batch(queue: _Queue) -> list[_Ask]:
    """Those who wait longest, as many as fit one object; at least one."""
    count, ids = 0, 0
    for ask in queue.waiting:
        ids += len(ask.ids)
        if count and ids > IDS_PER_OBJECT:
            break
        count += 1
    batch, queue.waiting = queue.waiting[:count], queue.waiting[count:]
    return batch


def _again(error: BaseException | None) -> ChromalithError:
    """An error of its own for each caller who waited for one request: raising one object in several threads mixes their tracebacks."""
    hint = error.hint if isinstance(error, ChromalithError) else None
    text = f"the journal could not be written, so nothing was: {error.message if isinstance(error, ChromalithError) else error!r}"
    fresh: ChromalithError
    if isinstance(error, Unknown):
        fresh = Unknown(text, hint=hint)
    elif isinstance(error, Invalid):
        fresh = Invalid(text, hint=hint)
    else:
        fresh = Unavailable(text, hint=hint)
    fresh.__cause__ = error
    return fresh
