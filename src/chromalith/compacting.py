"""``chromalith.compact``: the compaction as a public verb, of one collection or of whatever has deltas."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import replace

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.compaction.compactor import CompactionSettings, Compactor, Outcome
from chromalith.coord.lease import Sightings
from chromalith.coord.lease_table import LEASE_S_MAX
from chromalith.errors import ChromalithError, Conflict, Corrupt, Invalid, LeaseHeld, NotFound, Unknown
from chromalith.model.ids import CollectionId
from chromalith.observe.hooks import Observer
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, StorageOptions, open_session


def compact(
    url: str | None = None,
    collection: str | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    settings: CompactionSettings | None = None,
    storage_options: StorageOptions | None = None,
    progress: Callable[[str, Outcome], None] = lambda step, outcome: None,
    ignore_lease: bool = False,
    merge_executor: Executor | None = None,
    sightings: Sightings | None = None,
    lease_table: str | None = None,
    observe: Observer | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Outcome]:
    """Compact one collection, or all that have deltas (found by one LIST of the whole store; the others cost nothing).

    What somebody else has the lease of is left to them, and said in ``Outcome.held_by``. Whether they live is waited for, at most one lease
    time (30 s): a killed compactor's lease is taken over. A caller that comes again and again shares ``sightings`` between its
    calls instead; then no call waits. ``ignore_lease`` works without any. ``merge_executor`` runs independent merges side by side.
    ``observe`` is told how each run ended; else what ``CHROMALITH_METRICS`` names is.
    ``lease_table`` is the DynamoDB table of the leases; else ``CHROMALITH_LEASE_TABLE``, else they are objects in the store.

    A collection that fails does not keep the others from being compacted: the first failure is raised afterwards.

    With the setting ``stock_snapshot``, each collection of this database that got a new version then gets a stock snapshot of it.

    Raises ``NotFound`` (no such collection), ``LeaseHeld`` (nothing could be done for the collection that was named: somebody else is at
    it), ``Conflict`` (others published first: try later), ``Unknown`` (look first), ``Invalid`` (stock snapshots without ``chromadb``; a
    lease table that is missing, or may not be used: said before anything is compacted).
    """
    configured = Settings()
    settings = settings or CompactionSettings(index_threshold=configured.index_threshold)
    settings = replace(settings, lease=False) if ignore_lease else settings
    check_stock(configured, hint="pip install 'chromalith[chroma]', or unset CHROMALITH_STOCK_SNAPSHOT")
    with open_session(
        url, storage_options=storage_options, clock=clock, lease_table=lease_table, queue_url="", observe=observe
    ) as session:
        compactor = session.compactor(
            settings, progress=progress, merge_executor=merge_executor, sightings=sightings, storage_options=storage_options
        )
        failures: list[ChromalithError] = []
        if collection is None:
            outcomes = _all(compactor, failures, patient=sightings is None)
        else:
            cid = session.catalog.lookup(tenant, database, collection).collection.id
            outcomes = [_one(compactor, cid, collection, patient=sightings is None)]
        publish_stock(configured, session, tenant, database, outcomes)
    if failures:
        raise failures[0]
    return outcomes


def check_stock(settings: Settings, *, hint: str) -> None:
    """Raise ``Invalid`` if stock snapshots are wanted and can't be made: to be called before anything is compacted."""
    if settings.stock_snapshot and importlib.util.find_spec("chromadb") is None:
        raise Invalid("stock snapshots need chromadb", hint=hint)


def publish_stock(settings: Settings, session: Session, tenant: str, database: str, outcomes: Sequence[Outcome]) -> None:
    """Stock snapshots of the new versions of a database's collections, if the settings ask for them."""
    if settings.stock_snapshot:
        from chromalith.chroma.stock_snapshot import publish_stock_snapshots  # chromadb takes a second to import

        publish_stock_snapshots(session, tenant, database, [each.collection for each in outcomes if each.published])


def _one(compactor: Compactor, cid: CollectionId, name: str, *, patient: bool) -> Outcome:
    outcome = _patiently(compactor, compactor.run_once(cid), patient)
    if outcome.held_by is not None and outcome.idle:
        raise LeaseHeld(
            f"somebody else compacts it collection={name!r} owner={outcome.held_by.owner}",
            hint="let them; `chromalith lock status` tells more, and --ignore-lease works beside them",
        )
    return outcome


def _all(compactor: Compactor, failures: list[ChromalithError], *, patient: bool) -> list[Outcome]:
    """Whatever has deltas; what failed goes to ``failures``."""
    outcomes = []
    for cid in compactor.waiting():
        with _going_on(failures), suppress(NotFound):  # deleted: its deltas are garbage, and the sweep's
            outcomes.append(compactor.run_once(cid))
    # Whose lease is held is known now for all; so the waits below overlap, and take one lease time together.
    for position, outcome in enumerate(outcomes):
        with _going_on(failures):
            outcomes[position] = _patiently(compactor, outcome, patient)
    return outcomes


@contextmanager
def _going_on(failures: list[ChromalithError]) -> Iterator[None]:
    """What concerns one collection only is kept for later: it must not keep the others from being compacted."""
    try:
        yield
    except (Conflict, Unknown, Corrupt, Invalid) as error:
        failures.append(error)


def _patiently(compactor: Compactor, outcome: Outcome, patient: bool) -> Outcome:
    """Wait until it is known whether who has the lease lives, and do what they left."""
    if not patient or outcome.held_by is None or outcome.held_by.alive:
        return outcome
    try:
        return outcome.then(compactor.run_once(outcome.collection, wait_s=2 * LEASE_S_MAX))
    except NotFound:
        return outcome  # deleted meanwhile
