"""The order of insertion on two sides: how many records are out of place, and putting them right.

Chroma answers ``get`` in the order of insertion. Two sides that got the same calls from several processes may rightly differ in it, so
it is looked at only if somebody asks. To repair it, records are deleted and added again at the second, under an entry of the journal: a
crash in between leaves the entry, and the records come back from the authority.

Nothing is lost if clients write meanwhile, but the order would not hold, and a read of the second could miss a record for a moment. So it
is refused while one is live.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from chromalith.migrate.entries import REPAIR
from chromalith.migrate.journal import Journal
from chromalith.migrate.permission import Refused, permit
from chromalith.migrate.port import Role, SideCollection
from chromalith.migrate.presence import live
from chromalith.migrate.records import differences
from chromalith.migrate.route import Route
from chromalith.migrate.states import States


def out_of_place(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest records of ``b`` that must be moved to have the order of ``a``; ids that only one has don't count."""
    place = {record_id: at for at, record_id in enumerate(a)}
    ends: list[int] = []  # of the shortest-ended increasing run of each length
    common = [place[record_id] for record_id in b if record_id in place]
    for at in common:
        found = bisect_left(ends, at)
        ends[found : found + 1] = [at]
    return len(common) - len(ends)


def put_in_order(
    journal: Journal, states: States, main: Role, authority: SideCollection, second: SideCollection, rows: int
) -> int:
    """Delete and add again at the second all records from the first misplaced one on, ``rows`` at a time. Returns how many.

    Raises ``Refused`` (a client is live, both sides are not, or writes are frozen), and what a side raises."""
    wanted, there = authority.ids(), second.ids()
    same = next(
        (at for at, (x, y) in enumerate(zip(wanted, there, strict=False)) if x != y), min(len(wanted), len(there))
    )
    tail = wanted[same:]
    for start in range(0, len(tail), rows):
        _move_to_the_end(journal, states, main, authority, second, tail[start : start + rows])
    return len(tail)


def _move_to_the_end(
    journal: Journal, states: States, main: Role, authority: SideCollection, second: SideCollection, ids: list[str]
) -> None:
    entry = journal.open(second.name, ids, authority=main, op=REPAIR)
    begun = False
    try:
        _permit(journal, states, main)
        records = authority.read(ids)
        begun = True
        second.delete(ids)
        # In the authority's order: a side may answer in another one.
        second.write("add", records.ids, records.embeddings, records.documents, records.uris, records.metadatas)
        space = "cosine" if "cosine" in (authority.definition.space, second.definition.space) else ""
        equal = not differences(authority.read(ids), second.read(ids), space)
    except Exception as error:
        if begun:  # a reconciliation brings back what was deleted
            journal.close(entry, "unknown", error)
        else:
            journal.settle(entry)
        raise
    if equal:
        journal.settle(entry)
    else:
        journal.close(entry, "failed", "somebody else wrote these ids")


def _permit(journal: Journal, states: States, main: Role) -> None:
    clients = live(journal.place)
    if clients:
        raise Refused(
            f"the order can't be restored while clients are live: {', '.join(sorted(each.id for each in clients)[:5])}"
        )
    state = permit(states, None)
    if state.main is not main or Route(state).writes_percent not in (0.0, 100.0):
        raise Refused("one side must count for all records, and the same all the time")
