"""Runs of several collections in one invocation, and how an answer tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chromalith import compacting
from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.compaction.outcome import Outcome, as_json
from chromalith.coord.lease_table import LEASE_S_MAX
from chromalith.errors import ChromalithError, NotFound, Unavailable
from chromalith.lambdas.answers import again, described
from chromalith.lambdas.runtime import Invocation
from chromalith.model.ids import CollectionId
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT

TOLD_MAX = 1_000
"""Collections in an answer: of 300 to 600 bytes each, a tenth of what an answer may have."""
SETTLE_MARGIN_S = 0.5
"""Beyond ``settle_s``, because the store's timestamps are whole seconds."""


def run_all(
    run: Invocation, compactor: Compactor, cids: Sequence[CollectionId]
) -> tuple[list[Outcome], list[tuple[CollectionId, ChromalithError]]]:
    """Run each collection once; what one raises does not keep the others from being run.

    What can't be done at once is waited for, as long as there is time, after everything else was done: a holder of a lease that may be
    dead (a process that was just started has seen none of them beat), and deltas that are too young to be folded.
    """
    outcomes: dict[CollectionId, Outcome] = {}
    failures: list[tuple[CollectionId, ChromalithError]] = []

    def once(cid: CollectionId, wait_s: float = 0.0) -> None:
        try:
            outcome = compactor.run_once(cid, wait_s=wait_s)
            outcomes[cid] = outcomes[cid].then(outcome) if cid in outcomes else outcome
        except NotFound:
            outcomes.pop(cid, None)  # deleted: its deltas are garbage, and the sweep's
        except Unavailable:
            raise  # the store is away, for all of them
        except ChromalithError as error:
            failures.append((cid, error))

    for cid in cids:
        once(cid)
    for cid in [cid for cid, outcome in outcomes.items() if outcome.held_by is not None and not outcome.held_by.alive]:
        once(cid, 2 * LEASE_S_MAX)
    young = [cid for cid, outcome in outcomes.items() if outcome.waiting and outcome.held_by is None and not outcome.out_of_time]
    settle_s = run.kept.store.session.store.settle_s + SETTLE_MARGIN_S
    if young and run.time_left() > settle_s:
        run.clock.sleep(settle_s)
        for cid in young:
            once(cid)
    return list(outcomes.values()), failures


def begun_anywhere(run: Invocation, cids: list[CollectionId]) -> list[CollectionId]:
    """The same collections, begun with another one each time: else those at the end would wait behind ones that are always busy."""
    start = int(run.clock.uniform(0, len(cids)))
    return [*cids[start:], *cids[:start]]


def compactor_of(run: Invocation) -> Compactor:
    """A compactor for this invocation: its deadline is, and what was seen of other holders is kept."""
    settings = run.kept.settings
    compacting.check_stock(settings, hint="deploy the image, or unset CHROMALITH_STOCK_SNAPSHOT")
    return run.kept.store.session.compactor(
        CompactionSettings(index_threshold=settings.index_threshold), sightings=run.kept.sightings, time_left=run.time_left
    )


def publish_stock(run: Invocation, tenant: str, database: str, outcomes: Sequence[Outcome]) -> None:
    """Stock snapshots of the new versions, where the environment asks for them."""
    compacting.publish_stock(run.kept.settings, run.kept.store.session, tenant, database, outcomes)


def told_of(
    run: Invocation,
    outcomes: Sequence[Outcome],
    failures: Sequence[tuple[CollectionId, ChromalithError]],
    names: Mapping[CollectionId, str],
) -> dict[str, Any]:
    """The answer to a compaction: the sums, and what was done for each collection, and left.

    Raises the first failure, when everything that could be done was done: what fails must never look like a success.
    """
    shown = [told(outcome, names) for outcome in outcomes]
    answer = {
        "status": "success",
        "deltas_folded": sum(outcome.folded for outcome in outcomes),
        "deltas_waiting": sum(outcome.waiting or 0 for outcome in outcomes),
        "collections": shown[:TOLD_MAX],
        "collections_not_shown": max(0, len(shown) - TOLD_MAX),
    }
    run.log.info("compacted", extra={"deltas_folded": answer["deltas_folded"], "deltas_waiting": answer["deltas_waiting"]})
    warn_of_merges_left(run, outcomes, names)
    for cid, error in failures:
        run.log.warning("a collection failed", extra={"collection": names.get(cid), "id": cid, "error": described(error)})
    if failures:
        cid, first = failures[0]
        raise again(first, f"{first.message} collection={names.get(cid, cid)!r} failed={len(failures)} of={len(outcomes) + len(failures)}")
    return answer


def warn_of_merges_left(run: Invocation, outcomes: Sequence[Outcome], names: Mapping[CollectionId, str]) -> None:
    """Say in the log what a function may never have the time for: nobody reads the answer to a schedule or to a queue."""
    for outcome in outcomes:
        if outcome.merges_left:
            what = {"collection": names.get(outcome.collection), "id": outcome.collection, "hint": "run `chromalith compact` on a machine"}
            run.log.warning("merges are left: they would take longer than there is time", extra=what)


def told(outcome: Outcome, names: Mapping[CollectionId, str]) -> dict[str, Any]:
    """What was done for one collection, and what is left, as an answer has it."""
    return {
        **as_json(outcome, names.get(outcome.collection)),
        "out_of_time": outcome.out_of_time,
        "merges_left": outcome.merges_left,
    }


def names_of(run: Invocation, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> dict[CollectionId, str]:
    """The names of a database's collections: one request."""
    found = run.kept.store.session.catalog.databases.peek(tenant, database)
    return {CollectionId(cid): name for name, cid in (found.collections if found else {}).items()}
