"""The compactor's migration payload: what an export put below a prefix becomes deltas of this store, and is folded.

What can lie there, told by its ``manifest.json``:

*Parquet files* (``scripts/export_chromadb_to_s3.py``, ``chromalith export --from``): read as they are; the zip can.

*A Chroma directory*, with a manifest (``chromalith export``, a stock snapshot) or without one (``aws s3 sync``): read by chromadb, which
only the image has. In the zip, ``Invalid`` says so.

An import that runs out of time, or is killed, has written whole deltas and nothing else; doing it again is safe, and changes nothing that
was imported. What it wrote and could not fold any more is folded by the schedule.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.lambdas.payloads import Migration, read
from chromalith.lambdas.runs import compactor_of, publish_stock, run_all, told_of
from chromalith.lambdas.runtime import Invocation
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.transfer.bundle import Bundle, as_prefix, read_manifest
from chromalith.transfer.import_ import ImportReport, import_collection
from chromalith.transfer.port import Source

DATABASE = "chroma.sqlite3"
DELTA_S = 5.0
"""For one delta more: 5,000 records of 1,536 dimensions are 31 MB, validated, encoded and put. What does not have this is not begun."""


def migrate(run: Invocation, payload: Any) -> dict[str, Any]:
    """Import, then compact; see ``docs/lambdas.md`` for both shapes."""
    asked = read(Migration, payload)
    if asked.as_ is not None and asked.collection is None:
        raise Invalid("as names one collection, and none was chosen", hint="give collection, too")
    session = run.kept.store.session
    store, prefix = _place(session.store, asked.snapshot_path)
    with _sources(store, prefix, asked.collection) as sources:
        reports = [_import(run, asked, source) for source in sources]
    outcomes, failures = run_all(run, compactor_of(run), [report.collection for report in reports])
    publish_stock(run, asked.tenant, asked.database, outcomes)
    names = {report.collection: report.name for report in reports}
    return {"imports": [_described(report) for report in reports], **told_of(run, outcomes, failures, names)}


def _import(run: Invocation, asked: Migration, source: Source) -> ImportReport:
    def progress(done: int, total: int | None) -> None:
        if run.time_left() < DELTA_S and done != total:
            raise Unavailable(
                f"there was no time for all of it collection={source.name!r} total={total}",
                hint="give the function more time, or run `chromalith import` with the prefix's URL on a machine",
            )

    progress(0, None)
    return import_collection(
        run.kept.store.session, asked.tenant, asked.database, asked.as_ or source.name, source, progress=progress
    )


def _described(report: ImportReport) -> dict[str, Any]:
    return {
        "collection": report.name,
        "id": report.collection,
        "records": report.records,
        "deltas": report.deltas,
        "bytes": report.bytes,
        "verified": report.verified,
        "token": report.token,
    }


def _place(store: Store, path: str) -> tuple[Store, str]:
    """Where the export is: below a prefix of the function's own store, or at another URL."""
    return (open_store(path), "") if "://" in path else (store, as_prefix(path))


@contextmanager
def _sources(store: Store, prefix: str, collection: str | None) -> Iterator[Sequence[Source]]:
    try:
        kind = read_manifest(store, prefix).get("kind")
    except NotFound:
        if not _has_database(store, prefix):
            raise
        kind = None
    if kind == "parquet":
        bundle = Bundle(store, prefix)
        yield [bundle.source(name) for name in ([collection] if collection else bundle.names())]
        return
    if importlib.util.find_spec("chromadb") is None:
        raise Invalid(
            f"a Chroma directory is read by chromadb, which this package does not have prefix={prefix}",
            hint="deploy the compactor from the image (infra/chromadb_compaction/Dockerfile), or export the directory as Parquet files"
            " with scripts/export_chromadb_to_s3.py",
        )
    from chromalith.chroma.import_ import chroma_directory, chroma_prefix  # chromadb takes a second to import

    if kind is not None:
        with chroma_prefix(store, prefix) as chroma:
            yield [chroma.source(name) for name in ([collection] if collection else chroma.names())]
        return
    with tempfile.TemporaryDirectory(prefix="chromalith-migration-") as name:
        _download(store, prefix, Path(name))
        with chroma_directory(name) as chroma:
            yield [chroma.source(name) for name in ([collection] if collection else chroma.names())]


def _has_database(store: Store, prefix: str) -> bool:
    try:
        store.head(f"{prefix}{DATABASE}")
    except NotFound:
        return False
    return True


def _download(store: Store, prefix: str, directory: Path) -> None:
    """Every object below a prefix as a file. They were put there without a manifest, so nothing says what they must be."""
    for page in store.list(prefix):
        for entry in page:
            name = PurePosixPath(entry.key.removeprefix(prefix))
            if name.is_absolute() or ".." in name.parts:  # a key must not write elsewhere on this machine
                raise Invalid(f"a key leads out of its prefix key={entry.key}", hint="remove it; Chroma does not write such files")
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(entry.key).body)
