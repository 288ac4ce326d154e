"""What each step costs in requests, as formulas. ``tests/unit/cost/test_requests.py`` counts the same steps of the real code at the store,
and fails where a formula and a count differ: so a bill that is computed from these is computed from what runs.

=============  =========================================================================================================
write          the delta, and beside it a conditional GET of the collection's object
warm read      one LIST of the deltas, one conditional GET of the pointer; in parallel
idle tick      one LIST for the whole store
look           a compactor finds deltas, and none of them is new: it takes the lease, deletes those whose grace is over
fold           a look that finds new ones: reads them, writes a segment, a manifest, the checksums by bucket, the pointer
merge          reads its inputs, writes one segment, and publishes it
told           after it, a run that was woken by hints sees which of them are done
=============  =========================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

IDS_SMALL_ROWS = 512
"""Segments up to about this size (with ids of 36 letters) have an ``ids.parquet`` of at most 64 KiB, which a lookup reads whole."""
GROUP_ROWS = 1_024
"""Rows of a row group of ``ids.parquet`` (docs/format.md)."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to an object store, by how they are charged; HEAD and conditional GETs count as ``gets``."""

    puts: float = 0.0
    lists: float = 0.0
    gets: float = 0.0
    deletes: float = 0.0

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.puts + other.puts, self.lists + other.lists, self.gets + other.gets, self.deletes + other.deletes
        )

    def __mul__(self, factor: float) -> Requests:
        return Requests(self.puts * factor, self.lists * factor, self.gets * factor, self.deletes * factor)

    __rmul__ = __mul__


WRITE = Requests(puts=1, gets=1)
WARM_READ = Requests(lists=1, gets=1)
POINTER_READ = Requests(gets=1)
IDLE_TICK = Requests(lists=1)


def look(swept: float = 0) -> Requests:
    """A compactor's run on a collection whose deltas are all folded; ``swept`` of them are deleted.

    Twice the deltas and pointer and manifest (before and under the lease), and the beat that tells the date; the lease: read, taken,
    beaten and looked at, released."""
    return Requests(puts=2, lists=2, gets=8, deletes=swept)


def fold(deltas: float, *, swept: float = 0, lookups: float = 0, touched: float = 0, indexed: float = 0) -> Requests:
    """A run that folds ``deltas`` once.

    Args:
        deltas: how many are read.
        swept: folded earlier, and deleted now.
        lookups: GETs to find the touched ids in older segments (:func:`lookup`).
        touched: older segments in which rows die; each gets a new deletes object.
        indexed: 1 where the new segment has an index.
    """
    found = look(swept)
    # One more beat, and with it listing and reading again; what the fold reads and writes: records, ids; manifest, checksums, pointer.
    return found + Requests(puts=6 + indexed + touched, lists=1, gets=4 + deltas + lookups)


def told() -> Requests:
    """What a run by hints adds, once it waited until what it was told of has settled: the pointer and the manifest."""
    return Requests(gets=2)


def lookup(rows: float, segment_rows: float, *, hits: float = 0) -> float:
    """GETs to look ``rows`` ids up in one segment within whose range of ids they lie: expected, for hashes that are spread evenly.

    A small id table is read whole. Of a large one the footer, and the hashes of each row group that may hold one; for those that are there
    (``hits``), the other columns of their groups, the footer of the records, and their groups there."""
    if segment_rows <= IDS_SMALL_ROWS:
        return 1.0
    return 1 + _groups(rows, segment_rows) + (1 + 2 * _groups(hits, segment_rows) if hits else 0)


def _groups(rows: float, segment_rows: float) -> float:
    """How many row groups of a segment ``rows`` ids fall into, expected."""
    groups = max(1.0, segment_rows / GROUP_ROWS)
    return float(groups * (1 - (1 - 1 / groups) ** rows))


def merge(inputs: float, *, indexed: float = 0) -> Requests:
    """A merge of ``inputs`` segments within a run; its lease is one of its own."""
    return Requests(puts=6 + indexed, gets=8 + inputs)


# With leases in a table, its items are written and read instead of an object. The store's date still comes from an object: one PUT and one
# HEAD where there was a beat and one HEAD. So each lease that is held costs the store one PUT and one GET less.
LEASED_LOOK = Requests(puts=2, gets=1)
"""Writes and reads of items: taken, released; looked at."""
LEASED_FOLD = Requests(puts=3, gets=1)
"""The same, and a beat."""
LEASED_MERGE = Requests(puts=2, gets=1)
TABLE_INSTEAD = Requests(puts=-1, gets=-1)
"""What a look, a fold or a merge then asks more of the store."""
