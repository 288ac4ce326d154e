"""The verbs that write records, taken apart for the protocol: which ids, and how each side gets its part.

The application's ``Collection`` has validated, normalised and embedded before: both sides get the same values. While both are live these
are copies: the second's write may outlast the call, and an application fills its lists and arrays anew as soon as it has its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any
from uuid import UUID

import numpy as np
from chromadb.api import ServerAPI

from chromalith.chroma.side import OVERLAP
from chromalith.client.errors import chroma_errors
from chromalith.errors import Invalid
from chromalith.migrate.client.core import Core
from chromalith.migrate.dual import Write
from chromalith.migrate.follower import View
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.route import Route
from chromalith.model.operation import Op
from chromalith.write.validate import operations

DELETE_IDS_MAX = 2_000
"""Ids of one delete by filter, below SQLite's limit on the values of a statement; more are several, and not atomic."""

_STRICT = {SideKind.CHROMALITH, SideKind.SERVER, SideKind.CLOUD}
"""Sides that refuse what a Chroma engine in this process takes, such as an ``add`` of a metadata value that is ``None``."""
_OPS = {"add": Op.ADD, "update": Op.UPDATE, "upsert": Op.UPSERT}


class WriteVerbs:
    """Answers the writing half of Chroma's ServerAPI. Safe to share between threads.

    Args:
        core: of the client.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def write(self, op: str, uuid: UUID, ids: Sequence[str], columns: Mapping[str, Any]) -> bool:
        """``add``, ``update`` or ``upsert``. ``columns``: the rest of a record, by Chroma's names."""

        def call(ids: Sequence[str], columns: Mapping[str, Any]) -> Write:
            def send(role: Role, rows: Sequence[int] | None, second: bool) -> Any:
                def act(server: ServerAPI, here: UUID, at: Mapping[str, Any]) -> bool:
                    limit = self._core.sides[role].limits.records_per_write
                    if not second or len(ids) <= limit:
                        return _write(server, op, here, at, ids, columns, rows)
                    for piece in _cut(range(len(ids)) if rows is None else rows, limit):
                        _write(server, op, here, at, ids, columns, piece)
                    return True

                return self._core.on(role, uuid, act)

            def check() -> None:
                kinds = {self._core.sides[role].kind for role in Role}
                if kinds & _STRICT:
                    columns_given = [columns[name] for name in ("embeddings", "documents", "uris", "metadatas")]
                    operations(_OPS[op], ids, *columns_given)

            return Write(name, op, tuple(ids), send, check)

        with chroma_errors():
            name = self._core.name_to_write(uuid)
            return all(
                self._core.write(call(ids, columns), when_dual=lambda view, limit: call(list(ids), _kept(columns)))
            )

    def delete(self, uuid: UUID, ids: Sequence[str] | None, where: Any, where_document: Any, limit: int | None) -> Any:
        """Chroma's ``delete``; returns what it does."""

        def call(ids: Sequence[str] | None, limit: int | None) -> Write:
            def send(role: Role, rows: Sequence[int] | None, second: bool) -> Any:
                chosen = ids if rows is None or ids is None else [ids[row] for row in rows]

                def act(server: ServerAPI, here: UUID, at: Mapping[str, Any]) -> Any:
                    size = DELETE_IDS_MAX if filtered else len(chosen or ())
                    if second or filtered:  # the ids of a filter are ours, and the application knows nothing of them
                        size = min(size, self._core.sides[role].limits.records_per_write)
                    if chosen is None or len(chosen) <= size:
                        return _delete(server, here, at, chosen, where, where_document, limit)
                    pieces = _cut(chosen, size)
                    return _counted([_delete(server, here, at, piece, where, where_document, None) for piece in pieces])

                return self._core.on(role, uuid, act)

            return Write(name, "delete", tuple(ids or ()), send)

        def when_dual(view: View, most: float) -> Write:
            if ids and not filtered:
                return call(list(ids), limit)
            return call(self._found(Route(view.state, most), uuid, ids, where, where_document, limit), None)

        filtered = bool(where) or bool(where_document)
        where, where_document = deepcopy(where), deepcopy(where_document)
        with chroma_errors():
            name = self._core.name_to_write(uuid)
            answers = self._core.write(call(ids, limit), when_dual=when_dual)
        return _counted(answers)

    def _found(
        self, route: Route, uuid: UUID, ids: Sequence[str] | None, where: Any, where_document: Any, limit: int | None
    ) -> list[str]:
        """The ids that a delete by filter means: each found on the side that is its authority."""
        if not where and not where_document:
            raise Invalid("Validation error: ids, where: Either ids or where must be specified")
        roles = [Role.SOURCE, Role.TARGET]
        if route.writes_percent in (0.0, 100.0):
            roles = [route.authority("")]
        only = limit if len(roles) == 1 else None
        wanted = {"ids": ids, "where": where, "where_document": where_document, "include": []}
        found: list[str] = []
        for role in roles:
            there = self._ids(role, uuid, wanted, only)
            found += [record_id for record_id in there if route.authority(record_id) is role]
        return found if limit is None else found[:limit]

    def _ids(self, role: Role, uuid: UUID, wanted: Mapping[str, Any], limit: int | None) -> list[str]:
        """What a ``get`` of ids alone finds on one side; in pages where one answer never has all (Chroma Cloud), as far as nobody deletes
        meanwhile."""
        limits, cut = self._core.sides[role].limits, self._core.sides[role].cut_listings

        def get(most: int | None, offset: int | None) -> list[str]:
            answer = self._core.on(
                role, uuid, lambda server, here, at: server._get(here, **wanted, **at, limit=most, offset=offset)
            )
            return list(answer["ids"])

        if not cut:
            return get(limit, None)
        found: dict[str, None] = {}
        page, offset = limits.records_per_read, 0
        while limit is None or len(found) < limit:
            ids = get(page, offset)
            found.update(dict.fromkeys(ids))
            if len(ids) < page:
                break
            offset += page - OVERLAP  # a record that is deleted before it moves those behind it forward
        return list(found)[:limit]


def _kept(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of the values, of which nothing is the caller's."""
    return {name: None if column is None else [_copied(value) for value in column] for name, column in columns.items()}


def _copied(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return value.copy() if isinstance(value, np.ndarray) else deepcopy(value)


def _write(
    server: ServerAPI,
    op: str,
    here: UUID,
    at: Mapping[str, Any],
    ids: Sequence[str],
    columns: Mapping[str, Any],
    rows: Sequence[int] | None,
) -> bool:
    verb: Any = {"add": server._add, "update": server._update, "upsert": server._upsert}[op]
    if rows is None:
        return bool(verb(collection_id=here, ids=ids, **columns, **at))
    part = {name: None if column is None else [column[row] for row in rows] for name, column in columns.items()}
    return bool(verb(collection_id=here, ids=[ids[row] for row in rows], **part, **at))


def _delete(
    server: ServerAPI,
    here: UUID,
    at: Mapping[str, Any],
    ids: Sequence[str] | None,
    where: Any,
    where_document: Any,
    limit: int | None,
) -> Any:
    more: dict[str, Any] = {} if limit is None else {"limit": limit}  # Chroma 1.5.2 does not know it
    chosen = None if ids is None else list(ids)
    return server._delete(here, ids=chosen, where=where, where_document=where_document, **more, **at)


def _cut(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _counted(answers: Sequence[Any]) -> Any:
    """One answer of several: Chroma tells how many it deleted; older ones tell nothing."""
    if len(answers) == 1:
        return answers[0]
    if all(isinstance(one, Mapping) and "deleted" in one for one in answers):
        return {"deleted": sum(one["deleted"] for one in answers)}
    return None
