"""ChromaDB on object storage: many writers, no server, nothing lost.

``Client`` is a real ``chromadb`` client; ``Writer``, ``Reader`` and ``compact`` do the same work without ``chromadb``.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from chromalith.compact.compactor import CompactionSettings, Outcome
from chromalith.errors import (
    Bug,
    ChromalithError,
    Conflict,
    Corrupt,
    Invalid,
    LeaseHeld,
    NotFound,
    Unavailable,
    Unknown,
)
from chromalith.guide import (
    get_latest_snapshot,
    produce_embedding_delta,
    query_chromadb_snapshot,
    query_snapshot_count,
)
from chromalith.read.reader import ReadLevel
from chromalith.read.view import Records, View

# At once, not on use: ``compact`` is also the name of a subpackage, and importing that would hide a function that is bound later.
from chromalith.wiring import Reader, Writer, compact
from chromalith.write.writer import Receipt

if TYPE_CHECKING:
    from chromalith.client.client import Client

__version__ = version("chromalith")

__all__ = [
    "Client",
    "Writer",
    "Reader",
    "compact",
    "ReadLevel",
    "Receipt",
    "Records",
    "View",
    "Outcome",
    "CompactionSettings",
    "produce_embedding_delta",
    "query_chromadb_snapshot",
    "query_snapshot_count",
    "get_latest_snapshot",
    "ChromalithError",
    "Conflict",
    "LeaseHeld",
    "Unknown",
    "Unavailable",
    "NotFound",
    "Invalid",
    "Corrupt",
    "Bug",
    "__version__",
]

_ON_USE = {"Client": "chromalith.client.client"}  # needs chromadb, which a process without it must not notice


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return getattr(import_module(_ON_USE[name]), name)
    raise AttributeError(f"module 'chromalith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_USE})
