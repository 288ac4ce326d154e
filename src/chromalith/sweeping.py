"""``chromalith.sweep``: the sweep as a public verb, of one collection or of a whole store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.pace import TimeLeft, forever
from chromalith.compaction.reclaim import StoreSweep
from chromalith.compaction.sweep import SweepOutcome, dry_run, run_sweep
from chromalith.model import layout
from chromalith.model.retention import Retention
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.leftovers import Leftovers, leftovers_of
from chromalith.store.multipart import unfinished_uploads
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, StorageOptions, open_session


def sweep(
    url: str | None = None,
    collection: str | None = None,
    *,
    keep_versions: int | None = None,
    keep_age_s: float | None = None,
    job_grace_s: float | None = None,
    delete: bool = False,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: StorageOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[SweepOutcome]:
    """Delete what no kept version of a collection names; of the whole store without a name, and what belongs to no collection.

    Args:
        keep_versions, keep_age_s, job_grace_s: what is kept (:class:`chromalith.model.retention.Retention`); settings where left out.
        delete: whether to delete. Without it nothing is written: the outcomes say what would be deleted, and why.
        progress: called with a step, how much of it is done, and how much there is.

    Raises ``NotFound`` (no such collection), ``Conflict`` (others published first: try later), ``Unknown`` (nothing was deleted: look
    first), ``Corrupt`` (a kept version can't be read, so it is not known what it names), ``Invalid``.
    """
    configured = Settings()
    retention = Retention(
        configured.keep_versions if keep_versions is None else keep_versions,
        configured.keep_age_s if keep_age_s is None else keep_age_s,
        configured.job_grace_s if job_grace_s is None else job_grace_s,
    )
    with open_session(url, storage_options=storage_options, clock=clock) as session:
        return sweep_session(
            session,
            url or configured.store_or_fail(),
            collection,
            retention,
            delete=delete,
            tenant=tenant,
            database=database,
            storage_options=storage_options,
            progress=progress,
        )


def sweep_session(
    session: Session,
    url: str,
    collection: str | None,
    retention: Retention,
    *,
    delete: bool,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    storage_options: StorageOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    time_left: TimeLeft = forever,
) -> list[SweepOutcome]:
    """As :func:`sweep`, of a store that is open; what is not expected to end in ``time_left()`` seconds is not begun."""
    store, catalog, clock = session.store, session.catalog, session.clock
    if collection is not None:
        cid = catalog.lookup(tenant, database, collection).collection.id
        if delete:
            return [run_sweep(store, clock, cid, retention, progress=progress, time_left=time_left)]
        return [dry_run(store, clock, cid, retention, progress=progress)]
    with ExitStack() as closing:
        leftovers: list[Leftovers] = list(leftovers_of(store))
        uploads = unfinished_uploads(url, storage_options, layout.OWN_ROOTS)
        if uploads is not None:
            closing.callback(uploads.close)
            leftovers.append(uploads)
        return StoreSweep(
            store, clock, catalog, retention, delete=delete, leftovers=leftovers, progress=progress, time_left=time_left
        ).run()
