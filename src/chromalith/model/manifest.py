"""A manifest: everything that one version of a collection consists of. Immutable; the pointer names the current one.

The body is JSON; its last field is SHA-256 of the rest in canonical form, so that an altered manifest is told from a valid one
before anything in it is believed. Fields are listed in ``docs/format.md``.
"""
# house: long file because each field stands three times, as a value, written and read, and these are best compared in one place

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from chromalith.errors import Corrupt, Invalid
from chromalith.model import manifest_fields as fields
from chromalith.model.checksum import Setsum
from chromalith.model.folded import FoldedSet
from chromalith.model.ids import CollectionId, JobId, collection_id
from chromalith.model.layout import (
    IDS_FILE,
    RECORDS_FILE,
    buckets_key,
    deletes_key,
    folded_key,
    index_file,
    manifest_key,
    parse_manifest_key,
    segment_file_key,
)

FORMAT = 2
"""1: without ``folded_parts``, ``aside`` and ``buckets`` (it is still read: they are empty then)."""


_HINT = "`chromalith snapshot list` shows the versions that are whole"

TAIL_BYTES = 64 * 2**10
"""An object up to this size is read whole; of a larger one, parts. It is the footer of a segment of a hundred row groups."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """An immutable object by what it must contain.

    Attributes:
        size, sha256: of the whole body.
        tail: of a Parquet file of which parts are read: its last bytes, the whole footer among them. The pages have checksums of
            their own, the footer has none. Without this, altered statistics could hide a row group from a lookup, and a fold would
            write a second record of an id that is there. ``None`` where an older release wrote the object.
    """

    size: int
    sha256: str
    tail: FileRef | None = None

    @classmethod
    def of(cls, body: bytes) -> FileRef:
        return cls(len(body), hashlib.sha256(body).hexdigest())

    @classmethod
    def of_parquet(cls, body: bytes) -> FileRef:
        """As :meth:`of`; with the tail, if the file is one of which parts are read."""
        if len(body) <= TAIL_BYTES:
            return cls.of(body)
        footer = int.from_bytes(body[-8:-4], "little") + 8  # the footer, its length, and Parquet's magic number
        return replace(cls.of(body), tail=cls.of(body[-max(footer, TAIL_BYTES) :]))

    def holds(self, body: bytes) -> bool:
        """Whether ``body`` is what the object must contain."""
        return len(body) == self.size and hashlib.sha256(body).hexdigest() == self.sha256


@dataclass(frozen=True, slots=True)
class DeletesRef:
    """The deletes object of a segment: how many of its rows are dead, and in which object that is written."""

    id: JobId
    rows: int
    file: FileRef


@dataclass(frozen=True, slots=True)
class IndexRef:
    """A segment's vector index: what built it (so that another library's file is not misread), and its file."""

    kind: str
    library: str
    config: dict[str, Any]
    file: FileRef


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a version.

    Attributes:
        id: its name; ``id.base`` is the version that the job read which wrote it.
        rows: all rows, dead ones too.
        files: ``records.parquet`` and ``ids.parquet``.
        deletes: the dead rows, or ``None`` for none.
        index: or ``None``: searched by an exact scan.
        id_min, id_max: the least and greatest id, by code points.
        content, embedding: checksums of the live rows.
    """

    id: JobId
    rows: int
    files: dict[str, FileRef]
    deletes: DeletesRef | None
    index: IndexRef | None
    id_min: str
    id_max: str
    content: Setsum
    embedding: Setsum

    @property
    def live(self) -> int:
        return self.rows - (0 if self.deletes is None else self.deletes.rows)

    @property
    def bytes(self) -> int:
        """The size of its objects, the index included."""
        extra = (0 if self.deletes is None else self.deletes.file.size) + (0 if self.index is None else self.index.file.size)
        return sum(file.size for file in self.files.values()) + extra

    def objects(self, cid: CollectionId) -> dict[str, FileRef]:
        """Every object of this segment by key."""
        named = {segment_file_key(cid, self.id, name): file for name, file in self.files.items()}
        if self.index is not None:
            named[segment_file_key(cid, self.id, index_file(self.index.kind))] = self.index.file
        if self.deletes is not None:
            named[deletes_key(cid, self.id, self.deletes.id)] = self.deletes.file
        return named


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A delta that could not be read: kept, not applied, blocking nothing."""

    delta: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoldedPartRef:
    """An older part of the folded set, in an immutable object of its own (:mod:`chromalith.model.folded`).

    Attributes:
        id: its name; ``id.base`` is the version that the job read which wrote it.
        intervals: how many it holds.
        version: the latest version that folded any of its deltas: what the prompt sweep measures its grace by.
        day: the latest day (since 1970, the store's date) of a fold in it: the whole part may expire 30 days later.
        file: its size and hash.
    """

    id: JobId
    intervals: int
    version: int
    day: int
    file: FileRef


@dataclass(frozen=True, slots=True)
class AsideRef:
    """What one restore set aside: copies under ``quarantine/<cid>/aside/<id>/``, kept until they are dropped on purpose."""

    id: JobId
    deltas: int


@dataclass(frozen=True, slots=True)
class BucketsRef:
    """The sidecar with the checksums of all live records by bucket of hashed id, so that two sides that differ find where."""

    id: JobId
    file: FileRef


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a collection.

    Attributes:
        version: 0 for the empty one that creating publishes; each next is one more than its parent's.
        parent: the parent manifest's key, ``None`` for version 0.
        write_id: chance; makes the key and the pointer's body unique.
        kind: which job published it: ``create``, ``fold``, ``merge``, ``sweep``, ``restore``.
        created_us: the store's date at the start of the job.
        boundary: jobs that read an earlier version must start again.
        horizon: earlier versions may have been swept.
        next_seq: the sequence number of the next insertion.
        dimension: of the embeddings, ``None`` while there are none.
        content, embedding: checksums of all live records.
        folded: the recent part of the folded set; the older ones are in ``folded_parts``, oldest first.
        aside: the restores whose set-aside deltas are kept.
        restores: the latest restores, as (version, the version that it restored), ascending: what the records of a version come
            from (:mod:`chromalith.model.lineage`).
        buckets: the sidecar of checksums by bucket; ``None`` for a version without segments, or of format 1.
        published: when recent versions were published, as (version, the store's time of their pointer): what the prompt
            sweep measures its grace by. Ascending, the parent last.
    """

    collection: CollectionId
    version: int
    parent: str | None
    write_id: str
    kind: str
    created_us: int
    boundary: int
    horizon: int
    next_seq: int
    dimension: int | None
    segments: tuple[Segment, ...]
    content: Setsum
    embedding: Setsum
    quarantined: tuple[Quarantined, ...] = ()
    folded: FoldedSet = field(default_factory=FoldedSet)
    published: tuple[tuple[int, int], ...] = ()
    folded_parts: tuple[FoldedPartRef, ...] = ()
    aside: tuple[AsideRef, ...] = ()
    buckets: BucketsRef | None = None
    restores: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> str:
        return manifest_key(self.collection, self.version, self.write_id)

    @property
    def live(self) -> int:
        """The number of live records."""
        return sum(segment.live for segment in self.segments)

    @property
    def bytes(self) -> int:
        """The size of its segments' objects."""
        return sum(segment.bytes for segment in self.segments)

    @property
    def objects(self) -> dict[str, FileRef]:
        """Every object that this version needs, by key; the manifest itself and deltas that were set aside are not among them."""
        cid = self.collection
        named = {key: file for segment in self.segments for key, file in segment.objects(cid).items()}
        named |= {folded_key(cid, part.id): part.file for part in self.folded_parts}
        if self.buckets is not None:
            named[buckets_key(cid, self.buckets.id)] = self.buckets.file
        return named


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _file(file: FileRef) -> dict[str, Any]:
    plain = {"size": file.size, "sha256": file.sha256}
    return plain if file.tail is None else {**plain, "tail": _file(file.tail)}


def _parse_file(value: Any) -> FileRef:
    file = fields.mapping(value)
    tail = file.get("tail")
    return FileRef(
        fields.number(file["size"], fields.SIZE_MAX), fields.sha256(file["sha256"]), None if tail is None else _parse_tail(tail)
    )


def _parse_tail(value: Any) -> FileRef:
    return FileRef(fields.number(value["size"], fields.SIZE_MAX), fields.sha256(value["sha256"]))


def _segment(segment: Segment) -> dict[str, Any]:
    deletes, index = segment.deletes, segment.index
    return {
        "id": str(segment.id),
        "rows": segment.rows,
        "live": segment.live,
        "bytes": segment.bytes,
        "files": {name: _file(file) for name, file in segment.files.items()},
        "deletes": deletes and {"id": str(deletes.id), "rows": deletes.rows, "file": _file(deletes.file)},
        "index": index
        and {"kind": index.kind, "library": index.library, "config": index.config, "file": _file(index.file)},
        "id_min": segment.id_min,
        "id_max": segment.id_max,
        "content": str(segment.content),
        "embedding": str(segment.embedding),
    }


def _parse_segment(value: Any) -> Segment:
    deletes, index = value["deletes"], value["index"]
    segment = Segment(
        id=JobId.parse(value["id"]),
        rows=fields.number(value["rows"], fields.ROWS_MAX),
        files={name: _parse_file(value["files"][name]) for name in (RECORDS_FILE, IDS_FILE)},
        deletes=None if deletes is None else _parse_deletes(deletes),
        index=None if index is None else _parse_index(index),
        id_min=fields.text(value["id_min"]),
        id_max=fields.text(value["id_max"]),
        content=Setsum.parse(value["content"]),
        embedding=Setsum.parse(value["embedding"]),
    )
    if segment.live < 0:
        raise ValueError(f"more dead rows than rows segment={segment.id}")
    return segment


def _parse_deletes(value: Any) -> DeletesRef:
    return DeletesRef(JobId.parse(value["id"]), fields.number(value["rows"], fields.ROWS_MAX), _parse_file(value["file"]))


def _parse_index(value: Any) -> IndexRef:
    config = dict(fields.mapping(value["config"]))
    return IndexRef(fields.kind(value["kind"]), fields.text(value["library"]), config, _parse_file(value["file"]))


def _parse_part(value: Any) -> FoldedPartRef:
    intervals, version, day = (fields.number(value[name]) for name in ("intervals", "version", "day"))
    return FoldedPartRef(JobId.parse(value["id"]), intervals, version, day, _parse_file(value["file"]))


def encode_manifest(manifest: Manifest) -> bytes:
    """The body of a manifest."""
    value = {
        "format": FORMAT,
        "collection": manifest.collection,
        "version": manifest.version,
        "parent": manifest.parent,
        "write_id": manifest.write_id,
        "kind": manifest.kind,
        "created_us": manifest.created_us,
        "boundary": manifest.boundary,
        "horizon": manifest.horizon,
        "next_seq": manifest.next_seq,
        "dimension": manifest.dimension,
        "segments": [_segment(segment) for segment in manifest.segments],
        "live": manifest.live,
        "bytes": manifest.bytes,
        "content": str(manifest.content),
        "embedding": str(manifest.embedding),
        "quarantined": [{"delta": q.delta, "reason": q.reason} for q in manifest.quarantined],
        "folded": manifest.folded.to_json(),
        "published": [list(item) for item in manifest.published],
        "folded_parts": [
            {"id": str(part.id), "intervals": part.intervals, "version": part.version, "day": part.day, "file": _file(part.file)}
            for part in manifest.folded_parts
        ],
        "aside": [{"id": str(each.id), "deltas": each.deltas} for each in manifest.aside],
        "restores": [list(item) for item in manifest.restores],
        "buckets": manifest.buckets and {"id": str(manifest.buckets.id), "file": _file(manifest.buckets.file)},
    }
    return _canonical({**value, "sha256": hashlib.sha256(_canonical(value)).hexdigest()})


def decode_manifest(body: bytes, key: str) -> Manifest:
    """The manifest in ``body``. Raises ``Corrupt`` if it was altered or cut, ``Invalid`` if its format is newer."""
    try:
        value = json.loads(body)
        stated = value.pop("sha256")
        version = value["format"]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise Corrupt(f"not a manifest key={key}", hint=_HINT, key=key) from error
    if type(version) is not int or version < 1:
        raise Corrupt(f"a manifest names no format key={key}", hint=_HINT, key=key)
    if version > FORMAT:
        raise Invalid(f"a manifest has a newer format key={key} format={version} known={FORMAT}", hint="upgrade chromalith on this machine")
    try:
        if hashlib.sha256(_canonical(value)).hexdigest() != stated:
            raise Corrupt(f"a manifest was altered key={key}", hint=_HINT, key=key)
        return _parse(value)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError) as error:  # Invalid is a ValueError
        raise Corrupt(f"a manifest has a field that can't be: {error} key={key}", hint=_HINT, key=key) from error


def _parse(value: dict[str, Any]) -> Manifest:
    """From decoded JSON. Raises one of the errors that :func:`decode_manifest` catches."""
    dimension, parent, buckets = value["dimension"], value["parent"], value.get("buckets")
    manifest = Manifest(
        collection=collection_id(value["collection"]),
        version=fields.number(value["version"]),
        parent=parent,
        write_id=fields.write_id(value["write_id"]),
        kind=fields.kind(value["kind"]),
        created_us=fields.number(value["created_us"]),
        boundary=fields.number(value["boundary"]),
        horizon=fields.number(value["horizon"]),
        next_seq=fields.number(value["next_seq"]),
        dimension=None if dimension is None else fields.number(dimension),
        segments=tuple(_parse_segment(segment) for segment in fields.entries(value["segments"])),
        content=Setsum.parse(value["content"]),
        embedding=Setsum.parse(value["embedding"]),
        quarantined=tuple(
            Quarantined(fields.text(q["delta"]), fields.text(q["reason"])) for q in fields.entries(value["quarantined"])
        ),
        folded=FoldedSet.from_json(fields.folded_runs(value["folded"])),
        published=tuple(fields.pair(item) for item in fields.entries(value["published"])),
        folded_parts=tuple(_parse_part(part) for part in fields.entries(value.get("folded_parts", []))),
        aside=tuple(
            AsideRef(JobId.parse(each["id"]), fields.number(each["deltas"])) for each in fields.entries(value.get("aside", []))
        ),
        buckets=None if buckets is None else BucketsRef(JobId.parse(buckets["id"]), _parse_file(buckets["file"])),
        restores=tuple(fields.pair(item) for item in fields.entries(value.get("restores", []))),
    )
    if parent is not None and parse_manifest_key(fields.text(parent))[:2] != (manifest.collection, manifest.version - 1):
        raise ValueError(f"the parent is not of the version before parent={parent}")
    if sum(segment.rows for segment in manifest.segments) > fields.ROWS_MAX:
        raise ValueError(f"more rows than a version has limit={fields.ROWS_MAX}")
    return manifest
