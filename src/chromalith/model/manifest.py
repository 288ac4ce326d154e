"""A manifest: everything that one version of a collection consists of. Immutable; the pointer names the current one.

The body is JSON; its last field is SHA-256 of the rest in canonical form, so that an altered manifest is told from a valid one
before anything in it is believed. Fields are listed in ``docs/format.md``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from chromalith.errors import Corrupt, Invalid
from chromalith.model.checksum import Setsum
from chromalith.model.folded import FoldedSet
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.layout import deletes_key, index_file, manifest_key, segment_file_key

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileRef:
    """An immutable object by what it must contain."""

    size: int
    sha256: str

    @classmethod
    def of(cls, body: bytes) -> FileRef:
        return cls(len(body), hashlib.sha256(body).hexdigest())

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

    @property
    def key(self) -> str:
        return manifest_key(self.collection, self.version, self.write_id)

    @property
    def live(self) -> int:
        """The number of live records."""
        return sum(segment.live for segment in self.segments)

    @property
    def bytes(self) -> int:
        """The size of all objects that this version needs."""
        return sum(segment.bytes for segment in self.segments)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _file(file: FileRef) -> dict[str, Any]:
    return {"size": file.size, "sha256": file.sha256}


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


def _parse_segment(value: dict[str, Any]) -> Segment:
    deletes, index = value["deletes"], value["index"]
    return Segment(
        id=JobId.parse(value["id"]),
        rows=value["rows"],
        files={name: FileRef(**file) for name, file in value["files"].items()},
        deletes=deletes and DeletesRef(JobId.parse(deletes["id"]), deletes["rows"], FileRef(**deletes["file"])),
        index=index and IndexRef(index["kind"], index["library"], index["config"], FileRef(**index["file"])),
        id_min=value["id_min"],
        id_max=value["id_max"],
        content=Setsum.parse(value["content"]),
        embedding=Setsum.parse(value["embedding"]),
    )


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
    }
    return _canonical({**value, "sha256": hashlib.sha256(_canonical(value)).hexdigest()})


def decode_manifest(body: bytes, key: str) -> Manifest:
    """The manifest in ``body``. Raises ``Corrupt`` if it was altered or cut, ``Invalid`` if its format is newer."""
    try:
        value = json.loads(body)
        stated = value.pop("sha256")
        version = value["format"]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Corrupt(f"not a manifest key={key}", hint="`chromalith snapshot list` shows the versions that are whole") from error
    if isinstance(version, int) and version > FORMAT:
        raise Invalid(f"a manifest has a newer format key={key} format={version} known={FORMAT}", hint="upgrade chromalith on this machine")
    if hashlib.sha256(_canonical(value)).hexdigest() != stated:
        raise Corrupt(f"a manifest was altered key={key}", hint="`chromalith snapshot list` shows the versions that are whole")
    return Manifest(
        collection=CollectionId(value["collection"]),
        version=value["version"],
        parent=value["parent"],
        write_id=value["write_id"],
        kind=value["kind"],
        created_us=value["created_us"],
        boundary=value["boundary"],
        horizon=value["horizon"],
        next_seq=value["next_seq"],
        dimension=value["dimension"],
        segments=tuple(_parse_segment(segment) for segment in value["segments"]),
        content=Setsum.parse(value["content"]),
        embedding=Setsum.parse(value["embedding"]),
        quarantined=tuple(Quarantined(**q) for q in value["quarantined"]),
        folded=FoldedSet.from_json(value["folded"]),
        published=tuple((v, us) for v, us in value["published"]),
    )
