"""``chromalith import`` and ``export``: records from files and from stock Chroma, and back."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.moments import At, manifest_of
from chromalith.cli.output import size
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid, NotFound
from chromalith.store.url import SCHEMES, open_store
from chromalith.transfer.bundle import Bundle
from chromalith.transfer.export import export_collection
from chromalith.transfer.import_ import import_collection
from chromalith.transfer.jsonl import JsonlSource, JsonlTarget
from chromalith.transfer.parquet import ParquetSource, ParquetTarget
from chromalith.transfer.port import ROWS_DEFAULT, Source, Target


class Format(StrEnum):
    """What stands outside of the store."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CHROMA = "chroma"
    SERVER = "server"
    PREFIX = "prefix"


_SUFFIXES = {".parquet": Format.PARQUET, ".pq": Format.PARQUET, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}
_FORMS = "a .parquet or .jsonl file, a Chroma directory, http://server:port, an export's URL (s3://…); or say which with --format"
_STORES = tuple(f"{scheme}://" for scheme in SCHEMES)


def declare(app: typer.Typer) -> None:
    """Add ``import`` and ``export`` to the command line."""
    _declare_import(app)
    _declare_export(app)


def _declare_import(app: typer.Typer) -> None:
    @command(app, "import")
    def import_(
        run: Invocation,
        source: Annotated[str, typer.Argument(help=f"Where the records are: {_FORMS}.")],
        collection: Annotated[
            str | None, typer.Argument(help="The collection to take from a Chroma; all of them if not given.")
        ] = None,
        as_: Annotated[str | None, typer.Option("--as", help="The collection's name in the store.")] = None,
        format_: Annotated[Format | None, typer.Option("--format", help="If the name does not tell it.")] = None,
        space: Annotated[str, typer.Option("--space", help="Distance, for a file that does not say it.")] = "l2",
        column: Annotated[
            list[str] | None,
            typer.Option("--column", metavar="FIELD=COLUMN", help="Parquet: which column a field is in."),
        ] = None,
        header: Annotated[
            list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Server: a header of each request.")
        ] = None,
        batch: Annotated[int, typer.Option("--batch", min=1, max=10_000, help="Records in one delta.")] = ROWS_DEFAULT,
    ) -> None:
        r"""Write the records of a file or of a stock Chroma to this store. Importing again changes nothing.

        \b
        Example:
          chromalith import ./chroma-directory
          chromalith import words.parquet --as words --space cosine
          chromalith import http://localhost:8000 words
          chromalith import s3://my-bucket/snapshot/migration/
        """
        kind = _format(source, format_)
        options = {
            "space": space, "columns": _pairs("--column", column), "headers": _pairs("--header", header),
            "storage_options": run.storage_options,
        }  # fmt: skip
        with run.session() as session, _sources(kind, source, collection, options) as sources:
            if as_ is not None and len(sources) > 1:
                raise Invalid(
                    f"--as names one collection, the source has {len(sources)}",
                    hint="name the one to take, after the source",
                )
            reports = []
            for each in sources:
                name = as_ or (collection if kind in (Format.PARQUET, Format.JSONL) and collection else each.name)
                with run.output.progress(f"importing {name}", total=each.total()) as advance:
                    report = import_collection(
                        session, run.tenant, run.database, name, each, batch=batch,
                        progress=_progress(advance),
                    )  # fmt: skip
                reports.append(report)
        found: list[dict[str, Any]] = [
            {
                "result": "imported", "collection": each.name, "id": each.collection, "records": each.records, "deltas": each.deltas,
                "bytes": each.bytes, "seconds": round(each.seconds, 3), "verified": each.verified, "token": each.token,
            }
            for each in reports
        ]  # fmt: skip

        def human() -> None:
            for each in found:
                checked = ", checksums agree" if each["verified"] else ""
                run.output.line(
                    f"imported {each['collection']}: {each['records']:,} records in {each['deltas']} deltas,"
                    f" {size(each['bytes'])}, {each['seconds']:.1f} s{checked}"
                )
                if each["token"]:
                    run.output.say(f"whoever must see it can read with --after {each['token']}")
            run.output.say("next: `chromalith compact` folds the deltas into segments")

        run.output.data({"imports": found}, human)


def _declare_export(app: typer.Typer) -> None:
    @command(app, "export")
    def export(
        run: Invocation,
        to: Annotated[
            str, typer.Option("--to", help="A .parquet or .jsonl file, a directory for stock Chroma; with --from a URL.")
        ],
        collection: Annotated[str | None, typer.Argument(help="The collection's name.")] = None,
        from_: Annotated[
            Path | None, typer.Option("--from", help="Export this Chroma directory, not the store: to a URL, as Parquet.")
        ] = None,
        prefix: Annotated[str, typer.Option("--prefix", help="With --from: where below the URL.")] = "",
        format_: Annotated[Format | None, typer.Option("--format", help="If the name does not tell it.")] = None,
        version: Annotated[
            int | None, typer.Option("--version", min=0, help="An older version; else the newest state.")
        ] = None,
        at: At = None,
    ) -> None:
        r"""Write a collection to a file, or to a directory that stock Chroma opens. Nothing is locked in.

        \b
        Example:
          chromalith export words --to words.parquet
          chromalith export words --to ./chroma-directory --at before-import
          chromalith export --from ./chroma-directory --to s3://my-bucket --prefix snapshot/migration/
        """
        if from_ is not None:
            _export_directory(run, from_, collection, to, prefix)
        elif collection is None:
            raise Invalid("no collection was named", hint="name the one to export; `chromalith collections list` shows them")
        else:
            if version is not None and at is not None:
                raise Invalid("--version and --at exclude each other", hint="--at takes the number of a version, too")
            _export_collection(run, collection, to, format_, at if version is None else str(version))


def _export_collection(run: Invocation, collection: str, to: str, format_: Format | None, at: str | None) -> None:
    suffix = Path(to).suffix
    kind = format_ or _SUFFIXES.get(suffix) or (None if suffix or to.startswith(_STORES) else Format.CHROMA)
    if kind is None:  # a typing error must not become a directory
        raise Invalid(
            f"the format can't be told from the name to={to}",
            hint="a .parquet or .jsonl file, a directory without a dot in its name; or say which with --format",
        )
    target = _target(kind, Path(to))
    with run.session() as session:
        cid = run.find(session, collection).collection.id
        version = None if at is None else manifest_of(session, cid, at).version
        with run.output.progress(f"exporting {collection}") as advance:
            report = export_collection(
                session, run.tenant, run.database, collection, target, version=version, progress=_progress(advance)
            )
    found: dict[str, Any] = {
        "result": "exported", "collection": report.name, "version": report.version, "deltas_included": report.overlay,
        "format": str(kind), "to": to, "records": report.records, "bytes": report.bytes, "how": report.how,
        "content_checksum": report.content, "embedding_checksum": report.embedding, "seconds": round(report.seconds, 3),
    }  # fmt: skip
    waiting = f" and {report.overlay} deltas on top" if report.overlay else ""
    run.output.data(
        found,
        lambda: run.output.line(
            f"exported {collection} version {report.version}{waiting}: {report.records:,} records, {size(report.bytes)} to {to}"
        ),
    )


def _export_directory(run: Invocation, source: Path, collection: str | None, to: str, prefix: str) -> None:
    """A Chroma directory's collections as Parquet files below a prefix of a store, and last their manifest."""
    _need_chromadb()
    from chromalith.chroma.export import export_chroma_directory

    store = open_store(to, storage_options=run.storage_options)
    with run.output.progress(f"exporting {source}") as advance:
        done: dict[str, int] = {}

        def progress(name: str, records: int, total: int | None) -> None:
            advance(records - done.get(name, 0), total=total)
            done[name] = records

        exported = export_chroma_directory(
            source, store, prefix, names=[collection] if collection else None, tenant=run.tenant, database=run.database,
            clock=SYSTEM_CLOCK, progress=progress,
        )  # fmt: skip
    found: list[dict[str, Any]] = [
        {
            "collection": each.value()["name"], "records": each.value()["records"], "bytes": each.value()["bytes"],
            "content_checksum": each.value()["content"], "embedding_checksum": each.value()["embedding"],
        }
        for each in exported
    ]  # fmt: skip

    def human() -> None:
        for each in found:
            run.output.line(f"exported {each['collection']}: {each['records']:,} records, {size(each['bytes'])} to {store.url}")

    run.output.data({"result": "exported", "from": str(source), "to": store.url, "prefix": prefix, "collections": found}, human)


def _format(source: str, given: Format | None) -> Format:
    """What ``source`` is. Raises ``NotFound`` if it is not there, ``Invalid`` if that can't be told."""
    if source.startswith(("http://", "https://")):
        return given or Format.SERVER
    if source.startswith(_STORES):
        return given or Format.PREFIX
    path = Path(source)
    if given is not Format.SERVER and not path.exists():
        raise NotFound(f"no such file or directory source={source}", hint=f"the source is {_FORMS}")
    found = given or (Format.CHROMA if path.is_dir() else _SUFFIXES.get(path.suffix))
    if found is None:
        raise Invalid(f"the format can't be told from the name source={source}", hint=f"the source is {_FORMS}")
    return found


@contextmanager
def _sources(kind: Format, source: str, collection: str | None, options: dict[str, Any]) -> Iterator[list[Source]]:
    if kind is Format.PARQUET:
        yield [ParquetSource(source, columns=options["columns"], space=options["space"])]
        return
    if kind is Format.JSONL:
        yield [JsonlSource(source, space=options["space"])]
        return
    if kind is Format.PREFIX:
        bundle = Bundle(open_store(source, storage_options=options["storage_options"]), "")
        yield [bundle.source(name) for name in ([collection] if collection else bundle.names())]
        return
    _need_chromadb()
    from chromalith.chroma.import_ import chroma_directory, chroma_server

    opened = chroma_directory(source) if kind is Format.CHROMA else chroma_server(source, headers=options["headers"])
    with opened as chroma:
        names = [collection] if collection else chroma.names()
        if not names:
            raise NotFound(f"the source has no collections source={source}", hint="is it the right directory or server")
        yield [chroma.source(name) for name in names]


def _target(kind: Format, to: Path) -> Target:
    if kind is Format.PARQUET:
        return ParquetTarget(to)
    if kind is Format.JSONL:
        return JsonlTarget(to)
    if kind in (Format.SERVER, Format.PREFIX):
        raise Invalid(f"this is no target of an export format={kind}", hint="export to a file or a directory, and bring that there")
    _need_chromadb()
    from chromalith.chroma.export import ChromaDirectoryTarget

    return ChromaDirectoryTarget(to)


def _need_chromadb() -> None:
    if importlib.util.find_spec("chromadb") is None:
        raise Invalid("stock Chroma's formats need chromadb", hint="pip install 'chromalith[chroma]'")


def _pairs(option: str, texts: list[str] | None) -> dict[str, str] | None:
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    wrong = next(("".join(pair) for pair in pairs if not pair[0] or not pair[1]), None)
    if wrong is not None:
        raise Invalid(f"{option} needs name=value {option.lstrip('-')}={wrong!r}", hint=f"write {option} name=value")
    return {name: value for name, _, value in pairs}


def _progress(advance: Any) -> Any:
    """From a transfer's progress (done so far, of how many) to a bar's."""
    before = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal before
        advance(done - before, total=total)
        before = done

    return progress
