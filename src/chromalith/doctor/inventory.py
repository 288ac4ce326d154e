"""What lies in a store, by collection and kind of object: one listing, which the checks share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.model.ids import CollectionId, collection_id
from chromalith.model.order import Listed
from chromalith.store.port import Entry, Store

OBJECTS_MAX = 2_000_000
"""2,000 requests, and about 1 GiB of memory. Whoever has more asks for one collection at a time."""

PER_COLLECTION = (
    layout.DELTA_ROOT, layout.SEGMENT_ROOT, layout.SNAPSHOT_ROOT, layout.FOLDED_ROOT, layout.TAG_ROOT, layout.QUARANTINE_ROOT,
)  # fmt: skip
ROOTS = (*PER_COLLECTION, layout.COLLECTION_ROOT, layout.CATALOG_ROOT, layout.LEASE_ROOT)
"""What only Chromalith writes. ``probe/`` is left out: what lies there was left by a probe that was killed, and is swept."""

MIGRATION = "migration/"  # of a migration and of the stock snapshots that it writes: theirs to look after

_H = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Belongings:
    """The objects of one collection.

    Attributes:
        manifests: by version; more than one of a version where a race was lost.
        deltas: those in ``delta/``, in no order.
        objects: segments' objects, folded parts, sidecars, by key.
        base_max: the greatest version that a job says it had read: it was current once.
        aside: how many copies of deltas that restores set aside.
        size_bytes, count: of all of it.
    """

    manifests: dict[int, list[Entry]] = field(default_factory=dict)
    deltas: list[Listed] = field(default_factory=list)
    objects: dict[str, Entry] = field(default_factory=dict)
    base_max: int = -1
    aside: int = 0
    size_bytes: int = 0
    count: int = 0


@dataclass(slots=True)
class Inventory:
    """Everything under Chromalith's prefixes, or what of it belongs to one collection.

    Attributes:
        collections: by id; those whose objects were seen anywhere.
        declared: ids that have a ``collection/`` object.
        catalog: keys of the catalog's objects.
        foreign: keys that Chromalith does not write, as listed.
    """

    collections: dict[CollectionId, Belongings] = field(default_factory=dict)
    declared: set[CollectionId] = field(default_factory=set)
    catalog: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def of(self, cid: CollectionId) -> Belongings:
        """The objects of a collection; none if it has none."""
        return self.collections.get(cid) or Belongings()


def take_inventory(store: Store, only: CollectionId | None) -> Inventory:
    """List what is under Chromalith's prefixes, or what belongs to one collection. Raises ``Unavailable``, ``Invalid``."""
    found = Inventory()
    prefixes = ROOTS if only is None else [f"{root}{only}/" for root in PER_COLLECTION]
    seen = 0
    for prefix in prefixes:
        for page in store.list(prefix):
            seen += len(page)
            if seen > OBJECTS_MAX:
                raise Invalid(f"too many objects to look through limit={OBJECTS_MAX}", hint="name a collection")
            for entry in page:
                _enter(found, entry)
    return found


def _enter(found: Inventory, entry: Entry) -> None:
    """Put an object where it belongs, or among the foreign ones."""
    root, _, rest = entry.key.partition("/")
    if rest.startswith(MIGRATION):
        return
    try:
        parts = rest.split("/")
        if root == "catalog":
            _must(len(parts) == 2 and _H.fullmatch(parts[0]) and parts[1].endswith(".json"))
            _must(parts[1] == "tenant.json" or _H.fullmatch(parts[1].removesuffix(".json")))
            found.catalog.append(entry.key)
        elif root == "collection":
            _must(len(parts) == 1 and parts[0].endswith(".json"))
            found.declared.add(collection_id(parts[0].removesuffix(".json")))
        elif root == "lease":
            _must(len(parts) == 1)
            collection_id(parts[0].partition(".")[0])
        else:
            _enter_data(found, entry, root, parts)
    except Invalid:
        found.foreign.append(entry.key)


def _enter_data(found: Inventory, entry: Entry, root: str, parts: list[str]) -> None:
    """An object of one collection; ``Invalid`` if it is none that Chromalith writes."""
    own = found.collections.get(collection_id(parts[0])) or Belongings()
    job = layout.parse_job_key(entry.key)
    match root, parts[1:]:
        case "delta", _:
            own.deltas.append(Listed(entry.modified_us, layout.parse_delta_key(entry.key)[1], entry.size))
        case "quarantine", _:
            layout.parse_aside_key(entry.key)
            own.aside += 1
        case ("segment", _) | ("folded", _) | ("snapshot", ["buckets", _]):
            _must(job)
            own.objects[entry.key] = entry
        case "snapshot", ["latest", "pointer.txt"] | ["stock.txt"]:
            pass
        case "snapshot", [_, "chroma", *_]:
            _must(layout.parse_stock_key(entry.key))
        case "snapshot", _:
            own.manifests.setdefault(layout.parse_manifest_key(entry.key)[1], []).append(entry)
        case "tag", [name]:
            _must(_H.fullmatch(name.removesuffix(".json")))
        case _:
            raise Invalid(f"not one of Chromalith's keys key={entry.key}")
    own.base_max = max(own.base_max, -1 if job is None else job.base)
    own.size_bytes += entry.size
    own.count += 1
    found.collections[collection_id(parts[0])] = own


def _must(holds: object) -> None:
    if not holds:
        raise Invalid("not one of Chromalith's keys")
