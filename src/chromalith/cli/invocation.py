"""One run of a command: the store it works on, the options that all commands share, and how they are declared.

Shared options stand before a command's name or after it (``chromalith --json count x`` is ``chromalith count x --json``);
the nearer one wins. So each command is declared with them: :func:`command` adds them to its parameters.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from chromalith.cli.output import Output
from chromalith.coord.catalog import Named
from chromalith.errors import Invalid, NotFound
from chromalith.session import Session
from chromalith.store.url import canonical_url
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, open_session

Result = TypeVar("Result")
_PANEL = "Options of every command"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command was called with, apart from its own arguments."""

    output: Output
    store: str | None = None
    tenant: str = DEFAULT_TENANT
    database: str = DEFAULT_DATABASE
    storage_options: Mapping[str, object] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def session(self, **options: Any) -> closing[Session]:
        """The store, opened for a ``with`` block. Raises ``Invalid``."""
        return closing(open_session(self.store, storage_options=self.storage_options, **options))

    def find(self, session: Session, name: str) -> Named:
        """The collection of this name. Raises ``NotFound``, with the nearest name as the hint."""
        try:
            return session.catalog.lookup(self.tenant, self.database, name)
        except NotFound as error:
            raise NotFound(
                f"no such collection name={name!r} store={session.store.url}", hint=self.nearest(session, name)
            ) from error

    def nearest(self, session: Session, name: str) -> str:
        """What to say about a name that is not there: the one that was probably meant, or what there is."""
        found = session.catalog.databases.peek(self.tenant, self.database)
        names = list(found.collections) if found else []
        near = difflib.get_close_matches(name, names, n=1)
        if near:
            return f"did you mean {near[0]!r}"
        if not names:
            return "the store has no collections in this database yet; is the URL the right one"
        return f"there are {', '.join(sorted(names)[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")


SHARED: dict[str, Any] = {
    "store": Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            rich_help_panel=_PANEL,
            help="The store: s3://, gs://, az://, a directory. Else CHROMALITH_STORE.",
        ),
    ],
    "json_": Annotated[
        bool | None, typer.Option("--json", rich_help_panel=_PANEL, help="Print JSON; docs/cli.md has the shapes.")
    ],
    "tenant": Annotated[
        str | None, typer.Option("--tenant", rich_help_panel=_PANEL, help=f"Tenant; {DEFAULT_TENANT} if not given.")
    ],
    "database": Annotated[
        str | None,
        typer.Option("--database", rich_help_panel=_PANEL, help=f"Database; {DEFAULT_DATABASE} if not given."),
    ],
    "endpoint_url": Annotated[
        str | None,
        typer.Option(
            "--endpoint-url",
            metavar="URL",
            rich_help_panel=_PANEL,
            help="A server that speaks S3, Google's or Azure's protocol.",
        ),
    ],
    "region": Annotated[str | None, typer.Option("--region", rich_help_panel=_PANEL, help="Region of the bucket.")],
    "option": Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            rich_help_panel=_PANEL,
            help="A storage option, such as profile=work; may be repeated.",
        ),
    ],
}


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a command of ``app``: a function of an :class:`Invocation` and its own parameters."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name)(_with_shared(function, lambda run, own: function(run, **own)))
        return function

    return declare


def accept_shared(app: typer.Typer, function: Callable[..., None]) -> None:
    """Let ``app`` itself take the shared options, before its commands' names; ``function`` has further ones."""

    def run(run: Invocation, own: dict[str, Any]) -> None:
        function(**own)

    app.callback()(_with_shared(function, run))


def _with_shared(
    function: Callable[..., None], act: Callable[[Invocation, dict[str, Any]], None]
) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values() if p.name != "run"
    ]

    @functools.wraps(function)
    def wrapper(ctx: typer.Context, **values: Any) -> None:
        inherited = dict(ctx.obj or {})
        options = list(inherited.pop("option", [])) + list(values.pop("option", None) or [])
        here = {name: value for name in SHARED if name != "option" and (value := values.pop(name, None)) is not None}
        ctx.obj = {**inherited, **here, "option": options}
        act(_invocation(ctx.obj), values)

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in SHARED.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
    # Click's mark for "do not wrap". Rich keeps the lines anyway, and would print the mark.
    wrapper.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("\\b\n", "")
    del wrapper.__wrapped__  # typer would look through it, and see the function's own parameters only
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _invocation(values: Mapping[str, Any]) -> Invocation:
    options: dict[str, object] = {}
    for text in values["option"]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Invalid(f"not a storage option option={text!r}", hint="write --option name=value")
        options[name] = value
    if "endpoint_url" in values:
        options["endpoint"] = values["endpoint_url"]
    if "region" in values:
        options["region"] = values["region"]
    store = values.get("store")
    if store is not None:
        canonical_url(store, storage_options=options)  # a typing error is told before anything else is done
    return Invocation(
        Output(bool(values.get("json_"))),
        store,
        values.get("tenant", DEFAULT_TENANT),
        values.get("database", DEFAULT_DATABASE),
        options,
        {name: str(values[name]) for name in ("store", "tenant", "database") if name in values},
    )
