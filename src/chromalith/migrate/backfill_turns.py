"""Whose turn it is: chunks are read side by side and added one after another, so that the target keeps the source's order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chromalith.migrate.backfill_watch import Ended

_CHECK_S = 0.5


class Turns:
    """Lets chunks through in the order given, or all at once. Safe to share between threads.

    Args:
        chunks: in their order.
        stop: set when the others must not wait any more.
        ordered: whether there is an order.
    """

    def __init__(self, chunks: Sequence[int], stop: threading.Event, *, ordered: bool) -> None:
        self._place = {chunk: place for place, chunk in enumerate(chunks)}
        self._stop = stop
        self._ordered = ordered
        self._next = 0
        self._passed: set[int] = set()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, chunk: int) -> Iterator[None]:
        """Wait for the turn of ``chunk``; it ends with the block, unless that fails. Raises :class:`Ended`."""
        with self._changed:
            while self._ordered and self._place[chunk] > self._next:
                if self._stop.is_set():
                    raise Ended
                self._changed.wait(_CHECK_S)
        yield
        self.pass_on(chunk)

    def pass_on(self, chunk: int) -> None:
        """This one is over. Saying it twice is allowed."""
        with self._changed:
            self._passed.add(self._place[chunk])
            while self._next in self._passed:
                self._passed.remove(self._next)
                self._next += 1
            self._changed.notify_all()
