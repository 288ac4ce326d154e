"""Writers and reconcilers that really run at once, over sides that fail now and then: at the end all is equal, and nothing acknowledged
is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from tests.migrate.worlds import Two

from chromalith.errors import ChromalithError
from chromalith.migrate.journal import Journal
from chromalith.migrate.port import Role
from chromalith.testing.faulty import Call, Fault

WRITERS = 4
ROUNDS = 4
CALLS = 30


class Crew:
    """Writers with a log of what was acknowledged, and reconcilers.

    Attributes:
        last: of each writer's own records, the value that was acknowledged last; ``None``: deleted.
        doubtful: records of calls that failed: they may have happened, or may yet.
    """

    def __init__(self, two: Two, seed: int) -> None:
        self._two = two
        self._seed = seed
        self.journal = Journal(two.place(), linger_s=0.01)
        self.last: dict[str, float | None] = {}
        self.doubtful: set[str] = set()

    def write(self, round_: int, number: int) -> None:
        chance = Random(f"{self._seed}/{round_}/{number}")
        for call in range(CALLS):
            ids = [f"w{number}-{chance.randrange(20)}", f"shared{chance.randrange(5)}"]
            op, value = chance.choice(["upsert", "upsert", "delete"]), float(1_000 * round_ + 100 * number + call)
            try:
                self._two.write(op, ids, value, journal=self.journal)
            except ChromalithError:
                self.doubtful.add(ids[0])
            else:
                self.last[ids[0]] = value if op == "upsert" else None

    def reconcile(self, over: threading.Event) -> tuple[int, int]:
        """Settled entries, and written records."""
        journal = Journal(self._two.place(), linger_s=0.01)
        reconciler = self._two.reconciler(journal=journal)
        removed = fixed = 0
        while not over.is_set():
            outcome = reconciler.pass_once()
            removed, fixed = removed + outcome.removed, fixed + outcome.fixed.total
        journal.stop()
        return removed, fixed


@pytest.mark.parametrize("seed", range(3))
def test_writers_and_reconcilers_at_once(seed: int) -> None:
    """Four threads write their own records and shared ones while two reconcile; one call in thirty fails or lands late."""
    two = Two()
    chance, lock = Random(seed), threading.Lock()

    def choose(call: Call) -> Fault | None:
        with lock:
            drawn = chance.random()
        late = call.verb in ("upsert", "delete")
        return Fault.BEFORE if drawn < 0.02 else Fault.LATE if late and drawn < 0.035 else None

    crew = Crew(two, seed)
    removed = fixed = 0
    for round_ in range(ROUNDS):
        two.faults.choose = choose
        over = threading.Event()
        with ThreadPoolExecutor(WRITERS + 2) as pool:
            reconcilers = [pool.submit(crew.reconcile, over) for _ in range(2)]
            writers = [pool.submit(crew.write, round_, number) for number in range(WRITERS)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                over.set()
            for reconciler in reconcilers:
                removed, fixed = removed + reconciler.result()[0], fixed + reconciler.result()[1]
        two.faults.land()
        two.age()  # nobody is at work: what is open now will never be closed
    crew.journal.stop()
    assert removed > 0
    assert fixed > 0
    assert two.drained(passes=10)
    assert two.equal
    rows = two.rows(Role.SOURCE)
    sure = crew.last.keys() - crew.doubtful
    assert len(sure) > 10
    found = {record_id: rows[record_id].embedding[0] if record_id in rows else None for record_id in sure}
    assert found == {record_id: crew.last[record_id] for record_id in sure}
