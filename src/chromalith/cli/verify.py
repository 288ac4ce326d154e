"""``chromalith verify``: whether what is stored is whole, and the repair of what can be made again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer

from chromalith.cli.failures import CORRUPT
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import Output, shown, size
from chromalith.compaction.findings import Finding, VerifyReport
from chromalith.compaction.repair import Repaired, repair
from chromalith.compaction.verify import examine
from chromalith.coord.catalog import Named
from chromalith.coord.whole import hint_for
from chromalith.errors import Invalid, NotFound
from chromalith.session import Session
from chromalith.settings import Settings

_REQUESTS_AT_ONCE = 16
_FINDINGS_SHOWN_MAX = 50


def declare(app: typer.Typer) -> None:
    """Add ``verify`` to the command line."""

    @command(app, "verify")
    def verify(
        run: Invocation,
        collection: Annotated[
            str | None, typer.Argument(help="The collection's name; without it, all of the database.")
        ] = None,
        deep: Annotated[
            bool, typer.Option("--deep", help="Read and hash every object, and recompute the version from its records.")
        ] = False,
        version: Annotated[
            int | None, typer.Option("--version", min=0, metavar="N", help="With --deep: the version to recompute; else the current one.")
        ] = None,
        repair: Annotated[
            bool,
            typer.Option("--repair", help="Rewrite damaged indexes, id tables and bucket checksums from their records. Implies --deep."),
        ] = False,
    ) -> None:
        r"""Check that every kept version is whole: its chain of manifests, its folded set, its checksums, and its objects.

        Without --deep it reads manifests and listings, and no record. Exit code 5: something does not hold.

        \b
        Example:
          chromalith verify
          chromalith verify words --deep
          chromalith verify words --repair
        """
        if (repair or version is not None) and collection is None:
            raise Invalid(f"{'--repair' if repair else '--version'} needs a collection", hint="chromalith verify COLLECTION")
        if repair and version is not None:
            raise Invalid("--repair repairs the current version", hint="leave out --version")
        with run.session() as session, run.output.progress("verifying") as advance:
            named = [run.find(session, collection)] if collection else session.catalog.listing(run.tenant, run.database)
            found = []
            for each in named:
                try:
                    found.append(_one(session, each, advance, deep=deep, version=version, mend=repair))
                except NotFound:
                    if collection is not None:
                        raise  # else: deleted meanwhile
        run.output.data({"store": session.store.url, "collections": found}, lambda: _print(run.output, found))
        if any(each["result"] == "damaged" for each in found):
            raise typer.Exit(CORRUPT)


def _one(
    session: Session, named: Named, advance: Callable[..., None], *, deep: bool, version: int | None, mend: bool
) -> dict[str, Any]:
    cid = named.collection.id
    before = 0

    def progress(step: str, done: int, total: int) -> None:
        nonlocal before
        advance(by=done - before if done > before else 0, text=f"{named.name}: {step} {done}/{total}", total=total)
        before = done

    if mend:
        repaired = repair(session.store, session.clock, named.collection, Settings().index_threshold, progress=progress)
        return _described(named.name, repaired.after, repaired)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, "chromalith-verify") as pool:
        report = examine(session.store, cid, deep=deep, version=version, pool=pool, progress=progress)
    return _described(named.name, report, None)


def _described(name: str, report: VerifyReport, repaired: Repaired | None) -> dict[str, Any]:
    result = "damaged" if report.findings else "whole"
    if repaired is not None and repaired.published and report.whole == report.version:
        result = "repaired"  # findings that are left are about older versions
    return {
        "result": result,
        "collection": name,
        "id": report.collection,
        "version": report.version,
        "deep": report.deep,
        "records": report.live,
        "segments": report.segments,
        "indexes": report.indexes,
        "versions_checked": len(report.kept),
        "objects": report.objects,
        "bytes": report.bytes,
        "newest_whole_version": report.whole,
        "findings": [_finding(each) for each in report.findings],
        "repaired_in_versions": [] if repaired is None else list(repaired.published),
        "not_repaired": [] if repaired is None else [{"key": each.key, "reason": reason} for each, reason in repaired.failed],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "invariant": finding.invariant,
        "message": finding.message,
        "key": finding.key,
        "versions": list(finding.versions),
        "repairable": finding.cure is not None,
    }


def _print(output: Output, found: list[dict[str, Any]]) -> None:
    if not found:
        output.say("no collections yet")
    for each in found:
        depth = "every object read and hashed" if each["deep"] else "manifests and listings; --deep reads everything"
        output.line(
            f"{each['result']} {shown(each['collection'])} version {each['version']}: {each['records']:,} records,"
            f" {each['versions_checked']:,} versions, {each['objects']:,} objects, {size(each['bytes'])} ({depth})",
            "bold red" if each["result"] == "damaged" else None,
        )
        for finding in each["findings"][:_FINDINGS_SHOWN_MAX]:
            repairable = " (repairable)" if finding["repairable"] else ""
            output.line(f"  {finding['invariant']}: {shown(finding['message'])}{_which(finding['versions'])}{repairable}")
        if len(each["findings"]) > _FINDINGS_SHOWN_MAX:
            output.say(f"{len(each['findings']) - _FINDINGS_SHOWN_MAX} more; --json shows all")
        _advise(output, each)


def _which(versions: list[int]) -> str:
    if len(versions) < 2:
        return f" [version {versions[0]}]" if versions else ""
    return f" [versions {versions[0]} to {versions[-1]}]"


def _advise(output: Output, each: dict[str, Any]) -> None:
    """What to do about what was found."""
    name, version = shown(each["collection"]), each["version"]
    if each["repaired_in_versions"]:
        output.say(f"repaired in version {each['repaired_in_versions'][-1]}; older versions keep the damaged objects until they are swept")
    for failed in each["not_repaired"]:
        output.say(f"not repaired {failed['key']}: {shown(failed['reason'])}", "bold red")
    now = [finding for finding in each["findings"] if version in finding["versions"] or not finding["versions"]]
    if any(finding["repairable"] for finding in now):
        output.say(f"hint: `chromalith verify {name} --repair` writes what is repairable again from the records")
    if not each["deep"] and each["findings"]:
        output.say(f"hint: `chromalith verify {name} --deep` reads everything, and may find more")
    for finding in now:
        if not finding["repairable"]:
            output.say(f"hint: {hint_for(finding['key'] or '', each['newest_whole_version'], name)}")
            break
