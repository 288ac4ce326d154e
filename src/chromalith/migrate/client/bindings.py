"""One collection, two ids: which collection of each side an application's ``Collection`` object means.

Chroma gives a collection an id when it is made, so it has another on each side, and the object that an application holds knows one of
them, for as long as it lives: through every phase, and back. The sides are matched by name, once, while the id that the application
holds is still the one of that name. So an object of a collection that was deleted and made again gets Chroma's own ``NotFoundError``,
and never writes into its successor. (One corner is left: another process than the one that deleted it, while the second side failed to
delete, and the migration then switches to that side.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from chromadb.errors import NotFoundError
from chromadb.types import Collection as CollectionModel

from chromalith.chroma.definitions import definition_of
from chromalith.errors import NotFound
from chromalith.migrate.client.at_hand import AtHand
from chromalith.migrate.port import Role

Answer = TypeVar("Answer")

_GONE = (NotFoundError, NotFound)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Bound:
    """What an id means. ``own``: the side that gave it; ``ids``: the collection's on each side, where known."""

    name: str
    own: Role
    ids: dict[Role, UUID] = field(default_factory=dict)
    was_dual: bool = False
    space: str | None = None


class Bindings:
    """The ids of one client. Safe to share between threads.

    Args:
        sides: both.
    """

    def __init__(self, sides: AtHand) -> None:
        self._sides = sides
        self._lock = threading.Lock()
        self._bound: dict[UUID, Bound] = {}
        self._gone: set[UUID] = set()

    def note(self, role: Role, model: CollectionModel) -> None:
        """A side has shown this collection to the application."""
        with self._lock:
            self._gone.discard(model.id)
            bound = self._bound.get(model.id)
            if bound is None:
                self._bound[model.id] = Bound(model.name, role, {role: model.id}, space=definition_of(model).space)
            else:
                bound.name = model.name

    def space(self, uuid: UUID) -> str | None:
        """The collection's distance, if it was seen."""
        bound = self._bound.get(uuid)
        return None if bound is None else bound.space

    def renamed(self, uuid: UUID, name: str) -> None:
        """The application renamed it."""
        with self._lock:
            if uuid in self._bound:
                self._bound[uuid].name = name

    def forget(self, name: str, deleted_on: Role) -> None:
        """A collection of this name was deleted on this side, and its ids mean nothing from now on.

        Those that this side gave, it will say so of. The other may have the collection still: it is let go, or did not answer."""
        with self._lock:
            gone = {uuid: bound for uuid, bound in self._bound.items() if bound.name == name}
            self._gone.update(uuid for uuid, bound in gone.items() if bound.own is not deleted_on)
            for uuid in gone:
                del self._bound[uuid]

    def name(self, uuid: UUID, main: Role, *, dual: bool = False) -> str:
        """The collection's name. Raises Chroma's ``NotFoundError``, and what the sides raise.

        Args:
            main: the side to ask first about an id that this client has not seen.
            dual: whether both sides are live. The name is asked for once more then: before, others may have changed it.
        """
        bound = self._of(uuid, main)
        if dual and not bound.was_dual:
            try:
                bound.name = self._sides.server(bound.own).get_collection_by_id(uuid, **self._sides.at(bound.own)).name
            except _GONE:
                raise
            except Exception as error:  # a side that does not answer must not keep the other's callers away
                _log.warning("the name of a collection could not be looked up name=%r: %s", bound.name, error)
        bound.was_dual = dual
        return bound.name

    def on(self, role: Role, uuid: UUID, act: Callable[[UUID], Answer], *, alone: bool = False) -> Answer:
        """``act`` with the collection's id on one side. Raises what it raises, and Chroma's ``NotFoundError``.

        Args:
            alone: whether the other side is let go, and must not be asked anything.
        """
        bound = self._of(uuid, role)
        known = bound.ids.get(role)
        here = known or self._match(uuid, bound, role, alone)
        try:
            return act(here)
        except _GONE:
            if known is None or role is bound.own or alone:
                raise
            bound.ids.pop(role, None)  # made anew by a tool of the migration? Then the application's id still stands
            again = self._match(uuid, bound, role, alone)
            if again == here:
                raise
            return act(again)

    def _of(self, uuid: UUID, first: Role) -> Bound:
        with self._lock:
            bound = self._bound.get(uuid)
            gone = uuid in self._gone
        if bound is not None:
            return bound
        if gone:
            raise NotFoundError(f"Collection [{uuid}] does not exist")
        missing: Exception | None = None
        for role in (first, first.other):
            try:
                self.note(role, self._sides.server(role).get_collection_by_id(uuid, **self._sides.at(role)))
                break
            except _GONE as error:
                missing = missing or error
            except Exception:
                if missing is None:
                    raise
                raise missing from None  # the side that counts has answered
        else:
            raise missing if missing is not None else NotFoundError(f"Collection [{uuid}] does not exist")
        with self._lock:
            bound = self._bound.get(uuid)
        if bound is None:  # deleted meanwhile
            raise NotFoundError(f"Collection [{uuid}] does not exist")
        return bound

    def _match(self, uuid: UUID, bound: Bound, role: Role, alone: bool) -> UUID:
        """The id on ``role`` of the collection of this name, if the application's id is still the one of that name on its own side."""
        found = self._sides.server(role).get_collection(bound.name, **self._sides.at(role)).id
        if not alone and not self._stands(uuid, bound):
            raise NotFoundError(f"Collection [{uuid}] does not exist")
        bound.ids[role] = found
        return found

    def _stands(self, uuid: UUID, bound: Bound) -> bool:
        try:
            return self._sides.server(bound.own).get_collection(bound.name, **self._sides.at(bound.own)).id == uuid
        except _GONE:
            return False
        except Exception:
            return True  # it does not answer, and must not keep the other side's callers away
