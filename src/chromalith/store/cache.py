"""A local cache of immutable objects: hash-checked when they arrive, placed by atomic rename, bounded in size.

Safe between threads and processes: a file appears under its final name only when it is whole and has the right hash, and two
that hydrate the same object write the same bytes. Nothing here is ever the only copy.

Files that are *derived* from objects (decoded vectors, exploded metadata) live beside them, and are made again when they are missing.
What was used longest ago goes first when the cache is over its size. A file that is open or mapped survives its own
removal, as POSIX has it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chromalith.clock import Clock
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model.manifest import FileRef
from chromalith.store.port import Store

SIZE_BYTES_MAX = 20 * 2**30
PART_BYTES = 8 * 2**20  # S3's own advice for ranged GETs is 8 to 16 MiB
THREADS = 8
JUST_NOW_US = 60_000_000  # a path that was handed out has been opened by then


class Swept(NotFound):
    """An object that a manifest names is gone: whoever read that manifest is behind, and must read again."""


class Cache:
    """Objects of one store as local files.

    Args:
        store: where they come from.
        directory: where they go; one cache serves many stores.
        clock: for names of temporary files.
        size_bytes_max: the bound, over all stores in ``directory``.
    """

    def __init__(self, store: Store, directory: Path, clock: Clock, *, size_bytes_max: int = SIZE_BYTES_MAX) -> None:
        self._store = store
        self._root = directory
        self._home = directory / hashlib.sha256(store.url.encode()).hexdigest()[:32]
        self._clock = clock
        self._size_max = size_bytes_max
        self._pool = ThreadPoolExecutor(THREADS, "chromalith-hydrate")
        self._ahead = ThreadPoolExecutor(2, "chromalith-hydrate-ahead")  # not the pool above: it waits for parts there
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def store(self) -> Store:
        """The store that is cached."""
        return self._store

    def file(self, key: str, ref: FileRef) -> Path:
        """The local copy of an object; downloaded if there is none.

        Raises ``Corrupt`` if the store's bytes are not those that ``ref`` promises, ``Swept`` if the object is gone.
        """
        path = self._home / key
        with self._lock(key):
            if not self._whole(path, ref.size):
                self._download(key, ref, path)
        return path

    def files(self, wanted: Mapping[str, FileRef]) -> dict[str, Path]:
        """Several objects, downloaded in parallel."""
        if len(wanted) < 2:
            return {key: self.file(key, ref) for key, ref in wanted.items()}
        # Threads of their own: downloads of parts wait in self._pool, and must not wait for themselves.
        with ThreadPoolExecutor(min(THREADS, len(wanted)), "chromalith-hydrate-files") as pool:
            return dict(zip(wanted, pool.map(lambda item: self.file(*item), wanted.items()), strict=True))

    def begin(self, key: str, ref: FileRef) -> None:
        """Begin to download an object that will be asked for soon. Says nothing of how it ends: :meth:`file` will."""
        self._ahead.submit(self.file, key, ref)

    def derived(self, key: str, name: str, build: Callable[[Path], None]) -> Path:
        """The file ``name`` derived from the object at ``key``; ``build`` writes it to the path that it is given, if there is none."""
        path = (self._home / key).with_name(name)
        with self._lock(str(path)):
            if path.exists():
                os.utime(path)
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._temporary(path)
            try:
                build(temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        self._evict(keep=path)
        return path

    def has_derived(self, key: str, name: str) -> bool:
        """Whether the derived file is there already."""
        return (self._home / key).with_name(name).exists()

    def derive_later(
        self, key: str, name: str, build: Callable[[Path], None], then: Callable[[Path], None]
    ) -> None:
        """As :meth:`derived`, on a thread of the cache; ``then`` is told the path. What goes wrong there is met by the next process."""
        self._ahead.submit(lambda: then(self.derived(key, name, build)))

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._clock.random_hex(16)}.tmp")

    def _whole(self, path: Path, size: int) -> bool:
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)  # used now: evicted last
        except FileNotFoundError:
            return False
        return True

    def _download(self, key: str, ref: FileRef, path: Path) -> None:
        """Place the object at ``path``, once it is whole and right. Parts are written as they arrive: a large object is never in memory."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(path)
        try:
            self._fetch(key, ref, temporary)
            _check(key, ref, temporary)
            temporary.replace(path)
        except NotFound as error:
            raise Swept(f"an object was swept while it was needed key={key}") from error
        except Invalid as error:  # a range behind its end
            raise Corrupt(f"a stored object was cut key={key} expected={ref.size}") from error
        finally:
            temporary.unlink(missing_ok=True)
        self._evict(keep=path)

    def _fetch(self, key: str, ref: FileRef, path: Path) -> None:
        if ref.size <= 2 * PART_BYTES:
            path.write_bytes(self._store.get(key).body)
            return

        def fetch_part(start: int) -> None:
            body = self._store.get_range(key, start, min(start + PART_BYTES, ref.size))
            with path.open("r+b") as out:
                out.seek(start)
                out.write(body)

        path.touch()
        for _ in self._pool.map(fetch_part, range(0, ref.size, PART_BYTES)):
            pass  # each raises what its part met

    def _evict(self, keep: Path) -> None:
        """Remove what was used longest ago until the cache is within its size; ``keep``, and what was used just now, stays."""
        # Without the last, two threads with a cache smaller than what they need would take each other's files away between
        # the moment a path is handed out and the moment it is opened.
        oldest_kept_ns = (self._clock.now_us() - JUST_NOW_US) * 1_000
        found = []
        for path in self._root.rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process evicts too
            if path.is_file():
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for used_ns, size, path in sorted(found):
            if total <= self._size_max or used_ns > oldest_kept_ns:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size

    def close(self) -> None:
        """Stop the threads; downloads that were begun end first, because they write below the cache's directory."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=False)


def _check(key: str, ref: FileRef, path: Path) -> None:
    """Raise ``Corrupt`` unless the file holds what ``ref`` promises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size == ref.size and hashlib.file_digest(file, "sha256").hexdigest() == ref.sha256:
            return
    raise Corrupt(
        f"a stored object is not what its manifest says key={key} size={size} expected={ref.size}",
        hint="older versions may still be whole: see `chromalith snapshot list`",
    )
