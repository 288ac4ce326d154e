"""The test kit's own awkward store keeps the contract, and is awkward."""

from __future__ import annotations

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.store.port import Matches, Store
from chromalith.testing.contract import StoreContract
from chromalith.testing.remote_like import SECOND_US, RemoteLikeStore


class TestRemoteLike(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return RemoteLikeStore(SYSTEM_CLOCK)


class TestInSmallPages(StoreContract):
    many = 50

    @pytest.fixture
    def store(self) -> Store:
        return RemoteLikeStore(SYSTEM_CLOCK, page_entries=3)


def test_timestamps_are_whole_seconds() -> None:
    """An object's time is that of the last whole second, unless the store is told another one."""
    clock = ManualClock(wall_us=5 * SECOND_US + 700_000)
    store = RemoteLikeStore(clock)
    store.put("a", b"x")
    store.stamp = lambda: 4 * SECOND_US
    store.put("b", b"y")
    assert [entry.modified_us for page in store.list("") for entry in page] == [5 * SECOND_US, 4 * SECOND_US]


def test_a_body_that_recurs_brings_its_tag_back() -> None:
    """As on S3: whoever read the first of three bodies overwrites the third, if it is the same."""
    store = RemoteLikeStore(ManualClock())
    first = store.put("a", b"x")
    store.put("a", b"y")
    store.put("a", b"x")
    store.put("a", b"z", Matches(first))
    assert store.get("a").body == b"z"


def test_a_page_is_what_is_there_when_it_is_asked_for() -> None:
    """An object that is written behind the page that was read is in the next one; one before it is in none."""
    store = RemoteLikeStore(ManualClock(), page_entries=2)
    for key in "bdf":
        store.put(key, b"")
    pages = store.list("")
    first = [entry.key for entry in next(pages)]
    store.put("a", b"")
    store.put("e", b"")
    assert first + [entry.key for page in pages for entry in page] == ["b", "d", "e", "f"]


def test_a_copy_goes_its_own_way() -> None:
    """What is written to a copy, or to the store that it was made of, is not in the other."""
    store = RemoteLikeStore(ManualClock())
    tag = store.put("a", b"x")
    other = store.copy_of(ManualClock())
    other.put("b", b"")
    store.delete("a")
    assert (list(store.objects), list(other.objects)) == ([], ["a", "b"])
    assert other.get("a").etag == tag
