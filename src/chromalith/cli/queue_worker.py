"""``chromalith compact --from-queue``: a worker that compacts what the queue tells of.

Receive; compact what the messages tell of (:mod:`chromalith.compaction.hinted`); delete those that are done, after that and not before. The
others are given back, and come again a minute later. Any number of workers may run; beside them something has to look on a schedule, for
what no message told of.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from chromalith.aws.queue import WAIT_S_MAX, Message, Queue
from chromalith.cli.compaction import tell
from chromalith.cli.invocation import Invocation
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings, Compactor
from chromalith.compaction.hinted import Consumed, consume
from chromalith.compaction.outcome import Outcome, as_json
from chromalith.errors import ChromalithError, Invalid, Unavailable
from chromalith.model.ids import CollectionId
from chromalith.session import Session
from chromalith.settings import Settings

MESSAGES = 1_000
"""In one batch: a hundred requests to receive them at most, and usually one version for each collection that they tell of."""
VISIBILITY_S = 900.0
"""How long nobody else receives what this worker works on. Where a compaction takes longer, a message is done twice: a LIST more."""
AGAIN_S = 60.0
"""When a message comes again that is not done: with ten deliveries, what stays undone for ten minutes is a dead letter."""
PATIENCE_S = 45.0
"""Waiting for others in one batch: longer than it takes to see that a lease's holder is dead (30 s), and no longer: others wait too."""
ONCE_WAIT_S = 1.0
"""With ``--once``: a long poll, because a short one asks only some of SQS's servers, and may find nothing where there is something."""
PAUSE_S = 5.0


def work(run: Invocation, queue: Queue, *, once: bool, lease_table: str | None) -> None:
    """Consume the queue until it is interrupted; with ``once``, until it gives nothing more."""
    settings = Settings()
    if settings.stock_snapshot and importlib.util.find_spec("chromadb") is None:  # said before anything is compacted
        raise Invalid("stock snapshots need chromadb", hint="pip install 'chromalith[chroma]', or unset CHROMALITH_STOCK_SNAPSHOT")
    with run.session(queue_url="", lease_table=lease_table) as session, run.output.progress("waiting for hints") as advance:

        def progress(step: str, outcome: Outcome) -> None:
            advance(text=f"{outcome.collection}: {step}, version {outcome.version}")

        compactor = session.compactor(
            CompactionSettings(index_threshold=settings.index_threshold), progress=progress, storage_options=run.storage_options
        )
        if not once:
            run.output.say(f"waiting for hints; interrupt to stop queue={queue.url}")
        said = ""
        while True:
            advance(text="waiting for hints")
            try:
                messages = queue.receive(MESSAGES, ONCE_WAIT_S if once else WAIT_S_MAX, VISIBILITY_S)
            except Unavailable as error:
                if once:
                    raise
                if str(error) != said:  # once, not every round for as long as the queue is away
                    said = str(error)
                    run.output.say(f"trying again every {PAUSE_S:g} s: {error}")
                SYSTEM_CLOCK.sleep(PAUSE_S)
                continue
            said = ""
            if messages:
                _batch(run, session, compactor, queue, messages, stock=settings.stock_snapshot)
            elif once:
                return


def _batch(run: Invocation, session: Session, compactor: Compactor, queue: Queue, messages: Sequence[Message], *, stock: bool) -> None:
    receipts = {message.id: message.receipt for message in messages}
    try:
        consumed = consume(
            [(message.id, message.body) for message in messages],
            compactor,
            session.store,
            SYSTEM_CLOCK,
            time_left=lambda: float("inf"),
            patience_s=PATIENCE_S,
        )
    except BaseException:  # interrupted: somebody else may go on at once
        with suppress(ChromalithError):
            queue.give_back(list(receipts.values()))
        raise
    undeleted = _settle(run, queue, consumed, receipts)
    if stock:
        from chromalith.chroma.stock_snapshot import publish_stock_snapshots  # chromadb takes a second to import

        published = [outcome.collection for outcome in consumed.outcomes if outcome.published]
        publish_stock_snapshots(session, run.tenant, run.database, published)
    _tell(run, session, messages, consumed, undeleted)


def _settle(run: Invocation, queue: Queue, consumed: Consumed, receipts: dict[str, str]) -> int:
    """Delete what is done, give back the rest. Returns how many could not be deleted; they come again, and are done at once."""
    undeleted = len(consumed.done)
    try:
        undeleted = queue.delete([receipts[message] for message in consumed.done])
    except Unavailable as error:
        run.output.say(f"the queue could not be told what is done; the messages come again: {error}")
    try:
        queue.give_back([receipts[message] for message in consumed.failed], AGAIN_S)
    except (Invalid, Unavailable) as error:  # a role may lack this permission, and can do without
        run.output.say(f"what is not done comes again in {VISIBILITY_S / 60:.0f} minutes only: {error}")
    return undeleted


def _tell(run: Invocation, session: Session, messages: Sequence[Message], consumed: Consumed, undeleted: int) -> None:
    catalog = session.catalog.databases.peek(run.tenant, run.database)
    names = {CollectionId(cid): name for name, cid in (catalog.collections if catalog else {}).items()}
    outcomes = [as_json(outcome, names.get(outcome.collection)) for outcome in consumed.outcomes]
    found: dict[str, Any] = {
        "messages": len(messages),
        "done": len(consumed.done),
        "undeleted": undeleted,
        "failed": [{"message": message, "reason": reason} for message, reason in consumed.failed.items()],
        "outcomes": outcomes,
    }

    def human() -> None:
        tell(run, outcomes)
        run.output.line(f"{len(consumed.done)} of {len(messages)} messages done")
        for each in found["failed"]:
            run.output.say(f"comes again: {each['message']}: {each['reason']}")

    run.output.data(found, human)
