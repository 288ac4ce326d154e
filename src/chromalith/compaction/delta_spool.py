"""Deltas on their way from one collection to another: encoded for the new one when they are read, written when it is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from chromalith.errors import Corrupt
from chromalith.model.delta import decode_delta, encode_delta
from chromalith.model.ids import CollectionId, DeltaId

SPOOL_BYTES_MAX = 64 * 2**20
"""Of the encoded deltas between steps 2 and 7 in memory: as large as one delta may be. More goes to a temporary file."""


class DeltaSpool:
    """The deltas to take over, encoded for the new collection: small ones in memory, more than 64 MiB in a temporary file."""

    def __init__(self, source: CollectionId, cid: CollectionId) -> None:
        self.source = source
        self.cid = cid
        self.operations = 0
        self._sizes: list[int] = []
        self._dimension: int | None = None
        self._file = tempfile.SpooledTemporaryFile(SPOOL_BYTES_MAX)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    @property
    def deltas(self) -> int:
        """How many there are."""
        return len(self._sizes)

    def clear(self, dimension: int | None) -> None:
        """Begin again, above a version with embeddings of this dimension."""
        self._file.seek(0)
        self._file.truncate()
        self._sizes, self.operations, self._dimension = [], 0, dimension

    def add(self, delta: DeltaId, body: bytes) -> None:
        """The next one in the order. Raises what a default read raises of it: ``Corrupt``, ``Invalid`` (a newer format)."""
        operations = decode_delta(self.source, delta, body).operations
        if operations is None:
            return  # void: it stands for nothing
        width = operations.dimension
        self._dimension = self._dimension or width
        if width is not None and width != self._dimension:
            raise Corrupt(
                f"a delta has another dimension delta={delta} dimension={width} expected={self._dimension}",
                hint="`chromalith compact` quarantines it; then fork again",
            )
        encoded = encode_delta(self.cid, operations)
        self._file.write(encoded)
        self._sizes.append(len(encoded))
        self.operations += len(operations)

    def bodies(self) -> Iterator[bytes]:
        """All of them, in order."""
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)
