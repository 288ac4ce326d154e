"""What a migrating client hands over for a shadow read, and to whom. Whoever takes it must cost the read's caller nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chromalith.migrate.port import Role


@dataclass(frozen=True, slots=True)
class ShadowRead:
    """One read that was answered, and that is to be made once more on the other side.

    Attributes:
        collection: its name.
        verb: ``get``, ``query``, ``count`` or ``peek``.
        arguments: as Chroma's ``ServerAPI`` names them, without the collection, tenant and database.
        side: who answered.
        answer: as Chroma shapes it. The caller may have it in hand: not to be changed.
        took_s: how long it took.
        repeat: makes the call on a side, with these arguments: a copy of ``arguments`` that was taken when the read was offered, because
            the caller may change its own afterwards (its query's vector, its filter). Raises what that side raises.
        space: the collection's distance, where it is known: embeddings of a cosine collection are compared with a tolerance.
        counts: whether both sides are still written, by the newest state; asked before a difference is counted, and may take a request.
            A read that was taken just before `complete` would be compared with a side that gets no writes any more.
    """

    collection: str
    verb: str
    arguments: Mapping[str, Any]
    side: Role
    answer: Any
    took_s: float
    repeat: Callable[[Role, Mapping[str, Any]], Any]
    space: str | None = None
    counts: Callable[[], bool] = lambda: True


class ShadowTaker(Protocol):
    """Takes reads, compares in the background, keeps what differs. Safe to share between threads."""

    def offer(self, read: ShadowRead) -> None:
        """Take a read, or drop and count it. Returns at once, raises nothing."""
        ...

    def note(self, verb: str, side: Role, took_s: float) -> None:
        """A read was answered, shadowed or not: its latency. Returns at once, raises nothing."""
        ...

    def begin(self, since: int) -> None:
        """Count from anew, if ``since`` (the state's ``shadow_since``) is another than before. Returns at once, raises nothing."""
        ...

    def seen(self) -> Mapping[str, Any]:
        """What was compared so far, as JSON, for the presence of the process."""
        ...

    def close(self) -> None:
        """Let go; what waits is dropped. Calling it again is allowed."""
        ...


class NoShadow:
    """Takes nothing."""

    def offer(self, read: ShadowRead) -> None:
        pass

    def note(self, verb: str, side: Role, took_s: float) -> None:
        pass

    def begin(self, since: int) -> None:
        pass

    def seen(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass
