"""A manifest comes back as it was, or is ``Corrupt``: whatever a right hash was put under."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.errors import Corrupt, Invalid
from chromalith.model.checksum import Setsum
from chromalith.model.folded import FoldedSet, Run, State
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.manifest import (
    FORMAT,
    TAIL_BYTES,
    AsideRef,
    BucketsRef,
    DeletesRef,
    FileRef,
    FoldedPartRef,
    IndexRef,
    Manifest,
    Quarantined,
    Segment,
    decode_manifest,
    encode_manifest,
)

CID = CollectionId("00000000-0000-4000-8000-000000000001")
FILE = FileRef(70_000, "a" * 64, FileRef(65_536, "b" * 64))
SMALL = FileRef(10, "c" * 64)
JOB = JobId(3, "d" * 32)
SUM = Setsum((1, 2, 3, 4, 5, 6, 7, 8))
FULL = Manifest(
    collection=CID,
    version=4,
    parent=f"snapshot/{CID}/0000000000000003-{'e' * 32}.json",
    write_id="f" * 32,
    kind="fold",
    created_us=1_700_000_000_000_000,
    boundary=1,
    horizon=2,
    next_seq=9,
    dimension=3,
    segments=(
        Segment(
            id=JOB,
            rows=5,
            files={"records.parquet": FILE, "ids.parquet": SMALL},
            deletes=DeletesRef(JOB, 2, SMALL),
            index=IndexRef("usearch", "usearch 2", {"max_neighbors": 16}, SMALL),
            id_min="a",
            id_max="ü",
            content=SUM,
            embedding=SUM,
        ),
    ),
    content=SUM,
    embedding=SUM,
    quarantined=(Quarantined("0" * 16, "cut"),),
    folded=FoldedSet({"1" * 32: (Run(0, 2, State.FOLDED, 4, 19_000), Run(5, 6, State.VOID, 0, 19_001))}),
    published=((3, 1_700_000_000_000_000),),
    folded_parts=(FoldedPartRef(JOB, 2, 3, 19_000, SMALL),),
    aside=(AsideRef(JOB, 2),),
    buckets=BucketsRef(JOB, SMALL),
    restores=((3, 1),),
)


def test_every_field_comes_back() -> None:
    assert decode_manifest(encode_manifest(FULL), FULL.key) == FULL


def hashed(value: dict[str, Any]) -> bytes:
    """``value`` as a manifest with a right hash."""
    value.pop("sha256", None)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps({**value, "sha256": digest}).encode()


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


WHOLE = json.loads(encode_manifest(FULL))
PATHS = [path for path in paths(WHOLE) if path[0] not in ("sha256", "live", "bytes") and path[-1] not in ("live", "bytes")]
JUNK: list[Any] = [None, True, -1, 2**63, 10**400, 1.5, "", "../../etc/passwd", "/etc/passwd", "\ud800"]
JUNK += [[], {}, [[]], {"size": 1}, [None] * 3]
# What may stand in some place without being wrong there: an absent part, an empty list, a text.
FREE = {"deletes", "index", "parent", "dimension", "buckets", "tail", "config", "max_neighbors"}
FREE |= {"library", "reason", "delta", "id_min", "id_max"}


def replaced(path: tuple[Any, ...], junk: Any) -> bytes:
    value = copy.deepcopy(WHOLE)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return hashed(value)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_junk_in_any_field_is_corrupt(path: tuple[Any, ...]) -> None:
    """Under a right hash, too: no other error comes out, and a required field is never taken for something else."""
    for junk in JUNK:
        try:
            found = decode_manifest(replaced(path, junk), FULL.key)
        except Corrupt as error:
            assert error.key == FULL.key
        except Invalid:
            assert path == ("format",)
        else:
            assert isinstance(found, Manifest)
            empty = junk in ([], {}) and path[-1] not in ("files", "deletes")
            assert path[-1] in FREE or empty, (path, junk)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_corrupt(path: tuple[Any, ...]) -> None:
    """But for those that format 1 had not, and for what is an entry of a list or a free mapping."""
    value = copy.deepcopy(WHOLE)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    if path[0] in ("folded_parts", "aside", "buckets", "restores") and len(path) == 1:
        decode_manifest(hashed(value), FULL.key)
    elif isinstance(path[-1], int) or path[-1] in ("tail", "max_neighbors") or (path[0] == "folded" and len(path) == 2):
        return
    else:
        with pytest.raises(Corrupt):
            decode_manifest(hashed(value), FULL.key)


@pytest.mark.parametrize("name", ["../../../x", "/etc/passwd", "records.parquet/../../x", "index.usearch"])
def test_no_name_in_a_manifest_leaves_its_segment(name: str) -> None:
    """A file of another name than the two is never asked for; an index's kind is a word."""
    files = {**WHOLE["segments"][0]["files"], name: {"size": 1, "sha256": "a" * 64}}
    manifest = decode_manifest(replaced(("segments", 0, "files"), files), FULL.key)
    assert set(manifest.segments[0].files) == {"records.parquet", "ids.parquet"}
    with pytest.raises(Corrupt):
        decode_manifest(replaced(("segments", 0, "index", "kind"), name), FULL.key)


def test_runs_that_overlap_are_corrupt() -> None:
    """A folded set is searched by halves: out of order, it would answer wrongly."""
    for runs in ([[0, 2, "f", 0, 1], [1, 3, "f", 0, 1]], [[5, 6, "f", 0, 1], [0, 1, "f", 0, 1]], [[2, 2, "f", 0, 1]]):
        with pytest.raises(Corrupt):
            decode_manifest(replaced(("folded",), {"1" * 32: runs}), FULL.key)


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_a_manifest(body: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_manifest(body, "key")


@settings(max_examples=300)
@given(st.integers(0, len(encode_manifest(FULL)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_corrupt_or_of_a_newer_format(at: int, change: int) -> None:
    body = bytearray(encode_manifest(FULL))
    body[at] ^= change
    try:
        found = decode_manifest(bytes(body), FULL.key)
    except (Corrupt, Invalid):
        return
    assert found == FULL  # white space where there was none


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" * 5_000, b'{"format": 1}', b"null", b"[]", b'{"sha256": 1, "format": "x"}'])
def test_hostile_json_is_corrupt(body: bytes) -> None:
    """Deep nesting and long numbers, too."""
    with pytest.raises(Corrupt):
        decode_manifest(body, "key")


def test_a_newer_format_says_to_upgrade() -> None:
    with pytest.raises(Invalid, match="newer format"):
        decode_manifest(replaced(("format",), FORMAT + 1), FULL.key)


def test_only_files_that_are_read_in_parts_have_a_tail() -> None:
    """And it has the whole footer, however long that is."""
    assert FileRef.of_parquet(bytes(TAIL_BYTES)).tail is None
    small, large = (bytes(300_000) + length.to_bytes(4, "little") + b"PAR1" for length in (1_000, 200_000))
    assert FileRef.of_parquet(small).tail == FileRef.of(small[-TAIL_BYTES:])
    assert FileRef.of_parquet(large).tail == FileRef.of(large[-200_008:])
