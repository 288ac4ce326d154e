"""Shadow reads for tests: real threads and a store in memory, with two sides that are functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.shadow import Shadow, ShadowSettings
from chromalith.store.memory import MemoryStore

LONG_S = 30.0
"""For what is expected to happen: the test fails if it does not."""

Ask = Callable[[], Any]


def new_place() -> Place:
    return Place(MemoryStore(SYSTEM_CLOCK), "test")


@contextmanager
def shadow(place: Place | None = None, settings: dict[str, Any] | None = None, **rest: Any) -> Iterator[Shadow]:
    """One that asks again at once and may use a whole processor, closed at the end."""
    found = Shadow(
        place or new_place(),
        settings=ShadowSettings(**{"recheck_s": 0.02, "cpu_share_max": 1.0, "time_limit_s": LONG_S} | (settings or {})),
        **rest,
    )
    try:
        yield found
    finally:
        found.close()


def read(
    answer: Any,
    target: Ask,
    source: Ask | None = None,
    *,
    verb: str = "count",
    collection: str = "words",
    arguments: dict[str, Any] | None = None,
) -> ShadowRead:
    """A read that the source answered; asked again, the sides are called."""

    def repeat(role: Role, arguments: Any) -> Any:
        return target() if role is Role.TARGET else (source or (lambda: answer))()

    return ShadowRead(collection, verb, arguments or {}, Role.SOURCE, answer, 0.001, repeat)


def settle(shadow: Shadow) -> None:
    """Wait until nothing is on its way."""
    assert shadow.flush(LONG_S) == 0


def raising(error: BaseException) -> Any:
    raise error
