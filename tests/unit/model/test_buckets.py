"""Checksums by bucket: they add up, come apart again, and say where two sets differ."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Corrupt
from chromalith.model.buckets import BUCKETS, SIDECAR_BYTES, Buckets, bucket_of
from chromalith.model.checksum import PRIMES, Setsum
from chromalith.model.segment import id_hash

IDS = st.lists(st.text(max_size=4), max_size=40)


def digests(ids: list[str], kind: str) -> np.ndarray:
    return np.frombuffer(b"".join(hashlib.sha256(f"{kind} {i}".encode()).digest() for i in ids), np.uint8).reshape(-1, 32)


def buckets(ids: list[str], other_content: str = "content") -> Buckets:
    return Buckets.of(id_hash(ids), digests(ids, other_content), digests(ids, "embedding"))


@given(IDS)
def test_buckets_are_what_the_format_says(ids: list[str]) -> None:
    """By the product, and from the description, with Python's own integers."""
    sums = [[[0] * 8, [0] * 8] for _ in range(256)]
    for record_id in ids:
        for kind, name in enumerate(("content", "embedding")):
            lanes = struct.unpack("<8I", hashlib.sha256(f"{name} {record_id}".encode()).digest())
            there = sums[hashlib.sha256(record_id.encode()).digest()[0]][kind]
            for lane, value in enumerate(lanes):
                there[lane] = (there[lane] + value) % int(PRIMES[lane])
    expected = b"".join(struct.pack("<8I", *lanes) for bucket in sums for lanes in bucket)
    assert buckets(ids).encode() == expected
    assert len(expected) == SIDECAR_BYTES == 16 * 2**10


@given(IDS, IDS)
def test_what_is_added_can_be_taken_away(some: list[str], more: list[str]) -> None:
    both = buckets(some) + buckets(more)
    assert both == buckets([*more, *some])
    assert both - buckets(more) == buckets(some)
    assert (both - both) == Buckets.empty()
    assert both.total() == (Setsum.of(digests([*some, *more], "content")), Setsum.of(digests([*some, *more], "embedding")))


def test_a_difference_is_found_in_its_bucket() -> None:
    """A changed, a missing and an added record each differ in the bucket of their id, and nowhere else."""
    ids = [f"id-{n}" for n in range(2_000)]
    whole = buckets(ids)
    assert whole.differing(buckets(ids[::-1])) == []
    changed = whole - buckets(ids[7:8]) + buckets(ids[7:8], "other content")
    for other, names in ((buckets(ids[1:]), ids[:1]), (buckets([*ids, "new"]), ["new"]), (changed, ids[7:8])):
        assert whole.differing(other) == [int(bucket_of(id_hash(names))[0])]


def test_a_sidecar_comes_back() -> None:
    whole = buckets([f"id-{n}" for n in range(500)])
    assert Buckets.decode(whole.encode(), "key") == whole


@pytest.mark.parametrize("body", [b"", bytes(SIDECAR_BYTES - 1), bytes(SIDECAR_BYTES + 4), b"\xff" * SIDECAR_BYTES])
def test_a_body_of_another_length_or_beyond_the_primes_is_corrupt(body: bytes) -> None:
    with pytest.raises(Corrupt, match="some/key") as raised:
        Buckets.decode(body, "some/key")
    assert raised.value.key == "some/key"


def test_ids_spread_over_all_buckets() -> None:
    """So that a bucket is a 256th of the work of finding a difference."""
    counts = np.bincount(bucket_of(id_hash([f"id-{n}" for n in range(25_600)])), minlength=BUCKETS)
    assert counts.min() > 50
    assert counts.max() < 200
