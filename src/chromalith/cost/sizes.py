"""How large things are that are stored: fitted to what the code writes, and held to it by ``tests/unit/cost/test_sizes.py`` within a fifth.

Embeddings are stored plainly, four bytes a number; texts are compressed; an index holds half floats and edges.
"""

from __future__ import annotations

from chromalith.engine.index import INDEX_THRESHOLD

TEXT_KEPT = 0.6
"""What compression leaves of documents and metadata: of random letters 0.58; prose is a little better."""
BUCKETS_BYTES = 16_384
POINTER_BYTES = 134
MANIFEST_BYTES, MANIFEST_SEGMENT_BYTES = 2_000, 550


def delta_bytes(rows: float, dimension: int, text_bytes: float) -> float:
    """One call as an object."""
    return 1_800 + rows * (4 * dimension + TEXT_KEPT * text_bytes + 10)


def record_bytes(dimension: int, text_bytes: float, *, indexed: bool) -> float:
    """One record in a segment: itself with two hashes, its entry in the id table, its node of the index."""
    index = 2 * dimension + 148 if indexed else 0
    return 4 * dimension + TEXT_KEPT * text_bytes + 75 + 88 + index


def segment_bytes(rows: float, dimension: int, text_bytes: float) -> float:
    """One segment's objects."""
    return 3_000 + rows * record_bytes(dimension, text_bytes, indexed=has_index(rows))


def has_index(rows: float) -> bool:
    """Whether a segment of so many rows gets an index."""
    return rows >= INDEX_THRESHOLD


def publish_bytes(segments: float, *, with_buckets: bool) -> float:
    """Manifest, pointer and checksums by bucket of a version."""
    return MANIFEST_BYTES + MANIFEST_SEGMENT_BYTES * segments + POINTER_BYTES + (BUCKETS_BYTES if with_buckets else 0)
