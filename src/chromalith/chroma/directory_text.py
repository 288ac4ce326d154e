"""The text of records, written straight into a Chroma directory's SQLite file: the fast half of building one.

Given documents and metadata, stock Chroma writes them to its queue, reads them again, and inserts them a statement at a
time: 10,000 records with a line of text take 1.9 s more than their vectors alone; here they take 0.5 s. So a directory
is built in two halves: the ids and vectors through Chroma itself (its queue,
its sequence numbers, its HNSW files: so the result can be written to like any other), then documents, uris and metadata
here, as rows that belong to the ones Chroma made.

The tables are private to Chroma. So this is used only with versions on which it was proven (:data:`PROVEN`), and every directory is
read back through stock Chroma before it is handed out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import chromadb

from chromalith.chroma.private_copy import DATABASE, MIGRATIONS_PROVEN
from chromalith.errors import Bug
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Source

PROVEN = frozenset({"1.5.9"})
"""Versions of chromadb for which the tests build directories this way, and then write, delete, filter and search in them."""

DOCUMENT_KEY = "chroma:document"
URI_KEY = "chroma:uri"

_METADATA = "INSERT INTO embedding_metadata (id, key, string_value, int_value, float_value, bool_value) VALUES (?,?,?,?,?,?)"
_ARRAY = "INSERT INTO embedding_metadata_array (id, key, string_value, int_value, float_value, bool_value) VALUES (?,?,?,?,?,?)"
_FULL_TEXT = "INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (?,?)"
_RECORDS = """
SELECT e.id, e.embedding_id FROM embeddings AS e JOIN segments AS s ON s.id = e.segment_id
WHERE s.collection = ? AND s.scope = 'METADATA' ORDER BY e.id
"""

Row = tuple[int, str, str | None, int | None, float | None, int | None]


def is_proven() -> bool:
    """Whether text may be written straight: this chromadb was tested, and this Python's SQLite has the tokenizer that
    Chroma's tables use."""
    if chromadb.__version__ not in PROVEN:
        return False
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5(text, tokenize='trigram')")
    except sqlite3.OperationalError:
        return False
    return True


def has_proven_tables(directory: Path) -> bool:
    """Whether the directory's tables are those of a proven version."""
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        (migrations,) = connection.execute("SELECT count(*) FROM migrations").fetchone()
        return bool(migrations == MIGRATIONS_PROVEN)


def write_text(directory: Path, collection: str, source: Source, written: Collection[int]) -> None:
    """Add what the records of ``source`` have besides id and vector, in one transaction.

    Args:
        directory: a Chroma directory that no engine has open, in which the collection has exactly these ids, in this order.
        collection: its UUID.
        source: the records.
        written: the positions of records that Chroma was given whole.

    Raises ``Bug`` if the ids are others.
    """
    with closing(sqlite3.connect(directory / DATABASE)) as connection, connection:
        records = connection.execute(_RECORDS, (collection,))  # a cursor: one page of rows in memory, not all
        position = 0
        for batch in source.batches(ROWS_DEFAULT):
            found = records.fetchmany(len(batch))
            if [record_id for _, record_id in found] != batch.ids:
                raise Bug(f"Chroma has other records than it was given position={position}", hint="export with way='api', and report this")
            keys = [key for key, _ in found]
            skip = {row for row in range(len(batch)) if position + row in written}
            scalars, items = _rows(keys, batch, skip)
            connection.executemany(_METADATA, scalars)
            connection.executemany(_ARRAY, items)
            connection.executemany(_FULL_TEXT, _documents(keys, batch, skip))
            position += len(batch)


def _rows(keys: list[int], batch: Batch, skip: Collection[int]) -> tuple[list[Row], list[Row]]:
    scalars: list[Row] = []
    items: list[Row] = []
    for row, key in enumerate(keys):
        if row in skip:
            continue
        document, uri, metadata = batch.documents[row], batch.uris[row], batch.metadatas[row]
        if document is not None:
            scalars.append((key, DOCUMENT_KEY, document, None, None, None))
        if uri is not None:
            scalars.append((key, URI_KEY, uri, None, None, None))
        for name, value in (metadata or {}).items():
            if isinstance(value, list):
                items += [_row(key, name, item) for item in value]
            else:
                scalars.append(_row(key, name, value))
    return scalars, items


def _row(key: int, name: str, value: Any) -> Row:
    if isinstance(value, bool):  # before int: a bool is one
        return (key, name, None, None, None, int(value))
    if isinstance(value, int):
        return (key, name, None, value, None, None)
    if isinstance(value, float):
        return (key, name, None, None, value, None)
    return (key, name, str(value), None, None, None)


def _documents(keys: list[int], batch: Batch, skip: Collection[int]) -> Iterator[tuple[int, str]]:
    for row, key in enumerate(keys):
        document = batch.documents[row]
        if document is not None and row not in skip:
            yield key, document
