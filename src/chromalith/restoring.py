"""``chromalith.rollback``: going back to an older version, as a public verb."""

from __future__ import annotations

from collections.abc import Collection

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.restore import Restored
from chromalith.model.ids import DeltaId
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, StorageOptions, open_session


def rollback(
    url: str | None,
    collection: str,
    to: int | str,
    *,
    replay: bool = False,
    excepted: Collection[str] = (),
    dry_run: bool = False,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: StorageOptions | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Restored:
    """Make the records of an older version current again, as a new version. What was written since is set aside, not lost.

    Args:
        url, tenant, database, storage_options: as for :class:`chromalith.Writer`.
        collection: the collection's name.
        to: the version, or the name of a tag.
        replay: write what was set aside again, as new deltas, on top of the restored records.
        excepted: ids of deltas that the replay leaves out; they stay set aside.
        dry_run: only say what would be done.

    Raises ``NotFound`` (no such collection, version or tag; a delta to replay has no object left), ``Invalid``, ``Conflict`` (others
    published first: try later), ``Unknown`` (look first).
    """
    deltas = [DeltaId.parse(each) for each in excepted]
    with open_session(url, storage_options=storage_options, clock=clock) as session:
        cid = session.catalog.lookup(tenant, database, collection).collection.id
        if dry_run:
            return Restored(session.restorer().choose(cid, to, replay=replay, excepted=deltas), None, None, None)
        return session.restorer().run(cid, to, replay=replay, excepted=deltas)
