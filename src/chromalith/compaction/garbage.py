"""What a sweep may delete of one collection, and why: the choosing half. Pure; the other half is :mod:`chromalith.compaction.sweep`.

Three kinds of objects are garbage:

1. *Manifests* below the horizon that no tag protects; and those of lost races: not in the chain, and not above the version that the sweep
   published, so that no publisher can still make them current.
2. *Objects of jobs* that no kept manifest names, whose job read a version below the boundary. Above it, a job may be about to name them.
3. *Stock snapshots* of versions that are not kept, unless ``stock.txt`` names them. No boundary tells whether one is still being
   written, so only a day after their last file.

Whatever has another key is nobody's, or somebody else's: it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.model.ids import JobId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Entry

LEFTOVER_AGE_US = 86_400_000_000
"""A day by the store's date: after it, what nothing names and no boundary protects is taken for what a crash left."""


class Reason(StrEnum):
    """Why an object is garbage. The names are stable: they are in the JSON of ``chromalith sweep``."""

    VERSION = "version"
    """A manifest below the horizon that no tag protects."""
    RIVAL = "rival"
    """A manifest whose publisher lost the race."""
    UNNAMED = "unnamed"
    """No kept version names it: of a version that was swept, or of a job that never published."""
    STOCK = "stock_snapshot"
    """A stock snapshot of a version that is not kept."""
    DELETED_COLLECTION = "deleted_collection"
    """Its collection was deleted at least a day ago."""
    ABANDONED_COLLECTION = "abandoned_collection"
    """Its collection never got a name: who created it crashed at least a day ago."""
    NO_COLLECTION = "no_collection"
    """There is no collection of this id: a write that landed after the collection was gone."""
    PROBE = "probe"
    """A probe of the store that crashed."""
    TEMPORARY = "temporary_file"
    """A temporary file that a killed process left in a directory store."""
    UPLOAD = "unfinished_upload"
    """A multipart upload that nobody finished: it takes space and is in no listing."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """One object that a sweep deletes: its key, its size in bytes, and why."""

    key: str
    size: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a sweep needs to know of a manifest: which it is, and what it names."""

    key: str
    version: int
    parent: str | None
    kind: str
    objects: frozenset[str]
    aside: frozenset[JobId]

    @classmethod
    def of(cls, manifest: Manifest, shared: dict[str, str]) -> Footprint:
        """Of a manifest. ``shared`` holds one copy of each key: versions name much the same objects, and there may be thousands."""
        return cls(
            manifest.key,
            manifest.version,
            manifest.parent,
            manifest.kind,
            frozenset(shared.setdefault(key, key) for key in manifest.objects),
            frozenset(ref.id for ref in manifest.aside),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a sweep keeps.

    Attributes:
        manifests: the keys of the chain from the horizon on, and of protected versions.
        versions: their numbers.
        objects: the keys that they name.
        aside: the restores whose set-aside deltas they name.
    """

    manifests: frozenset[str]
    versions: frozenset[int]
    objects: frozenset[str]
    aside: frozenset[JobId]

    @classmethod
    def of(cls, footprints: Collection[Footprint]) -> Kept:
        """What these versions need."""
        return cls(
            frozenset(each.key for each in footprints),
            frozenset(each.version for each in footprints),
            frozenset().union(*(each.objects for each in footprints)),
            frozenset().union(*(each.aside for each in footprints)),
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Below what a sweep deletes.

    Attributes:
        boundary, horizon: the manifest fields, as published (or as they would be).
        rivals: manifests outside of the chain up to this version are those of lost races.
        stale_us: leftovers must not have been written later than this, by the store's date.
    """

    boundary: int
    horizon: int
    rivals: int
    stale_us: int


def choose(entries: Iterable[Entry], kept: Kept, bounds: Bounds, stock: str | None) -> list[Garbage]:
    """What is garbage among a collection's listed objects; manifests first, ascending by version.

    Args:
        entries: of the collection's segments, folded parts, snapshots and quarantine.
        kept: what the chain and the tags name.
        bounds: below what.
        stock: the prefix that ``stock.txt`` names, or ``None``.
    """
    manifests: list[tuple[int, Garbage]] = []
    objects: list[Garbage] = []
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        job = layout.parse_job_key(entry.key)
        if job is not None:
            if job.base < bounds.boundary and entry.key not in kept.objects and job not in kept.aside:
                objects.append(Garbage(entry.key, entry.size, Reason.UNNAMED))
            continue
        run = layout.parse_stock_key(entry.key)
        if run is not None:
            if run[0] < bounds.horizon and run[0] not in kept.versions and run[1] != stock:
                runs.setdefault(run[1], []).append(entry)
            continue
        version = manifest_version(entry.key)
        if version is not None and entry.key not in kept.manifests:
            if version < bounds.horizon:
                manifests.append((version, Garbage(entry.key, entry.size, Reason.VERSION)))
            elif version <= bounds.rivals:
                manifests.append((version, Garbage(entry.key, entry.size, Reason.RIVAL)))
    for files in runs.values():
        if max(file.modified_us for file in files) <= bounds.stale_us:
            objects += (Garbage(file.key, file.size, Reason.STOCK) for file in files)
    return [each for _, each in sorted(manifests, key=lambda item: item[0])] + objects


def manifest_version(key: str) -> int | None:
    """The version of a manifest by its key; ``None`` for another key."""
    try:
        return layout.parse_manifest_key(key)[1]
    except Invalid:
        return None


def totals(garbage: Sequence[Garbage]) -> Mapping[Reason, tuple[int, int]]:
    """How many objects and bytes by reason, in the order of :class:`Reason`."""
    found: dict[Reason, tuple[int, int]] = {}
    for each in garbage:
        objects, size = found.get(each.reason, (0, 0))
        found[each.reason] = (objects + 1, size + each.size)
    return {reason: found[reason] for reason in Reason if reason in found}
