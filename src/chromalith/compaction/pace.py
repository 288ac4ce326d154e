"""How long a fold or a merge may take: what must be known before one is begun where time is limited, as in a Lambda.

The rates are what was measured, divided by what a smaller machine, a store at a distance and hard data may cost; so a job ends well
before its estimate, and what does not fit is begun next time, or by somebody with more time. A job that is killed leaves only garbage.

Measured on the machine of docs/benchmarks.md (2 cores, shared, a directory store): 2,000 deltas of one row in 4.2 s (475/s); 20,000 rows
of 384 dimensions in deltas of 1,000 in 4.0 s with their index (7.8 MB/s); 900 rows without an index in 0.11 s (8,100 rows/s); 20,000
changes of metadata to random vectors, whose index needs the second effort, in 15.8 s (1,270 rows/s, so 490,000 values/s); a merge of eight
segments, 40,000 rows and 68 MB, in 0.95 s without its index; 100,000 deletes in one delta in 5.8 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from chromalith.model.manifest import Segment
from chromalith.model.order import Listed

TimeLeft = Callable[[], float]
"""Seconds until the work must have ended."""

START_S = 3.0
"""For what each job costs however small it is: lease, date, listing, manifest, publish: about 20 requests of 100 ms, and some to spare."""
DELTAS_PER_S = 100
"""Measured 475; one GET for each, 16 at once, is 160 a second at 100 ms."""
BYTES_PER_S = 2_000_000
"""Measured 7.8 MB/s with the index."""
ROWS_PER_S = 1_000
"""Without an index. Measured 8,100."""
DELETES_PER_S = 5_000
"""Measured 17,000: an id is looked up, and nothing is written for it. A call may have four million, which must fit into 900 s."""
INDEX_VALUES_PER_S = 400_000
"""Rows times dimensions of an index that needs the second effort. Measured 490,000; real embeddings rarely need it, and are six times as
fast."""
MERGE_ROWS_PER_S = 8_000
"""Without the index. Measured 42,000: rows are copied as they are encoded and hashed, no operation is applied, and no id is looked up."""
MERGE_BYTES_PER_S = 10_000_000
"""Measured 70 MB/s."""
SHARE = 1 / 3
"""Of the time that is left, a fold of several deltas takes so much by its estimate: one that is killed is begun again, of the same deltas,
so an estimate that is too low must not mean that none ever ends. (80,000 vectors of chance of 1,536 dimensions took 436 s where the
machine was busy, and their estimate is 390 s.)"""
MERGE_SHARE = 1 / 2
"""The same of a merge, which can't be made smaller: what does not fit is for somebody with more time."""
DIMENSION = 1536
"""Where it is not known yet."""


def forever() -> float:
    """Where nobody set a limit."""
    return math.inf


class OutOfTime(Exception):
    """What was to be begun is not expected to end in time. Caught by the compactor, and told as ``Outcome.out_of_time``."""


def index_s(rows: int, dimension: int | None) -> float:
    """How long building an index may take, seconds."""
    return rows * (dimension or DIMENSION) / INDEX_VALUES_PER_S


def that_fit(chosen: list[Listed], left_s: float) -> list[Listed]:
    """Of the deltas to fold, the first ones that can be read and folded in so many seconds. How many rows they have is not known yet."""
    spent_s = START_S
    for taken, delta in enumerate(chosen):
        spent_s += 1 / DELTAS_PER_S + delta.size / BYTES_PER_S
        if spent_s > left_s:
            return chosen[:taken]
    return chosen


def fold_s(writes: int, deletes: int, dimension: int | None, index_threshold: int) -> float:
    """How long it may take to fold and publish so many operations, once they are read, with an index from the threshold on; seconds."""
    index = index_s(writes, dimension) if writes >= index_threshold else 0.0
    return START_S + writes / ROWS_PER_S + deletes / DELETES_PER_S + index


def may_take_s(left_s: float, *, several: bool) -> float:
    """How long a fold may take by its estimate: one delta all the time that is left, several a share of what is left after the start.

    The start is charged whole: small deltas in a short function belong into one version, and not into one each.
    """
    return START_S + SHARE * max(0.0, left_s - START_S) if several else left_s


def merge_s(segments: Sequence[Segment], dimension: int | None, index_threshold: int) -> float:
    """How long rewriting these segments as one may take, seconds."""
    rows = sum(segment.live for segment in segments)
    index = index_s(rows, dimension) if rows >= index_threshold else 0.0
    return START_S + rows / MERGE_ROWS_PER_S + sum(segment.bytes for segment in segments) / MERGE_BYTES_PER_S + index
