#!/usr/bin/env python3
"""Export an existing Chroma directory to a bucket: the first step of moving its data over.

    python scripts/export_chromadb_to_s3.py --source-path /data/chroma --bucket my-bucket --prefix snapshot/migration/

This is ``chromalith export --from SOURCE --to s3://BUCKET --prefix PREFIX`` with the arguments of the migration guide.
Further options (``--endpoint-url``, ``--json``, …) are handed on. ``chromalith import s3://BUCKET/PREFIX`` reads the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from chromalith.cli.app import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code of ``chromalith export``."""
    parser = argparse.ArgumentParser(description="Export a Chroma directory to a bucket, as Parquet files and a manifest.")
    parser.add_argument("--source-path", required=True, help="the Chroma directory: the one with chroma.sqlite3 in it")
    parser.add_argument("--bucket", required=True, help="the S3 bucket, or the URL of another store")
    parser.add_argument("--prefix", default="snapshot/migration/", help="where in the bucket (default: %(default)s)")
    given, further = parser.parse_known_args(arguments)
    bucket = given.bucket if "://" in given.bucket else f"s3://{given.bucket}"
    return run(["export", "--from", given.source_path, "--to", bucket, "--prefix", given.prefix, *further])


if __name__ == "__main__":
    raise SystemExit(main())
