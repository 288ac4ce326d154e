"""A session: one open store with everything that works on it, and what these share.

The writer notes what it wrote and the reader asks for it, so a process always sees its own writes, whatever its read level.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.model.ids import CollectionId
from chromalith.read.reader import DEFAULT_STALENESS_S, CollectionReader, ReadLevel
from chromalith.read.view import View
from chromalith.store.cache import SIZE_BYTES_MAX, Cache
from chromalith.store.port import Store
from chromalith.write.writer import DeltaWriter, OwnWrites


class Session:
    """A store and what works on it. Safe to share between threads, not between processes.

    Args:
        store: where everything is.
        read_level, max_staleness_s: of reads that name no level.
        cache_dir: where segments are hydrated to; ``None``: a directory of its own, removed by :meth:`close`.
        cache_bytes_max: the cache's size.
        clock: time and chance.
    """

    def __init__(
        self,
        store: Store,
        *,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
        max_staleness_s: float = DEFAULT_STALENESS_S,
        cache_dir: Path | None = None,
        cache_bytes_max: int = SIZE_BYTES_MAX,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.store = store
        self.clock = clock
        self.catalog = Catalog(store, clock)
        self._read_level = read_level
        self._max_staleness_s = max_staleness_s
        self._own_dir = tempfile.TemporaryDirectory(prefix="chromalith-") if cache_dir is None else None
        directory = Path(self._own_dir.name) if self._own_dir else cache_dir or Path()
        self.cache = Cache(store, directory, clock, size_bytes_max=cache_bytes_max)
        self.collections = Collections(store, self.catalog)
        self._own = OwnWrites()
        self.writer = DeltaWriter(store, self.collections, clock, self._own)
        self.reader = CollectionReader(
            store, self.collections, self.cache, clock, pending=self._own.pending, forget=self._own.forget, saw=self.writer.saw
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def view(self, cid: CollectionId, level: ReadLevel | None = None) -> View:
        """A state of the collection at ``level``, or at the session's. Raises as ``CollectionReader.view``."""
        return self.reader.view(cid, level=level or self._read_level, max_staleness_s=self._max_staleness_s)

    def compactor(
        self,
        settings: CompactionSettings | None = None,
        *,
        progress: Callable[[str, Outcome], None] = lambda step, outcome: None,
    ) -> Compactor:
        """A compactor of this store; one for each thread."""
        return Compactor(self.store, self.collections, self.clock, settings, progress=progress)

    def close(self) -> None:
        """Release what is held on this machine. Nothing is written: an acknowledged write is durable already."""
        self.writer.close()
        self.reader.close()
        self.cache.close()
        if self._own_dir is not None:
            self._own_dir.cleanup()
