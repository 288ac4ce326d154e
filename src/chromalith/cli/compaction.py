"""``chromalith compact`` and ``status``: folding what writers wrote, and seeing what waits."""

from __future__ import annotations

from functools import cache as once
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.lock import LeaseTableName
from chromalith.cli.output import duration, size
from chromalith.cli.queue import QueueUrl, queue_of
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compacting import compact as compact_once
from chromalith.compaction.outcome import Outcome, as_json
from chromalith.coord.lease import Sightings
from chromalith.doctor.status import deltas_by_collection, status_of
from chromalith.errors import Conflict, Invalid, LeaseHeld, NotFound, Unavailable
from chromalith.model.ids import CollectionId
from chromalith.store.cache import Swept

WATCH_S = 5.0


def declare(app: typer.Typer) -> None:
    """Add ``compact`` and ``status`` to the command line."""
    _declare_compact(app)
    _declare_status(app)


def _declare_compact(app: typer.Typer) -> None:
    @command(app, "compact")
    def compact(
        run: Invocation,
        collection: Annotated[
            str | None, typer.Argument(help="The collection's name; without it, whatever has deltas.")
        ] = None,
        watch: Annotated[bool, typer.Option("--watch", help="Go on until it is stopped.")] = False,
        every: Annotated[
            float,
            typer.Option("--every", min=0.1, metavar="SECONDS", help="With --watch: the time between two rounds."),
        ] = WATCH_S,
        ignore_lease: Annotated[
            bool, typer.Option("--ignore-lease", help="Work beside whoever holds a lease; nothing can be lost by it.")
        ] = False,
        lease_table: LeaseTableName = None,
        from_queue: Annotated[
            bool, typer.Option("--from-queue", help="Compact what messages of the queue tell of, until it is stopped.")
        ] = False,
        queue_url: QueueUrl = None,
        once: Annotated[bool, typer.Option("--once", help="With --from-queue: until the queue gives nothing more.")] = False,
    ) -> None:
        r"""Fold the waiting deltas into segments, and merge segments. Any number of compactors may run at once, and share the work.

        \b
        Example:
          chromalith compact
          chromalith compact words --watch --every 10
          chromalith compact --from-queue
        """
        if from_queue:
            from chromalith.cli.queue_worker import work

            if collection is not None or watch or ignore_lease:
                raise Invalid("--from-queue takes no collection, --watch or --ignore-lease", hint="the messages say what to compact")
            work(run, queue_of(run, queue_url), once=once, lease_table=lease_table)
            return
        if once or queue_url is not None:
            raise Invalid("--once and --queue-url need --from-queue", hint="without it, one round is all there is")
        if not watch:
            _round(run, collection, None, ignore_lease, lease_table)
            return
        sightings = Sightings(SYSTEM_CLOCK)  # of all rounds: so that none has to wait to see whether a lease's holder lives
        said = ""
        while True:
            try:
                _round(run, collection, sightings, ignore_lease, lease_table)
                said = ""
            except (Conflict, LeaseHeld, Unavailable) as error:
                if str(error) != said:  # once, not every round for as long as somebody else is at it
                    said = str(error)
                    run.output.say(f"trying again every {every:g} s: {error}")
            SYSTEM_CLOCK.sleep(every)


def _round(
    run: Invocation, collection: str | None, sightings: Sightings | None, ignore_lease: bool, lease_table: str | None
) -> None:
    """One round; of a watcher, if it has ``sightings``."""

    @once
    def names() -> dict[CollectionId, str]:
        """One request, made only when there is something to tell: a round that finds nothing is one listing of the store."""
        with run.session() as session:
            found = session.catalog.databases.peek(run.tenant, run.database)
            return {CollectionId(cid): name for name, cid in (found.collections if found else {}).items()}

    with run.output.progress("compacting") as advance:

        def progress(step: str, outcome: Outcome) -> None:
            name = names().get(outcome.collection, outcome.collection)
            advance(text=f"{name}: {step}, version {outcome.version}")

        try:
            outcomes = compact_once(
                run.store,
                collection,
                tenant=run.tenant,
                database=run.database,
                storage_options=run.storage_options,
                progress=progress,
                ignore_lease=ignore_lease,
                sightings=sightings,
                lease_table=lease_table,
            )
        except NotFound:
            if collection is not None:
                with run.session() as session:
                    run.find(session, collection)  # says what was probably meant
            raise
    if sightings is not None and all(outcome.idle for outcome in outcomes):
        return  # a watcher says nothing when nothing happened
    found = [as_json(outcome, names().get(outcome.collection)) for outcome in outcomes]
    run.output.data({"outcomes": found}, lambda: tell(run, found))


def tell(run: Invocation, outcomes: list[dict[str, Any]]) -> None:
    """The outcomes, for a person."""
    if not outcomes:
        run.output.say("already_compacted: no collection has deltas")
    for each in outcomes:
        name = each["collection"] or each["id"]
        if each["result"] == "already_compacted":
            run.output.line(f"already_compacted {name} version {each['version']}")
        elif each["result"] == "held":
            run.output.line(f"held {name} version {each['version']}")
        elif each["result"] == "waiting":
            run.output.line(f"waiting {name} version {each['version']}: {each['deltas_waiting']} deltas")
        else:
            run.output.line(
                f"compacted {name} version {each['version']}: {each['deltas_folded']} deltas"
                f" ({each['operations']:,} operations) folded, {each['segments_merged']} segments merged,"
                f" {each['deltas_swept']} folded deltas swept, {size(each['bytes_written'])} written"
            )
        if each["held_by"]:
            run.output.say(f"part of {name} was left to who holds its lease: {each['held_by']}")
        if each["deltas_waiting"] and not each["held_by"]:
            run.output.say(
                f"{each['deltas_waiting']} deltas of {name} are too young to be folded: their store's timestamps settle within"
                " seconds; they are visible to readers meanwhile"
            )
        for delta in each["quarantined"]:
            run.output.say(f"quarantined {delta['delta']}: {delta['reason']}", "bold red")


def _declare_status(app: typer.Typer) -> None:
    @command(app, "status")
    def status(
        run: Invocation,
        collection: Annotated[
            str | None, typer.Argument(help="The collection's name; without it, all of the database.")
        ] = None,
    ) -> None:
        r"""Show each collection's version, records and segments, and the deltas that wait to be folded.

        \b
        Example:
          chromalith status --store ./store
        """
        with run.session() as session, run.output.progress("reading") as advance:
            named = [run.find(session, collection)] if collection else session.catalog.listing(run.tenant, run.database)
            listed = deltas_by_collection(session, named[0].collection.id if collection else None)
            found = []
            for each in named:
                advance(text=each.name)
                try:
                    found.append(status_of(session, each, listed.get(each.collection.id, [])))
                except Swept as error:
                    raise Unavailable(f"a sweep overtook the status: {error.message}", hint="ask again") from error
                except NotFound:
                    continue  # deleted meanwhile
            store = session.store.url
        run.output.data({"store": store, "collections": found}, lambda: _print(run, found))


def _print(run: Invocation, found: list[dict[str, Any]]) -> None:
    if not found:
        run.output.say("no collections yet")
        return
    columns = (
        "collection",
        "version",
        "records",
        "segments",
        "index",
        "size",
        "deltas waiting",
        "oldest",
        "quarantined",
    )
    rows = [
        (
            each["name"], each["version"], each["records"], each["segments"],
            "–" if each["index"] is None else f"{each['index']} {each['segments_indexed']}/{each['segments']}", size(each["bytes"]),
            each["deltas_waiting"], "–" if each["oldest_waiting_s"] is None else duration(each["oldest_waiting_s"]), each["quarantined"],
        )
        for each in found
    ]  # fmt: skip
    run.output.table(columns, rows)
    run.output.say(
        "records are those of the version; deltas that wait are read on top of it until `chromalith compact` folds them"
    )
