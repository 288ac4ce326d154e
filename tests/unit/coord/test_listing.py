"""A listing of several pages comes to rest under load, and is closed under "written before"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.worlds import Paging, Settling

from chromalith.clock import ManualClock
from chromalith.coord.listing import list_deltas
from chromalith.errors import Unavailable
from chromalith.model import layout
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store

CID = CollectionId("00000000-0000-4000-8000-000000000001")


def put(store: Store, hlc: int) -> str:
    key = layout.delta_key(CID, DeltaId(hlc, f"{hlc:032x}", 0, "0" * 16))
    store.put(key, b"VOID")
    return key


def test_one_page_is_one_request() -> None:
    """A listing of one page is a snapshot, and is believed at once."""
    store = MemoryStore(ManualClock())
    put(store, 5)
    listings = []

    class Counting(Paging):
        def list(self, prefix, *, start_after=""):  # type: ignore[no-untyped-def]
            listings.append(prefix)
            return super().list(prefix, start_after=start_after)

    assert len(list_deltas(Counting(store, 3), CID)) == 1
    assert len(listings) == 1


def test_a_listing_comes_to_rest_while_writers_go_on() -> None:
    """Deltas whose names are older than what was listed, because they were on their way, do not keep a reader listing."""
    store = MemoryStore(ManualClock())
    for hlc in range(100, 110):
        put(store, hlc)
    late = iter(range(1, 100))
    assert len(list_deltas(Paging(store, 3, lambda page: put(store, next(late)) and None), CID)) >= 10


@pytest.mark.parametrize("whole_seconds", [False, True])
@given(
    first=st.sets(st.integers(0, 60), min_size=4, max_size=12),
    meanwhile=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 60), st.booleans()), max_size=8),
)
def test_what_was_written_before_is_listed_too(
    whole_seconds: bool, first: set[int], meanwhile: list[tuple[int, int, bool]]
) -> None:
    """Whatever is put between the pages: of what a listing shows, everything that was written before is shown as well."""
    clock = ManualClock()
    inner = MemoryStore(clock)
    store: Store = Settling(inner) if whole_seconds else inner
    written = [put(store, hlc) for hlc in sorted(first)]
    existing = set(written)
    # Each key once: a delta is never written again, and a later timestamp of the same key would be another order.
    waiting = list({hlc: (page, hlc, tick) for page, hlc, tick in meanwhile if hlc not in first}.values())
    pages = 0

    def between(_: int) -> None:
        nonlocal pages
        pages += 1
        clock.advance(0.3)
        while waiting and (waiting[0][0] <= pages):
            _, hlc, tick = waiting.pop(0)
            clock.advance(1.0 if tick else 0.0)
            written.append(put(store, hlc))

    shown = {layout.delta_key(CID, delta.id) for delta in list_deltas(Paging(store, 3, between), CID)}
    assert existing <= shown
    order = [key in shown for key in written]
    assert order == sorted(order, reverse=True)


def test_a_listing_that_never_rests_is_unavailable() -> None:
    """On a store whose clock stands still, a listing that always grows is given up, and not believed."""
    clock = ManualClock()
    store = Settling(MemoryStore(clock))
    for hlc in range(1_000, 1_010):
        put(store, hlc)
    early = iter(range(1, 1_000))
    with pytest.raises(Unavailable):
        list_deltas(Paging(store, 3, lambda page: page == 1 and put(store, next(early)) and None), CID)
