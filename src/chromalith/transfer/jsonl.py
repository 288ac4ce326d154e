"""Records as JSON lines, in the record format of Chroma's own data pipeline tools (``chroma_dp``, ``--format record``).

One object a line: ``{"id": text, "metadata": {..}|null, "embedding": [numbers], "text_chunk": text|null}``, and
``"uri"`` where a record has one (those tools ignore it). A number is written so that reading it gives the same float32.
The format has no place for what the collection is: name the distance when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.transfer.export import check_written
from chromalith.transfer.place import check_free, placed
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Definition, Progress, Source, Sums, Written, silent

_TEXTS = ("text_chunk", "document", "text")
LINE_BYTES_MAX = 64 * 2**20
"""No record has a longer line: it would not fit a delta. Without a limit a file without line ends would be read into memory as a whole."""


class JsonlSource:
    """A file of JSON lines as a source. Empty lines are skipped.

    Args:
        path: of the file.
        space: the distance that the collection is to measure.

    Raises ``Invalid`` if there is no such file; :meth:`batches` raises it with the line that is wrong.
    """

    def __init__(self, path: Path | str, *, space: str = "l2") -> None:
        self._path = Path(path)
        self._space = space
        if not self._path.is_file():
            raise Invalid(f"no such file file={self._path}")

    @property
    def name(self) -> str:
        return self._path.stem

    @property
    def definition(self) -> Definition:
        return Definition.of_space(self._space)

    @property
    def version(self) -> int | None:
        return None

    @property
    def sums(self) -> Sums | None:
        return None

    def total(self) -> int | None:
        return None

    def batches(self, rows: int) -> Iterator[Batch]:
        pending: list[_Line] = []
        for record in self._records():
            pending.append(record)
            if len(pending) == rows:
                yield _batch(pending)
                pending = []
        if pending:
            yield _batch(pending)

    def _records(self) -> Iterator[_Line]:
        dimension: int | None = None
        with self._path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise self._wrong(f"a line is too long bytes>{LINE_BYTES_MAX}", number)
                if line.isspace():
                    continue
                record = self._parse(line, number)
                if dimension not in (None, len(record.embedding)):
                    raise self._wrong(f"embeddings have different lengths dimension={len(record.embedding)} before={dimension}", number)
                dimension = len(record.embedding)
                yield record

    def _parse(self, line: bytes, number: int) -> _Line:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith(b"\n") else ": the file ends within it"
            raise self._wrong(f"a line is not JSON{cut}", number) from error
        if not isinstance(value, dict):
            raise self._wrong("a line is not an object", number)
        record_id, metadata, uri = value.get("id"), value.get("metadata"), value.get("uri")
        text = next((value[key] for key in _TEXTS if value.get(key) is not None), None)
        if not isinstance(record_id, str) or not record_id:
            raise self._wrong("a record has no id", number)
        if metadata is not None and not isinstance(metadata, dict):
            raise self._wrong("metadata is not an object", number)
        if not isinstance(text, str | None) or not isinstance(uri, str | None):
            raise self._wrong("a document or uri is not text", number)
        return _Line(record_id, self._embedding(value.get("embedding"), number), text, uri, metadata)

    def _embedding(self, value: Any, number: int) -> npt.NDArray[np.float32]:
        if not isinstance(value, list) or not value:
            raise self._wrong("a record has no embedding", number)
        if not set(map(type, value)) <= {float, int}:
            raise self._wrong("an embedding is not a list of numbers", number)
        try:
            with np.errstate(over="ignore"):
                embedding = np.array(value, np.float64).astype(np.float32)
        except OverflowError as error:
            raise self._wrong("an embedding has a number too large for float32", number) from error
        if not np.isfinite(embedding).all():
            raise self._wrong("an embedding has a NaN or an infinity, or is too large for float32", number)
        return embedding

    def _wrong(self, message: str, number: int) -> Invalid:
        return Invalid(f"{message} file={self._path} line={number}", hint="lines are counted from 1")


class JsonlTarget:
    """One file of JSON lines. It appears under ``path`` when it is whole."""

    def __init__(self, path: Path | str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = Path(path)
        self._clock = clock

    def check(self) -> None:
        check_free(self._path)

    def write(self, source: Source, progress: Progress = silent) -> Written:
        total, records, sums = source.total(), 0, Sums()
        with placed(self._path, self._clock) as part:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for batch in source.batches(ROWS_DEFAULT):
                    file.writelines(_lines(batch))
                    records += len(batch)
                    sums = sums.plus(batch)
                    progress(records, total)
            written = Written(records, part.stat().st_size, sums, "jsonl")
            check_written(source, written)
        return written


class _Line:
    """One record of a file."""

    __slots__ = ("document", "embedding", "id", "metadata", "uri")

    def __init__(
        self, record_id: str, embedding: npt.NDArray[np.float32], document: str | None, uri: str | None, metadata: dict[str, Any] | None
    ) -> None:
        self.id = record_id
        self.embedding = embedding
        self.document = document
        self.uri = uri
        self.metadata = {key: value for key, value in (metadata or {}).items() if value is not None} or None


def _batch(lines: list[_Line]) -> Batch:
    return Batch(
        ids=[line.id for line in lines],
        embeddings=np.stack([line.embedding for line in lines]),
        documents=[line.document for line in lines],
        uris=[line.uri for line in lines],
        metadatas=[line.metadata for line in lines],
    )


def _lines(batch: Batch) -> Iterator[str]:
    for i, row in enumerate(batch.embeddings):
        record: dict[str, Any] = {"id": batch.ids[i], "metadata": batch.metadatas[i]}
        last: dict[str, Any] = {"text_chunk": batch.documents[i]}
        if batch.uris[i] is not None:
            last["uri"] = batch.uris[i]
        yield f"{_json(record)[:-1]}, \"embedding\": {_numbers(row)}, {_json(last)[1:]}\n"


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _numbers(row: npt.NDArray[np.float32]) -> str:
    """Nine significant digits tell any two float32 apart, with room to spare for the float64 that most readers parse first; a
    float64's own seventeen would double the file."""
    if np.signbit(row[row == 0]).any():  # "-0" is an integer to JSON, and loses its sign
        return _json(row.tolist())
    return "[" + ", ".join(["%.9g"] * len(row)) % tuple(row.tolist()) + "]"
