"""What is fuzzed: each decoder of bytes that a store, a disk or a person hands over, with seeds that it accepts.

A target takes any bytes and must end with a value, or with ``Corrupt`` or ``Invalid``. What it returns is then used a little, so that
a value which was believed wrongly fails here and not in a compactor. Where an object carries a hash of itself the target puts
the right one in: a fuzzer cannot guess it, and whoever damages on purpose can compute it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.worlds import World, keys, merging

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.lookup import SegmentLookup
from chromalith.compaction.segment_reader import NO_ROWS
from chromalith.coord.catalog import STORE_FORMAT
from chromalith.coord.collection_object import CollectionObject, check_format
from chromalith.coord.databases import Database, databases_of
from chromalith.coord.lease_table import LeaseRecord
from chromalith.coord.pointer import parse_pointer
from chromalith.coord.register import decode, encode
from chromalith.coord.tags import Tag, put_tag
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.checksum import Setsum
from chromalith.model.delta import decode_delta, encode_delta
from chromalith.model.fold import fold
from chromalith.model.folded import FoldedSet, State
from chromalith.model.folded_part import FoldedPart, decode_part, encode_part
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId, JobId, body_digest
from chromalith.model.manifest import FileRef, Segment, decode_manifest, encode_manifest
from chromalith.model.operation import Op, Operations
from chromalith.model.segment import decode_deletes, encode_deletes, encode_ids, encode_records, segment_table
from chromalith.store.memory import MemoryStore
from chromalith.transfer.bundle import MANIFEST, Bundle
from chromalith.transfer.jsonl import JsonlSource
from chromalith.transfer.parquet import ParquetSource

CID = CollectionId("11111111-2222-4333-8444-555555555555")
DELTA = DeltaId(1, "0" * 32, 7, "0" * 16)
JOB = JobId(0, "a" * 32)
ROWS_MAX = 2_000
"""A target looks at so many records of what it decoded, no more: a fuzzer wants many inputs, not large ones."""
EXPECTED = (Corrupt, Invalid)


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        name: of the corpus folder too.
        kind: how inputs are mutated: ``json``, ``parquet``, ``lines`` or ``bytes``.
        decode: takes any bytes.
        seeds: inputs that it accepts.
    """

    name: str
    kind: str
    decode: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]

    def accepts(self, data: bytes) -> bool:
        """Whether ``data`` was decoded; raises what must not come out."""
        try:
            self.decode(data)
        except EXPECTED:
            return False
        return True


# Inputs that are accepted ----------------------------------------------------------------------------------------------


@cache
def operations() -> Operations:
    ops = [Op.UPSERT, Op.ADD, Op.UPDATE, Op.DELETE, Op.UPSERT]
    metadata = ['{"b":true,"f":1.5,"i":7,"l":["x","y"],"s":"ü"}', None, '{"i":null}', None, "{}"]
    present = np.array([True, True, False, False, True])
    embeddings = np.arange(15, dtype=np.float32).reshape(5, 3)
    return Operations(ops, list("abacd"), embeddings, present, ["one", None, "", None, "δ"], [None, "u", None, None, None], metadata)


@cache
def records() -> pa.Table:
    folded = fold({}, [operations()], 1)
    return segment_table([record for record in folded.records.values() if record is not None])


@cache
def world_objects() -> dict[str, bytes]:
    """One object of each kind that a small collection consists of, as it was really written."""
    with World() as world:
        for number in range(5):
            world.upsert("abc"[: number % 3 + 1], number, metadatas=[{"n": number}] * (number % 3 + 1))
            world.compact(merge=merging().merge)
            world.clock.advance(120)
        put_tag(world.store, world.clock, world.cid, "kept", world.current())
        return {
            key.replace(world.cid, CID): world.store.get(key).body.replace(world.cid.encode(), CID.encode()) for key in keys(world.store)
        }


def _stored(prefix: str, suffix: str = "") -> list[bytes]:
    found = [body for key, body in sorted(world_objects().items()) if key.startswith(prefix) and key.endswith(suffix)]
    assert found, f"the small collection has no {prefix}"
    return found


def _part() -> list[bytes]:
    some = FoldedSet().add([(DELTA, State.FOLDED), (DeltaId(2, "f" * 32, 9, "0" * 16), State.VOID)], version=3, date_us=10**15)
    return [encode_part(FoldedPart.of(some))]


def _export() -> list[bytes]:
    table = records().select(["id", "embedding", "document", "uri", "metadata"])
    vectors, metadata = [[1.0, 2.0], [3.0, 4.0]], [{"a": 1}, {"a": None}]
    plain = pa.table({"_id": [1, 2], "vector": vectors, "metadata": metadata, "text": ["x", None]})
    footer = {
        "format": 1, "name": "n", "configuration": {}, "schema": None, "metadata": None, "version": 1, "content": "0" * 64,
        "embedding": "0" * 64,
    }  # fmt: skip
    return [_parquet(table.replace_schema_metadata({"chromalith.export": json.dumps(footer)})), _parquet(plain)]


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# The decoders ----------------------------------------------------------------------------------------------------------


def _delta(data: bytes) -> None:
    delta = decode_delta(CID, DeltaId(1, "0" * 32, 7, body_digest(data)), data)
    if delta.operations is not None and len(delta.operations) <= ROWS_MAX:
        folded = fold({}, [delta.operations], 1)
        written = [record for record in folded.records.values() if record is not None]
        if written:
            segment_table(written)


def _manifest(data: bytes) -> None:
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        if isinstance(value, dict):  # with the hash that it should have
            value.pop("sha256", None)
            canonical = _canonical(value)
            data = _canonical({**value, "sha256": hashlib.sha256(canonical).hexdigest()})
    manifest = decode_manifest(data, "snapshot/x.json")
    assert manifest.live >= 0
    assert manifest.bytes >= 0
    for key, ref in manifest.objects.items():
        assert ".." not in key
        assert not key.startswith("/")
        assert ref.size >= 0
    assert manifest.key.startswith(f"snapshot/{manifest.collection}/")
    assert decode_manifest(encode_manifest(manifest), manifest.key) == manifest
    manifest.folded.find_all([DELTA])


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _pointer(data: bytes) -> None:
    with suppress(NotFound):  # a tombstone
        pointer = parse_pointer(CID, data, "etag", 0)
        assert layout.parse_manifest_key(pointer.manifest_key)[0] == CID


def _deletes(data: bytes) -> None:
    rows = decode_deletes(data, "deletes")
    assert rows.dtype == np.uint32
    assert bool((rows[1:] > rows[:-1]).all())


def _lookup(name: str) -> Callable[[bytes], None]:
    def look(data: bytes) -> None:
        good = {layout.IDS_FILE: encode_ids(records()), layout.RECORDS_FILE: encode_records(records())}
        store = MemoryStore(SYSTEM_CLOCK)
        bodies = {**good, name: data}
        for each, body in bodies.items():
            store.put(layout.segment_file_key(CID, JOB, each), body)
        files = {each: FileRef.of(body) for each, body in bodies.items()}
        segment = Segment(JOB, records().num_rows, files, None, None, "", "\U0010ffff", Setsum(), Setsum())
        lookup = SegmentLookup(store, CID, 0, segment, NO_ROWS)
        found = lookup.find(["a", "b", "c", "d", "none"])
        for each in found.values():
            assert len(each.content_hash) == 32
        lookup.records([0, records().num_rows - 1])

    return look


def _folded(data: bytes) -> None:
    part = decode_part(data, "folded")
    part.positions([DELTA])
    assert len(encode_part(part)) > 0


def _buckets(data: bytes) -> None:
    buckets = Buckets.decode(data, "buckets")
    assert (buckets - buckets).total() is not None


def _tag(data: bytes) -> None:
    tag = Tag.of("tag", decode("tag", data))
    assert encode(tag.value())


def _collection(data: bytes) -> None:
    collection = CollectionObject.parse("collection", data)
    assert isinstance(collection.space, str)
    assert collection.dimension is None or collection.dimension > 0
    encode(collection.value())


def _database(data: bytes) -> None:
    database = Database.of("catalog", decode("catalog", data))
    for name, cid in database.collections.items():
        assert isinstance(name, str)
        assert layout.collection_key(CollectionId(cid))
    encode(database.value())


def _tenant(data: bytes) -> None:
    for name, each in (databases_of("tenant", decode("tenant", data)) or {}).items():
        assert isinstance(name, str)
        assert isinstance(each, str)


def _store(data: bytes) -> None:
    check_format("store.json", decode("store.json", data), STORE_FORMAT)


def _lease(data: bytes) -> None:
    record = LeaseRecord.decode(data)
    assert 0 <= record.lease_s <= 600
    LeaseRecord.decode(record.encode())


def _hint(data: bytes) -> None:
    hint = Hint.decode(data.decode("utf-8", "replace"))
    assert layout.parse_delta_key(layout.delta_key(hint.collection, hint.delta)) == (hint.collection, hint.delta)
    assert Hint.decode(hint.encode()) == hint


def _file(data: bytes, suffix: str, source: Callable[[Path], Any]) -> None:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        found = source(Path(file.name))
        seen = 0
        assert found.definition.configuration is not None
        _ = found.sums, found.version, found.total()
        for batch in found.batches(100):
            assert batch.embeddings.dtype == np.float32
            seen += len(batch)
            if seen > ROWS_MAX:
                return


def _jsonl(data: bytes) -> None:
    _file(data, ".jsonl", JsonlSource)


def _import(data: bytes) -> None:
    _file(data, ".parquet", ParquetSource)


def _bundle(data: bytes) -> None:
    store = MemoryStore(SYSTEM_CLOCK)
    store.put(f"export/{MANIFEST}", data)
    bundle = Bundle(store, "export")
    for name in bundle.names():
        source = bundle.source(name)
        for _ in source.batches(100):
            break


def _keys(data: bytes) -> None:
    text = data.decode(errors="replace")
    for parse in (
        layout.parse_delta_key,
        layout.parse_manifest_key,
        DeltaId.parse,
        JobId.parse,
        layout.parse_job_key,
        layout.parse_aside_key,
    ):
        with suppress(Invalid):
            parse(text)
    layout.collection_in(text)
    layout.parse_stock_key(text)


def _bundle_seed() -> list[bytes]:
    each = {
        "name": "n", "configuration": {}, "schema": None, "metadata": None, "version": 1, "records": 0, "bytes": 0, "content": "0" * 64,
        "embedding": "0" * 64, "files": [],
    }  # fmt: skip
    return [json.dumps({"format": 1, "kind": "parquet", "collections": [each]}).encode()]


JSONL = (
    b'{"id": "a", "metadata": {"n": 1}, "embedding": [1, 2.5], "text_chunk": "x"}\n'
    b'{"id": "b", "metadata": null, "embedding": [0, 1e-3], "text_chunk": null, "uri": "u"}\n'
)

TENANT = b'{"format":1,"tenant":"t","databases":{"d":"00000000-0000-0000-0000-000000000000"},"write_id":"x"}'

TARGETS = {
    each.name: each
    for each in (
        Target("delta", "parquet", _delta, lambda: [encode_delta(CID, operations()), b"VOID"]),
        Target("manifest", "json", _manifest, lambda: _stored("snapshot/", ".json")[-3:]),
        Target("pointer", "lines", _pointer, lambda: [*_stored("snapshot/", "pointer.txt"), b"deleted\nx\n"]),
        Target("deletes", "parquet", _deletes, lambda: [encode_deletes(np.array([1, 5, 9], np.uint32))]),
        Target("ids", "parquet", _lookup(layout.IDS_FILE), lambda: [encode_ids(records())]),
        Target("records", "parquet", _lookup(layout.RECORDS_FILE), lambda: [encode_records(records())]),
        Target("folded", "parquet", _folded, _part),
        Target("buckets", "bytes", _buckets, lambda: _stored("snapshot/", ".bin")[:1]),
        Target("tag", "json", _tag, lambda: _stored("tag/")),
        Target("collection", "json", _collection, lambda: _stored("collection/")),
        Target("database", "json", _database, lambda: [b for b in _stored("catalog/") if b'"collections"' in b]),
        Target("tenant", "json", _tenant, lambda: [TENANT]),
        Target("store", "json", _store, lambda: _stored("store.json")),
        Target("lease", "json", _lease, lambda: [LeaseRecord("h/1/n", "t", 30.0, "fold", False).encode()]),
        Target("hint", "json", _hint, lambda: [Hint(CID, DELTA, 3, 1_809).encode().encode()]),
        Target("jsonl", "lines", _jsonl, lambda: [JSONL]),
        Target("import", "parquet", _import, _export),
        Target("bundle", "json", _bundle, _bundle_seed),
        Target("keys", "bytes", _keys, lambda: [key.encode() for key in world_objects()][:20]),
    )
}  # fmt: skip
