"""Decoded deltas in memory, so that those which a new version leaves waiting are not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor

from chromalith.errors import NotFound
from chromalith.model import layout
from chromalith.model.delta import Delta, decode_delta
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.store.cache import Swept
from chromalith.store.port import Store

DELTA_CACHE_BYTES_MAX = 256 * 2**20


class DeltaCache:
    """The deltas of a store's collections. Beyond ``bytes_max`` the oldest go first. Safe to share between threads."""

    def __init__(self, store: Store, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._held: OrderedDict[DeltaId, tuple[Delta, int]] = OrderedDict()
        self._bytes = 0

    def read(self, cid: CollectionId, wanted: Sequence[DeltaId], pool: Executor) -> list[Delta]:
        """Those deltas, in that order. Raises ``Swept`` if one is gone, ``Corrupt``, ``Invalid``."""
        if len(wanted) < 2 or self._store.settle_s == 0:
            return [self._one(cid, delta) for delta in wanted]
        return list(pool.map(lambda delta: self._one(cid, delta), wanted))

    def is_void(self, cid: CollectionId, delta: DeltaId) -> bool:
        """Whether a delta stands for no operation. Raises ``Swept``."""
        return self._one(cid, delta).operations is None

    def _one(self, cid: CollectionId, delta: DeltaId) -> Delta:
        with self._lock:
            if delta in self._held:
                return self._held[delta][0]
        key = layout.delta_key(cid, delta)
        try:
            body = self._store.get(key).body
        except NotFound as error:
            raise Swept(f"a delta was swept while it was needed key={key}") from error
        decoded = decode_delta(cid, delta, body)
        with self._lock:
            if delta not in self._held:
                self._held[delta] = (decoded, len(body))
                self._bytes += len(body)
            while self._bytes > self._bytes_max and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1]
        return decoded
