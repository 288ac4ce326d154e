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

Invariants:
    A look lists closings before entries. So a closing it sees had its entry listed, unless that was removed: closings whose
    entries are not there are garbage, and none is taken for garbage because its entry came later.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from chromalith.coord.store_date import date_by
from chromalith.errors import ChromalithError, Corrupt, Invalid, NotFound, Unavailable, Unknown
from chromalith.migrate.closer import LINGER_S, Closer
from chromalith.migrate.entries import (
    Closing,
    Counts,
    Entry,
    Listing,
    Second,
    Touched,
    closings_of,
    decode_closings,
    decode_entries,
    encode_entries,
    entries_of,
)
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.state import Timing
from chromalith.store.port import Absent
from chromalith.store.port import Entry as Listed
from chromalith.store.readback import put_resolved
from chromalith.threads import NewExecutor

Item = TypeVar("Item")

IDS_PER_OBJECT = 20_000
"""Of calls that share an object; about 1 MB. A larger call has an object of its own."""
READERS = 8
"""Requests side by side while bodies are read and objects removed."""
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


class Journal:
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
        self._place = place
        self._client = client
        self._executor = executor
        self.timing = timing or Timing()
        self._linger_s = linger_s
        self._readers: Executor | None = None
        self._closings: dict[str, dict[str, dict[int, Closing]]] = {}
        self._begin()

    @property
    def place(self) -> Place:
        return self._place

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

    def close(self, entry: Entry, second: Second, error: str | None = None) -> None:
        """Say how an entry ended (:data:`~chromalith.migrate.entries.Second`: what may be said when). Returns at once, raises nothing."""
        if os.getpid() != self._process:
            self._begin()
        self._closer.add(entry, Closing(second, error))

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
        if self._readers is not None:
            self._readers.shutdown(wait=False)
            self._readers = None

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

    # -- reading -----------------------------------------------------------------------------------------------------

    def entries(self) -> Listing:
        """All of it but the ids: two listings and the closings, which are read once. Raises ``Unavailable``."""
        place = self._place
        date_us = date_by(place.store, place.prefix("journal") + "date.json", place.clock)
        closed_keys = [item.key for item in self._list("closed")]  # before the entries: see the module's docstring
        listed = self._list("touched")
        unreadable: list[str] = []
        closings = self._read_closings(closed_keys, unreadable)
        by_key: dict[str, dict[int, Closing]] = {}
        for found in closings.values():
            for of, endings in found.items():
                by_key.setdefault(of, {}).update(endings)
        touched = []
        abandoned_us = round(self.timing.abandoned_s * 1_000_000)
        for item in listed:
            count = entries_of(item.key)
            if count is None:
                unreadable.append(item.key)
                continue
            old = date_us - item.modified_us > abandoned_us
            touched.append(Touched(item.key, count, item.modified_us, by_key.get(item.key, {}), old))
        closed = {key: frozenset(found) for key, found in closings.items()}
        return Listing(date_us, tuple(touched), closed, tuple(unreadable))

    def counts(self) -> Counts:
        """How much there is, from two listings and no body: for a status. Raises ``Unavailable``."""
        closed = [closings_of(item.key) or (0, 0) for item in self._list("closed")]
        listed = self._list("touched")
        sizes = [entries_of(item.key) for item in listed]
        entries = sum(size or 0 for size in sizes)
        oldest_us = min((item.modified_us for item in listed), default=None)
        age_s = 0.0 if oldest_us is None else max(0, self._place.clock.now_us() - oldest_us) / 1_000_000
        ended = min(entries, sum(count for count, _ in closed))
        return Counts(entries, ended, sum(failed for _, failed in closed), age_s, sizes.count(None))

    def read(self, touched: Sequence[Touched]) -> tuple[dict[str, list[Entry]], list[str]]:
        """The entries of these objects by key, and the keys of those that can't be read. What was removed meanwhile is in neither.

        Raises ``Unavailable``."""
        found: dict[str, list[Entry]] = {}
        unreadable: list[str] = []

        def read(item: Touched) -> None:
            try:
                found[item.key] = decode_entries(item.key, self._place.store.get(item.key).body)
            except NotFound:
                return
            except Corrupt:
                unreadable.append(item.key)

        self._side_by_side(read, touched)
        return found, unreadable

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects of entries. Raises ``Unavailable`` after all were tried; calling it again is allowed."""
        self._side_by_side(self._place.store.delete, keys)

    def tidy(self, listing: Listing, removed: Collection[str]) -> None:
        """Remove the closings that name nothing but entries which are not there any more. Raises as :meth:`remove`.

        Args:
            listing: a look.
            removed: keys of entries that were removed after it.
        """
        left = {item.key for item in listing.touched}.difference(removed)
        self._side_by_side(self._place.store.delete, [key for key, of in listing.closed.items() if not of & left])

    def _list(self, part: str) -> list[Listed]:
        prefix = self._place.prefix(part)
        return [item for page in self._place.store.list(prefix) for item in page]

    def _read_closings(self, keys: Sequence[str], unreadable: list[str]) -> dict[str, dict[str, dict[int, Closing]]]:
        """By key; each is read once in the life of this journal, as they never change."""
        known = self._closings
        found = {key: known[key] for key in keys if key in known}

        def read(key: str) -> None:
            try:
                found[key] = decode_closings(key, self._place.store.get(key).body)
            except NotFound:  # removed by another reconciliation, after its entries
                return
            except Corrupt:
                unreadable.append(key)

        self._side_by_side(read, [key for key in keys if key not in known])
        self._closings = found
        return found

    def _side_by_side(self, act: Callable[[Item], object], items: Sequence[Item]) -> None:
        """Do it for each; the first failure is raised after all were tried."""
        if len(items) <= 1:
            for item in items:
                act(item)
            return
        if self._readers is None:
            self._readers = self._executor(READERS, "chromalith-journal")
        futures: list[Future[object]] = [self._readers.submit(act, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]


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
