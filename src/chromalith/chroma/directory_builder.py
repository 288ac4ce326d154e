"""Building a stock, writable Chroma directory from a source.

1. Create the collection, with its definition.
2. Give Chroma the records in order, in large calls. The *direct* way gives it ids and vectors, and everything of those
   records that bring a metadata key or a type that none before had, so that Chroma enters it in the collection's schema
   as it would have.
3. Close; open again; make Chroma write all its vectors out: it does so by itself only every ``sync_threshold``
   operations, and not on ``close``. The threshold counts only if it is set *before* the collection is first read or
   written by the process. Then set it back, and close.
4. The direct way: write the text of the other records into SQLite (:mod:`chromalith.chroma.directory_text`).
5. Check the files, then what stock Chroma answers (:mod:`chromalith.chroma.directory_check`).

The *api* way gives Chroma everything in step 2. It works with any version, and takes 1.3 to 1.4 times the processor
time (10,000 x 384 with a line of text each, checks included: 6.0 s against 4.7 s on an idle core).
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from chromadb.api import ServerAPI
from chromadb.api.collection_configuration import UpdateCollectionConfiguration, UpdateHNSWConfiguration
from chromadb.api.rust import RustBindingsAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import ChromaError
from chromadb.types import Collection as CollectionModel

from chromalith.chroma.definitions import to_create
from chromalith.chroma.directory_check import check_answers, check_flushed, operations_waiting
from chromalith.chroma.directory_text import DOCUMENT_KEY, has_proven_tables, is_proven, write_text
from chromalith.chroma.stock import collection, opened
from chromalith.errors import Bug, Invalid
from chromalith.transfer.export import check_written
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Definition, Progress, Source, Sums, Written, silent

SYNC_THRESHOLD_MIN = 2
"""The least that Chroma takes: it then writes all vectors after each call."""
SYNC_EACH_CALL_MAX = 10 * ROWS_DEFAULT
"""Records up to which a directory is built so. What is written by then need not be indexed a second time in step 3.
Each such write is of everything so far, so in larger collections there are about ``SYNC_PARTS`` of them, and step 3
indexes at most one part again."""
SYNC_PARTS = 8
_SYNC_THRESHOLD_DEFAULT = 1000  # Chroma's own


class Way(StrEnum):
    """How a directory is built."""

    AUTO = "auto"
    API = "api"
    DIRECT = "direct"


def build_directory(directory: Path, source: Source, *, way: Way = Way.AUTO, progress: Progress = silent) -> Written:
    """Build a Chroma directory with the one collection that ``source`` is, checked. ``directory`` must not exist.

    Returns what was written, ``how`` being ``chroma-api`` or ``chroma-direct``. Raises ``Invalid`` if the direct way is
    asked for and not proven for this version of chromadb, or Chroma refuses the collection; ``Corrupt`` if the result
    is not right.
    """
    if way is Way.DIRECT and not is_proven():
        raise Invalid("the direct way is not proven with this version of chromadb", hint="use way='auto' or way='api'")
    directory.mkdir(parents=True)
    with opened(directory) as server:
        cid = create(server, source.name, source.definition, source.total())
        direct = way is not Way.API and is_proven() and has_proven_tables(directory)
        filling = _Filling(server, cid, progress, source.total(), direct=direct)
        for batch in source.batches(ROWS_DEFAULT):
            filling.add(batch)
    flush(directory, source.name, source.definition)
    if direct:
        write_text(directory, str(cid), source, filling.whole)
    written = Written(filling.records, size_bytes(directory), filling.sums, "chroma-direct" if direct else "chroma-api")
    check_written(source, written)
    check_flushed(directory, str(cid), filling.records)
    check_answers(directory, source, filling.records, filling.sums)
    return written


def create(server: ServerAPI, name: str, definition: Definition, total: int | None) -> Any:
    """Create the collection and return its UUID; its ``sync_threshold`` is one for building until :func:`flush`."""
    if not isinstance(server, RustBindingsAPI):
        raise Bug("a Chroma directory is not opened by Chroma's own engine")
    configuration, schema = (None if given is None else json.dumps(given) for given in to_create(definition))
    metadata = None if definition.metadata is None else dict(definition.metadata)
    try:
        made = server.bindings.create_collection(
            name, configuration, schema, metadata, False, DEFAULT_TENANT, DEFAULT_DATABASE
        )
    except (ChromaError, ValueError) as error:
        raise Invalid(f"Chroma refuses the collection name={name!r}", hint=str(error)[:300]) from error
    model = collection(server, name)
    small = total is None or total <= SYNC_EACH_CALL_MAX
    set_sync_threshold(server, model, SYNC_THRESHOLD_MIN if small else (total or 0) // SYNC_PARTS)
    return made.id


def flush(directory: Path, name: str, definition: Definition) -> None:
    """Make Chroma write every vector of a collection to disk, and give the collection its own ``sync_threshold`` back.

    No engine may have the directory open: one that has loaded the collection keeps the threshold that it loaded."""
    with opened(directory) as server:
        model = collection(server, name)
        set_sync_threshold(server, model, SYNC_THRESHOLD_MIN)
        server._count(model.id)
        server._get(model.id, limit=1, include=["embeddings"])  # loads the vectors, and so replays what waits for them
        if operations_waiting(directory, str(model.id)):  # a single one is below the threshold; a second one changes nothing
            server._delete(model.id, ids=[_absent(server, model)])
        wanted = (definition.configuration.get("hnsw") or {}).get("sync_threshold")
        set_sync_threshold(server, model, int(wanted or _SYNC_THRESHOLD_DEFAULT))


def _absent(server: ServerAPI, model: CollectionModel) -> str:
    """An id that no record has."""
    absent = "no record"
    while server._get(model.id, ids=[absent], include=[])["ids"]:
        absent += " either"
    return absent


def set_sync_threshold(server: ServerAPI, model: CollectionModel, operations: int) -> None:
    """Change after how many operations Chroma writes a collection's vectors."""
    configuration = UpdateCollectionConfiguration(hnsw=UpdateHNSWConfiguration(sync_threshold=operations))
    server._modify(model.id, new_configuration=configuration)


def size_bytes(directory: Path) -> int:
    """The size of all files."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


class _Filling:
    """Step 2: what Chroma is given, and what is left for step 4."""

    def __init__(self, server: ServerAPI, cid: Any, progress: Progress, total: int | None, *, direct: bool) -> None:
        self._server = server
        self._cid = cid
        self._progress = progress
        self._total = total
        self._direct = direct
        self._known: set[tuple[str, str]] = set()
        self._rows_max = min(ROWS_DEFAULT, server.get_max_batch_size())
        self.whole: set[int] = set()  # positions of the records that Chroma was given with their text
        self.records = 0
        self.sums = Sums()

    def add(self, batch: Batch) -> None:
        for start in range(0, len(batch), self._rows_max):
            self._add(batch.part(start, start + self._rows_max))

    def _add(self, batch: Batch) -> None:
        given = self._whole_rows(batch) if self._direct else range(len(batch))
        documents: list[str | None] = [None] * len(batch)
        uris: list[str | None] = [None] * len(batch)
        metadatas: list[dict[str, Any] | None] = [None] * len(batch)
        for row in given:
            documents[row], uris[row], metadatas[row] = batch.documents[row], batch.uris[row], batch.metadatas[row]
        self._server._add(
            ids=batch.ids,
            collection_id=self._cid,
            embeddings=list(batch.embeddings),
            metadatas=metadatas,  # type: ignore[arg-type]  # stock Chroma takes None for a record, whatever its signature says
            documents=documents,  # type: ignore[arg-type]
            uris=uris,  # type: ignore[arg-type]
        )
        if self._direct:
            self.whole.update(self.records + row for row in given)
        self.records += len(batch)
        self.sums = self.sums.plus(batch)
        self._progress(self.records, self._total)

    def _whole_rows(self, batch: Batch) -> list[int]:
        """The rows that bring a key with a type that no record before had."""
        rows = []
        for row, metadata in enumerate(batch.metadatas):
            kinds = {(key, _kind(value)) for key, value in (metadata or {}).items()}
            if batch.documents[row] is not None:
                kinds.add((DOCUMENT_KEY, "str"))
            if not kinds <= self._known:
                self._known |= kinds
                rows.append(row)
        return rows


def _kind(value: Any) -> str:
    return f"list of {type(value[0]).__name__}" if isinstance(value, list) else type(value).__name__
