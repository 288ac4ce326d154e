"""``at=``: what a client that reads older versions may be given, and which version was current at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from chromalith.coord.history import published_keys
from chromalith.coord.pointer import read_manifest
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


def version_at(store: Store, cid: CollectionId, moment: datetime) -> Manifest:
    """The version that was current at ``moment``, by the store's date when its job began.

    One LIST, and a small GET for each version that is newer. Raises ``NotFound`` if every stored version is newer.
    """
    moment_us = round(moment.timestamp() * 1_000_000)
    for key in published_keys(store, cid).values():
        manifest = read_manifest(store, key)
        if manifest.created_us <= moment_us:
            return manifest
    raise NotFound(
        f"no stored version is that old collection={cid} at={moment.isoformat()}",
        hint="`chromalith snapshot list` shows the versions",
    )
