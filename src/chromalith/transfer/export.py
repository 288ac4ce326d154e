"""Export: a version of a collection becomes a source, and a target keeps it.

A version is read page by page from one pinned state, and its checksums are computed from what was read. Where the state
is a version without an overlay, they *must* be the ones in its manifest: else ``Corrupt``, and nothing appears under
the target's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.history import manifest_at
from chromalith.errors import Corrupt, Unavailable
from chromalith.model.manifest import Manifest
from chromalith.read.view import View
from chromalith.session import Session
from chromalith.transfer.port import Batch, Definition, Progress, Source, Sums, Target, Written, silent

_ALL = ("embeddings", "documents", "uris", "metadatas")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        name: of the collection.
        version: that was exported.
        overlay: how many deltas that no version has yet were exported with it (0 for an older version).
        records, bytes: written.
        how: the way that the target was written, where there are several.
        content, embedding: the checksums of the records, as :class:`~chromalith.model.checksum.Setsum` prints them.
        seconds: how long it took.
    """

    name: str
    version: int
    overlay: int
    records: int
    bytes: int
    how: str
    content: str
    embedding: str
    seconds: float


class ViewSource:
    """One state of a collection as a source.

    Args:
        view: the state.
        name: the collection's name.
        collection: what it is.
    """

    def __init__(self, view: View, name: str, collection: CollectionObject) -> None:
        self._view = view
        self._name = name
        self._collection = collection
        self._state = (view.manifest.key, view.overlay)

    @property
    def name(self) -> str:
        return self._name

    @property
    def definition(self) -> Definition:
        return Definition(self._collection.configuration, self._collection.schema, self._collection.metadata)

    @property
    def version(self) -> int | None:
        return self._view.manifest.version

    @property
    def overlay(self) -> int:
        """How many deltas are laid over the version."""
        return len(self._view.overlay)

    @property
    def sums(self) -> Sums | None:
        manifest = self._view.manifest
        return None if self._view.overlay else Sums(manifest.content, manifest.embedding)

    def total(self) -> int | None:
        return self._view.count()

    def batches(self, rows: int) -> Iterator[Batch]:
        total = self._view.count()
        for offset in range(0, total, rows):
            page = self._view.get(limit=rows, offset=offset, include=_ALL)
            if (self._view.manifest.key, self._view.overlay) != self._state:
                # Pages of two states could miss a record, or have it twice.
                raise Unavailable("the version was swept while it was read", hint="export again, or tag the version first")
            if page.embeddings is None or page.documents is None or page.uris is None or page.metadatas is None:
                raise Corrupt("a page of records is not whole")
            yield Batch(page.ids, page.embeddings, page.documents, page.uris, page.metadatas)


def view_source(session: Session, tenant: str, database: str, name: str, *, version: int | None = None) -> ViewSource:
    """The newest state of a collection (what is acknowledged is in it), or a published version. Raises ``NotFound``."""
    named = session.catalog.lookup(tenant, database, name)
    cid = named.collection.id
    view = session.view(cid) if version is None else session.reader.view_of(manifest_at(session.store, cid, version))
    return ViewSource(view, name, named.collection)


def version_source(session: Session, name: str, manifest: Manifest) -> ViewSource:
    """A version whose manifest is at hand, without an overlay."""
    return ViewSource(session.reader.view_of(manifest), name, session.collections.get(manifest.collection))


def export_collection(
    session: Session,
    tenant: str,
    database: str,
    name: str,
    target: Target,
    *,
    version: int | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Write a collection to ``target``: the newest state, or ``version``.

    Raises:
        Invalid: the target exists already.
        NotFound: there is no such collection or version.
        Corrupt: what was read is not what its manifest says.
        Unavailable: the store or the disk failed.
    """
    target.check()
    began_s = session.clock.monotonic_s()
    source = view_source(session, tenant, database, name, version=version)
    written = target.write(source, progress)
    return ExportReport(
        name=name,
        version=source.version or 0,
        overlay=source.overlay,
        records=written.records,
        bytes=written.bytes,
        how=written.how,
        content=str(written.sums.content),
        embedding=str(written.sums.embedding),
        seconds=session.clock.monotonic_s() - began_s,
    )


def check_written(source: Source, written: Written) -> None:
    """Raise ``Corrupt`` if what a target was given is not what the source says it is. Targets call it before they rename."""
    if source.sums not in (None, written.sums):
        raise Corrupt(
            f"the records are not those of the version name={source.name} version={source.version} read={written.records}",
            hint="`chromalith verify` shows what is damaged",
        )
