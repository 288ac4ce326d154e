"""Multiset checksums: what a set of records hashes to, whatever order, segment or machine they are in.

The construction is wal3's *setsum* (Chroma's log on object storage): a record's SHA-256 is read as eight little-endian
32-bit lanes, and each lane is added modulo its own prime, the eight largest below 2**32. So sums commute, and removing a record subtracts
exactly what adding it added: a fold's change to the total is computed from the rows it touched, and a merge's is zero.

Two hashes a record, because stock Chroma keeps content exactly but renormalises the embeddings of cosine collections:

- *content*: id, document, uri, metadata, length-prefixed and typed, so that absent differs from empty and 1 from 1.0;
- *embedding*: id and the float32 values, little-endian.

``docs/format.md`` has the bytes and golden values.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MetadataScalar = str | int | float | bool
MetadataValue = MetadataScalar | Sequence[MetadataScalar]

PRIMES = np.array(
    [4294967291, 4294967279, 4294967231, 4294967197, 4294967189, 4294967161, 4294967143, 4294967111], dtype=np.uint64
)
_PRINTED = re.compile(r"[0-9a-f]{64}")
_CONTENT_TAG = b"chromalith content 1\0"
_EMBEDDING_TAG = b"chromalith embedding 1\0"
_ABSENT = b"\0"
_PRESENT = b"\1"
_LENGTH = struct.Struct("<I")
_INT = struct.Struct("<q")
_FLOAT = struct.Struct("<d")

Digests = npt.NDArray[np.uint8]
"""(n, 32) uint8: one SHA-256 a row."""


@dataclass(frozen=True, slots=True)
class Setsum:
    """The checksum of a multiset of records: eight lanes. The sum of nothing is ``Setsum()``."""

    lanes: tuple[int, ...] = (0,) * 8

    @classmethod
    def of(cls, digests: Digests) -> Setsum:
        """The sum over the rows of ``digests`` (shape (n, 32), uint8)."""
        lanes = np.ascontiguousarray(digests).view("<u4").reshape(-1, 8).astype(np.uint64)
        # 2**32 summands of 32 bits fit 64 bits: no segment has as many rows.
        return cls(tuple(int(lane) for lane in lanes.sum(axis=0, dtype=np.uint64) % PRIMES))

    def __add__(self, other: Setsum) -> Setsum:
        return Setsum(tuple((a + b) % int(p) for a, b, p in zip(self.lanes, other.lanes, PRIMES, strict=True)))

    def __sub__(self, other: Setsum) -> Setsum:
        return Setsum(tuple((a - b) % int(p) for a, b, p in zip(self.lanes, other.lanes, PRIMES, strict=True)))

    def __str__(self) -> str:
        return "".join(f"{lane:08x}" for lane in self.lanes)

    @classmethod
    def parse(cls, text: str) -> Setsum:
        """The sum that prints as ``text`` (64 hexadecimal digits). Raises ``ValueError``, ``TypeError`` (not a text)."""
        if _PRINTED.fullmatch(text) is None:
            raise ValueError(f"a checksum has 64 hexadecimal digits, got {text!r:.80}")
        lanes = tuple(int(text[i : i + 8], 16) for i in range(0, 64, 8))
        if any(lane >= int(prime) for lane, prime in zip(lanes, PRIMES, strict=True)):
            raise ValueError(f"a checksum is a sum modulo its primes, got {text}")
        return cls(lanes)


def _text(value: str | None) -> bytes:
    if value is None:
        return _ABSENT
    data = value.encode()
    return _PRESENT + _LENGTH.pack(len(data)) + data


def _scalar(value: MetadataScalar) -> tuple[bytes, bytes]:
    """The type byte and the bytes of one metadata value."""
    if isinstance(value, bool):  # before int: a bool is one
        return b"b", _PRESENT if value else _ABSENT
    if isinstance(value, int):
        return b"i", _INT.pack(value)
    if isinstance(value, float):
        return b"f", _FLOAT.pack(value)
    data = value.encode()
    return b"s", _LENGTH.pack(len(data)) + data


def _metadata(metadata: Mapping[str, MetadataValue] | None) -> bytes:
    if not metadata:  # Chroma does not tell an empty dictionary from none
        return _ABSENT
    parts = [_PRESENT, _LENGTH.pack(len(metadata))]
    for name, key in sorted((key.encode(), key) for key in metadata):
        value = metadata[key]
        parts += [_LENGTH.pack(len(name)), name]
        if isinstance(value, str | bool | int | float):
            parts += _scalar(value)
        else:
            items = [_scalar(item) for item in value]
            parts += [items[0][0].upper(), _LENGTH.pack(len(items)), *(data for _, data in items)]
    return b"".join(parts)


def content_digest(
    record_id: str, document: str | None, uri: str | None, metadata: Mapping[str, MetadataValue] | None
) -> bytes:
    """SHA-256 of a record's content, 32 bytes."""
    return hashlib.sha256(
        b"".join((_CONTENT_TAG, _text(record_id), _text(document), _text(uri), _metadata(metadata)))
    ).digest()


def embedding_digest(record_id: str, embedding: npt.NDArray[np.float32]) -> bytes:
    """SHA-256 of a record's id and embedding (shape (dim,), float32), 32 bytes."""
    values = embedding.astype("<f4", copy=False).tobytes()
    return hashlib.sha256(
        b"".join((_EMBEDDING_TAG, _text(record_id), _LENGTH.pack(embedding.shape[0]), values))
    ).digest()
