"""Threads that nobody waits for: a pool whose workers the end of the process does not join.

The usual pool joins its threads when the interpreter ends, so a call that hangs keeps the process from ending. What
runs here may hang (it asks a database that nobody vouches for), and nobody needs its answer. The price: a thread may be
cut off anywhere, so it must hold nothing that matters. A process that ends gives them :data:`EXIT_S`, so that the
usual, short call ends in order.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import Any

EXIT_S = 1.0

_POOLS: dict[int, weakref.ref[DaemonExecutor]] = {}
_NUMBERS = itertools.count()


class DaemonExecutor(Executor):
    """A pool of daemon threads, each started when it is needed.

    Args:
        workers: at most so many.
        name: of the threads.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._workers = workers
        self._name = name
        self._process = os.getpid()
        self._ready = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._under_way: set[Future[Any]] = set()
        self._threads = 0
        self._idle = 0
        self._closed = False
        number = next(_NUMBERS)
        if number == 0:  # once for all: many come and go
            atexit.register(_at_exit)
        _POOLS[number] = weakref.ref(self, lambda _: _POOLS.pop(number, None))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn`` in a thread. Raises ``RuntimeError`` after :meth:`shutdown`, or if the machine has no thread for it: then it is
        not run, and not later either."""
        future: Future[Any] = Future()
        with self._ready:
            if self._closed:
                raise RuntimeError("the pool was shut down")
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            begin = self._idle < len(self._waiting) and self._threads < self._workers
            self._threads += begin
            self._ready.notify()
        if begin:
            try:
                threading.Thread(target=self._loop, name=f"{self._name}-{self._threads}", daemon=True).start()
            except RuntimeError:
                with self._ready:
                    self._threads -= 1
                    left = [each for each in self._waiting if each[0] is not future]
                    if len(left) < len(self._waiting):  # else a thread that became free has it
                        self._waiting = deque(left)
                        raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more. What runs goes on; ``wait``: until it and all that waits has ended."""
        with self._ready:
            self._closed = True
            left = [future for future, _ in self._waiting] if cancel_futures else []
            self._ready.notify_all()
        for future in left:
            future.cancel()
        if wait:
            self.join(None)

    def join(self, timeout_s: float | None) -> None:
        """Wait until what was submitted has ended, so many seconds at most (``None``: for ever). In a forked child there is nothing."""
        if os.getpid() != self._process:
            return
        with self._ready:
            futures = [*self._under_way, *(future for future, _ in self._waiting)]
        wait_for(futures, timeout_s)

    def _loop(self) -> None:
        while True:
            with self._ready:
                self._idle += 1
                self._ready.wait_for(lambda: self._waiting or self._closed)
                self._idle -= 1
                if not self._waiting:
                    self._threads -= 1
                    return
                future, work = self._waiting.popleft()
                self._under_way.add(future)
            if future.set_running_or_notify_cancel():
                _settle(future, work)
            with self._ready:
                self._under_way.discard(future)
            del future, work  # an idle thread holds on to nothing


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _at_exit() -> None:
    for reference in reversed(list(_POOLS.values())):
        if (pool := reference()) is not None:
            pool.join(EXIT_S)
            # Nothing is begun any more: it would be cut off inside foreign code.
            pool.shutdown(wait=False, cancel_futures=True)
