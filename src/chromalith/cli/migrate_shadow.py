"""``chromalith migrate shadow``: on how many reads the two sides agree, how long each takes, and the newest reads on which they did not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import DryRunOption, NameOption, StateOption, open_place
from chromalith.cli.output import moment, shown
from chromalith.migrate.mismatches import Mismatches
from chromalith.migrate.places import DEFAULT_NAME
from chromalith.migrate.shadow_report import report
from chromalith.migrate.states import States, change_of

LimitOption = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Show so many of the newest mismatches.")]
VerbOption = Annotated[str | None, typer.Option("--verb", metavar="VERB", help="Only query, get, peek or count.")]
CollectionOption = Annotated[str | None, typer.Option("--collection", metavar="NAME", help="Only this collection.")]
ClearOption = Annotated[
    bool, typer.Option("--clear", help="Remove all stored mismatches, and count from anew in every client.")
]


def declare(group: typer.Typer) -> None:
    """Add ``shadow`` to the group."""

    @command(group, "shadow")
    def shadow(
        run: Invocation,
        limit: LimitOption = 10,
        verb: VerbOption = None,
        collection: CollectionOption = None,
        clear: ClearOption = False,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Show on how many reads the two sides agreed, how long each took, and the newest reads on which they did not.

        \b
        Example:
          chromalith migrate shadow
          chromalith migrate shadow --collection words --limit 50 --json
          chromalith migrate shadow --clear
        """
        place = open_place(run, state, name)
        states = States(place)
        since = states.get().shadow_since
        if not clear:
            found = report(place, since, limit=limit, verb=verb, collection=collection)
            run.output.data(found, lambda: _tell(run, found))
            return
        mismatches = Mismatches(place)
        if dry_run:
            removed, result = mismatches.count(), "planned"
        else:
            change = change_of(place.clock, "shadow --clear", "", "")
            since = states.change(lambda now: now.changed(change, shadow_since=now.epoch + 1)).shadow_since
            removed, result = mismatches.clear(), "cleared"
        value = {"result": result, "name": name, "removed": removed, "since_epoch": since}
        words = "would be removed" if dry_run else "removed; clients count from anew as soon as they see it"
        run.output.data(value, lambda: run.output.line(f"{removed} mismatches {words}"))


def _tell(run: Invocation, found: dict[str, Any]) -> None:
    if not found["judged"] and not found["dropped"]:
        run.output.line(
            "no shadow reads yet; `chromalith migrate ramp --shadow 10` makes some, and clients tell every 10 s"
        )
    else:
        columns = (
            "verb",
            "collection",
            "agree",
            "judged",
            "mismatches",
            "lag",
            "unchecked",
            "errors",
            "timeouts",
            "dropped",
        )
        rows = [_row(each) for each in (*found["by"], {**found, "verb": "all", "collection": ""})]
        run.output.table(columns, rows)
    if (lately := found["lately"])["judged"]:
        run.output.line(f"of the latest {lately['judged']} judged reads of all, {lately['disagreed']} disagreed")
    if found["latency"]:
        run.output.line()
        rows_ = [
            (each["verb"], each["side"], each["of"], each["calls"], *(each[f"p{n}_ms"] for n in (50, 95, 99)))
            for each in found["latency"]
        ]
        run.output.table(("verb", "side", "of", "calls", "p50 ms", "p95 ms", "p99 ms"), rows_)
    if found["timeouts"]:
        run.output.line(
            f"the other side took too long for {found['timeouts']}: a Chromalith store does where many deltas wait;"
            " `chromalith status` counts them, and `chromalith compact --watch` folds them"
        )
    if found["failures"]:
        told = ", ".join(f"{name} {count}" for name, count in sorted(found["failures"].items()))
        run.output.line(f"the other side raised: {told}")
    if found["mismatched_reads"]:
        run.output.line()
        run.output.line(f"{found['kept']} mismatches are kept; the newest:", style="bold")
        for each in found["mismatched_reads"]:
            _tell_one(run, each)


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    agreement = None if each["agreement"] is None else f"{each['agreement']:.2%}"
    numbers = (each[name] for name in ("judged", "mismatches", "lag", "unchecked", "errors", "timeouts", "dropped"))
    return (each["verb"], each["collection"], agreement, *numbers)


def _tell_one(run: Invocation, record: dict[str, Any]) -> None:
    run.output.line(
        f"{moment(record['at_us'])} {record['verb']} of {record['collection']!r}, answered by the {record['side']}"
        if {"at_us", "side"} <= record.keys()
        else f"{record['verb']} of {record['collection']!r}"
    )
    for difference in record.get("differences", []):
        query = "" if difference.get("query") is None else f" (query {difference['query']})"
        run.output.line(f"  {difference.get('what')}{query}: {shown(difference.get('detail'), 160)}")
