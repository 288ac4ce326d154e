"""``at=``: a client that reads older versions. Read-only.

A version is found by walking from the pointer through the parents, one small GET each, because only that chain says
what was published: beside it a prefix may hold manifests that lost their race.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from chromalith.coord.pointer import read_current, read_manifest
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store

At = datetime | Mapping[str, int]
"""A moment, for all collections; or versions by collection name: one that is not named is read as it is."""


def check_at(at: object) -> None:
    """Raise ``Invalid`` if ``at`` cannot say when."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise Invalid(
                f"the moment has no time zone at={at.isoformat()}", hint="use datetime(..., tzinfo=timezone.utc)"
            )
        return
    if isinstance(at, Mapping) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in at.values()):
        return
    raise Invalid(f"not a moment and not versions by collection name at={at!r}", hint="give a datetime or {'words': 7}")


def version_number(store: Store, cid: CollectionId, version: int) -> Manifest:
    """The published version of this number. Raises ``NotFound`` if it was swept, or never was."""
    return _walk(store, cid, f"version={version}", lambda manifest: manifest.version <= version, version)


def version_at(store: Store, cid: CollectionId, moment: datetime) -> Manifest:
    """The version that was current at ``moment``, by its publisher's clock. Raises ``NotFound``."""
    moment_us = round(moment.timestamp() * 1_000_000)
    return _walk(store, cid, f"at={moment.isoformat()}", lambda manifest: manifest.created_us <= moment_us, None)


def _walk(
    store: Store, cid: CollectionId, wanted: str, found: Callable[[Manifest], bool], exactly: int | None
) -> Manifest:
    manifest = read_current(store, cid).manifest
    try:
        while not found(manifest):
            if manifest.parent is None:
                raise NotFound("the first version is newer")
            manifest = read_manifest(store, manifest.parent)
        if exactly is not None and manifest.version != exactly:
            raise NotFound("no such version was published")
    except NotFound as error:
        raise NotFound(
            f"the collection has no such version collection={cid} {wanted}",
            hint="it was swept, or never published: `chromalith snapshot list` shows the versions",
        ) from error
    return manifest
