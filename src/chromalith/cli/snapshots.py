"""``chromalith snapshot``: the published versions of a collection."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.output import moment, shown, size
from chromalith.coord.history import manifest_at, published_keys
from chromalith.coord.pointer import read_manifest
from chromalith.model.manifest import Manifest

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]


def declare(app: typer.Typer) -> None:
    """Add ``snapshot`` to the command line."""
    group = typer.Typer(
        no_args_is_help=True, help="List and show the published versions of a collection.", rich_markup_mode="rich"
    )
    accept_shared(group, _group)
    _declare(group)
    app.add_typer(group, name="snapshot")


def _group() -> None:
    """List and show the published versions of a collection."""


def _declare(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(
        run: Invocation,
        collection: Name,
        limit: Annotated[int, typer.Option("--limit", min=1, help="How many versions at most.")] = 20,
    ) -> None:
        r"""List the published versions that are stored, newest first.

        \b
        Example:
          chromalith snapshot list words
        """
        with run.session() as session, run.output.progress("reading manifests"):
            keys = published_keys(session.store, run.find(session, collection).collection.id)
            newest = sorted(keys, reverse=True)[:limit]
            found = [_described(read_manifest(session.store, keys[version])) for version in newest]

        def human() -> None:
            rows = [
                (v["version"], v["kind"], v["created"], v["records"], v["segments"], size(v["bytes"])) for v in found
            ]
            run.output.table(("version", "kind", "created", "records", "segments", "size"), rows)
            if len(keys) > len(found):
                run.output.say(f"{len(keys) - len(found)} older versions are not shown; --limit shows more")

        run.output.data({"collection": collection, "stored": len(keys), "versions": found}, human)

    @command(group, "show")
    def show(
        run: Invocation,
        collection: Name,
        version: Annotated[int | None, typer.Argument(help="The version; the current one if not given.", min=0)] = None,
    ) -> None:
        r"""Show what one version consists of: its segments, checksums and quarantined deltas.

        \b
        Example:
          chromalith snapshot show words 12
        """
        with run.session() as session:
            cid = run.find(session, collection).collection.id
            if version is None:
                manifest = session.view(cid).manifest
            else:
                manifest = manifest_at(session.store, cid, version)
        found = {"collection": collection, **_described(manifest), **_details(manifest)}

        def human() -> None:
            for key, value in found.items():
                if key not in ("segment_list", "quarantined"):
                    run.output.line(f"{key:<20} {shown(value)}")
            if found["segment_list"]:
                rows = [
                    (s["id"], s["rows"], s["records"], size(s["bytes"]), s["index"] or "–")
                    for s in found["segment_list"]
                ]
                run.output.table(("segment", "rows", "records", "size", "index"), rows)
            for each in found["quarantined"]:
                run.output.line(f"quarantined {each['delta']}: {shown(each['reason'])}")

        run.output.data(found, human)


def _described(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "kind": manifest.kind,
        "created": moment(manifest.created_us),
        "records": manifest.live,
        "segments": len(manifest.segments),
        "bytes": manifest.bytes,
        "manifest": manifest.key,
    }


def _details(manifest: Manifest) -> dict[str, Any]:
    return {
        "parent": manifest.parent,
        "dimension": manifest.dimension,
        "next_seq": manifest.next_seq,
        "boundary": manifest.boundary,
        "horizon": manifest.horizon,
        "content_checksum": str(manifest.content),
        "embedding_checksum": str(manifest.embedding),
        "segment_list": [
            {
                "id": str(segment.id),
                "rows": segment.rows,
                "records": segment.live,
                "bytes": segment.bytes,
                "index": None if segment.index is None else segment.index.kind,
            }
            for segment in manifest.segments
        ],
        "quarantined": [{"delta": each.delta, "reason": each.reason} for each in manifest.quarantined],
    }
