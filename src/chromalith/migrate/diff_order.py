"""The order of insertion on two sides: how many records are out of place, and putting them right.

Chroma answers ``get`` in the order of insertion. Two sides that got the same calls from several processes may rightly differ in it, so
it is looked at only if somebody asks. To repair it, records are deleted and added again at the second, under an entry of the journal: a
crash in between leaves the entry, and the records come back from the authority.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from chromalith.errors import ChromalithError
from chromalith.migrate.entries import REPAIR
from chromalith.migrate.journal import Journal
from chromalith.migrate.permission import permit
from chromalith.migrate.port import Role, SideCollection
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

    Nothing may write meanwhile but this. Raises ``Refused`` (both sides are not live, or writes are frozen), and what a side raises."""
    wanted, there = authority.ids(), second.ids()
    same = next(
        (at for at, (x, y) in enumerate(zip(wanted, there, strict=False)) if x != y), min(len(wanted), len(there))
    )
    tail = wanted[same:]
    for start in range(0, len(tail), rows):
        some = tail[start : start + rows]
        entry = journal.open(second.name, some, authority=main, op=REPAIR)
        try:
            permit(states, None)
            records = authority.read(some)
            second.delete(some)
            second.write("add", records.ids, records.embeddings, records.documents, records.uris, records.metadatas)
        except ChromalithError as error:
            journal.close(entry, "unknown", str(error))
            raise
        except Exception as error:
            journal.close(entry, "not_written", repr(error))
            raise
        journal.close(entry, "ok")
    return len(tail)
