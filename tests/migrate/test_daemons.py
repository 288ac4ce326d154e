"""The pool whose threads nobody waits for is a pool all the same."""

from __future__ import annotations

import atexit
import threading
import time
from concurrent.futures import wait

import pytest

from chromalith.migrate import daemons
from chromalith.migrate.daemons import DaemonExecutor

LONG_S = 30.0


def test_work_is_done_by_as_many_threads_as_there_may_be_at_once() -> None:
    """Three calls meet at a barrier, so they run at once; a fourth waits for one of the threads."""
    pool, barrier = DaemonExecutor(3, "test"), threading.Barrier(4)
    first = [pool.submit(barrier.wait, LONG_S) for _ in range(3)]
    fourth = pool.submit(threading.get_ident)
    assert not fourth.done()
    barrier.wait(LONG_S)
    wait([*first, fourth], LONG_S)
    assert sorted(each.result() for each in first) != []
    assert fourth.result(LONG_S) != threading.get_ident()
    pool.shutdown()


def test_idle_threads_are_used_again_and_end_with_the_pool() -> None:
    pool = DaemonExecutor(4, "test-idle")
    for _ in range(50):
        pool.submit(int).result(LONG_S)
    assert sum(each.name.startswith("test-idle") for each in threading.enumerate()) <= 4
    ending = [each for each in threading.enumerate() if each.name.startswith("test-idle")]
    assert ending
    pool.shutdown()
    for each in ending:
        each.join(LONG_S)
        assert not each.is_alive()


def test_an_error_is_the_futures_and_the_thread_lives() -> None:
    pool = DaemonExecutor(1, "test")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(LONG_S)
    with pytest.raises(SystemExit):
        pool.submit(lambda: (_ for _ in ()).throw(SystemExit())).result(LONG_S)
    assert pool.submit(lambda: 7).result(LONG_S) == 7
    pool.shutdown()


def test_a_pool_that_was_shut_down_takes_nothing_and_ends_what_it_has() -> None:
    pool, go = DaemonExecutor(1, "test"), threading.Event()
    running, waiting = pool.submit(go.wait, LONG_S), pool.submit(lambda: 7)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        pool.submit(int)
    go.set()
    assert running.result(LONG_S)
    assert waiting.result(LONG_S) == 7


def test_what_waits_can_be_cancelled() -> None:
    pool, go = DaemonExecutor(1, "test"), threading.Event()
    begun = threading.Event()
    running = pool.submit(lambda: begun.set() or go.wait(LONG_S))
    assert begun.wait(LONG_S)
    waiting = pool.submit(lambda: 7)
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    go.set()
    assert running.result(LONG_S)


def test_what_could_get_no_thread_is_not_run_behind_its_callers_back_and_the_next_gets_one() -> None:
    """Who is told that there is no thread does the work itself: run once more later, a write would overwrite what came after it."""
    pool, done = DaemonExecutor(1, "test-none"), []
    usual = threading.stack_size(1 << 47)  # no machine has so much room for a stack
    try:
        with pytest.raises(RuntimeError):
            pool.submit(done.append, "refused")
    finally:
        threading.stack_size(usual)
    pool.submit(done.append, "taken").result(LONG_S)
    assert done == ["taken"]
    pool.shutdown()


def test_pools_that_came_and_went_leave_nothing_behind() -> None:
    """A tool that repairs for weeks makes one for each repair."""
    DaemonExecutor(1, "test-first").shutdown()
    before = atexit._ncallbacks(), len(daemons._POOLS)
    for _ in range(50):
        pool = DaemonExecutor(1, "test-gone")
        pool.submit(int).result(LONG_S)
        pool.shutdown()
    del pool
    until_s = time.monotonic() + LONG_S
    while len(daemons._POOLS) > before[1] and time.monotonic() < until_s:  # their threads end in their own time
        time.sleep(0.01)
    assert atexit._ncallbacks() == before[0]
    assert len(daemons._POOLS) <= before[1]
