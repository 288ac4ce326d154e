"""Mending of collections: that both sides have them, with the same metadata of their own. The rules are :mod:`chromalith.migrate.mend`'s.

The authority of the catalog is the state's main side. What a client deleted there is dropped at the second; what is there and missing at
the second is created. A collection with records is never dropped unless an entry says that somebody deleted one of that name.
"""

from __future__ import annotations

from dataclasses import dataclass

from chromalith.errors import ChromalithError, NotFound, Unknown
from chromalith.migrate.entries import CREATE, DELETE_COLLECTION, MODIFY
from chromalith.migrate.journal import Journal
from chromalith.migrate.permission import Refused, permit
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role, SideCollection, Sides
from chromalith.migrate.records import same_value
from chromalith.migrate.renewals import Kept, Renewals
from chromalith.migrate.state import State
from chromalith.migrate.states import States


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one collection's name.

    Attributes:
        reason: why it is not the same on both sides, or ``None``: it is.
        step: what was done for it: ``create``, ``delete_collection``, ``modify``.
        suspects: ids that only one side has, where a name was deleted and made again: to be mended before the entry is removed.
    """

    reason: str | None = None
    step: str | None = None
    suspects: tuple[str, ...] = ()


class CatalogMender:
    """Makes the second side's collections those of the authority. Safe to share between threads.

    Args:
        journal, states: of the migration.
        sides: both.
        renewals: keep the note of a step that hangs.
    """

    def __init__(self, journal: Journal, states: States, sides: Sides, renewals: Renewals) -> None:
        self._journal = journal
        self._states = states
        self._sides = sides
        self._renewals = renewals

    def mend(self, name: str, *, deleted: bool, freeze_id: str | None = None) -> Settled:
        """Make a collection's existence and metadata those of the authority.

        Args:
            name: which.
            deleted: whether an entry says that one of this name was deleted: only then one with records is dropped; and where both
                sides have one again, what the second kept of the old one is looked for.
            freeze_id: of the freeze that the caller published itself.

        Raises only what the journal and the state raise.
        """
        try:
            state = permit(self._states, freeze_id)
        except Refused as refusal:
            return Settled(str(refusal))
        try:
            step, reason = self._step(name, state.main, deleted)
        except ChromalithError as error:
            return Settled(_text(error))
        if reason is None and step is not None:
            reason = self._carry_out(name, step, deleted, freeze_id)
        if reason is not None or not deleted or step == DELETE_COLLECTION:
            return Settled(reason, step)
        try:
            return Settled(None, step, self._suspects(name, state))
        except ChromalithError as error:
            return Settled(_text(error), step)

    def find(self, role: Role, name: str) -> SideCollection | None:
        """The collection of one side, if it has it. Raises ``Unavailable``."""
        try:
            return self._sides[role].collection(name)
        except NotFound:
            return None

    def _step(self, name: str, main: Role, deleted: bool) -> tuple[str | None, str | None]:
        """What is to be done at the second, or why it can't be."""
        authority, second = self.find(main, name), self.find(main.other, name)
        if authority is None:
            if second is None:
                return None, None
            if deleted or second.count() == 0:
                return DELETE_COLLECTION, None
            return None, (
                f"the {main} has no collection {name!r}, the {main.other} has one with records, and nobody deleted it"
                " through a migrating client: delete it, or create it, through one"
            )
        if second is None:
            return CREATE, None
        holds_the_same = _holds_the_same(authority, second)
        if not holds_the_same and deleted:  # the second kept the one that was deleted, and can't become the one that was made
            return DELETE_COLLECTION, None
        if not same_description(authority, second):
            return MODIFY, None
        if not holds_the_same:
            return None, (
                f"the collection {name!r} has another distance or dimension at the {main.other} than at the {main}:"
                " delete it there, reconcile, then `chromalith migrate verify --repair`"
            )
        return None, None

    def _carry_out(self, name: str, step: str, deleted: bool, freeze_id: str | None) -> str | None:
        """One step under an entry of its own; why it wasn't done, or ``None``."""
        began_s = self._journal.place.clock.monotonic_s()
        kept = Kept(self._journal, self._journal.open(name, (), authority=Role.SOURCE, op=step), began_s)
        try:
            main = permit(self._states, freeze_id).main
            authority = self.find(main, name)
            again = self._step(name, main, deleted)
        except (Refused, ChromalithError) as error:
            kept.settle()
            return _text(error)
        if again != (step, None):  # looked at again, now that the entry is open
            kept.settle()
            return f"a collection came or went meanwhile name={name!r}"
        if kept.is_old():
            kept.settle()
            return f"the entry of the journal is too old to begin a write under it name={name!r}"
        with self._renewals.while_it_lasts(kept):
            return self._write(kept, name, step, main, deleted, authority)

    def _write(
        self, kept: Kept, name: str, step: str, main: Role, deleted: bool, authority: SideCollection | None
    ) -> str | None:
        second = self._sides[main.other]
        try:
            if step == DELETE_COLLECTION or authority is None:
                second.drop(name)
            elif step == CREATE:
                second.create(name, authority.definition)
            else:
                second.describe(name, authority.definition.metadata)
            left, reason = self._step(name, main, deleted)
        except ChromalithError as error:
            kept.close("unknown" if isinstance(error, Unknown) else "failed", error)
            return _text(error)
        except Exception as error:
            kept.close("unknown", error)
            raise
        if left is None and reason is None and step != DELETE_COLLECTION:
            kept.settle()
            return None
        # What a drop took away with it may have been acknowledged: its entry stays until another look compares the ids.
        kept.close("ok" if left is None else "failed")
        return reason if left is None else f"the second side's collection is still another one name={name!r}"

    def _suspects(self, name: str, state: State) -> tuple[str, ...]:
        """What only one side has. Before the backfill begins the second lacks nearly everything, and will get it from there."""
        authority, second = (self.find(role, name) for role in (state.main, state.main.other))
        wanted, there = ([] if collection is None else collection.ids() for collection in (authority, second))
        missing = set() if state.phase is Phase.DUAL else set(wanted) - set(there)
        return tuple(sorted(missing | (set(there) - set(wanted))))


def _holds_the_same(authority: SideCollection, second: SideCollection) -> bool:
    """Whether the second can hold the authority's records, and measures them alike."""
    dimensions = {one.dimension for one in (authority, second)} - {None}
    return authority.definition.space == second.definition.space and len(dimensions) <= 1


def described(collection: SideCollection) -> dict[str, object]:
    """A collection's own metadata, without the keys that Chroma itself derives from the configuration."""
    metadata = collection.definition.metadata or {}
    return {key: value for key, value in metadata.items() if not key.startswith(("hnsw:", "chroma:"))}


def same_description(one: SideCollection, other: SideCollection) -> bool:
    """Whether two collections have the same metadata of their own, types included."""
    a, b = described(one), described(other)
    return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)


def _text(error: Exception) -> str:
    return str(error)
