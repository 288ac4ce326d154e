"""The application's processes and the operator who migrates it: real processes, started, paused, killed and started again by a test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.migrate.live import diary, mutants
from tests.migrate.live.application import Plan, let_go, source_client
from tests.migrate.live.judge import Expected, held, unequal
from tests.migrate.live.story import COLLECTIONS

ROOT = Path(__file__).parents[3]
TIMING = {"state-age-max": 1.0, "freeze-limit": 12.0, "abandoned-after": 6.0, "second-write": 2.0}
"""Small enough for a walk of seconds. ``abandoned-after`` is longer than any call that a test makes."""
ANSWER_S_MAX = 180.0
"""Of a command. Longer than any takes on a busy machine, among them those that wait for what died."""
DONE, TRY_AGAIN, DIFFERENT = 0, 3, 4


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Of each process: this checkout, one thread for arithmetic."""
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONFAULTHANDLER": "1"} | (extra or {})


EXPECTED = ("Failed to deserialize", "a metadata value is None", "Error finding id")
"""What the application is told in any case: of its `add` with a metadata value of None (by a stock server, by Chromalith), and what a
stock server tells about a read beside many deletes."""


@dataclass
class Application:
    """The processes of the application. Killed when the test ends, however it ends."""

    plan: Plan
    environment: dict[str, str] = field(default_factory=dict)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        for number in range(self.plan.processes):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def start(self, number: int) -> None:
        with self._log(number).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.migrate.live.application", str(number)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment(self.environment),
            )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(self.plan.encoded().encode())
        process.stdin.close()
        self.running[number] = process

    def kill(self, number: int) -> None:
        self.running[number].kill()
        self.running[number].wait()

    def calls(self) -> int:
        """How many calls they have made so far."""
        return sum(diary.read(self.plan.diary(number), number).number for number in self.running)

    def work(self, calls: int = 30) -> None:
        """Let them make so many calls more, all together."""
        wanted = self.calls() + calls
        self._until(lambda: self.calls() >= wanted, f"{calls} calls more")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While nobody writes: each has finished its call and waits."""
        self.plan.file("pause").touch()
        self._until(lambda: all(self.plan.file(f"paused-{number}").exists() for number in self.running), "the pause")
        yield
        self.plan.file("pause").unlink()
        self._until(lambda: not any(self.plan.file(f"paused-{number}").exists() for number in self.running), "going on")

    def finish(self) -> None:
        """Everybody finishes the call it is in, and ends in order."""
        self.plan.file("stop").touch()
        for number, process in self.running.items():
            code = process.wait(ANSWER_S_MAX)
            assert code == 0, f"process {number} ended with {code}\n{self._log(number).read_text()[-3_000:]}"

    def stories(self) -> dict[int, diary.Story]:
        """What each of them wrote down."""
        return {number: diary.read(self.plan.diary(number), number) for number in range(self.plan.processes)}

    def expected(self) -> Expected:
        """What the records must be now."""
        return Expected.from_stories({number: story.calls for number, story in self.stories().items()}, self.plan.pool)

    def refused(self, since: float = 0.0) -> list[str]:
        """Calls that began after ``since`` (a monotonic time) and that the application was told an error of."""
        return [
            f"process {number} call {told.call.number} {told.call.op}: {told.error}"
            for number, story in self.stories().items()
            for told in story.refused
            if told.start >= since and not any(text in told.error for text in EXPECTED)
        ]

    def wrong_reads(self, allowed: Sequence[tuple[float, float]] = ()) -> list[str]:
        """What reads showed that they must not: never what was not written, and what was once true only in the times ``allowed``."""
        found = [f"process {number}: {error}" for number, story in self.stories().items() for error in story.errors]
        for number, story in self.stories().items():
            for wrong in story.wrong:
                excused = wrong["kind"] == "stale" and any(start <= wrong["at"] <= stop for start, stop in allowed)
                if not excused:
                    found.append(
                        f"process {number} call {wrong['number']} {wrong['kind']} at {wrong['at']:.2f}: {wrong['text']}"
                    )
        return found

    def _until(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + ANSWER_S_MAX
        while not holds():
            for number, process in self.running.items():
                assert process.poll() is None, f"process {number} ended\n{self._log(number).read_text()[-3_000:]}"
            assert time.monotonic() < deadline, f"waited too long for {what}\n" + "\n".join(
                f"process {number}: {self._log(number).read_text()[-1_500:]}" for number in self.running
            )
            time.sleep(0.05)

    def _log(self, number: int) -> Path:
        return Path(self.plan.folder) / f"process-{number}.log"


@dataclass
class Ran:
    """One run of the command line. ``output``: stdout, then stderr."""

    verb: str
    start: float
    end: float
    code: int
    data: str
    output: str


CLIENT_DIES_S = 75.0
"""After a minute without a word, a client counts as gone (`presence.live`)."""


@dataclass
class Operator:
    """A person at the command line. ``environment`` is added to that of the commands."""

    plan: Plan
    environment: dict[str, str] = field(default_factory=dict)
    ran: list[Ran] = field(default_factory=list)
    following: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.following:
            process.kill()
            process.wait()

    @property
    def module(self) -> str:
        """What is run: the command line, or one of its mutants."""
        return mutants.MODULE if mutants.VARIABLE in self.environment else "chromalith.cli.app"

    def command(self, verb: str, *arguments: str) -> list[str]:
        state = ("--state", self.plan.state) if self.plan.state else ("--store", self.plan.target)
        return ["migrate", verb, *arguments, "--name", self.plan.migration, *state]

    def start(self) -> None:
        """``migrate start`` between the plan's two sides."""
        timing = [part for name, value in TIMING.items() for part in (f"--{name}", str(value))]
        self.run("start", "--source", self.plan.source, "--target", self.plan.target, *timing)

    def run(self, verb: str, *arguments: str, codes: Sequence[int] = (DONE,), again: int = 5) -> Ran:
        """Run a verb. Told to try again, it does, as a person would, ``again`` times. Any other code is a failure of the test."""
        until = time.monotonic() + CLIENT_DIES_S
        while again > 0:
            done = self.once([sys.executable, "-m", self.module, *self.command(verb, *arguments)])
            if done.code != TRY_AGAIN or TRY_AGAIN in codes:
                break
            if "refused: clients:" in done.output and time.monotonic() < until:
                time.sleep(1)  # of a client that was killed, nobody knows for a minute that it will not come back
            else:
                again -= 1
        assert done.code in codes, f"migrate {verb} ended with {done.code}\n{done.output[-4_000:]}"
        return done

    def once(self, command: list[str], kill_after_s: float | None = None) -> Ran:
        """Run one command; ``kill_after_s``: and kill it then, if it has not ended."""
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(self.environment),
        )
        try:
            data, told = process.communicate(timeout=ANSWER_S_MAX if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            data, told = process.communicate()
            assert kill_after_s is not None, f"{command} hangs\n{told.decode(errors='replace')[-4_000:]}"
        verb = command[command.index("migrate") + 1]
        self.ran.append(
            Ran(
                verb, began, time.monotonic(), process.returncode, data.decode(), (data + told).decode(errors="replace")
            )
        )
        with (Path(self.plan.folder) / "operator.log").open("a") as log:
            log.write(
                f"{began:.2f}–{self.ran[-1].end:.2f} {' '.join(command[3:])} -> {process.returncode}\n{self.ran[-1].output}\n"
            )
        return self.ran[-1]

    def follow(self) -> subprocess.Popen[bytes]:
        """``migrate reconcile --follow`` in the background, until the test ends."""
        with (Path(self.plan.folder) / "reconcile.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.command("reconcile", "--follow")],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(self.environment),
            )  # fmt: skip
        self.following.append(process)
        return process

    @property
    def follows(self) -> bool:
        """Whether a reconciler is at work in the background."""
        return any(process.poll() is None for process in self.following)

    def stale_reads_allowed(self) -> list[tuple[float, float]]:
        """When reads may be answered by the side that is not the authority: from each ramp to the end of what came after it."""
        spans: list[tuple[float, float]] = []
        since: float | None = None
        for done in self.ran:
            if done.verb == "ramp" and since is None:
                since = done.start
            elif since is not None and done.verb in ("switch", "rollback", "cancel") and done.code == DONE:
                spans.append((since, done.end + 4 * TIMING["state-age-max"]))
                since = None
        return spans if since is None else [*spans, (since, float("inf"))]


def target_client(plan: Plan) -> Any:
    """A plain client of the target, which is a Chromalith store."""
    import chromalith

    return chromalith.Client(plan.target)


def sides_faults(plan: Plan, expected: Expected | None, *, source: bool, target: bool) -> list[str]:
    """What is wrong with the sides: each against the diaries (if ``expected`` is given), and with both asked for one against the other."""
    found: list[str] = []
    left, right = (source_client(plan) if source else None), (target_client(plan) if target else None)
    for name in plan.collections:
        space = COLLECTIONS[name]
        rows = {
            side: held(client, name) for side, client in (("source", left), ("target", right)) if client is not None
        }
        for side, each in rows.items():
            found += expected.faults(side, name, space, each) if expected is not None else []
        if source and target:
            found += unequal(rows["source"], rows["target"], name, space)
    for client in (left, right):
        if client is not None:
            let_go(client)
    return found
