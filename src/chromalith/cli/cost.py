"""``chromalith cost``: what a month on AWS takes, computed from counted requests and bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import Output, size
from chromalith.coord.pointer import read_current
from chromalith.cost.prices import Prices, packaged_prices, parse_prices
from chromalith.cost.report import Bill, bill
from chromalith.cost.workload import Deployment, Level, Workload
from chromalith.errors import Invalid

_SERVERS = {"ec2_ebs": "a Chroma server on EC2, data on EBS", "ec2_efs": "a Chroma server on EC2, data on EFS"}
_ROLES = ("compactor", "producer", "query")
_load = partial(typer.Option, rich_help_panel="The load")
_deployed = partial(typer.Option, rich_help_panel="How it is deployed")


_Writes = Annotated[float, _load("--writes-per-s", min=0, help="Calls that write, on average.")]
_Rows = Annotated[float, _load("--rows", min=1, help="Records in a call.")]
_Dimension = Annotated[int | None, _load("--dimension", min=1, help="Of the embeddings; 384.")]
_TextBytes = Annotated[float, _load("--text-bytes", min=0, help="Document and metadata of a record.")]
_Updates = Annotated[float, _load("--updates", min=0, max=1, help="Part of the writes that replaces.")]
_OrderedIds = Annotated[bool, _load("--ordered-ids", help="New ids sort after all older ones.")]
_Records = Annotated[float | None, _load("--records", min=0, help="Live records; else the month's.")]
_Collections = Annotated[int | None, _load("--collections", min=1, help="How many; 1.")]
_Reads = Annotated[float, _load("--reads-per-s", min=0, help="Calls that read, on average.")]
_ReadLevel = Annotated[Level, _load("--level", help="Of the reads.")]
_Staleness = Annotated[float, _load("--staleness", min=0.001, help="Bound of the weaker levels, seconds.")]
_Readers = Annotated[int, _load("--readers", min=0, help="Warm processes.")]
_ColdStarts = Annotated[float, _load("--cold-starts", min=0, help="Readers with an empty cache, a day.")]
_Functions = Annotated[str, _deployed("--functions", metavar="NAMES", help="Roles that are Lambdas, or none.")]
_Window = Annotated[float, _deployed("--window", min=0.1, help="From a hint to the run, seconds.")]
_Schedule = Annotated[float, _deployed("--schedule", min=1, help="Between scheduled runs, seconds.")]
_ScheduleOnly = Annotated[bool, _deployed("--schedule-only", help="No queue: only the schedule compacts.")]
_ObjectLease = Annotated[bool, _deployed("--object-lease", help="Leases are objects, not items of a table.")]
_NoncurrentDays = Annotated[float, _deployed("--noncurrent-days", min=0, help="The bucket keeps what was deleted.")]
_Prices = Annotated[Path | None, typer.Option("--prices", metavar="FILE", help="Prices to use, instead of or over the packaged ones.")]
_Measured = Annotated[bool, typer.Option("--measured", help="Take records, bytes, dimension and collections from the store.")]


def declare(app: typer.Typer) -> None:
    """Add ``cost`` to the command line."""

    @command(app, "cost")
    def cost(
        run: Invocation,
        writes: _Writes = 0.0,
        rows: _Rows = 100.0,
        dimension: _Dimension = None,
        text_bytes: _TextBytes = 200.0,
        updates: _Updates = 0.0,
        ordered_ids: _OrderedIds = False,
        records: _Records = None,
        collections: _Collections = None,
        reads: _Reads = 0.0,
        level: _ReadLevel = Level.FRESH,
        staleness: _Staleness = 60.0,
        readers: _Readers = 1,
        cold_starts: _ColdStarts = 0.0,
        functions: _Functions = "compactor",
        window: _Window = 5.0,
        schedule: _Schedule = 900.0,
        schedule_only: _ScheduleOnly = False,
        object_lease: _ObjectLease = False,
        noncurrent_days: _NoncurrentDays = 30.0,
        prices: _Prices = None,
        measured: _Measured = False,
    ) -> None:
        r"""Estimate a month's bill on AWS from the load: counted requests and bytes, times prices from a file.

        \b
        Example:
          chromalith cost --writes-per-s 1 --rows 100 --records 1000000 --reads-per-s 5
          chromalith cost --measured --writes-per-s 0.1 --store s3://my-bucket
        """
        load = Workload(
            writes_per_s=writes,
            rows=rows,
            dimension=dimension or 384,
            text_bytes=text_bytes,
            updates=updates,
            ordered_ids=ordered_ids,
            records=records,
            collections=collections or 1,
            reads_per_s=reads,
            level=level,
            staleness_s=staleness,
            readers=readers,
            cold_starts_per_day=cold_starts,
        )
        if measured:
            load = _measured(run, load, dimension)
        roles = _roles(functions)
        deployment = Deployment(
            hints=not schedule_only,
            window_s=window,
            schedule_s=schedule,
            lambda_compactor="compactor" in roles,
            lambda_producer="producer" in roles,
            lambda_query="query" in roles,
            dynamodb=not object_lease,
            noncurrent_days=noncurrent_days,
        )
        made = bill(load, deployment, _prices(prices))
        run.output.data(made.as_json(), lambda: _print(run.output, made))


def _roles(text: str) -> set[str]:
    roles = {name.strip() for name in text.split(",")} - {"none", ""}
    if wrong := roles - set(_ROLES):
        raise Invalid(f"no such function names={sorted(wrong)}", hint=f"some of {','.join(_ROLES)}, or none")
    return roles


def _prices(path: Path | None) -> Prices:
    if path is None:
        return packaged_prices()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Invalid(f"the prices cannot be read path={str(path)!r}: {error}", hint="name a JSON file") from error
    return parse_prices(text, packaged_prices())


def _measured(run: Invocation, load: Workload, dimension: int | None) -> Workload:
    """What the store has, by its manifests: two GETs a collection."""
    with run.session() as session:
        named = session.catalog.listing(run.tenant, run.database)
        if not named:
            raise Invalid(f"there is nothing to measure store={session.store.url}", hint="say --records and --dimension instead")
        manifests = [read_current(session.store, each.collection.id).manifest for each in named]
    widths = [manifest.dimension for manifest in manifests if manifest.dimension is not None]
    return replace(
        load,
        collections=len(manifests),
        records=sum(manifest.live for manifest in manifests),
        stored_bytes=sum(manifest.bytes for manifest in manifests),
        dimension=dimension or max(widths, default=load.dimension),
    )


def _print(output: Output, made: Bill) -> None:
    prices = made.prices
    unit = prices.currency
    rows = [
        (line.group, prices[line.price].name, f"{line.quantity:,.2f} {prices[line.price].unit}", f"{line.cost(prices):,.2f}")
        for line in made.lines
    ]
    output.table(("what", "item", "a month", unit), rows)
    output.line()
    output.table(("what", unit), [(name, f"{cost:,.2f}") for name, cost in made.by_group().items()])
    output.line()
    output.line(f"total: {made.total:,.2f} {unit} a month", "bold")
    for name, lines in made.servers.items():
        said = ", ".join(each.what for each in lines)
        output.line(f"for comparison, {_SERVERS[name]}: {sum(each.cost for each in lines):,.2f} {unit} ({said})")
    if not made.servers:
        output.line("for comparison: no machine of the price list has the memory for a Chroma server of this size")
    if made.load.stored_bytes is not None:
        stored = size(round(made.load.stored_bytes))
        output.say(f"measured: {made.load.records:,.0f} records, {stored}, {made.load.collections} collections")
    output.say(f"prices of {prices.as_of}, {prices.region}: {prices.source}; {prices.note}")
