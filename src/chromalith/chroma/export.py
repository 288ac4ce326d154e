"""Stock Chroma directories as targets: any version of a collection, ready to be opened and written by Chroma itself;
and as the start of a migration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chromadb
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

from chromalith.chroma.directory_builder import Way, build_directory
from chromalith.chroma.import_ import chroma_directory
from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.store.port import Store
from chromalith.transfer.bundle import Bundled, NamedProgress, check_unused, export_bundle, unheard
from chromalith.transfer.directory_objects import check_empty, upload_directory
from chromalith.transfer.place import check_free, placed
from chromalith.transfer.port import Progress, Source, Written, silent


class ChromaDirectoryTarget:
    """A Chroma directory with one collection. It appears under ``path`` when it is whole and was checked with stock Chroma.

    Args:
        path: does not exist, or is an empty directory.
        way: how it is built (:mod:`chromalith.chroma.directory_builder`).
        clock: for the temporary name.
    """

    def __init__(self, path: Path | str, *, way: Way | str = Way.AUTO, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = Path(path)
        self._way = Way(way)
        self._clock = clock

    def check(self) -> None:
        check_free(self._path)

    def write(self, source: Source, progress: Progress = silent) -> Written:
        with placed(self._path, self._clock) as part:
            return build_directory(part, source, way=self._way, progress=progress)


class ChromaPrefixTarget:
    """A Chroma directory as objects below a prefix of a store: its files, and ``manifest.json`` last. Built and checked
    on this machine first.

    Args:
        store, prefix: where; the prefix holds no export yet.
        way: how the directory is built.
        clock: for what is tried again.
    """

    def __init__(self, store: Store, prefix: str, *, way: Way | str = Way.AUTO, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._prefix = prefix
        self._way = Way(way)
        self._clock = clock

    def check(self) -> None:
        check_empty(self._store, self._prefix)

    def write(self, source: Source, progress: Progress = silent) -> Written:
        self.check()
        with tempfile.TemporaryDirectory(prefix="chromalith-chroma-") as name:
            directory = Path(name) / "chroma"
            written = build_directory(directory, source, way=self._way, progress=progress)
            about = described(source, written)
            uploaded = upload_directory(directory, self._store, self._prefix, about, self._clock)
        return Written(written.records, uploaded, written.sums, written.how)


def described(source: Source, written: Written) -> dict[str, Any]:
    """What the manifest of a Chroma directory says of it, besides its files."""
    return {
        "kind": "chroma",
        "chromadb": chromadb.__version__,
        "how": written.how,
        "name": source.name,
        "version": source.version,
        "records": written.records,
        "content": str(written.sums.content),
        "embedding": str(written.sums.embedding),
    }


def export_chroma_directory(
    source_path: Path | str,
    store: Store,
    prefix: str,
    *,
    names: Sequence[str] | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    clock: Clock = SYSTEM_CLOCK,
    progress: NamedProgress = unheard,
) -> list[Bundled]:
    """Write the collections of an existing Chroma directory to a prefix of a store, as a bundle of Parquet files.

    The directory is not touched. Read the bundle with :class:`~chromalith.transfer.bundle.Bundle`, or import all of it with
    :func:`~chromalith.transfer.import_bundle.import_bundle`.

    Args:
        source_path: the directory, which nothing writes to meanwhile.
        store, prefix: where to, without an export yet.
        names: of the collections; ``None`` for all.
        tenant, database: of the collections.
        clock, progress: for the names of the files; told after each batch.

    Raises ``Invalid`` (not a Chroma directory, or the prefix is taken), ``NotFound`` (no such collection), ``Conflict``
    (the directory was written meanwhile), ``Corrupt`` (Chroma can't read it).
    """
    check_unused(store, prefix)
    with chroma_directory(source_path, tenant=tenant, database=database) as chroma:
        sources = [chroma.source(name) for name in (chroma.names() if names is None else names)]
        return export_bundle(sources, store, prefix, clock=clock, progress=progress)
