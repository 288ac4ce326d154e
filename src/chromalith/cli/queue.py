"""``chromalith queue``: the queue of hints, its dead letters, emptying it, and the way back from the dead-letter queue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.aws.queue import DeadLetters, Depth, Queue, Redrive, queue_named
from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.errors import Invalid, Unavailable
from chromalith.settings import Settings

QueueUrl = Annotated[
    str | None,
    typer.Option("--queue-url", metavar="URL", help="The SQS queue that writers tell compactors by. Else CHROMALITH_QUEUE_URL."),
]


def declare(app: typer.Typer) -> None:
    """Add ``queue`` to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Look at the queue of hints, empty it, redrive it.", rich_markup_mode="rich")
    accept_shared(group, _group)
    _declare_status(group)
    _declare_purge(group)
    _declare_redrive(group)
    app.add_typer(group, name="queue")


def _group() -> None:
    """Look at the queue of hints, empty it, redrive it."""


def queue_of(run: Invocation, url: str | None) -> Queue:
    """The queue that a command works on. Raises ``Invalid`` if none is named."""
    found = queue_named(url or None, run.storage_options, Settings().queue_url)
    if found is None:
        raise Invalid("no queue was named", hint="give --queue-url URL, or set CHROMALITH_QUEUE_URL")
    return found


def _declare_status(group: typer.Typer) -> None:
    @command(group, "status")
    def status(run: Invocation, queue_url: QueueUrl = None) -> None:
        r"""Show how many messages there are, here and in the dead-letter queue. The numbers are SQS's, up to a minute late.

        \b
        Example:
          chromalith queue status
          chromalith queue status --queue-url https://sqs.us-east-1.amazonaws.com/123456789012/chromadb-delta-queue --json
        """
        queue = queue_of(run, queue_url)
        depth, dead = queue.depth(), queue.dead_letters()
        found = {"queue": queue.url, **_counted(depth), "dead_letters": None if dead is None else _dead(run, queue, dead)}
        run.output.data(found, lambda: _tell(run, found))


def _counted(depth: Depth) -> dict[str, int]:
    return {"visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed}


def _dead(run: Invocation, queue: Queue, dead: DeadLetters) -> dict[str, Any]:
    last = None
    try:
        last = queue.last_redrive()
    except (Invalid, Unavailable) as error:  # the numbers are worth more than this
        run.output.say(f"whether there was a redrive could not be asked: {error}")
    return {
        "queue": dead.queue.url,
        **_counted(dead.queue.depth()),
        "receives_max": dead.receives_max,
        "redrive": None if last is None else _redrive(last),
    }


def _redrive(move: Redrive) -> dict[str, Any]:
    return {"state": move.state, "moved": move.moved, "to_move": move.to_move, "reason": move.reason}


def _tell(run: Invocation, found: dict[str, Any]) -> None:
    dead = found["dead_letters"]
    rows = [("queue", found["queue"], found["visible"], found["in_flight"], found["delayed"])]
    if dead is not None:
        rows.append(("dead letters", dead["queue"], dead["visible"], dead["in_flight"], dead["delayed"]))
    run.output.table(("", "url", "visible", "in flight", "delayed"), rows)
    if dead is None:
        run.output.say("it has no dead-letter queue: a message that can't be read comes again until it expires")
    elif dead["redrive"] is not None:
        run.output.say(f"last redrive: {dead['redrive']['state']}, {dead['redrive']['moved']} messages moved")


def _declare_purge(group: typer.Typer) -> None:
    @command(group, "purge")
    def purge(
        run: Invocation,
        queue_url: QueueUrl = None,
        dead_letters: Annotated[bool, typer.Option("--dead-letters", help="The dead-letter queue instead of the queue itself.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Delete the messages; without it they are only counted.")] = False,
    ) -> None:
        r"""Delete all messages of a queue. No data is lost: the deltas are in the store, and the next scheduled compaction finds them.

        \b
        Example:
          chromalith queue purge
          chromalith queue purge --yes
        """
        queue = queue_of(run, queue_url)
        if dead_letters:
            dead = queue.dead_letters()
            if dead is None:
                raise Invalid(f"the queue has no dead-letter queue url={queue.url}", hint="leave out --dead-letters")
            queue = dead.queue
        depth = queue.depth()
        if yes:
            queue.purge()  # also of a queue that seems empty: its numbers lag behind
        found = {"result": "purged" if yes else "would_purge", "queue": queue.url, **_counted(depth)}
        run.output.data(found, lambda: run.output.line(f"{found['result']} {queue.url}: {sum(_counted(depth).values())} messages"))
        if not yes:
            run.output.say("nothing was deleted; --yes deletes. What the messages told of stays in the store, and the schedule compacts it")


def _declare_redrive(group: typer.Typer) -> None:
    @command(group, "redrive")
    def redrive(run: Invocation, queue_url: QueueUrl = None) -> None:
        r"""Move the messages of the dead-letter queue back. What can't be read will go there again; what was not done in time is done.

        \b
        Example:
          chromalith queue redrive
        """
        queue = queue_of(run, queue_url)
        before = queue.last_redrive()
        running = before is not None and before.state == "running"
        move = queue.redrive()
        found = {"result": "already_running" if running else "redriven" if move.state == "completed" else "started", "queue": queue.url}
        found |= _redrive(move)
        run.output.data(found, lambda: run.output.line(f"{found['result']} {queue.url}: {move.moved} messages moved"))
        if move.state == "running":
            run.output.say("SQS moves them in time; `chromalith queue status` shows how far it is")
