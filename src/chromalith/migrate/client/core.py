"""What a migrating client consists of, and the two ways in which a call goes through it: a read and a write."""

from __future__ import annotations

import itertools
import os
import platform
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any
from uuid import UUID

import chromadb
from chromadb.api import ServerAPI
from chromadb.errors import ChromaError

from chromalith.chroma.side_errors import side_errors
from chromalith.client.errors import chroma_errors
from chromalith.errors import ChromalithError, Invalid, Unknown
from chromalith.migrate.client.at_hand import AtHand
from chromalith.migrate.client.bindings import Bindings
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.dual import DualWriter, WhenDual, Write
from chromalith.migrate.follower import Follower
from chromalith.migrate.journal import Journal
from chromalith.migrate.offered import NoShadow, ShadowRead, ShadowTaker
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.presence import Announcer, Presence
from chromalith.migrate.route import Route
from chromalith.migrate.states import States, whoami
from chromalith.migrate.sticky import sticky_key
from chromalith.migrate.tally import Tally

LOWERS = "DELTA_WRITE_PERCENTAGE"
"""Environment: this process's part of ids whose authority is the target is at most this (0 to 1)."""
CLOSE_S = 10.0
"""How long a client that is closed waits for writes to the second side that are under way."""

Call = Callable[[ServerAPI, UUID, dict[str, Any]], Any]
"""A call on one side: its engine, its id of the collection, and what else is given by name (its tenant and database among it)."""

Sticky = str | Callable[[], str] | None


class Core:
    """One migrating client. Safe to share between threads, not between processes.

    Args:
        place: of the migration.
        sides: both.
        home: tenant and database, as the application names them.
        app: what the application calls itself.
        sticky: the key of reads outside of ``chromalith.sticky`` blocks, or what tells it; ``None``: each call by itself.
        new_shadow: makes what takes reads to compare, for the client of this id.
    """

    def __init__(
        self,
        place: Place,
        sides: AtHand,
        home: tuple[str, str],
        *,
        app: str = "",
        sticky: Sticky = None,
        new_shadow: Callable[[Place, str], ShadowTaker] | None = None,
    ) -> None:
        self.place = place
        self.sides = sides
        self.home = home
        self.client = place.clock.random_hex(16)
        self.tally = Tally()
        self.bindings = Bindings(sides)
        # Daemons all of them: the end of a process waits for no store that is away.
        self.follower = Follower(States(place), who=f"{whoami()} client {self.client}", executor=DaemonExecutor)
        self.journal = Journal(place, client=self.client, executor=DaemonExecutor)
        self._writer = DualWriter(
            self.follower, self.journal, may_land=self._may_land, lowered_to=lowered_to, tally=self.tally
        )
        self.shadow = NoShadow() if new_shadow is None else new_shadow(place, self.client)
        self._app = app
        self._sticky = sticky
        self._numbers = itertools.count()
        self._started_us = place.clock.now_us()
        self._announcer = Announcer(place, self.client, self._describe, executor=DaemonExecutor)
        self._closing = threading.Lock()
        self._closed = False

    def begin(self) -> None:
        """Look at the state and the environment for the first time. Raises ``Unavailable``, ``Corrupt``, ``Invalid``."""
        lowered_to()
        self.follower.look()

    def used(self) -> None:
        """A call comes. Raises Chroma's way of ``Invalid`` if the client is closed."""
        if self._closed:
            with chroma_errors():
                raise Invalid("the client is closed", hint="open a new one")
        latest = self.follower.latest
        self._announcer.touch(0 if latest is None else latest.epoch)

    def read(self, uuid: UUID, verb: str, call: Call, arguments: Mapping[str, Any]) -> Any:
        """Make a read on the side that the state says, and offer it to the shadow.

        Args:
            uuid: of the collection, as the application knows it.
            verb: its name.
            call: makes it on a side's engine, with that side's id, the arguments, and that side's tenant and database.
            arguments: of the call.

        Raises what the side raises. During a ramp a read that the target fails is made by the source: then that one's answer, or error,
        is the caller's, as without a migration; it is counted.
        """
        self.used()
        view = self.follower.view()
        name = self.bindings.name(uuid, view.state.main, dual=view.state.is_dual)
        number = f"{self.client}:{next(self._numbers)}"
        route = Route(view.state)
        side = route.reads(self._key() or number) if view.covers(name) else Role.SOURCE

        def on(role: Role, given: Mapping[str, Any]) -> Any:
            return self.on(role, uuid, lambda server, here, at: call(server, here, {**given, **at}))

        clock = self.place.clock
        began_s = clock.monotonic_s()
        try:
            answer = on(side, arguments)
        except Exception:
            if side is not Role.TARGET or view.state.phase is not Phase.RAMP:
                raise
            side, began_s = Role.SOURCE, clock.monotonic_s()
            answer = on(side, arguments)
            self.tally.fell_back()
        took_s = clock.monotonic_s() - began_s
        self.tally.read(side)
        self.shadow.begin(view.state.shadow_since)
        self.shadow.note(verb, side, took_s)
        if view.covers(name) and route.shadows(number):
            space = self.bindings.space(uuid)
            self.shadow.offer(ShadowRead(name, verb, arguments, side, answer, took_s, on, space, self._both_written))
        return answer

    def name_to_write(self, uuid: UUID) -> str:
        """The name of the collection that is to be written."""
        self.used()
        state = self.follower.writable().state
        return self.bindings.name(uuid, state.main, dual=state.is_dual)

    def write(self, call: Write, *, when_dual: WhenDual | None = None) -> list[Any]:
        """Make a writing call by the protocol; see :meth:`~chromalith.migrate.dual.DualWriter.write`."""
        answers = self._writer.write(call, when_dual=when_dual)
        self.tally.called(self.place.clock.now_us())
        return answers

    def on(self, role: Role, uuid: UUID, call: Call) -> Any:
        """A call on one side, with that side's id of the collection."""
        latest = self.follower.latest
        alone = latest is not None and latest.phase is Phase.COMPLETE
        return self.bindings.on(
            role, uuid, lambda here: call(self.sides.server(role), here, self.sides.at(role)), alone=alone
        )

    def close(self) -> None:
        """Wait for what is under way, write the journal's closings and the last presence, let go of the sides."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.shadow.close()
        self._writer.stop(CLOSE_S)
        self.journal.stop()
        self.follower.stop()
        self._announcer.stop()
        self.sides.close()

    def _key(self) -> str | None:
        key = sticky_key()
        if key is not None:
            return key
        return str(self._sticky()) if callable(self._sticky) else self._sticky

    def _both_written(self) -> bool:
        """Now, not by the state at hand: another process may follow a newer one already, and write one side alone."""
        try:
            return self.follower.look().state.is_dual
        except ChromalithError:
            return True

    def _may_land(self, role: Role, error: Exception) -> bool:
        """An error that an engine answers itself ends the call, except that Chroma Cloud is several services behind one that answers."""
        if isinstance(error, ChromaError) and self.sides.is_one_engine(role):
            return False
        return may_land(error)

    def _describe(self) -> Presence:
        state = self.follower.latest
        counts = self.tally.encode()
        return Presence(
            id=self.client,
            app=self._app,
            host=platform.node(),
            pid=os.getpid(),
            chromalith=version("chromalith"),
            chromadb=chromadb.__version__,
            epoch=0 if state is None else state.epoch,
            phase=str(Phase.DIRECT if state is None else state.phase),
            started_us=self._started_us,
            seen_us=self.place.clock.now_us(),
            state_failures=self.follower.failures,
            shadow=dict(self.shadow.seen()),
            **counts,
        )


def lowered_to() -> float:
    """``DELTA_WRITE_PERCENTAGE``, 1 if it is not set. Raises ``Invalid`` if it is no part of a whole."""
    text = os.environ.get(LOWERS, "").strip()
    if not text:
        return 1.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Invalid(
            f"not a part of a whole {LOWERS}={text!r}",
            hint="a number from 0 (all writes to the source first) to 1, or unset it",
        )
    return value


def may_land(error: Exception) -> bool:
    """Whether a write that raised this may still be applied, now or later."""
    try:
        with side_errors("a side", "write", writes=True):
            raise error
    except Unknown:
        return True
    except ChromalithError:
        return False
    except Exception:  # none that Chroma or its transport is known to raise
        return True
