"""What a version holds, decoded from the stored bytes that its manifest names, and checked against what the manifest says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.model import layout
from chromalith.model.checksum import Setsum, content_digest, embedding_digest
from chromalith.model.manifest import FileRef, Manifest, Segment
from chromalith.store.port import Object
from chromalith.testing.reference import Contents, Row

Objects = Mapping[str, Object]


class Broken(AssertionError):
    """Stored bytes are not what names them says."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A segment's rows, dead ones too, with their digests."""

    rows: tuple[tuple[str, Row], ...]
    content: tuple[bytes, ...]
    embedding: tuple[bytes, ...]


class Stored:
    """Decodes versions; what is immutable is decoded once. Args: ``objects``, everything that is in the store now."""

    def __init__(self, objects: Callable[[], Objects]) -> None:
        self._objects = objects
        self._segments: dict[str, _Rows] = {}
        self._deletes: dict[str, frozenset[int]] = {}
        self._whole: set[tuple[str, str]] = set()

    def learn(self, other: Stored) -> None:
        """Take over what another decoder has decoded: the same keys are the same objects."""
        self._segments.update(other._segments)
        self._deletes.update(other._deletes)
        self._whole.update(other._whole)

    def contents(self, manifest: Manifest) -> Contents:
        """What the version holds. Raises ``Broken`` for I1, I4, I5, I6 and I7 (all of them by reading everything)."""
        for key, ref in manifest.objects.items():
            self._check(key, ref)
        rows: dict[str, Row] = {}
        content, embedding = Setsum(), Setsum()
        for segment in manifest.segments:
            found = self._rows(manifest, segment)
            dead = self._dead(manifest, segment)
            live = [at for at in range(len(found.rows)) if at not in dead]
            if len(found.rows) != segment.rows or len(live) != segment.live or max(dead, default=-1) >= segment.rows:
                raise Broken(f"I6: rows segment={segment.id} rows={len(found.rows)} live={len(live)} stated={segment.rows}/{segment.live}")
            sums = _setsum([found.content[at] for at in live]), _setsum([found.embedding[at] for at in live])
            if sums != (segment.content, segment.embedding):
                raise Broken(f"I4: checksums segment={segment.id}")
            content, embedding = content + sums[0], embedding + sums[1]
            for at in live:
                record_id, row = found.rows[at]
                if record_id in rows:
                    raise Broken(f"I1: an id is live twice id={record_id} version={manifest.version}")
                rows[record_id] = row
        if (content, embedding) != (manifest.content, manifest.embedding):
            raise Broken(f"I4: checksums of the version version={manifest.version}")
        seqs = [row.seq for row in rows.values()]
        if len(set(seqs)) != len(seqs) or max(seqs, default=0) >= manifest.next_seq:
            raise Broken(f"I7: sequence numbers version={manifest.version} seqs={sorted(seqs)} next={manifest.next_seq}")
        return Contents(rows, manifest.next_seq)

    def body(self, key: str) -> bytes:
        """The bytes under a key. Raises ``Broken`` if there are none."""
        found = self._objects().get(key)
        if found is None:
            raise Broken(f"I5: an object that is named does not exist key={key}")
        return found.body

    def _check(self, key: str, ref: FileRef) -> None:
        body = self.body(key)
        if (key, ref.sha256) not in self._whole:
            if len(body) != ref.size or hashlib.sha256(body).hexdigest() != ref.sha256:
                raise Broken(f"I5: an object is not what its manifest says key={key}")
            self._whole.add((key, ref.sha256))

    def _rows(self, manifest: Manifest, segment: Segment) -> _Rows:
        key = layout.segment_file_key(manifest.collection, segment.id, layout.RECORDS_FILE)
        if key not in self._segments:
            self._segments[key] = _decoded(self.body(key))
        return self._segments[key]

    def _dead(self, manifest: Manifest, segment: Segment) -> frozenset[int]:
        if segment.deletes is None:
            return frozenset()
        key = layout.deletes_key(manifest.collection, segment.id, segment.deletes.id)
        if key not in self._deletes:
            table = pq.read_table(pa.BufferReader(self.body(key)), use_threads=False)
            self._deletes[key] = frozenset(table.column("row").to_pylist())
        if len(self._deletes[key]) != segment.deletes.rows:
            raise Broken(f"I6: deletes key={key}")
        return self._deletes[key]


def _decoded(body: bytes) -> _Rows:
    table = pq.read_table(pa.BufferReader(body), use_threads=False)
    rows, content, embedding = [], [], []
    for record in table.to_pylist():
        values = np.asarray(record["embedding"], np.float32)
        metadata = None if record["metadata"] is None else json.loads(record["metadata"])
        row = Row(record["seq"], tuple(values.tolist()), record["document"], record["uri"], metadata)
        rows.append((record["id"], row))
        digests = content_digest(record["id"], row.document, row.uri, metadata), embedding_digest(record["id"], values)
        if digests != (record["content_hash"], record["embedding_hash"]):
            raise Broken(f"I4: a row does not match its hashes id={record['id']}")
        content.append(digests[0])
        embedding.append(digests[1])
    return _Rows(tuple(rows), tuple(content), tuple(embedding))


def _setsum(digests: list[bytes]) -> Setsum:
    return Setsum.of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
