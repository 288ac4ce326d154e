"""What a backfill copies and how far it has come, in the migration's store: so that it can be killed at any moment and go on.

    backfill/<h(collection)>/<run>/ids-<…>-<part>.json     all ids of the source, taken at one moment
    backfill/<h(collection)>/<run>/there-<…>-<part>.json   all ids that the target had before anything was copied
    backfill/<h(collection)>/<run>/plan.json            how many, in which parts and chunks; written last, so a plan is whole
    backfill/<h(collection)>/<run>/done.json            the chunks that are copied, and what became of their records
    backfill/<h(collection)>/<run>/rejects-<what>.json  records that the target does not take

A chunk is known by its number, so its size stands in the plan and does not change in a run. Chunks are marked as done by compare-and-set of
a set: two processes that copy at once lose nothing but time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from typing import Any

from chromalith.coord.register import Register
from chromalith.errors import Corrupt
from chromalith.migrate.places import Place

FORMAT = 1
PART_IDS = 50_000
"""Ids of one object: one or two MB."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of some records of the source.

    Attributes:
        copied: added to the target.
        equal: were there already, and are equal.
        fixed: were there and differed, or changed while they were copied.
        gone: are not at the source any more.
        rejected: the target does not take them.
    """

    copied: int = 0
    equal: int = 0
    fixed: int = 0
    gone: int = 0
    rejected: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def records(self) -> int:
        """All of them."""
        return self.copied + self.equal + self.fixed + self.gone + self.rejected


NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that the target does not take, and why."""

    collection: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class IdPlan:
    """The ids of one collection: ``total`` of them, in ``parts`` objects of ``part_rows``, copied in chunks of ``chunk_rows``.

    ``there``: how many the target had. ``pair``: the collections of both sides, by their own ids: one that was dropped and made again under
    its name is copied anew. ``attempt`` is part of the objects' names: of two processes that take the ids at once, at different
    moments, one wins, and the other's objects are never read."""

    total: int
    part_rows: int
    chunk_rows: int
    there: int
    attempt: str
    pair: str = ""

    @property
    def chunks(self) -> int:
        return -(-self.total // self.chunk_rows)

    @property
    def parts(self) -> int:
        return -(-self.total // self.part_rows)

    def rows(self, chunk: int) -> int:
        """How many records a chunk has."""
        return min(self.chunk_rows, self.total - chunk * self.chunk_rows)


@dataclass(frozen=True, slots=True)
class Done:
    """The chunks that are copied, and the counts of them."""

    chunks: frozenset[int] = frozenset()
    counts: Counts = field(default_factory=Counts)


class IdStore:
    """The objects of one collection in one run. Safe to share between threads.

    Args:
        place: of the migration.
        collection: its name.
        run: which backfill.
    """

    def __init__(self, place: Place, collection: str, run: str) -> None:
        self._place = place
        self._collection = collection
        self._prefix = f"{place.collection_prefix('backfill', collection)}{run}/"
        self._done = Register(place.store, f"{self._prefix}done.json", place.clock)
        self._lock = threading.Lock()
        self._cached: tuple[int, list[str]] | None = None

    def plan(self) -> IdPlan | None:
        """The plan, or ``None`` if the ids are not taken yet. Raises ``Unavailable``, ``Corrupt``."""
        key = f"{self._prefix}plan.json"
        value = Register(self._place.store, key, self._place.clock).read().value
        if value is None:
            return None
        try:
            if value["format"] != FORMAT:
                raise ValueError(value["format"])
            return IdPlan(
                total=int(value["total"]),
                part_rows=int(value["part_rows"]),
                chunk_rows=int(value["chunk_rows"]),
                there=int(value["there"]),
                attempt=str(value["attempt"]),
                pair=str(value.get("pair", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(key) from error

    def make(self, ids: Sequence[str], chunk_rows: int, there: Sequence[str] = (), pair: str = "") -> IdPlan:
        """Keep the source's ``ids``, those that the target has (``there``), and the plan; another process's, if it was first.

        Raises ``Unavailable``, ``Unknown``."""
        part_rows = chunk_rows * max(1, PART_IDS // chunk_rows)
        mine = IdPlan(len(ids), part_rows, chunk_rows, len(there), self._place.clock.random_hex(8), pair)
        for what, column in (("ids", ids), ("there", there)):
            for part in range(-(-len(column) // part_rows)):
                rows = list(column[part * part_rows : (part + 1) * part_rows])
                self._place.store.put(self._part_key(what, mine, part), json.dumps(rows, ensure_ascii=False).encode())
        register = Register(self._place.store, f"{self._prefix}plan.json", self._place.clock)
        register.create({"format": FORMAT, "collection": self._collection} | asdict(mine))
        return self.plan() or mine

    def ids(self, plan: IdPlan, chunk: int) -> list[str]:
        """The ids of one chunk. Raises ``Unavailable``, ``Corrupt``."""
        part, offset = divmod(chunk * plan.chunk_rows, plan.part_rows)
        with self._lock:
            if self._cached is None or self._cached[0] != part:
                self._cached = (part, self._read_part("ids", plan, part))
            return self._cached[1][offset : offset + plan.chunk_rows]

    def there(self, plan: IdPlan) -> list[str]:
        """The ids that the target had before anything was copied. Raises ``Unavailable``, ``Corrupt``."""
        parts = range(-(-plan.there // plan.part_rows))
        return [record_id for part in parts for record_id in self._read_part("there", plan, part)]

    def done(self) -> Done:
        """What is copied. Raises ``Unavailable``, ``Corrupt``."""
        return _decode(self._done.key, self._done.read().value)

    def mark(self, chunks: Mapping[int, Counts]) -> None:
        """Note that these are copied; those that are noted already are not counted twice. Raises ``Unavailable``, ``Unknown``."""

        def change(value: dict[str, Any] | None) -> dict[str, Any] | None:
            before = _decode(self._done.key, value)
            new = {chunk: counts for chunk, counts in chunks.items() if chunk not in before.chunks}
            if not new:
                return None
            counts = sum(new.values(), before.counts)
            return {"format": FORMAT, "chunks": _runs(before.chunks | new.keys()), "counts": asdict(counts)}

        if chunks:
            self._done.update(change)

    def keep_rejects(self, what: str, rejects: Sequence[Reject]) -> None:
        """Keep the rejects of a chunk, or of a look at all records, in place of those that were kept of it before."""
        body = json.dumps([asdict(each) for each in rejects], ensure_ascii=False).encode()
        self._place.store.put(f"{self._prefix}rejects-{what}.json", body)

    def rejects(self, what: str | None = None) -> list[Reject] | None:
        """All that are kept, or those of one chunk or look; ``None``: there was none. Raises ``Unavailable``, ``Corrupt``."""
        prefix = f"{self._prefix}rejects-" + ("" if what is None else f"{what}.json")
        found: list[Reject] | None = None
        for page in self._place.store.list(prefix):
            for item in page:
                body = self._place.store.get(item.key).body
                try:
                    found = (found or []) + [Reject(**each) for each in json.loads(body)]
                except (TypeError, ValueError) as error:
                    raise _corrupt(item.key) from error
        return found

    def _part_key(self, what: str, plan: IdPlan, part: int) -> str:
        return f"{self._prefix}{what}-{plan.attempt}-{part:05d}.json"

    def _read_part(self, what: str, plan: IdPlan, part: int) -> list[str]:
        key = self._part_key(what, plan, part)
        try:
            found = json.loads(self._place.store.get(key).body)
        except ValueError as error:
            raise _corrupt(key) from error
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise _corrupt(key)
        return found


def attempts(place: Place, collection: str, run: str) -> Iterator[IdStore]:
    """The objects of a collection in one run, as often as it was begun: anew, when it was dropped and made again meanwhile."""
    for number in count():
        yield IdStore(place, collection, f"{run}-{number}" if number else run)


def _decode(key: str, value: Mapping[str, Any] | None) -> Done:
    if value is None:
        return Done()
    try:
        chunks = frozenset(chunk for start, stop in value["chunks"] for chunk in range(start, stop))
        return Done(chunks, Counts(**{name: int(count) for name, count in value["counts"].items()}))
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(key) from error


def _runs(chunks: Iterable[int]) -> list[list[int]]:
    """Numbers as ranges ``[start, stop]``: a copy goes forwards, so there are few."""
    found: list[list[int]] = []
    for chunk in sorted(chunks):
        if found and found[-1][1] == chunk:
            found[-1][1] = chunk + 1
        else:
            found.append([chunk, chunk + 1])
    return found


def _corrupt(key: str) -> Corrupt:
    return Corrupt(
        f"not an object of a backfill key={key}", hint="`chromalith migrate backfill --again` begins a new one", key=key
    )
