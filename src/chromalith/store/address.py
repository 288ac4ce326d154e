"""What opens a store again in another process: for a heartbeat, or a merge that runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where another process finds a store.

    Attributes:
        url: of the store.
        storage_options: as for :func:`chromalith.store.url.open_store`; they may hold credentials, and are not shown.
    """

    url: str
    storage_options: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str, storage_options: Mapping[str, object] | None) -> StoreAddress | None:
        """The address, unless no other process can reach the store or be told how (an option that is no JSON value)."""
        if url.startswith("memory:"):
            return None
        try:
            json.dumps(dict(storage_options or {}))
        except (TypeError, ValueError):
            return None
        return cls(url, dict(storage_options or {}))
