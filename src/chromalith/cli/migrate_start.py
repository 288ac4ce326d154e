"""``chromalith migrate start``: look at both sides, and begin."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Annotated

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import (
    DryRunOption,
    ForceOption,
    NameOption,
    StateOption,
    need_chromadb,
    open_place,
    open_sides,
)
from chromalith.cli.migrate_print import print_outcome
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.port import SideKind, Sides
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.settings import Settings

_TIMING = Timing()


def declare(group: typer.Typer) -> None:
    """Add ``start`` to the group."""

    @command(group, "start")
    def start(
        run: Invocation,
        source: Annotated[
            str,
            typer.Option(
                "--source", metavar="URL", help="Where it is now: a Chroma directory or server, cloud://, or a store."
            ),
        ],
        target: Annotated[str, typer.Option("--target", metavar="URL", help="Where it shall be: the same forms.")],
        collection: Annotated[
            list[str] | None,
            typer.Option(
                "--collection",
                metavar="NAME",
                help="Move this collection only; may be repeated. Else all of the database.",
            ),
        ] = None,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        state_age_max: Annotated[
            float,
            typer.Option(
                "--state-age-max", metavar="SECONDS", help="No client writes on a state that it read longer ago."
            ),
        ] = _TIMING.state_age_max_s,
        freeze_limit: Annotated[
            float,
            typer.Option("--freeze-limit", metavar="SECONDS", help="Writes wait no longer than this for a switch."),
        ] = _TIMING.freeze_limit_s,
        abandoned_after: Annotated[
            float,
            typer.Option("--abandoned-after", metavar="SECONDS", help="No call to a side takes longer than this."),
        ] = _TIMING.abandoned_s,
        second_write: Annotated[
            float,
            typer.Option(
                "--second-write",
                metavar="SECONDS",
                help="The most that a caller waits for the side that does not count.",
            ),
        ] = _TIMING.second_write_s,
        force: ForceOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Begin a migration: check both sides, write its state, and create the source's collections at the target, empty.

        Nothing changes for the application. Its clients can be deployed before or after.

        \b
        Example:
          chromalith migrate start --source http://chroma:8000 --target s3://my-bucket/vectors --dry-run
          chromalith migrate start --source ./chroma_db --target s3://my-bucket/vectors
        """
        timing = Timing(state_age_max, freeze_limit, abandoned_after, second_write)
        at_source, at_target = _named(run, source), _named(run, target)
        place = open_place(run, state, name, _store_of(at_source, at_target))
        began = State(name, at_source, at_target)  # the phase is direct: the source is only read
        with ExitStack() as stack:

            def sides() -> Sides:
                both = open_sides(run, began, look=dry_run)
                for side in (both.source, both.target):
                    stack.enter_context(closing(side))
                return both

            workflow = Workflow(place, sides, tell=lambda step: run.output.say(f"… {step.text}"))
            stack.callback(workflow.parts.close)
            done = workflow.start(
                at_source, at_target, collections=collection or None, timing=timing, force=force or (), dry_run=dry_run
            )
        print_outcome(run, done)
        _tell_clients(run, place, _store_of(at_source, at_target))
        if not dry_run and (state or run.store or Settings().store) is None:  # no other command knows the sides
            run.output.say(f"other commands find the state by --state {place.store.url} or by CHROMALITH_STORE")


def _named(run: Invocation, url: str) -> SideName:
    need_chromadb()
    from chromalith.migrate.opening import side_name, unsaid  # imports chromadb

    named = unsaid(url, tenant=run.tenant, database=run.database)
    return side_name(url, storage_options=run.storage_options or None, **named)


def _tell_clients(run: Invocation, place: Place, expected: str | None) -> None:
    """What the application must be told, too, where it would look for the state elsewhere: it would go on as if nothing had begun."""
    more = [f"migration={place.name!r}"] if place.name != DEFAULT_NAME else []
    more += [f"state={place.store.url!r}"] if place.store.url != expected else []
    if more:
        run.output.say(f"clients find this migration by chromalith.MigratingClient(source, target, {', '.join(more)})")


def _store_of(source: SideName, target: SideName) -> str | None:
    """The Chromalith side, if there is one: it is a store that all clients reach."""
    return next(
        (side.url.removeprefix("chromalith:") for side in (target, source) if side.kind is SideKind.CHROMALITH), None
    )
