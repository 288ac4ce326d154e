"""Checksums by bucket of hashed id: where two sets of records differ, not only that they do.

An id's bucket is the first byte of SHA-256 of the id. Each of the 256 buckets has the two sums of :mod:`chromalith.model.checksum` over
its live records, so the sum over the buckets is the collection's total. The sums commute and can be taken away again: a fold
adds its change to what its parent's sidecar says, and never reads the records that it does not touch.

The sidecar is 256 x 2 x 8 little-endian uint32 lanes (16 KiB): bucket by bucket, content before embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chromalith.errors import Corrupt
from chromalith.model.checksum import PRIMES, Digests, Setsum

BUCKETS = 256
SIDECAR_BYTES = BUCKETS * 2 * 8 * 4
_SHAPE = (BUCKETS, 2, 8)

Lanes = npt.NDArray[np.uint64]
"""(256, 2, 8) uint64, each lane below its prime: bucket; content, embedding; lane."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """The checksums of a set of records by bucket."""

    lanes: Lanes

    @classmethod
    def empty(cls) -> Buckets:
        """Of no record."""
        return cls(np.zeros(_SHAPE, np.uint64))

    @classmethod
    def of(cls, id_hashes: npt.NDArray[np.uint64], content: Digests, embedding: Digests) -> Buckets:
        """Of the records whose ids hash to ``id_hashes``, (n,) by :func:`chromalith.model.segment.id_hash`; digests uint8 (n, 32)."""
        if not len(id_hashes):
            return cls.empty()
        bucket = (id_hashes & np.uint64(BUCKETS - 1)).astype(np.int64)  # the hash is little-endian: its low byte is the first one
        order = np.argsort(bucket, kind="stable")
        present, starts = np.unique(bucket[order], return_index=True)
        lanes = np.zeros(_SHAPE, np.uint64)
        for kind, digests in enumerate((content, embedding)):
            values = np.ascontiguousarray(digests).view("<u4").reshape(-1, 8)[order].astype(np.uint64)
            lanes[present, kind] = np.add.reduceat(values, starts, axis=0) % PRIMES
        return cls(lanes)

    def __add__(self, other: Buckets) -> Buckets:
        return Buckets((self.lanes + other.lanes) % PRIMES)

    def __sub__(self, other: Buckets) -> Buckets:
        return Buckets((self.lanes + (PRIMES - other.lanes)) % PRIMES)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buckets) and np.array_equal(self.lanes, other.lanes)

    __hash__ = None  # type: ignore[assignment]

    def total(self) -> tuple[Setsum, Setsum]:
        """The checksums of all the records: content, embedding."""
        content, embedding = self.lanes.sum(axis=0) % PRIMES
        return Setsum(tuple(int(lane) for lane in content)), Setsum(tuple(int(lane) for lane in embedding))

    def differing(self, other: Buckets) -> list[int]:
        """The buckets, ascending, in which the two sets differ in content or embedding."""
        return [int(bucket) for bucket in np.flatnonzero((self.lanes != other.lanes).any(axis=(1, 2)))]

    def encode(self) -> bytes:
        """The body of the sidecar."""
        return self.lanes.astype("<u4").tobytes()

    @classmethod
    def decode(cls, body: bytes, key: str) -> Buckets:
        """The checksums in a sidecar. Raises ``Corrupt``."""
        if len(body) != SIDECAR_BYTES:
            raise Corrupt(f"not the checksums by bucket key={key} size={len(body)} expected={SIDECAR_BYTES}", key=key)
        lanes = np.frombuffer(body, "<u4").reshape(_SHAPE).astype(np.uint64)
        if bool((lanes >= PRIMES).any()):
            raise Corrupt(f"a checksum by bucket is no sum modulo its prime key={key}", key=key)
        return cls(lanes)


def bucket_of(id_hashes: Sequence[int] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The bucket of each hashed id, uint8 (n,)."""
    return (np.asarray(id_hashes, np.uint64) & np.uint64(BUCKETS - 1)).astype(np.uint8)
