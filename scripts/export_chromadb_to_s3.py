#!/usr/bin/env python3
"""Export an existing Chroma directory to a bucket: the first step of moving its data over.

    python scripts/export_chromadb_to_s3.py --source-path /data/chroma --bucket my-bucket --prefix snapshot/migration/

Writes each collection as Parquet files, and last ``manifest.json`` with their counts and checksums. The directory is
not touched; stop what writes to it first. A bucket's name means S3; a URL (``gs://…``, ``az://…``,
``s3://…?endpoint=…``, ``file:///…``) means what it says. Credentials come from the environment. ``chromalith import``
reads the result. Needs ``chromalith[chroma]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from chromalith.chroma.export import export_chroma_directory
from chromalith.errors import ChromalithError
from chromalith.store.url import open_store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Export a Chroma directory to a bucket, as Parquet files and a manifest.")
    parser.add_argument("--source-path", required=True, help="the Chroma directory: the one with chroma.sqlite3 in it")
    parser.add_argument("--bucket", required=True, help="the S3 bucket, or the URL of another store")
    parser.add_argument("--prefix", default="snapshot/migration/", help="where in the bucket (default: %(default)s)")
    parser.add_argument("--collection", action="append", help="only this one; may be given several times")
    parser.add_argument("--tenant", default="default_tenant")
    parser.add_argument("--database", default="default_database")
    given = parser.parse_args(arguments)
    try:
        store = open_store(given.bucket if "://" in given.bucket else f"s3://{given.bucket}")
        exported = export_chroma_directory(
            given.source_path,
            store,
            given.prefix,
            names=given.collection,
            tenant=given.tenant,
            database=given.database,
            progress=_progress,
        )
    except ChromalithError as error:
        print(f"\nerror: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    described = [{key: value for key, value in each.value().items() if key in _SHOWN} for each in exported]
    print(json.dumps({"store": store.url, "prefix": given.prefix, "collections": described}, indent=1))
    return 0


_SHOWN = ("name", "records", "bytes", "content", "embedding")


def _progress(name: str, done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{name}: {done:,} of {total or 0:,} records", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
