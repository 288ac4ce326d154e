"""Whether a Chroma directory is what it should be: by its files, and by what stock Chroma answers from it."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from chromadb.api import ServerAPI

from chromalith.chroma.private_copy import DATABASE
from chromalith.chroma.stock import ChromaSource, collection, opened
from chromalith.errors import Corrupt
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Source, Sums

NEIGHBOURS = 10
PROBES_MAX = 5
COSINE_TOLERANCE = 2.5e-7
"""Chroma keeps a cosine collection's embeddings as unit vectors and lengths: they come back with an error of at most
2.4e-7 of the vector's length (measured)."""

_SEQUENCE = """
SELECT s.scope, s.id, coalesce(m.seq_id, 0) FROM segments AS s LEFT JOIN max_seq_id AS m ON m.segment_id = s.id WHERE s.collection = ?
"""
_COUNT = "SELECT count(*) FROM embeddings AS e JOIN segments AS s ON s.id = e.segment_id WHERE s.collection = ?"


def operations_waiting(directory: Path, cid: str) -> int:
    """How many operations Chroma has applied to a collection's text and not yet to its files of vectors."""
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        seen = {scope: int(seq) for scope, _, seq in connection.execute(_SEQUENCE, (cid,))}
    return seen["METADATA"] - seen["VECTOR"]


def check_flushed(directory: Path, cid: str, records: int) -> None:
    """Raise ``Corrupt`` unless every vector of the collection is in the HNSW files, and nothing waits in the queue.

    Without this, a copy of the directory without its queue, or a reader that only links the vectors, would lack the last ones.
    """
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        segments = {scope: (segment, int(seq)) for scope, segment, seq in connection.execute(_SEQUENCE, (cid,))}
        (rows,) = connection.execute(_COUNT, (cid,)).fetchone()
    vector, metadata = segments["VECTOR"], segments["METADATA"]
    labels = 0
    index = directory / vector[0] / "index_metadata.pickle"
    if index.exists():
        with index.open("rb") as file:
            labels = len(pickle.load(file)["id_to_label"])
    if vector[1] != metadata[1] or labels != records or rows != records:
        raise Corrupt(
            f"Chroma did not write all vectors records={records} rows={rows} labels={labels} seq={vector[1]} of={metadata[1]}",
            hint="export again with way='api', and report this",
        )


def check_answers(directory: Path, source: Source, records: int, sums: Sums) -> None:
    """Open the directory with stock Chroma, and raise ``Corrupt`` unless it has the records of ``source``, which add up
    to ``sums``: their content exactly, their embeddings exactly (cosine: to :data:`COSINE_TOLERANCE`), and they are
    found by search."""
    name = source.name
    with opened(directory) as server:
        answer = ChromaSource(server, collection(server, name), str(directory), live=False)
        exact = answer.definition.space != "cosine"
        expected = iter(()) if exact else source.batches(ROWS_DEFAULT)
        found, count, sample = Sums(), 0, None
        for batch in answer.batches(ROWS_DEFAULT):
            found, count = found.plus(batch), count + len(batch)
            sample = sample or batch
            if not exact:
                _check_close(batch, next(expected, None), name)
        if count != records or found.content != sums.content or (exact and found.embedding != sums.embedding):
            raise Corrupt(
                f"stock Chroma reads other records than were written name={name!r} records={count} written={records}",
                hint="export again with way='api', and report this",
            )
        if sample is not None:
            _check_search(server, answer, sample, name)


def _check_close(found: Batch, expected: Batch | None, name: str) -> None:
    if expected is None or found.ids != expected.ids:
        raise Corrupt(
            f"stock Chroma reads other records than were written name={name!r}",
            hint="export again with way='api', and report this",
        )
    error = np.abs(found.embeddings - expected.embeddings).max(axis=1)
    allowed = COSINE_TOLERANCE * np.linalg.norm(expected.embeddings, axis=1)
    if not (error <= allowed).all():
        row = int(np.argmin(error <= allowed))
        raise Corrupt(
            f"stock Chroma reads another embedding than was written name={name!r} id={found.ids[row]!r} error={error[row]:.3g}",
            hint="export again with way='api', and report this",
        )


def _check_search(server: ServerAPI, source: ChromaSource, sample: Batch, name: str) -> None:
    probes = sample.embeddings[: min(PROBES_MAX, len(sample))]
    model = collection(server, name)
    answer = server._query(model.id, [np.asarray(row) for row in probes], n_results=NEIGHBOURS, include=["distances"])
    wanted = min(NEIGHBOURS, source.total() or 0)
    if any(len(ids) != wanted for ids in answer["ids"]):
        raise Corrupt(f"stock Chroma finds too few neighbours name={name!r} wanted={wanted}", hint="export again with way='api'")
