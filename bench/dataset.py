"""What the benches write and ask: real records where they are at hand, clustered synthetic ones otherwise.

Vectors that a model made have structure that random ones lack, so recall and index times on random vectors say little. Synthetic
vectors are drawn around centres with a fixed seed, and every result says which kind it used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

DATA_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
RECORDS_FILE = "debian-packages-minilm.parquet"
QUERIES_FILE = "debian-packages-queries.parquet"
DIMENSION = 384
HELD_OUT = 170  # records at the end of the file that are never written, and serve as queries beside the questions

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records as columns, and queries.

    Attributes:
        ids, documents, metadatas: of n records.
        embeddings: float32 (n, 384).
        queries: float32 (q, 384), of nothing that is among the records.
        source: what these are, for the result.
    """

    ids: list[str]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    embeddings: Floats
    queries: Floats
    source: str

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, start: int, stop: int) -> dict[str, Any]:
        """The records ``[start, stop)`` as the arguments of a writing call."""
        return {
            "ids": self.ids[start:stop],
            "embeddings": self.embeddings[start:stop],
            "documents": self.documents[start:stop],
            "metadatas": self.metadatas[start:stop],
        }

    def calls(self, size: int) -> Iterator[dict[str, Any]]:
        """All records, ``size`` a call."""
        for start in range(0, len(self), size):
            yield self.columns(start, min(start + size, len(self)))


def load(directory: Path | None, rows: int) -> Dataset:
    """The first ``rows`` real records if ``directory`` has the files and enough of them, else synthetic ones."""
    if directory is not None and (directory / RECORDS_FILE).exists():
        table = pq.read_table(directory / RECORDS_FILE)
        if rows <= table.num_rows - HELD_OUT:
            return _real(directory, table, rows)
    return synthetic(rows)


def _real(directory: Path, table: Any, rows: int) -> Dataset:
    held_out = _matrix(table["embedding"].slice(table.num_rows - HELD_OUT))
    questions = _matrix(pq.read_table(directory / QUERIES_FILE)["embedding"])
    some = table.slice(0, rows)
    return Dataset(
        ids=some["id"].to_pylist(),
        documents=some["document"].to_pylist(),
        metadatas=[json.loads(text) for text in some["metadata"].to_pylist()],
        embeddings=_matrix(some["embedding"]),
        queries=np.concatenate([questions, held_out]),
        source=f"{RECORDS_FILE}: {rows} real records, {len(questions)} real questions, {len(held_out)} held-out records",
    )


def synthetic(rows: int, *, start: int = 0, queries: int = 200) -> Dataset:
    """``rows`` records around 500 centres, numbered from ``start``; the same for the same arguments."""
    centres = np.random.default_rng(384).standard_normal((500, DIMENSION)).astype(np.float32)
    sections = ["science", *(f"section-{number}" for number in range(38))]

    def around(count: int, seed: int) -> Floats:
        rng = np.random.default_rng(seed)
        vectors = centres[rng.integers(0, len(centres), count)]
        vectors = vectors + np.float32(0.5) * rng.standard_normal((count, DIMENSION), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    numbers = range(start, start + rows)
    return Dataset(
        ids=[f"record-{number:08d}" for number in numbers],
        documents=[
            f"record-{n:08d}: {'a library' if n % 11 == 0 else 'a program'} made for the bench" for n in numbers
        ],
        metadatas=[
            {
                "section": sections[n % 39],
                "priority": "optional",
                "version": f"1.{n % 97}",
                "installed_kib": n * 7 % 3700,
            }
            for n in numbers
        ],
        embeddings=around(rows, 1 + start),
        queries=around(queries, 0),
        source=f"synthetic: {rows} records around 500 centres, seed fixed (recall on them says less than on real ones)",
    )


def _matrix(column: Any) -> Floats:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.reshape(len(column), -1), dtype=np.float32)
