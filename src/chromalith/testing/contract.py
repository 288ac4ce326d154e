"""What each store must keep, as tests: one suite for every adapter, also for one of your own.

Subclass it where pytest collects, and give it a fixture named ``store`` that is an empty store::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            return MyStore(...)

The clauses are those of :mod:`chromalith.store.port`. pytest itself is not imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.store.port import Absent, Entry, Matches, PreconditionFailed, Store

MANY = 1_005
"""More than a page of S3, GCS or memory."""


class StoreContract:
    """The suite. Class attributes set how much is tried, for adapters that are slow."""

    racers: int = 50
    contenders: int = 16
    increments: int = 20
    many: int = MANY
    large_bytes: int = 5_000_000

    def test_what_was_put_is_read_headed_and_listed_alike(self, store: Store) -> None:
        etag = store.put("kind/one.json", b"body")
        found = store.get("kind/one.json")
        assert (found.key, found.body, found.etag) == ("kind/one.json", b"body", etag)
        assert type(found.body) is bytes
        entry = Entry("kind/one.json", 4, etag, found.modified_us)
        assert store.head("kind/one.json") == entry
        assert _listed(store, "kind/") == [entry]

    def test_an_empty_and_a_large_body_come_back_whole(self, store: Store) -> None:
        large = bytes(range(256)) * (self.large_bytes // 256) + b"odd"
        for key, body in (("empty", b""), ("large", large)):
            assert store.put(key, body, Absent()) == store.head(key).etag
            assert store.get(key).body == body
            assert store.head(key).size == len(body)

    def test_overwriting_replaces_body_and_tag(self, store: Store) -> None:
        first = store.put("key", b"one")
        second = store.put("key", b"other")
        assert first != second
        assert (store.get("key").body, store.get("key").etag) == (b"other", second)

    def test_what_is_absent_is_not_found(self, store: Store) -> None:
        store.put("there/a", b"x")
        for missing in ("nothing", "there/b", "there", "there/a/b"):
            with raises(NotFound):
                store.get(missing)
            with raises(NotFound):
                store.head(missing)
            with raises(NotFound):
                store.get_range(missing, 0, 1)
            with raises(NotFound):
                store.get_if_changed(missing, store.head("there/a").etag)
            with raises(NotFound):
                store.copy(missing, "target")
        assert _keys(store, "") == ["there/a"]

    def test_deleting_removes_and_deleting_again_is_no_error(self, store: Store) -> None:
        store.put("a/b/c", b"x")
        store.put("a/b/d", b"y")
        store.delete("a/b/c")
        store.delete("a/b/c")
        store.delete("never/was")
        with raises(NotFound):
            store.get("a/b/c")
        assert _keys(store, "") == ["a/b/d"]
        store.put("a/b/c", b"again", Absent())
        assert store.get("a/b/c").body == b"again"

    def test_absent_refuses_what_exists_and_changes_nothing(self, store: Store) -> None:
        etag = store.put("key", b"first", Absent())
        before = store.head("key")
        with raises(PreconditionFailed, Conflict):
            store.put("key", b"second", Absent())
        assert store.get("key").body == b"first"
        assert store.head("key") == before
        assert before.etag == etag

    def test_matches_writes_over_that_object_only(self, store: Store) -> None:
        first = store.put("key", b"1")
        second = store.put("key", b"2", Matches(first))
        assert second != first
        with raises(PreconditionFailed):
            store.put("key", b"3", Matches(first))
        assert (store.get("key").body, store.get("key").etag) == (b"2", second)
        assert store.put("key", b"4", Matches(store.get("key").etag)) == store.head("key").etag

    def test_matches_refuses_what_is_absent(self, store: Store) -> None:
        etag = store.put("key", b"1")
        store.delete("key")
        with raises(PreconditionFailed):
            store.put("key", b"2", Matches(etag))
        assert _keys(store, "") == []

    def test_of_many_that_create_one_key_one_wins(self, store: Store) -> None:
        bodies = [f"racer {number}".encode() for number in range(self.racers)]
        won = _race([_attempt(store, "key", body) for body in bodies])
        assert won.count(True) == 1
        assert store.get("key").body == bodies[won.index(True)]

    def test_conditional_increments_from_many_threads_lose_none(self, store: Store) -> None:
        store.put("counter", b"0 start")

        def increment_often(name: int) -> Callable[[], bool]:
            def run() -> bool:
                for number in range(self.increments):
                    wait_s = 0.001
                    while not _incremented(store, f"{name}.{number}"):
                        wait_s = min(0.1, wait_s * 2)
                        SYSTEM_CLOCK.sleep(SYSTEM_CLOCK.uniform(0, wait_s))
                return True

            return run

        _race([increment_often(name) for name in range(self.contenders)])
        count = int(store.get("counter").body.split()[0])
        assert count == self.contenders * self.increments

    def test_a_conditional_read_answers_only_a_change(self, store: Store) -> None:
        first = store.put("key", b"one")
        assert store.get_if_changed("key", first) is None
        second = store.put("key", b"two")
        changed = store.get_if_changed("key", first)
        assert changed is not None
        assert (changed.key, changed.body, changed.etag) == ("key", b"two", second)
        assert store.get_if_changed("key", second) is None

    def test_ranges_are_half_open_and_cut_at_the_end(self, store: Store) -> None:
        store.put("key", b"0123456789")
        assert store.get_range("key", 0, 1) == b"0"
        assert store.get_range("key", 3, 7) == b"3456"
        assert store.get_range("key", 9, 10) == b"9"
        assert store.get_range("key", 8, 1000) == b"89"
        assert store.get_range("key", 0, 10) == b"0123456789"

    def test_a_range_must_begin_within_the_object_and_hold_a_byte(self, store: Store) -> None:
        store.put("key", b"0123456789")
        for start, stop in ((10, 12), (11, 20), (3, 3), (5, 4), (-2, 4)):
            with raises(Invalid):
                store.get_range("key", start, stop)

    def test_a_listing_has_the_prefix_and_the_order_of_bytes(self, store: Store) -> None:
        keys = ["a-1/x", "a/b", "a/c/d", "a/c/e", "a/cc", "a/d", "a0", "b", "b0/1", "b0/2", "z=1/y"]
        for key in reversed(keys):
            store.put(key, b"x")
        assert _keys(store, "") == keys
        for prefix in ("a", "a/", "a/c", "a/c/", "a/c/d", "a-", "b", "b0/", "z", "zz", "a/x", "nothing/", "a/c/d-"):
            assert _keys(store, prefix) == [key for key in keys if key.startswith(prefix)], prefix
        assert all(page for page in store.list("a"))
        assert list(store.list("nothing/")) == []

    def test_a_listing_starts_after_a_key_present_or_not(self, store: Store) -> None:
        keys = [f"log/{number:04d}" for number in range(20)]
        for key in keys:
            store.put(key, b"x")
        store.put("log-0", b"x")
        store.put("lot/0", b"x")
        for after in ("", "log/0000", "log/0007", "log/0007-between", "log/0019", "a", "zzz", "log/"):
            assert _keys(store, "log/", after) == [key for key in keys if key > after], after
        assert _keys(store, "log/001", "log/0015") == keys[16:]

    def test_a_listing_of_several_pages_is_whole_and_in_order(self, store: Store) -> None:
        keys = [f"page/{number:06d}" for number in range(self.many)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, b"x"), keys))
        assert _keys(store, "page/") == keys
        assert _keys(store, "page/", keys[2]) == keys[3:]
        assert _keys(store, "page/0000") == [key for key in keys if key.startswith("page/0000")]
        assert next(store.list("page/"))[0].key == keys[0]

    def test_a_change_shows_in_the_next_listing(self, store: Store) -> None:
        for number in range(15):
            key = f"now/{number:02d}"
            store.put(key, b"x", Absent())
            assert _keys(store, "now/")[-1] == key
        for number in range(15):
            store.delete(f"now/{number:02d}")
            assert len(_keys(store, "now/")) == 14 - number

    def test_timestamps_rise(self, store: Store) -> None:
        """Never down anywhere; strictly up where nothing settles, overwriting included."""
        stamps = []
        for number in range(6):
            key = f"stamp/{number % 3}"
            store.put(key, b"%d" % number)
            stamps.append(store.head(key).modified_us)
        assert stamps == sorted(stamps)
        if store.settle_s == 0:
            assert len(set(stamps)) == len(stamps)
        assert abs(stamps[-1] - SYSTEM_CLOCK.now_us()) < 120_000_000, "microseconds since 1970, UTC"

    def test_a_copy_has_the_bytes_and_overwrites(self, store: Store) -> None:
        store.put("from/a", b"body")
        store.put("to/b", b"something longer")
        store.copy("from/a", "to/b")
        assert store.get("to/b").body == store.get("from/a").body == b"body"

    def test_a_reader_sees_whole_objects_while_they_are_replaced(self, store: Store) -> None:
        bodies = {bytes([65 + number]) * (1_000 + 50_000 * number) for number in range(4)}
        store.put("key", min(bodies))
        done = threading.Event()

        def write() -> bool:
            for _ in range(5):
                for body in bodies:
                    store.put("key", body)
            done.set()
            return True

        def read() -> bool:
            whole = True
            while not done.is_set():
                whole = whole and store.get("key").body in bodies
            return whole

        assert _race([write, read, read]) == [True, True, True]

    def test_a_page_is_a_snapshot_where_nothing_settles(self, store: Store) -> None:
        """A listing never shows an object without every one that was written before it."""
        if store.settle_s:
            return
        # In an order that has nothing to do with the listing's.
        order = [f"seen/{(number * 37) % 101:03d}/x" for number in range(1, 101)]
        done = threading.Event()

        def write() -> bool:
            for key in order:
                store.put(key, b"x")
            done.set()
            return True

        def read() -> bool:
            whole = True
            while not done.is_set():
                seen = set(_keys(store, "seen/"))
                whole = whole and seen == set(order[: len(seen)])
            return whole

        assert _race([write, read, read]) == [True, True, True]

    def test_keys_that_some_store_would_twist_are_refused(self, store: Store) -> None:
        bad = (
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "a/./b",
            ".hidden",
            "ä",
            "a b",
            "a+b",
            "a%20b",
            "a\\b",
            "a\nb",
            "k" * 2000,
        )
        for key in bad:
            for verb in (
                lambda key: store.put(key, b"x"),
                store.get,
                store.head,
                store.delete,
                lambda key: store.get_range(key, 0, 1),
                lambda key: store.get_if_changed(key, "x"),
                lambda key: store.copy(key, "target"),
            ):
                with raises(Invalid):
                    verb(key)
        for prefix in ("/", "a//", "ä", "../", "a b"):
            with raises(Invalid):
                list(store.list(prefix))
        assert _keys(store, "") == []

    def test_it_says_where_it_is_and_how_long_it_settles(self, store: Store) -> None:
        assert "://" in store.url
        assert 0 <= store.settle_s <= 60


@contextmanager
def raises(*expected: type[BaseException]) -> Iterator[None]:
    """Assert that the block raises an error that is every one of ``expected``."""
    try:
        yield
    except expected as error:
        assert all(isinstance(error, each) for each in expected), f"{error!r} is not all of {expected}"
        return
    raise AssertionError(f"nothing was raised, expected {[each.__name__ for each in expected]}")


def _keys(store: Store, prefix: str, start_after: str = "") -> list[str]:
    return [entry.key for entry in _listed(store, prefix, start_after)]


def _listed(store: Store, prefix: str, start_after: str = "") -> list[Entry]:
    return [entry for page in store.list(prefix, start_after=start_after) for entry in page]


def _attempt(store: Store, key: str, body: bytes) -> Callable[[], bool]:
    def run() -> bool:
        try:
            store.put(key, body, Absent())
        except PreconditionFailed:
            return False
        return True

    return run


def _incremented(store: Store, nonce: str) -> bool:
    current = store.get("counter")
    count = int(current.body.split()[0])
    try:
        store.put("counter", f"{count + 1} {nonce}".encode(), Matches(current.etag))
    except PreconditionFailed:
        return False
    return True


def _race(runs: list[Callable[[], bool]]) -> list[bool]:
    """Start all at the same moment, each in a thread of its own; their results, or the first error."""
    together = threading.Barrier(len(runs))

    def begin(run: Callable[[], bool]) -> bool:
        together.wait()
        return run()

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(begin, runs))
