"""A segment's bytes: ``records.parquet``, the truth, and ``ids.parquet``, the way to a record by its id.

``records.parquet``: ``id, seq, content_hash, embedding_hash, embedding, document, uri, metadata``, rows ascending by ``seq``; the
row number is the record's address in this segment. ``ids.parquet``: ``id_hash, id, row, seq, content_hash, embedding_hash``, ascending by
(``id_hash``, ``id``), in small row groups with statistics: a lookup reads the hashes, then only the groups that match; and
``count`` and ``delete`` never read the records. ``deletes`` objects: one column ``row``, ascending, the rows that are no longer live.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.errors import Corrupt
from chromalith.model.arrow import fixed_size_list, matrix, required
from chromalith.model.checksum import Digests, content_digest, embedding_digest
from chromalith.model.manifest_fields import ROWS_MAX
from chromalith.model.metadata import decode_metadata
from chromalith.model.parquet_limits import check_groups, read_bounded
from chromalith.model.record import Record

RECORD_ROWS_PER_GROUP = 1024  # 1.5 MiB of 384-d embeddings: what one point lookup reads
ID_ROWS_PER_GROUP = 1024  # about 100 KiB
_HASH = pa.binary(32)
GROUP_BYTES_MAX = 2**31
"""What one row group may take, decoded: 1,024 records of a delta's largest size are refused by the delta's own limits."""


def id_hash(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The first 64 bits (little-endian) of SHA-256 of each id, uint64 (n,)."""
    sha256 = hashlib.sha256
    return np.frombuffer(b"".join(sha256(text.encode()).digest()[:8] for text in ids), dtype="<u8").astype(np.uint64)


def digests(column: pa.ChunkedArray | pa.Array) -> Digests:
    """A ``binary(32)`` column as uint8 (n, 32)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], _HASH)
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return data[array.offset * 32 : (array.offset + len(array)) * 32].reshape(len(array), 32)


def hash_column(values: Sequence[bytes]) -> pa.Array:
    """Digests of 32 bytes each as a ``binary(32)`` column."""
    return pa.FixedSizeBinaryArray.from_buffers(_HASH, len(values), [None, pa.py_buffer(b"".join(values))])


def segment_table(records: Sequence[Record]) -> pa.Table:
    """The table of a segment: ``records`` in ascending order of ``seq``, with their hashes."""
    records = sorted(records, key=lambda record: record.seq)
    content, embedding = _hashed(records)
    return pa.table(
        {
            "id": pa.array([record.id for record in records], pa.string()),
            "seq": pa.array([record.seq for record in records], pa.int64()),
            "content_hash": hash_column(content),
            "embedding_hash": hash_column(embedding),
            "embedding": fixed_size_list(np.stack([record.embedding for record in records])),
            "document": pa.array([record.document for record in records], pa.string()),
            "uri": pa.array([record.uri for record in records], pa.string()),
            "metadata": pa.array([record.metadata for record in records], pa.string()),
        }
    )


def record_digests(table: pa.Table) -> tuple[Digests, Digests]:
    """Content and embedding digests of the rows of a segment's table, recomputed from the records, uint8 (n, 32) each."""
    content, embedding = _hashed(records_of(table))
    return digests(hash_column(content)), digests(hash_column(embedding))


def _hashed(records: Sequence[Record]) -> tuple[list[bytes], list[bytes]]:
    content = [content_digest(r.id, r.document, r.uri, decode_metadata(r.metadata)) for r in records]
    return content, [embedding_digest(r.id, r.embedding) for r in records]


def encode_records(table: pa.Table) -> bytes:
    """The body of ``records.parquet``. Embeddings and hashes are stored plain: they do not compress."""
    sink = io.BytesIO()
    plain = {"embedding", "content_hash", "embedding_hash", "seq"}
    pq.write_table(
        required(table, "embedding"),
        sink,
        row_group_size=RECORD_ROWS_PER_GROUP,
        compression={name: "none" if name in plain else "zstd" for name in table.column_names},
        use_dictionary=False,
        write_statistics=["seq"],
        write_page_checksum=True,  # a lookup reads parts of the object, whose SHA-256 says nothing about a part
    )
    return sink.getvalue()


def encode_ids(table: pa.Table) -> bytes:
    """The body of ``ids.parquet`` for a segment's table."""
    ids = table.column("id").to_pylist()
    hashes = id_hash(ids)
    order = np.argsort(hashes, kind="stable")
    if len(order) > 1 and bool((hashes[order][1:] == hashes[order][:-1]).any()):  # two ids with one 64-bit hash
        order = np.array(sorted(range(len(ids)), key=lambda row: (int(hashes[row]), ids[row])), dtype=np.int64)
    by_id = table.select(["id", "seq", "content_hash", "embedding_hash"]).take(pa.array(order))
    by_id = by_id.add_column(0, "id_hash", pa.array(hashes[order], pa.uint64()))
    by_id = by_id.add_column(2, "row", pa.array(order.astype(np.uint32), pa.uint32()))
    sink = io.BytesIO()
    pq.write_table(
        by_id,
        sink,
        row_group_size=ID_ROWS_PER_GROUP,
        compression={name: "zstd" if name == "id" else "none" for name in by_id.column_names},
        use_dictionary=False,
        write_statistics=["id_hash"],
        write_page_checksum=True,
    )
    return sink.getvalue()


RECORD_TYPES = {
    "id": pa.string(), "seq": pa.int64(), "content_hash": _HASH, "embedding_hash": _HASH, "document": pa.string(), "uri": pa.string(),
    "metadata": pa.string(),
}  # fmt: skip
ID_TYPES = {
    "id_hash": pa.uint64(), "id": pa.string(), "row": pa.uint32(), "seq": pa.int64(), "content_hash": _HASH, "embedding_hash": _HASH,
}  # fmt: skip


def check_shape(file: pq.ParquetFile, types: Mapping[str, pa.DataType], rows: int) -> None:
    """Raise ``ValueError`` unless a segment's file has the columns of its format, the rows of its manifest, and groups within limits.

    To be asked before a value is decoded: a hash says that the bytes are as they were written, not that their writer meant well.
    """
    schema = file.schema_arrow
    found = {field.name: field.type for field in schema}
    if len(found) != len(schema) or any(found.get(name) != kind for name, kind in types.items()):
        raise ValueError(f"columns are not those of the format columns={found}")
    if types is RECORD_TYPES:
        embedding = found.get("embedding", pa.null())
        if not pa.types.is_fixed_size_list(embedding) or embedding.value_type != pa.float32() or not embedding.list_size:
            raise ValueError(f"embeddings are not float32 of one width type={embedding}")
    if file.metadata.num_rows != rows:
        raise ValueError(f"it does not have the rows that its manifest says rows={file.metadata.num_rows} expected={rows}")
    check_groups(file, GROUP_BYTES_MAX)


def encode_deletes(rows: npt.NDArray[np.uint32]) -> bytes:
    """The body of a deletes object: ``rows`` ascending and unique."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"row": pa.array(rows, pa.uint32())}), sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def decode_deletes(body: bytes, key: str) -> npt.NDArray[np.uint32]:
    """The rows in a deletes object, ascending. Raises ``Corrupt``."""
    try:
        column = read_bounded(body, rows_max=ROWS_MAX, bytes_max=8 * ROWS_MAX).column("row")
        if column.type != pa.uint32() or column.null_count:
            raise ValueError(f"rows are not numbers type={column.type}")
        rows: npt.NDArray[np.uint32] = column.to_numpy()
        if not bool((rows[1:] > rows[:-1]).all()):
            raise ValueError("rows are not ascending")
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise Corrupt(f"not a deletes object key={key}: {error}", key=key) from error
    return rows


def records_of(table: pa.Table, rows: Sequence[int] | None = None) -> list[Record]:
    """Rows of a segment's table as records (all of them, or those of ``rows``, in that order)."""
    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    embeddings, _ = matrix(table.column("embedding"))
    columns: list[list[Any]] = [table.column(name).to_pylist() for name in ("id", "seq", "document", "uri", "metadata")]
    return [
        Record(record_id, seq, embeddings[row], document, uri, metadata)
        for row, (record_id, seq, document, uri, metadata) in enumerate(zip(*columns, strict=True))
    ]
