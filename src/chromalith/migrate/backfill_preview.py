"""What a backfill would do, without doing it: for ``--dry-run`` and for a status."""

from __future__ import annotations

from dataclasses import dataclass

from chromalith.errors import Invalid, NotFound
from chromalith.migrate.backfill_checks import check_fit
from chromalith.migrate.backfill_ids import attempts
from chromalith.migrate.places import Place
from chromalith.migrate.port import Sides
from chromalith.migrate.state import State


@dataclass(frozen=True, slots=True)
class Previewed:
    """One collection of a backfill.

    Attributes:
        name: of it.
        records: at the source now; ``None``: it is not there.
        target_records: at the target now.
        copied: of the ids that were taken when the copy began, how many are copied.
        problem: why it would be refused.
    """

    name: str
    records: int | None
    target_records: int | None
    copied: int
    problem: str | None = None


def preview(place: Place, sides: Sides, state: State, *, again: bool = False) -> list[Previewed]:
    """Every collection of the migration, as it stands. Raises ``Unavailable``."""
    names = sorted(sides.source.names()) if state.collections is None else list(state.collections)
    run = None if again else state.backfill.get("run")
    return [_one(place, sides, name, None if run is None else str(run)) for name in names]


def copied(place: Place, name: str, run: str) -> tuple[int, int | None]:
    """How many records of a collection are copied, and of how many; ``None``: the ids are not taken yet. Raises ``Unavailable``."""
    found: tuple[int, int | None] = 0, None
    for ids in attempts(place, name, run):
        plan = ids.plan()
        if plan is None:
            break
        found = sum(plan.rows(chunk) for chunk in ids.done().chunks if chunk < plan.chunks), plan.total
    return found


def _one(place: Place, sides: Sides, name: str, run: str | None) -> Previewed:
    done = copied(place, name, run)[0] if run is not None else 0
    try:
        source = sides.source.collection(name)
        records = source.count()
    except NotFound:
        return Previewed(name, None, None, done, "not at the source any more")
    try:
        target = sides.target.collection(name)
        check_fit(source, target)
        return Previewed(name, records, target.count(), done)
    except NotFound:
        return Previewed(name, records, None, done)
    except Invalid as error:
        return Previewed(name, records, None, done, str(error))
