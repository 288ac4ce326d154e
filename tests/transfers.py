"""Records that go through imports and exports in tests: every kind of value that Chroma takes, and a source that yields them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chromalith.transfer.port import Batch, Definition, Source, Sums

TENANT, DATABASE = "default_tenant", "default_database"

_TEXTS = ["plain words", "grüße, 世界 🌍", None, "", 'quote " and \\ and\nline end', "null"]
_URIS = [None, "file:///a/b.txt", "https://example.org/?q=ü"]
_METADATAS: list[dict[str, Any] | None] = [
    None,
    {"text": "ü", "integer": 1, "float": 1.0, "yes": True, "no": False},
    {"big": 2**63 - 1, "small": -(2**63), "tiny": 5e-324, "huge": 1.7976931348623157e308},
    {"texts": ["a", "b", "a"], "integers": [1, 2**53 + 1], "floats": [0.5, 1.0], "flags": [True, False]},
    {"text": "null", "schlüssel mit leerzeichen": "wert"},
    {"mixed": 1},
    {"mixed": "one"},
]


def batch(rows: int, dimension: int = 8, *, start: int = 0) -> Batch:
    """``rows`` records from number ``start``; equal numbers are equal records."""
    numbers = range(start, start + rows)
    embeddings = np.random.default_rng(7).standard_normal((start + rows, dimension)).astype(np.float32)[start:]
    return Batch(
        ids=[f"id-{number:05d}-ß" if number % 5 == 0 else f"{10**6 - number}" for number in numbers],
        embeddings=embeddings,
        documents=[_TEXTS[number % len(_TEXTS)] for number in numbers],
        uris=[_URIS[number % len(_URIS)] for number in numbers],
        metadatas=[_METADATAS[number % len(_METADATAS)] for number in numbers],
    )


@dataclass
class Records:
    """A source over one batch in memory, which can be cut wherever it is asked to."""

    records: Batch
    name: str = "words"
    definition: Definition = field(default_factory=lambda: Definition.of_space("l2"))
    version: int | None = None
    sums: Sums | None = None

    def total(self) -> int:
        return len(self.records)

    def batches(self, rows: int) -> Iterator[Batch]:
        for at in range(0, len(self.records), rows):
            yield self.records.part(at, at + rows)


def read(source: Source, rows: int = 1_000) -> Batch:
    """All that a source has, as one batch."""
    parts = list(source.batches(rows))
    return Batch(
        [i for part in parts for i in part.ids],
        np.concatenate([part.embeddings for part in parts]),
        [text for part in parts for text in part.documents],
        [uri for part in parts for uri in part.uris],
        [metadata for part in parts for metadata in part.metadatas],
    )


def assert_same(found: Batch, expected: Batch, *, cosine: bool = False) -> None:
    """The same records in the same order: embeddings to the bit, or for stock Chroma's cosine collections to a relative 2.4e-7."""
    assert found.ids == expected.ids
    assert found.documents == expected.documents
    assert found.uris == expected.uris
    assert found.metadatas == expected.metadatas
    kinds = [{k: _kind(v) for k, v in (m or {}).items()} for m in found.metadatas]
    assert kinds == [{k: _kind(v) for k, v in (m or {}).items()} for m in expected.metadatas]  # 1 == 1.0 == True to Python
    if cosine:
        np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=2.4e-7, atol=0)
    else:
        assert found.embeddings.tobytes() == expected.embeddings.tobytes()


def _kind(value: Any) -> Any:
    return [type(item) for item in value] if isinstance(value, list) else type(value)
