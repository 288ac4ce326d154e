"""Reading one of our own Parquet objects without believing what it promises before that is within limits.

A few kilobytes of Parquet can stand for terabytes: a footer that promises 2**40 rows, a page of zeros under zstd, a long text in a
dictionary that each row repeats, a text that shares its beginning with the one before (delta encoding), a list of a million
elements in each of a million null rows. The footer tells of all of it, so the footer is read first:

================  ====================================================================================================
rows              at most ``rows_max``, and at most :data:`ROWS_PER_BYTE` for each byte of the object
decoded pages     at most ``bytes_max`` in all
texts             plain ones take what their pages say; those in a dictionary are measured before they are repeated; in delta
                  encoding the worst is taken: that each is as long as all pages
fixed-size lists  rows times width stay within ``bytes_max``, null rows too
================  ====================================================================================================

The pages' own headers are asked too, because a footer may promise less (:mod:`chromalith.model.parquet_footer`).

Memory that runs out all the same is not damage: ``MemoryError`` comes out as ``Unavailable``. Without this, a fold on a small machine would
quarantine whole deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chromalith.errors import Unavailable
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.parquet_footer import ColumnChunk, read_footer

ROWS_PER_BYTE = 4_096
"""Zstd makes at best about 1/10,000 of what repeats, and the narrowest row, a counter that was packed, is a bit."""
_BYTE_ARRAY = 6
_AS_LONG_AS_ITS_PAGES = {0, 3, 4, 6}  # plain, run lengths, packed bits, and lengths apart from the bytes
_DICTIONARY = {2, 8}


class OverLimits(ValueError):
    """An object promises more than it may hold."""


def read_bounded(body: bytes, *, rows_max: int, bytes_max: int) -> pa.Table:
    """The table in ``body``, texts never as dictionaries.

    Raises ``OverLimits`` before it allocates what is over a limit; ``ValueError`` and what the Parquet library raises if it is not Parquet.
    """
    footer = read_footer(body)
    if footer.rows > min(rows_max, ROWS_PER_BYTE * len(body)):
        raise OverLimits(f"too many rows rows={footer.rows} limit={rows_max}")
    repeated = {chunk.path for chunk in footer.chunks if chunk.type == _BYTE_ARRAY and chunk.encodings & _DICTIONARY}
    _within(sum(_decoded_bytes(footer.chunks)), bytes_max)
    try:
        file = pq.ParquetFile(arrow_reader(body), read_dictionary=sorted(repeated) or None)
        _within(sum(_list_bytes(file.schema_arrow, footer.rows)), bytes_max)
        table = file.read()
    except MemoryError as error:
        raise Unavailable(
            f"not enough memory to decode an object bytes={len(body)}", hint="give the process up to 2 GiB more, or run it elsewhere"
        ) from error
    if table.num_rows != footer.rows:
        raise OverLimits(f"its row groups do not add up rows={table.num_rows} promised={footer.rows}")
    return _without_dictionaries(table, bytes_max)


def check_groups(file: pq.ParquetFile, bytes_max: int) -> None:
    """Raise ``OverLimits`` if a row group of an open file says that it takes more than ``bytes_max``: for a file of which groups are read.

    For objects that a manifest names with their hash, by our own encoders: how their texts are encoded is not looked at."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if min(group.num_rows, group.total_byte_size) < 0:
            raise OverLimits(f"a row group has a negative size group={number}")
        _within(group.total_byte_size + sum(_list_bytes(file.schema_arrow, group.num_rows)), bytes_max)


def _decoded_bytes(chunks: Iterable[ColumnChunk]) -> Iterator[int]:
    """At most what each column of each row group takes once its pages are decoded; texts in a dictionary once each."""
    for chunk in chunks:
        if chunk.type != _BYTE_ARRAY:
            yield max(chunk.size, 8 * chunk.values)
        elif chunk.encodings <= _AS_LONG_AS_ITS_PAGES | _DICTIONARY:
            yield chunk.size + 4 * chunk.values
        else:
            yield chunk.size * max(1, chunk.values) + 4 * chunk.values


def _list_bytes(schema: pa.Schema, rows: int) -> Iterator[int]:
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            yield 8 * rows * field.type.list_size


def _without_dictionaries(table: pa.Table, bytes_max: int) -> pa.Table:
    """Texts that are repeated by reference written out, if there is room for them."""
    measured = [at for at, column in enumerate(table.columns) if pa.types.is_dictionary(column.type)]
    _within(sum(_repeated_bytes(chunk) for at in measured for chunk in table.column(at).chunks), bytes_max)
    for at in measured:
        column = table.column(at)
        table = table.set_column(at, table.column_names[at], column.cast(column.type.value_type))
    return table


def _repeated_bytes(chunk: pa.DictionaryArray) -> int:
    lengths = pc.cast(pc.binary_length(chunk.dictionary), pa.int64())
    return int(pc.sum(lengths.take(chunk.indices.drop_null())).as_py() or 0)


def _within(size: int, limit: int) -> None:
    if size > limit:
        raise OverLimits(f"too large once it is decoded bytes={size} limit={limit}")
