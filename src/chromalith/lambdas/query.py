"""The query handler: the nearest records, records by id and filter, or their number. It reads, and never writes to the store.

The shape of an answer is Chroma's own, with the version that it is of. ``docs/lambdas.md`` has the payload.
"""

from __future__ import annotations

from typing import Any

from chromalith.coord.history import moment_of, version_of
from chromalith.errors import Invalid
from chromalith.guide import query_vectors
from chromalith.lambdas.answers import plain
from chromalith.lambdas.payloads import Query, read
from chromalith.lambdas.runtime import Invocation, entry
from chromalith.lambdas.written import embedding_failures_told
from chromalith.model.ids import CollectionId
from chromalith.model.session_token import SessionToken
from chromalith.read.reader import DEFAULT_STALENESS_S, ReadLevel
from chromalith.read.view import View

COLUMNS = ("embeddings", "documents", "uris", "metadatas", "distances")


def query(run: Invocation, payload: Any) -> dict[str, Any]:
    """Answer a query; see ``docs/lambdas.md`` for both shapes."""
    asked = read(Query, payload)
    _check(asked)
    nearest = asked.query_text is not None or asked.query_embeddings is not None
    with embedding_failures_told():
        vectors = query_vectors(asked.query_text, asked.query_embeddings) if nearest else None

    def answer(cid: CollectionId) -> dict[str, Any]:
        view = _view(run, asked, cid)
        found = {"collection": asked.collection, "version": view.manifest.version}
        if asked.count:
            return {**found, "count": view.count()}
        if vectors is None:
            return {**found, **_records(view, asked)}
        return {**found, **_nearest(view, asked, vectors)}

    return dict(plain(run.kept.store.on(asked.tenant, asked.database, asked.collection, answer)))


def _view(run: Invocation, asked: Query, cid: CollectionId) -> View:
    session = run.kept.store.session
    if asked.at is not None:
        moment = asked.at if isinstance(asked.at, int) else moment_of(session.store, cid, asked.at)
        return session.reader.view_of(version_of(session.store, cid, moment))
    level = ReadLevel(asked.read_level or ReadLevel.INDEX_AND_WAL)
    age_s = DEFAULT_STALENESS_S if asked.max_staleness_s is None else asked.max_staleness_s
    if asked.after is None:
        return session.reader.view(cid, level=level, max_staleness_s=age_s)
    token = SessionToken.parse(asked.after)
    patience_s = max(0.0, min(WAIT_S_MAX, run.time_left() - READ_S))
    return session.reader.view_after(cid, token, level=level, max_staleness_s=age_s, timeout_s=patience_s)


WAIT_S_MAX = 30.0
READ_S = 5.0
"""Kept of the time for the answer itself, when a write is waited for."""


def _nearest(view: View, asked: Query, vectors: Any) -> dict[str, Any]:
    include = asked.include if asked.include is not None else ["documents", "metadatas", "distances"]
    found = view.query(
        vectors, asked.n_results, ids=asked.ids, where=asked.where, where_document=asked.where_document, include=include
    )
    columns = {name: [getattr(each, name) for each in found] if name in include else None for name in COLUMNS}
    return {"ids": [each.ids for each in found], **columns, "data": None, "included": include}


def _records(view: View, asked: Query) -> dict[str, Any]:
    include = asked.include if asked.include is not None else ["documents", "metadatas"]
    found = view.get(
        ids=asked.ids,
        where=asked.where,
        where_document=asked.where_document,
        limit=asked.limit,
        offset=asked.offset,
        include=include,
    )
    columns = {name: getattr(found, name) for name in COLUMNS if name != "distances"}
    return {"ids": found.ids, **columns, "data": None, "included": include}


def _check(asked: Query) -> None:
    nearest = asked.query_text is not None or asked.query_embeddings is not None
    if asked.count and (nearest or asked.ids is not None or asked.where is not None or asked.where_document is not None):
        raise Invalid("count takes neither a query nor a filter", hint="it is the number of all live records")
    if not asked.count and not nearest and all(each is None for each in (asked.ids, asked.where, asked.where_document, asked.limit)):
        raise Invalid(
            "nothing was asked for", hint="give query_text, query_embeddings, count, or for records ids, where, where_document or limit"
        )
    if not nearest and "distances" in (asked.include or ()):
        raise Invalid("there is no distance without a query include=distances", hint="give query_text or query_embeddings")
    if nearest and (asked.limit is not None or asked.offset):
        raise Invalid("a query has no limit and no offset", hint="give n_results")
    if asked.at is not None and (asked.after is not None or asked.read_level is not None):
        raise Invalid("an older version has no read level, and nothing to wait for", hint="leave out read_level and after, or at")


handler = entry("query", query)
