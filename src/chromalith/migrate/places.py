"""Where the objects of a migration are, in the store that keeps its state.

    migration/<h(name)>.json                       the state: small, polled by every client
    migration/<h(name)>/touched/<collection>/…     the journal: ids written while two sides are live (migrate/journal.py)
    migration/<h(name)>/closed/…                   which of its entries have ended, and how
    migration/<h(name)>/journal/…                  date.json: asks the store what time it is; lease.json: who reconciles
    migration/<h(name)>/backfill/<collection>/…    the ids that are copied, and how far it has come (migrate/backfill.py)
    migration/<h(name)>/verify/…                   results by bucket, differences (migrate/diff.py)
    migration/<h(name)>/shadow/…                   mismatches of shadow reads (migrate/shadow.py)
    migration/<h(name)>/clients/<client>.json      what each client process did and saw (migrate/presence.py)
    migration/<h(name)>/evidence/<what>/…          what a person or a pipeline recorded, such as scans (migrate/evidence/record.py)

Nothing of it is ever swept: it is a person's evidence. ``migrate forget`` removes it after the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.store.port import Store

ROOT = "migration/"
DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """One migration in one store."""

    store: Store
    name: str = DEFAULT_NAME
    clock: Clock = SYSTEM_CLOCK

    def __post_init__(self) -> None:
        if not self.name:
            raise Invalid("a migration has a name", hint="give --name, or leave it out")

    @property
    def state_key(self) -> str:
        return f"{ROOT}{layout.h(self.name)}.json"

    @property
    def date_key(self) -> str:
        """Of the object that asks the store for its date (:func:`chromalith.coord.store_date.date_by`)."""
        return self.prefix("journal") + "date.json"

    def prefix(self, *parts: str) -> str:
        """A prefix below this migration's own: ``prefix("touched", h)`` is ``migration/<h>/touched/<h>/``."""
        return "/".join((f"{ROOT}{layout.h(self.name)}", *parts, ""))

    def collection_prefix(self, part: str, collection: str) -> str:
        """The prefix of one collection below ``part``."""
        return self.prefix(part, layout.h(collection))


def state_keys(store: Store) -> Iterator[str]:
    """The keys of the states of all migrations in a store: two requests for each. Raises ``Unavailable``."""
    after = ""
    while (
        key := next((entry.key for page in store.list(ROOT, start_after=after) for entry in page), None)
    ) is not None:
        first, below, _ = key.removeprefix(ROOT).partition("/")
        if below:
            after = f"{ROOT}{first}0"  # the character after "/": all of this one's objects are left out
        else:
            after = key
            yield key
