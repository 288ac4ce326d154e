"""The published versions of a collection: which manifests are in the chain of the current one, and which of them can be read.

A lost race leaves a manifest that nothing names, with the version of the one that won. So a listing of manifests is not the history:
where two have the same version, the next version's ``parent`` says which of them was published. From the horizon on
nothing published is ever swept, so the chain has no gap there; below it only tags say what was published
(:mod:`chromalith.coord.tags`): a sweep may have stopped half-way, between a published manifest and its rivals.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from chromalith.coord.pointer import read_current, read_manifest, read_pointer_if_changed
from chromalith.coord.tags import Tag, find_tag, list_tags
from chromalith.errors import Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store

Moment = datetime | str | int
"""When, of one collection: a moment with a time zone, a tag, or the number of a version."""

_SEE = "`chromalith snapshot list` shows the versions"


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that can be read.

    Attributes:
        version, key: which, and its manifest's key.
        tags: those that hold and name it, by name.
        by_tag: whether it is below the horizon: it goes with the last of its tags.
    """

    version: int
    key: str
    tags: tuple[str, ...]
    by_tag: bool


def moment_of(store: Store, cid: CollectionId, text: str) -> Moment:
    """What ``text`` means. Digits are a version; of what could be a tag or a time, a tag that exists comes first.

    Raises ``Invalid`` for a time without a time zone.
    """
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    with suppress(NotFound):
        return find_tag(store, cid, text).name
    if found.tzinfo is None:
        raise Invalid(f"the time has no time zone at={text}", hint="write 2026-01-31T12:00:00Z, or +01:00 in place of the Z")
    return found


def published_keys(store: Store, cid: CollectionId) -> dict[int, str]:
    """The manifests of the published versions from the horizon on, by version, newest first.

    The pointer and its manifest, one LIST, one conditional GET of the pointer, and one GET more for each version that has rivals. The
    pointer comes *first*: a version that is published between the two is left out. The other way round it would have parents that the
    listing does not show, and the history would seem to end with it. And once more *after* the listing, for the horizon: below one that a
    sweep published meanwhile, a lost race's manifest may be the only one of its version that is left, and would be taken for history.
    """
    found = read_current(store, cid)
    current = found.manifest
    by_version: dict[int, list[str]] = {}
    for page in store.list(layout.snapshot_prefix(cid)):
        for entry in page:
            try:
                _, version, _ = layout.parse_manifest_key(entry.key)
            except Invalid:
                continue  # the pointer, a stock snapshot
            by_version.setdefault(version, []).append(entry.key)
    moved = read_pointer_if_changed(store, cid, found.pointer) is not found.pointer
    horizon = read_current(store, cid).manifest.horizon if moved else current.horizon
    chain = {current.version: current.key}
    child: Manifest | None = current
    for version in range(current.version - 1, horizon - 1, -1):
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


def kept_versions(store: Store, cid: CollectionId) -> list[Kept]:
    """Every version that can be read, newest first: the chain from the horizon on, and below it what tags hold."""
    chain = published_keys(store, cid)
    names = _by_key(list_tags(store, cid))
    found = [Kept(version, key, names.pop(key, ()), False) for version, key in chain.items()]
    tagged = [Kept(layout.parse_manifest_key(key)[1], key, tags, True) for key, tags in names.items()]
    return sorted(found + tagged, key=lambda kept: kept.version, reverse=True)


def manifest_at(store: Store, cid: CollectionId, version: int) -> Manifest:
    """The manifest of a published version. Raises ``NotFound`` if there is none (any more), with the oldest that is kept."""
    keys = published_keys(store, cid)
    key = keys.get(version)
    if key is None and version < min(keys):
        key = next((tag.manifest for tag in list_tags(store, cid) if tag.held and tag.version == version), None)
    if key is None:
        raise NotFound(
            f"no such version collection={cid} version={version} stored={min(keys)}..{max(keys)}",
            hint=f"the oldest that is kept is version {min(keys)}, but for tags; {_SEE}",
        )
    return _read(store, cid, key)


def version_at(store: Store, cid: CollectionId, moment: datetime) -> Manifest:
    """The version that was current at ``moment``, by the store's date when its job began.

    One LIST, and a small GET for each version that is newer. Raises ``NotFound`` if every version that is kept is newer.
    """
    moment_us = round(moment.timestamp() * 1_000_000)
    keys = published_keys(store, cid)
    for key in keys.values():
        manifest = _read(store, cid, key)
        if manifest.created_us <= moment_us:
            return manifest
    raise NotFound(
        f"no version that is kept is that old collection={cid} at={moment.isoformat()}",
        hint=f"the oldest that is kept is version {min(keys)}, but for tags; {_SEE}",
    )


def tagged_version(store: Store, cid: CollectionId, name: str) -> Manifest:
    """The version that a tag names. Raises ``NotFound``."""
    tag = find_tag(store, cid, name)
    return _read(store, cid, tag.manifest or "")


def version_of(store: Store, cid: CollectionId, when: Moment) -> Manifest:
    """The version that ``when`` names. Raises ``NotFound``."""
    if isinstance(when, datetime):
        return version_at(store, cid, when)
    return tagged_version(store, cid, when) if isinstance(when, str) else manifest_at(store, cid, when)


def was_swept(store: Store, manifest: Manifest) -> NotFound:
    """What to raise where a version that was opened turns out to have been swept."""
    cid = manifest.collection
    oldest = min(published_keys(store, cid))
    return NotFound(
        f"the version was swept collection={cid} version={manifest.version}",
        hint=f"the oldest that is kept is version {oldest}, but for tags; `chromalith snapshot tag` keeps one for good",
    )


def _read(store: Store, cid: CollectionId, key: str) -> Manifest:
    try:
        return read_manifest(store, key)
    except NotFound as error:  # between the listing and now
        oldest = min(published_keys(store, cid))
        raise NotFound(
            f"the version was swept meanwhile collection={cid} manifest={key}",
            hint=f"the oldest that is kept is version {oldest}, but for tags; {_SEE}",
        ) from error


def _by_key(tags: list[Tag]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for tag in sorted(tags, key=lambda tag: tag.name):
        if tag.held and tag.manifest is not None:
            found[tag.manifest] = (*found.get(tag.manifest, ()), tag.name)
    return found
