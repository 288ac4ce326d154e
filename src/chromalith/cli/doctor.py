"""``chromalith doctor``: what is wrong with a store, its collections and this machine, and what to do about it."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from chromalith.cli.failures import CORRUPT, DIFFERENCES
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import Output, shown
from chromalith.doctor.codes import Severity
from chromalith.doctor.examine import Report, examine
from chromalith.doctor.finding import Verdict
from chromalith.settings import Settings

_STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}
_EXITS = {Verdict.ATTENTION: DIFFERENCES, Verdict.ILL: CORRUPT}


def declare(app: typer.Typer) -> None:
    """Add ``doctor`` to the command line."""

    @command(app, "doctor")
    def doctor(
        run: Invocation,
        collection: Annotated[
            str | None, typer.Argument(help="The collection's name; without it, all of the store.")
        ] = None,
        read_only: Annotated[bool, typer.Option("--read-only", help="Leave out the probe, which writes under probe/.")] = False,
    ) -> None:
        r"""Probe the store, its bucket, this machine's cache and libraries, and look through collections for what is wrong.

        Writes only under probe/, and removes it again. Exit code 4: a warning, 5: an error; 0: at most information.

        \b
        Example:
          chromalith doctor
          chromalith doctor words --read-only
        """
        settings = Settings()
        with run.session() as session, run.output.progress("examining") as advance:
            report = examine(
                session.store,
                session.clock,
                cache_dir=settings.cache_dir,
                cache_bytes_max=settings.cache_bytes_max,
                only=run.find(session, collection) if collection else None,
                home=(run.tenant, run.database),
                storage_options=run.storage_options,
                writes=not read_only,
                leases=session.leases(storage_options=run.storage_options),
                progress=lambda what: advance(text=what),
            )
        run.output.data(_described(report), lambda: _print(run.output, report))
        if report.verdict in _EXITS:
            raise typer.Exit(_EXITS[report.verdict])


def _described(report: Report) -> dict[str, object]:
    return {
        "verdict": str(report.verdict),
        "store": report.store,
        "collections": report.collections,
        "checks_made": report.checks,
        "probed": report.wrote,
        "settle_s": report.settle_s,
        "clock_skew_s": report.skew_s,
        "findings": [finding.as_json() for finding in report.findings],
    }


def _print(output: Output, report: Report) -> None:
    for group, findings in groupby(report.findings, key=lambda finding: finding.group):
        output.line(group, "bold")
        for each in findings:
            about = "" if each.collection is None else f"{shown(each.collection)}: "
            output.line(f"  {each.severity:<8} {each.code}", _STYLES[each.severity])
            output.line(f"           {about}{shown(each.message)}")
            output.line(f"           → {shown(each.remedy)}", "cyan")
        output.line()
    counts = [(severity, sum(each.severity is severity for each in report.findings)) for severity in reversed(Severity)]
    told = ", ".join(f"{count} {severity}" for severity, count in counts if count) or "nothing to report"
    said = str(report.verdict).replace("_", " ")
    output.line(f"{said}: {told}; {report.checks} checks, {report.collections} collections, {report.store}")
    if report.wrote:
        output.say("only the probe wrote, under probe/, and removed it again")
