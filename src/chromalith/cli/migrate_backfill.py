"""``chromalith migrate backfill``: what the source held before both sides were live is copied to the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from chromalith.cli.failures import TRY_AGAIN
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import DryRunOption, NameOption, StateOption, workflow_of
from chromalith.cli.output import duration
from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.backfill import WORKERS, Backfill, BackfillOptions, BackfillOutcome
from chromalith.migrate.backfill_meter import BackfillProgress
from chromalith.migrate.backfill_preview import preview
from chromalith.migrate.places import DEFAULT_NAME
from chromalith.migrate.workflow.verbs import Workflow

TELL_S = 10.0
"""How often a line tells the progress where there is no terminal for a bar."""
REJECTS_PRINTED = 20


def declare(group: typer.Typer) -> None:
    """Add ``backfill`` to the group."""

    @command(group, "backfill")
    def backfill(
        run: Invocation,
        rate: Annotated[
            float | None, typer.Option("--rate", metavar="N", help="Records a second at most. Else as fast as it goes.")
        ] = None,
        workers: Annotated[int, typer.Option("--workers", metavar="N", help="Pieces copied side by side.")] = WORKERS,
        max_source_ms: Annotated[
            float | None,
            typer.Option(
                "--max-source-ms",
                metavar="MS",
                help="No read of the source should take longer: reads become smaller, and rests longer.",
            ),
        ] = None,
        pause_file: Annotated[
            Path | None, typer.Option("--pause-file", metavar="PATH", help="While this file exists, nothing is read.")
        ] = None,
        skip_rejects: Annotated[
            bool,
            typer.Option("--skip-rejects", help="Leave out what the target does not take, and keep a list of it."),
        ] = False,
        unordered: Annotated[
            bool, typer.Option("--unordered", help="Don't keep the source's order: faster where a request takes long.")
        ] = False,
        again: Annotated[bool, typer.Option("--again", help="Begin a new copy, whatever was copied before.")] = False,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Copy what the source has to the target while the application runs. Say it again after an interruption: it goes on.

        \b
        Example:
          chromalith migrate backfill --dry-run
          chromalith migrate backfill --rate 2000 --max-source-ms 200
        """
        options = BackfillOptions(
            rate=rate,
            workers=workers,
            max_source_ms=max_source_ms,
            pause_file=pause_file,
            skip_rejects=skip_rejects,
            again=again,
            ordered=False if unordered else None,
        )
        with workflow_of(run, state, name, look=dry_run) as workflow:
            if dry_run:
                _print_plan(run, workflow, again)
                return
            if again or not workflow.states.get().backfill.get("finished"):
                workflow.enter_backfill()
            with run.output.progress("copying") as advance:
                work = Backfill(workflow.place, workflow.sides(), options, tell=_teller(run, advance))
                outcome = work.run()
        _print(run, name, outcome)


def _print_plan(run: Invocation, workflow: Workflow, again: bool) -> None:
    state = workflow.states.get()
    finished = bool(state.backfill.get("finished")) and not again
    steps = [] if finished else [step.text for step in workflow.enter_backfill(dry_run=True).plan.steps]
    rows = [] if finished else preview(workflow.place, workflow.sides(), state, again=again)
    refused = [each.name for each in rows if each.problem is not None and each.records is not None]
    value = {
        "result": "refused" if refused else "planned",
        "name": workflow.place.name,
        "finished": finished,
        "steps": steps,
        "collections": [asdict(each) for each in rows],
    }

    def human() -> None:
        if finished:
            run.output.line("the copy has finished; --again begins a new one")
            return
        for step in steps:
            run.output.line(f"- {step}")
        table = [(each.name, each.records, each.copied, each.target_records, each.problem or "") for each in rows]
        run.output.table(("collection", "records", "copied", "at the target", "problem"), table)
        run.output.line("it would be refused: " + ", ".join(refused) if refused else "nothing was done")

    run.output.data(value, human)
    if refused:
        raise typer.Exit(TRY_AGAIN)


def _print(run: Invocation, name: str, outcome: BackfillOutcome) -> None:
    value = {
        "result": "finished",
        "name": name,
        "run": outcome.run,
        "already": outcome.already,
        "collections": outcome.collections,
        "gone_collections": list(outcome.gone),
        "records": outcome.records,
        **asdict(outcome.counts),
        "evened": asdict(outcome.evened),
        "rejects": [asdict(each) for each in outcome.rejects],
        "seconds": round(outcome.seconds, 3),
    }
    run.output.data(value, lambda: _tell(run, outcome))


def _tell(run: Invocation, outcome: BackfillOutcome) -> None:
    line = run.output.line
    counts = outcome.counts
    if outcome.already:
        line("the copy has finished before; --again begins a new one")
    collections = "collection" if outcome.collections == 1 else "collections"
    line(f"{outcome.collections} {collections}, {outcome.records:,} records in {duration(outcome.seconds)}")
    line(
        f"copied {counts.copied:,}; there already and equal {counts.equal:,}; corrected {counts.fixed:,};"
        f" gone meanwhile {counts.gone:,}; left out {len(outcome.rejects):,}"
    )
    evened = outcome.evened
    if evened.total:
        line(f"removed at the target, because the source does not have them: {evened.deleted:,}")
    for name in outcome.gone:
        line(f"not at the source any more: {name}", "yellow")
    for each in outcome.rejects[:REJECTS_PRINTED]:
        line(f"left out: {each.collection}/{each.id}: {each.reason}", "yellow")
    if len(outcome.rejects) > REJECTS_PRINTED:
        line(f"and {len(outcome.rejects) - REJECTS_PRINTED:,} more; --json prints all", "yellow")


def _teller(run: Invocation, advance: Callable[..., None]) -> Callable[[BackfillProgress], None]:
    """From the copy's progress to a bar on a terminal, and to a line now and then elsewhere."""
    shown: dict[str, Any] = {"done": 0, "told_s": SYSTEM_CLOCK.monotonic_s(), "paused": None}

    def tell(progress: BackfillProgress) -> None:
        text = progress.collection
        if progress.paused is not None:
            text = f"{text}  paused: {progress.paused}".lstrip()
        elif progress.records_per_s:
            text += f"  {progress.records_per_s:,.0f} records/s"
            text += "" if progress.eta_s is None else f", {duration(progress.eta_s)} left"
        advance(progress.done - shown["done"], text, progress.total)
        shown["done"] = progress.done
        now_s = SYSTEM_CLOCK.monotonic_s()
        if now_s - shown["told_s"] >= TELL_S or progress.paused != shown["paused"]:
            shown["told_s"], shown["paused"] = now_s, progress.paused
            run.output.say(f"{progress.done:,} of {progress.total:,} records: {text}" if progress.total else text)

    return tell
