"""``chromalith sweep``: what no kept version names is shown, and deleted if that was asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import shown, size
from chromalith.compaction.garbage import Garbage, totals
from chromalith.compaction.sweep import SweepOutcome
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.sweeping import sweep as sweep_store

_UNITS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")


def declare(app: typer.Typer) -> None:
    """Add ``sweep`` to the command line."""

    @command(app, "sweep")
    def sweep(
        run: Invocation,
        collection: Annotated[
            str | None,
            typer.Argument(help="The collection's name; without it, the whole store, and what belongs to no collection."),
        ] = None,
        keep_versions: Annotated[
            int | None, typer.Option("--keep-versions", min=1, metavar="N", help="Keep the newest N versions; 10.")
        ] = None,
        keep_age: Annotated[
            str | None,
            typer.Option("--keep-age", metavar="AGE", help="Keep every state of this last time: 90s, 30min, 24h, 7d; 24h."),
        ] = None,
        delete: Annotated[bool, typer.Option("--delete", help="Delete it. Without this, nothing is changed.")] = False,
        keys: Annotated[bool, typer.Option("--keys", help="Show each object, not only how many.")] = False,
    ) -> None:
        r"""Show what no kept version needs any more, and why; with --delete, delete it. Versions with a tag are kept.

        \b
        Example:
          chromalith sweep
          chromalith sweep words --keep-versions 3 --keep-age 1h --delete
        """
        keep_age_s = None if keep_age is None else seconds(keep_age)
        with run.output.progress("sweeping") as advance:

            def progress(step: str, done: int, total: int) -> None:
                advance(by=1, text={"read": "reading manifests", "delete": "deleting"}[step], total=None)

            try:
                outcomes = sweep_store(
                    run.store,
                    collection,
                    keep_versions=keep_versions,
                    keep_age_s=keep_age_s,
                    delete=delete,
                    tenant=run.tenant,
                    database=run.database,
                    storage_options=run.storage_options,
                    progress=progress,
                )
            except NotFound:
                if collection is not None:
                    with run.session() as session:
                        run.find(session, collection)  # says what was probably meant
                raise
        found = _described(outcomes, _names(run, outcomes), delete=delete, keys=keys)
        run.output.data(found, lambda: _tell(run, found, keys=keys))


def seconds(text: str) -> float:
    """A length of time such as ``24h``, in seconds. Raises ``Invalid``."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None or (match[2] or "s") not in _UNITS:
        raise Invalid(f"not a length of time keep_age={text!r}", hint="write 90s, 30min, 24h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _names(run: Invocation, outcomes: Sequence[SweepOutcome]) -> Mapping[CollectionId, str]:
    """The names of collections in this database: one request, if there is anything to name."""
    if all(outcome.collection is None for outcome in outcomes):
        return {}
    with run.session() as session:
        found = session.catalog.databases.peek(run.tenant, run.database)
        return {CollectionId(cid): name for name, cid in (found.collections if found else {}).items()}


def _described(
    outcomes: Sequence[SweepOutcome], names: Mapping[CollectionId, str], *, delete: bool, keys: bool
) -> dict[str, Any]:
    every = [each for outcome in outcomes for each in outcome.garbage]
    result = "already_swept" if not every else "would_sweep"
    if every and delete:
        result = "swept" if any(outcome.deleted and outcome.garbage for outcome in outcomes) else "marked"
    return {
        "result": result,
        "objects": len(every),
        "bytes": sum(each.size for each in every),
        "reasons": _reasons(every),
        "outcomes": [_outcome(outcome, names, keys=keys) for outcome in outcomes if outcome.collection or outcome.garbage],
        "skipped": [text for outcome in outcomes for text in outcome.skipped],
    }


def _outcome(outcome: SweepOutcome, names: Mapping[CollectionId, str], *, keys: bool) -> dict[str, Any]:
    cid = outcome.collection
    return {
        "collection": None if cid is None else names.get(cid),
        "id": cid,
        "version": outcome.version,
        "published": outcome.published,
        "boundary": outcome.boundary,
        "horizon": outcome.horizon,
        "versions_kept": outcome.versions,
        "deleted": outcome.deleted and bool(outcome.garbage),
        "objects": len(outcome.garbage),
        "bytes": sum(each.size for each in outcome.garbage),
        "reasons": _reasons(outcome.garbage),
        **({"keys": [{"key": g.key, "bytes": g.size, "reason": str(g.reason)} for g in outcome.garbage]} if keys else {}),
    }


def _reasons(garbage: Sequence[Garbage]) -> list[dict[str, Any]]:
    return [
        {"reason": str(reason), "objects": objects, "bytes": count} for reason, (objects, count) in totals(garbage).items()
    ]


def _tell(run: Invocation, found: dict[str, Any], *, keys: bool) -> None:
    for text in found["skipped"]:
        run.output.say(f"skipped {shown(text)}")
    if not found["objects"]:
        run.output.line("already_swept: nothing to delete")
        return
    if keys:
        for each in found["outcomes"]:
            for item in each["keys"]:
                run.output.line(f"{item['reason']:<20} {size(item['bytes']):>8}  {shown(item['key'])}")
    else:
        rows = [
            (
                shown(each["collection"] or each["id"] or "the store"), "–" if each["version"] is None else each["version"],
                each["versions_kept"], reason["reason"], reason["objects"], size(reason["bytes"]),
            )
            for each in found["outcomes"]
            for reason in each["reasons"]
        ]  # fmt: skip
        run.output.table(("collection", "version", "versions kept", "reason", "objects", "size"), rows)
    by_reason = Counter({reason["reason"]: reason["objects"] for reason in found["reasons"]})
    counted = ", ".join(f"{objects:,} {reason}" for reason, objects in by_reason.items())
    verb = {"swept": "deleted", "marked": "marked", "would_sweep": "would delete"}[found["result"]]
    run.output.line(f"{verb} {found['objects']:,} objects, {size(found['bytes'])}: {counted}")
    later = sum(each["objects"] for each in found["outcomes"] if not each["deleted"])
    if found["result"] == "would_sweep":
        run.output.say("nothing was changed; add --delete to delete")
    elif later:
        run.output.say(f"{later:,} of them are of collections without a name: marked now, deleted in a day")
