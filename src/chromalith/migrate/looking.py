"""Looking at a migration without the right to write: its status, and what a verb would do.

How old something is, the store's own date says, and a store tells that only to who writes an object
(:mod:`chromalith.coord.store_date`). Who may read only has this machine's clock instead. That is good enough to be told, and to plan;
nothing that changes anything goes by it.
"""

from __future__ import annotations

from dataclasses import replace

from chromalith.clock import Clock
from chromalith.errors import Invalid
from chromalith.migrate.places import Place
from chromalith.store.port import Condition, Entry, ETag, Store
from chromalith.store.wrappers import DelegatingStore

OWN_CLOCK = "by this machine's clock, because the store denies the write that asks for its date"


class LookingStore(DelegatingStore):
    """As ``inner``, but where a put of the date is denied, the date is this machine's from then on. Everything else is passed on.

    Args:
        inner: the migration's store.
        date_key: of the object that asks it for its date.
        clock: this machine's.
    """

    def __init__(self, inner: Store, date_key: str, clock: Clock) -> None:
        super().__init__(inner)
        self._date_key = date_key
        self._clock = clock
        self.own_clock = False
        """Whether the store was asked, and denied it."""

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if key != self._date_key:
            return self.inner.put(key, body, condition)
        if not self.own_clock:
            try:
                return self.inner.put(key, body, condition)
            except Invalid:  # not allowed to; or a file system that nobody may write
                self.own_clock = True
        return ETag("")

    def head(self, key: str) -> Entry:
        if key == self._date_key and self.own_clock:
            return Entry(key, 0, ETag(""), self._clock.now_us())
        return self.inner.head(key)


def looked_at(place: Place) -> tuple[Place, LookingStore]:
    """The same place for who only looks at it, and its store, which says afterwards whose date it was."""
    store = LookingStore(place.store, place.date_key, place.clock)
    return replace(place, store=store), store
