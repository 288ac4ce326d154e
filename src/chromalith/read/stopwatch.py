"""What observers are told of an answer: how long it took, and what it was made of. Nothing is asked of the store for it.

A call of a reader opens a view and asks it once; a program may also keep a view and ask it often. So the time to open a view counts
with its first answer, and no other. Waiting for a session token is the caller's wish, and counts with none.

Fetching is measured in the thread that asked, where it fetches or waits for another one that does: what is fetched ahead in the background
costs an answer only what it has to wait for. Deltas are read into memory, not into the cache, and count as time only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chromalith.clock import Clock
from chromalith.model.ids import CollectionId
from chromalith.observe.events import Queried
from chromalith.observe.hooks import Observer
from chromalith.read.view import State


class Stopwatch:
    """Times the answers of one view.

    Args:
        collection: what it is a view of.
        observe: told of each answer; ``None``: nobody looks, and nothing is measured.
        clock: time.
        fetching_s: for how long, in all, the calling thread has fetched.
    """

    def __init__(self, collection: CollectionId, observe: Observer | None, clock: Clock, fetching_s: Callable[[], float]) -> None:
        self._collection = collection
        self._observe = observe
        self._clock = clock
        self._fetching_s = fetching_s
        self._opening = (0.0, 0.0)  # seconds, and of these fetching

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around the opening of the view; of several looks the last one counts."""
        began = self._now()
        yield
        self._opening = self._since(began)

    @contextmanager
    def answering(self, state: Callable[[], State]) -> Iterator[None]:
        """Around an answer; ``state``: what it was taken from, once it is there. What raises is no answer."""
        if self._observe is None:
            yield
            return
        began = self._now()
        yield
        seconds, fetching_s = self._since(began)
        opening, self._opening = self._opening, (0.0, 0.0)
        asked = state()
        age_s = max(0.0, (self._clock.now_us() - asked.published_us) / 1e6)
        self._observe(
            Queried(self._collection, opening[0] + seconds, opening[1] + fetching_s, asked.overlay_rows(), age_s)
        )

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic_s(), self._fetching_s()

    def _since(self, began: tuple[float, float]) -> tuple[float, float]:
        now = self._now()
        return now[0] - began[0], now[1] - began[1]
