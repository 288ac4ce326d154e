"""``chromalith.MigratingClient``: the client that an application uses from before its migration until after it.

It is a real ``chromadb`` client. Before ``migrate start`` it is the source's, after ``migrate complete`` the target's; in between it does
what the migration's state says. So the application is deployed once, and changed once more to take it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chromadb.api import ServerAPI
from chromadb.api.client import Client as ChromaClient
from chromadb.config import Settings as ChromaSettings
from chromadb.telemetry.product import ProductTelemetryClient

from chromalith.chroma.side import ChromaSide
from chromalith.client.opened_store import session_of
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid
from chromalith.migrate.client.api import CoreSystem, MigratingAPI
from chromalith.migrate.client.at_hand import AtHand, OpenSide
from chromalith.migrate.client.core import Core, Sticky
from chromalith.migrate.mismatches import Cleaner
from chromalith.migrate.offered import ShadowTaker
from chromalith.migrate.opening import open_side, side_name, side_of_client, unsaid
from chromalith.migrate.places import DEFAULT_NAME, Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.shadow import Shadow, ShadowSettings
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.store.port import Store
from chromalith.store.url import open_store, options_taken

SideGiven = Any
"""A URL, or an open ``chromadb`` client."""


def MigratingClient(  # noqa: N802  # beside chromalith.Client and Chroma's own
    source: SideGiven,
    target: SideGiven,
    *,
    migration: str = DEFAULT_NAME,
    state: str | Store | None = None,
    tenant: str | None = None,
    database: str | None = None,
    sticky: Sticky = None,
    app: str = "",
    headers: Mapping[str, str] | None = None,
    storage_options: Mapping[str, object] | None = None,
    shadow: ShadowSettings | None = None,
    shadow_clean: Cleaner | None = None,
    shadow_keep_fields: Sequence[str] = (),
) -> ChromaClient:
    """Open both sides of a migration as one ``chromadb`` client, which does what the migration's state says.

    Args:
        source, target: a URL (``migrate start`` takes the same ones), or an open client of ``chromadb`` or Chromalith. A side that is
            given by URL is opened when it is first needed, and closed with this client.
        migration: its name (``--name``).
        state: the store that keeps its state, as a URL; the Chromalith side's if left out.
        tenant, database: of both sides, where their URLs do not say.
        sticky: key of all reads outside of ``chromalith.sticky`` blocks, or what returns it for each: reads with one key see one side.
        app: what this application calls itself, for ``migrate status``.
        headers: of each request to a Chroma server, for its token.
        storage_options: credentials and endpoint of the Chromalith store, and of ``state``.
        shadow: how much shadow reads may take, and what counts as equal.
        shadow_clean: called with each mismatch before it is stored; returns what is stored instead, or ``None`` for nothing.
        shadow_keep_fields: what is stored of a mismatch unhidden: ``document``, ``uri``, ``metadata.<key>``.

    Raises:
        Invalid: a URL or ``DELTA_WRITE_PERCENTAGE`` is wrong, or there is no store for the state.
        Unavailable: the state can't be read.
        ValueError: the side that answers now has no such tenant or database, in Chroma's words.
    """
    given = {Role.SOURCE: source, Role.TARGET: target}
    options = {"storage_options": storage_options, "headers": headers, "tenant": tenant, "database": database}
    sides = AtHand({role: _opener(one, options) for role, one in given.items()})

    def new_shadow(place: Place, client: str) -> ShadowTaker:
        return Shadow(place, client=client, settings=shadow, clean=shadow_clean, keep_fields=shadow_keep_fields)

    place = Place(_state_store(given, state, storage_options), migration)
    core = Core(place, sides, _home(source, tenant, database), app=app, sticky=sticky, new_shadow=new_shadow)
    try:
        core.begin()
        return _client(core)
    except BaseException:
        core.close()
        raise


def migration_of(client: object) -> Workflow:
    """The verbs of the migration that a client takes part in, over the sides that it has open: a Chroma directory has one process.

    Raises ``Invalid`` for what is no migrating client. The sides stay the client's: close the workflow's parts, then the client."""
    core = core_of(client)
    return Workflow(core.place, core.sides.both)


def core_of(client: object) -> Core:
    """What is behind a client of :func:`MigratingClient`. Raises ``Invalid`` for anything else."""
    server = getattr(client, "_server", None)
    if not isinstance(server, MigratingAPI):
        raise Invalid(
            f"not a migrating client type={type(client).__name__}", hint="give what chromalith.MigratingClient returned"
        )
    return server.core


def _client(core: Core) -> ChromaClient:
    key = f"chromalith-migration#{core.client}"  # one System each: two clients of one process are two processes to the migration
    settings = ChromaSettings(
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",  # a name that Chroma knows; never instantiated
        is_persistent=True,
        persist_directory=key,
        anonymized_telemetry=False,
    )
    system = CoreSystem(settings, core)
    system.instance(ProductTelemetryClient)
    system.instance(ServerAPI)
    system.start()
    tenant, database = core.home
    return ChromaClient.from_system(system, tenant=tenant, database=database)


def _opener(given: SideGiven, options: Mapping[str, Any]) -> OpenSide:
    if isinstance(given, str):
        name = side_name(given, **_named(given, options))

        def open_it() -> ChromaSide:
            side = open_side(given, **_named(given, options), headers=options["headers"])
            if not isinstance(side, ChromaSide):
                raise Invalid(f"a side that no client can be made of url={name.url}")
            return side

        return open_it
    side = side_of_client(given)
    return lambda: side


def _named(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with a URL: ``tenant`` and ``database`` unless it says them itself."""
    named = unsaid(url, tenant=options["tenant"], database=options["database"])
    return {"storage_options": _options_for(url, options), **named}


def _options_for(url: str, options: Mapping[str, Any]) -> Any:
    """Options belong to a Chromalith store; a Chroma has none."""
    if options["storage_options"] is None or side_name(url).kind is not SideKind.CHROMALITH:
        return None
    return options["storage_options"]


def _home(source: SideGiven, tenant: str | None, database: str | None) -> tuple[str, str]:
    """Tenant and database as the application names them: the source's."""
    if isinstance(source, str):
        name = side_name(source, **unsaid(source, tenant=tenant, database=database))
        return name.tenant, name.database
    return str(source.tenant), str(source.database)


def _state_store(
    given: Mapping[Role, SideGiven], state: str | Store | None, storage_options: Mapping[str, object] | None
) -> Store:
    if isinstance(state, str):
        return open_store(state, storage_options=options_taken(state, storage_options), clock=SYSTEM_CLOCK)
    if state is not None:
        return state
    for role in (Role.TARGET, Role.SOURCE):
        one = given[role]
        if not isinstance(one, str):
            if hasattr(getattr(one, "_server", None), "running_store"):
                return session_of(one).store
            continue
        name = side_name(one)
        if name.kind is SideKind.CHROMALITH:
            url = name.url.removeprefix("chromalith:")
            return open_store(url, storage_options=options_taken(url, storage_options), clock=SYSTEM_CLOCK)
    raise Invalid(
        "no store was named for the migration's state: no side is a Chromalith store",
        hint="give state=URL: any bucket or directory that all clients reach, as --state of the command line",
    )


__all__: Sequence[str] = ["MigratingClient", "core_of", "migration_of"]
