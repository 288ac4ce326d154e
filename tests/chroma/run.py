"""Run Chroma's own tests on Chromalith, and compare what happens, test by test, with what happens on stock Chroma.

    python tests/chroma/run.py --short     the quick half: the API suites, and the state machines over collections and records
    python tests/chroma/run.py             all of it
    python tests/chroma/run.py --stock     the same tests on stock Chroma: records stock.json, the baseline

The tests are those inside the installed ``chromadb`` wheel; none is edited. They run in an environment of their own
(``.venv-chroma``), because they need an older pytest than this project does.

A run passes if every test ends as it does on stock Chroma, except those that ``differences.toml`` lists, each with its
reason. A difference that is not listed fails the run. One that is listed and did not happen is reported, so that the list
does not grow old. So is a test that stock Chroma fails: its reason stands in the baseline.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BASELINE = HERE / "stock.json"
DIFFERENCES = HERE / "differences.toml"

API = ("test_api.py", "api", "test_client.py", "client", "test_chroma.py", "configurations")
"""The suites of the client API."""
STATE_MACHINES = ("property/test_collections.py", "property/test_embeddings.py::test_embeddings_state")
"""The two Hypothesis state machines, over collections and over records; with Chroma's preset ``fast``, 50 examples each."""
SHORT = (API, STATE_MACHINES)
FULL = (
    API,
    ("property/test_embeddings.py",),
    ("property/test_filtering.py",),
    ("property/test_persist.py", "property/test_restart_persist.py"),
    ("property/test_add.py",),
    ("property/test_collections.py", "property/test_schema.py"),
    ("property/test_collections_with_database_tenant.py", "test_multithreaded.py"),
    ("property/test_fork.py",),
)
"""Not run: what tests other engines (``distributed``, ``segment``, ``db``, ``auth``), functions of Chroma's that have no
client in them (``ef``, ``utils``, ``data_loader``), and ``test_cross_version_persist``, which installs old releases."""

TIMEOUT_S = {"short": 420, "full": 1_800}
Outcomes = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One test that may end otherwise than on stock Chroma."""

    test: str
    outcome: str
    reason: str


def main() -> int:
    """0: as expected; 1: something ended as it must not; 2: the run itself could not be done."""
    options = _parse()
    suite = "stock" if options.stock else "ours"
    python = Path(options.python)
    if not python.exists():
        print(
            f"no such interpreter: {python}\nhint: make the suite's environment first: make .venv-chroma",
            file=sys.stderr,
        )
        return 2
    groups: Sequence[Sequence[str]] = SHORT if options.short else FULL
    if options.tests:
        groups = [tuple(options.tests)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chroma-suite-") as scratch:
        outcomes = run(
            python, suite, groups, Path(scratch), options.jobs, TIMEOUT_S["short" if options.short else "full"]
        )
    counted = Counter(each["outcome"] for each in outcomes.values())
    print(f"{suite}: {_counts(counted)} in {time.monotonic() - began:.0f} s")
    if not outcomes:
        print("no test ran", file=sys.stderr)
        return 2
    if options.stock:
        return _record(outcomes, python)
    return _judge(outcomes, partial=bool(options.tests), files=[each for group in groups for each in group])


def run(
    python: Path, suite: str, groups: Sequence[Sequence[str]], scratch: Path, jobs: int, timeout_s: int
) -> Outcomes:
    """Run each group in a process of its own, at most ``jobs`` at a time; all outcomes, by test."""
    tests = Path(_ask(python, "import chromadb.test, os; print(os.path.dirname(chromadb.test.__file__))"))

    def run_group(numbered: tuple[int, Sequence[str]]) -> Outcomes:
        number, group = numbered
        return _run_group(python, suite, tests, group, scratch / str(number), timeout_s)

    outcomes: Outcomes = {}
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(run_group, enumerate(groups)):
            outcomes.update({_name(test): each for test, each in done.items()})
    return outcomes


def _run_group(python: Path, suite: str, tests: Path, group: Sequence[str], cwd: Path, timeout_s: int) -> Outcomes:
    """Run some of Chroma's test files in one pytest process, in an empty directory of their own."""
    cwd.mkdir()
    report = cwd.with_suffix(".json")
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",  # a test starts `python`
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", HERE, HERE / "startup"))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CHROMALITH_SUITE": suite,
        "CHROMALITH_SUITE_REPORT": str(report),
        "CHROMALITH_CACHE_DIR": str(cwd.with_suffix(".cache")),
        "CHROMA_RUST_BINDINGS_TEST_ONLY": "1",
        "PROPERTY_TESTING_PRESET": "fast",
        "ANONYMIZED_TELEMETRY": "False",
    }
    command = [str(python), "-m", "pytest", "-c", str(HERE / "suite.ini"), f"--rootdir={tests.parent.parent}"]
    command += ["-p", "chroma_plugin", *(f"{tests}/{each}" for each in group)]
    try:
        ended = subprocess.run(command, cwd=cwd, env=environment, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"not done after {timeout_s} s: {' '.join(group)}") from None
    if not report.exists():
        raise SystemExit(f"pytest ended without a report, exit code {ended.returncode}: {' '.join(group)}")
    outcomes: Outcomes = json.loads(report.read_text())
    return outcomes


def _judge(outcomes: Outcomes, *, partial: bool, files: Sequence[str]) -> int:
    """Compare with the baseline and the list of differences, print what differs, and give the exit code."""
    baseline = json.loads(BASELINE.read_text())
    stock: Outcomes = baseline["not_passed"]
    expected = _differences()
    wrong, listed, stale = [], [], []
    for test, ours in sorted(outcomes.items()):
        theirs = stock.get(test, {"outcome": "passed", "reason": ""})
        difference = expected.get(test)
        if ours["outcome"] == theirs["outcome"]:
            if difference is not None:
                stale.append(f"{test}: ends as on stock Chroma now ({ours['outcome']}): take it off the list")
        elif difference is not None and difference.outcome == ours["outcome"]:
            listed.append(f"{test}: {theirs['outcome']} on stock, {ours['outcome']} here: {difference.reason}")
        elif _better(ours["outcome"], theirs["outcome"]):
            stale.append(f"{test}: {theirs['outcome']} on stock, {ours['outcome']} here: put it on the list")
        else:
            wrong.append(f"{test}: {theirs['outcome']} on stock, {ours['outcome']} here: {ours['reason']}")
    if not partial:
        seen = Counter(test.split("::")[0] for test in outcomes)
        for file, number in baseline["collected"].items():
            if any(file == each or file.startswith(f"{each}/") for each in files) and seen[file] < number:
                wrong.append(f"{file}: {seen[file]} tests ran, stock ran {number}")
    for title, lines in (("differences, as listed", listed), ("to look at", stale), ("NOT AS EXPECTED", wrong)):
        if lines:
            print(f"\n{title}:", *lines, sep="\n  ")
    print(
        f"\n{len(outcomes)} tests: {len(wrong)} not as expected, {len(listed)} listed differences, {len(stale)} to look at"
    )
    counted = Counter(each["outcome"] for each in outcomes.values())
    passed, failed = counted["passed"] + counted["xpassed"], len(wrong)
    print(f"{passed} passed, {failed} failed, {counted['skipped'] + counted['xfailed']} skipped")
    return 1 if wrong else 0


def _better(ours: str, theirs: str) -> bool:
    return ours in ("passed", "xpassed") and theirs in ("failed", "xfailed", "skipped", "xpassed")


def _record(outcomes: Outcomes, python: Path) -> int:
    recorded = {
        "chromadb": _ask(python, "import chromadb; print(chromadb.__version__)"),
        "totals": dict(sorted(Counter(each["outcome"] for each in outcomes.values()).items())),
        "collected": dict(sorted(Counter(test.split("::")[0] for test in outcomes).items())),
        "not_passed": {test: each for test, each in sorted(outcomes.items()) if each["outcome"] != "passed"},
    }
    BASELINE.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    print(f"recorded {BASELINE.relative_to(ROOT)}")
    return 0


def _differences() -> dict[str, Difference]:
    listed = tomllib.loads(DIFFERENCES.read_text()).get("difference", [])
    return {each["test"]: Difference(each["test"], each["outcome"], each["reason"]) for each in listed}


def _name(node: str) -> str:
    """A test's name without the directory that chromadb happens to be installed in."""
    return node.partition("chromadb/test/")[2] or node


def _ask(python: Path, program: str) -> str:
    return subprocess.run([str(python), "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counted.items()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run Chroma's own tests on Chromalith.")
    parser.add_argument("--short", action="store_true", help="the quick half, for `make test`")
    parser.add_argument("--stock", action="store_true", help="run on stock Chroma and record the baseline")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument(
        "--python", default=os.environ.get("CHROMA_SUITE_PYTHON", str(ROOT / ".venv-chroma/bin/python"))
    )
    parser.add_argument("tests", nargs="*", help="run only these, as paths under chromadb/test")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
