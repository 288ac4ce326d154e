"""The state of a migration in its store: read, watched, and changed by compare-and-set.

The problem. Several people and tools may use verbs at once, each may die at any call, and a reply may be lost. A change must happen once or
not at all, and who finds another state than the one he decided on must decide again.

One change: read; ``change(state)`` decides on what was read (raises if it is not allowed, returns ``None`` if it is done already);
put on condition that nothing changed; somebody was first: again from the start. A lost reply is looked up by the register.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from chromalith.clock import Clock
from chromalith.coord.register import Register, decode
from chromalith.errors import Conflict, Corrupt, NotFound
from chromalith.migrate.places import Place, state_keys
from chromalith.migrate.state import Change, State
from chromalith.store.port import ETag


@dataclass(frozen=True, slots=True)
class Seen:
    """A state, the entity tag it was read with (``None``: there is no migration yet), when the reading began (``monotonic_s``), and when
    the store says that it was written."""

    state: State | None
    etag: ETag | None
    at_s: float
    modified_us: int = 0


class States:
    """The state object of one migration. Safe to share between threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._register = Register(place.store, place.state_key, place.clock)

    @property
    def place(self) -> Place:
        return self._place

    def find(self) -> State | None:
        """The state, or ``None`` if the migration was not started. Raises ``Unavailable``, ``Corrupt``."""
        value = self._register.read().value
        return None if value is None else State.decode(value, self._place.state_key)

    def get(self) -> State:
        """The state. Raises ``NotFound`` if the migration was not started."""
        found = self.find()
        if found is None:
            raise NotFound(
                f"no such migration name={self._place.name!r} store={self._place.store.url}",
                hint="`chromalith migrate start` makes one; --name chooses among several",
            )
        return found

    def look(self, before: Seen | None = None) -> Seen:
        """The state now; one conditional request if ``before`` is what was seen last. Raises ``Unavailable``, ``Corrupt``."""
        began_s = self._place.clock.monotonic_s()
        key = self._place.state_key
        try:
            if before is not None and before.etag is not None:
                changed = self._place.store.get_if_changed(key, before.etag)
                if changed is None:
                    return replace(before, at_s=began_s)
            else:
                changed = self._place.store.get(key)
        except NotFound:
            return Seen(None, None, began_s)
        return Seen(State.decode(decode(key, changed.body), key), changed.etag, began_s, changed.modified_us)

    def create(self, state: State) -> State:
        """Begin a migration. Raises ``Conflict`` if there is one of this name that is not the same."""
        if not self._register.create(state.encode()):
            held = self.get()
            if (held.source, held.target, held.collections) != (state.source, state.target, state.collections):
                raise Conflict(
                    f"there is a migration of this name between other sides name={state.name!r}"
                    f" source={held.source.url} target={held.target.url}",
                    hint="choose another --name",
                )
            return held
        return state

    def change(self, decide: Callable[[State], State | None]) -> State:
        """Apply ``decide`` to the state until it stands; see the module's docstring. Returns the state that then stands.

        ``decide`` asks for a state, not for a step: after a lost reply it can meet its own success. Raises what it raises, and
        ``NotFound``, ``Conflict`` (others kept changing it), ``Unknown``, ``Unavailable``."""
        key = self._place.state_key

        def step(value: dict[str, Any] | None) -> dict[str, Any] | None:
            if value is None:
                self.get()  # raises NotFound with its hint
                raise NotFound(f"no such migration name={self._place.name!r}")
            after = decide(State.decode(value, key))
            return None if after is None else after.encode()

        stands = self._register.update(step)
        if stands is None:
            raise NotFound(f"no such migration name={self._place.name!r}")
        return State.decode(stands, key)


def others(place: Place) -> list[State]:
    """The states of the other migrations in the same store; what this release can't read is left out. Raises ``Unavailable``."""
    found: list[State] = []
    for key in state_keys(place.store):
        if key == place.state_key:
            continue
        with suppress(NotFound, Corrupt):
            found.append(State.decode(decode(key, place.store.get(key).body), key))
    return found


def change_of(clock: Clock, verb: str, before: str, after: str, note: str = "", who: str | None = None) -> Change:
    """A line for the audit log; the epoch is filled in by :meth:`State.changed`."""
    return Change(0, clock.now_us(), whoami() if who is None else who, verb, before, after, note)


def whoami() -> str:
    """``user@host``, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a user's name
        user = "?"
    return f"{user}@{socket.gethostname()}"
