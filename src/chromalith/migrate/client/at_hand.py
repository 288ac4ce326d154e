"""Both sides of a migrating client, each opened when it is first needed.

A side that is let go, or not there yet, must not keep anybody from the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from chromadb.api import ServerAPI
from chromadb.api.base_http_client import BaseHTTPClient

from chromalith.chroma.side import ChromaSide
from chromalith.errors import Invalid
from chromalith.migrate.port import Role, SideKind, Sides

OpenSide = Callable[[], ChromaSide]


class AtHand:
    """Two sides. Safe to share between threads, not between processes.

    Args:
        openers: open them; what one raises, its callers get, and the next tries again.
    """

    def __init__(self, openers: Mapping[Role, OpenSide]) -> None:
        self._openers = openers
        self._locks = {role: threading.Lock() for role in Role}
        self._opened: dict[Role, ChromaSide] = {}
        self._closed = False

    def __getitem__(self, role: Role) -> ChromaSide:
        """One side. Raises ``Unavailable``, ``Invalid``, ``NotFound``, ``Conflict`` if it can't be opened, ``Invalid`` once closed."""
        side = self._opened.get(role)
        if side is not None:
            return side
        with self._locks[role]:
            if role not in self._opened:
                self._check_open()
                side = self._opened[role] = self._openers[role]()
                if self._closed and self._opened.pop(role, None) is not None:  # meanwhile: else nobody would close it
                    side.close()
                self._check_open()
                return side
            return self._opened[role]

    def _check_open(self) -> None:
        """A call that outlasts the client (a shadow read, a write to a side that hangs) must not open a side again, which nobody closes."""
        if self._closed:
            raise Invalid("the client is closed", hint="open a new one")

    def server(self, role: Role) -> ServerAPI:
        """Its engine."""
        return self[role].server

    def at(self, role: Role) -> dict[str, Any]:
        """Its tenant and database, as the verbs of ``ServerAPI`` take them."""
        side = self[role]
        return {"tenant": side.tenant, "database": side.database}

    def is_one_engine(self, role: Role) -> bool:
        """Whether what answers there is what writes there, so that after its answer nothing is under way. No request."""
        side = self._opened.get(role)
        if side is None or side.kind is SideKind.CLOUD:
            return False
        return side.kind is not SideKind.CLIENT or not isinstance(side.server, BaseHTTPClient)

    def both(self) -> Sides:
        """Both, as the migration's tools take them."""
        return Sides(self[Role.SOURCE], self[Role.TARGET])

    def close(self) -> None:
        """Let go of what was opened; calling it again is allowed."""
        self._closed = True
        for role in Role:
            side = self._opened.pop(role, None)
            if side is not None:
                side.close()
