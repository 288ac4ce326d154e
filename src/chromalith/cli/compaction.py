"""``chromalith compact`` and ``status``: folding what writers wrote, and seeing what waits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache as once
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import duration, moment, size
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import Outcome
from chromalith.coord.catalog import Named
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.lease import Sightings
from chromalith.coord.pointer import read_current
from chromalith.errors import Conflict, Invalid, LeaseHeld, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.order import Listed, pending
from chromalith.session import Session
from chromalith.store.cache import Swept
from chromalith.wiring import compact as compact_once

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
    ) -> None:
        r"""Fold the waiting deltas into segments, and merge segments. Any number of compactors may run at once, and share the work.

        \b
        Example:
          chromalith compact
          chromalith compact words --watch --every 10
        """
        if not watch:
            _round(run, collection, None, ignore_lease)
            return
        sightings = Sightings(SYSTEM_CLOCK)  # of all rounds: so that none has to wait to see whether a lease's holder lives
        said = ""
        while True:
            try:
                _round(run, collection, sightings, ignore_lease)
                said = ""
            except (Conflict, LeaseHeld, Unavailable) as error:
                if str(error) != said:  # once, not every round for as long as somebody else is at it
                    said = str(error)
                    run.output.say(f"trying again every {every:g} s: {error}")
            SYSTEM_CLOCK.sleep(every)


def _round(run: Invocation, collection: str | None, sightings: Sightings | None, ignore_lease: bool) -> None:
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
            )
        except NotFound:
            if collection is not None:
                with run.session() as session:
                    run.find(session, collection)  # says what was probably meant
            raise
    if sightings is not None and all(outcome.idle for outcome in outcomes):
        return  # a watcher says nothing when nothing happened
    found = [_described(outcome, names()) for outcome in outcomes]
    run.output.data({"outcomes": found}, lambda: _tell(run, found))


def _described(outcome: Outcome, names: Mapping[CollectionId, str]) -> dict[str, Any]:
    return {
        "result": "compacted" if not outcome.idle
        else "held" if outcome.held_by is not None
        else "waiting" if outcome.waiting
        else "already_compacted",
        "collection": names.get(outcome.collection),
        "id": outcome.collection,
        "version": outcome.version,
        "published": outcome.published,
        "deltas_folded": outcome.folded,
        "operations": outcome.operations,
        "segments_merged": outcome.merged,
        "deltas_swept": outcome.swept,
        "deltas_waiting": outcome.waiting,
        "quarantined": [{"delta": delta, "reason": reason} for delta, reason in outcome.quarantined],
        "bytes_written": outcome.bytes_written,
        "held_by": None if outcome.held_by is None else outcome.held_by.owner,
    }


def _tell(run: Invocation, outcomes: list[dict[str, Any]]) -> None:
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
        if each["deltas_waiting"]:
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
            listed = _deltas(session, named[0].collection.id if collection else None)
            found = []
            for each in named:
                advance(text=each.name)
                try:
                    found.append(_status(session, each, listed.get(each.collection.id, [])))
                except Swept as error:
                    raise Unavailable(f"a sweep overtook the status: {error.message}", hint="ask again") from error
                except NotFound:
                    continue  # deleted meanwhile
            store = session.store.url
        run.output.data({"store": store, "collections": found}, lambda: _print(run, found))


def _deltas(session: Session, only: CollectionId | None) -> dict[CollectionId, list[Listed]]:
    """All deltas by collection: one listing for the whole store, or for one collection."""
    found: dict[CollectionId, list[Listed]] = {}
    for page in session.store.list(layout.DELTA_ROOT if only is None else layout.delta_prefix(only)):
        for entry in page:
            try:
                cid, delta = layout.parse_delta_key(entry.key)
            except Invalid:
                continue  # not ours
            found.setdefault(cid, []).append(Listed(entry.modified_us, delta, entry.size))
    return found


def _status(session: Session, named: Named, listed: list[Listed]) -> dict[str, Any]:
    current = read_current(session.store, named.collection.id)
    manifest = current.manifest
    waiting = pending(listed, Folded(manifest, FoldedParts.from_store(session.store)), {q.delta for q in manifest.quarantined})
    oldest_us = min((each.modified_us for each in waiting), default=None)
    kinds = sorted({segment.index.kind for segment in manifest.segments if segment.index is not None})
    return {
        "name": named.name,
        "id": named.collection.id,
        "dimension": named.collection.dimension,
        "space": named.collection.space,
        "version": manifest.version,
        "published": moment(current.pointer.modified_us),
        "records": manifest.live,
        "segments": len(manifest.segments),
        "segments_indexed": sum(segment.index is not None for segment in manifest.segments),
        "index": kinds[0] if kinds else None,
        "bytes": manifest.bytes,
        "deltas_waiting": len(waiting),
        "deltas_waiting_bytes": sum(each.size for each in waiting),
        "oldest_waiting_s": None
        if oldest_us is None
        else round(max(0.0, (session.clock.now_us() - oldest_us) / 1e6), 1),
        "quarantined": len(manifest.quarantined),
    }


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
