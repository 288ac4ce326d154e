"""Import: the records of a source become deltas of a collection.

1. Find the collection or create it with the source's definition. One that exists must measure the same distance.
2. Take batch after batch from the source, validate it, and put it as one delta, ``upsert``.
3. The *next* put begins only when the last was acknowledged, so that the store's timestamps, and with them the order of the deltas,
   follow the source's order: ``get`` then answers in it. While one delta is on its way the next batch is read and validated.

An import that stops says how far it got. Each batch is whole or absent, and importing again is safe: an upsert of the
same records changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from chromalith.coord.catalog import Named
from chromalith.errors import ChromalithError, Corrupt, Invalid
from chromalith.model.delta import OPERATIONS_MAX
from chromalith.model.ids import CollectionId
from chromalith.model.operation import OP_BY_LABEL
from chromalith.session import Session
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Progress, Source, Sums, silent
from chromalith.write.validate import operations
from chromalith.write.writer import Receipt

DELTA_BYTES_MAX = 32 * 2**20  # half of what a delta may have: the size of text in Parquet is a guess before it is written


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        collection: the id of the collection that has the records now.
        name: its name.
        records, deltas, bytes: how many records were written, in how many deltas, of how many bytes.
        seconds: how long it took.
        verified: whether the source named checksums, and what was read added up to them.
        token: the session token of the last delta, ``None`` if there was none: who waits for it sees the whole import, because its
            deltas are in order.
    """

    collection: CollectionId
    name: str
    records: int
    deltas: int
    bytes: int
    seconds: float
    verified: bool
    token: str | None = None


def import_collection(
    session: Session,
    tenant: str,
    database: str,
    name: str,
    source: Source,
    *,
    progress: Progress = silent,
    batch: int = ROWS_DEFAULT,
    get_or_create: bool = True,
    op: str = "upsert",
) -> ImportReport:
    """Write every record of ``source`` to the collection ``name``; see the module's docstring for the order.

    Args:
        session: the store.
        tenant, database, name: of the collection.
        source: what to read.
        progress: told after each delta.
        batch: records a delta, at most 10,000; a batch over 32 MiB is cut into several deltas.
        get_or_create: write into a collection that exists; if false, that is a ``Conflict``.
        op: ``upsert``, or ``add`` to leave records alone that exist.

    Raises:
        Invalid: the source or the call is wrong. The message tells how many records were written before.
        Corrupt: the records do not add up to what the source says of them.
        Conflict, NotFound, Unavailable, Unknown: as a write raises them.
    """
    if op not in ("upsert", "add"):
        raise Invalid(f"an import adds or upserts op={op!r}", hint="use op='upsert' or op='add'")
    if not 1 <= batch <= OPERATIONS_MAX:
        raise Invalid(f"not a size for a batch batch={batch} limit={OPERATIONS_MAX}", hint=f"use 1 to {OPERATIONS_MAX}")
    began_s = session.clock.monotonic_s()
    batches = _sized(source.batches(batch))
    first = next(batches, None)  # a source that can't be read leaves no empty collection behind
    if first is not None:
        operations(OP_BY_LABEL[op], first.ids, first.embeddings, first.documents, first.uris, first.metadatas)
    named = _collection(session, tenant, database, name, source, get_or_create)
    run = _Run(session, named.collection.id, op, source, progress)
    if first is not None:
        run.all(first, batches)
    return ImportReport(
        collection=named.collection.id,
        name=name,
        records=run.records,
        deltas=run.deltas,
        bytes=run.bytes,
        seconds=session.clock.monotonic_s() - began_s,
        verified=source.sums is not None,
        token=run.token,
    )


def _collection(session: Session, tenant: str, database: str, name: str, source: Source, get_or_create: bool) -> Named:
    definition = source.definition
    named = session.catalog.create(
        tenant,
        database,
        name,
        configuration=definition.configuration,
        schema=definition.schema,
        metadata=definition.metadata,
        get_or_create=get_or_create,
    )
    if named.collection.space != definition.space:
        raise Invalid(
            f"the collection measures another distance name={name!r} space={named.collection.space} source={definition.space}",
            hint=f"say --space {named.collection.space} if the source does not name its distance, or import under another name",
        )
    return named


class _Run:
    """One import under way: a delta on its way to the store, and a batch being made ready behind it."""

    def __init__(self, session: Session, cid: CollectionId, op: str, source: Source, progress: Progress) -> None:
        self._session = session
        self._cid = cid
        self._op = op
        self._source = source
        self._progress = progress
        self._sums = Sums()
        self.records = self.deltas = self.bytes = 0
        self.token: str | None = None

    def all(self, first: Batch, rest: Iterator[Batch]) -> None:
        """Write ``first`` and the ``rest``, one after another."""
        total = self._source.total()
        pending: Future[Receipt] | None = None
        with ThreadPoolExecutor(1, "chromalith-import") as one:  # one thread: puts are in order
            try:
                batch: Batch | None = first
                while batch is not None:
                    call = self._call(batch)
                    if pending is not None:
                        self._done(pending.result(), total)
                    pending = one.submit(call)
                    if self._source.sums is not None:
                        self._sums = self._sums.plus(batch)
                    batch = next(rest, None)
            except ChromalithError as error:
                if pending is not None and pending.exception() is None:  # it was on its way when the next one failed
                    self._done(pending.result(), total)
                    pending = None
                raise self._told(error) from error
            try:
                if pending is not None:
                    self._done(pending.result(), total)
            except ChromalithError as error:
                raise self._told(error) from error
        if self._source.sums not in (None, self._sums):
            raise Corrupt(
                f"the records are not those that the source was written with source={self._source.name} written={self.records}",
                hint="export again; delete the collection, which has what was read",
            )

    def _call(self, batch: Batch) -> _Call:
        return _Call(self._session, self._cid, self._op, batch)

    def _done(self, receipt: Receipt, total: int | None) -> None:
        self.records += receipt.rows
        self.deltas += 1
        self.bytes += receipt.bytes
        self.token = receipt.token
        self._progress(self.records, total)

    def _told(self, error: ChromalithError) -> ChromalithError:
        """The same error, with how far the import got."""
        hint = error.hint or "correct the source, or try again"
        return type(error)(f"{error.message} imported={self.records}", hint=f"{hint}; importing again from the start is safe")


class _Call:
    """One delta to be written. Validated when it is made, in the importing thread; encoded and put when it is called."""

    def __init__(self, session: Session, cid: CollectionId, op: str, batch: Batch) -> None:
        collection = session.collections.known(cid) or session.collections.get(cid)
        self._operations = operations(
            OP_BY_LABEL[op],
            batch.ids,
            batch.embeddings,
            batch.documents,
            batch.uris,
            batch.metadatas,
            dimension=collection.dimension,
        )
        if collection.dimension is None and self._operations.dimension is not None:
            session.collections.fix_dimension(cid, self._operations.dimension)
        self._session = session
        self._cid = cid

    def __call__(self) -> Receipt:
        return self._session.writer.put(self._cid, self._operations)


def _sized(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same records in the same order, no batch over ``DELTA_BYTES_MAX`` unless one record is."""
    for batch in batches:
        waiting = [batch] if len(batch) else []
        while waiting:
            part = waiting.pop()
            if part.size_bytes > DELTA_BYTES_MAX and len(part) > 1:
                middle = len(part) // 2
                waiting += [part.part(middle, len(part)), part.part(0, middle)]
            else:
                yield part
