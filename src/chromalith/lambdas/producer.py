"""The producer: one payload becomes one delta, durable when the function answers. Any number may run at once.

``docs/lambdas.md`` has the payloads. A repetition of the same invocation, as Lambda makes one of an asynchronous call that failed, counts
once: the call is named by the invocation's id, unless the payload names it (``call_id``).

A producer's role may write deltas and nothing else, so it can't create a collection nor fix a dimension. Where it may, both are done
with the first write, as :func:`chromalith.produce_embedding_delta` does.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

import numpy as np

from chromalith.errors import Conflict, NotFound, Unknown
from chromalith.guide import CHROMADB_BUCKET, DELTA_BUCKET, HAND_OVER_S, STORE
from chromalith.lambdas.payloads import Write
from chromalith.lambdas.runtime import Invocation, entry
from chromalith.lambdas.written import vectors_of, write_of
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.store.port import NotAllowed
from chromalith.write.writer import Receipt


def produce(run: Invocation, payload: Any) -> dict[str, Any]:
    """Write what the payload asks for; see ``docs/lambdas.md`` for both shapes."""
    write = write_of(payload)
    vectors = vectors_of(write)
    try:
        receipt = _put(run, write, vectors)
    except NotFound:
        if write.op == "delete":
            raise
        _create(run, write, vectors)
        receipt = _put(run, write, vectors)
    notifier = run.kept.store.session.notifier
    run.log.info("delta written", extra={"collection": write.collection, "delta": str(receipt.delta), "rows": receipt.rows})
    return {
        "status": "success",
        "collection": write.collection,
        "delta_id": str(receipt.delta),
        "delta_key": layout.delta_key(receipt.collection, receipt.delta),
        "item_count": receipt.rows,
        "delta_size_bytes": receipt.bytes,
        "token": receipt.token,
        "queued": notifier is not None and notifier.handed_over(receipt.delta, HAND_OVER_S),
    }


def _put(run: Invocation, write: Write, vectors: Any) -> Receipt:
    session = run.kept.store.session
    call_id = write.call_id or _name_of(run, write)

    def put(cid: CollectionId) -> Receipt:
        try:
            return session.writer.write(
                cid, write.op, write.ids, vectors, write.documents, write.uris, write.metadatas, call_id=call_id
            )
        except Unknown as error:
            if call_id is None:
                raise
            raise Unknown(
                error.message, hint=f"send it again with call_id={call_id}, or repeat the invocation itself: it counts once"
            ) from error
        except NotAllowed as error:
            known = session.collections.known(cid)
            if known is None or known.dimension is not None or vectors is None:
                raise
            raise _for_administrators("the collection has no dimension yet, and this role may not fix it", write, vectors, error) from error

    return run.kept.store.on(write.tenant, write.database, write.collection, put)


def _name_of(run: Invocation, write: Write) -> str | None:
    """The invocation's id with what is written: an emulator that gives every invocation one id must not make one call of them all."""
    if run.request_id is None:
        return None
    content = json.dumps(write.model_dump(), sort_keys=True, default=str)
    return f"{run.request_id}:{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def _create(run: Invocation, write: Write, vectors: Any) -> None:
    catalog = run.kept.store.session.catalog
    with suppress(Conflict):  # another producer creates it at this moment
        try:
            catalog.create(write.tenant, write.database, write.collection, configuration={"hnsw": {"space": "l2"}}, get_or_create=True)
        except NotAllowed as error:
            raise _for_administrators("there is no such collection, and this role may not create one", write, vectors, error) from error


def _for_administrators(what: str, write: Write, vectors: Any, error: NotAllowed) -> NotAllowed:
    dimension = "N" if vectors is None else str(np.shape(vectors)[-1])
    return NotAllowed(
        f"{what} collection={write.collection!r} refused={error.key}",
        hint=f"an administrator runs `chromalith collections create {write.collection} --dimension {dimension}`, once",
        key=error.key,
    )


handler = entry("producer", produce, variables=(DELTA_BUCKET, CHROMADB_BUCKET, STORE), tells_queue=True)
