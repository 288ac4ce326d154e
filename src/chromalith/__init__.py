"""ChromaDB on object storage: many writers, no server, nothing lost.

``Client`` is a real ``chromadb`` client; ``Writer``, ``Reader`` and ``compact`` do the same work without ``chromadb``.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from chromalith.client.client import Client
    from chromalith.compacting import compact
    from chromalith.compaction.compactor import CompactionSettings, Outcome
    from chromalith.compaction.sweep import SweepOutcome
    from chromalith.guide import (
        get_latest_snapshot,
        produce_embedding_delta,
        query_chromadb_snapshot,
        query_snapshot_count,
    )
    from chromalith.migrate.client.open import MigratingClient
    from chromalith.migrate.sticky import sticky
    from chromalith.observe.emf import EmfObserver
    from chromalith.observe.otel import OtelObserver
    from chromalith.read.reader import ReadLevel
    from chromalith.read.view import Records, View
    from chromalith.restoring import rollback
    from chromalith.sweeping import sweep
    from chromalith.wiring import Reader, Writer, last_token, wait_for
    from chromalith.write.writer import Receipt

__version__ = version("chromalith")

__all__ = [
    "Client",
    "MigratingClient",
    "sticky",
    "Writer",
    "Reader",
    "compact",
    "sweep",
    "rollback",
    "wait_for",
    "last_token",
    "ReadLevel",
    "Receipt",
    "Records",
    "View",
    "Outcome",
    "SweepOutcome",
    "CompactionSettings",
    "EmfObserver",
    "OtelObserver",
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

# Imported on use: a command that lists a directory need not load a search engine, nor a Lambda ``chromadb``.
_ON_USE = {
    "Client": "chromalith.client.client",
    "CompactionSettings": "chromalith.compaction.compactor",
    "MigratingClient": "chromalith.migrate.client.open",
    "sticky": "chromalith.migrate.sticky",
    "EmfObserver": "chromalith.observe.emf",
    "OtelObserver": "chromalith.observe.otel",
    "Outcome": "chromalith.compaction.compactor",
    "Reader": "chromalith.wiring",
    "ReadLevel": "chromalith.read.reader",
    "Receipt": "chromalith.write.writer",
    "Records": "chromalith.read.view",
    "View": "chromalith.read.view",
    "SweepOutcome": "chromalith.compaction.sweep",
    "Writer": "chromalith.wiring",
    "compact": "chromalith.compacting",
    "sweep": "chromalith.sweeping",
    "rollback": "chromalith.restoring",
    "last_token": "chromalith.wiring",
    "wait_for": "chromalith.wiring",
    "get_latest_snapshot": "chromalith.guide",
    "produce_embedding_delta": "chromalith.guide",
    "query_chromadb_snapshot": "chromalith.guide",
    "query_snapshot_count": "chromalith.guide",
}


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        try:
            return getattr(import_module(_ON_USE[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "chromadb":
                raise
            raise ModuleNotFoundError(f"chromalith.{name} needs chromadb: pip install 'chromalith[chroma]'", name="chromadb") from error
    raise AttributeError(f"module 'chromalith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_USE})
