"""``chromalith snapshot rollback``: an older version's records, current again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from chromalith.cli.deltas import named
from chromalith.cli.invocation import Invocation, command
from chromalith.compaction.restore import Restored, RestorePlan
from chromalith.compaction.unapplied import stored_deltas
from chromalith.errors import Invalid
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.session import Session


def declare(group: typer.Typer) -> None:
    """Add ``rollback`` to a group of commands."""

    @command(group, "rollback")
    def rollback(
        run: Invocation,
        collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")],
        to: Annotated[str, typer.Argument(metavar="VERSION|TAG", help="The version whose records shall be current again.")],
        replay: Annotated[
            bool, typer.Option("--replay", help="Apply what was written since to the restored records. Refuses if any of it is gone.")
        ] = False,
        except_: Annotated[
            list[str] | None,
            typer.Option("--except", metavar="DELTA", help="With --replay: leave this delta out (id, or how it begins); may be repeated."),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be set aside, and change nothing.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ) -> None:
        r"""Make the records of an older version current again, as a new version. Nothing is deleted.

        What was written since and is not folded, or was folded in the last minute, is set aside: `chromalith delta list` shows it, and
        `chromalith delta replay` applies it again. What was folded before that is in the versions between, which stay.

        \b
        Example:
          chromalith snapshot rollback words 11 --dry-run
          chromalith snapshot rollback words before-import --yes
        """
        when = int(to) if to.isdecimal() else to
        with run.session() as session, run.output.progress("restoring"):
            cid = run.find(session, collection).collection.id
            excepted = _deltas(session, cid, except_ or ())
            restorer = session.restorer()
            if not (dry_run or yes):
                _ask(collection, restorer.choose(cid, when, replay=replay, excepted=excepted))
            if dry_run:
                done = Restored(restorer.choose(cid, when, replay=replay, excepted=excepted), None, None, None)
            else:
                done = restorer.run(cid, when, replay=replay, excepted=excepted)
        found = {"result": _result(done, dry_run), "collection": collection, **_described(done, replay=replay)}
        run.output.data(found, lambda: _print(run, found))


def _deltas(session: Session, cid: CollectionId, texts: Sequence[str]) -> list[DeltaId]:
    """Whole ids, also of deltas that have no object left; or the beginnings of stored ones."""
    found: list[DeltaId] = []
    for text in texts:
        try:
            found.append(DeltaId.parse(text))
        except Invalid:
            found += [each.id for each in named(stored_deltas(session.store, cid), [text])]
    return found


def _ask(collection: str, plan: RestorePlan) -> None:
    current, target = plan.current.manifest, plan.target
    if plan.needless:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"a rollback needs a yes collection={collection!r} version={target.version}", hint="add --yes; --dry-run looks first")
    question = f"Restore {collection!r} version {target.version}: {target.live:,} records (now {current.live:,})"
    typer.confirm(f"{question}, and set {len(plan.aside)} deltas aside?", abort=True, err=True)


def _result(done: Restored, dry_run: bool) -> str:
    if done.plan.needless:
        return "already_restored"
    return "would_restore" if dry_run else "restored"


def _described(done: Restored, *, replay: bool) -> dict[str, Any]:
    plan = done.plan
    replayed = done.replayed
    return {
        "from": plan.current.manifest.version,
        "to": plan.target.version,
        "version": done.version,
        "records": plan.target.live,
        "restore": None if done.restore is None else str(done.restore),
        "set_aside": [str(delta.id) for delta in plan.aside],
        "pending": len(plan.pending),
        "gone": sum(map(len, plan.gone)),
        "gone_is_certain": plan.certain,
        "replay": [str(delta) for delta in plan.replayable] if replay else [],
        "replayed": 0 if replayed is None else len(replayed.written),
        "corrupt": [] if replayed is None else [{"delta": str(delta), "reason": reason} for delta, reason in replayed.corrupt],
    }


def _print(run: Invocation, found: dict[str, Any]) -> None:
    output = run.output
    if found["result"] == "already_restored":
        output.line(f"already_restored {found['collection']} version {found['to']}")
        return
    as_ = "" if found["version"] is None else f" as version {found['version']}"
    output.line(f"{found['result']} {found['collection']} version {found['to']}{as_}: {found['records']:,} records")
    verb = "would be set aside" if found["version"] is None else "set aside"
    output.line(f"{len(found['set_aside'])} deltas {verb}, {found['pending']} of them not folded before")
    if found["gone"] or not found["gone_is_certain"]:
        least = "" if found["gone_is_certain"] else "at least "
        output.line(f"{least}{found['gone']:,} deltas folded since have no object left: the versions between have them; no replay")
    if found["replay"]:
        output.line(f"{found['replayed']} replayed" if found["version"] is not None else f"{len(found['replay'])} would be replayed")
    for each in found["corrupt"]:
        output.line(f"not replayed {each['delta']}: {each['reason']}")
    if found["restore"] is not None and not found["replay"]:
        output.say(f"`chromalith delta replay {found['collection']} --all --restore {found['restore']}` applies them again")
