"""What older releases wrote must still open, and hash to what it hashed to. See ``make_golden.py`` for what is in a golden store."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.format.make_golden import shown
from tests.worlds import NEVER

from chromalith.clock import ManualClock
from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.verify import verify
from chromalith.coord.history import manifest_at, published_keys
from chromalith.model import layout
from chromalith.model.checksum import PRIMES, Setsum, content_digest, embedding_digest
from chromalith.model.delta import encode_delta
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import decode_manifest, encode_manifest
from chromalith.model.operation import Op
from chromalith.model.plan import MergePolicy
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.write.validate import operations

GOLDEN = sorted(Path(__file__).parent.glob("v*"))

CONTENT = [
    (("a", None, None, None), "7799fc9ba31c8ba75bfa212d157fba327d59550fd28dbd1118fe01e9bcb36d44"),
    (("a", "", None, None), "609e892ce3ae2f21387c39f1440e89b627f7420b5a0ec377b9ff12e166ce3d25"),
    (("a", "one", "s3://x", {"k": 1}), "098e7e546d69d2eae6e438c3c89e4bfc7c0494d7fd3c55e2eeba95f8460f24b9"),
    (("a", "one", "s3://x", {"k": 1.0}), "ff3f36fa81f769c1363794fd6c9c31da2927dedcb9da8b5a4ecf272d20c0e9e0"),
    (
        ("ü", "日本", None, {"b": True, "a": "x", "l": [1, 2], "f": [0.5, -0.0], "s": ["", "é"], "t": [False]}),
        "ab578e2e9cb0994c22b2b54628fbea3fbe24e6f7c561aa0c7d722328662d4bb7",
    ),
]
EMBEDDING = [
    (("a", [1.0, 2.0, -0.0]), "c90e3bb8732c7b820e8107adade5c28c95d2f895e731b00d51becc69dd907610"),
    (("ü", [0.1, 0.1]), "ccdcc70bd7ab9531325cd20898e2fd1f60aa52df3fe52a5a4360b6a39a376e29"),
]
SUM_OF_CONTENT = "45c95d94c190dd3225de4594ffabc47bc6f0a1ddd30c162e17f5fc55bb048060"


@pytest.mark.parametrize(("record", "expected"), CONTENT)
def test_content_hashes_to_its_golden_value(record: Any, expected: str) -> None:
    """By the product, and by the format's description written down a second time."""
    assert content_digest(*record).hex() == expected
    record_id, document, uri, metadata = record
    body = b"chromalith content 1\0" + text(record_id) + text(document) + text(uri)
    body += b"\0" if not metadata else b"\1" + struct.pack("<I", len(metadata))
    for key in sorted(metadata or {}, key=lambda name: name.encode()):
        body += text(key)[1:] + typed(metadata[key])
    assert hashlib.sha256(body).hexdigest() == expected


@pytest.mark.parametrize(("record", "expected"), EMBEDDING)
def test_embeddings_hash_to_their_golden_value(record: Any, expected: str) -> None:
    """By the product, and by the format's description written down a second time."""
    record_id, values = record
    assert embedding_digest(record_id, np.array(values, np.float32)).hex() == expected
    body = b"chromalith embedding 1\0" + text(record_id) + struct.pack(f"<I{len(values)}f", len(values), *values)
    assert hashlib.sha256(body).hexdigest() == expected


def test_a_set_sums_to_its_golden_value() -> None:
    """Lane by lane, modulo eight primes: by the product, and with Python's own integers."""
    digests = [bytes.fromhex(expected) for _, expected in CONTENT]
    assert str(Setsum.of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))) == SUM_OF_CONTENT
    lanes = [sum(struct.unpack("<8I", digest)[lane] for digest in digests) % int(PRIMES[lane]) for lane in range(8)]
    assert "".join(f"{lane:08x}" for lane in lanes) == SUM_OF_CONTENT
    assert Setsum.parse(SUM_OF_CONTENT).lanes == tuple(lanes)


def text(value: str | None) -> bytes:
    return b"\0" if value is None else b"\1" + struct.pack("<I", len(value.encode())) + value.encode()


def typed(value: Any) -> bytes:
    kinds: dict[type, tuple[bytes, Any]] = {
        bool: (b"b", lambda v: bytes([v])),
        int: (b"i", lambda v: struct.pack("<q", v)),
        float: (b"f", lambda v: struct.pack("<d", v)),
        str: (b"s", lambda v: text(v)[1:]),
    }
    if isinstance(value, list):
        letter, encode = kinds[type(value[0])]
        return letter.upper() + struct.pack("<I", len(value)) + b"".join(map(encode, value))
    letter, encode = kinds[type(value)]
    return letter + encode(value)


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> tuple[MemoryStore, CollectionId, dict[str, Any]]:
    """A store with the objects of one released format, put in the order of their names."""
    folder: Path = request.param
    store = MemoryStore(ManualClock())
    for path in sorted((folder / "store").rglob("*")):
        if path.is_file():
            store.put(path.relative_to(folder / "store").as_posix(), path.read_bytes())
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return store, CollectionId(expected.pop("collection")), expected


def test_there_is_a_golden_store() -> None:
    """Of the first format at least."""
    assert GOLDEN[0].name == "v1"


def test_a_golden_store_opens(golden: tuple[MemoryStore, CollectionId, dict[str, Any]]) -> None:
    """All its answers are the ones that were given when it was written: across JSON, so that 1 and 1.0 stay apart."""
    store, cid, expected = golden
    with closing(Session(store, clock=ManualClock())) as session:
        assert json.dumps(shown(session.view(cid))) == json.dumps(expected)


def test_a_golden_store_is_whole(golden: tuple[MemoryStore, CollectionId, dict[str, Any]]) -> None:
    """Its hashes, checksums, id tables, deletes and index are what today's code computes, and its history can be read."""
    store, cid, expected = golden
    report = verify(store, cid)
    assert (report.version, report.indexes) == (expected["version"], 1)
    assert sorted(published_keys(store, cid)) == list(range(report.version + 1))
    for version in range(report.version + 1):
        manifest = manifest_at(store, cid, version)
        assert decode_manifest(encode_manifest(manifest), manifest.key) == manifest


def test_a_golden_store_can_be_worked_on(golden: tuple[MemoryStore, CollectionId, dict[str, Any]]) -> None:
    """Its waiting deltas fold, its segments merge, and no record changes."""
    store, cid, expected = golden
    clock = ManualClock(wall_us=1_800_000_000_000_000, seed=1)
    with closing(Session(store, clock=clock)) as session:
        merging = CompactionSettings(merge=MergePolicy(fan_in=2, rows_floor=NEVER))
        outcome = session.compactor(merging).run_once(cid)
        after = shown(session.view(cid))
    assert (outcome.folded, outcome.merged) == (3, 2)
    same = ("ids", "embeddings", "documents", "uris", "metadatas", "nearest")
    assert [after[name] for name in same] == [expected[name] for name in same]
    assert after["overlay"] == []
    verify(store, cid)


def test_a_delta_is_a_function_of_its_operations() -> None:
    """Equal operations are equal bytes, so that a retry puts the same body under the same key."""
    cid = CollectionId("00000000-0000-4000-8000-000000000001")
    batch = [operations(Op.UPSERT, ["a"], [[1.0, 2.0]], ["d"], None, [{"b": 1, "a": None}]) for _ in range(2)]
    first, second = (encode_delta(cid, each) for each in batch)
    assert first == second


def test_keys_of_golden_objects_parse(golden: tuple[MemoryStore, CollectionId, dict[str, Any]]) -> None:
    """Every delta and manifest has a name that parses to what builds it again."""
    store, cid, _ = golden
    for page in store.list(layout.DELTA_ROOT):
        for entry in page:
            owner, delta = layout.parse_delta_key(entry.key)
            assert layout.delta_key(owner, delta) == entry.key
    for key in published_keys(store, cid).values():
        assert layout.manifest_key(*layout.parse_manifest_key(key)) == key
