"""``chromalith migrate scan``, ``checklist`` and ``report``: what shows that a migration is done, and where it is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from chromalith.cli.failures import DIFFERENCES
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import NameOption, StateOption, open_place
from chromalith.cli.output import Output, shown
from chromalith.cost.prices import Prices, packaged_prices, parse_prices
from chromalith.cost.workload import Deployment
from chromalith.errors import Invalid
from chromalith.migrate.evidence.cost import BASELINES, CostFound, compare, workload
from chromalith.migrate.evidence.gather import Evidence, gather
from chromalith.migrate.evidence.infrastructure import look
from chromalith.migrate.evidence.item import Item, Outcome
from chromalith.migrate.evidence.record import SCAN, record, scan_record
from chromalith.migrate.evidence.report import report as report_of
from chromalith.migrate.evidence.steps import checklist as checklist_of
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.scan.finding import Finding, Scanned, Severity
from chromalith.migrate.scan.run import scan as scan_tree
from chromalith.migrate.scan.sarif import sarif as as_sarif

_CODE_CHARS = 60
_SIGNS = {Outcome.MET: "✓ met", Outcome.NOT_MET: "✗ not met", Outcome.NO_EVIDENCE: "? no evidence"}


def declare(group: typer.Typer) -> None:
    """Add the commands to the group ``migrate``."""
    _declare_scan(group)
    _declare_checklist(group)
    _declare_report(group)


def _declare_scan(group: typer.Typer) -> None:
    @command(group, "scan")
    def scan(
        run: Invocation,
        path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder of code, or one file.")],
        sarif: Annotated[
            Path | None, typer.Option("--sarif", metavar="FILE", help="Also write SARIF 2.1.0 there.")
        ] = None,
        allow: Annotated[
            Path | None,
            typer.Option(
                "--allow", metavar="FILE", help="Allowances; else PATH/.chromalith-scan.toml, if there is one."
            ),
        ] = None,
        level: Annotated[
            Severity,
            typer.Option("--level", help="What fails: `warning` (whatever is found), or `error` (only writes)."),
        ] = Severity.WARNING,
        keep: Annotated[bool, typer.Option("--record", help="Keep the result as evidence for the checklist.")] = False,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
    ) -> None:
        r"""Find direct uses of Chroma in code: clients, collections, wrappers, LangChain and LlamaIndex stores. Nothing of it is run.

        Exit code 4: something was found, or a file could not be read.

        \b
        Example:
          chromalith migrate scan src
          chromalith migrate scan . --sarif scan.sarif --record
        """
        place = open_place(run, state, name) if keep else None
        found = scan_tree(path, allow)
        if sarif is not None:
            _write(sarif, json.dumps(as_sarif(found, version("chromalith")), ensure_ascii=False, indent=1) + "\n")
        kept = None if place is None else record(place, SCAN, scan_record(found, path)).key
        shown = {"result": _result(found), **_encoded(found), "recorded": kept}
        run.output.data(shown, lambda: _print_scan(run.output, found))
        if kept is not None:
            run.output.say(f"recorded: {kept}")
        if found.unreadable or found.count(Severity.ERROR) or (level is Severity.WARNING and found.open):
            raise typer.Exit(DIFFERENCES)


_load = partial(typer.Option, rich_help_panel="Cost")
_Writes = Annotated[
    float | None, _load("--writes-per-s", min=0, help="Calls that write; else what the clients counted.")
]
_Reads = Annotated[float | None, _load("--reads-per-s", min=0, help="Calls that read; else what the clients counted.")]
_Records = Annotated[
    float | None, _load("--records", min=0, help="Live records; else as the last comparison found them.")
]
_Rows = Annotated[float, _load("--rows", min=1, help="Records in a call that writes.")]
_Dimension = Annotated[int, _load("--dimension", min=1, help="Of the embeddings.")]
_Paid = Annotated[
    float | None, _load("--paid", min=0, help="What the old system costs a month; else the model's server.")
]
_Baseline = Annotated[
    str | None,
    _load("--baseline", metavar="NAME", help="Of the model's servers: ec2_ebs or ec2_efs; else the cheaper."),
]
_Prices = Annotated[
    Path | None, _load("--prices", metavar="FILE", help="Prices to use, instead of or over the packaged ones.")
]
_StackName = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Also look whether this stack on AWS answers.")
]


def _declare_checklist(group: typer.Typer) -> None:
    @command(group, "checklist")
    def checklist(
        run: Invocation,
        writes: _Writes = None,
        reads: _Reads = None,
        records: _Records = None,
        rows: _Rows = 100.0,
        dimension: _Dimension = 384,
        paid: _Paid = None,
        baseline: _Baseline = None,
        prices: _Prices = None,
        stack: _StackName = None,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
    ) -> None:
        r"""Answer the migration guide's criteria of success, and what each of its phases asks to verify, from evidence alone.

        Exit code 4: not everything is met.

        \b
        Example:
          chromalith migrate checklist
          chromalith migrate checklist --paid 56 --stack prod --json
        """
        load = {"writes_per_s": writes, "reads_per_s": reads, "records": records, "rows": rows, "dimension": dimension}
        found = _evidence(run, open_place(run, state, name), Asked(load, paid, baseline, prices, stack))
        items = checklist_of(found)
        shown = checklist_json(found, items)
        run.output.data(shown, lambda: _print_checklist(run.output, items))
        if any(item.outcome is not Outcome.MET for item in items):
            raise typer.Exit(DIFFERENCES)


def _declare_report(group: typer.Typer) -> None:
    @command(group, "report")
    def report(
        run: Invocation,
        output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write it.")] = Path(
            "migration-report.html"
        ),
        writes: _Writes = None,
        reads: _Reads = None,
        records: _Records = None,
        rows: _Rows = 100.0,
        dimension: _Dimension = 384,
        paid: _Paid = None,
        baseline: _Baseline = None,
        prices: _Prices = None,
        stack: _StackName = None,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
    ) -> None:
        r"""Write the story of a migration as one HTML file: phases, records, agreement, latency, cost, and what is open.

        It needs no network to be read, and names no document, metadata value or secret.

        \b
        Example:
          chromalith migrate report --output migration.html
        """
        load = {"writes_per_s": writes, "reads_per_s": reads, "records": records, "rows": rows, "dimension": dimension}
        found = _evidence(run, open_place(run, state, name), Asked(load, paid, baseline, prices, stack))
        items = checklist_of(found)
        text = report_of(found, items, version("chromalith"))
        _write(output, text)
        shown = {"file": str(output), "bytes": len(text.encode()), **_summary(found, items)}
        run.output.data(shown, lambda: run.output.line(f"written: {output} ({_verdict(items)})"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person said about cost and infrastructure."""

    load: dict[str, float | int | None]
    paid: float | None
    baseline: str | None
    prices: Path | None
    stack: str | None


def _evidence(run: Invocation, place: Place, asked: Asked) -> Evidence:
    found = gather(place)
    if asked.baseline is not None and asked.baseline not in BASELINES:
        raise Invalid(f"no such server name={asked.baseline!r}", hint=f"one of {', '.join(BASELINES)}")
    load, said = workload(found.counted, {name: value for name, value in asked.load.items() if value is not None})
    cost: CostFound | str = said
    if load is not None:
        cost = compare(load, said, Deployment(), _prices(asked.prices), asked.baseline, asked.paid)
    if isinstance(cost, str):
        found = replace(found, cost_missing=cost)
    else:
        found = replace(found, cost=cost)
    return found if asked.stack is None else replace(found, stack=look(asked.stack, run.storage_options))


def _prices(path: Path | None) -> Prices:
    if path is None:
        return packaged_prices()
    try:
        return parse_prices(path.read_text(encoding="utf-8"), packaged_prices())
    except (OSError, UnicodeError) as error:
        raise Invalid(f"the prices can't be read path={str(path)!r}: {error}", hint="name a JSON file") from error


def _summary(found: Evidence, items: Sequence[Item]) -> dict[str, object]:
    counts = {str(outcome): sum(item.outcome is outcome for item in items) for outcome in Outcome}
    return {"name": found.state.name, "phase": str(found.state.phase), "done": counts["met"] == len(items), **counts}


def checklist_json(found: Evidence, items: Sequence[Item]) -> dict[str, object]:
    """The shape of ``chromalith migrate checklist --json`` (docs/cli.md)."""
    return {
        **_summary(found, items),
        "cost": None if found.cost is None else found.cost.as_json(),
        "items": [item.as_json() for item in items],
        "unreadable": list(found.unreadable),
    }


def _verdict(items: Sequence[Item]) -> str:
    counts = {outcome: sum(item.outcome is outcome for item in items) for outcome in Outcome}
    return (
        f"{counts[Outcome.MET]} met, {counts[Outcome.NOT_MET]} not met, {counts[Outcome.NO_EVIDENCE]} without evidence"
    )


def _print_checklist(output: Output, items: Sequence[Item]) -> None:
    phase = None
    for item in items:
        if item.phase != phase:
            output.line(("Phase " + str(item.phase)) if item.phase else "Criteria of success", "bold")
            phase = item.phase
        output.line(f"  {_SIGNS[item.outcome]} {item.title}")
        for said in item.evidence:
            output.line(f"      {said}")
        if item.todo:
            output.line(f"      → {item.todo}")
    output.line(_verdict(items), "bold")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Invalid(
            f"the file can't be written path={str(path)!r}: {reason}", hint="name a file in a folder that is there"
        ) from error


def _result(found: Scanned) -> str:
    if found.is_clean:
        return "clean"
    return "found" if found.open else "incomplete"


def _encoded(found: Scanned) -> dict[str, object]:
    return {
        "root": found.root,
        "files": found.files,
        "notebooks": found.notebooks,
        "lines": found.lines,
        "digest": found.digest,
        "errors": found.count(Severity.ERROR),
        "warnings": found.count(Severity.WARNING),
        "allowed": len(found.findings) - len(found.open),
        "findings": [each.as_json() for each in found.findings],
        "unreadable": [{"file": each.file, "reason": each.reason} for each in found.unreadable],
        "unused_allowances": [{"file": each.file, "line": each.line, "reason": each.reason} for each in found.unused],
    }


def _print_scan(output: Output, found: Scanned) -> None:
    if found.open:
        for each in found.open:
            output.line(_line(each))
        output.line()
    used = {finding.rule: finding.instead for finding in found.open}
    for rule, instead in used.items():
        output.line(f"{rule}: {instead}")
    for unread in found.unreadable:
        output.line(f"not looked at: {unread.file}: {unread.reason}")
    for unused in found.unused:
        output.line(f"allowance: {unused.file}:{unused.line} {unused.reason}")
    allowed = len(found.findings) - len(found.open)
    verdict = {
        "clean": "clean: no direct use of Chroma",
        "found": f"{found.count(Severity.ERROR)} errors, {found.count(Severity.WARNING)} warnings",
        "incomplete": "nothing found, but not everything could be looked at",
    }[_result(found)]
    output.line(
        f"{verdict}; {found.files} files, {found.notebooks} notebooks, {found.lines:,} lines"
        + (f"; {allowed} allowed" if allowed else ""),
        "bold",
    )


def _line(finding: Finding) -> str:
    """One line as compilers write them: a pipeline's log is searched, and an editor follows the place, which a table would break."""
    code = shown(finding.code, _CODE_CHARS)
    return f"{finding.place}: {finding.severity}: {finding.rule} ({finding.confidence}): {code}"
