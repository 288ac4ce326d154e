"""What to say where an object is damaged: which version does not need it.

Costs requests only once something has failed: a LIST, and a GET for each version until one is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chromalith.coord.pointer import read_manifest
from chromalith.coord.tags import list_tags
from chromalith.errors import ChromalithError, Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

LOOKED_AT_MAX = 100
"""Versions that are read before it gives up: 3 s, and no version without the object among the newest hundred is a rare thing."""


class Explained(Corrupt):
    """An error that says already which version is whole."""


def newest_without(store: Store, cid: CollectionId, key: str) -> int | None:
    """The newest stored version that does not need the object ``key``, and whose manifest can be read.

    Where the chain can't be followed, because a manifest of it is damaged or gone, a version counts that has one manifest only.
    ``None``: there is none among the newest :data:`LOOKED_AT_MAX` and the tagged ones. Raises ``Unavailable``.
    """
    by_version: dict[int, list[str]] = {}
    for page in store.list(layout.snapshot_prefix(cid)):
        for entry in page:
            try:
                by_version.setdefault(layout.parse_manifest_key(entry.key)[1], []).append(entry.key)
            except Invalid:
                continue  # the pointer, the buckets, a stock snapshot
    parent: str | None = None
    for version in sorted(by_version, reverse=True)[:LOOKED_AT_MAX]:
        stored = by_version[version]
        manifest_key = parent if parent in stored else stored[0] if len(stored) == 1 else None
        parent = None
        if manifest_key is None:
            continue
        try:
            manifest = read_manifest(store, manifest_key)
        except (Corrupt, NotFound, Invalid):
            continue
        if key != manifest_key and key not in manifest.objects:
            return version
        parent = manifest.parent
    return _newest_tagged_without(store, cid, key)


def _newest_tagged_without(store: Store, cid: CollectionId, key: str) -> int | None:
    found: int | None = None
    for tag in list_tags(store, cid):
        if tag.held and tag.manifest is not None and tag.version is not None and tag.version > (-1 if found is None else found):
            try:
                if key not in read_manifest(store, tag.manifest).objects:
                    found = tag.version
            except (Corrupt, NotFound, Invalid):
                continue
    return found


_BRING_BACK = "bring the object back from the bucket's versions or a backup"


def rollback_hint(version: int | None, name: str = "COLLECTION") -> str:
    """What to do where a version's records are damaged, and ``version`` is whole."""
    if not version:  # 0 is the empty one that every collection begins with
        return f"no version with records is whole without it: {_BRING_BACK}"
    return f"version {version} is whole without it: `chromalith snapshot rollback {name} {version}` goes back to it"


@contextmanager
def naming_what_is_whole(store: Store, cid: CollectionId) -> Iterator[None]:
    """A block whose ``Corrupt`` about a named object also says which version is whole without it."""
    try:
        yield
    except Corrupt as error:
        told = naming_the_whole(store, cid, error)
        if told is error:
            raise
        raise told from error


def naming_the_whole(store: Store, cid: CollectionId, error: Corrupt) -> Corrupt:
    """``error``, with the newest version that does not need the damaged object in its hint; as it is where no object is named."""
    if error.key is None or isinstance(error, Explained):
        return error
    try:
        version = newest_without(store, cid, error.key)
    except ChromalithError:
        return error  # the store can't even say that
    return Explained(error.message, hint=hint_for(error.key, version), key=error.key)


def hint_for(key: str, version: int | None, name: str = "COLLECTION") -> str:
    """What to do about damage to the object ``key`` of the collection ``name``; ``version`` is the newest that is whole without it."""
    if key.startswith(layout.FOLDED_ROOT):  # a rollback keeps the folded set: it needs the object, too
        return _BRING_BACK
    if _is_manifest(key):  # a rollback begins with the current version
        return _BRING_BACK if version is None else f"{_BRING_BACK}; version {version} is whole without it"
    hint = rollback_hint(version, name)
    return hint if _holds_records(key) else f"`chromalith verify {name} --repair` can write it again; or {hint}"


def _is_manifest(key: str) -> bool:
    try:
        layout.parse_manifest_key(key)
    except Invalid:
        return False
    return True


def _holds_records(key: str) -> bool:
    """Whether what is lost with the object can't be made again from others."""
    name = key.rpartition("/")[2]
    return not (name == layout.IDS_FILE or name.startswith(layout.index_file("")) or "/buckets/" in key)
