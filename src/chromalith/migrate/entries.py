"""The journal's objects, and what a look at all of them tells. Pure: keys, bodies and counting, no I/O.

    touched/<h(collection)>/<stamp>-<chance>-<n>.json   n entries that one request made durable: what was about to be written
    closed/<stamp>-<chance>-<n>-<failed>.json           n closings: which entries have ended, and how it went on the second side

``stamp`` is the opener's wall time, for people and for the order of a listing. Nothing is decided by it: ages come from the store's dates.
The counts stand in the keys so that two listings are enough for a status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from chromalith.errors import ChromalithError, Corrupt
from chromalith.migrate.port import Role

FORMAT = 1

Second = Literal["ok", "failed", "unknown", "not_written"]
"""How an entry ended. ``failed``: the second side certainly did not apply it. ``unknown``: a request of it, to *either* side, may still
land, so it counts as under way until it is old enough to be abandoned. ``not_written``: the authority refused, or nothing was tried."""

REPAIR = "repair"
BACKFILL = "backfill"
CREATE, DELETE_COLLECTION, MODIFY, REPAIR_COLLECTION = "create", "delete_collection", "modify", "repair_collection"
CATALOG_OPS = frozenset({CREATE, DELETE_COLLECTION, MODIFY, REPAIR_COLLECTION})
"""Entries about a collection itself; they have no ids."""

_KEY = re.compile(r"/touched/([0-9a-f]{32})/(\d+-[0-9a-f]+-(\d+))\.json$")
_CLOSED = re.compile(r"/closed/\d+-[0-9a-f]+-(\d+)-(\d+)\.json$")


WHY_MAX = 300


def said_of(error: BaseException) -> str:
    """What is kept of an error: its class, and our own message, which names sides, keys and ids.

    What the side itself said (our hint; the text of an error that is none of ours) may quote a document or a value of the application. It
    goes to the log of the process, and not into an object that no cleaner of sensitive fields ever sees."""
    ours = f": {error.message}" if isinstance(error, ChromalithError) else ""
    return f"{type(error).__name__}{ours}"[:WHY_MAX]


@dataclass(frozen=True, slots=True)
class Entry:
    """One note in the journal: ``ids`` of ``collection`` may differ between the sides until it is reconciled.

    Attributes:
        key: of its object, which it may share with others that were opened at the same moment.
        index: its place there.
        authority: the side that was to be written first. Evidence for people: repairs go by the migration's state.
        op: Chroma's verb, or one of those above.
    """

    key: str
    index: int
    collection: str
    ids: tuple[str, ...]
    authority: Role
    op: str

    @property
    def is_catalog(self) -> bool:
        """Whether it is about the collection itself."""
        return self.op in CATALOG_OPS


@dataclass(frozen=True, slots=True)
class Closing:
    """How an entry ended."""

    second: Second
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """An object with entries, as the listing shows it.

    Attributes:
        entries: how many.
        modified_us: the store's date of it.
        closings: of those that ended, by index.
        abandoned: whether it is so old that no call of its entries can be under way.
    """

    key: str
    entries: int
    modified_us: int
    closings: Mapping[int, Closing] = field(default_factory=dict)
    abandoned: bool = False

    def under_way(self, index: int) -> bool:
        """Whether calls of this entry may still land."""
        closing = self.closings.get(index)
        return not self.abandoned and (closing is None or closing.second == "unknown")

    @property
    def ended(self) -> bool:
        """Whether nothing of it is under way any more."""
        return not any(self.under_way(index) for index in range(self.entries))


@dataclass(frozen=True, slots=True)
class Listing:
    """The journal as one look saw it.

    Attributes:
        date_us: the store's date before the look.
        touched: the objects with entries.
        closed: for each object of closings, the keys whose entries it names.
        unreadable: keys of objects that this release can't read. They are kept, and the journal isn't empty while one is there.
    """

    date_us: int
    touched: tuple[Touched, ...] = ()
    closed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the sides are equal on all ids that were ever touched (the protocol's claim)."""
        return not self.touched and not self.unreadable

    @property
    def open(self) -> int:
        """Entries with calls that may be under way."""
        return sum(item.under_way(index) for item in self.touched for index in range(item.entries))

    @property
    def ended(self) -> int:
        """Entries that wait for a reconciliation, abandoned ones among them."""
        return sum(item.entries for item in self.touched) - self.open

    @property
    def abandoned(self) -> int:
        """Entries that nobody closed, and that are too old to be under way: their process died."""
        return sum(
            item.abandoned and index not in item.closings for item in self.touched for index in range(item.entries)
        )

    @property
    def failed(self) -> int:
        """Entries whose second write failed, or can't be told."""
        return sum(
            closing.second in ("failed", "unknown") for item in self.touched for closing in item.closings.values()
        )

    @property
    def oldest_s(self) -> float:
        """The age of the oldest entry by the store's dates, seconds; 0 if there is none."""
        oldest = min((item.modified_us for item in self.touched), default=self.date_us)
        return max(0, self.date_us - oldest) / 1_000_000


@dataclass(frozen=True, slots=True)
class Counts:
    """What two listings tell, without reading a body: for a status that is asked often.

    Attributes:
        entries: not reconciled yet.
        closed: of them, those that ended. Closings outlive their entries for a moment, so this is at most ``entries`` and may be too large.
        failed: closings that say that the second write failed, or can't be told.
        oldest_s: the age of the oldest entry, seconds.
        unreadable: objects of another form.
    """

    entries: int
    closed: int
    failed: int
    oldest_s: float
    unreadable: int

    @property
    def open(self) -> int:
        """Entries that may be under way."""
        return self.entries - self.closed


def entries_of(key: str) -> int | None:
    """How many entries an object says it has; ``None`` if it is no key of entries."""
    found = _KEY.search(key)
    return int(found[3]) if found is not None and int(found[3]) > 0 else None


def closings_of(key: str) -> tuple[int, int] | None:
    """How many closings an object says it has, and how many failures; ``None`` if it is no key of closings."""
    found = _CLOSED.search(key)
    return None if found is None else (int(found[1]), int(found[2]))


def encode_entries(collection: str, client: str, entries: Sequence[tuple[Sequence[str], Role, str]]) -> bytes:
    """The body of an object with entries: (ids, authority, op) each."""
    rows = [{"ids": list(ids), "authority": authority.value, "op": op} for ids, authority, op in entries]
    return _encode({"format": FORMAT, "collection": collection, "client": client, "entries": rows})


def decode_entries(key: str, body: bytes) -> list[Entry]:
    """The inverse. Raises ``Corrupt`` with the ``key``: also for a newer format, or another number of entries than the key says."""
    value = _decode(key, body)
    try:
        collection = str(value["collection"])
        found = [
            Entry(key, index, collection, tuple(_texts(row["ids"])), Role(row["authority"]), str(row["op"]))
            for index, row in enumerate(value["entries"])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(key) from error
    if len(found) != entries_of(key):
        raise _corrupt(key)
    return found


def encode_closings(closings: Mapping[str, Mapping[int, Closing]]) -> bytes:
    """The body of an object with closings, by the key of the entries' object and the index there."""
    rows = {
        key: {str(index): {"second": ending.second, "error": ending.error} for index, ending in endings.items()}
        for key, endings in closings.items()
    }
    return _encode({"format": FORMAT, "closings": rows})


def decode_closings(key: str, body: bytes) -> dict[str, dict[int, Closing]]:
    """The inverse. Raises ``Corrupt`` with the ``key``."""
    value = _decode(key, body)
    try:
        return {
            str(of): {int(index): _closing(row) for index, row in endings.items()}
            for of, endings in value["closings"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(key) from error


def failures(closings: Iterable[Closing]) -> int:
    """How many of them say that the second side may lack the write."""
    return sum(closing.second in ("failed", "unknown") for closing in closings)


def _closing(row: Mapping[str, Any]) -> Closing:
    if row["second"] not in get_args(Second):
        raise ValueError(row["second"])
    return Closing(cast(Second, row["second"]), None if row["error"] is None else str(row["error"]))


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("not a list of texts")
    return value


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _decode(key: str, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise _corrupt(key) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _corrupt(key)
    return value


def _corrupt(key: str) -> Corrupt:
    return Corrupt(
        f"not an object of the journal that this release can read key={key}",
        hint="use the newest chromalith; else look at the object: until it is gone, the two sides can't be called equal",
        key=key,
    )
