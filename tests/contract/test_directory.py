"""What only a directory store has: processes, kills, a disk, and other people's files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import Invalid, NotFound
from chromalith.store import directory
from chromalith.store.directory import DirectoryStore
from chromalith.store.port import Absent, Matches, PreconditionFailed
from chromalith.store.posix import ChangeLock
from chromalith.testing.contract import MANY

INCREMENT = """
import sys
from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.directory import DirectoryStore
from chromalith.testing.contract import _incremented
from chromalith.store.port import Absent, PreconditionFailed
root, name, times, racers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = DirectoryStore(root, SYSTEM_CLOCK)
won = 0
for number in range(racers):
    try:
        store.put(f"race/{number:03d}", name.encode(), Absent())
        won += 1
    except PreconditionFailed:
        pass
for number in range(times):
    while not _incremented(store, f"{name}.{number}"):
        SYSTEM_CLOCK.sleep(SYSTEM_CLOCK.uniform(0, 0.002))
print(won)
"""

WRITE_FOREVER = """
import hashlib, sys
from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.directory import DirectoryStore
from chromalith.store.port import Absent
store = DirectoryStore(sys.argv[1], SYSTEM_CLOCK)
number = 0
while True:
    number += 1
    body = hashlib.sha256(f"{sys.argv[2]} {number}".encode()).digest() * 8_000
    name = f"{hashlib.sha256(body).hexdigest()[:32]}"
    store.put(f"run/{sys.argv[2]}/{number:06d}-{name}", body, Absent())
    store.put("pointer", name.encode() + b"|" + body)
    print(number, flush=True)
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_processes_lose_no_increment_and_share_no_win(tmp_path: Path) -> None:
    """Four processes: each key that all of them create has one winner, and no conditional increment is lost."""
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("counter", b"0 start")
    processes = [started(INCREMENT, tmp_path / "store", f"p{each}", 60, 100) for each in range(4)]
    won = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(won) == 100
    assert int(store.get("counter").body.split()[0]) == 240
    stamps = [entry.modified_us for page in store.list("") for entry in page]
    assert len(set(stamps)) == len(stamps), "timestamps are unique between processes"


def test_a_killed_writer_leaves_whole_objects_or_none(tmp_path: Path) -> None:
    """SIGKILL at any moment: what is listed is whole, what was acknowledged is there, and the next writer is not stopped."""
    root = tmp_path / "store"
    for run in range(8):
        process = started(WRITE_FOREVER, root, run)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 + 0.013 * run)
        process.send_signal(signal.SIGKILL)
        acknowledged = 1 + len(process.stdout.read().splitlines())
        process.stdout.close()
        process.wait()
        store = DirectoryStore(root, SYSTEM_CLOCK)
        keys = [entry.key for page in store.list(f"run/{run}/") for entry in page]
        assert len(keys) in (acknowledged, acknowledged + 1)
        for key in keys:
            assert hashlib.sha256(store.get(key).body).hexdigest()[:32] == key.split("-")[1]
        name, _, body = store.get("pointer").body.partition(b"|")
        assert hashlib.sha256(body).hexdigest()[:32] == name.decode()
    store.put("after", b"x", Absent())


def test_leftovers_and_foreign_files_are_never_listed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("a/b", b"x")
    (tmp_path / "store/.chromalith/temporary/left-over").write_bytes(b"half")
    (tmp_path / "store/.DS_Store").write_bytes(b"x")
    (tmp_path / "store/a/with space").write_bytes(b"x")
    assert [entry.key for page in store.list("") for entry in page] == ["a/b"]


def test_reading_creates_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    assert list(store.list("")) == []
    for read in (
        store.get,
        store.head,
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.get_if_changed(key, "x"),
    ):
        with pytest.raises(NotFound):
            read("a/b")
    store.delete("a/b")
    assert list(tmp_path.iterdir()) == []


def test_a_store_copied_by_other_tools_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "copy/a").mkdir(parents=True)
    (tmp_path / "copy/a/b").write_bytes(b"x")
    store = DirectoryStore(tmp_path / "copy", SYSTEM_CLOCK)
    assert [entry.key for page in store.list("") for entry in page] == ["a/b"]
    assert store.get("a/b").body == b"x"
    assert not (tmp_path / "copy/.chromalith").exists()


def test_deleting_the_last_object_of_a_folder_removes_the_folder_and_it_can_come_back(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("a/b/c/d", b"x")
    store.put("a/e", b"x")
    store.delete("a/b/c/d")
    assert sorted(path.name for path in (tmp_path / "store/a").iterdir()) == ["e"]
    store.delete("a/e")
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".chromalith"]
    store.put("a/b/c/d", b"y", Absent())
    assert store.get("a/b/c/d").body == b"y"


def test_timestamps_rise_when_the_clock_goes_back_and_another_handle_takes_over(tmp_path: Path) -> None:
    clock = ManualClock()
    DirectoryStore(tmp_path / "store", clock).put("a", b"x")
    clock.advance(-3600)
    store = DirectoryStore(tmp_path / "store", clock)
    store.put("b", b"x")
    assert store.head("b").modified_us == store.head("a").modified_us + 1


def test_pages_follow_each_other_through_nested_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PAGE_ENTRIES", 3)
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    keys = sorted(
        f"{first}{middle}/{last}" for first in ("a", "a-", "b") for middle in ("", "/c", "0") for last in "xyz"
    )
    for key in keys:
        store.put(key, b"x")
    pages = list(store.list(""))
    assert [len(page) for page in pages] == [3] * 9
    assert [entry.key for page in pages for entry in page] == keys


def test_a_listing_larger_than_a_page_elsewhere_is_one_page(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("seed", b"x")
    (tmp_path / "store/many").mkdir()
    for number in range(MANY):
        (tmp_path / f"store/many/{number:05d}").touch()
    assert [len(page) for page in store.list("many/")] == [MANY]


def test_a_listing_waits_for_a_change_that_is_halfway(tmp_path: Path) -> None:
    """Between the numbers of the lock file a listing must not look without the lock."""
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("a", b"x")
    lock = tmp_path / "store/.chromalith/lock"
    begun = int(lock.read_text()[:20])
    with lock.open("r+") as file:
        file.write(f"{begun + 1:020d}")
        file.flush()
        reader = subprocess.Popen(
            [sys.executable, "-c", _LIST, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(0.8)
        (tmp_path / "store/b").write_bytes(b"x")
    assert json.loads(reader.communicate(timeout=30)[0]) == ["a", "b"]


_LIST = """
import sys, json, time
from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.directory import DirectoryStore
time.sleep(0.3)
print(json.dumps([entry.key for page in DirectoryStore(sys.argv[1], SYSTEM_CLOCK).list("") for entry in page]))
"""


def test_a_listing_looks_again_when_something_changed_meanwhile(tmp_path: Path) -> None:
    lock = ChangeLock(str(tmp_path / "lock"), SYSTEM_CLOCK)
    with lock.changing():
        pass
    looks = 0

    def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            with lock.changing():
                pass
        return looks

    assert lock.snapshot(look) == 2
    assert lock.snapshot(look) == 3, "in quiet times one look is enough"


def test_a_key_cannot_be_both_an_object_and_a_folder(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("a/b", b"x")
    for clash in ("a", "a/b/c"):
        with pytest.raises(Invalid) as caught:
            store.put(clash, b"x")
        assert "cannot hold both" in str(caught.value.hint)
    assert not list((tmp_path / "store/.chromalith/temporary").iterdir())


def test_a_refused_put_leaves_no_temporary_file(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    etag = store.put("a", b"x")
    store.put("a", b"y")
    for condition in (Absent(), Matches(etag)):
        with pytest.raises(PreconditionFailed):
            store.put("a", b"z", condition)
    assert not list((tmp_path / "store/.chromalith/temporary").iterdir())


def test_places_that_cannot_hold_a_store_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "no/such/parent", "does not exist"),
        (tmp_path / "file", "not a directory"),
        (Path("relative"), "must be absolute"),
    ):
        with pytest.raises(Invalid, match=message):
            DirectoryStore(path, SYSTEM_CLOCK)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_can_be_read_and_says_what_to_do_on_a_write(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)
    store.put("a/b", b"x")
    for folder in ("store/.chromalith/temporary", "store/.chromalith", "store/a", "store"):
        (tmp_path / folder).chmod(0o555)
    (tmp_path / "store/.chromalith/lock").chmod(0o444)
    try:
        assert [entry.key for page in store.list("") for entry in page] == ["a/b"]
        with pytest.raises(Invalid, match="refused"):
            store.put("a/c", b"x")
    finally:
        for folder in ("store", "store/a", "store/.chromalith", "store/.chromalith/temporary"):
            (tmp_path / folder).chmod(0o755)
