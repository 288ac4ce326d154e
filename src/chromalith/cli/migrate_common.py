"""What all commands of ``chromalith migrate`` share: which migration is meant, where its state is, and its two sides."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer

from chromalith.cli.invocation import Invocation
from chromalith.errors import Invalid
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.port import Side, SideKind, Sides
from chromalith.migrate.route import Route
from chromalith.migrate.state import SideName, State
from chromalith.migrate.states import States
from chromalith.migrate.workflow.gates import GateLimits
from chromalith.migrate.workflow.plan import Step
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.settings import Settings
from chromalith.store.url import open_store, options_taken

NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Which migration, where a store has several.")]
StateOption = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="URL",
        help="The store that keeps the migration's state. Else the one of --store or CHROMALITH_STORE.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan that would be carried out, and do nothing.")
]
ForceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--force", metavar="GATE", help="Go on although this gate does not hold; the history keeps it. May be repeated."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Really: it can't be undone.")]


def open_place(run: Invocation, state: str | None, name: str = DEFAULT_NAME, fallback: str | None = None) -> Place:
    """Where the migration's state is: ``--state``, else ``--store``, ``CHROMALITH_STORE``, else ``fallback``. Raises ``Invalid``."""
    url = state or run.store or Settings().store or fallback
    if url is None:
        raise Invalid(
            "no store was named for the migration's state",
            hint="give --state URL (a Chromalith store, or any bucket or directory that all clients reach), or set CHROMALITH_STORE",
        )
    return Place(open_store(url, storage_options=options_taken(url, run.storage_options)), name)


def need_chromadb() -> None:
    """Raises ``Invalid`` if it is not installed: the commands that only look at the state do without."""
    if importlib.util.find_spec("chromadb") is None:
        raise Invalid("the sides of a migration are opened with chromadb", hint="pip install 'chromalith[chroma]'")


def open_sides(run: Invocation, state: State, *, look: bool = False) -> Sides:
    """Both sides of a migration that was started. Raises ``Invalid``, ``Unavailable``. ``look``: for a dry run, which changes neither.

    A source that is the authority of everything is only read: a Chroma directory is open in the application's own process then."""
    need_chromadb()
    from chromalith.migrate.opening import open_side  # imports chromadb

    def opened(name: SideName, *, write: bool) -> Side:
        options = run.storage_options if name.kind is SideKind.CHROMALITH else None
        return open_side(
            name.url, tenant=name.tenant, database=name.database, storage_options=options, write=write, look=look
        )

    source = opened(state.source, write=Route(state).writes_percent > 0)
    try:
        return Sides(source, opened(state.target, write=True))
    except BaseException:
        source.close()
        raise


@contextmanager
def workflow_of(
    run: Invocation,
    state: str | None,
    name: str,
    *,
    limits: GateLimits | None = None,
    sides: Callable[[], Sides] | None = None,
    look: bool = False,
) -> Iterator[Workflow]:
    """The migration that a command is about; the sides are opened if a step needs them, and closed at the end.

    Steps are told on stderr as they begin. ``look``: the sides are opened for a dry run."""
    place = open_place(run, state, name)
    opened: list[Sides] = []

    def opener() -> Sides:
        opened.append(open_sides(run, States(place).get(), look=look) if sides is None else sides())
        return opened[0]

    def tell(step: Step) -> None:
        run.output.say(f"… {step.text}")

    workflow = Workflow(place, opener, limits=limits, tell=tell)
    try:
        yield workflow
    finally:
        with ExitStack() as stack:  # a directory that was written meanwhile says so when it is closed
            for both in opened:
                stack.callback(both.target.close)
                stack.callback(both.source.close)
            workflow.parts.close()
