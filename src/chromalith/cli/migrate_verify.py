"""``chromalith migrate verify``: are the two sides equal? It parses and prints; the rest is :mod:`chromalith.migrate.diff`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.cli.failures import DIFFERENCES, TRY_AGAIN
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import DryRunOption, ForceOption, NameOption, StateOption, workflow_of
from chromalith.cli.migrate_print import print_gates
from chromalith.migrate.diff import Options, Verifier
from chromalith.migrate.diff_report import CollectionReport, VerifyReport
from chromalith.migrate.journal import Journal
from chromalith.migrate.places import DEFAULT_NAME
from chromalith.migrate.workflow.plan import Plan


def declare(group: typer.Typer) -> None:
    """Add ``verify`` to the group."""

    @command(group, "verify")
    def verify(
        run: Invocation,
        repair: Annotated[
            bool, typer.Option("--repair", help="Write what differs from the side that counts, and compare it again.")
        ] = False,
        order: Annotated[
            bool, typer.Option("--order", help="Compare the order of insertion, too; with --repair, restore it.")
        ] = False,
        deep: Annotated[
            bool, typer.Option("--deep", help="Read all records, also where checksums alone show that they are equal.")
        ] = False,
        again: Annotated[
            bool, typer.Option("--again", help="Begin anew, instead of going on where an interrupted run ended.")
        ] = False,
        collection: Annotated[
            list[str] | None, typer.Option("--collection", metavar="NAME", help="Only this one; may be repeated.")
        ] = None,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Compare both sides completely: counts, checksums, and record by record what differs. Ends with 4 if something does.

        \b
        Example:
          chromalith migrate verify
          chromalith migrate verify --repair --collection words
        """
        options = Options(tuple(dict.fromkeys(collection)) if collection else None, deep, repair, order, again)
        with workflow_of(run, state, name) as workflow:
            if dry_run:
                _print_plan(run, workflow.enter_verify(force=force or (), dry_run=True).plan, options)
                return
            workflow.enter_verify(force=force or ())
            sides, journal = workflow.sides(), Journal(workflow.place, client="chromalith migrate verify")
            try:
                with run.output.progress("comparing") as advance:
                    report = Verifier(workflow.place, sides, journal).run(options, progress=_progress(advance))
            finally:
                journal.stop()
        value = {"result": "clean" if report.clean else "different", "name": name, **report.encode()}
        run.output.data(value, lambda: _print(run, report, options))
        if not report.clean:
            raise typer.Exit(DIFFERENCES)


def _print_plan(run: Invocation, plan: Plan, options: Options) -> None:
    steps = [step.text for step in plan.steps] + _steps(options)
    value = {
        "result": "refused" if plan.refused else "planned",
        "steps": steps,
        "gates": [each.encode() for each in plan.gates],
    }

    def human() -> None:
        print_gates(run, plan.gates)
        for step in steps:
            run.output.line(f"- {step}")
        if plan.refused:
            run.output.line("it would be refused: " + ", ".join(gate.name for gate in plan.refused), style="bold")

    run.output.data(value, human)
    if plan.refused:
        raise typer.Exit(TRY_AGAIN)


def _steps(options: Options) -> list[str]:
    which = "all collections" if options.collections is None else ", ".join(options.collections)
    steps = [f"compare {which}: counts, checksums by bucket, and the records of buckets that differ"]
    if options.deep:
        steps.append("read all records, whatever the checksums say")
    if options.order:
        steps.append("compare the order of insertion")
    if options.repair:
        steps.append("write what differs from the side that counts, and compare it again")
    return [*steps, "note the result in the migration's state"]


def _progress(advance: Any) -> Any:
    done_before = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal done_before
        advance(done - done_before, total=total)
        done_before = done

    return progress


def _print(run: Invocation, report: VerifyReport, asked: Options) -> None:
    for each in report.collections:
        _print_collection(run, each)
    in_flight = sum(len(each.in_flight) for each in report.collections)
    if report.clean:
        run.output.line(
            f"the sides are equal{', but for what waits in the journal' if in_flight else ''}:"
            f" {report.total('matching'):,} records in {len(report.collections)} collections"
        )
    else:
        counts = ", ".join(f"{report.total(what):,} {what}" for what in ("missing", "extra", "different"))
        run.output.line(f"the sides differ: {counts}; {report.total('matching'):,} records match")
        _hint(run, report, asked)
    if in_flight:
        run.output.say(
            f"{in_flight:,} records are being written now, and wait in the journal: `chromalith migrate reconcile`"
        )


def _hint(run: Invocation, report: VerifyReport, asked: Options) -> None:
    if asked.repair:  # what is left has its reasons
        return
    if any(report.total(what) for what in ("missing", "extra", "different")) or any(
        each.definition for each in report.collections
    ):
        run.output.say("hint: `chromalith migrate verify --repair` writes what differs from the side that counts")
    else:
        run.output.say("hint: `chromalith migrate verify --order --repair` restores the order, when no client is live")


def _print_collection(run: Invocation, each: CollectionReport) -> None:
    if each.clean and not each.repaired:
        how = ", by checksum alone" if each.unread else ""
        run.output.line(f"{each.name}: {each.matching:,} records equal{how}")
        return
    run.output.line(
        f"{each.name}: source {_count(each.source_records)}, target {_count(each.target_records)} records;"
        f" {each.count('missing'):,} missing, {each.count('extra'):,} extra, {each.count('different'):,} different,"
        f" {each.repaired:,} repaired"
    )
    if each.definition:
        run.output.line(f"  of the collection itself: {', '.join(each.definition)}")
    if each.out_of_place:
        run.output.line(f"  {each.out_of_place:,} records in another order")
    encoded = each.encode()
    for kind, some in encoded["samples"].items():
        for sample in some:
            text = f"{sample['id']} ({', '.join(sample['fields'])})" if isinstance(sample, dict) else sample
            run.output.line(f"  {kind}: {text}")
    for reason in each.reasons:
        run.output.line(f"  not repaired: {reason}")


def _count(records: int | None) -> str:
    return "no collection, 0" if records is None else f"{records:,}"
