"""Stock Chroma on a directory that a test may change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromadb
from chromadb.config import Settings


@contextmanager
def stock(path: Path) -> Iterator[Any]:
    """A client of the directory, which is closed at the end: its engine lets go of the files."""
    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    try:
        yield client
    finally:
        client.close()
