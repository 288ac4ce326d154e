"""Whose turn it is: chunks are read side by side and added one after another, so that the target keeps the source's order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

_CHECK_S = 0.5


class Turns:
    """Lets chunks through in the order given, or all at once. Safe to share between threads.

    Args:
        chunks: in their order.
        tick: called while one waits; raises when it must not wait any more.
        ordered: whether there is an order.
    """

    def __init__(self, chunks: Sequence[int], tick: Callable[[], object], *, ordered: bool) -> None:
        self._place = {chunk: place for place, chunk in enumerate(chunks)}
        self._tick = tick
        self._ordered = ordered
        self._next = 0
        self._passed: set[int] = set()
        self._changed = threading.Condition()

    def wait(self, chunk: int) -> None:
        """Wait for the turn of ``chunk``, which lasts until it is passed on. Raises what ``tick`` does."""
        while True:
            with self._changed:
                if not self._ordered or self._place[chunk] <= self._next:
                    return
                self._changed.wait(_CHECK_S)
            self._tick()

    def pass_on(self, chunk: int) -> None:
        """This one is over. Saying it twice is allowed."""
        with self._changed:
            self._passed.add(self._place[chunk])
            while self._next in self._passed:
                self._passed.remove(self._next)
                self._next += 1
            self._changed.notify_all()
