"""``chromalith snapshot``: the published versions of a collection, what changed between them, and their tags."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chromalith.cli import rollback
from chromalith.cli.failures import DIFFERENCES
from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.moments import manifest_of
from chromalith.cli.output import moment, shown, size
from chromalith.compaction.version_diff import VersionDiff, diff_versions
from chromalith.coord.history import Kept, kept_versions
from chromalith.coord.pointer import read_manifest
from chromalith.coord.tags import list_tags, put_tag, release_tag
from chromalith.model.manifest import Manifest

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]
_WHICH = "a version, a tag, or a time"


def declare(app: typer.Typer) -> None:
    """Add ``snapshot`` to the command line."""
    group = typer.Typer(
        no_args_is_help=True,
        help="List, show, compare, tag and restore the published versions of a collection.",
        rich_markup_mode="rich",
    )
    accept_shared(group, _group)
    _declare_list(group)
    _declare_show(group)
    _declare_diff(group)
    rollback.declare(group)
    _declare_tags(group)
    app.add_typer(group, name="snapshot")


def _group() -> None:
    """List, show, compare, tag and restore the published versions of a collection."""


def _declare_list(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(
        run: Invocation,
        collection: Name,
        limit: Annotated[int, typer.Option("--limit", min=1, help="How many versions at most.")] = 20,
    ) -> None:
        r"""List the versions that can be read, newest first, with their tags.

        \b
        Example:
          chromalith snapshot list words
        """
        with run.session() as session, run.output.progress("reading manifests"):
            kept = kept_versions(session.store, run.find(session, collection).collection.id)
            found = [{**_described(read_manifest(session.store, each.key)), **_kept(each)} for each in kept[:limit]]

        def human() -> None:
            rows = [
                (
                    v["version"], v["kind"] if v["restored"] is None else f"{v['kind']} of {v['restored']}", v["created"], v["records"],
                    v["segments"], size(v["bytes"]), ", ".join(v["tags"]) + (" (only by tag)" if v["kept_by"] == "tag" else ""),
                )
                for v in found
            ]  # fmt: skip
            run.output.table(("version", "kind", "created", "records", "segments", "size", "tags"), rows)
            if len(kept) > len(found):
                run.output.say(f"{len(kept) - len(found)} older versions are not shown; --limit shows more")

        run.output.data({"collection": collection, "stored": len(kept), "versions": found}, human)


def _declare_show(group: typer.Typer) -> None:
    @command(group, "show")
    def show(
        run: Invocation,
        collection: Name,
        version: Annotated[str | None, typer.Argument(help=f"Which: {_WHICH}; the current one if not given.")] = None,
    ) -> None:
        r"""Show what one version consists of: its segments, checksums, quarantined and set-aside deltas.

        \b
        Example:
          chromalith snapshot show words 12
        """
        with run.session() as session:
            manifest = manifest_of(session, run.find(session, collection).collection.id, version)
        found = {"collection": collection, **_described(manifest), **_details(manifest)}

        def human() -> None:
            for key, value in found.items():
                if key not in ("segment_list", "quarantined", "set_aside"):
                    run.output.line(f"{key:<20} {shown(value)}")
            if found["segment_list"]:
                rows = [
                    (s["id"], s["rows"], s["records"], size(s["bytes"]), s["index"] or "–")
                    for s in found["segment_list"]
                ]
                run.output.table(("segment", "rows", "records", "size", "index"), rows)
            for each in found["quarantined"]:
                run.output.line(f"quarantined {each['delta']}: {shown(each['reason'])}")
            for each in found["set_aside"]:
                run.output.line(f"set aside by {each['restore']}: {each['deltas']} deltas")

        run.output.data(found, human)


def _declare_diff(group: typer.Typer) -> None:
    @command(group, "diff")
    def diff(
        run: Invocation,
        collection: Name,
        before: Annotated[str, typer.Argument(metavar="A", help=f"The one version: {_WHICH}.")],
        after: Annotated[str | None, typer.Argument(metavar="[B]", help=f"The other: {_WHICH}; the current one if not given.")] = None,
        limit: Annotated[int, typer.Option("--limit", min=0, help="How many ids of each kind to name.")] = 10,
        exit_code: Annotated[
            bool, typer.Option("--exit-code", help=f"End with {DIFFERENCES} if there are differences, as git does.")
        ] = False,
    ) -> None:
        r"""Compare the records of two versions by their ids and hashes. Deltas that are not folded are in neither.

        \b
        Example:
          chromalith snapshot diff words 11 12
          chromalith snapshot diff words before-import --exit-code
        """
        with run.session() as session, run.output.progress("comparing"):
            cid = run.find(session, collection).collection.id
            first, second = manifest_of(session, cid, before), manifest_of(session, cid, after)
            found = diff_versions(session.store, first, second)
        run.output.data({"collection": collection, **_differences(found, limit)}, lambda: _print_diff(run, found, limit))
        if exit_code and not found.same:
            raise typer.Exit(DIFFERENCES)


def _declare_tags(group: typer.Typer) -> None:
    @command(group, "tag")
    def tag(
        run: Invocation,
        collection: Name,
        name: Annotated[str, typer.Argument(metavar="TAG", help="The tag's name.")],
        version: Annotated[str | None, typer.Argument(help=f"Which: {_WHICH}; the current one if not given.")] = None,
    ) -> None:
        r"""Keep a version under a name, for as long as the tag stands: no sweep deletes it.

        \b
        Example:
          chromalith snapshot tag words before-import
        """
        with run.session() as session:
            cid = run.find(session, collection).collection.id
            manifest = manifest_of(session, cid, version)
            same = [tag.name for tag in list_tags(session.store, cid) if tag.held and tag.manifest == manifest.key]
            others = [each for each in same if each != name]
            put_tag(session.store, session.clock, cid, name, manifest, witness=others[0] if others else None)
        result = "already_tagged" if name in same else "tagged"
        found = {"result": result, "collection": collection, "tag": name, "version": manifest.version}
        run.output.data(found, lambda: run.output.line(f"{result} {collection} version {manifest.version} as {shown(name)}"))

    @command(group, "untag")
    def untag(
        run: Invocation, collection: Name, name: Annotated[str, typer.Argument(metavar="TAG", help="The tag's name.")]
    ) -> None:
        r"""Take a tag away: its version may be swept then, if it is old. A tag that is absent already is no error.

        \b
        Example:
          chromalith snapshot untag words before-import
        """
        with run.session() as session:
            named = release_tag(session.store, session.clock, run.find(session, collection).collection.id, name)
        result = "untagged" if named else "already_absent"
        found = {"result": result, "collection": collection, "tag": name}
        run.output.data(found, lambda: run.output.line(f"{result} {shown(name)}"))


def _described(manifest: Manifest) -> dict[str, Any]:
    restored = dict(manifest.restores).get(manifest.version)
    return {
        "version": manifest.version,
        "kind": manifest.kind,
        "restored": restored,
        "created": moment(manifest.created_us),
        "records": manifest.live,
        "segments": len(manifest.segments),
        "bytes": manifest.bytes,
        "manifest": manifest.key,
    }


def _kept(kept: Kept) -> dict[str, Any]:
    return {"tags": list(kept.tags), "kept_by": "tag" if kept.by_tag else "history"}


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
        "set_aside": [{"restore": str(each.id), "deltas": each.deltas} for each in manifest.aside],
    }


def _differences(found: VersionDiff, limit: int) -> dict[str, Any]:
    return {
        "from": found.before.version,
        "to": found.after.version,
        "added": len(found.added),
        "removed": len(found.removed),
        "changed": len(found.changed),
        "added_ids": list(found.added[:limit]),
        "removed_ids": list(found.removed[:limit]),
        "changed_ids": list(found.changed[:limit]),
        "segments_read": found.segments_read,
    }


def _print_diff(run: Invocation, found: VersionDiff, limit: int) -> None:
    span = f"version {found.before.version} to {found.after.version}"
    if found.same:
        run.output.line(f"no differences, {span}")
        return
    run.output.line(f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed, {span}")
    for sign, ids in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for record_id in ids[:limit]:
            run.output.line(f"{sign} {shown(record_id)}")
        if len(ids) > limit:
            run.output.say(f"{sign} {len(ids) - limit:,} more; --limit shows more")
