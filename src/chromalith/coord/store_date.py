"""The store's date: the timestamp, read back, of an object that was just written. The only clock that all processes share."""

from __future__ import annotations

import json

from chromalith.clock import Clock
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

_FORMAT = 2


def store_date(store: Store, cid: CollectionId, clock: Clock) -> int:
    """The store's date for whoever holds no lease in the store, microseconds since 1970-01-01 UTC.

    A fold takes it *before* its LIST, because it must take only deltas that were settled when its LIST began. Several at once may
    write it: each sees its own timestamp or a later one, and none from after its look. Raises ``Unavailable``.
    """
    return date_by(store, layout.date_key(cid), clock)


def date_by(store: Store, key: str, clock: Clock) -> int:
    """As :func:`store_date`, by the object under ``key``."""
    store.put(key, json.dumps({"format": _FORMAT, "write_id": clock.random_hex(32)}).encode())
    return store.head(key).modified_us
