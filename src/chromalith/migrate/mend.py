"""Mending: the only way in which the migration's own tools write to a side that clients write to, too.

The problem. A tool reads the authority, is suspended for a minute, and writes what it read: by then the record has another value, or
the other side has become the authority. Nothing in a database can prevent that write; so it must be impossible that nobody looks after it.

1. An entry of the journal is opened. From now on no authority changes, and no reconciliation calls these ids equal for good.
2. *Then* the state is read: both sides must be live, and no freeze may stand but the tool's own (``freeze_id``). Else nothing is written.
   (The order matters: a change of authority looks for entries after its freeze was published. It sees this one, or this sees the freeze.)
3. *Then* both sides are read, and the second is made equal to the authority, which is the *state's*, for each id. It is never the one that
   some client had written first: a tool that writes to the side whose answers count would race with the clients that rely on it.
4. Both are read again. Equal: the entry is settled, that is removed at once. Else another round; still not: it is closed, and a later
   reconciliation looks again.

A write is begun only in the first half of ``timing.abandoned_s`` after the entry was opened; the other half is for the call itself. While
one hangs longer, its entry is renewed (:mod:`chromalith.migrate.renewals`).

Invariants:
    Nobody but clients writes to the authority.
    When an entry is removed, every write that was made under it has ended, and both sides were read after that, and were equal;
    or nothing was written under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.errors import ChromalithError, Invalid, Unknown
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.entries import REPAIR
from chromalith.migrate.equal import NOTHING, Applied, make_equal
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend_catalog import CatalogMender
from chromalith.migrate.permission import Refused, permit
from chromalith.migrate.port import Role, SideCollection, Sides, WriteOp
from chromalith.migrate.records import differences
from chromalith.migrate.renewals import LOOK_S, Kept, Renewals
from chromalith.migrate.route import Route
from chromalith.migrate.states import States
from chromalith.transfer.port import Batch
from chromalith.transfer.sides import Denied

PIECE = 1_000
"""Records that are mended under one entry at most; 6 MB of embeddings of 1,536 dimensions from each side."""
OVERTAKEN = "somebody else keeps writing these ids"
ROUNDS = 3
"""After so many writes that others overtook, a later reconciliation tries again."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of some ids.

    Attributes:
        checked: how many there were.
        applied: what was written for it.
        left: ids that are not known to be equal now.
        reasons: why, each once.
    """

    checked: int = 0
    applied: Applied = NOTHING
    left: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()

    def __add__(self, other: Mended) -> Mended:
        reasons = tuple(dict.fromkeys((*self.reasons, *other.reasons)))
        return Mended(self.checked + other.checked, self.applied + other.applied, self.left | other.left, reasons)


Pair = Mapping[Role, SideCollection]
"""One collection on both sides."""


class Mender:
    """Makes the second side equal to the authority. Safe to share between threads.

    Args:
        journal, states: of the migration.
        sides: both.
        look_s: between two looks at a write that hangs.
    """

    def __init__(self, journal: Journal, states: States, sides: Sides, *, look_s: float = LOOK_S) -> None:
        self._journal = journal
        self._states = states
        self._clock = journal.place.clock
        self.renewals = Renewals(DaemonExecutor, look_s=look_s)
        self.catalog = CatalogMender(journal, states, sides, self.renewals)
        self.piece = min(PIECE, *(sides[role].limits.records_per_write for role in Role))

    def mend(self, collection: str, ids: Sequence[str], *, freeze_id: str | None = None) -> Mended:
        """Make the second side's records of ``ids`` equal to the authority's. Any number of ids; each piece has its own entry.

        What a side refuses or can't do now is in ``left``, with the reason. Raises only what the journal and the state raise:
        ``Unavailable``, ``Unknown``, ``Corrupt``.

        Args:
            collection, ids: which; an id once.
            freeze_id: of the freeze that the caller published itself; any other stops it.
        """
        try:
            pair = self._pair(collection, freeze_id)
        except ChromalithError as error:
            return _none(ids, str(error))
        if isinstance(pair, Mended):
            return _none(ids, *pair.reasons) if pair.reasons else Mended(len(ids))
        done = Mended()
        for start in range(0, len(ids), self.piece):
            done += self._mend(pair, list(ids[start : start + self.piece]), freeze_id)
        return done

    def _pair(self, collection: str, freeze_id: str | None) -> Pair | Mended:
        """The collection on both sides, made where it is missing; ``Mended``: there is none, or the reason why there is none."""
        for attempt in range(2):
            found = {role: self.catalog.find(role, collection) for role in Role}
            pair = {role: one for role, one in found.items() if one is not None}
            if len(pair) == 2:
                return pair
            if not pair:
                return Mended()
            if attempt == 0 and (reason := self.catalog.mend(collection, deleted=False, freeze_id=freeze_id).reason):
                return Mended(reasons=(reason,))
        return Mended(reasons=(f"a collection comes and goes name={collection!r}",))

    def _mend(self, pair: Pair, ids: list[str], freeze_id: str | None) -> Mended:
        began_s = self._clock.monotonic_s()
        entry = self._journal.open(pair[Role.SOURCE].name, ids, authority=Role.SOURCE, op=REPAIR)
        kept, writes = Kept(self._journal, entry, began_s), _Writes()
        try:
            state = permit(self._states, freeze_id)
            self._journal.timing = state.timing
            with self.renewals.while_it_lasts(kept):
                applied, busy = self._rounds(pair, ids, Route(state), kept, writes)
        except (Refused, ChromalithError) as error:
            self._end(kept, writes, error)
            return _none(ids, str(error))
        except Exception as error:
            kept.close("unknown", error)
            raise
        reasons = tuple(f"{why} id={record_id!r}" for record_id, why in writes.refused.items())
        if busy or writes.refused.keys() & writes.deleted:
            kept.close("failed", OVERTAKEN if busy else "a record was deleted, and could not be added again")
        else:  # nothing was written of a refused record
            kept.settle()
        return Mended(len(ids), applied, busy | writes.refused.keys(), (*reasons, OVERTAKEN) if busy else reasons)

    def _rounds(
        self, pair: Pair, ids: list[str], route: Route, kept: Kept, writes: _Writes
    ) -> tuple[Applied, frozenset[str]]:
        """Compare and write until all is equal but what was refused; what was written, and the ids that others keep changing."""
        applied = Applied()
        groups = {role: [ids[row] for row in rows] for role, rows in route.by_authority(ids).items()}
        for number in range(ROUNDS + 1):
            left: dict[Role, list[str]] = {}
            for role, some in groups.items():
                authority, second = pair[role], pair[role.other]
                wanted, there, space = authority.read(some), second.read(some), space_of(authority, second)
                different = [item.id for item in differences(wanted, there, space) if item.id not in writes.refused]
                if different:
                    left[role] = different
                if not different or number == ROUNDS:
                    continue
                if kept.is_old():
                    raise Refused("the entry of the journal is too old to begin a write under it")
                watched = _Watched(second, writes)
                applied += _by_halves(watched, _among(wanted, different), _among(there, different), space, writes)
            if not left:
                return applied, frozenset()
            groups = left
        return applied, frozenset(record_id for some in groups.values() for record_id in some)

    @staticmethod
    def _end(kept: Kept, writes: _Writes, error: Exception) -> None:
        """A failure. Nothing was begun: nobody needs to look. A write may land later: the entry stays until it can't any more."""
        if writes.doubtful:
            kept.close("unknown", error)
        elif writes.begun:
            kept.close("failed", error)
        else:
            kept.settle()


def _by_halves(second: _Watched, wanted: Batch, there: Batch, space: str, writes: _Writes) -> Applied:
    """Make these equal; one record that the side refuses for good must not keep the others of its piece."""
    try:
        return make_equal(second, wanted, there, space)
    except Denied:  # that is no fault of a record
        raise
    except Invalid as error:
        ids = list(dict.fromkeys((*wanted.ids, *there.ids)))
        if len(ids) == 1:
            writes.refused[ids[0]] = str(error)
            return Applied()
        applied = Applied()
        for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
            applied += _by_halves(second, _among(wanted, half), _among(there, half), space, writes)
        return applied


def _among(batch: Batch, ids: Sequence[str]) -> Batch:
    """The records of ``ids``."""
    some = set(ids)
    rows = [row for row, record_id in enumerate(batch.ids) if record_id in some]
    return Batch(
        [batch.ids[row] for row in rows],
        batch.embeddings[rows],
        [batch.documents[row] for row in rows],
        [batch.uris[row] for row in rows],
        [batch.metadatas[row] for row in rows],
    )


@dataclass(slots=True)
class _Writes:
    """What happened under one entry.

    Attributes:
        begun, doubtful: requests to write, and those of which nobody knows whether they happened.
        deleted: ids that were deleted.
        refused: why, by id.
    """

    begun: int = 0
    doubtful: int = 0
    deleted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)


class _Watched:
    """A collection whose writes are counted."""

    def __init__(self, inner: SideCollection, writes: _Writes) -> None:
        self._inner = inner
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(
        self,
        op: WriteOp,
        ids: Sequence[str],
        embeddings: npt.NDArray[np.float32] | None = None,
        documents: Sequence[str | None] | None = None,
        uris: Sequence[str | None] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        with self._counted():
            self._inner.write(op, ids, embeddings, documents, uris, metadatas)

    def delete(self, ids: Sequence[str]) -> None:
        self._writes.deleted.update(ids)
        with self._counted():
            self._inner.delete(ids)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._writes.begun += 1
        try:
            yield
        except ChromalithError as error:
            self._writes.doubtful += isinstance(error, Unknown)
            raise
        except Exception:  # not a kind that says whether it happened
            self._writes.doubtful += 1
            raise


def _none(ids: Sequence[str], *reasons: str) -> Mended:
    return Mended(len(ids), Applied(), frozenset(ids), reasons)


def space_of(authority: SideCollection, second: SideCollection) -> str:
    """The distance that decides how embeddings are compared: ``cosine`` if either of the two may have normalised them."""
    spaces = (authority.definition.space, second.definition.space)
    return "cosine" if "cosine" in spaces else spaces[0]
