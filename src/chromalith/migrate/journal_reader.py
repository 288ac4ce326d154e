"""Looking at the journal: what is open, what has ended, what was abandoned; and removing what is settled.

A look lists closings before entries. So a closing that it sees had its entry listed, unless that was removed: closings whose entries are
not there are garbage, and none is taken for garbage because its entry came later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from chromalith.coord.store_date import date_by
from chromalith.errors import Corrupt, NotFound
from chromalith.migrate.entries import (
    Closing,
    Counts,
    Entry,
    Listing,
    Touched,
    closings_of,
    decode_closings,
    decode_entries,
    entries_of,
)
from chromalith.migrate.places import Place
from chromalith.migrate.state import Timing
from chromalith.store.port import Entry as Listed
from chromalith.threads import NewExecutor

Item = TypeVar("Item")

READERS = 8
"""Requests side by side while bodies are read and objects removed."""


class JournalReader:
    """The journal of one migration, to be read and cleared. Safe to share between threads.

    Args:
        place: of the migration; its store and clock are used.
        executor: where the threads come from.
        timing: of the migration, for the age of an abandoned entry; whoever reads the state may replace it.
    """

    def __init__(
        self, place: Place, *, executor: NewExecutor = ThreadPoolExecutor, timing: Timing | None = None
    ) -> None:
        self._place = place
        self._executor = executor
        self.timing = timing or Timing()
        self._readers: Executor | None = None
        self._closings: dict[str, dict[str, dict[int, Closing]]] = {}

    @property
    def place(self) -> Place:
        return self._place

    def let_go(self) -> None:
        """End the threads; they are made again if they are needed."""
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.shutdown(wait=False)

    def entries(self) -> Listing:
        """All of it but the ids: two listings and the closings, which are read once. Raises ``Unavailable``."""
        place = self._place
        date_us = date_by(place.store, place.date_key, place.clock)
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
