"""A session: one open store with everything that works on it, and what these share.

The writer notes what it wrote and the reader asks for it, so a process always sees its own writes, whatever its read level.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.compaction.fork import Forked, Progress, fork
from chromalith.compaction.leasing import open_leases
from chromalith.compaction.pace import TimeLeft, forever
from chromalith.compaction.restore import Restorer
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.coord.history import Moment
from chromalith.coord.lease import Sightings
from chromalith.coord.lease_table import LeaseTable
from chromalith.errors import Invalid
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.session_token import SessionToken
from chromalith.observe.hooks import Observer, silent, together
from chromalith.read.reader import DEFAULT_STALENESS_S, CollectionReader, ReadLevel
from chromalith.read.view import View
from chromalith.read.waiting import DEFAULT_TIMEOUT_S
from chromalith.store.cache import SIZE_BYTES_MAX, Cache
from chromalith.store.port import Store
from chromalith.threads import NewExecutor
from chromalith.write.notify import Notifier, Sender
from chromalith.write.writer import DeltaWriter, OwnWrites


class Session:
    """A store and what works on it. Safe to share between threads, not between processes.

    Args:
        store: where everything is.
        read_level, max_staleness_s: of reads that name no level.
        cache_dir: where segments are hydrated to; ``None``: a directory of its own, removed by :meth:`close`.
        cache_bytes_max: the cache's size.
        clock: time and chance.
        executor: where threads come from.
        observe: told of what was written, compacted and queried.
        lease_table: the DynamoDB table where compactors keep their leases; ``None``: in the store.
        hints_to: what sends hints of this session's writes to a queue; ``None``: nobody is told.
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
        executor: NewExecutor = ThreadPoolExecutor,
        observe: Observer = silent,
        lease_table: str | None = None,
        hints_to: Sender | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.catalog = Catalog(store, clock)
        self._read_level = read_level
        self._max_staleness_s = max_staleness_s
        self._executor = executor
        self._observe = observe
        self._lease_table = lease_table
        self._own_dir = tempfile.TemporaryDirectory(prefix="chromalith-") if cache_dir is None else None
        directory = Path(self._own_dir.name) if self._own_dir else cache_dir or Path()
        self.cache = Cache(store, directory, clock, size_bytes_max=cache_bytes_max, executor=executor)
        self.collections = Collections(store, self.catalog)
        self._own = OwnWrites()
        self.notifier = None if hints_to is None else Notifier(hints_to, observe=observe, executor=executor, clock=clock)
        tell = observe if self.notifier is None else together(observe, self.notifier)
        self.writer = DeltaWriter(store, self.collections, clock, self._own, executor=executor, observe=tell)
        self.reader = CollectionReader(
            store,
            self.collections,
            self.cache,
            clock,
            pending=self._own.pending,
            forget=self._own.forget,
            saw=self.writer.saw,
            executor=executor,
            observe=observe,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def view(
        self,
        cid: CollectionId,
        level: ReadLevel | None = None,
        *,
        after: str | SessionToken | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> View:
        """A state of the collection at ``level``, or at the session's; one that has what the session token ``after`` stands for.

        Raises as ``CollectionReader.view`` and ``view_after``; ``Invalid`` for what is no token.
        """
        level = level or self._read_level
        if after is None:
            return self.reader.view(cid, level=level, max_staleness_s=self._max_staleness_s)
        token = SessionToken.parse(after)
        return self.reader.view_after(cid, token, level=level, max_staleness_s=self._max_staleness_s, timeout_s=timeout_s)

    def wait(self, token: str | SessionToken, timeout_s: float = DEFAULT_TIMEOUT_S, level: ReadLevel | None = None) -> None:
        """Wait until reads at ``level``, or at the session's, see what a session token stands for. Raises as :meth:`view`."""
        token = SessionToken.parse(token)
        self.view(token.collection, level, after=token, timeout_s=timeout_s)

    def last_write(self, cid: CollectionId) -> DeltaId | None:
        """The last write to a collection that was acknowledged to this session."""
        return self._own.last(cid)

    def order_after(self, token: str | SessionToken) -> None:
        """Order what this session writes from now on behind a write of another process. Makes no request.

        Raises ``Invalid`` for what is no token, or one whose writer's clock is over a day ahead of this machine's.
        """
        token = SessionToken.parse(token)
        if not self.writer.saw(token.delta.hlc):
            raise Invalid(f"the token's writer had a clock that is over a day ahead token={token}", hint="set the clocks")

    def compactor(
        self,
        settings: CompactionSettings | None = None,
        *,
        progress: Callable[[str, Outcome], None] = lambda step, outcome: None,
        merge_executor: Executor | None = None,
        sightings: Sightings | None = None,
        storage_options: Mapping[str, object] | None = None,
        lease_table: str | None = None,
        time_left: TimeLeft = forever,
    ) -> Compactor:
        """A compactor of this store; one for each thread. The arguments are those of :class:`Compactor`, and :meth:`leases`'."""
        return Compactor(
            self.store,
            self.collections,
            self.clock,
            settings,
            progress=progress,
            executor=self._executor,
            observe=self._observe,
            merge_executor=merge_executor,
            sightings=sightings,
            leases=self.leases(lease_table, storage_options),
            storage_options=storage_options,
            time_left=time_left,
        )

    def leases(self, table: str | None = None, storage_options: Mapping[str, object] | None = None) -> LeaseTable:
        """Where compactors of this store keep their leases: in the named DynamoDB table, else in the session's. Makes no request."""
        return open_leases(self.store, self.clock, table or self._lease_table, storage_options)

    def fork(
        self,
        source: CollectionId,
        place: tuple[str, str, str],
        *,
        at: Moment | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Forked:
        """A new collection (tenant, database, name) with the records of ``source``. Raises as :func:`chromalith.compaction.fork.fork`."""
        return fork(self.store, self.catalog, self.clock, source, place, at=at, progress=progress, executor=self._executor)

    def restorer(self) -> Restorer:
        """What restores older versions of this store's collections."""
        return Restorer(self.store, self.clock, self.writer.put, executor=self._executor)

    def close(self) -> None:
        """Release what is held on this machine. Nothing is written: an acknowledged write is durable already. Hints get 2 s to be sent."""
        self.writer.close()
        if self.notifier is not None:
            self.notifier.close()
        self.reader.close()
        self.cache.close()
        if self._own_dir is not None:
            self._own_dir.cleanup()
