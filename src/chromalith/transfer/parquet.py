"""Records in a Parquet file: our own layout both ways, and reading whatever has ids and embeddings.

The layout that is written: ``id`` (string), ``embedding`` (fixed_size_list<float32>), ``document``, ``uri`` (string)
and ``metadata`` (JSON text), in the order of insertion. The footer says what the collection is, of which version the
records are, and what they add up to, under the key ``chromalith.export`` as JSON: ``format, name, configuration,
schema, metadata, dimension, version, records, content, embedding``. Pages carry checksums.

What is read besides: other column names (:data:`COLUMNS`); embeddings as lists of any float, of fixed size or not; ids
that are integers; metadata as JSON text, as a struct (a null field is an absent key) or as a map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.model import manifest_fields as fields
from chromalith.model.arrow import fixed_size_list, matrix
from chromalith.model.checksum import Setsum
from chromalith.model.metadata import encode_metadata
from chromalith.transfer.export import check_written
from chromalith.transfer.place import check_free, placed
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Definition, Progress, Source, Sums, Written, silent

FORMAT = 1
DIMENSION_MAX = 2**16
"""A batch of 5,000 such embeddings is 1.3 GB."""
KEY = b"chromalith.export"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "ids", "_id"),
    "embedding": ("embedding", "embeddings", "vector"),
    "document": ("document", "documents", "text", "text_chunk"),
    "uri": ("uri", "uris"),
    "metadata": ("metadata", "metadatas"),
}
"""Where a field is looked for, in this order."""


class ParquetSource:
    """A Parquet file as a source.

    Args:
        path: of the file.
        columns: the names of the columns that are called otherwise, by field (``{"embedding": "minilm"}``).
        space: the distance, for a file that does not say it.

    Raises ``Invalid`` if it is not Parquet, or has no ids or embeddings.
    """

    def __init__(self, path: Path | str, *, columns: Mapping[str, str] | None = None, space: str = "l2") -> None:
        self._path = Path(path)
        with _named_errors(self._path):
            file = self._open()
        self._rows = int(file.metadata.num_rows)
        self._columns = _columns(file.schema_arrow, columns or {}, self._path)
        self._footer = _footer(file.metadata.metadata or {}, self._path)
        self._definition = Definition.of_space(space)
        if self._footer is not None:
            footer = self._footer
            self._definition = Definition.of_fields(footer)

    @property
    def name(self) -> str:
        return str(self._footer["name"]) if self._footer else self._path.stem

    @property
    def definition(self) -> Definition:
        return self._definition

    @property
    def version(self) -> int | None:
        version = None if self._footer is None else self._footer["version"]
        return None if version is None else int(version)

    @property
    def sums(self) -> Sums | None:
        if self._footer is None:
            return None
        return Sums(Setsum.parse(self._footer["content"]), Setsum.parse(self._footer["embedding"]))

    def total(self) -> int:
        return self._rows

    def batches(self, rows: int) -> Iterator[Batch]:
        row = 0
        wanted = sorted(set(self._columns.values()))
        with _named_errors(self._path):
            self._check_widths()
            for found in self._open().iter_batches(rows, columns=wanted):
                yield self._batch(found, row)
                row += len(found)

    def _check_widths(self) -> None:
        """A null row of a fixed-size list takes its width once it is read, though it takes nothing in the file."""
        schema = self._open().schema_arrow
        kind = schema.field(self._columns["embedding"]).type
        if pa.types.is_fixed_size_list(kind) and not 0 < kind.list_size <= DIMENSION_MAX:
            raise Invalid(f"embeddings are too wide, or empty file={self._path} dimension={kind.list_size} limit={DIMENSION_MAX}")

    def _open(self) -> pq.ParquetFile:
        # Read as a stream: without pre-buffering, a row group is never in memory as a whole.
        return pq.ParquetFile(self._path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)

    def _batch(self, found: pa.RecordBatch, start: int) -> Batch:
        def column(field: str) -> pa.Array | None:
            return found.column(self._columns[field]) if field in self._columns else None

        return Batch(
            ids=self._ids(found.column(self._columns["id"]), start),
            embeddings=self._embeddings(found.column(self._columns["embedding"]), start),
            documents=self._texts("document", column("document"), len(found)),
            uris=self._texts("uri", column("uri"), len(found)),
            metadatas=self._metadatas(column("metadata"), len(found), start),
        )

    def _ids(self, column: pa.Array, start: int) -> list[str]:
        if column.null_count:
            raise self._wrong("an id is null", start + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False))))
        if pa.types.is_integer(column.type):
            return [str(value) for value in column.to_pylist()]
        if not _is_text(column.type):
            raise self._wrong(f"ids are neither text nor integers type={column.type}", start)
        ids: list[str] = column.to_pylist()
        return ids

    def _embeddings(self, column: pa.Array, start: int) -> npt.NDArray[np.float32]:
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise self._wrong(f"embeddings are not lists type={kind}", start)
        if column.null_count:
            raise self._wrong("an embedding is null", start + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False))))
        if len(column) == 0:
            return np.empty((0, 0), np.float32)
        if not pa.types.is_fixed_size_list(kind):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            if (lengths != lengths[0]).any():
                row = int(np.argmax(lengths != lengths[0]))
                raise self._wrong(f"embeddings have different lengths dimension={lengths[row]} before={lengths[0]}", start + row)
            column = pa.FixedSizeListArray.from_arrays(column.flatten(), int(lengths[0]))
        if not (pa.types.is_floating(column.type.value_type) or pa.types.is_integer(column.type.value_type)):
            raise self._wrong(f"embeddings are not lists of numbers type={kind}", start)
        values, _ = matrix(column)
        with np.errstate(over="ignore"):  # what is too large becomes an infinity, and that is refused with its row
            return np.ascontiguousarray(values, dtype=np.float32)

    def _texts(self, field: str, column: pa.Array | None, rows: int) -> list[str | None]:
        if column is None or pa.types.is_null(column.type):
            return [None] * rows
        if not _is_text(column.type):
            raise Invalid(f"a column is not text file={self._path} column={self._columns[field]} type={column.type}")
        texts: list[str | None] = column.to_pylist()
        return texts

    def _metadatas(self, column: pa.Array | None, rows: int, start: int) -> list[dict[str, Any] | None]:
        if column is None or pa.types.is_null(column.type):
            return [None] * rows
        result: list[dict[str, Any] | None] = []
        for row, value in enumerate(column.to_pylist(), start):
            try:
                found = json.loads(value) if isinstance(value, str) else dict(value) if isinstance(value, list) else value
            except (ValueError, TypeError, RecursionError) as error:
                raise self._wrong("metadata is neither JSON nor a map", row) from error
            if found is not None and not isinstance(found, dict):
                raise self._wrong("metadata is not an object", row)
            result.append({key: item for key, item in (found or {}).items() if item is not None} or None)
        return result

    def _wrong(self, message: str, row: int) -> Invalid:
        return Invalid(f"{message} file={self._path} row={row}", hint="rows are counted from 0")


class ParquetTarget:
    """One Parquet file. It appears under ``path`` when it is whole."""

    def __init__(self, path: Path | str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = Path(path)
        self._clock = clock

    def check(self) -> None:
        check_free(self._path)

    def write(self, source: Source, progress: Progress = silent) -> Written:
        total = source.total()
        with placed(self._path, self._clock) as part:
            writer = ParquetWriter(part, source)
            with writer:
                for batch in source.batches(ROWS_DEFAULT):
                    writer.append(batch)
                    progress(writer.records, total)
            written = Written(writer.records, part.stat().st_size, writer.sums, "parquet")
            check_written(source, written)
        return written


class ParquetWriter:
    """A file of our own layout, batch after batch. What it adds up to is written last, into the footer."""

    def __init__(self, path: Path, source: Source) -> None:
        self._path = path
        self._source = source
        self._writer: pq.ParquetWriter | None = None
        self._dimension: int | None = None
        self.records = 0
        self.sums = Sums()

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._finish()
        elif self._writer is not None:
            self._writer.close()

    def append(self, batch: Batch) -> None:
        """Write the records of one batch. Raises ``Invalid`` if they have another dimension than those before."""
        if not len(batch):
            return
        dimension = int(batch.embeddings.shape[1])
        if self._dimension not in (None, dimension):
            raise Invalid(f"embeddings have different lengths dimension={dimension} before={self._dimension} record={self.records}")
        self._dimension = dimension
        table = pa.table(
            {
                "id": pa.array(batch.ids, pa.string()),
                "embedding": fixed_size_list(batch.embeddings),
                "document": pa.array(batch.documents, pa.string()),
                "uri": pa.array(batch.uris, pa.string()),
                "metadata": pa.array([encode_metadata(metadata) for metadata in batch.metadatas], pa.string()),
            }
        )
        self._open(table.schema).write_table(table)
        self.records += len(batch)
        self.sums = self.sums.plus(batch)

    @property
    def size_bytes(self) -> int:
        """What is in the file so far."""
        return 0 if self._writer is None else self._path.stat().st_size

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                schema,
                # Floats of real embeddings do not compress (chromalith.model.delta has the measurement).
                compression={name: "none" if name == "embedding" else "zstd" for name in schema.names},
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            )
        return self._writer

    def _finish(self) -> None:
        texts = [(name, pa.string()) for name in ("document", "uri", "metadata")]
        empty = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32())), *texts])
        writer = self._open(empty)
        definition = self._source.definition
        footer = {
            "format": FORMAT,
            "name": self._source.name,
            "configuration": definition.configuration,
            "schema": definition.schema,
            "metadata": definition.metadata,
            "space": definition.space,
            "dimension": self._dimension,
            "version": self._source.version,
            "records": self.records,
            "content": str(self.sums.content),
            "embedding": str(self.sums.embedding),
        }
        writer.add_key_value_metadata({KEY: json.dumps(footer)})
        writer.close()


def _columns(schema: pa.Schema, renamed: Mapping[str, str], path: Path) -> dict[str, str]:
    unknown = renamed.keys() - COLUMNS.keys()
    if unknown:
        raise Invalid(f"no such field field={sorted(unknown)[0]}", hint=f"fields are {', '.join(COLUMNS)}")
    found: dict[str, str] = {}
    for field, names in COLUMNS.items():
        wanted = (renamed[field],) if field in renamed else names
        name = next((name for name in wanted if name in schema.names), None)
        if name is not None and schema.names.count(name) > 1:
            raise Invalid(f"the file has several columns of one name file={path} column={name}")
        if name is not None:
            found[field] = name
        elif field in renamed or field in ("id", "embedding"):
            raise Invalid(
                f"the file has no column for {field} file={path} looked_for={','.join(wanted)} columns={','.join(schema.names)}",
                hint="name the column",
            )
    return found


def _footer(metadata: Mapping[bytes, bytes], path: Path) -> dict[str, Any] | None:
    if KEY not in metadata:
        return None
    try:
        footer = dict(fields.mapping(json.loads(metadata[KEY])))
        if fields.number(footer["format"]) > FORMAT:
            hint = "upgrade chromalith"
            raise Invalid(f"the file has a newer format file={path} format={footer['format']} known={FORMAT}", hint=hint)
        fields.text(footer["name"])
        Definition.of_fields(footer)
        for name in ("content", "embedding"):
            Setsum.parse(footer[name])
        if footer["version"] is not None:
            fields.number(footer["version"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, Invalid):  # which is a ValueError
            raise
        raise Invalid(f"what the file says about itself cannot be read file={path}: {error}", hint="export it again") from error
    return footer


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Invalid(f"no such file file={path}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise Invalid(f"not a whole Parquet file file={path}", hint=str(error).partition("\n")[0][:200]) from error
