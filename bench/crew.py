"""Several processes that start at one moment: each gets ready by itself, waits, works, and reports."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

READY_S_MAX = 300

# A member's work: given its arguments and a function that says "ready" and returns at the start, returns its report.
Work = Callable[[Any, Callable[[], None]], Any]


def work_together(work: Work, arguments: Sequence[Any]) -> tuple[float, list[Any]]:
    """Run ``work`` in a spawned process for each of ``arguments``; seconds from the start to the last report, and the reports."""
    context = multiprocessing.get_context("spawn")  # neither the store's client nor Chroma survives a fork
    barrier = context.Barrier(len(arguments) + 1)
    reports: Any = context.SimpleQueue()
    members = [context.Process(target=_member, args=(work, each, barrier, reports)) for each in arguments]
    for member in members:
        member.start()
    try:
        barrier.wait(READY_S_MAX)
        start = time.perf_counter()
        found = [reports.get() for _ in members]
        took = time.perf_counter() - start
    finally:
        for member in members:
            member.join(60)
            member.kill()
    failed = [report for ok, report in found if not ok]
    if failed:
        raise RuntimeError(f"a process of the bench failed: {failed[0]}")
    return took, [report for _, report in found]


def _member(work: Work, argument: Any, barrier: Barrier, reports: Any) -> None:
    try:
        reports.put((True, work(argument, lambda: (barrier.wait(READY_S_MAX), None)[1])))
    except BaseException as error:
        barrier.abort()
        reports.put((False, repr(error)))
        raise
