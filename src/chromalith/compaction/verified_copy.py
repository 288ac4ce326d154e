"""Copying an object inside the store, and looking at the copy before anything names it."""

from __future__ import annotations

from chromalith.clock import Clock
from chromalith.errors import Corrupt, NotFound, Unavailable, Unknown
from chromalith.model.manifest import FileRef
from chromalith.store.port import Store

HASHED_BYTES_MAX = 2**20
"""Copies up to this size are read back and hashed: one GET, about as cheap as the HEAD that larger ones get."""
COPIES_MAX = 4
COPY_AGAIN_S = 0.2


def copy_verified(store: Store, clock: Clock, source: str, target: str, file: FileRef) -> None:
    """Copy ``source`` to ``target``, where nobody else writes, and check that the copy is ``file``: small ones by their hash, others
    by their size (a store copies an object whole, and whoever reads it checks the hash).

    A lost reply is looked up; copying again writes the same bytes.

    Raises:
        NotFound: the source is gone.
        Corrupt: the source is not what it must be.
        Unavailable: the store failed.
    """
    failure: Unknown | None = None
    for _ in range(COPIES_MAX):
        try:
            store.copy(source, target)
        except Unknown as error:
            failure = error
        if is_file(store, target, file):
            return
        if not is_file(store, source, file):
            store.head(source)  # gone: NotFound
            raise Corrupt(
                f"I5 broken: an object is not what its manifest says key={source} size={file.size}",
                hint="`chromalith snapshot list` shows older versions",
            )
        clock.sleep(COPY_AGAIN_S)
    raise Unavailable(f"an object could not be copied key={source}", hint="try again") from failure


def is_file(store: Store, key: str, file: FileRef) -> bool:
    """Whether the object at ``key`` is ``file``, as far as one cheap request tells."""
    try:
        if file.size <= HASHED_BYTES_MAX:
            return file.holds(store.get(key).body)
        return store.head(key).size == file.size
    except NotFound:
        return False
