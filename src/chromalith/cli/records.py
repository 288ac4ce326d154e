"""``chromalith get``, ``query`` and ``count``: reading records. What they take is what Chroma's own methods take."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from chromalith.cli.embedding import named, wordllama
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.moments import At, manifest_of
from chromalith.cli.output import Output, shown
from chromalith.errors import Invalid, NotFound
from chromalith.guide import EMBED
from chromalith.read.view import Records, View
from chromalith.read.waiting import DEFAULT_TIMEOUT_S
from chromalith.session import Session

INCLUDE = ("documents", "metadatas", "uris", "embeddings")
_FIELD = {
    "documents": "document",
    "metadatas": "metadata",
    "uris": "uri",
    "embeddings": "embedding",
    "distances": "distance",
}
_TEXT_MAX = 100  # characters of a document that a person is shown

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="JSON", help='Filter on metadata, as in Chroma: {"year": {"$gt": 2020}}.'),
]
WhereDocument = Annotated[
    str | None, typer.Option("--where-document", metavar="JSON", help='Filter on documents: {"$contains": "word"}.')
]
Include = Annotated[
    str,
    typer.Option(
        "--include",
        metavar="NAMES",
        help=f"What to show of each record: names out of {', '.join(INCLUDE)}, with commas.",
    ),
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="TOKEN", help="Wait until the write of this session token is seen; import prints one."),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="With --after: how long at most.")]


def declare(app: typer.Typer) -> None:
    """Add ``get``, ``query`` and ``count`` to the command line."""
    _declare_count(app)
    _declare_get(app)
    _declare_query(app)


def _declare_count(app: typer.Typer) -> None:
    @command(app, "count")
    def count(run: Invocation, collection: Name, after: After = None, timeout: Timeout = DEFAULT_TIMEOUT_S, at: At = None) -> None:
        r"""Count the records of a collection, those not folded yet included.

        \b
        Example:
          chromalith count words --store ./store
          chromalith count words --at before-import
        """
        with run.session() as session:
            found = _view(run, session, collection, after, timeout, at).count()
        run.output.data({"collection": collection, "count": found}, lambda: run.output.line(str(found)))


def _declare_get(app: typer.Typer) -> None:
    @command(app, "get")
    def get(
        run: Invocation,
        collection: Name,
        id_: Annotated[list[str] | None, typer.Option("--id", help="An id; may be repeated.")] = None,
        where: Where = None,
        where_document: WhereDocument = None,
        limit: Annotated[int, typer.Option("--limit", min=0, help="How many records at most.")] = 10,
        offset: Annotated[int, typer.Option("--offset", min=0, help="How many to leave out first.")] = 0,
        include: Include = "documents,metadatas",
        after: After = None,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        at: At = None,
    ) -> None:
        r"""Show records by id or filter, in the order of their insertion.

        \b
        Example:
          chromalith get words --id a --id b
          chromalith get words --where '{"year": {"$gt": 2020}}' --json
          chromalith get words --id a --at 2026-01-31T12:00:00Z
        """
        columns = _columns(include)
        filters = {"where": _json("--where", where), "where_document": _json("--where-document", where_document)}
        with run.session() as session, run.output.progress("reading"):
            view = _view(run, session, collection, after, timeout, at)
            found = view.get(ids=id_, limit=limit, offset=offset, include=columns, **filters)
        records = _rows(found)
        run.output.data({"collection": collection, "records": records}, lambda: _print(run.output, records))


def _declare_query(app: typer.Typer) -> None:
    @command(app, "query")
    def query(
        run: Invocation,
        collection: Name,
        embedding: Annotated[
            str | None, typer.Option("--embedding", metavar="JSON", help="A vector as JSON, or a list of vectors.")
        ] = None,
        file: Annotated[Path | None, typer.Option("--file", help="The same in a file: JSON, or numpy's .npy.")] = None,
        text: Annotated[list[str] | None, typer.Option("--text", help="Words to embed; may be repeated.")] = None,
        embed: Annotated[
            str | None,
            typer.Option(
                "--embed",
                envvar=EMBED,
                metavar="MODULE:FUNCTION",
                help="What embeds --text; wordllama, if installed, when not given.",
            ),
        ] = None,
        n: Annotated[int, typer.Option("--n", min=1, help="How many records for each vector.")] = 10,
        where: Where = None,
        where_document: WhereDocument = None,
        include: Include = "documents,metadatas",
        after: After = None,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        at: At = None,
    ) -> None:
        r"""Find the records nearest to a vector, nearest first, among those that pass the filters.

        \b
        Example:
          chromalith query words --embedding '[0.1, 0.2, 0.3]' --n 5
          chromalith query words --text 'compress a file' --where '{"year": 1990}'
          chromalith query words --text 'compress a file' --embed my_models:embed
        """
        columns = [*_columns(include), "distances"]
        filters = {"where": _json("--where", where), "where_document": _json("--where-document", where_document)}
        vectors = _vectors(embedding, file, text, embed)
        with run.session() as session, run.output.progress("searching"):
            view = _view(run, session, collection, after, timeout, at)
            answers = [_rows(each) for each in view.query(vectors, n, include=columns, **filters)]

        def human() -> None:
            for position, hits in enumerate(answers):
                if len(answers) > 1:
                    run.output.line(
                        f"query {position}: {text[position] if text else shown(vectors[position], 60)}", "bold"
                    )
                _print(run.output, hits)

        run.output.data(
            {
                "collection": collection,
                "version": view.manifest.version,
                "queries": [{"hits": hits} for hits in answers],
            },
            human,
        )


def _view(run: Invocation, session: Session, name: str, after: str | None, timeout_s: float, at: str | None) -> View:
    if at is not None:
        if after is not None:
            raise Invalid("an older version does not change: --at and --after exclude each other", hint="leave one of them out")
        return session.reader.view_of(manifest_of(session, run.find(session, name).collection.id, at))
    return session.view(run.find(session, name).collection.id, after=after, timeout_s=timeout_s)


def _columns(include: str) -> list[str]:
    names = [name.strip() for name in include.split(",") if name.strip()]
    wrong = [name for name in names if name not in INCLUDE]
    if wrong:
        raise Invalid(
            f"cannot include this include={wrong[0]!r}",
            hint=f"names out of {', '.join(INCLUDE)}, with commas between them",
        )
    return names


def _json(option: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        example = "[0.1, 0.2, 0.3]" if option == "--embedding" else '{"key": "value"}'
        raise Invalid(f"{option} is not JSON: {error}", hint=f"quote it for the shell: {option} '{example}'") from error


def _vectors(
    embedding: str | None, file: Path | None, text: list[str] | None, embed: str | None
) -> npt.NDArray[np.float32]:
    """The vectors to ask with, as float32 (n, dim)."""
    given = [name for name, value in (("--embedding", embedding), ("--file", file), ("--text", text)) if value]
    if len(given) != 1:
        what = f"got {' and '.join(given)}" if given else "got none"
        raise Invalid(
            f"a query needs exactly one of --embedding, --file, --text; {what}", hint="see `chromalith query --help`"
        )
    if text:
        return _embedded(text, embed)
    value = _json("--embedding", embedding) if embedding else _read(file or Path())
    try:
        matrix = np.asarray(value, np.float32)
    except (ValueError, TypeError) as error:
        raise Invalid(
            f"{given[0]} is not a vector, nor a list of vectors of one length", hint="write it as [0.1, 0.2, 0.3]"
        ) from error
    matrix = matrix.reshape(1, -1) if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.size == 0:
        raise Invalid(
            f"{given[0]} is not a vector, nor a list of vectors shape={matrix.shape}",
            hint="write it as [0.1, 0.2, 0.3]",
        )
    return matrix


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no such file file={file}", hint="check the path") from error
    except ValueError as error:
        raise Invalid(
            f"the file holds no vector file={file}: {error}", hint="JSON such as [0.1, 0.2], or a .npy file"
        ) from error


def _embedded(texts: list[str], embed: str | None) -> npt.NDArray[np.float32]:
    if embed is not None:
        return named(embed)(texts)
    if importlib.util.find_spec("wordllama") is None:
        raise Invalid(
            "nothing was named that embeds --text",
            hint="add --embed module:function, or pip install 'chromalith[demo]' for wordllama",
        )
    return wordllama()(texts)


def _rows(found: Records) -> list[dict[str, Any]]:
    """One dictionary a record, with the columns that were asked for."""
    rows: list[dict[str, Any]] = [{"id": each} for each in found.ids]
    columns = {name: getattr(found, name) for name in ("distances", *INCLUDE)}
    for name, column in columns.items():
        if column is not None:
            for row, value in zip(rows, column.tolist() if isinstance(column, np.ndarray) else column, strict=True):
                row[_FIELD[name]] = value
    return rows


def _print(output: Output, rows: list[dict[str, Any]]) -> None:
    if not rows:
        output.say("no records")
    for row in rows:
        distance = f"{row['distance']:.4f}  " if "distance" in row else ""
        output.line(f"{distance}{shown(row['id'])}", "bold")
        for name in ("document", "uri", "metadata", "embedding"):
            if row.get(name) is not None:
                value = json.dumps(row[name], ensure_ascii=False) if isinstance(row[name], dict | list) else row[name]
                output.line(f"    {shown(value, _TEXT_MAX)}")
