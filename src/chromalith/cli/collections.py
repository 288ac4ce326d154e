"""``chromalith collections``: what there is in a store, and making and removing it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.output import moment, shown
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
        no_args_is_help=True, help="List, show, create and delete collections.", rich_markup_mode="rich"
    )
    accept_shared(group, _group)
    _declare_reads(group)
    _declare_changes(group)
    app.add_typer(group, name="collections")


def _group() -> None:
    """List, show, create and delete collections."""


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
    ) -> None:
        r"""Create a collection. One that is there already stays as it is.

        \b
        Example:
          chromalith collections create words --space cosine
        """
        if space not in SPACES:
            raise Invalid(f"no such distance space={space!r}", hint=f"one of {', '.join(SPACES)}")
        with Writer(run.store, tenant=run.tenant, database=run.database, storage_options=run.storage_options) as writer:
            try:
                named, result = writer.create(name, space=space), "created"
            except Conflict:
                named, result = writer.create(name, space=space, get_or_create=True), "already_exists"
        if named.collection.space != space:
            raise Invalid(
                f"the collection exists with another distance name={name!r} space={named.collection.space} given={space}",
                hint="a collection keeps the distance that it was created with; choose another name",
            )
        run.output.data(
            {"result": result, "collection": described(named)},
            lambda: run.output.line(f"{result} {name} id={named.collection.id}"),
        )

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


def _ask(count: int, name: str) -> None:
    if not sys.stdin.isatty():
        raise Invalid(f"deleting needs a yes name={name!r} records={count}", hint="add --yes")
    typer.confirm(f"Delete {name!r} with {count:,} records?", abort=True, err=True)
