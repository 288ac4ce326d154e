"""A stored object as a read-only file, by ranged GETs: how a Parquet reader fetches a footer and a few row groups of a large object."""

from __future__ import annotations

import io

from chromalith.store.port import Store

TAIL_BYTES = 64 * 2**10  # the footer of a segment of a hundred row groups


class RangedFile(io.RawIOBase):
    """The object ``key`` of ``size`` bytes. Its last 64 KiB are read once and kept: every Parquet reader begins there."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
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
        tail_start = max(0, self._size - TAIL_BYTES)
        if start >= tail_start:
            if self._tail is None:
                self._tail = self._store.get_range(self._key, tail_start, self._size)
            return self._tail[start - tail_start : stop - tail_start]
        return self._store.get_range(self._key, start, stop)
