"""Forking: a new collection with the records of another one, copied inside the store. From then on neither sees the other's writes.

1. Ask whether the new name is free, before anything is written.
2. Read as a default read does: list the deltas, then read the pointer and its manifest. Read the deltas that the overlay would apply
   and encode them for the new collection, at once: a prompt sweep may delete them a minute after somebody folds them.
3. Tag the version, ``fork-<new id>``: while it holds, no sweep deletes what is copied. It does not hold: start again from 2.
4. Write the new collection's object. It has no name yet, so it does not exist.
5. Copy the version's objects, on the server's side and in parallel, and look at each copy. They keep their names, but for the base
   version, which is 0: no version of the new collection is older.
6. Publish its version 0, of kind ``fork``, which names the copies.
7. Put the deltas, one after another, by one writer: their order in the store is the order that they had.
8. Give it the name, by the conditional write of the database's object: *only this makes the fork exist*.
9. Release the tag.

Crash before 8: an unnamed collection and a tag, which a sweep removes when they are a day old. Crash after 8: the tag alone. The source is
only read, but for the tag.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from chromalith.clock import Clock
from chromalith.compaction.delta_spool import DeltaSpool
from chromalith.compaction.verified_copy import copy_verified
from chromalith.coord.catalog import Catalog, Named
from chromalith.coord.collection_object import CollectionObject, ForkedFrom
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.history import Moment, version_of
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import publish_first, read_current
from chromalith.coord.tags import find_tag, list_tags, put_tag, release_tag
from chromalith.errors import ChromalithError, Corrupt, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.folded import FoldedSet
from chromalith.model.ids import (
    WRITE_ID_DIGITS,
    WRITER_DIGITS,
    CollectionId,
    DeltaId,
    JobId,
    body_digest,
    collection_id,
    hlc_tick,
)
from chromalith.model.manifest import FileRef, Manifest, Segment
from chromalith.model.order import Listed, pending
from chromalith.store.cache import Swept
from chromalith.store.port import Absent, Store
from chromalith.store.readback import put_resolved
from chromalith.threads import NewExecutor

TAG_PURPOSE = "fork"
TAG_KEPT_US = 86_400_000_000
"""A day: a fork that copies for longer may find its tag released, and then fails (5 TB at 60 MB/s)."""
READ_TOGETHER = 8  # deltas, of at most 64 MiB each
COPY_TOGETHER = 16
RESTARTS_MAX = 5

Progress = Callable[[int, int], None]
"""Told the bytes copied so far, and all that there are to copy."""


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What a fork would take over. Choosing it reads only.

    Attributes:
        source: the collection.
        manifest: the version.
        pending: the deltas on top of it, in order; none for an older version.
        witness: a tag that holds an older version.
    """

    source: CollectionId
    manifest: Manifest
    pending: tuple[Listed, ...]
    witness: str | None = None

    @property
    def objects(self) -> dict[str, FileRef]:
        """What is to be copied, by key. The folded set is not: no delta of the source's can appear in the new collection."""
        return replace(self.manifest, folded_parts=()).objects

    @property
    def bytes(self) -> int:
        """The size of the objects."""
        return sum(file.size for file in self.objects.values())


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork that was made.

    Attributes:
        named: the new collection.
        source, version: what it was forked from.
        objects, bytes: how many objects were copied, and their size.
        deltas, operations: those on top of the version that were taken over.
        quarantined: deltas of the source that cannot be read, and so were not.
    """

    named: Named
    source: CollectionId
    version: int
    objects: int
    bytes: int
    deltas: int
    operations: int
    quarantined: int


def plan_fork(store: Store, source: CollectionId, at: Moment | None = None) -> ForkPlan:
    """What a fork would take over now; ``at``: a moment, a version or a tag instead of the present state.

    Raises ``NotFound`` (no such collection, version or tag), ``Swept`` (overtaken by a sweep: again), ``Corrupt``, ``Unavailable``.
    """
    if at is None:
        listed = list_deltas(store, source)  # 3.1: first
        manifest = read_current(store, source).manifest
        quarantined = {each.delta for each in manifest.quarantined}
        folded = Folded(manifest, FoldedParts.from_store(store))
        return ForkPlan(source, manifest, tuple(pending(listed, folded, quarantined)))
    manifest = version_of(store, source, at)
    held = (tag.name for tag in list_tags(store, source) if tag.held and tag.manifest == manifest.key)
    return ForkPlan(source, manifest, (), next(held, None))


def fork(
    store: Store,
    catalog: Catalog,
    clock: Clock,
    source: CollectionId,
    place: tuple[str, str, str],
    *,
    at: Moment | None = None,
    progress: Progress = lambda done, total: None,
    executor: NewExecutor = ThreadPoolExecutor,
) -> Forked:
    """Make a collection with the records of ``source``. See the module's docstring for the order.

    Args:
        store, catalog, clock: where; and time and chance.
        source: the collection to fork.
        place: tenant, database and name of the new one.
        at: a moment, a version or a tag instead of the present state.
        progress: see :data:`Progress`.
        executor: where threads come from.

    Raises:
        Conflict: the name is taken.
        NotFound: there is no such collection, database, version or tag.
        Corrupt: something of the source is damaged; a damaged delta is named, and is quarantined by the next compaction.
        Unavailable: the store failed, and there is no fork.
        Unknown: the last write, of the name, may or may not have happened: look whether the collection is there.
    """
    tenant, database, name = place
    catalog.get(source)
    home = catalog.check_free(tenant, database, name)
    cid = collection_id(clock.random_uuid())

    def release() -> None:
        with suppress(ChromalithError):  # then it is the sweep's
            release_tag(store, clock, source, tag_name(cid))

    try:
        with executor(COPY_TOGETHER, "chromalith-fork") as pool, DeltaSpool(source, cid) as spool:
            try:
                plan = _read_and_hold(store, clock, source, at, spool, pool)
                fresh = _build(store, catalog, clock, plan, spool, pool, progress)
            except Unknown as error:  # whatever became of it: without a name there is no fork
                raise Unavailable(f"the store failed, and there is no fork: {error.message}", hint="fork again") from error
        named = catalog.give_name(home, name, fresh)
    except Exception:
        release()
        raise
    release()
    version, left_out = plan.manifest.version, len(plan.manifest.quarantined)
    return Forked(named, source, version, len(plan.objects), plan.bytes, spool.deltas, spool.operations, left_out)


def tag_name(cid: CollectionId) -> str:
    """The tag that a fork holds on its source while it copies."""
    return f"fork-{cid}"


def forks_of(catalog: Catalog, tenant: str, database: str, cid: CollectionId) -> list[Named]:
    """The forks in the lineage of this collection that exist: of it, of what it was forked from, of its forks, and so on.

    One GET for the database, and one for each of its collections. Raises ``NotFound``.
    """
    root = catalog.get(cid).root
    listed = catalog.listing(tenant, database)
    return [each for each in listed if each.collection.forked_from is not None and each.collection.root == root]


# Steps ----------------------------------------------------------------------------------------------------------------


def _read_and_hold(
    store: Store, clock: Clock, source: CollectionId, at: Moment | None, spool: DeltaSpool, pool: Executor
) -> ForkPlan:
    """Steps 2 and 3: what is taken over, its deltas encoded, its version held."""

    def body(delta: Listed) -> bytes:
        return store.get(layout.delta_key(source, delta.id)).body

    for _ in range(RESTARTS_MAX):
        try:
            plan = plan_fork(store, source, at)
        except Swept:
            continue
        spool.clear(plan.manifest.dimension)
        try:
            for start in range(0, len(plan.pending), READ_TOGETHER):
                chunk = plan.pending[start : start + READ_TOGETHER]
                for delta, found in zip(chunk, pool.map(body, chunk), strict=True):
                    spool.add(delta.id, found)
            put_tag(store, clock, source, tag_name(spool.cid), plan.manifest, purpose=TAG_PURPOSE, witness=plan.witness)
        except NotFound:  # a fold and a sweep, or a new horizon, came between
            if at is not None:
                raise
            continue
        return plan
    raise Unavailable(f"versions come and go faster than they can be read collection={source}", hint="stop the compaction, or try again")


def _build(
    store: Store, catalog: Catalog, clock: Clock, plan: ForkPlan, spool: DeltaSpool, pool: Executor, progress: Progress
) -> CollectionObject:
    """Steps 4 to 7: everything but the name."""
    # Read after the deltas: a dimension is fixed before the first delta that has it.
    original = catalog.get(plan.source)
    origin = ForkedFrom(plan.source, plan.manifest.version, original.root)
    fresh = replace(original, id=spool.cid, created_us=clock.now_us(), forked_from=origin, abandoned=None)
    catalog.add_unnamed(fresh)
    date_us = store.head(layout.collection_key(fresh.id)).modified_us
    manifest = forked(plan.manifest, fresh.id, clock.random_hex(WRITE_ID_DIGITS), date_us)
    _copy_all(store, clock, plan, manifest, pool, progress)
    publish_first(store, clock, manifest)
    writer, hlc = clock.random_hex(WRITER_DIGITS), 0
    for counter, body in enumerate(spool.bodies()):
        hlc = hlc_tick(hlc, clock.now_us())
        delta = DeltaId(hlc, writer, counter, body_digest(body))
        put_resolved(store, layout.delta_key(fresh.id, delta), body, Absent(), clock=clock)
    return fresh


def forked(source: Manifest, cid: CollectionId, write_id: str, date_us: int) -> Manifest:
    """Version 0 of a fork: the same segments, deletes, checksums and sequence numbers, under names with base 0."""
    return replace(
        source,
        collection=cid,
        version=0,
        parent=None,
        write_id=write_id,
        kind="fork",
        created_us=date_us,
        boundary=0,
        horizon=0,
        segments=tuple(_renamed(segment) for segment in source.segments),
        quarantined=(),
        folded=FoldedSet(),
        published=(),
        folded_parts=(),
        restores=(),
        aside=(),
        buckets=source.buckets and replace(source.buckets, id=_at_base_0(source.buckets.id)),
    )


def _renamed(segment: Segment) -> Segment:
    deletes = segment.deletes
    return replace(segment, id=_at_base_0(segment.id), deletes=deletes and replace(deletes, id=_at_base_0(deletes.id)))


def _at_base_0(job: JobId) -> JobId:
    return JobId(0, job.nonce)


def _copy_all(store: Store, clock: Clock, plan: ForkPlan, manifest: Manifest, pool: Executor, progress: Progress) -> None:
    """Step 5. The two versions name the same objects in the same order."""
    pairs = zip(plan.objects.items(), manifest.objects.items(), strict=True)
    copies = [partial(copy_verified, store, clock, old, new, file) for (old, file), (new, _) in pairs]
    sizes = [file.size for file in manifest.objects.values()]
    done = 0
    try:
        for size, _ in zip(sizes, pool.map(lambda copy: copy(), copies), strict=True):
            done += size
            progress(done, plan.bytes)
    except NotFound as error:
        try:
            find_tag(store, plan.source, tag_name(manifest.collection))
        except NotFound:
            raise Unavailable("the fork took so long that a sweep released its tag", hint="fork again") from error
        raise Corrupt(
            f"I5 broken: what a held version names is missing collection={plan.source} version={plan.manifest.version}: {error.message}",
            hint="`chromalith snapshot list` shows the versions",
        ) from error
