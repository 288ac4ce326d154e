"""The compactor: hints from a queue, a schedule, a person, or the import of a migration. All end in the same ``run_once``.

*Hints* (SQS) say which collections to look at. A message is reported as failed, so that it comes again, unless its delta is known to be
dealt with (:mod:`chromalith.compaction.hinted`): no message is deleted before the version that has its delta was published.

*By hand or by the schedule*, every collection that has deltas is run once, or the one that was named; what is left says why.

*Migration* is :mod:`chromalith.lambdas.migration`.

No job begins that is not expected to end in time. Killed anywhere, the function leaves garbage and a lease that runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.data_classes import SQSEvent

from chromalith.compaction import hinted
from chromalith.errors import Invalid
from chromalith.lambdas.migration import migrate
from chromalith.lambdas.payloads import Compact, check_object, read
from chromalith.lambdas.runs import (
    begun_anywhere,
    compactor_of,
    names_of,
    publish_stock,
    run_all,
    told_of,
    warn_of_merges_left,
)
from chromalith.lambdas.runtime import Invocation, entry
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT


def compact(run: Invocation, payload: Any) -> dict[str, Any]:
    """Do what the event asks for; see ``docs/lambdas.md`` for the shapes."""
    if _is_of_a_queue(payload):
        return consume(run, payload)
    check_object(payload)
    match payload.get("source"):
        case "aws.events" | "aws.scheduler":  # a rule without an input of its own sends the event itself
            return by_hand(run, Compact(source="scheduled"))
        case "migration":
            return migrate(run, payload)
        case "manual" | "scheduled":
            return by_hand(run, read(Compact, payload))
        case source:
            raise Invalid(
                f"unknown source of a compaction source={source!r}",
                hint='send {"source": "manual"}, "scheduled" or "migration", or connect a queue',
            )


def by_hand(run: Invocation, payload: Compact) -> dict[str, Any]:
    """Compact one collection, or all that have deltas."""
    compactor = compactor_of(run)
    if payload.collection is not None:
        cids = [run.kept.store.session.catalog.lookup(payload.tenant, payload.database, payload.collection).collection.id]
    else:
        cids = begun_anywhere(run, compactor.waiting())
    outcomes, failures = run_all(run, compactor, cids)
    publish_stock(run, payload.tenant, payload.database, outcomes)
    names = names_of(run, payload.tenant, payload.database) if outcomes or failures else {}
    return told_of(run, outcomes, failures, names)


def consume(run: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """Hints of a queue: the answer names the messages that shall come again."""
    records = list(SQSEvent(event).records)
    messages = [(record.message_id, record.body) for record in records]
    session = run.kept.store.session
    consumed = hinted.consume(messages, compactor_of(run), session.store, run.clock, time_left=run.time_left)
    for message, reason in consumed.failed.items():
        run.log.warning("a message comes again", extra={"message_id": message, "reason": reason})
    run.log.info("consumed", extra={"done": len(consumed.done), "failed": len(consumed.failed)})
    warn_of_merges_left(run, consumed.outcomes, {})
    publish_stock(run, DEFAULT_TENANT, DEFAULT_DATABASE, consumed.outcomes)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in consumed.failed]}


def _is_of_a_queue(payload: Any) -> bool:
    records = payload.get("Records") if isinstance(payload, Mapping) else None
    return isinstance(records, list) and all(isinstance(each, Mapping) and each.get("eventSource") == "aws:sqs" for each in records)


handler = entry("compactor", compact)
