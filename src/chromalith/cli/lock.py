"""``chromalith lock``: who compacts what, and breaking the lease of somebody who is known to be gone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.output import moment
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.leasing import FOLD, MERGE, lease_key
from chromalith.coord.lease import break_lease
from chromalith.coord.lease_table import Seen

LeaseTableName = Annotated[
    str | None,
    typer.Option(
        "--lease-table",
        metavar="TABLE",
        help="The DynamoDB table of the leases. Else CHROMALITH_LEASE_TABLE; without it they are objects in the store.",
    ),
]


def declare(app: typer.Typer) -> None:
    """Add ``lock`` to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Show and break the leases of compactors.", rich_markup_mode="rich")
    accept_shared(group, _group)
    _declare_status(group)
    _declare_break(group)
    app.add_typer(group, name="lock")


def _group() -> None:
    """Show and break the leases of compactors."""


def _declare_status(group: typer.Typer) -> None:
    @command(group, "status")
    def status(
        run: Invocation,
        collection: Annotated[
            str | None, typer.Argument(help="The collection's name; without it, all of the database.")
        ] = None,
        lease_table: LeaseTableName = None,
    ) -> None:
        r"""Show who holds the leases. A holder that was killed stays in them until somebody has watched the record for its lease time.

        \b
        Example:
          chromalith lock status
          chromalith lock status words --json
        """
        with run.session(lease_table=lease_table) as session:
            named = [run.find(session, collection)] if collection else session.catalog.listing(run.tenant, run.database)
            leases = session.leases(storage_options=run.storage_options)
            there = leases.keys() if collection is None else None
            found = [
                _described(each.name, purpose, leases.look(key))
                for each in named
                for purpose in (FOLD, MERGE)
                for key in (lease_key(each.collection.id, purpose),)
                if there is None or key in there
            ]
        found = [each for each in found if each["state"] != "never_held"]

        def human() -> None:
            if not found:
                run.output.say("nobody has compacted anything yet")
                return
            columns = ("collection", "purpose", "state", "owner", "written", "lease time")
            rows = [(e["collection"], e["purpose"], e["state"], e["owner"], e["written"], f"{e['lease_s']:g} s") for e in found]
            run.output.table(columns, rows)
            run.output.say(f"kept in {leases.place}")

        run.output.data({"place": leases.place, "leases": found}, human)


def _described(name: str, purpose: str, seen: Seen | None) -> dict[str, Any]:
    if seen is None:
        return {"collection": name, "purpose": purpose, "state": "never_held"}
    return {
        "collection": name,
        "purpose": purpose,
        "state": "released" if seen.record.released else "held",
        "owner": seen.record.owner,
        "written": None if seen.modified_us is None else moment(seen.modified_us),
        "lease_s": seen.record.lease_s,
    }


def _declare_break(group: typer.Typer) -> None:
    @command(group, "break")
    def break_(
        run: Invocation,
        collection: Annotated[str, typer.Argument(help="The collection's name.")],
        expect_owner: Annotated[
            str,
            typer.Option("--expect-owner", metavar="OWNER", help="Who holds it, as `lock status` says; another's is not broken."),
        ],
        merge: Annotated[bool, typer.Option("--merge", help="The lease of merges instead of that of folds.")] = False,
        lease_table: LeaseTableName = None,
    ) -> None:
        r"""Release a lease that somebody else holds. Nothing can be lost by it: at worst, two do the same work.

        \b
        Example:
          chromalith lock break words --expect-owner host/4711/0f3a92c1
        """
        purpose = MERGE if merge else FOLD
        with run.session(lease_table=lease_table) as session:
            named = run.find(session, collection)
            leases = session.leases(storage_options=run.storage_options)
            seen = break_lease(leases, lease_key(named.collection.id, purpose), SYSTEM_CLOCK, expected_owner=expect_owner)
        result = "already_released" if seen is None else "broken"
        run.output.data(
            {"result": result, "collection": named.name, "purpose": purpose, "owner": expect_owner, "place": leases.place},
            lambda: run.output.line(f"{result} {named.name} {purpose}"),
        )
