"""The lease object: where a compactor says that it is at work, and reads the store's date.

The date is the timestamp of an object that was just written: the only clock that all processes share. It is taken *before* a fold's
LIST, because a fold must take only deltas that were settled when its LIST began.

The lease itself is advisory: it saves work and protects nothing (the conditional publish does).
"""

from __future__ import annotations

import json

from chromalith.clock import Clock
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

FORMAT = 1


def announce(store: Store, cid: CollectionId, owner: str, clock: Clock) -> int:
    """Write the lease object, and return the store's date: microseconds since 1970-01-01 UTC, by the store's clock."""
    key = layout.lease_key(cid)
    body = {"format": FORMAT, "owner": owner, "at_us": clock.now_us(), "write_id": clock.random_hex(32)}
    store.put(key, json.dumps(body).encode())
    return store.head(key).modified_us
