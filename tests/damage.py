"""Damage for tests to plant, in a world with a short history: in bytes, or in manifests with a right hash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.worlds import World, merging

from chromalith.coord.history import manifest_at
from chromalith.coord.pointer import read_manifest
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.ids import JobId
from chromalith.model.manifest import BucketsRef, FileRef, Manifest, encode_manifest

JOB = JobId(0, "e" * 32)
"""The name of whatever a test writes by hand."""


def prepared() -> World:
    """Versions 0 to 3, each a fold; three segments with an index, the first with dead rows."""
    world = World(settings=merging(index_threshold=2))
    no_merges = World().settings.merge
    for value, ids in enumerate(("abcd", "ae", "fg")):
        world.upsert(ids, value)
        world.compact(merge=no_merges)
    return world


def forge(world: World, manifest: Manifest, **changes: Any) -> Manifest:
    """Put a manifest with other fields in the place of ``manifest``, with a right hash: as a release with a defect would have."""
    forged = replace(manifest, **changes)
    assert forged.key == manifest.key
    world.store.put(manifest.key, encode_manifest(forged))
    return forged


def parent_of(world: World) -> Manifest:
    return read_manifest(world.store, world.current().parent or "")


def file_key(world: World, name: str, position: int = 0) -> str:
    return layout.segment_file_key(world.cid, world.current().segments[position].id, name)


def flip(body: bytes) -> bytes:
    return body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 4]) + body[len(body) // 2 + 1 :]


def with_buckets(world: World, buckets: Buckets) -> str:
    body = buckets.encode()
    key = layout.buckets_key(world.cid, JOB)
    world.store.put(key, body)
    forge(world, world.current(), buckets=BucketsRef(JOB, FileRef.of(body)))
    return key


def stored_buckets(world: World) -> Buckets:
    ref = world.current().buckets
    assert ref is not None
    key = layout.buckets_key(world.cid, ref.id)
    return Buckets.decode(world.store.get(key).body, key)


def file_of(world: World, version: int, name: str) -> str:
    return layout.segment_file_key(world.cid, manifest_at(world.store, world.cid, version).segments[-1].id, name)
