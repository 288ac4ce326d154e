"""Stock snapshots: a version as a complete Chroma directory beside the version itself, for readers that are stock Chroma.

1. Build the directory on this machine, and check it with stock Chroma.
2. Put its files below ``snapshot/<cid>/<version>/chroma/<run>/``, ``manifest.json`` last. ``run`` is chance: two
   machines that do this for one version at once would otherwise overwrite each other's files, and no two builds of an
   HNSW index are equal.
3. Point ``snapshot/<cid>/stock.txt`` at it, by a conditional write, unless it names this version or a later one by then.

A crash before 3 leaves garbage that nothing names. A reader reads ``stock.txt``, then copies what the manifest names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chromalith.chroma.directory_builder import Way, build_directory
from chromalith.chroma.export import described
from chromalith.clock import Clock
from chromalith.coord.pointer import read_current
from chromalith.errors import Conflict, Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.ids import VERSION_DIGITS, CollectionId
from chromalith.model.manifest import Manifest
from chromalith.session import Session
from chromalith.store.port import Absent, Matches, Object, PreconditionFailed, Store
from chromalith.store.readback import put_resolved
from chromalith.transfer.directory_objects import download_directory, upload_directory
from chromalith.transfer.export import version_source
from chromalith.transfer.port import Progress, silent

RUN_DIGITS = 8
ATTEMPTS_MAX = 16  # races for stock.txt: each lost one means that somebody published a stock snapshot meanwhile


@dataclass(frozen=True, slots=True)
class StockSnapshot:
    """What ``stock.txt`` names after the call.

    Attributes:
        version: of the collection.
        prefix: where the directory is.
        published: whether this call put it there; false if there was one of this version, or of a later one.
        records, bytes, how: of what this call built (0 and empty if nothing).
    """

    version: int
    prefix: str
    published: bool
    records: int = 0
    bytes: int = 0
    how: str = ""


def publish_stock_snapshot(
    session: Session,
    name: str,
    cid: CollectionId,
    *,
    manifest: Manifest | None = None,
    way: Way = Way.AUTO,
    progress: Progress = silent,
) -> StockSnapshot:
    """Publish a version (``None``: the current one) of the collection as a stock snapshot, under its ``name``.

    Raises ``NotFound`` (the collection is gone, or the version swept), ``Corrupt`` (the directory is not right: nothing
    was published), ``Conflict``, ``Unavailable``, ``Unknown``.
    """
    store, clock = session.store, session.clock
    wanted = manifest or read_current(store, cid).manifest
    named = read_stock(store, cid)
    if named is not None and named[0] >= wanted.version:
        return StockSnapshot(*named, published=False)
    source = version_source(session, name, wanted)
    prefix = f"{layout.stock_prefix(cid, wanted.version)}{clock.random_hex(RUN_DIGITS)}/"
    with tempfile.TemporaryDirectory(prefix="chromalith-stock-") as temporary:
        directory = Path(temporary) / "chroma"
        written = build_directory(directory, source, way=way, progress=progress)
        size = upload_directory(directory, store, prefix, described(source, written), clock)
    version, stands = _name(store, clock, cid, wanted.version, prefix)
    return StockSnapshot(version, stands, stands == prefix, written.records, size, written.how)


def publish_stock_snapshots(
    session: Session, tenant: str, database: str, cids: Iterable[CollectionId], *, progress: Progress = silent
) -> list[StockSnapshot]:
    """What follows a compaction where ``stock_snapshot`` is on: one for each collection of this database that got a new version.

    A collection of another database is left to who compacts that one, because only a database knows names. Raises as
    :func:`publish_stock_snapshot`.
    """
    published = []
    for cid in cids:
        try:
            name = session.catalog.lookup_id(tenant, database, cid).name
        except NotFound:
            continue
        published.append(publish_stock_snapshot(session, name, cid, progress=progress))
    return published


def read_stock(store: Store, cid: CollectionId) -> tuple[int, str] | None:
    """The version and the prefix of the newest complete stock snapshot, if there is one. Raises ``Corrupt``."""
    found = _held(store, cid)
    return None if found is None else _parse(cid, found)


def fetch_stock_snapshot(store: Store, cid: CollectionId, directory: Path) -> int:
    """Copy the newest stock snapshot to ``directory`` (a new path for each version: Chroma must not have it open), and return its version.

    Raises ``NotFound`` if there is none, ``Corrupt``.
    """
    named = read_stock(store, cid)
    if named is None:
        raise NotFound(
            f"the collection has no stock snapshot collection={cid}",
            hint="set CHROMALITH_STOCK_SNAPSHOT=1 where it is compacted",
        )
    download_directory(store, named[1], directory)
    return named[0]


def _name(store: Store, clock: Clock, cid: CollectionId, version: int, prefix: str) -> tuple[int, str]:
    for _ in range(ATTEMPTS_MAX):
        held = _held(store, cid)
        if held is not None:
            named = _parse(cid, held)
            if named[0] >= version:
                return named
        try:
            condition = Absent() if held is None else Matches(held.etag)
            put_resolved(store, layout.stock_key(cid), f"{prefix}\n".encode(), condition, clock=clock)
            return version, prefix
        except PreconditionFailed:
            continue
    raise Conflict(f"others kept publishing stock snapshots collection={cid}", hint="try again")


def _held(store: Store, cid: CollectionId) -> Object | None:
    try:
        return store.get(layout.stock_key(cid))
    except NotFound:
        return None


def _parse(cid: CollectionId, held: Object) -> tuple[int, str]:
    prefix = held.body.decode("utf-8", "replace").strip()
    version = prefix.removeprefix(layout.snapshot_prefix(cid)).split("/")[0]
    if not prefix.startswith(layout.snapshot_prefix(cid)) or len(version) != VERSION_DIGITS or not version.isdigit():
        raise Corrupt(f"stock.txt names no stock snapshot key={held.key}", hint="delete it: the next publish writes it again")
    return int(version), prefix
