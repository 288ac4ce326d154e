"""A side in memory, with Chroma's meaning of each verb, whose every call can fail: the model side of the tests of journal and repair.

What happens to a call is one of :class:`~chromalith.testing.faulty.Fault`: it fails before it is applied, or after; it is the last
call of its process, before or after it is applied; or it is applied *later*, when :meth:`Faults.land` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.migrate.port import Limits, SideKind, WriteOp
from chromalith.model.buckets import Buckets
from chromalith.testing.faulty import Call, Choose, Crash, Fault
from chromalith.transfer.port import Batch, Definition

WRITES = ("add", "update", "upsert", "delete", "create", "drop", "describe")


@dataclass(frozen=True)
class Row:
    embedding: tuple[float, ...]
    document: str | None = None
    uri: str | None = None
    metadata: Mapping[str, Any] | None = None


class Faults:
    """Numbers the calls of one side (or of both, if they share it), and lets ``choose`` decide what goes wrong."""

    def __init__(self, choose: Choose = lambda call: None) -> None:
        self.choose = choose
        self.calls: list[Call] = []
        self.struck: list[tuple[Call, Fault]] = []
        self._late: list[Callable[[], object]] = []
        self._lock = threading.RLock()

    def call(self, verb: str, name: str, act: Callable[[], Any]) -> Any:
        with self._lock:
            call = Call(len(self.calls) + 1, verb, name)
            self.calls.append(call)
            fault = self.choose(call)
            if fault is None:
                return act()
            self.struck.append((call, fault))
            if fault is Fault.BEFORE:
                raise Unavailable(f"injected before {verb}")
            if fault is Fault.CRASH_BEFORE:
                raise Crash(f"before {verb}")
            if fault is Fault.LATE and verb in WRITES:
                self._late.append(act)
            elif fault is Fault.CRASH_AFTER:
                act()
                raise Crash(f"after {verb}")
            else:
                with suppress(ChromalithError):
                    act()
            raise (Unknown if verb in WRITES else Unavailable)(f"injected: lost {verb}")

    def land(self) -> None:
        """What was late is applied now."""
        late, self._late = self._late, []
        for act in late:
            with suppress(ChromalithError):
                act()


class MemoryCollection:
    def __init__(self, side: MemorySide, name: str, definition: Definition) -> None:
        self._side = side
        self._name = name
        self._definition = definition
        self.rows: dict[str, Row] = {}
        self.refused: set[str] = set()
        """Ids that it takes for invalid."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def id(self) -> str:
        return f"{self._side.place}/{id(self)}"

    @property
    def definition(self) -> Definition:
        return self._definition

    @property
    def dimension(self) -> int | None:
        return next((len(row.embedding) for row in self.rows.values()), None)

    def count(self) -> int:
        return self._call("count", lambda: len(self.rows))

    def ids(self) -> list[str]:
        return self._call("ids", lambda: list(self.rows))

    def read(self, ids: Sequence[str]) -> Batch:
        wanted = set(ids)
        return self._call("read", lambda: batch({i: row for i, row in self.rows.items() if i in wanted}))

    def present(self, ids: Sequence[str]) -> set[str]:
        return self._call("present", lambda: self.rows.keys() & set(ids))

    def buckets(self) -> Buckets | None:
        return None

    def write(
        self,
        op: WriteOp,
        ids: Sequence[str],
        embeddings: npt.NDArray[np.float32] | None = None,
        documents: Sequence[str | None] | None = None,
        uris: Sequence[str | None] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        assert len(set(ids)) == len(ids)
        assert metadatas is None or all(value is None or value for value in metadatas), (
            "an empty dictionary is refused by Chroma"
        )

        def act() -> None:
            if self.refused & set(ids):
                raise Invalid("this record is not wanted here")
            for row, record_id in enumerate(ids):
                given = [None if column is None else column[row] for column in (embeddings, documents, uris, metadatas)]
                self._write(op, record_id, *given)

        self._call(op, act)

    def delete(self, ids: Sequence[str]) -> None:
        def act() -> None:
            for record_id in ids:
                self.rows.pop(record_id, None)

        self._call("delete", act)

    def _write(self, op: str, record_id: str, embedding: Any, document: Any, uri: Any, metadata: Any) -> None:
        old = self.rows.get(record_id)
        if (op == "add" and old is not None) or (op == "update" and old is None):
            return
        old = old or Row(())
        merged = {**(old.metadata or {}), **(metadata or {})}
        merged = {key: value for key, value in merged.items() if value is not None}
        self.rows[record_id] = Row(
            old.embedding if embedding is None else tuple(float(x) for x in embedding),
            old.document if document is None else document,
            old.uri if uri is None else uri,
            merged or None,
        )

    def _call(self, verb: str, act: Callable[[], Any]) -> Any:
        def there() -> Any:
            if self._side.collections.get(self._name) is not self:
                raise NotFound(f"no such collection name={self._name!r}")
            return act()

        return self._side.faults.call(verb, self._name, there)


class MemorySide:
    def __init__(self, place: str, *, limits: Limits | None = None, faults: Faults | None = None) -> None:
        self._place = place
        self._limits = limits or Limits(300, 300)
        self.faults = faults or Faults()
        self.collections: dict[str, MemoryCollection] = {}

    @property
    def kind(self) -> SideKind:
        return SideKind.CLIENT

    @property
    def place(self) -> str:
        return self._place

    @property
    def limits(self) -> Limits:
        return self._limits

    def names(self) -> list[str]:
        return self.faults.call("names", "", lambda: list(self.collections))

    def collection(self, name: str) -> MemoryCollection:
        def act() -> MemoryCollection:
            if name not in self.collections:
                raise NotFound(f"no such collection name={name!r}")
            return self.collections[name]

        return self.faults.call("collection", name, act)

    def create(self, name: str, definition: Definition) -> MemoryCollection:
        def act() -> MemoryCollection:
            return self.collections.setdefault(name, MemoryCollection(self, name, definition))

        return self.faults.call("create", name, act)

    def drop(self, name: str) -> None:
        self.faults.call("drop", name, lambda: self.collections.pop(name, None))

    def describe(self, name: str, metadata: Mapping[str, Any] | None) -> None:
        def act() -> None:
            if name not in self.collections:
                raise NotFound(f"no such collection name={name!r}")
            held = self.collections[name]
            held._definition = replace(held.definition, metadata=metadata)

        self.faults.call("describe", name, act)

    def close(self) -> None:
        pass


def batch(rows: Mapping[str, Row]) -> Batch:
    found = list(rows.values())
    width = len(found[0].embedding) if found else 0
    return Batch(
        list(rows),
        np.array([row.embedding for row in found], np.float32).reshape(len(found), width),
        [row.document for row in found],
        [row.uri for row in found],
        [None if row.metadata is None else dict(row.metadata) for row in found],
    )
