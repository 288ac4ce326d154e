"""Real processes on a real S3 server, killed at random, and the server too: nothing lost, nothing doubled (``make chaos``).

Every process gets SIGKILL, between any two machine instructions, and is started again; so is the server, on the same files.
Readers hold what they see against the writers' journals all the time. In the end everything that was acknowledged is there, and
the checksum of the records is the one that is computed from the story alone.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from tests.chaos import story
from tests.chaos.crew import SETTINGS, Plan, progress, sweep_once
from tests.servers import Weed

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.verify import verify
from chromalith.coord.catalog import Catalog
from chromalith.coord.pointer import read_current
from chromalith.model.checksum import Setsum, content_digest, embedding_digest
from chromalith.session import Session

ROOT = Path(__file__).parents[2]
ONLY_WHEN_ASKED = pytest.mark.skipif("'slow' not in config.option.markexpr", reason="long: make chaos")


@dataclass
class Size:
    """How much chaos: processes by role, how many of them are killed, how often the server is, and the most that it may take."""

    crew: dict[str, int]
    kills: int
    server_kills: int
    seconds_max: float


@dataclass
class Crew:
    """The processes of one run. Killed when the run ends, however it ends."""

    plan: Plan
    roles: list[tuple[str, int]]
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        for each in self.roles:
            self.start(each)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def start(self, each: tuple[str, int]) -> None:
        role, number = each
        with (Path(self.plan.folder) / f"{role}-{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.crew", role, str(number)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(self.plan)).encode())
        process.stdin.close()
        self.running[each] = process

    def kill_and_restart(self, each: tuple[str, int]) -> None:
        self.running[each].kill()
        self.running[each].wait()
        self.start(each)

    def finish(self, seconds: float) -> None:
        """Tell everybody to finish what it began, and wait."""
        self.plan.stop.touch()
        deadline = time.monotonic() + seconds
        for each, process in self.running.items():
            code = process.wait(max(1.0, deadline - time.monotonic()))
            log = (Path(self.plan.folder) / f"{each[0]}-{each[1]}.log").read_text()[-3_000:]
            assert code == 0, f"{each} ended with {code}\n{log}"


@pytest.mark.server
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size({"writer": 2, "compactor": 1, "sweeper": 1, "reader": 1}, 8, 1, 200), id="short"),
        pytest.param(
            Size({"writer": 8, "compactor": 2, "sweeper": 1, "reader": 4}, 300, 10, 2_400),
            id="full",
            marks=[pytest.mark.slow, pytest.mark.timeout(3_000), ONLY_WHEN_ASKED],
        ),
    ],
)
def test_killed_processes_and_servers_lose_and_double_nothing(size: Size, tmp_path: Path) -> None:
    """After every kill and restart: each acknowledged call is there once, and the checksum is the story's own."""
    seed = int(SYSTEM_CLOCK.random_hex(8), 16)
    chance = random.Random(seed)
    (tmp_path / "server").mkdir()
    weed = Weed(tmp_path / "server")
    try:
        weed.start()
        store = weed.server.new_store()
        cid = Catalog(store).create("default_tenant", "default_database", "words", configuration={"hnsw": {"space": "l2"}}).collection.id
        plan = Plan(store.url, weed.server.storage_options, cid, str(tmp_path), size.crew["writer"])
        roles = [(role, number) for role, count in size.crew.items() for number in range(count)]
        began = time.monotonic()
        with Crew(plan, roles) as crew:
            kills = _rage(crew, weed, size, chance, began)
            crew.finish(180)
        took_s = time.monotonic() - began
        with plan.session() as session:
            SYSTEM_CLOCK.sleep(session.store.settle_s + 1.5)
            # Whoever was killed last may have had the lease, and its successor may have been told to stop before it was taken over.
            outcome = session.compactor(SETTINGS).run_once(cid, wait_s=30)
            assert outcome.held_by is None
            sweep_once(session, cid)
            _check(plan, session)
        print(f"\nseed={seed} took_s={took_s:.0f} kills={dict(kills)} {_summary(plan)}")
    finally:
        weed.stop()


def _rage(crew: Crew, weed: Weed, size: Size, chance: random.Random, began: float) -> Counter[str]:
    """Kill and restart until the numbers are reached. The time between two kills leaves most of the crew alive at any moment."""
    time.sleep(4)  # everybody is at work
    kills: Counter[str] = Counter()
    server_at = set(chance.sample(range(1, size.kills), size.server_kills))
    for number in range(size.kills):
        assert time.monotonic() - began < size.seconds_max, f"too slow: {kills}"
        if number in server_at:
            weed.kill()
            kills["server"] += 1
            time.sleep(chance.uniform(0.0, 2.0))
            weed.start()
        each = chance.choice(crew.roles)
        crew.kill_and_restart(each)
        kills[each[0]] += 1
        time.sleep(chance.uniform(0.2, 2.5))
    return kills


def _check(plan: Plan, session: Session) -> None:
    """Everything that must hold in the end."""
    journals = {path.name: path.read_text().splitlines() for path in Path(plan.folder).glob("*.journal")}
    assert [f"{name}: {line}" for name, lines in journals.items() for line in lines if line.startswith("E ")] == []
    expected: dict[str, str] = {}
    for writer in range(plan.writers):
        begun, acknowledged = progress(plan.journal("writer", writer))
        assert begun == acknowledged > 0
        expected |= story.states(writer, acknowledged, acknowledged)[0]
    store = session.store
    found = session.view(plan.collection).get(include=("documents",))
    assert len(found.ids) == len(set(found.ids))
    assert dict(zip(found.ids, found.documents or (), strict=True)) == expected
    manifest = read_current(store, plan.collection).manifest
    assert manifest.live == len(expected)
    digests = [content_digest(record, text, None, None) for record, text in expected.items()]
    assert manifest.content == Setsum.of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
    digests = [embedding_digest(record, np.array(story.vector(text), np.float32)) for record, text in expected.items()]
    assert manifest.embedding == Setsum.of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
    assert verify(store, plan.collection).live == len(expected)


def _summary(plan: Plan) -> str:
    """What went on meanwhile, from the journals."""
    calls = sum(progress(plan.journal("writer", writer))[1] for writer in range(plan.writers))
    lines = [line for p in Path(plan.folder).glob("*.journal") for line in p.read_text().splitlines()]
    reads = sum(line.startswith("R ") for line in lines)
    versions = sum(int(line.split()[1]) for line in lines if line.startswith("P "))
    deleted = sum(int(line.split()[1]) for line in lines if line.startswith("D "))
    return f"calls={calls} reads={reads} versions={versions} swept_objects={deleted}"


def test_the_story_can_tell_lost_doubled_and_disordered_calls() -> None:
    """The check is worth something: leaving out, repeating or exchanging calls shows, for nearly every call."""
    told = 0
    for number in range(2, 60):
        calls = [story.call(0, n) for n in range(1, 61)]
        whole, lost, late = ({}, {}, {})  # type: ignore[var-annotated]
        for n, done in enumerate(calls, 1):
            story.apply(whole, done)
            if n != number:
                story.apply(lost, done)
        for done in [*calls, calls[number - 1]]:
            story.apply(late, done)
        told += (whole != late) or (whole != lost)
    assert told > 40
