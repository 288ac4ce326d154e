"""What the directory store needs of a POSIX file system: a lock that orders changes, durable directories, and its errors.

The lock file holds two decimal numbers of 20 digits: the timestamp of the newest change *begun*, and of the newest *done*.
A change, under the exclusive lock: take a timestamp greater than ``begun`` → write it as ``begun`` → change names → write it
as ``done``. A listing needs no lock when it finds the two equal and finds the same after it has looked: nothing changed
meanwhile. Otherwise it looks again under the shared lock. So readers neither write nor, in quiet times, delay a writer; and
a process killed between the two numbers costs later readers the shared lock until the next change, nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from chromalith.clock import Clock
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.store.port import NotAllowed

Result = TypeVar("Result")

_DIGITS = 20


class ChangeLock:
    """The lock file at ``path``; it is created by the first change, and never deleted or replaced.

    Each use opens the file anew: an ``flock`` belongs to an open file, so this excludes threads as well as processes."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Hold the exclusive lock; yields a timestamp (µs) greater than all before, for what is changed meanwhile."""
        lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            begun, _ = _read_stamps(lock)
            stamp_us = max(self._clock.now_us(), begun + 1)
            _write_stamp(lock, 0, stamp_us)
            try:
                yield stamp_us
            finally:
                # Also after a failure: whatever was changed is changed, and nothing is halfway any more.
                _write_stamp(lock, 1, stamp_us)
        finally:
            os.close(lock)

    def snapshot(self, look: Callable[[], Result]) -> Result:
        """What ``look`` returns when no change happens while it looks. Creates nothing."""
        try:
            lock = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Nothing was ever put here, or this is a copy made by other tools, which nobody changes.
            return look()
        try:
            begun, done = _read_stamps(lock)
            if begun == done:
                seen = look()
                if _read_stamps(lock) == (begun, done):
                    return seen
            fcntl.flock(lock, fcntl.LOCK_SH)
            return look()
        finally:
            os.close(lock)


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def reporting_os_errors(key: str, otherwise: type[Unavailable | Unknown]) -> Iterator[None]:
    """Turn what the operating system raises into ``Invalid`` where a person must act, else into ``otherwise``."""
    try:
        yield
    except OSError as error:
        message = f"the file system refused key={key} error={error.strerror}"
        match error.errno:
            case errno.EACCES | errno.EPERM:
                raise NotAllowed(
                    message, hint="give this user the right to read and write the store's directory", key=key
                ) from error
            case errno.EISDIR | errno.ENOTDIR | errno.ENOTEMPTY:
                raise Invalid(message, hint="a directory store cannot hold both 'a' and 'a/b'") from error
            case errno.EROFS:
                raise Invalid(message, hint="the file system is mounted read-only: write to another place") from error
            case errno.ENOSPC | errno.EDQUOT:
                raise otherwise(message, hint="free some space") from error
            case _:
                raise otherwise(message) from error


def _read_stamps(lock: int) -> tuple[int, int]:
    """The timestamps of the newest change begun and done; zeros in a lock file that is new."""
    text = os.pread(lock, 2 * _DIGITS, 0)
    begun, done = text[:_DIGITS], text[_DIGITS:]
    return int(begun) if begun.isdigit() else 0, int(done) if done.isdigit() else 0


def _write_stamp(lock: int, slot: int, stamp_us: int) -> None:
    os.pwrite(lock, b"%0*d" % (_DIGITS, stamp_us), slot * _DIGITS)
