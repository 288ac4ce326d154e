"""The pointer: the one mutable object of a collection's data, and the only gate of its correctness.

Its body is two lines: the key of the current manifest, and a write id that never recurs, so that equal bodies never
recur either (an entity tag may be a hash of the body: with a body that recurs, a stalled publisher could replace a
pointer that only looks like the one it read). A deleted collection's pointer is a tombstone: ``deleted`` in the first
line. No publish can follow it.

Publish, in order:

1. The manifest is written (its key contains the write id; nothing refers to it yet).
2. ``put(pointer, Matches(the tag that the job read))``.
3. Whatever is not a plain success is read back before it is believed. If the pointer names our manifest, we
   published. If it names a later version, the chain of parents says whether ours is in it (someone may have built on
   ours before we looked). If that can't be read, the ending is *unknown*: never guessed.

Three endings, as values: :class:`Published`, :class:`LostRace`, :class:`UnknownEnding`. A crash before 2 leaves a
manifest that
nothing names: garbage.
"""

from __future__ import annotations

from dataclasses import dataclass

from chromalith.clock import Clock
from chromalith.coord.collection_object import CollectionObject
from chromalith.errors import Corrupt, Invalid, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.checksum import Setsum
from chromalith.model.ids import WRITE_ID_DIGITS, CollectionId, JobId
from chromalith.model.invariants import Change, check_publish
from chromalith.model.manifest import Manifest, decode_manifest, encode_manifest
from chromalith.store.port import Absent, ETag, Matches, PreconditionFailed, Store
from chromalith.store.readback import put_resolved

DELETED = "deleted"
_CHAIN_MAX = 64  # parents walked to find out whether ours is among them; each is one GET


@dataclass(frozen=True, slots=True)
class Pointer:
    """The pointer as one read saw it."""

    manifest_key: str
    etag: ETag
    modified_us: int


@dataclass(frozen=True, slots=True)
class Current:
    """A collection's current version: its manifest, under the pointer that named it."""

    pointer: Pointer
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Published:
    """The job's version is in the chain of parents of the current one, or is it."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class LostRace:
    """Someone else published first; nothing of this job is referred to."""


@dataclass(frozen=True, slots=True)
class UnknownEnding:
    """It could not be found out whether the version was published."""

    reason: str


Ending = Published | LostRace | UnknownEnding


def unknown(manifest: Manifest, ending: UnknownEnding, hint: str) -> Unknown:
    """What every publisher raises when nobody can tell whether its version was published; ``hint``: how to look."""
    return Unknown(
        f"it can't be told whether a version was published collection={manifest.collection} version={manifest.version}: {ending.reason}",
        hint=hint,
    )


def parse_pointer(cid: CollectionId, body: bytes, etag: ETag, modified_us: int) -> Pointer:
    """The pointer in ``body``. Raises ``NotFound`` for a tombstone, ``Corrupt`` for anything that is not a pointer."""
    lines = body.decode(errors="replace").splitlines()
    if len(lines) >= 2 and lines[0] == DELETED:
        raise NotFound(f"the collection was deleted collection={cid}")
    try:
        owner, _, write_id = layout.parse_manifest_key(lines[0])
        if owner != cid or lines[1] != write_id:
            raise Invalid("the pointer names another manifest")
    except (IndexError, Invalid) as error:
        raise Corrupt(
            f"not a pointer key={layout.pointer_key(cid)}", hint="`chromalith snapshot list` shows the versions"
        ) from error
    return Pointer(lines[0], etag, modified_us)


def read_pointer(store: Store, cid: CollectionId) -> Pointer:
    """The pointer now. Raises ``Corrupt`` if there is none: an existing collection always has one, it is never taken for empty.

    Raises ``NotFound`` if the collection was deleted.
    """
    key = layout.pointer_key(cid)
    try:
        found = store.get(key)
    except NotFound as error:
        raise _missing(store, cid) from error
    return parse_pointer(cid, found.body, found.etag, found.modified_us)


def _missing(store: Store, cid: CollectionId) -> NotFound | Corrupt:
    """What a missing pointer means: a collection that a sweep has reclaimed after it was deleted, or damage."""
    key = layout.collection_key(cid)
    try:
        gone = CollectionObject.parse(key, store.get(key).body).deleted
    except NotFound:
        gone = True  # it is the last object of a collection that goes
    if gone:
        return NotFound(f"the collection was deleted collection={cid}")
    return Corrupt(
        f"the collection's pointer is missing key={layout.pointer_key(cid)}",
        hint="nothing was changed; `chromalith doctor` says how to put it back",
    )


def read_pointer_if_changed(store: Store, cid: CollectionId, known: Pointer) -> Pointer:
    """The pointer now, by a conditional request: ``known`` itself if it has not changed."""
    key = layout.pointer_key(cid)
    try:
        found = store.get_if_changed(key, known.etag)
    except NotFound as error:
        raise _missing(store, cid) from error
    return known if found is None else parse_pointer(cid, found.body, found.etag, found.modified_us)


def read_manifest(store: Store, key: str) -> Manifest:
    """The manifest that stands at ``key``. Raises ``NotFound`` (swept), ``Corrupt``, ``Invalid`` (newer format)."""
    manifest = decode_manifest(store.get(key).body, key)
    if manifest.key != key:
        raise Corrupt(f"another manifest stands in its place key={key} found={manifest.key}", key=key)
    return manifest


def read_current(store: Store, cid: CollectionId, *, attempts: int = 5) -> Current:
    """The current version. A manifest that is gone when it is read was swept meanwhile: the pointer is read again."""
    missing = ""
    for _ in range(attempts):
        pointer = read_pointer(store, cid)
        try:
            return Current(pointer, read_manifest(store, pointer.manifest_key))
        except NotFound:
            missing = pointer.manifest_key
    raise Corrupt(
        f"the current manifest is missing key={missing}",
        hint="`chromalith snapshot list` shows the versions that are whole",
        key=missing,
    )


def pointer_body(manifest: Manifest) -> bytes:
    """The pointer's two lines."""
    return f"{manifest.key}\n{manifest.write_id}\n".encode()


def publish(
    store: Store, clock: Clock, parent: Current, child: Manifest, change: Change, *, restored: Manifest | None = None
) -> Ending:
    """Make ``child`` the current version if ``parent`` still is. See the module's docstring for the order and the
    endings.

    ``restored``: for a restore, the retained version whose objects it names again. They are older than the boundary may be; the
    caller has seen, after it read ``parent``, that the version is retained (:mod:`chromalith.compaction.restore`).

    Raises ``Bug`` before anything is written if ``child`` breaks an invariant.
    """
    check_publish(parent.manifest, child, change)
    known = named_jobs(parent.manifest) | (named_jobs(restored) if restored is not None else set())
    if any(job.base < parent.manifest.boundary for job in named_jobs(child) - known):
        return LostRace()  # without this, a stalled job could name objects that the sweep has deleted as orphans
    try:
        put_resolved(store, child.key, encode_manifest(child), Absent(), clock=clock)
    except Unknown as error:  # nothing refers to it: whatever became of it, the version was not published
        raise Unavailable(f"a manifest could not be written key={child.key}", hint="try again") from error
    key = layout.pointer_key(child.collection)
    try:
        put_resolved(store, key, pointer_body(child), Matches(parent.pointer.etag), clock=clock)
    except PreconditionFailed:
        return _look(store, child)
    except Unknown as error:
        return UnknownEnding(str(error))
    return Published(child)


def named_jobs(manifest: Manifest) -> set[JobId]:
    """The objects that a version names, by the names of the jobs that wrote them."""
    named = {segment.id for segment in manifest.segments}
    named |= {segment.deletes.id for segment in manifest.segments if segment.deletes is not None}
    named |= {part.id for part in manifest.folded_parts} | {each.id for each in manifest.aside}
    return named | ({manifest.buckets.id} if manifest.buckets is not None else set())


def _look(store: Store, child: Manifest) -> Ending:
    """Whether ``child`` is in the chain that the pointer names now."""
    try:
        key: str | None = read_pointer(store, child.collection).manifest_key
    except NotFound:  # a tombstone: no version is current any more
        return LostRace()
    except (Unavailable, Corrupt, Invalid) as error:
        return UnknownEnding(str(error))
    try:
        for _ in range(_CHAIN_MAX):
            if key is None:
                return LostRace()
            _, version, _ = layout.parse_manifest_key(key)
            if key == child.key:
                return Published(child)
            if version <= child.version:
                return LostRace()
            key = read_manifest(store, key).parent
        return UnknownEnding("the chain of parents is too long to be walked")
    except (NotFound, Unavailable, Corrupt, Invalid) as error:  # NotFound: a parent that was swept
        return UnknownEnding(str(error))


def publish_version_zero(store: Store, cid: CollectionId, clock: Clock) -> Manifest:
    """Publish the empty version 0 of a collection that is being created, before any name leads to it."""
    manifest = Manifest(
        collection=cid,
        version=0,
        parent=None,
        write_id=clock.random_hex(WRITE_ID_DIGITS),
        kind="create",
        created_us=clock.now_us(),
        boundary=0,
        horizon=0,
        next_seq=1,
        dimension=None,
        segments=(),
        content=Setsum(),
        embedding=Setsum(),
    )
    publish_first(store, clock, manifest)
    return manifest


def publish_first(store: Store, clock: Clock, manifest: Manifest) -> None:
    """Publish a collection's version 0, before any name leads to it: manifest first, pointer last."""
    put_resolved(store, manifest.key, encode_manifest(manifest), Absent(), clock=clock)
    put_resolved(store, layout.pointer_key(manifest.collection), pointer_body(manifest), Absent(), clock=clock)


def tombstone_pointer(store: Store, cid: CollectionId, clock: Clock, *, attempts: int = 32) -> None:
    """End a deleted collection's chain: no reader opens it, no publisher can extend it. Does nothing if it already ended."""
    key = layout.pointer_key(cid)
    body = f"{DELETED}\n{clock.random_hex(WRITE_ID_DIGITS)}\n".encode()
    for _ in range(attempts):
        try:
            pointer = read_pointer(store, cid)
        except NotFound:
            return
        try:
            put_resolved(store, key, body, Matches(pointer.etag), clock=clock)
        except PreconditionFailed:
            continue  # a compactor published between the read and the write
        return
    raise Unavailable(
        f"the pointer kept changing while the collection was being deleted collection={cid}", hint="delete it again"
    )
