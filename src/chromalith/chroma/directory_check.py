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
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Sums

NEIGHBOURS = 10
PROBES_MAX = 5
COSINE_TOLERANCE = 2.5e-7
"""Chroma keeps a cosine collection's embeddings as unit vectors and lengths: they come back with a relative error of at most 2.4e-7 (measured)."""

_SEQUENCE = """
SELECT s.scope, s.id, coalesce(m.seq_id, 0) FROM segments AS s LEFT JOIN max_seq_id AS m ON m.segment_id = s.id WHERE s.collection = ?
"""
_COUNT = "SELECT count(*) FROM embeddings AS e JOIN segments AS s ON s.id = e.segment_id WHERE s.collection = ?"


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


def check_answers(directory: Path, name: str, records: int, sums: Sums) -> None:
    """Open the directory with stock Chroma and raise ``Corrupt`` unless it has these records: the content of all of them exactly, the embeddings
    exactly (cosine: to :data:`COSINE_TOLERANCE`, on a sample, because its sum can't be compared), and they are found by search."""
    with opened(directory) as server:
        source = ChromaSource(server, collection(server, name), str(directory), live=False)
        found, count, sample = Sums(), 0, None
        for batch in source.batches(ROWS_DEFAULT):
            found, count = found.plus(batch), count + len(batch)
            sample = sample or batch
        exact = source.definition.space != "cosine"
        if count != records or found.content != sums.content or (exact and found.embedding != sums.embedding):
            raise Corrupt(
                f"stock Chroma reads other records than were written name={name!r} records={count} written={records}",
                hint="export again with way='api', and report this",
            )
        if sample is not None:
            _check_search(server, source, sample, name)


def _check_search(server: ServerAPI, source: ChromaSource, sample: Batch, name: str) -> None:
    probes = sample.embeddings[: min(PROBES_MAX, len(sample))]
    model = collection(server, name)
    answer = server._query(model.id, [np.asarray(row) for row in probes], n_results=NEIGHBOURS, include=["distances"])
    wanted = min(NEIGHBOURS, source.total() or 0)
    if any(len(ids) != wanted for ids in answer["ids"]):
        raise Corrupt(f"stock Chroma finds too few neighbours name={name!r} wanted={wanted}", hint="export again with way='api'")
