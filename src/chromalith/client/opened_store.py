"""One open store as the drop-in client uses it: a session, read at a level or at older versions, and erased by ``reset``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chromadb.errors import NotFoundError

from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.pins import At, Pins
from chromalith.errors import Invalid, NotFound
from chromalith.model import layout
from chromalith.model.delta import decode_delta
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.read.reader import ReadLevel
from chromalith.read.view import View
from chromalith.session import Session


@dataclass(frozen=True, slots=True)
class Pinned:
    """What an ``at=`` client reads: when, and in which database the names of its versions are looked up."""

    at: At
    tenant: str
    database: str


class OpenedStore:
    """A session and what is peculiar to the drop-in client. Safe to share between threads, not between processes.

    Args:
        open_session: opens the store; called again after :meth:`erase`, because nothing that was known holds then.
        pinned: older versions to read; then nothing may be written.
    """

    def __init__(self, open_session: Callable[[], Session], *, pinned: Pinned | None = None) -> None:
        self._open_session = open_session
        self.session = open_session()
        self._pins = (
            None
            if pinned is None
            else Pins(self.session.store, self.session.catalog, pinned.at, pinned.tenant, pinned.database)
        )

    def view(self, cid: CollectionId, level: ReadLevel | None = None) -> View:
        """The pinned version, else a state at ``level`` or the session's.

        Raises as ``CollectionReader.view``, and Chroma's ``NotFoundError`` where there is no pinned version.
        """
        try:
            manifest = None if self._pins is None else self._pins.manifest(cid)
        except NotFound as error:  # Chroma's class, and our words: the collection is there, but not its tag or version
            raise NotFoundError(str(error)) from error
        return self.session.view(cid, level) if manifest is None else self.session.reader.view_of(manifest)

    def check_writable(self) -> None:
        """Raise ``Invalid`` if this client reads the past."""
        if self._pins is not None:
            raise Invalid("a client that was opened with at= is read-only", hint="open one without at= to write")

    def collection(self, cid: CollectionId) -> CollectionObject:
        """The collection's object as last seen, once it has a dimension: schema and dimension stay what they are."""
        collections = self.session.collections
        known = collections.known(cid)
        return collections.refresh(cid) if known is None or known.dimension is None else known

    def known(self, cid: CollectionId) -> CollectionObject | None:
        """The collection's object as this process last saw it. No request."""
        return self.session.collections.known(cid)

    def operations(self, deltas: Sequence[DeltaId], cid: CollectionId) -> int:
        """How many operations these deltas carry; one that was swept since has been folded, and counts as none."""
        count = 0
        for delta in deltas:
            with suppress(NotFound):
                body = self.session.store.get(layout.delta_key(cid, delta)).body
                operations = decode_delta(cid, delta, body).operations
                count += 0 if operations is None else len(operations)  # a void delta stands for none
        return count

    def erase(self) -> None:
        """Delete every object of the store: the catalog first, so that nothing leads to what is going."""
        for prefix in (layout.CATALOG_ROOT, ""):
            for page in list(self.session.store.list(prefix)):
                for entry in page:
                    self.session.store.delete(entry.key)
        before, self.session = self.session, self._open_session()
        before.close()

    def close(self) -> None:
        """Release what is held on this machine. Nothing is written: an acknowledged write is durable already."""
        self.session.close()


def session_of(client: object) -> Session:
    """The session behind a client of :func:`chromalith.Client`, or behind its ServerAPI. Raises ``Invalid`` for anything else."""
    running = getattr(getattr(client, "_server", client), "running_store", None)
    if running is None:
        raise Invalid(
            f"not a client of chromalith type={type(client).__name__}",
            hint="give what chromalith.Client returned, a Reader, a Writer, or the store's URL",
        )
    opened: OpenedStore = running()
    return opened.session
