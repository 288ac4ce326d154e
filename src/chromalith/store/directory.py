"""A store in a directory of a POSIX file system (not NFS): each object a file, its key the path.

Any number of processes and threads may use one directory. To put an object:

1. Write a temporary file in the same file system, and fsync it. Nothing is serialised yet.
2. Under an exclusive ``flock`` on a lock file that is never deleted: compare the condition, take a timestamp that is
   strictly greater than every one before (``max(now, last + 1 µs)``; the last one is kept in the lock file) and make it the
   file's mtime, rename the temporary file to its name.
3. fsync the directories that changed, then acknowledge.

A process that is killed leaves at most a temporary file, which nobody lists. A reader opens the file, and what it opened
stays whole and unchanged when the name is given to another file.

Listings are snapshots (:mod:`chromalith.store.posix` says how). Without this a listing could show an object and miss an
older one, and a reader would see effects without their causes.

Reading never creates anything: the directory itself appears with the first put. The store's own files are in
``.chromalith/``, a name that no key can have.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from chromalith.clock import Clock
from chromalith.errors import Invalid, NotFound, Unavailable, Unknown
from chromalith.store.keys import check_key, check_prefix, check_range, is_key
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, Object, PreconditionFailed
from chromalith.store.posix import ChangeLock, reporting_os_errors, sync_directory

Page = list[Entry]
_Named = list[tuple[str, os.DirEntry[str]]]
_Paths = list[str]

PAGE_ENTRIES = 10_000
"""A page costs 10 to 20 µs an entry and is a snapshot: large enough that nearly all listings are one page."""

OWN_DIRECTORY = ".chromalith"
_TEMPORARY = f"{OWN_DIRECTORY}/temporary"
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_temporary_numbers = itertools.count()


class DirectoryStore:
    """Objects as files below ``root``. Safe to use from many threads and processes.

    Args:
        root: an absolute path. It need not exist, but its parent must.
        clock: gives the timestamps.

    Raises:
        Invalid: ``root`` is not absolute, is a file, or has no parent.
    """

    def __init__(self, root: str | os.PathLike[str], clock: Clock) -> None:
        self._root = os.path.realpath(root)
        if not os.path.isabs(root):
            raise Invalid(f"the path of a store must be absolute path={os.fspath(root)}")
        if os.path.lexists(self._root) and not os.path.isdir(self._root):
            raise Invalid(f"the path of a store is not a directory path={self._root}", hint="name a directory")
        if not os.path.isdir(os.path.dirname(self._root)):
            raise Invalid(
                f"the directory to hold the store does not exist path={os.path.dirname(self._root)}",
                hint="create it, or check the path for a typing mistake",
            )
        self._url = f"file://{quote(self._root)}"
        self._lock = ChangeLock(os.path.join(self._root, OWN_DIRECTORY, "lock"), clock)
        self._temporary = os.path.join(self._root, _TEMPORARY)
        self._handle_id = clock.random_hex(16)

    @property
    def url(self) -> str:
        return self._url

    @property
    def settle_s(self) -> float:
        return 0.0

    def get(self, key: str) -> Object:
        check_key(key)
        with self._opened(key) as file:
            status = os.fstat(file)
            return Object(key, _read(file, 0, status.st_size), _etag(status), status.st_mtime_ns // 1000)

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        check_key(key)
        with self._opened(key) as file:
            status = os.fstat(file)
            if _etag(status) == etag:
                return None
            return Object(key, _read(file, 0, status.st_size), _etag(status), status.st_mtime_ns // 1000)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        check_key(key)
        with self._opened(key) as file:
            size = os.fstat(file).st_size
            check_range(start, stop, size, key)
            return _read(file, start, min(stop, size) - start)

    def head(self, key: str) -> Entry:
        check_key(key)
        with self._opened(key) as file:
            return _entry(key, os.fstat(file))

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        check_key(key)
        path = self._path(key)
        with reporting_os_errors(key, Unavailable):
            temporary = self._write_temporary(body)
        try:
            with reporting_os_errors(key, Unavailable), self._lock.changing() as stamp_us:
                self._check_condition(key, path, condition)
                new_parents = self._make_directories(os.path.dirname(path))
                # The mtime needs no fsync of its own: the directory's fsync below commits the journal that holds both.
                os.utime(temporary, ns=(stamp_us * 1000, stamp_us * 1000))
                etag = _stamped_etag(temporary, stamp_us)
                os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with reporting_os_errors(key, Unknown):
            for directory in (os.path.dirname(path), *new_parents):
                sync_directory(directory)
        return etag

    def delete(self, key: str) -> None:
        check_key(key)
        path = self._path(key)
        if not os.path.isfile(path):
            return
        with reporting_os_errors(key, Unavailable):
            with self._lock.changing():
                with suppress(FileNotFoundError):
                    os.unlink(path)
                changed = self._remove_empty_directories(os.path.dirname(path))
            sync_directory(changed)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        check_prefix(prefix)
        return self._pages(prefix, start_after)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self.get(source).body)

    # -- temporary files (a capability: chromalith.store.leftovers) ---------------------------------------------------------

    def temporary_files(self) -> Page:
        """The temporary files that are there: of processes at work, and of those that were killed. Dated by when they were written to."""
        found: Page = []
        with reporting_os_errors(OWN_DIRECTORY, Unavailable), suppress(FileNotFoundError), os.scandir(self._temporary) as items:
            for item in items:
                with suppress(FileNotFoundError):
                    if item.is_file(follow_symlinks=False):
                        found.append(_entry(f"{_TEMPORARY}/{item.name}", item.stat(follow_symlinks=False)))
        return sorted(found, key=lambda entry: entry.key)

    def remove_temporary_file(self, entry: Entry) -> None:
        """Remove one, unless it was written to since. A process that wants to name it after all fails, and has written nothing."""
        path = os.path.join(self._temporary, os.path.basename(entry.key))
        with reporting_os_errors(entry.key, Unavailable), suppress(FileNotFoundError):
            if _etag(os.stat(path, follow_symlinks=False)) == entry.etag:
                os.unlink(path)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        with reporting_os_errors(key, Unavailable):
            file = -1
            with suppress(FileNotFoundError, NotADirectoryError):
                file = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if file < 0 or not _is_file(os.fstat(file)):
                    raise NotFound(f"no such object key={key} store={self._url}")
                yield file
            finally:
                if file >= 0:
                    os.close(file)

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        while True:
            with reporting_os_errors(prefix, Unavailable):
                page = self._lock.snapshot(partial(self._look, prefix, start_after))
            if page:
                yield page
            if len(page) < PAGE_ENTRIES:
                return
            start_after = page[-1].key

    def _look(self, prefix: str, start_after: str) -> Page:
        folder, _, beginning = prefix.rpartition("/")
        folder = f"{folder}/" if folder else ""
        return list(itertools.islice(self._walk(folder, beginning, start_after), PAGE_ENTRIES))

    def _walk(self, folder: str, beginning: str, start_after: str) -> Iterator[Entry]:
        """The entries below ``folder`` (empty, or ending in ``/``) whose next segment begins with ``beginning``.

        Sorting a directory's names with ``/`` behind the subdirectories gives the order of the whole keys' bytes:
        ``a-b`` and ``a.b`` come before ``a/b``, ``a0`` after it."""
        names: _Named = []
        try:
            with os.scandir(f"{self._root}/{folder}") as found:
                for item in found:
                    if item.name.startswith(beginning) and is_key(item.name):
                        is_folder = item.is_dir(follow_symlinks=False)
                        names.append((f"{folder}{item.name}/" if is_folder else f"{folder}{item.name}", item))
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        names.sort(key=_first)
        for name, item in names:
            if name.endswith("/"):
                if name > start_after or start_after.startswith(name):
                    yield from self._walk(name, "", start_after)
            elif name > start_after:
                with suppress(FileNotFoundError):
                    yield _entry(name, item.stat())

    # -- changing ----------------------------------------------------------------------------------------------------

    def _check_condition(self, key: str, path: str, condition: Condition) -> None:
        try:
            status: os.stat_result | None = os.stat(path)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            status = None
        if status is not None and not _is_file(status):
            raise Invalid(
                f"the key is the beginning of other keys key={key}", hint="a directory store cannot hold both"
            )
        match condition:
            case Absent() if status is not None:
                raise PreconditionFailed(f"the object exists already key={key} etag={_etag(status)}")
            case Matches(etag) if status is None:
                raise PreconditionFailed(f"the object to overwrite is absent key={key} expected={etag}")
            case Matches(etag) if status is not None and _etag(status) != etag:
                raise PreconditionFailed(f"the object has changed key={key} expected={etag} etag={_etag(status)}")
            case _:
                pass

    def _write_temporary(self, body: bytes) -> str:
        path, file = self._open_temporary()
        try:
            with memoryview(body) as rest:
                written = 0
                while written < len(rest):
                    written += os.write(file, rest[written:])
            os.fsync(file)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(file)
        return path

    def _open_temporary(self) -> tuple[str, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            path = f"{self._temporary}/{self._handle_id}-{os.getpid()}-{next(_temporary_numbers)}"
            try:
                return path, os.open(path, flags, 0o666)
            except FileExistsError:
                # Left over by a killed process whose clock had the same seed and whose number was the same.
                continue
            except FileNotFoundError:
                for directory in self._make_directories(self._temporary):
                    sync_directory(directory)

    def _make_directories(self, directory: str) -> _Paths:
        """Create ``directory`` and its parents down from the root, and return the directories that got a new entry."""
        missing = []
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
            if len(directory) < len(os.path.dirname(self._root)):
                raise FileNotFoundError(errno.ENOENT, "the directory to hold the store is gone", directory)
        for path in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(path)
        return [os.path.dirname(path) for path in missing]

    def _remove_empty_directories(self, directory: str) -> str:
        """Remove the directories that a delete left empty, upward; return the one whose entries changed last."""
        while directory != self._root:
            try:
                os.rmdir(directory)
            except OSError:
                break
            directory = os.path.dirname(directory)
        return directory


def is_directory_store(root: str | os.PathLike[str]) -> bool:
    """Whether something was ever put into a store at ``root``."""
    return Path(root, OWN_DIRECTORY, "lock").is_file()


def _first(pair: tuple[str, os.DirEntry[str]]) -> str:
    return pair[0]


def _is_file(status: os.stat_result) -> bool:
    return (status.st_mode & 0o170000) == 0o100000


def _etag(status: os.stat_result) -> ETag:
    # Timestamps never recur in one store, so the mtime alone would do; the size guards against a file edited by hand.
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _stamped_etag(path: str, stamp_us: int) -> ETag:
    status = os.stat(path)
    if status.st_mtime_ns != stamp_us * 1000:
        raise Invalid(
            f"the file system does not keep microseconds of mtime wrote={stamp_us * 1000} read={status.st_mtime_ns}",
            hint="use a file system with fine timestamps (ext4, xfs, btrfs, apfs, tmpfs)",
        )
    return _etag(status)


def _entry(key: str, status: os.stat_result) -> Entry:
    return Entry(key, status.st_size, _etag(status), status.st_mtime_ns // 1000)


def _read(file: int, start: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = os.pread(file, size, start)
        if not part:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        parts.append(part)
        start += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
