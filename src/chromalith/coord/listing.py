"""Listing the deltas of a collection as one consistent set.

One page of a listing is a snapshot; several pages are not: a delta that sorts before the cursor may be acknowledged
while later pages are read, and then one that was written after it would be seen without it. So a listing of several
pages is repeated until nothing new appears before what it already had. (If a delta was acknowledged before another
that the first listing shows, it existed when the second began; it is in the second; so either the first had it, or it
shows up as new before the first's end, and the first is not used.)
"""

from __future__ import annotations

from chromalith.errors import Invalid, Unavailable
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.order import Listed
from chromalith.store.port import Store

LIST_ATTEMPTS = 5


def list_deltas(store: Store, cid: CollectionId) -> list[Listed]:
    """The deltas of a collection, folded or not, unordered. Foreign objects under its prefix are ignored.

    Raises ``Unavailable`` if a listing of several pages never comes to rest.
    """
    before, pages = _list_once(store, cid)
    if pages <= 1:
        return list(before.values())
    for _ in range(LIST_ATTEMPTS):
        after, _ = _list_once(store, cid)
        end = max(before, default="")
        if not any(key <= end and key not in before for key in after):
            return list(before.values())
        before = after
    raise Unavailable(
        f"the list of deltas keeps changing over its pages collection={cid} deltas={len(before)}",
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
