"""The processes of the chaos test. Each is killed at random and started again, and knows only what is in its journal.

Journals are text files of one line an event; a line reaches the operating system before the event is relied on, so it survives SIGKILL.
``B n``: call n begins; ``A n``: it was acknowledged; ``E …``: something that must not happen.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos import story

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.sweep import run_sweep
from chromalith.errors import Conflict, LeaseHeld, Unavailable, Unknown
from chromalith.model.ids import CollectionId
from chromalith.model.plan import MergePolicy
from chromalith.model.retention import Retention
from chromalith.session import Session
from chromalith.store.url import open_store

TRANSIENT = (Unavailable, Unknown, Conflict, LeaseHeld)
"""What a person would try again. Anything else is a defect."""


@dataclass(frozen=True)
class Plan:
    """Where everything is."""

    url: str
    storage_options: dict[str, object]
    collection: CollectionId
    folder: str
    writers: int

    def session(self) -> Session:
        return Session(open_store(self.url, storage_options=self.storage_options))

    def journal(self, role: str, number: int) -> Path:
        return Path(self.folder) / f"{role}-{number}.journal"

    @property
    def stop(self) -> Path:
        """When this file exists, everybody finishes what it began."""
        return Path(self.folder) / "stop"


RETENTION = Retention(keep_versions=3, keep_age_s=0, job_grace_s=20)
SETTINGS = CompactionSettings(merge=MergePolicy(fan_in=4, rows_floor=20), fold_deltas_max=500, lease_s=6)


def run(plan: Plan, role: str, number: int) -> None:
    """One process of the crew, until it is told to stop, or killed."""
    try:
        {"writer": write, "compactor": compact, "sweeper": sweep, "reader": read}[role](plan, number)
    except Exception as error:
        note(plan.journal(role, number), f"E {type(error).__name__}: {error}")
        raise


def note(journal: Path, line: str) -> None:
    with journal.open("a") as file:  # one write of a short line: it is there as a whole, or not at all
        file.write(line + "\n")


def progress(journal: Path) -> tuple[int, int]:
    """The last call that began, and the last that was acknowledged."""
    began = acknowledged = 0
    for line in journal.read_text().splitlines() if journal.exists() else ():
        if line.startswith("B "):
            began = int(line[2:])
        elif line.startswith("A "):
            acknowledged = int(line[2:])
    return began, acknowledged


def write(plan: Plan, number: int) -> None:
    """One call after the other; an unfinished one is repeated under its call_id until it is answered."""
    journal = plan.journal("writer", number)
    began, acknowledged = progress(journal)
    session = plan.session()
    while began > acknowledged or not plan.stop.exists():
        current = acknowledged + 1
        if began < current:
            began = current
            note(journal, f"B {current}")
        done = story.call(number, current)
        text = None if done.op == "delete" else [done.text] * len(done.ids)
        vectors = None if text is None else [story.vector(done.text)] * len(done.ids)
        try:
            session.writer.write(plan.collection, done.op, done.ids, vectors, text, call_id=f"{number} {current}")
        except TRANSIENT:
            SYSTEM_CLOCK.sleep(0.2)
            continue
        note(journal, f"A {current}")
        acknowledged = current
        SYSTEM_CLOCK.sleep(0.25)
    note(journal, "stopped")


def compact(plan: Plan, number: int) -> None:
    """Fold and merge all the time."""
    journal = plan.journal("compactor", number)
    compactor = plan.session().compactor(SETTINGS)
    while not plan.stop.exists():
        try:
            outcome = compactor.run_once(plan.collection)
            if outcome.published:
                note(journal, f"P {len(outcome.published)} {outcome.folded} {outcome.merged} {outcome.swept}")
        except TRANSIENT:
            pass
        SYSTEM_CLOCK.sleep(0.5)
    note(journal, "stopped")


def sweep(plan: Plan, number: int) -> None:
    """Sweep with a short memory: three versions, and jobs of the last twenty seconds."""
    journal = plan.journal("sweeper", number)
    session = plan.session()
    while not plan.stop.exists():
        try:
            deleted = sweep_once(session, plan.collection)
            if deleted:
                note(journal, f"D {deleted}")
        except TRANSIENT:
            pass
        SYSTEM_CLOCK.sleep(2)
    note(journal, "stopped")


def sweep_once(session: Session, cid: CollectionId) -> int:
    """One sweep; how many objects it deleted."""
    return len(run_sweep(session.store, session.clock, cid, RETENTION).garbage)


def read(plan: Plan, number: int) -> None:
    """Read at the default level, and hold what comes back against the journals: nothing acknowledged is missing, nothing is half there."""
    journal = plan.journal("reader", number)
    session = plan.session()
    while not plan.stop.exists():
        before = [progress(plan.journal("writer", writer))[1] for writer in range(plan.writers)]
        try:
            view = session.view(plan.collection)
            found = view.get(include=("documents",))
            count = view.count()
        except TRANSIENT:
            SYSTEM_CLOCK.sleep(0.5)
            continue
        after = [progress(plan.journal("writer", writer))[0] for writer in range(plan.writers)]
        shown = dict(zip(found.ids, found.documents or (), strict=True))
        if count != len(found.ids) or len(shown) != len(found.ids):
            note(journal, f"E doubled count={count} ids={len(found.ids)} distinct={len(shown)} version={view.manifest.version}")
        for writer in range(plan.writers):
            own = {record: text for record, text in shown.items() if record.startswith(f"w{writer}-")}
            if own not in story.states(writer, before[writer], after[writer]):
                span = f"acknowledged={before[writer]} begun={after[writer]}"
                note(journal, f"E writer={writer} {span} version={view.manifest.version} shown={own}")
        note(journal, f"R {view.manifest.version}")
        SYSTEM_CLOCK.sleep(0.3)
    note(journal, "stopped")


def encoded(plan: Plan) -> dict[str, Any]:
    return asdict(plan)


def main() -> None:
    """``python -m tests.chaos.crew ROLE NUMBER < plan.json``."""
    import json

    plan = Plan(**json.loads(sys.stdin.read()))
    run(replace(plan, collection=CollectionId(plan.collection)), sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
