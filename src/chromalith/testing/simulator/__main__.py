"""``python -m chromalith.testing.simulator``: run histories until one fails or somebody stops it; replay one by its seed."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from chromalith.clock import SYSTEM_CLOCK
from chromalith.testing.simulator.many import run_many
from chromalith.testing.simulator.profiles import PROFILES
from chromalith.testing.simulator.run import Result, run_history

PROGRESS_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: everything held, or it was stopped; 1: a history failed."""
    parser = argparse.ArgumentParser(prog="python -m chromalith.testing.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history, and print all of it")
    parser.add_argument("--seeds", type=_span, metavar="FIRST-LAST", help="run these histories; without, fresh ones until stopped")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="one kind of history; without, the seed says which")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        result = run_history(chosen.seed, chosen.profile)
        print(*result.trace, sep="\n")
        print(result.cause, _verdict(result), f"digest={result.digest}", sep="\n")
        return 0 if result.violation is None else 1
    return _run(chosen.seeds or _fresh(), chosen.profile, chosen.jobs, chosen.minutes)


def _run(seeds: Iterator[int] | range, profile: str | None, jobs: int, minutes: float) -> int:
    began_s = told_s = SYSTEM_CLOCK.monotonic_s()
    counts: Counter[str] = Counter()
    results = run_many(seeds, profile, jobs)
    try:
        for result in results:
            counts.update(histories=1, calls=result.calls, versions=result.versions, writes=result.writes, reads=result.reads)
            if result.violation is not None:
                print(result.report(), flush=True)
                return 1
            now_s = SYSTEM_CLOCK.monotonic_s()
            if now_s - told_s >= PROGRESS_S:
                told_s = now_s
                print(_progress(counts, now_s - began_s), flush=True)
            if now_s - began_s > 60 * minutes:
                break
    except KeyboardInterrupt:
        pass
    finally:
        results.close()  # type: ignore[attr-defined]
    print(_progress(counts, SYSTEM_CLOCK.monotonic_s() - began_s), "all of them held")
    return 0


def _progress(counts: Counter[str], seconds: float) -> str:
    numbers = " ".join(f"{name}={number}" for name, number in counts.items())
    return f"{seconds:.0f}s {numbers} ({counts['histories'] / max(seconds, 1e-9):.1f} histories/s)"


def _verdict(result: Result) -> str:
    shown = "held" if result.violation is None else f"failed: {result.violation}"
    return f"seed={result.seed} profile={result.profile} calls={result.calls} {shown}"


def _fresh() -> Iterator[int]:
    first = int(SYSTEM_CLOCK.random_hex(10), 16)
    print(f"seeds from {first}", flush=True)
    at = 0
    while True:
        yield first + at
        at += 1


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
