"""The long form: ``python -m tests.fuzz.run --seconds 600`` (``make fuzz``).

Each target runs in a process of its own, because bad bytes can end a process: with a limit on its memory, and with the number of the
input that it is at in a file. An input is known by (target, seed, number) and the corpus, so a failure is replayed with what is printed.
:mod:`tests.fuzz.guided` does the same with coverage as its guide, where ``atheris`` is installed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import resource
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from tests.fuzz.corpus import FOLDER, seeds_of
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

MEMORY_BYTES_MAX = 3 * 2**30
"""Address space that a target may add to what it takes before the first input: the limits of the decoders are 1 and 2 GiB."""
SECONDS_MAX = 20.0
"""For one input, of at most 64 KiB."""


def input_of(target: Target, seed: int, number: int, seeds: list[bytes]) -> bytes:
    """The input that these three name."""
    chance = Random(f"{target.name} {seed} {number}")
    return mutated(chance.choice(seeds), target.kind, chance, seeds)


def _work(name: str, seed: int, start: int, seconds: float, place: str, limited: bool) -> None:
    """Run inputs until the time is over; what fails is written down, and its number stands in ``place`` if the process dies."""
    faulthandler.enable()
    target = TARGETS[name]
    seeds = seeds_of(target)
    for each in seeds:
        target.accepts(each)  # everything is imported and warm
    if limited:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES_MAX,) * 2)
    ends, number, accepted, slowest, failed = time.monotonic() + seconds, start, 0, 0.0, {}
    with Path(place).open("r+b", buffering=0) as note:
        while time.monotonic() < ends and len(failed) < 20:
            note.seek(0)
            note.write(struct.pack("<q", number))
            data, begun = input_of(target, seed, number, seeds), time.monotonic()
            try:
                accepted += target.accepts(data)
            except Exception as error:
                where = "".join(traceback.format_exception(error)).strip().splitlines()
                failed.setdefault(f"{type(error).__name__} {where[-2].strip()[:100]}", number)
            slowest = max(slowest, time.monotonic() - begun)
            number += 1
    if slowest > SECONDS_MAX:
        failed[f"an input took {slowest:.0f} s"] = -1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(place).write_text(
        json.dumps({"inputs": number - start, "accepted": accepted, "slowest_s": slowest, "peak_bytes": peak, "failed": failed})
    )


def run(name: str, seed: int, seconds: float, *, start: int = 0, limited: bool = True) -> dict[str, object]:
    """Fuzz one target. A process that died is a failure of the input that it was at."""
    with tempfile.NamedTemporaryFile(prefix="fuzz-") as note:
        note.write(bytes(8))
        note.flush()
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(name, seed, start, seconds, note.name, limited))
        process.start()
        process.join(seconds + 60)
        if process.is_alive():
            process.kill()
            process.join()
        told = Path(note.name).read_bytes()
    if told.startswith(b"{"):
        result: dict[str, object] = json.loads(told)
        return result
    at = struct.unpack("<q", told[:8])[0]
    return {"inputs": at - start, "accepted": 0, "slowest_s": 0, "peak_bytes": 0, "failed": {f"died with {process.exitcode}": at}}


def main() -> int:
    """Fuzz until the time is over, one target after another; prints a line for each, and what it saw in all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="run this one input of --target and --seed here")
    parser.add_argument("--keep", action="store_true", help="with --replay: write the input into the corpus")
    given = parser.parse_args()
    names = given.target or list(TARGETS)
    if given.replay is not None:
        target = TARGETS[names[0]]
        data = input_of(target, given.seed, given.replay, seeds_of(target))
        if given.keep:
            (FOLDER / target.name).mkdir(parents=True, exist_ok=True)
            (FOLDER / target.name / f"{given.seed}-{given.replay}.bin").write_bytes(data)
        print(data[:2_000])
        print("accepted" if target.accepts(data) else "refused")
        return 0
    inputs = bad = 0
    for name in names:
        result = run(name, given.seed, given.seconds / len(names))
        inputs += int(str(result["inputs"]))
        print(f"{name}: {json.dumps(result)}", flush=True)
        for what, number in dict(result["failed"]).items():  # type: ignore[call-overload]  # a dictionary, by what _work writes
            bad += 1
            print(f"  {what}\n  python -m tests.fuzz.run --target {name} --seed {given.seed} --replay {number}", flush=True)
    print(f"{inputs} inputs, {bad} failures, seed {given.seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
