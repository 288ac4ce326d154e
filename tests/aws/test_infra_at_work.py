"""The product at work under its roles: each verb makes only requests that the policies allow, and is refused what they are there to refuse.

The store is in memory and asks the policy documents before each request, as S3 does. What the emulated account adds to this: signatures,
HTTP, and a second opinion on the documents (``tests/aws/test_deployed.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.aws.infra_program import NAMES, policies
from tests.aws.policed import PolicedStore
from tests.worlds import DATABASE, TENANT, World, merging

from chromalith.compaction.reclaim import StoreSweep
from chromalith.compaction.restore import Restorer
from chromalith.compaction.sweep import run_sweep
from chromalith.coord.pointer import read_current
from chromalith.coord.tags import list_tags, put_tag, release_tag
from chromalith.doctor.status import deltas_by_collection, status_of
from chromalith.errors import NotFound
from chromalith.model import layout
from chromalith.model.retention import Retention
from chromalith.read.reader import ReadLevel
from chromalith.store.port import Absent, NotAllowed, Store
from chromalith.testing.in_line import InLineExecutor
from chromalith.transfer.bundle import Bundle, export_bundle
from chromalith.transfer.export import version_source
from chromalith.transfer.import_ import import_collection

NOTHING_KEPT = Retention(keep_versions=1, keep_age_s=0, job_grace_s=0)
ANYTHING = policies.document(policies.allow("All", ["s3:*"], [NAMES.bucket_arn, f"{NAMES.bucket_arn}/*"]))
BUCKET = policies.bucket_policy(NAMES)
DAYS_S = 2 * 86_400


def under(role: str, store: Store, **options: Any) -> PolicedStore:
    """The store as a function's role sees it."""
    return PolicedStore(store, [policies.role_policy(role, NAMES, **options)], BUCKET)


def owner(store: Store) -> PolicedStore:
    """The store as the account's administrator sees it: everything is allowed but what the bucket itself refuses."""
    return PolicedStore(store, [ANYTHING], BUCKET)


@pytest.fixture
def world() -> Iterator[World]:
    """A collection with its dimension, made by the owner; compactors fold, merge and hold leases."""
    with World(settings=merging(lease=True, heartbeat=False)) as made:
        made.upsert("a", 0)
        yield made


def test_the_owner_needs_no_unconditional_write() -> None:
    """Creating, writing, compacting, tagging, restoring with replay, forking, renaming, deleting and sweeping pass the bucket's policy."""
    with World(settings=merging(lease=True, heartbeat=False)) as world:
        mine = owner(world.store)
        session = world.session(mine)
        named = session.catalog.create(TENANT, DATABASE, "mine", configuration={"hnsw": {"space": "l2"}})
        cid = named.collection.id
        for value in (1.0, 2.0, 3.0):
            session.writer.write(cid, "upsert", ["a", "b"], np.full((2, 3), value, np.float32), documents=["x", "y"])
            world.compactor(mine).run_once(cid)
            world.clock.advance(120)
        first = read_current(mine, cid).manifest
        put_tag(mine, world.clock, cid, "kept", first)
        session.writer.write(cid, "upsert", ["c"], np.zeros((1, 3), np.float32))
        Restorer(mine, world.clock, session.writer.put).run(cid, first.version, replay=True)
        session.fork(cid, (TENANT, DATABASE, "copy"))
        release_tag(mine, world.clock, cid, "kept")
        run_sweep(mine, world.clock, cid, NOTHING_KEPT, executor=lambda threads, name: InLineExecutor())
        session.catalog.delete(TENANT, DATABASE, "copy")
        world.clock.advance(DAYS_S)
        StoreSweep(mine, world.clock, session.catalog, NOTHING_KEPT, delete=True).run()
        assert session.view(cid, ReadLevel.INDEX_AND_WAL).count() == 3
        written = ("delta", "catalog", "collection", "tag", "snapshot", "segment", "quarantine")
        assert {("s3:PutObject", root) for root in written} <= mine.asked


def test_a_producer_writes_deltas(world: World) -> None:
    """With its role a producer finds the collection by name, writes, deletes, and repeats a call by its name."""
    mine = under("producer", world.store)
    session = world.session(mine)
    cid = session.catalog.lookup(TENANT, DATABASE, "words").collection.id
    session.writer.write(cid, "upsert", ["b"], np.ones((1, 3), np.float32), call_id="once")
    session.writer.write(cid, "delete", ["a"])
    assert world.documents().keys() == {"b"}
    assert {action for action, _ in mine.asked} <= {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}


def test_a_producer_makes_no_collection_and_fixes_no_dimension(world: World) -> None:
    """It is refused both, and neither is half done; what is absent is absent and not forbidden."""
    session = world.session(under("producer", world.store))
    with pytest.raises(NotFound):
        session.catalog.lookup(TENANT, DATABASE, "other")
    with pytest.raises(NotAllowed):
        session.catalog.create(TENANT, DATABASE, "other", configuration={"hnsw": {"space": "l2"}})
    empty = world.create("empty")
    with pytest.raises(NotAllowed):
        session.writer.write(empty, "upsert", ["a"], np.ones((1, 3), np.float32))
    assert world.session().collections.get(empty).dimension is None
    assert not list(world.store.list(layout.delta_prefix(empty)))


def test_a_producer_reads_nothing_else(world: World) -> None:
    """What others made of its deltas is not its affair: no manifest, no segment, no lease."""
    world.compact()
    mine = under("producer", world.store)
    with pytest.raises(NotAllowed):
        read_current(mine, world.cid)
    with pytest.raises(NotAllowed):
        mine.delete(layout.pointer_key(world.cid))
    with pytest.raises(NotAllowed):
        list(mine.list(""))


def test_a_compactor_folds_merges_and_sweeps_promptly(world: World) -> None:
    """With its role, and leases in the store, a compactor does a whole day's work; folded deltas go, and it finds all by one listing."""
    mine = under("compactor", world.store)
    compactor = world.compactor(mine)
    assert compactor.waiting() == [world.cid]
    for value in range(6):
        world.upsert("ab", value)
        world.compactor(mine).run_once(world.cid)
        world.clock.advance(100)
    assert world.documents() == {"a": "5", "b": "5"}
    assert len(list(world.store.list(layout.delta_prefix(world.cid)))) <= 1
    assert ("s3:DeleteObject", "delta") in mine.asked


def test_a_compactor_deletes_nothing_else_and_breaks_no_rule(world: World) -> None:
    """It can't delete a segment, nor overwrite the pointer without a condition, nor make a collection."""
    world.compact()
    mine = under("compactor", world.store)
    pointer = layout.pointer_key(world.cid)
    with pytest.raises(NotAllowed):
        mine.put(pointer, world.store.get(pointer).body)
    with pytest.raises(NotAllowed):
        mine.delete(pointer)
    for key in [e.key for page in world.store.list(layout.SEGMENT_ROOT) for e in page]:
        with pytest.raises(NotAllowed):
            mine.delete(key)
    with pytest.raises(NotAllowed):
        world.session(mine).catalog.create(TENANT, DATABASE, "other", configuration={"hnsw": {"space": "l2"}})


def test_a_compactor_with_imports_takes_an_export(world: World) -> None:
    """What was put below ``snapshot/migration/`` becomes a collection in a new store, probe and all; the source is left alone."""
    world.compact()
    session = world.session()
    with World() as other:
        mine = under("compactor", other.store, imports=True)
        for page in other.store.list(""):
            for entry in page:
                other.store.delete(entry.key)  # a store without anything: the first collection probes it
        source = version_source(session, "words", world.current())
        export_bundle([source], owner(other.store), "snapshot/migration/", clock=other.clock)
        bundle = Bundle(mine, "snapshot/migration/")
        imported = other.session(mine)
        report = import_collection(imported, TENANT, DATABASE, "words", bundle.source("words"))
        other.compactor(mine).run_once(report.collection)
        assert imported.view(report.collection, ReadLevel.INDEX_AND_WAL).count() == report.records == 1
        assert ("s3:PutObject", "probe") in mine.asked
        assert ("s3:PutObject", "store.json") in mine.asked


def test_a_query_reads_snapshot_overlay_and_history_and_writes_nothing(world: World) -> None:
    """The default level, an older version and a tag can be read; a missing collection is told as one; each write is refused."""
    world.compact()
    put_tag(world.store, world.clock, world.cid, "v1", world.current())
    world.upsert("b", 1)
    mine = under("query", world.store)
    session = world.session(mine)
    view = session.view(session.catalog.lookup(TENANT, DATABASE, "words").collection.id, ReadLevel.INDEX_AND_WAL)
    assert view.query(np.zeros((1, 3), np.float32), 2)[0].ids == ["a", "b"]
    (tag,) = list_tags(mine, world.cid)
    assert session.reader.view_of(read_current(mine, world.cid).manifest).count() == 1
    assert tag.name == "v1"
    with pytest.raises(NotFound):
        session.catalog.lookup(TENANT, DATABASE, "other")
    with pytest.raises(NotAllowed):
        session.writer.write(world.cid, "upsert", ["c"], np.ones((1, 3), np.float32))
    assert {action for action, _ in mine.asked} == {"s3:GetObject", "s3:ListBucket", "s3:PutObject"}
    assert {root for action, root in mine.asked if action == "s3:PutObject"} == {"delta"}  # the one that was refused


def test_a_sweep_of_a_store_deletes_what_it_must(world: World) -> None:
    """With its role a sweep publishes, releases, marks, and deletes garbage, a deleted collection and an abandoned one; not a migration."""
    for value in range(4):
        world.upsert("ab", value)
        world.compact()
        world.clock.advance(100)
    put_tag(world.store, world.clock, world.cid, "old", world.current())
    release_tag(world.store, world.clock, world.cid, "old")
    gone = world.create("gone")
    world.session().writer.write(gone, "upsert", ["a"], np.ones((1, 3), np.float32))
    world.compactor().run_once(gone)
    world.catalog._mark_deleted(gone)  # and whoever deleted it was killed before they took its name off
    unnamed = world.create("unnamed")
    world.catalog.take_name(TENANT, DATABASE, unnamed)
    world.store.put("probe/left/first", b"x")
    world.store.put("snapshot/migration/chroma.sqlite3", b"x")
    mine = under("sweep", world.store)
    for _ in range(3):
        world.clock.advance(DAYS_S)
        StoreSweep(mine, world.clock, world.session(mine).catalog, NOTHING_KEPT, delete=True).run()
    left = {entry.key for page in world.store.list("") for entry in page}
    assert not {key for key in left if gone in key or unnamed in key or key.startswith("probe/")}
    assert "snapshot/migration/chroma.sqlite3" in left
    assert world.documents() == {"a": "3", "b": "3"}
    assert {("s3:PutObject", root) for root in ("snapshot", "tag", "lease", "collection", "catalog")} <= mine.asked
    assert {("s3:DeleteObject", root) for root in ("snapshot", "segment", "probe", "collection", "delta")} <= mine.asked


def test_a_health_check_looks_and_touches_nothing(world: World) -> None:
    """What the health check tells of each collection can be read with its role, and its role writes nothing."""
    world.compact()
    world.upsert("b", 1)
    mine = under("health", world.store)
    session = world.session(mine)
    listed = deltas_by_collection(session, None)
    (told,) = [status_of(session, each, listed[each.collection.id]) for each in session.catalog.listing(TENANT, DATABASE)]
    assert (told["records"], told["deltas_waiting"]) == (1, 1)
    for key in (layout.pointer_key(world.cid), layout.date_key(world.cid), "probe/x", "elsewhere"):
        with pytest.raises(NotAllowed):
            mine.put(key, b"", Absent())
        with pytest.raises(NotAllowed):
            mine.delete(key)
