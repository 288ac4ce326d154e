"""The health handler: whether the store answers, what each collection's version is, and what waits. It reads only.

It answers ``"status": "ok"`` or raises: an alarm on the function's errors is an alarm on the store being out of reach.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from chromalith.doctor.status import deltas_by_collection, status_of
from chromalith.errors import ChromalithError, NotFound, Unavailable
from chromalith.lambdas.answers import described
from chromalith.lambdas.payloads import Health, check_object, read
from chromalith.lambdas.runs import TOLD_MAX
from chromalith.lambdas.runtime import Invocation, entry
from chromalith.store.cache import Swept

LOOK_S = 2.0
"""For one collection: two or three requests. What does not have this left is not looked at, and counted."""


def health(run: Invocation, payload: Any) -> dict[str, Any]:
    """Look at the store; see ``docs/lambdas.md`` for the shape."""
    check_object(payload)
    asked = Health() if payload.get("source") in ("aws.events", "aws.scheduler") else read(Health, payload)
    session = run.kept.store.session
    if asked.collection is not None:
        named = [session.catalog.lookup(asked.tenant, asked.database, asked.collection)]
    else:
        named = session.catalog.listing(asked.tenant, asked.database)
    listed = deltas_by_collection(session, named[0].collection.id if asked.collection is not None else None)
    found: list[dict[str, Any]] = []
    seen = 0
    for each in named[:TOLD_MAX]:
        if run.time_left() < LOOK_S:
            break
        seen += 1
        try:
            try:
                found.append(status_of(session, each, listed.get(each.collection.id, [])))
            except Swept:  # a sweep overtook the look
                found.append(status_of(session, each, listed.get(each.collection.id, [])))
        except NotFound:
            continue  # deleted meanwhile
        except Unavailable:
            raise
        except ChromalithError as error:  # of this collection; the others are told all the same
            found.append({"name": each.name, "id": each.collection.id, "error": described(error)})
    return {
        "status": "ok" if not any("error" in each for each in found) else "damaged",
        "release": version("chromalith"),
        "store": session.store.url,
        "collections": found,
        "collections_not_shown": len(named) - seen,
        "deltas_waiting": sum(each.get("deltas_waiting", 0) for each in found),
        "oldest_waiting_s": max((each.get("oldest_waiting_s") or 0.0 for each in found), default=0.0),
        "cache": {
            "directory": str(session.cache.directory),
            "bytes": session.cache.size_bytes(),
            "bytes_max": session.cache.size_bytes_max,
        },
    }


handler = entry("health", health)
