"""Are the reads at the default level linearizable, per id, as P2 states it? Asked of the callers' own observations, and
nothing else.

The search is Wing and Gong's, with Lowe's memory of what was tried: one order of all calls is looked for in which
each read answers what the writes before it left, and which keeps the precedence that is promised:

- a write before a read that begins after it was acknowledged, and a read before one that begins after it ended;
- a write before another of the same process, of one that had seen it (in a read, or by a token), or of one that began
  at least a tick of the store's clock after it was acknowledged; and a read before a write likewise.

Two writes closer than a tick have one deterministic order, which need not be that of their callers' clocks. Where
each of them replaces whatever was there, reads are linearizable even so. Where they build on each other (an ``add``
that finds the id gone), a read between the two may show what no order of both explains, and P2 does not promise one:
ids with such a pair are left to :mod:`chromalith.testing.checkers.reads`, which knows the order. What has no answer
may have happened at any time after it began, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chromalith.testing.history import Answer, History, Read, Violation, Write
from chromalith.testing.reference import Change, Contents, Row

STATES_MAX = 50_000
"""Tried of one id before the search is given up: seconds. Histories of a hundred calls need a few hundred."""


@dataclass(frozen=True, slots=True)
class _Op:
    """One call on one id: a write with its changes, or a read with its answer."""

    start_us: int
    end_us: int | None
    process: str
    changes: tuple[Change, ...] | None
    answer: Row | None
    number: int = -1
    after: frozenset[int] = frozenset()


def check_registers(history: History, tick_us: int) -> int:
    """Check every id that P2 promises an order for; returns how many. Raises ``Violation``.

    Args:
        history: without restores.
        tick_us: the resolution of the store's timestamps.
    """
    ids = sorted({record_id for write in history.writes for record_id in write.ids})
    checked = 0
    for record_id in ids:
        writes = [_write(write, record_id) for write in history.writes if record_id in write.ids and write.answer is not Answer.REFUSED]
        if not _is_ordered(writes, tick_us):
            continue
        reads = [_read(read, record_id) for read in history.reads if read.level == "INDEX_AND_WAL"]
        checked += 1
        if not _linearizable([*writes, *reads], record_id, tick_us):
            raise Violation(
                f"reads are not linearizable id={record_id}"
                f" writes={[(w.start_us, w.end_us, w.process, [(c.op, c.document) for c in w.changes or ()]) for w in writes]}"
                f" reads={[(r.start_us, r.end_us, r.process, r.answer and r.answer.document) for r in reads]}"
            )
    return checked


def _write(write: Write, record_id: str) -> _Op:
    changes = tuple(change for change in write.changes if change.id == record_id)
    return _Op(write.start_us, write.end_us, write.process, changes, None, write.number, write.after)


def _read(read: Read, record_id: str) -> _Op:
    return _Op(read.start_us, read.end_us, read.process, None, read.rows.get(record_id))


def _is_ordered(writes: Sequence[_Op], tick_us: int) -> bool:
    """Whether each write replaces what was there, or all of them have a promised order."""
    changes = [change for write in writes for change in write.changes or ()]
    keys = {frozenset(change.metadata) for change in changes if change.metadata is not None}
    if all(change.is_blind for change in changes) and len(keys) <= 1:
        return True
    pairs = ((a, b) for at, a in enumerate(writes) for b in writes[at + 1 :])
    return all(_precedes(a, b, tick_us) or _precedes(b, a, tick_us) for a, b in pairs)


def _precedes(a: _Op, b: _Op, tick_us: int) -> bool:
    if a.end_us is None or a.end_us > b.start_us:
        return False
    if b.changes is None:
        return True
    return a.process == b.process or a.number in b.after or a.end_us + tick_us <= b.start_us


def _linearizable(ops: Sequence[_Op], record_id: str, tick_us: int) -> bool:
    before = [
        sum(1 << i for i, other in enumerate(ops) if other is not op and _precedes(other, op, tick_us)) for op in ops
    ]
    needed = sum(1 << i for i, op in enumerate(ops) if op.end_us is not None)
    tried: set[tuple[int, str]] = set()
    todo: list[tuple[int, Row | None]] = [(0, None)]
    while todo:
        done, state = todo.pop()
        if done & needed == needed:
            return True
        for i, op in enumerate(ops):
            # What has no end may be left out; what must come first and may be left out need not be waited for.
            if done >> i & 1 or before[i] & ~done:
                continue
            if op.changes is None:
                if op.answer != state:
                    continue
                following = (done | 1 << i, state)
            else:
                following = (done | 1 << i, _applied(state, record_id, op.changes))
            seen = (following[0], repr(following[1]))  # metadata is a dictionary, and has no hash
            if seen not in tried:
                tried.add(seen)
                todo.append(following)
        if len(tried) > STATES_MAX:
            return True
    return False


def _applied(state: Row | None, record_id: str, changes: Sequence[Change]) -> Row | None:
    contents = Contents({} if state is None else {record_id: state}).apply(changes)
    row = contents.rows.get(record_id)
    return None if row is None else replace(row, seq=0)
