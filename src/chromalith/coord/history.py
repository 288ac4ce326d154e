"""The published versions of a collection: which manifests are in the chain of the current one.

A lost race leaves a manifest that nothing names, with the version of the one that won. So a listing of manifests is not the history:
where two have the same version, the next version's ``parent`` says which of them was published. From the horizon on
nothing published is ever swept, so the chain has no gap there; below it only tags say what was published
(:mod:`chromalith.coord.tags`): a sweep may have stopped half-way, between a published manifest and its rivals.
"""

from __future__ import annotations

from chromalith.coord.pointer import read_current, read_manifest
from chromalith.errors import Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store


def published_keys(store: Store, cid: CollectionId) -> dict[int, str]:
    """The manifests of the published versions from the horizon on, by version, newest first.

    One LIST, the pointer and its manifest, and one GET more for each version that has rivals.
    """
    by_version: dict[int, list[str]] = {}
    for page in store.list(layout.snapshot_prefix(cid)):
        for entry in page:
            try:
                _, version, _ = layout.parse_manifest_key(entry.key)
            except Invalid:
                continue  # the pointer, a stock snapshot
            by_version.setdefault(version, []).append(entry.key)
    current = read_current(store, cid).manifest
    chain = {current.version: current.key}
    child: Manifest | None = current
    for version in range(current.version - 1, current.horizon - 1, -1):
        keys = by_version.get(version, [])
        if not keys:
            break  # a listing that a sweep with a higher horizon overtook
        if child is None and len(keys) > 1:
            child = read_manifest(store, chain[version + 1])
        key = child.parent if child is not None else keys[0]
        if key is None or key not in keys:
            break
        chain[version], child = key, None
    return chain


def manifest_at(store: Store, cid: CollectionId, version: int) -> Manifest:
    """The manifest of a published version. Raises ``NotFound`` if there is none (any more)."""
    keys = published_keys(store, cid)
    if version not in keys:
        known = f"{min(keys)}..{max(keys)}"
        raise NotFound(f"no such version collection={cid} version={version} stored={known}", hint="see `chromalith snapshot list`")
    return read_manifest(store, keys[version])
