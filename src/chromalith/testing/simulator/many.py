"""Many histories, over several processes."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace

from chromalith.testing.simulator.run import Result, run_history

CHUNK = 10
"""Seeds that a process gets at a time: a second's work."""


def run_chunk(seeds: list[int], profile: str | None) -> list[Result]:
    """Run a few histories; the traces of those that hold are dropped, because they are large."""
    results = [run_history(seed, profile) for seed in seeds]
    return [result if result.violation is not None else replace(result, trace=()) for result in results]


def run_many(seeds: Iterable[int], profile: str | None, jobs: int) -> Iterator[Result]:
    """The verdicts of histories, in the order in which they end; ``seeds`` may be endless.

    Processes are spawned, never forked. Closing the iterator stops them.
    """
    source = iter(seeds)
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    running: set[Future[list[Result]]] = set()
    try:
        while True:
            while len(running) < jobs + 1 and (chunk := list(itertools.islice(source, CHUNK))):
                running.add(pool.submit(run_chunk, chunk, profile))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
