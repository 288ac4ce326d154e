"""``chromalith collections``: what there is in a store, and making and removing it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.moments import At, moment_of
from chromalith.cli.output import moment, shown, size
from chromalith.compaction.fork import Forked, ForkPlan, plan_fork
from chromalith.coord.catalog import Named
from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.wiring import Writer

SPACES = ("l2", "cosine", "ip")


def described(named: Named) -> dict[str, Any]:
    """A collection as JSON shows it."""
    found = named.collection
    return {
        "name": named.name,
        "id": found.id,
        "dimension": found.dimension,
        "space": found.space,
        "metadata": found.metadata,
        "created": moment(found.created_us),
    }


def declare(app: typer.Typer) -> None:
    """Add ``collections`` to the command line."""
    group = typer.Typer(
        no_args_is_help=True, help="List, show, create, fork and delete collections.", rich_markup_mode="rich"
    )
    accept_shared(group, _group)
    _declare_reads(group)
    _declare_changes(group)
    app.add_typer(group, name="collections")


def _group() -> None:
    """List, show, create, fork and delete collections."""


def _declare_reads(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(run: Invocation) -> None:
        r"""List the collections of a database, in the order of their creation.

        \b
        Example:
          chromalith collections list --store s3://bucket/prefix
        """
        with run.session() as session:
            found = [described(named) for named in session.catalog.listing(run.tenant, run.database)]

        def human() -> None:
            if found:
                rows = [(c["name"], c["dimension"] or "–", c["space"], c["created"], c["id"]) for c in found]
                run.output.table(("name", "dimension", "space", "created", "id"), rows)
            else:
                run.output.say("no collections yet")

        run.output.data({"collections": found}, human)

    @command(group, "show")
    def show(run: Invocation, name: Annotated[str, typer.Argument(help="The collection's name.")]) -> None:
        r"""Show what a collection is: its id, distance, dimension, metadata and configuration.

        \b
        Example:
          chromalith collections show words
        """
        with run.session() as session:
            named = run.find(session, name)
        found = {**described(named), "configuration": named.collection.configuration}

        def human() -> None:
            for key, value in found.items():
                run.output.line(f"{key:<14} {shown(value)}")

        run.output.data(found, human)


def _declare_changes(group: typer.Typer) -> None:
    @command(group, "create")
    def create(
        run: Invocation,
        name: Annotated[str, typer.Argument(help="The collection's name.")],
        space: Annotated[str, typer.Option("--space", help=f"Distance: one of {', '.join(SPACES)}.")] = "l2",
        dimension: Annotated[
            int | None, typer.Option("--dimension", min=1, help="Of its embeddings; without it, the first write fixes it.")
        ] = None,
    ) -> None:
        r"""Create a collection. One that is there already stays as it is, but gets the dimension if it has none.

        With --dimension, writers that may write deltas and nothing else (a producer's role on AWS) can begin.

        \b
        Example:
          chromalith collections create words --space cosine
          chromalith collections create words --dimension 384
        """
        if space not in SPACES:
            raise Invalid(f"no such distance space={space!r}", hint=f"one of {', '.join(SPACES)}")
        with Writer(run.store, tenant=run.tenant, database=run.database, storage_options=run.storage_options) as writer:
            try:
                named, result = writer.create(name, space=space, dimension=dimension), "created"
            except Conflict:
                named, result = writer.create(name, space=space, dimension=dimension, get_or_create=True), "already_exists"
        if named.collection.space != space:
            raise Invalid(
                f"the collection exists with another distance name={name!r} space={named.collection.space} given={space}",
                hint="a collection keeps the distance that it was created with; choose another name",
            )
        run.output.data(
            {"result": result, "collection": described(named)},
            lambda: run.output.line(f"{result} {name} id={named.collection.id}"),
        )

    _declare_fork(group)

    @command(group, "delete")
    def delete(
        run: Invocation,
        name: Annotated[str, typer.Argument(help="The collection's name.")],
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ) -> None:
        r"""Delete a collection with all its records. One that is absent already is no error.

        \b
        Example:
          chromalith collections delete words --yes
        """
        with run.session() as session:
            try:
                found = session.catalog.lookup(run.tenant, run.database, name)
                if not yes:
                    _ask(session.view(found.collection.id).count(), name)
                session.catalog.delete(run.tenant, run.database, name)
                result, hint = "deleted", None
            except NotFound:
                result, hint = "already_absent", run.nearest(session, name)
        if hint:
            run.output.say(f"nothing has this name; {hint}")
        run.output.data({"result": result, "name": name}, lambda: run.output.line(f"{result} {name}"))


def _declare_fork(group: typer.Typer) -> None:
    @command(group, "fork")
    def fork(
        run: Invocation,
        name: Annotated[str, typer.Argument(help="The collection to fork.")],
        new: Annotated[str, typer.Argument(help="The new collection's name.")],
        at: At = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied, and write nothing.")] = False,
    ) -> None:
        r"""Make a new collection with the records of another one, by copies inside the store. Neither sees the other's writes afterwards.

        \b
        Example:
          chromalith collections fork words words-try --dry-run
          chromalith collections fork words words-2024 --at 12
        """
        with run.session() as session, run.output.progress("copying") as advance:
            source = run.find(session, name).collection.id
            when = None if at is None else moment_of(session, source, at)
            session.catalog.check_free(run.tenant, run.database, new)
            told = 0

            def progress(done: int, total: int) -> None:
                nonlocal told
                advance(by=done - told, total=total, text="bytes copied")
                told = done

            if dry_run:
                found = _planned(plan_fork(session.store, source, when))
            else:
                found = _made(session.fork(source, (run.tenant, run.database, new), at=when, progress=progress))
        found = {**found, "from": name, "collection": new}

        def human() -> None:
            run.output.line(
                f"{found['result']} {name} version {found['version']} to {new}: {found['objects']} objects,"
                f" {size(found['bytes'])} copied, {found['deltas']} deltas taken over"
            )
            if found["quarantined"]:
                run.output.say(f"{found['quarantined']} quarantined deltas of {name} are not in the fork: they cannot be read")

        run.output.data(found, human)


def _planned(plan: ForkPlan) -> dict[str, Any]:
    return {
        "result": "would_fork",
        "id": None,
        "version": plan.manifest.version,
        "objects": len(plan.objects),
        "bytes": plan.bytes,
        "deltas": len(plan.pending),
        "operations": None,
        "quarantined": len(plan.manifest.quarantined),
    }


def _made(made: Forked) -> dict[str, Any]:
    return {
        "result": "forked",
        "id": made.named.collection.id,
        "version": made.version,
        "objects": made.objects,
        "bytes": made.bytes,
        "deltas": made.deltas,
        "operations": made.operations,
        "quarantined": made.quarantined,
    }


def _ask(count: int, name: str) -> None:
    if not sys.stdin.isatty():
        raise Invalid(f"deleting needs a yes name={name!r} records={count}", hint="add --yes")
    typer.confirm(f"Delete {name!r} with {count:,} records?", abort=True, err=True)
