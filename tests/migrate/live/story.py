"""What the processes of the live migration do: the calls they choose, and what a call leaves of a record.

Each process has ids of its own (``p<process>-…``), which only it writes: the last acknowledged call decides what they hold. Ids that begin
with ``s-`` are written by all of them, only by calls that do not depend on what was there (an upsert of every field with the same
metadata keys, a delete): of those, the outcome of one of the last calls must remain.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from chromalith.testing.reference import Change, Contents, Row

DIMENSION = 8
SHARED = 12
SHARED_OWNER = -1
"""The ``owner`` of what no process owns, so that no process's filter deletes it."""
BATCHES = 9
COLLECTIONS = {"words": "l2", "turns": "cosine", "inner": "ip"}
"""The collections and their distances."""

State = Row | None
"""What an id holds; ``None``: it is not there."""


@dataclass(frozen=True)
class Call:
    """One call of one process: a write (``rows`` or ``where`` is given) or a read (``get``, ``owned``, ``query``, ``count``)."""

    number: int
    op: str
    collection: str
    rows: tuple[dict[str, Any], ...] = ()
    where: Mapping[str, Any] | None = None

    @property
    def writes(self) -> bool:
        return self.op in ("add", "update", "upsert", "delete", "delete_where")

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows]

    def encoded(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decoded(cls, value: Mapping[str, Any]) -> Call:
        return cls(value["number"], value["op"], value["collection"], tuple(value["rows"]), value["where"])

    def column(self, name: str) -> list[Any] | None:
        """One column of the rows, or ``None`` if they do not name it."""
        return [row[name] for row in self.rows] if self.rows and name in self.rows[0] else None


def seeds(process: int, collection: str, pool: int) -> Call:
    """What a process has written before the migration begins (its call 0)."""
    chance = random.Random(f"seed {process} {collection}")
    rows = [_row(chance, process, 0, own, ("document", "uri", "metadata")) for own in own_ids(process, pool)]
    return Call(0, "add", collection, tuple(rows))


def own_ids(process: int, pool: int) -> list[str]:
    return [f"p{process}-{number}" for number in range(pool)]


def shared_ids() -> list[str]:
    return [f"s-{number}" for number in range(SHARED)]


def call(seed: str, process: int, number: int, pool: int, collections: list[str]) -> Call:
    """What a process does in its call ``number`` (from 1): a pure function, so that a run can be told again."""
    chance = random.Random(f"{seed} {process} {number}")
    collection = chance.choice(collections)
    op = chance.choices(
        (
            "upsert",
            "update",
            "add",
            "delete",
            "delete_where",
            "shared_upsert",
            "shared_delete",
            "get",
            "owned",
            "query",
            "count",
        ),
        (8, 7, 5, 3, 1, 4, 1, 6, 2, 2, 1),
    )[0]
    if op == "delete_where":
        where = {"$and": [{"owner": process}, {"batch": chance.randrange(BATCHES)}]}
        return Call(number, op, collection, where=where)
    if op == "count":
        return Call(number, op, collection)
    if op.startswith("shared"):
        chosen = chance.sample(shared_ids(), chance.randint(1, 4))
        if op == "shared_delete":
            return Call(number, "delete", collection, tuple({"id": own} for own in chosen))
        return Call(
            number, "upsert", collection, tuple(_row(chance, SHARED_OWNER, number, own, None) for own in chosen)
        )
    chosen = chance.sample(own_ids(process, pool), chance.randint(1, 7))
    if op in ("delete", "get"):
        return Call(number, op, collection, tuple({"id": own} for own in chosen))
    if op in ("owned", "query"):
        return Call(number, op, collection, (_row(chance, process, number, chosen[0], ()),), {"owner": process})
    # A document without an embedding would ask for an embedding function; metadata may come alone.
    fields = [name for name in ("document", "uri", "metadata") if chance.random() < 0.7]
    if op == "update" and chance.random() < 0.4:
        return Call(
            number, op, collection, tuple(_row(chance, process, number, own, ("metadata",), False) for own in chosen)
        )
    rows = tuple(_row(chance, process, number, own, fields) for own in chosen)
    return Call(number, op, collection, _refused(rows, number % 13 == 0) if op == "add" else rows)


def _refused(rows: tuple[dict[str, Any], ...], wanted: bool) -> tuple[dict[str, Any], ...]:
    """Rows of an ``add``: a metadata value of ``None`` is refused there, so it stands in every row or in none.

    In one of several, it is a call that a ramp splits between two authorities, and of which one refuses its part: the other part stands
    (``migrate/dual.py`` says so), and the judge can't know which."""
    for row in rows:
        if "metadata" in row:
            row["metadata"] = {key: value for key, value in row["metadata"].items() if value is not None} | (
                {"kind": None} if wanted else {}
            )
    return rows


def _row(
    chance: random.Random,
    process: int,
    number: int,
    record: str,
    fields: tuple[str, ...] | list[str] | None,
    embedded: bool = True,
) -> dict[str, Any]:
    """A row with ``fields``; ``None``: all of them, with metadata that names all keys."""
    row: dict[str, Any] = {"id": record}
    if embedded:  # multiples of 1/1024: float32 holds them exactly
        row["embedding"] = [chance.randint(-1024, 1024) / 1024 or 1.0 for _ in range(DIMENSION)]
    whole = fields is None
    if whole or "document" in fields:  # type: ignore[operator]
        row["document"] = f"text {process}:{number} of {record} – {chance.randrange(1000)}"
    if whole or "uri" in fields:  # type: ignore[operator]
        row["uri"] = f"file:///{record}/{number}"
    if whole or "metadata" in fields:  # type: ignore[operator]
        row["metadata"] = _metadata(chance, process, number, whole)
    return row


def _metadata(chance: random.Random, process: int, number: int, whole: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "call": number,
        "score": number / 8,
        "is_new": bool(number % 2),
        "kind": f"kind {number % 5}",
        "tags": [f"t{number}", "always"],
        "numbers": [number, 7],
    }
    if number % 11 == 3:
        values["kind"] = ["now", "a", "list"]  # elsewhere it is a text
    always = {"owner": process, "batch": chance.randrange(BATCHES)}
    if whole or number == 0:
        return values | always
    chosen = {key: value for key, value in values.items() if chance.random() < 0.5}
    if chance.random() < 0.3:
        chosen[chance.choice(("kind", "score", "tags"))] = None  # removes the key
    if chance.random() < 0.2:
        chosen["call"] = float(number)  # the same number, another type
    return chosen | always


def after(state: State, done: Call, record: str) -> State:
    """What ``record`` holds after a call that names it, or whose filter may: Chroma's semantics, by the reference model."""
    if done.op == "delete_where":
        return None if state is not None and matches(state, done.where or {}) else state
    row = next((row for row in done.rows if row["id"] == record), None)
    if row is None or not done.writes:
        return state
    embedding = row.get("embedding")
    change = Change(
        done.op,
        record,
        None if embedding is None else tuple(embedding),
        row.get("document"),
        row.get("uri"),
        row.get("metadata"),
    )
    left = Contents({} if state is None else {record: state}).apply([change]).rows.get(record)
    return None if left is None else replace(left, seq=0)


def matches(state: Row, where: Mapping[str, Any]) -> bool:
    """Whether a record passes the filters that the processes use: equal keys, joined by ``$and``."""
    if "$and" in where:
        return all(matches(state, part) for part in where["$and"])
    return all((state.metadata or {}).get(key) == value for key, value in where.items())
