"""Run the benches one after the other, each in a process of its own, and write the table and the plots.

    python bench/run.py                   all claims, about half an hour on two cores
    python bench/run.py --small           a smoke run of a minute or two; keeps no results
    python bench/run.py write query       only these
    python bench/run.py --lancedb PYTHON  with LanceDB as the peer of many writers

Each bench also runs by itself: ``python -m bench.query``. A busy machine makes every figure worse: the load average is in each result.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # started as a file, not as a module

from bench.outcome import WORK, add_options, say  # noqa: E402
from bench.report import CLAIMS  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(CLAIMS)}; all if none is named")
    parser.add_argument("--all", action="store_true", help="all claims (the default)")
    add_options(parser)
    given = parser.parse_args()
    unknown = set(given.claims) - set(CLAIMS)
    if unknown:
        parser.error(f"no such claim: {', '.join(sorted(unknown))}; there are {', '.join(CLAIMS)}")
    options = ["--data", str(given.data), "--to", str(given.to), "--repetitions", str(given.repetitions)]
    options += ["--small"] if given.small else []
    options += ["--lancedb", given.lancedb] if given.lancedb else []
    failed = []
    WORK.mkdir(parents=True, exist_ok=True)
    for claim in given.claims or CLAIMS:
        say(f"== {claim} (load average {os.getloadavg()[0]:.1f})")
        command = [sys.executable, "-m", f"bench.{claim}", *options]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode:
            failed.append(claim)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if not given.small:
        subprocess.run([sys.executable, "-m", "bench.report"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
