"""A local cache of immutable objects: hash-checked when they arrive, placed by atomic rename, bounded in size.

Safe between threads and processes: a file appears under its final name only when it is whole and has the right hash, and two
that hydrate the same object write the same bytes. Nothing here is ever the only copy.

Files that are *derived* from objects (decoded vectors, exploded metadata) live beside them, and are made again when they are missing.
What was used longest ago goes first when the cache is over its size. A file that is open or mapped survives its own
removal, as POSIX has it.

A file may be altered after it arrived. Hashing it at each use would cost a second for each gigabyte, so it is *sealed*: its time of
modification is set to a moment that follows from what it must contain. Whoever writes to it, cuts or replaces it also changes that time
(unasked; a copy that keeps times brings those of another content), and this costs a look at the file's status, which is taken
anyway. An object whose seal is broken is hashed: right, it is sealed again; wrong, it is downloaded again. A derived file is made
again. What a disk loses by itself does not break a seal: that is met where the file is decoded (Parquet's pages carry
checksums), and :meth:`Cache.drop` lets the reader begin anew. The time of the last use is the time of access, set at each use.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from chromalith.clock import Clock
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model.manifest import FileRef
from chromalith.store.keys import check_key
from chromalith.store.port import Store
from chromalith.threads import NewExecutor

SIZE_BYTES_MAX = 20 * 2**30
PART_BYTES = 8 * 2**20  # S3's own advice for ranged GETs is 8 to 16 MiB
THREADS = 8
_HOME = "[0-9a-f]" * 32  # the directory of one store
JUST_NOW_US = 60_000_000  # a path that was handed out has been opened by then


class Swept(NotFound):
    """An object that a manifest names is gone: whoever read that manifest is behind, and must read again.

    ``key``: the object, where it is known; if the manifest is still the current one, it is not swept but missing.
    """

    def __init__(self, message: str, *, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class Cache:
    """Objects of one store as local files.

    Args:
        store: where they come from.
        directory: where they go; one cache serves many stores.
        clock: for names of temporary files.
        size_bytes_max: the bound, over all stores in ``directory``.
        executor: where threads come from.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        clock: Clock,
        *,
        size_bytes_max: int = SIZE_BYTES_MAX,
        executor: NewExecutor = ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._root = directory
        self._home = directory / hashlib.sha256(store.url.encode()).hexdigest()[:32]
        self._clock = clock
        self._size_max = size_bytes_max
        self._executor = executor
        self._pool = executor(THREADS, "chromalith-hydrate")
        self._ahead = executor(2, "chromalith-hydrate-ahead")  # not the pool above: it waits for parts there
        self._locks: dict[str, threading.Lock] = {}
        self._hashed: set[str] = set()
        self._guard = threading.Lock()
        self._here = threading.local()

    @property
    def store(self) -> Store:
        """The store that is cached."""
        return self._store

    def file(self, key: str, ref: FileRef) -> Path:
        """The local copy of an object; downloaded if there is none.

        Raises ``Corrupt`` if the store's bytes are not those that ``ref`` promises, ``Swept`` if the object is gone.
        """
        path = self._path(key)
        lock = self._lock(key)
        began_s = self._clock.monotonic_s()
        waited = not lock.acquire(blocking=False)  # for another thread, which fetches it
        if waited:
            lock.acquire()
        try:
            missing = not self._whole(key, ref, path)
            if missing:
                self._download(key, ref, path)
        finally:
            lock.release()
        if waited or missing:
            self._here.fetching_s = self.fetching_s() + self._clock.monotonic_s() - began_s
        return path

    def fetching_s(self) -> float:
        """For how long, in all, the calling thread has fetched objects, or waited until another thread had. To measure by, as a clock."""
        return float(getattr(self._here, "fetching_s", 0.0))

    def body(self, key: str, ref: FileRef) -> bytes:
        """The bytes of a small object, hashed each time: nothing else would find damage to the local copy of what has no checksum inside.

        Raises as :meth:`file`.
        """
        for _ in range(2):
            body = self.file(key, ref).read_bytes()
            if ref.holds(body):
                return body
            self._path(key).unlink(missing_ok=True)
        raise Corrupt(f"the cache does not keep what is written to it directory={self._root}", hint="check the disk")

    def files(self, wanted: Mapping[str, FileRef]) -> dict[str, Path]:
        """Several objects, downloaded in parallel."""
        if len(wanted) < 2:
            return {key: self.file(key, ref) for key, ref in wanted.items()}
        # Threads of their own: downloads of parts wait in self._pool, and must not wait for themselves.
        with self._executor(min(THREADS, len(wanted)), "chromalith-hydrate-files") as pool:
            return dict(zip(wanted, pool.map(lambda item: self.file(*item), wanted.items()), strict=True))

    def begin(self, key: str, ref: FileRef) -> None:
        """Begin to download an object that will be asked for soon. Says nothing of how it ends: :meth:`file` will."""
        self._ahead.submit(self.file, key, ref)

    def derived(self, key: str, name: str, build: Callable[[Path], None]) -> Path:
        """The file ``name`` derived from the object at ``key``; ``build`` writes it to the path that it is given, if there is none."""
        path = self._path(key).with_name(name)
        with self._lock(str(path)):
            seal_ns = _seal_ns(f"{key} {name}")
            with suppress(FileNotFoundError):
                if self._sealed(path, seal_ns):
                    self._use(path, seal_ns)
                    return path
            self._make_parent(path)
            temporary = self._temporary(path)
            try:
                build(temporary)
                self._use(temporary, seal_ns)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        self._evict(keep=path)
        return path

    def has_derived(self, key: str, name: str) -> bool:
        """Whether the derived file is there already, as it was made."""
        return self._sealed(self._path(key).with_name(name), _seal_ns(f"{key} {name}"))

    def hashed(self, key: str) -> bool:
        """Whether this process itself has hashed the file; else it trusts the seal of another one."""
        return key in self._hashed

    def drop(self, key: str) -> None:
        """Forget an object and what was derived from it: it could not be decoded. The next use downloads it again."""
        for path in self._path(key).parent.glob("*"):
            if path.is_file() and not path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)

    def derive_later(
        self, key: str, name: str, build: Callable[[Path], None], then: Callable[[Path], None]
    ) -> None:
        """As :meth:`derived`, on a thread of the cache; ``then`` is told the path. What goes wrong there is met by the next process."""
        self._ahead.submit(lambda: then(self.derived(key, name, build)))

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _path(self, key: str) -> Path:
        """Where an object goes. Raises ``Invalid`` for what is no key: nothing that a manifest says can lead out of the cache."""
        check_key(key)
        return self._home / key

    def _make_parent(self, path: Path) -> None:
        """The directory that a file is about to be written to. Raises ``Invalid`` if a link leads out of the cache on the way."""
        there = path.parent
        while not there.exists() and there != self._root:
            there = there.parent
        if there != self._root and not there.resolve().is_relative_to(self._root.resolve()):
            raise Invalid(f"a link leads out of the cache directory={there}", hint="remove it, or name another CHROMALITH_CACHE_DIR")
        path.parent.mkdir(parents=True, exist_ok=True)

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._clock.random_hex(16)}.tmp")

    def _whole(self, key: str, ref: FileRef, path: Path) -> bool:
        """Whether the file is there as it arrived; then it has been used now."""
        seal_ns = _seal_ns(ref.sha256)
        try:
            status = path.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return False  # a link: what it leads to is not ours to read, or to touch
            if (status.st_size, status.st_mtime_ns) != (ref.size, seal_ns):
                _check(key, ref, path)
                self._hashed.add(key)
            self._use(path, seal_ns)
        except (FileNotFoundError, Corrupt):
            return False
        return True

    def _sealed(self, path: Path, seal_ns: int) -> bool:
        """Whether the derived file is there as it was made."""
        with suppress(FileNotFoundError):
            return path.stat().st_mtime_ns == seal_ns
        return False

    def _use(self, path: Path, seal_ns: int) -> None:
        os.utime(path, ns=(self._clock.now_us() * 1_000, seal_ns))

    def _download(self, key: str, ref: FileRef, path: Path) -> None:
        """Place the object at ``path``, once it is whole and right. Parts are written as they arrive: a large object is never in memory."""
        self._make_parent(path)
        temporary = self._temporary(path)
        try:
            self._fetch(key, ref, temporary)
            _check(key, ref, temporary)
            self._use(temporary, _seal_ns(ref.sha256))
            temporary.replace(path)
            self._hashed.add(key)
        except NotFound as error:
            raise Swept(f"an object was swept while it was needed key={key}", key=key) from error
        except Invalid as error:  # a range behind its end
            raise Corrupt(f"a stored object was cut key={key} expected={ref.size}", key=key) from error
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

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._root

    @property
    def size_bytes_max(self) -> int:
        """The bound."""
        return self._size_max

    def size_bytes(self) -> int:
        """How much there is, over all stores: a look at every file."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[int, int, Path]]:
        """Time of last use (ns), size and path of each. Only in the directories of stores: others in a shared one are not ours."""
        found = []
        for path in (each for home in self._root.glob(_HOME) for each in home.rglob("*")):
            try:
                status = path.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # another process evicts too
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_atime_ns, status.st_size, path))
        return found

    def _evict(self, keep: Path) -> None:
        """Remove what was used longest ago until the cache is within its size; ``keep``, and what was used just now, stays."""
        # Without the last, two threads with a cache smaller than what they need would take each other's files away between
        # the moment a path is handed out and the moment it is opened.
        oldest_kept_ns = (self._clock.now_us() - JUST_NOW_US) * 1_000
        found = self._files()
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
        key=key,
    )


def _seal_ns(content: str) -> int:
    """The time of modification that says that a file is as it was placed: an even second between 1980 and 2014, by ``content``.

    An even second, because some file systems keep no more of a time."""
    return (315_532_800 + 2 * (int(hashlib.sha256(content.encode()).hexdigest()[:12], 16) % 2**29)) * 1_000_000_000
