"""Listing the deltas of a collection as one consistent set.

One page of a listing is a snapshot; several pages are not: a delta that sorts before the cursor may be acknowledged
while later pages are read, and then one that was written after it would be seen without it. So after a listing of several
pages:

1. Let ``latest`` be the greatest timestamp that it shows.
2. List again. What is new and not later than ``latest`` is added; what is later is not asked for.
3. Until a listing adds nothing.

If a delta was acknowledged before another one that is in the set was written, its timestamp is not later than ``latest``, and
it existed when the last listing began: it is in that listing, so it is in the set. New writes are later than ``latest``
as soon as the store's clock has moved on, so the listings come to rest however many writers there are. (Comparing keys instead would
not: a key's time is its writer's, taken before its put, so that under load there is always a new key before the last one.)
"""

from __future__ import annotations

from chromalith.errors import Invalid, Unavailable
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.order import Listed
from chromalith.store.port import Store

LIST_ATTEMPTS = 20  # of 0.2 s for a few pages on S3: longer than its timestamps take to move on (1 s, and 2 s to settle)


def list_deltas(store: Store, cid: CollectionId) -> list[Listed]:
    """The deltas of a collection, folded or not, unordered. Foreign objects under its prefix are ignored.

    Raises ``Unavailable`` if a listing of several pages never comes to rest.
    """
    found, pages = _list_once(store, cid)
    if pages <= 1:
        return list(found.values())
    latest_us = max((delta.modified_us for delta in found.values()), default=0)
    for _ in range(LIST_ATTEMPTS):
        again, _ = _list_once(store, cid)
        added = {key: delta for key, delta in again.items() if key not in found and delta.modified_us <= latest_us}
        if not added:
            return list(found.values())
        found |= added
    raise Unavailable(
        f"the list of deltas keeps changing over its pages collection={cid} deltas={len(found)}",
        hint="run `chromalith compact`: with fewer than 1,000 deltas waiting, a listing is one page",
    )


def _list_once(store: Store, cid: CollectionId) -> tuple[dict[str, Listed], int]:
    found: dict[str, Listed] = {}
    pages = 0
    for page in store.list(layout.delta_prefix(cid)):
        pages += 1
        for entry in page:
            try:
                _, delta = layout.parse_delta_key(entry.key)
            except Invalid:
                continue  # not written by us; `doctor` reports it
            found[entry.key] = Listed(entry.modified_us, delta, entry.size)
    return found, pages
