"""A stored object as a read-only file, by ranged GETs: how a Parquet reader fetches a footer and a few row groups of a large object."""

from __future__ import annotations

import io

from chromalith.errors import Corrupt
from chromalith.model.manifest import TAIL_BYTES, FileRef
from chromalith.store.port import Store


class RangedFile(io.RawIOBase):
    """The object ``key`` that must be as ``ref`` says. Its tail is read once, checked and kept: every Parquet reader begins there."""

    def __init__(self, store: Store, key: str, ref: FileRef) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = ref.size
        self._expected = ref.tail
        self._tail_start = max(0, ref.size - (TAIL_BYTES if ref.tail is None else ref.tail.size))
        self._at = 0
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """The object's size in bytes."""
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        start, self._at = self._at, max(stop, self._at)
        if start >= stop:
            return b""
        if start >= self._tail_start:
            return self._read_tail()[start - self._tail_start : stop - self._tail_start]
        return self._store.get_range(self._key, start, stop)

    def _read_tail(self) -> bytes:
        if self._tail is None:
            tail = self._store.get_range(self._key, self._tail_start, self._size)
            if self._expected is not None and not self._expected.holds(tail):
                raise Corrupt(f"the end of a stored object is not what its manifest says key={self._key}", key=self._key)
            self._tail = tail
        return self._tail
