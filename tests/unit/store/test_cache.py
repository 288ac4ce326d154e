"""The cache hands out whole, right files or says what is wrong, and stays within its size."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Corrupt
from chromalith.model.manifest import FileRef
from chromalith.store.cache import PART_BYTES, Cache, Swept
from chromalith.store.memory import MemoryStore
from chromalith.store.wrappers import CountingStore


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore(SYSTEM_CLOCK))


def put(store: CountingStore, key: str, body: bytes) -> FileRef:
    store.put(key, body)
    store.reset()
    return FileRef.of(body)


def age(path: Path, seconds: float) -> None:
    """As if ``path`` had been used that long ago."""
    at = SYSTEM_CLOCK.now_us() / 1e6 - seconds
    os.utime(path, (at, at))


def test_an_object_is_downloaded_once(store: CountingStore, tmp_path: Path) -> None:
    """And another cache of the same store over the same directory, as in another process, finds it there."""
    ref = put(store, "segment/a", b"body")
    for _ in range(2):
        cache = Cache(store, tmp_path, SYSTEM_CLOCK)
        assert cache.file("segment/a", ref).read_bytes() == b"body"
        cache.close()
    assert store.counts.total == 1


def test_a_large_object_comes_in_parts(store: CountingStore, tmp_path: Path) -> None:
    body = bytes(range(256)) * (PART_BYTES // 100)
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    assert cache.file("segment/a", put(store, "segment/a", body)).read_bytes() == body
    assert store.counts.requests == {"get_range": -(-len(body) // PART_BYTES)}
    cache.close()


@pytest.mark.parametrize("stored", [b"bOdy", b"bod", b"body and more", b""])
def test_what_is_not_as_promised_is_corrupt_and_not_kept(store: CountingStore, tmp_path: Path, stored: bytes) -> None:
    put(store, "segment/a", stored)
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    with pytest.raises(Corrupt, match="segment/a"):
        cache.file("segment/a", FileRef.of(b"body"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    cache.close()


def test_a_cut_file_is_downloaded_again(store: CountingStore, tmp_path: Path) -> None:
    ref = put(store, "segment/a", b"body")
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    cache.file("segment/a", ref).write_bytes(b"bo")
    assert cache.file("segment/a", ref).read_bytes() == b"body"
    cache.close()


def test_an_object_that_is_gone_was_swept(store: CountingStore, tmp_path: Path) -> None:
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    with pytest.raises(Swept, match="segment/a"):
        cache.file("segment/a", FileRef.of(b"body"))
    cache.close()


def test_what_was_used_longest_ago_goes_first(store: CountingStore, tmp_path: Path) -> None:
    refs = {key: put(store, key, key.encode() * 100) for key in ("a", "b", "c")}
    cache = Cache(store, tmp_path, SYSTEM_CLOCK, size_bytes_max=250)
    paths = {key: cache.file(key, refs[key]) for key in ("a", "b")}
    age(paths["a"], 3_600)
    age(paths["b"], 1_800)
    cache.file("a", refs["a"])  # used again: now b is the oldest
    paths["c"] = cache.file("c", refs["c"])
    assert [key for key, path in paths.items() if path.exists()] == ["a", "c"]
    cache.close()


def test_what_was_just_handed_out_stays(store: CountingStore, tmp_path: Path) -> None:
    """Even in a cache that is too small for what is in use: its size gives way, not its files."""
    refs = {key: put(store, key, key.encode() * 100) for key in ("a", "b", "c")}
    cache = Cache(store, tmp_path, SYSTEM_CLOCK, size_bytes_max=50)
    paths = [cache.file(key, ref) for key, ref in refs.items()]
    assert all(path.exists() for path in paths)
    cache.close()


def test_threads_that_need_one_object_download_it_once(store: CountingStore, tmp_path: Path) -> None:
    ref = put(store, "a", b"body")
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    threads = [threading.Thread(target=cache.file, args=("a", ref)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts.total == 1
    cache.close()


def test_a_derived_file_is_built_once_and_whole(store: CountingStore, tmp_path: Path) -> None:
    """A build that fails leaves nothing under the name."""
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("crashed")

    with pytest.raises(RuntimeError):
        cache.derived("a/records", "derived", fail)
    built = cache.derived("a/records", "derived", lambda path: path.write_bytes(b"whole") and None)
    assert cache.derived("a/records", "derived", fail) == built
    assert built.read_bytes() == b"whole"
    assert len(list(built.parent.iterdir())) == 1
    cache.close()


def test_an_altered_file_is_downloaded_again(store: CountingStore, tmp_path: Path) -> None:
    """Whatever its size is now; one whose times alone were lost is hashed, and kept."""
    ref = put(store, "segment/a", b"body")
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    path = cache.file("segment/a", ref)
    for altered, downloads in ((b"bOdy", 1), (b"", 1), (b"body", 0)):
        store.reset()
        path.write_bytes(altered)
        assert cache.file("segment/a", ref).read_bytes() == b"body"
        assert store.counts.total == downloads
    store.reset()
    cache.file("segment/a", ref)
    assert store.counts.total == 0
    cache.close()


def test_an_altered_derived_file_is_made_again(store: CountingStore, tmp_path: Path) -> None:
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    path = cache.derived("a/records", "derived", lambda path: path.write_bytes(b"whole") and None)
    assert cache.has_derived("a/records", "derived")
    path.write_bytes(b"wHole")
    assert not cache.has_derived("a/records", "derived")
    assert cache.derived("a/records", "derived", lambda path: path.write_bytes(b"whole") and None).read_bytes() == b"whole"
    cache.close()


def test_the_bytes_of_a_small_object_are_hashed_each_time(store: CountingStore, tmp_path: Path) -> None:
    """So damage that keeps the file's times is found too."""
    ref = put(store, "a", b"body")
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    path = cache.file("a", ref)
    status = path.stat()
    path.write_bytes(b"bOdy")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.file("a", ref).read_bytes() == b"bOdy"  # a file is handed out by its seal
    assert cache.body("a", ref) == b"body"
    cache.close()


def test_what_is_dropped_is_downloaded_again(store: CountingStore, tmp_path: Path) -> None:
    """With what was derived from it; its neighbours' folders are left alone."""
    refs = {key: put(store, key, key.encode()) for key in ("s/1/records", "s/2/records")}
    cache = Cache(store, tmp_path, SYSTEM_CLOCK)
    paths = [cache.file(key, ref) for key, ref in refs.items()]
    derived = cache.derived("s/1/records", "derived", lambda path: path.write_bytes(b"x") and None)
    cache.drop("s/1/records")
    assert [path.exists() for path in (*paths, derived)] == [False, True, False]
    assert cache.file("s/1/records", refs["s/1/records"]).exists()
    cache.close()
