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
from chromalith.cli.output import size
from chromalith.errors import Invalid, NotFound
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


_SUFFIXES = {".parquet": Format.PARQUET, ".pq": Format.PARQUET, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}
_FORMS = "a .parquet or .jsonl file, a Chroma directory, or http://server:port; or say which with --format"


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
        """
        kind = _format(source, format_)
        options = {"space": space, "columns": _pairs("--column", column), "headers": _pairs("--header", header)}
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
                "bytes": each.bytes, "seconds": round(each.seconds, 3), "verified": each.verified,
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
            run.output.say("next: `chromalith compact` folds the deltas into segments")

        run.output.data({"imports": found}, human)


def _declare_export(app: typer.Typer) -> None:
    @command(app, "export")
    def export(
        run: Invocation,
        collection: Annotated[str, typer.Argument(help="The collection's name.")],
        to: Annotated[Path, typer.Option("--to", help="A .parquet or .jsonl file, or a directory for stock Chroma.")],
        format_: Annotated[Format | None, typer.Option("--format", help="If the name does not tell it.")] = None,
        version: Annotated[
            int | None, typer.Option("--version", min=0, help="An older version; else the newest state.")
        ] = None,
    ) -> None:
        r"""Write a collection to a file, or to a directory that stock Chroma opens. Nothing is locked in.

        \b
        Example:
          chromalith export words --to words.parquet
          chromalith export words --to ./chroma-directory --version 12
        """
        kind = format_ or _SUFFIXES.get(to.suffix) or (None if to.suffix else Format.CHROMA)
        if kind is None:  # a typing error must not become a directory
            raise Invalid(
                f"the format can't be told from the name to={to}",
                hint="a .parquet or .jsonl file, a directory without a dot in its name; or say which with --format",
            )
        target = _target(kind, to)
        with run.session() as session:
            run.find(session, collection)
            with run.output.progress(f"exporting {collection}") as advance:
                report = export_collection(
                    session, run.tenant, run.database, collection, target, version=version, progress=_progress(advance)
                )
        found: dict[str, Any] = {
            "result": "exported", "collection": report.name, "version": report.version, "deltas_included": report.overlay,
            "format": str(kind), "to": str(to), "records": report.records, "bytes": report.bytes, "how": report.how,
            "content_checksum": report.content, "embedding_checksum": report.embedding, "seconds": round(report.seconds, 3),
        }  # fmt: skip
        waiting = f" and {report.overlay} deltas on top" if report.overlay else ""
        run.output.data(
            found,
            lambda: run.output.line(
                f"exported {collection} version {report.version}{waiting}: {report.records:,} records, {size(report.bytes)} to {to}"
            ),
        )


def _format(source: str, given: Format | None) -> Format:
    """What ``source`` is. Raises ``NotFound`` if it is not there, ``Invalid`` if that can't be told."""
    if source.startswith(("http://", "https://")):
        return given or Format.SERVER
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
    if kind is Format.SERVER:
        raise Invalid("a server is no target of an export", hint="export to a directory, and let the server open that")
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
