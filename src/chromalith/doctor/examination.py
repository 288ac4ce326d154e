"""What the checks look at: the store and this machine, and each collection as it was found, read once and shared.

Everything about a collection is read in this order: *list its objects, then read the pointer*. So whatever the listing proves to be
published was published before the pointer was read, and a pointer that is older has gone back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chromalith.clock import Clock
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.lease_table import LeaseTable
from chromalith.coord.pointer import Pointer, read_manifest, read_pointer
from chromalith.doctor.inventory import Belongings, Inventory
from chromalith.errors import ChromalithError, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.model.order import Listed, pending
from chromalith.store.port import Store
from chromalith.store.probe import TryOut


@dataclass(slots=True)
class Examination:
    """A store and the machine that looks at it.

    Attributes:
        store, clock: where, and time and chance.
        storage_options: as the store was opened with; the bucket is asked with the same credentials.
        cache_dir, cache_bytes_max: this machine's cache.
        writes: whether the probe may write under ``probe/``.
        inventory: what is in the store.
        collections: those that are looked at; all of the store's unless one was named.
        leases: where compactors keep their leases; ``None``: in the store.
        tried: what the probe saw, once it ran.
    """

    store: Store
    clock: Clock
    cache_dir: Path
    cache_bytes_max: int
    storage_options: Mapping[str, object] = field(default_factory=dict)
    writes: bool = True
    inventory: Inventory = field(default_factory=Inventory)
    collections: list[CollectionCase] = field(default_factory=list)
    leases: LeaseTable | None = None
    tried: TryOut | None = None

    @property
    def date_us(self) -> int:
        """The store's date, as far as it is known: this machine's clock, corrected by what the probe saw."""
        skew_us = 0 if self.tried is None else sum(self.tried.skew_us) // 2
        return self.clock.now_us() + skew_us


@dataclass(slots=True)
class CollectionCase:
    """One collection as it was found.

    Attributes:
        cid, name: which; the name is ``None`` where no database has one for it.
        has: its objects, listed before the pointer was read.
        pointer, manifest: the current ones, or why there is none (a ``NotFound`` says that the collection was deleted).
    """

    cid: CollectionId
    name: str | None
    has: Belongings
    pointer: Pointer | ChromalithError
    manifest: Manifest | ChromalithError
    _waiting: list[Listed] | None = None

    @property
    def label(self) -> str:
        """What to call it."""
        return self.name if self.name is not None else str(self.cid)

    def waiting(self, store: Store) -> list[Listed]:
        """The deltas that are not folded, in order; none without a manifest. Raises as :class:`~chromalith.coord.folded_parts.Folded`."""
        if self._waiting is None and isinstance(self.manifest, Manifest):
            folded = Folded(self.manifest, FoldedParts.from_store(store))
            self._waiting = pending(self.has.deltas, folded, {each.delta for each in self.manifest.quarantined})
        return self._waiting or []


def open_case(store: Store, cid: CollectionId, name: str | None, has: Belongings) -> CollectionCase:
    """Read the pointer and the manifest of a collection whose objects were listed."""
    case = _read(store, cid, name, has)
    for _ in range(2):
        if isinstance(case.pointer, Pointer) and isinstance(case.manifest, NotFound):  # swept: the pointer has moved on
            case = _read(store, cid, name, has)
    return case


def _read(store: Store, cid: CollectionId, name: str | None, has: Belongings) -> CollectionCase:
    try:
        pointer = read_pointer(store, cid)
    except ChromalithError as error:
        return CollectionCase(cid, name, has, error, error)
    try:
        return CollectionCase(cid, name, has, pointer, read_manifest(store, pointer.manifest_key))
    except ChromalithError as error:
        return CollectionCase(cid, name, has, pointer, error)
