"""A delta's bytes: Parquet, one row an operation.

Columns ``op, id, embedding, document, uri, metadata``; the footer carries the format's version, the collection and the row
count. Embeddings are stored plain, because floats of real embeddings do not compress (measured: 1,000 x 384 encode in 5 ms
plain, 44 ms with Parquet's default dictionary); text is zstd. ``embedding`` is left out where no row has one.

The body of a *void* delta is the four bytes ``VOID``: its writer gave up, and it stands for no operation.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.errors import Corrupt, Invalid
from chromalith.model.arrow import fixed_size_list, matrix
from chromalith.model.ids import CollectionId, DeltaId, body_digest
from chromalith.model.metadata import check_patch
from chromalith.model.operation import OP_BY_LABEL, Op, Operations
from chromalith.model.parquet_limits import read_bounded

FORMAT = 1
VOID = b"VOID"
SIZE_BYTES_MAX = 64 * 2**20  # one PUT, read whole by every reader that overlays it
OPERATIONS_MAX = 10_000
"""10,000 x 1,536 float32 are 61 MB: what fits the size limit at the widest common embedding. Deletes carry ids only, and may be as many
as a filter finds: for them the size is the limit."""
DECODED_BYTES_MAX = 2**30
"""Of one delta: 16 times its size limit, and more than 100,000 characters for each of 10,000 documents."""
ROWS_MAX = 2**22
"""Ids that look like chance take 16 bytes and more each: as many deletes fill a delta of the largest size anyway."""
_META = b"chromalith.delta"


@dataclass(frozen=True, slots=True)
class Delta:
    """A decoded delta; ``operations`` is ``None`` for a void one."""

    id: DeltaId
    operations: Operations | None


def encode_delta(collection: CollectionId, operations: Operations) -> bytes:
    """The body of a delta. Deterministic: equal operations give equal bytes.

    Raises ``Invalid`` over the limits: a call is never split silently, because it is atomic.
    """
    if len(operations) > OPERATIONS_MAX and any(op is not Op.DELETE for op in operations.ops):
        raise Invalid(
            f"too many records in one call records={len(operations)} limit={OPERATIONS_MAX}",
            hint="split the call; each part is then atomic by itself",
        )
    if len(operations) > ROWS_MAX:
        raise Invalid(f"too many ids in one call ids={len(operations)} limit={ROWS_MAX}", hint="split the call")
    columns: dict[str, pa.Array] = {
        "op": pa.array([op.label for op in operations.ops], pa.string()),
        "id": pa.array(operations.ids, pa.string()),
    }
    if operations.embeddings is not None:
        columns["embedding"] = fixed_size_list(operations.embeddings, operations.has_embedding)
    columns["document"] = pa.array(operations.documents, pa.string())
    columns["uri"] = pa.array(operations.uris, pa.string())
    columns["metadata"] = pa.array(operations.metadata, pa.string())
    if sum(column.nbytes for column in columns.values()) > DECODED_BYTES_MAX // 2:  # half: what reads it counts generously
        raise Invalid(
            f"one call is too large limit={DECODED_BYTES_MAX // 2}", hint="split the call; each part is then atomic by itself"
        )
    footer = {b"format": str(FORMAT).encode(), b"collection": collection.encode(), b"rows": str(len(operations)).encode()}
    table = pa.table(columns).replace_schema_metadata({_META + b"." + k: v for k, v in footer.items()})
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression={name: "none" if name == "embedding" else "zstd" for name in table.column_names},
        use_dictionary=["op"],
        write_statistics=False,
    )
    body = sink.getvalue()
    if len(body) > SIZE_BYTES_MAX:
        raise Invalid(
            f"one call is too large bytes={len(body)} limit={SIZE_BYTES_MAX}",
            hint="split the call; each part is then atomic by itself",
        )
    return body


def decode_delta(collection: CollectionId, delta: DeltaId, body: bytes) -> Delta:
    """The operations in ``body``, checked against the digest in ``delta``.

    Raises ``Corrupt`` if the bytes are not what the writer wrote, ``Invalid`` if they are of a newer format.
    """
    if body == VOID:
        return Delta(delta, None)
    if body_digest(body) != delta.digest:
        raise Corrupt(f"a delta's bytes do not match the digest in its name delta={delta}", hint="see docs/protocol.md, corrupt deltas")
    try:
        table = read_bounded(body, rows_max=ROWS_MAX, bytes_max=DECODED_BYTES_MAX)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Corrupt(f"a delta's bytes are not Parquet, or are too many delta={delta}: {error!s:.200}") from error
    meta = table.schema.metadata or {}
    stated = meta.get(_META + b".format", b"")
    if not stated.isdigit():
        raise Corrupt(f"a delta names no format delta={delta}")
    version = int(stated)
    if version > FORMAT:
        raise Invalid(
            f"a delta has a newer format delta={delta} format={version} known={FORMAT}", hint="upgrade chromalith on this machine"
        )
    if meta.get(_META + b".collection") != collection.encode():
        raise Corrupt(f"a delta belongs to another collection delta={delta}")
    try:
        return Delta(delta, _operations(table))
    except (LookupError, AttributeError, TypeError, ValueError, RecursionError, pa.ArrowException) as error:
        raise Corrupt(f"a delta's columns are not those of its format delta={delta}: {error!s:.200}") from error


def _operations(table: pa.Table) -> Operations:
    """The rows as operations. Raises one of the errors that :func:`decode_delta` catches for what a fold could not apply.

    What is believed here is written into a segment. Without these checks, one delta of another program's making would stop every
    fold after it, instead of being quarantined.
    """
    rows = table.num_rows
    embeddings, has_embedding = None, np.zeros(rows, np.bool_)
    if "embedding" in table.column_names:
        kind = table.column("embedding").type
        if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32() or not kind.list_size:
            raise ValueError(f"embeddings are not float32 of one width type={kind}")
        embeddings, has_embedding = matrix(table.column("embedding"))
        if not np.isfinite(embeddings).all():
            raise ValueError("an embedding has a NaN or an infinity")
    op, ids, documents, uris, metadata = (_texts(table, name) for name in ("op", "id", "document", "uri", "metadata"))
    if not all(ids):
        raise ValueError("an id is null or empty")
    for patch in metadata:
        if patch is not None:
            check_patch(patch)
    return Operations(
        ops=[OP_BY_LABEL[label or ""] for label in op],
        ids=[each or "" for each in ids],
        embeddings=embeddings,
        has_embedding=has_embedding,
        documents=documents,
        uris=uris,
        metadata=metadata,
    )


def _texts(table: pa.Table, name: str) -> list[str | None]:
    column = table.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"a column is not text column={name} type={column.type}")
    texts: list[str | None] = column.to_pylist()
    return texts

