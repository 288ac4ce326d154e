"""Reconciliation: the ids of ended entries of the journal are compared, made equal, and their entries removed.

One pass:

1. Look at the journal. Only entries that had *ended before the look* count (closed, or abandoned): a write that ends later may land
   after what is read here, and must find its entry still there. (Must: else a difference is called equal and nobody looks again.)
2. Collections first: an entry about a collection itself is settled by :mod:`chromalith.migrate.mend_catalog`.
3. For each collection, some entries at a time: read their ids on both sides. Equal is equal, whichever side is the authority. What differs
   is mended (:mod:`chromalith.migrate.mend`: an entry of its own, then the state, then both sides read again), unless an entry that is
   under way has the id too: it will be compared once that has ended.
4. Remove the entries all of whose ids are equal, then the closings that name nothing any more.

A pass is safe beside any number of others, and may stop at any request. A lease keeps followers from doing the same work twice; no
safety rests on it.

Claim (explored in ``tests/model/test_migration_protocol.py``): when the journal is empty, the two sides are equal on all ids ever touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from chromalith.coord.lease import HeldBy, Lease, Tenure
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import ChromalithError
from chromalith.migrate.entries import DELETE_COLLECTION, Entry, Listing
from chromalith.migrate.equal import NOTHING, Applied
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import PIECE, Mender, space_of
from chromalith.migrate.permission import Refused, permit
from chromalith.migrate.port import Role, Sides
from chromalith.migrate.records import differences
from chromalith.migrate.states import States

DRAIN_WAIT_S = 0.1
FOLLOW_WAIT_S = 2.0
LEASE_S = 30.0
REASONS_MAX = 100
"""Reasons of one outcome: each is for a person to read."""


@dataclass(frozen=True, slots=True)
class ReconcileOutcome:
    """What one pass, or several, did.

    Attributes:
        checked: ids that were compared.
        fixed: what was written to make them equal.
        removed: entries that were settled.
        left: entries that are still in the journal, open ones among them, as far as the last pass saw.
        open: of them, those that are under way.
        unreadable: keys of objects of the journal that can't be read; they are kept.
        reasons: why entries are left that are not under way, each once.
        touched: the ids that were compared, by collection, if they were asked for (``drain``).
        held_by: who is reconciling instead, if somebody is.
    """

    checked: int = 0
    fixed: Applied = NOTHING
    removed: int = 0
    left: int = 0
    open: int = 0
    unreadable: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    touched: Mapping[str, frozenset[str]] = field(default_factory=dict)
    held_by: str | None = None

    @property
    def empty(self) -> bool:
        """Whether the journal is empty: the sides are equal on all ids that were ever touched."""
        return self.left == 0 and not self.unreadable and self.held_by is None

    def then(self, later: ReconcileOutcome) -> ReconcileOutcome:
        """This, followed by ``later``."""
        touched = {name: self.touched.get(name, frozenset()) | ids for name, ids in later.touched.items()}
        return ReconcileOutcome(
            self.checked + later.checked,
            self.fixed + later.fixed,
            self.removed + later.removed,
            later.left,
            later.open,
            later.unreadable,
            later.reasons,
            {**self.touched, **touched},
            later.held_by,
        )


class Reconciler:
    """Works the journal off. One thread at a time.

    Args:
        journal, states: of the migration.
        sides: both.
    """

    def __init__(self, journal: Journal, states: States, sides: Sides) -> None:
        self._journal = journal
        self._states = states
        self._sides = sides
        self._clock = journal.place.clock
        self._piece = min(PIECE, *(sides[role].limits.records_per_read for role in Role))
        self.mender = Mender(journal, states, sides)

    def pass_once(self, *, freeze_id: str | None = None, collect: bool = False) -> ReconcileOutcome:
        """One pass. Raises what a look at the journal or the state raises; what happens to single entries is among the reasons.

        Args:
            freeze_id: of the freeze that the caller published itself; beside any other, and in a phase in which only one side
                is written, nothing is done.
            collect: whether to say which ids were compared.
        """
        try:
            self._journal.timing = permit(self._states, freeze_id).timing
        except Refused as refusal:
            listing = self._journal.entries()
            left = listing.open + listing.ended
            return ReconcileOutcome(
                left=left, open=listing.open, unreadable=listing.unreadable, reasons=(str(refusal),)
            )
        one = _Pass(self._journal, self.mender, freeze_id, self._piece)
        one.run()
        touched = {name: frozenset(ids) for name, ids in one.touched.items()} if collect else {}
        after = self._journal.entries() if one.wrote_entries else None
        left, under_way = (one.left, one.listing.open) if after is None else (after.open + after.ended, after.open)
        reasons = tuple(one.reasons)[:REASONS_MAX]
        return ReconcileOutcome(
            one.checked, one.fixed, one.removed, left, under_way, tuple(one.unreadable), reasons, touched
        )

    def drain(self, until: Callable[[], bool], *, freeze_id: str | None = None) -> ReconcileOutcome:
        """Passes until the journal is empty (``outcome.empty``), or ``until()`` says that it must end.

        ``outcome.touched`` are the ids that were compared. Raises as :meth:`pass_once`."""
        whole = ReconcileOutcome()
        while True:
            self._journal.flush(DRAIN_WAIT_S)
            whole = whole.then(self.pass_once(freeze_id=freeze_id, collect=True))
            if whole.empty or until():
                return whole
            self._clock.sleep(DRAIN_WAIT_S)

    def follow(
        self,
        until: Callable[[], bool],
        *,
        wait_s: float = FOLLOW_WAIT_S,
        tell: Callable[[ReconcileOutcome], None] = lambda outcome: None,
    ) -> ReconcileOutcome:
        """Passes, with a wait between, until ``until()``; under the migration's lease, so that one of several followers works.

        A failure of the store ends one pass, not the following: it is told as a reason."""
        place = self._journal.place
        leases, key = ObjectLeases(place.store, place.clock), place.prefix("journal") + "lease.json"
        lease = Lease(leases, key, place.clock, purpose="reconcile", lease_s=LEASE_S)
        held: list[Tenure] = []
        whole = ReconcileOutcome()
        try:
            while True:
                try:
                    outcome = self._under(lease, held) or self.pass_once()
                except ChromalithError as error:
                    outcome = ReconcileOutcome(left=whole.left, open=whole.open, reasons=(str(error),))
                whole = whole.then(outcome)
                tell(outcome)
                if until():
                    return whole
                self._clock.sleep(wait_s)
        finally:
            for tenure in held:
                tenure.release()

    def _under(self, lease: Lease, held: list[Tenure]) -> ReconcileOutcome | None:
        """Have the lease in ``held``; if somebody else has it, what is to be told instead of a pass."""
        if held and held[0].beat():
            return None
        held.clear()
        found = lease.try_acquire()
        if isinstance(found, HeldBy):
            counts = self._journal.counts()
            return ReconcileOutcome(left=counts.entries, open=counts.open, held_by=found.owner)
        held.append(found)
        return None


class _Pass:
    """One look at the journal, and what is done about it."""

    def __init__(self, journal: Journal, mender: Mender, freeze_id: str | None, piece: int) -> None:
        self._journal = journal
        self._mender = mender
        self._freeze_id = freeze_id
        self._piece = piece
        self.listing = Listing(0)
        self.checked = 0
        self.fixed = Applied()
        self.wrote_entries = False
        self.unreadable: list[str] = []
        self.reasons: dict[str, None] = {}
        self.touched: dict[str, set[str]] = {}
        self._under_way: dict[str, set[str]] = {}
        self._removed: set[str] = set()

    @property
    def removed(self) -> int:
        """Entries that this pass, or another one meanwhile, settled."""
        return sum(item.entries for item in self.listing.touched if item.key in self._removed)

    @property
    def left(self) -> int:
        """Entries that this pass left."""
        return self.listing.open + self.listing.ended - self.removed

    def run(self) -> None:
        self.listing = self._journal.entries()
        entries, damaged = self._journal.read(self.listing.touched)
        self.unreadable = [*self.listing.unreadable, *damaged]
        ended = {item.key for item in self.listing.touched if item.ended}
        self._removed = {item.key for item in self.listing.touched} - entries.keys() - set(damaged)  # by another pass
        by_collection: dict[str, dict[str, list[Entry]]] = {}
        for key in sorted(entries):
            found = entries[key]
            if key in ended:
                by_collection.setdefault(found[0].collection, {})[key] = found
            else:
                self._under_way.setdefault(found[0].collection, set()).update(i for entry in found for i in entry.ids)
        for name, objects in by_collection.items():
            self._collection(name, objects)
        with suppress(ChromalithError):
            self._journal.tidy(self.listing, self._removed)

    def _collection(self, name: str, objects: dict[str, list[Entry]]) -> None:
        """All entries of one collection. A failure leaves what it could not do, with the reason."""
        try:
            if not self._catalog(name, [entry for found in objects.values() for entry in found]):
                return
            for some in _pieces(objects, self._piece):
                ids = list(dict.fromkeys(i for key in some for entry in objects[key] for i in entry.ids))
                unequal = self._records(name, ids)
                equal = [key for key in some if not any(i in unequal for entry in objects[key] for i in entry.ids)]
                self._journal.remove(equal)
                self._removed.update(equal)
        except ChromalithError as error:
            self.reasons[str(error)] = None

    def _catalog(self, name: str, entries: Sequence[Entry]) -> bool:
        """Settle what entries say of the collection itself; whether that is done."""
        if not any(entry.is_catalog for entry in entries):
            return True
        deleted = any(entry.op == DELETE_COLLECTION for entry in entries)
        settled = self._mender.catalog.mend(name, deleted=deleted, freeze_id=self._freeze_id)
        self.wrote_entries = self.wrote_entries or settled.step is not None
        if settled.reason is not None:
            self.reasons[settled.reason] = None
            return False
        return not settled.suspects or not self._mend(name, list(settled.suspects))

    def _records(self, name: str, ids: list[str]) -> frozenset[str]:
        """Compare, and mend what differs; the ids that are not known to be equal."""
        self.checked += len(ids)
        self.touched.setdefault(name, set()).update(ids)
        pair = {role: self._mender.catalog.find(role, name) for role in Role}
        source, target = pair[Role.SOURCE], pair[Role.TARGET]
        if source is None and target is None:
            return frozenset()
        if source is not None and target is not None:
            found = [item.id for item in differences(source.read(ids), target.read(ids), space_of(source, target))]
        else:
            found = ids
        busy = self._under_way.get(name, set())
        unequal = self._mend(name, [i for i in found if i not in busy])
        return unequal | {i for i in found if i in busy}

    def _mend(self, name: str, ids: list[str]) -> frozenset[str]:
        if not ids:
            return frozenset()
        self.wrote_entries = True
        mended = self._mender.mend(name, ids, freeze_id=self._freeze_id)
        self.fixed += mended.applied
        self.reasons.update(dict.fromkeys(mended.reasons))
        return mended.left


def _pieces(objects: Mapping[str, Sequence[Entry]], ids_max: int) -> Iterator[list[str]]:
    """Keys, in pieces of about so many ids: at least one each."""
    piece: list[str] = []
    count = 0
    for key, entries in objects.items():
        size = sum(len(entry.ids) for entry in entries)
        if piece and count + size > ids_max:
            yield piece
            piece, count = [], 0
        piece.append(key)
        count += size
    if piece:
        yield piece
