"""The heartbeat: in a thread, and through calls that hold Python's global lock, in a process that dies with its parent."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.lease_places import in_store
from tests.worlds import World

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction import leasing
from chromalith.compaction.leasing import FOLD, Leasing, Right
from chromalith.coord.heartbeat import Heartbeat
from chromalith.coord.lease import Lease, Sightings, Tenure, break_lease
from chromalith.coord.lease_table import LeaseAddress, LeaseTable
from chromalith.coord.object_leases import ObjectLeases
from chromalith.coord.pointer import read_current
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.address import StoreAddress
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.url import open_store

KEY = "lease/x.json"
SHORT_S = 0.6
LONG_S = 3.0
"""A lease time that a process can keep up on a busy machine: it beats every second."""

OBSERVER = """
import sys
from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.lease import Lease, Tenure
from chromalith.coord.object_leases import ObjectLeases
from chromalith.store.url import open_store
url, key, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
table = ObjectLeases(open_store(url), SYSTEM_CLOCK)
lease = Lease(table, key, SYSTEM_CLOCK, purpose="fold", owner="observer", lease_s=3.0)
print("looking", flush=True)
stop_s = SYSTEM_CLOCK.monotonic_s() + seconds
while SYSTEM_CLOCK.monotonic_s() < stop_s:
    if isinstance(lease.try_acquire(), Tenure):
        print("taken", flush=True)
        sys.exit()
    SYSTEM_CLOCK.sleep(0.05)
print("held", flush=True)
"""

HOLDER = """
import sys
from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.heartbeat import Heartbeat
from chromalith.coord.lease import Lease
from chromalith.coord.object_leases import ObjectLeases
from chromalith.store.url import open_store
url, key = sys.argv[1:]
table = ObjectLeases(open_store(url), SYSTEM_CLOCK)
tenure = Lease(table, key, SYSTEM_CLOCK, purpose="fold", owner="holder", lease_s=3.0).try_acquire()
with Heartbeat(tenure, table.address) as beating:
    beating.before_long_call()
    print(beating._process.pid, flush=True)
    SYSTEM_CLOCK.sleep(60)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri()


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


def acquired(store: Store, lease_s: float) -> Tenure:
    found = Lease(in_store(store), KEY, SYSTEM_CLOCK, purpose="fold", owner="holder", lease_s=lease_s).try_acquire()
    assert isinstance(found, Tenure)
    return found


def token(store: Store) -> str:
    seen = in_store(store).look(KEY)
    assert seen is not None
    return seen.record.token


def test_a_thread_beats() -> None:
    """A holder that is at work for several lease times is not replaced; without a heartbeat it is."""
    for enabled in (True, False):
        store = MemoryStore(SYSTEM_CLOCK)
        tenure = acquired(store, SHORT_S)
        other = Lease(in_store(store), KEY, SYSTEM_CLOCK, purpose="fold", owner="other", lease_s=SHORT_S)
        taken = False
        with Heartbeat(tenure, enabled=enabled):
            for _ in range(40):
                taken = taken or isinstance(other.try_acquire(), Tenure)
                SYSTEM_CLOCK.sleep(0.05)
        assert taken is not enabled
        assert tenure.beat() is enabled


def test_a_thread_that_finds_the_lease_lost_stops() -> None:
    """After the lease was broken, nothing of the holder's touches it again."""
    store = MemoryStore(SYSTEM_CLOCK)
    tenure = acquired(store, 0.15)
    with Heartbeat(tenure) as beating:
        break_lease(in_store(store), KEY, SYSTEM_CLOCK, expected_owner=tenure.record.owner)
        broken = token(store)
        SYSTEM_CLOCK.sleep(0.4)
        assert not beating._thread.is_alive()
        assert tenure.lost
    tenure.release()
    assert token(store) == broken


def hold_the_global_lock(seconds: float) -> None:
    """As a library does that builds an index without letting other threads run."""
    ctypes.PyDLL(None).usleep(ctypes.c_uint(round(seconds * 1e6)))


@pytest.mark.slow
@pytest.mark.parametrize("process", [True, False])
def test_a_process_beats_while_python_stands_still(url: str, store: Store, process: bool) -> None:
    """A call that lets no other thread run for longer than the lease time does not lose the lease; with the thread alone, it does."""
    tenure = acquired(store, LONG_S)
    observer = subprocess.Popen(
        [sys.executable, "-c", OBSERVER, url, KEY, str(2.2 * LONG_S)], stdout=subprocess.PIPE, text=True
    )
    with observer, Heartbeat(tenure, in_store(store).address if process else None) as beating:
        assert observer.stdout is not None
        assert observer.stdout.readline() == "looking\n"
        beating.before_long_call()
        assert (beating._process is not None) is process
        hold_the_global_lock(1.8 * LONG_S)
        assert observer.stdout.readline() == ("held\n" if process else "taken\n")
        child = beating._process
    assert tenure.beat() is process
    assert child is None or child.poll() is not None
    tenure.release()


@pytest.mark.slow
def test_a_killed_holder_takes_its_process_with_it(url: str, store: Store) -> None:
    """SIGKILL gives no chance to say goodbye: the process sees its input end, and the lease runs out for the next."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, url, KEY], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        before = token(store)
        SYSTEM_CLOCK.sleep(LONG_S / 2)
        assert token(store) != before
        holder.kill()
    assert gone(child)
    lease = Lease(in_store(store), KEY, SYSTEM_CLOCK, purpose="fold", owner="next", lease_s=LONG_S)
    began_s = SYSTEM_CLOCK.monotonic_s()
    assert isinstance(lease.acquire(20), Tenure)
    assert SYSTEM_CLOCK.monotonic_s() - began_s >= LONG_S


def gone(process: int) -> bool:
    """Whether a process of this machine ends within some seconds (it is nobody's child any more, so it can't be waited for)."""
    for _ in range(100):
        if subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True).stdout.strip()[:1] in ("", "Z"):
            return True
        SYSTEM_CLOCK.sleep(0.1)
    return False


@pytest.mark.slow
def test_thread_and_process_beat_for_one_owner(url: str, store: Store) -> None:
    """They take over each other's tag: neither takes the other for somebody else; and when both have ended, the holder can release."""
    tenure = acquired(store, LONG_S)
    with Heartbeat(tenure, in_store(store).address) as beating:
        beating.before_long_call()
        for _ in range(20):
            assert tenure.beat()
            SYSTEM_CLOCK.sleep(0.1)
        assert beating._process is not None
        assert beating._process.poll() is None
    tenure.release()
    seen = in_store(store).look(KEY)
    assert seen is not None
    assert seen.record.released


def test_a_process_is_started_for_a_large_index_only(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a small index, or on a store that no other process can reach, starts nothing."""
    started: list[Heartbeat] = []
    monkeypatch.setattr(Heartbeat, "before_long_call", lambda self: started.append(self))
    cid = CollectionId("00000000-0000-4000-8000-000000000001")

    def hold(table: LeaseTable) -> Iterator[Right]:
        kept = Leasing(store, SYSTEM_CLOCK, table, Sightings(SYSTEM_CLOCK), None, True, 30.0, False)
        with kept.hold(cid, FOLD, 0) as right:
            assert isinstance(right, Right)
            yield right

    for right in hold(in_store(store)):
        right.before_index(leasing.PROCESS_ROWS - 1)
        assert not started
        right.before_index(leasing.PROCESS_ROWS)
        assert len(started) == 1
    assert in_store(store).address is not None
    assert in_store(MemoryStore(SYSTEM_CLOCK)).address is None
    assert ObjectLeases(store, SYSTEM_CLOCK, storage_options={"provider": lambda: None}).address is None
    seen = in_store(store).look(layout.lease_key(cid))
    assert seen is not None
    assert seen.record.released


def test_credentials_are_not_shown() -> None:
    """Neither on a command line nor where an address is printed."""
    options = {"secret_access_key": "hush"}
    address = LeaseAddress.of("module", {"url": "s3://bucket", "storage_options": options})
    assert "hush" not in repr(address)
    assert "hush" not in repr(StoreAddress("s3://bucket", options))


def test_the_segment_writer_asks_before_it_builds() -> None:
    """The hook is called with the rows before an index is built, and not where none is."""
    with World() as world:
        world.writer().write(world.cid, "upsert", list("abc"), np.eye(3, dtype=np.float32))
        world.compact()
        current = read_current(world.store, world.cid)
        (segment,) = current.manifest.segments
        body = world.store.get(layout.segment_file_key(world.cid, segment.id, layout.RECORDS_FILE)).body
        called: list[int] = []
        for threshold in (4, 3):
            settings = replace(world.settings, index_threshold=threshold)
            writer = world.compactor(settings=settings)._writer(current, called.append)
            written = writer.segment(0, pq.read_table(pa.BufferReader(body)))
            assert called == ([] if written.index is None else [3])
        assert called == [3]


def test_the_process_finds_what_this_one_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the product lies may be known to this interpreter only: Lambda puts its folder on the path, and no variable says so."""
    (tmp_path / "found_here.py").write_text("import sys\nprint('beating', flush=True)\nsys.stdin.read()\n")
    monkeypatch.syspath_prepend(tmp_path)
    tenure = acquired(MemoryStore(SYSTEM_CLOCK), 9.0)
    with Heartbeat(tenure, LeaseAddress("found_here", {})) as beating:
        beating.before_long_call()
        process = beating._process
        assert process is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"beating\n"
