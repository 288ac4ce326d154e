"""``chromalith delta``: deltas that are stored and not in the records, and what can be done with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from chromalith.cli.failures import CORRUPT
from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.output import moment, shown, size
from chromalith.compaction.unapplied import (
    Replayed,
    Status,
    StoredDelta,
    by_restore,
    drop,
    read_delta,
    release,
    replay_aside,
    stored_deltas,
)
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model.metadata import decode_metadata
from chromalith.model.operation import Operations

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]
Deltas = Annotated[
    list[str] | None, typer.Argument(metavar="[DELTA]...", help="Their ids; the beginning of one is enough where it is unique.")
]
Restore = Annotated[
    str | None, typer.Option("--restore", metavar="RESTORE", help="Only what this restore set aside; the beginning of its name is enough.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]


def declare(app: typer.Typer) -> None:
    """Add ``delta`` to the command line."""
    group = typer.Typer(
        no_args_is_help=True, help="List, show, verify, replay and drop deltas that are not folded.", rich_markup_mode="rich"
    )
    accept_shared(group, _group)
    _declare_list(group)
    _declare_show(group)
    _declare_verify(group)
    _declare_replay(group)
    _declare_drop(group)
    app.add_typer(group, name="delta")


def _group() -> None:
    """List, show, verify, replay and drop deltas that are not folded."""


def _declare_list(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(
        run: Invocation,
        collection: Name,
        status: Annotated[Status | None, typer.Option("--status", help="Only these.")] = None,
        limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    ) -> None:
        r"""List the deltas that wait for a fold, the quarantined ones with the reason, and those that restores set aside.

        Folded ones, which the compactor is about to delete, are listed with --status folded.

        \b
        Example:
          chromalith delta list words
          chromalith delta list words --status set_aside --json
        """
        with run.session() as session, run.output.progress("listing"):
            stored = stored_deltas(session.store, run.find(session, collection).collection.id)
        chosen = [each for each in stored if (each.status is status if status else each.status is not Status.FOLDED)]
        found = [_described(each) for each in chosen[:limit]]

        def human() -> None:
            if not found:
                run.output.say("no such deltas")
                return
            rows = [
                (
                    d["delta"],
                    d["status"] + (", replayed" if d["replayed"] else ""),
                    size(d["bytes"]),
                    d["written"],
                    shown(d["reason"] or d["restore"]),
                )
                for d in found
            ]
            run.output.table(("delta", "status", "size", "written", "reason, or restore"), rows)
            if len(chosen) > len(found):
                run.output.say(f"{len(chosen) - len(found)} more are not shown; --limit shows more")

        run.output.data({"collection": collection, "deltas": found, "total": len(chosen)}, human)


def _declare_show(group: typer.Typer) -> None:
    @command(group, "show")
    def show(
        run: Invocation,
        collection: Name,
        delta: Annotated[str, typer.Argument(metavar="DELTA", help="Its id, or the beginning of it.")],
        limit: Annotated[int, typer.Option("--limit", min=0, help="How many operations at most.")] = 20,
        embeddings: Annotated[bool, typer.Option("--embeddings", help="Show the embeddings, too.")] = False,
    ) -> None:
        r"""Show the operations of one delta: one call by one writer.

        \b
        Example:
          chromalith delta show words 0660f1
        """
        with run.session() as session:
            cid = run.find(session, collection).collection.id
            chosen = named(stored_deltas(session.store, cid), [delta])[0]
            operations = read_delta(session.store, cid, chosen).operations
        listed = [] if operations is None else _operations(operations, limit, embeddings=embeddings)
        found = {
            "collection": collection,
            **_described(chosen),
            "operations": 0 if operations is None else len(operations),
            "void": operations is None,
            "shown": listed,
        }

        def human() -> None:
            for key, value in found.items():
                if key != "shown":
                    run.output.line(f"{key:<12} {shown(value)}")
            for each in listed:
                run.output.line(f"{each['op']} {shown(each['id'])}", "bold")
                for key in ("document", "uri", "metadata", "embedding"):
                    if each[key] is not None:
                        run.output.line(f"    {key}: {shown(each[key], 100)}")
            if found["operations"] > len(listed):
                run.output.say(f"{found['operations'] - len(listed)} more; --limit shows more")

        run.output.data(found, human)


def _declare_verify(group: typer.Typer) -> None:
    @command(group, "verify")
    def verify(run: Invocation, collection: Name, deltas: Deltas = None) -> None:
        r"""Read deltas again, and check their bytes: those named, or all that are not folded. Ends with 5 if one is damaged.

        \b
        Example:
          chromalith delta verify words
        """
        with run.session() as session, run.output.progress("reading") as advance:
            cid = run.find(session, collection).collection.id
            stored = stored_deltas(session.store, cid)
            chosen = named(stored, deltas) if deltas else [each for each in stored if each.status is not Status.FOLDED]
            advance(total=len(chosen))
            found = []
            for each in chosen:
                reason: str | None = None
                try:
                    read_delta(session.store, cid, each)
                except Corrupt as error:
                    reason = error.message
                except NotFound:
                    if each.status is Status.WAITING:
                        continue  # folded and swept meanwhile
                    reason = "its object is gone"
                found.append({"delta": str(each.id), "status": str(each.status), "whole": reason is None, "reason": reason})
                advance(by=1)
        corrupt = [each for each in found if not each["whole"]]

        def human() -> None:
            for each in corrupt:
                run.output.line(f"{each['delta']} {each['status']}: {shown(each['reason'])}")
            run.output.line(f"{len(found) - len(corrupt)} whole, {len(corrupt)} damaged")

        run.output.data({"collection": collection, "deltas": found, "damaged": len(corrupt)}, human)
        if corrupt:
            raise typer.Exit(CORRUPT)


def _declare_replay(group: typer.Typer) -> None:
    @command(group, "replay")
    def replay(
        run: Invocation,
        collection: Name,
        deltas: Deltas = None,
        all_: Annotated[bool, typer.Option("--all", help="All that are set aside, but those that were replayed already.")] = False,
        restore: Restore = None,
        dry_run: DryRun = False,
    ) -> None:
        r"""Apply deltas that a restore set aside, as new deltas in their order; and let quarantined ones be folded that are whole by now.

        Replaying one again changes nothing.

        \b
        Example:
          chromalith delta replay words --all
          chromalith delta replay words 0660f1
        """
        with run.session() as session, run.output.progress("replaying"):
            cid = run.find(session, collection).collection.id
            chosen = _chosen(stored_deltas(session.store, cid), deltas, all_=all_, restore=restore)
            new = [each.aside for each in chosen if each.aside is not None and not each.replayed]
            quarantined = [each for each in chosen if each.status is Status.QUARANTINED]
            done, freed = Replayed(), Replayed()
            if not dry_run:
                freed = release(session.store, session.clock, cid, quarantined)
                done = replay_aside(session.store, cid, new, session.writer.put)
        found = {
            "result": "would_replay" if dry_run else "replayed" if done.written or freed.released else "already_replayed",
            "collection": collection,
            "deltas": [str(each.id) for each in (new if dry_run else ())] + [str(delta) for delta in done.written],
            "released": [str(each.id) for each in quarantined] if dry_run else [str(delta) for delta in freed.released],
            "already": sum(each.replayed for each in chosen) + len(freed.already),
            "void": len(done.void),
            "corrupt": [{"delta": str(delta), "reason": reason} for delta, reason in (*done.corrupt, *freed.corrupt)],
        }
        run.output.data(found, lambda: _print_replay(run, found))
        if found["corrupt"]:
            raise typer.Exit(CORRUPT)


def _declare_drop(group: typer.Typer) -> None:
    @command(group, "drop")
    def drop_(
        run: Invocation,
        collection: Name,
        deltas: Deltas = None,
        restore: Restore = None,
        dry_run: DryRun = False,
        yes: Yes = False,
    ) -> None:
        r"""Give up quarantined deltas, or all that one restore set aside, for good. The sweep then deletes them.

        \b
        Example:
          chromalith delta drop words --restore 0000000000000012-6f… --yes
          chromalith delta drop words 0660f1 --yes
        """
        if bool(deltas) == (restore is not None):
            raise Invalid("what is to be dropped was not said, or twice", hint="name quarantined deltas, or one --restore")
        with run.session() as session:
            cid = run.find(session, collection).collection.id
            stored = stored_deltas(session.store, cid)
            chosen = _of_restore(stored, restore) if restore is not None else named(stored, deltas or [], Status.QUARANTINED)
            names, version = [str(each.id) for each in chosen], None
            if not dry_run:
                if not yes:
                    _ask(len(names), sum(each.replayed for each in chosen))
                restores = {each.aside.restore for each in chosen if each.aside is not None}
                ids = [each.id for each in chosen if each.aside is None]
                version = drop(session.store, session.clock, cid, restores=restores, quarantined=ids).version
        found = {
            "result": "would_drop" if dry_run else "dropped",
            "collection": collection,
            "deltas": names,
            "version": version,
        }
        run.output.data(found, lambda: run.output.line(f"{found['result']} {len(names)} deltas of {collection}"))


# -- choosing ----------------------------------------------------------------------------------------------------------


def named(stored: Sequence[StoredDelta], texts: Sequence[str], *statuses: Status) -> list[StoredDelta]:
    """The deltas that begin with ``texts``, in the order of ``stored``. Raises ``NotFound``, ``Invalid`` (not unique)."""
    chosen: set[str] = set()
    for text in texts:
        found = {str(each.id) for each in stored if str(each.id).startswith(text) and (not statuses or each.status in statuses)}
        if not found:
            kind = f" that is {' or '.join(statuses)}" if statuses else ""
            raise NotFound(f"no such delta{kind} delta={text}", hint="see `chromalith delta list`")
        if len(found) > 1:
            raise Invalid(f"several deltas begin with this delta={text} deltas={len(found)}", hint="write more of the id")
        chosen |= found
    latest = {str(each.id): each for each in stored if str(each.id) in chosen and (not statuses or each.status in statuses)}
    return list(latest.values())


def _of_restore(stored: Sequence[StoredDelta], restore: str) -> list[StoredDelta]:
    found = [deltas for job, deltas in by_restore(stored).items() if str(job).startswith(restore)]
    if not found:
        raise NotFound(f"no restore of this name set anything aside restore={restore}", hint="see `chromalith delta list`")
    if len(found) > 1:
        raise Invalid(f"several restores begin with this restore={restore}", hint="write more of its name")
    return found[0]


def _chosen(stored: Sequence[StoredDelta], deltas: list[str] | None, *, all_: bool, restore: str | None) -> list[StoredDelta]:
    """What to replay. One delta may have been set aside by several restores: the latest counts, unless one is named."""
    if bool(deltas) == all_:
        raise Invalid("what is to be replayed was not said, or twice", hint="name deltas, or say --all")
    aside = [each for each in stored if each.status is Status.ASIDE]
    of = aside if restore is None else _of_restore(stored, restore)
    if deltas:
        quarantined = [each for each in stored if each.status is Status.QUARANTINED] if restore is None else []
        return named([*quarantined, *of], deltas)
    latest = {each.id: each for each in of}
    return [each for each in of if latest[each.id] is each]


def _ask(deltas: int, replayed: int) -> None:
    if not sys.stdin.isatty():
        raise Invalid(f"dropping needs a yes deltas={deltas}", hint="add --yes, or look first with --dry-run")
    typer.confirm(f"Give up {deltas} deltas for good ({replayed} of them replayed)?", abort=True, err=True)


# -- showing -----------------------------------------------------------------------------------------------------------


def _described(delta: StoredDelta) -> dict[str, Any]:
    return {
        "delta": str(delta.id),
        "status": str(delta.status),
        "bytes": delta.size,
        "written": moment(delta.modified_us),
        "writer": delta.id.writer,
        "reason": delta.reason,
        "restore": None if delta.aside is None else str(delta.aside.restore),
        "replayed": delta.replayed,
        "key": delta.key,
    }


def _operations(operations: Operations, limit: int, *, embeddings: bool) -> list[dict[str, Any]]:
    def embedding(row: int) -> list[float] | None:
        if operations.embeddings is None or not embeddings or not operations.has_embedding[row]:
            return None
        values: list[float] = operations.embeddings[row].tolist()
        return values

    return [
        {
            "op": operations.ops[row].label,
            "id": operations.ids[row],
            "document": operations.documents[row],
            "uri": operations.uris[row],
            "metadata": decode_metadata(operations.metadata[row]),
            "embedding": embedding(row),
        }
        for row in range(min(limit, len(operations)))
    ]


def _print_replay(run: Invocation, found: dict[str, Any]) -> None:
    what = f"{len(found['deltas'])} set-aside deltas, {len(found['released'])} quarantined ones"
    run.output.line(f"{found['result']} {found['collection']}: {what}")
    if found["already"]:
        run.output.say(f"{found['already']} had been replayed already")
    for each in found["corrupt"]:
        run.output.line(f"damaged {each['delta']}: {shown(each['reason'])}")
