"""The heartbeat of a lease: a thread, and for calls that hold Python's global lock for long, a process.

A long call into a library can keep every other thread of this interpreter from running; a thread that beats would sleep through the
lease time, and others would start the same work. (usearch 2.26 was measured to let others run while it builds an index, with gaps of
0.2 s; a lease should not depend on which library does, and in which release.) So a job that is about to build a large index, or that
has lasted for a beat already, also starts a small process that beats for it:

1. ``python -m`` with the module of the lease's address (this one, for leases in the store) gets one line of JSON on its standard input:
   what opens the table, the key, and the owner whose lease it is. (Not on its command line, which everybody on the machine can read.)
2. It looks, and stops unless that owner holds the lease. It beats, prints ``beating``, and goes on.
3. It ends when its standard input ends: the pipe's other end is closed by the job, or by the kernel when the job's process is killed,
   however hard. It ends also when a beat finds the lease lost, and after an hour: a job that hangs must not hold a lease for ever.

Thread and process beat for one owner, so each takes over the other's witness (:meth:`chromalith.coord.lease.Tenure.beat`). All of this
is best effort: without a heartbeat a lease runs out, somebody else does the work too, and nothing is lost.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.lease import BEATS, Tenure
from chromalith.coord.lease_table import LeaseAddress, LeaseTable
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import ChromalithError
from chromalith.store.url import open_store

BEATING_S_MAX = 3600.0
START_S_MAX = 10.0
"""Within this a process has beaten for the first time: importing the store takes about a second, several on a busy machine."""
END_S_MAX = 5.0
_BEATING = b"beating\n"


class Heartbeat:
    """Beats for a tenure while the block runs, every third of its lease time.

    Args:
        tenure: whose lease; released by its owner, not here.
        address: opens the lease table in the process; ``None``: the thread is all there is.
        enabled: whether to beat at all.
    """

    def __init__(self, tenure: Tenure, address: LeaseAddress | None = None, *, enabled: bool = True) -> None:
        self._tenure = tenure
        self._address = address
        self._enabled = enabled
        self._beat_s = tenure.record.lease_s / BEATS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chromalith-heartbeat", daemon=True)
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._enabled:
            self._thread.join(END_S_MAX)  # longer only if a request hangs; a beat after the release changes nothing
        if self._process is not None:
            _end(self._process)

    def before_long_call(self) -> None:
        """Have a process beat before this interpreter can't. It starts beside the call; only under a short lease it is waited for."""
        if self._enabled:
            with suppress(ChromalithError):
                self._tenure.beat()  # so that a whole lease time is left for starting it
            lease_s = self._tenure.record.lease_s
            self._start_process(wait_s=lease_s if lease_s < START_S_MAX else 0)

    def _run(self) -> None:
        began_s = SYSTEM_CLOCK.monotonic_s()
        while not self._stop.wait(self._beat_s) and SYSTEM_CLOCK.monotonic_s() - began_s < BEATING_S_MAX:
            with suppress(ChromalithError):
                if not self._tenure.beat():
                    return
            self._start_process(wait_s=0)  # the job lasts, and so may its next call

    def _start_process(self, *, wait_s: float) -> None:
        with self._starting:
            if self._process is not None or self._address is None or self._tenure.lost or self._stop.is_set():
                return
            order = {**self._address.told, "key": self._tenure.key, "owner": self._tenure.record.owner}
            command = [sys.executable, "-P", "-m", self._address.module]
            # What this interpreter finds, the process must find: in Lambda, the runtime puts the function's folder on the path by itself.
            found = {"PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **found}
                )
            except OSError:
                return  # no interpreter, no memory, no permission: the thread is all there is
            self._process = process
            if process.stdin is not None:
                with suppress(OSError):  # it ended at once
                    process.stdin.write(json.dumps(order).encode() + b"\n")
                    process.stdin.flush()
        if wait_s > 0 and process.stdout is not None:
            select.select([process.stdout], [], [], wait_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:  # it hangs in a request
        process.kill()
        process.wait()


def _end_with_the_input() -> None:
    """Wait for the end of standard input, which is the end of the holder; a request that hangs must not outlive it."""
    sys.stdin.buffer.read()
    os._exit(0)


def beat_as_told(open_table: Callable[[dict[str, Any]], LeaseTable]) -> None:
    """The process: beat for the owner named on standard input, until that ends.

    Args:
        open_table: opens the table from what the address tells.
    """
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    table = open_table(order)
    seen = table.look(order["key"])
    if seen is None or seen.record.released or seen.record.owner != order["owner"]:
        return
    tenure = Tenure(table, order["key"], SYSTEM_CLOCK, seen.record, seen.witness)
    began_s = SYSTEM_CLOCK.monotonic_s()
    told = False
    while SYSTEM_CLOCK.monotonic_s() - began_s < BEATING_S_MAX:
        with suppress(ChromalithError):
            if not tenure.beat():
                return
            if not told:
                told = True
                with suppress(OSError):
                    sys.stdout.buffer.write(_BEATING)
                    sys.stdout.buffer.flush()
        SYSTEM_CLOCK.sleep(seen.record.lease_s / BEATS)


def _open(told: dict[str, Any]) -> LeaseTable:
    return ObjectLeases(open_store(told["url"], storage_options=told["storage_options"], clock=SYSTEM_CLOCK), SYSTEM_CLOCK)


if __name__ == "__main__":
    beat_as_told(_open)
