"""Compactors whose leases are in DynamoDB: the same as with leases in the store, also beside compactors that keep theirs there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.dynamo_place import OPTIONS, DynamoPlace, admin
from tests.lease_places import held
from tests.servers import Server
from tests.story.test_35_leased import At, leased_world
from tests.worlds import World, keys, merging

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compacting import compact
from chromalith.compaction.compactor import Compactor
from chromalith.compaction.verify import verify
from chromalith.coord.catalog import Catalog
from chromalith.coord.collections import Collections
from chromalith.coord.history import published_keys
from chromalith.coord.lease import Lease
from chromalith.coord.lease_table import LeaseTable
from chromalith.coord.object_leases import ObjectLeases
from chromalith.errors import Invalid, LeaseHeld
from chromalith.model import layout
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore, EveryCallStore
from chromalith.wiring import Reader, Writer, open_session

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def endpoint(moto: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.endpoint)
    for name, value in (("REGION", "region"), ("ACCESS_KEY_ID", "access_key_id"), ("SECRET_ACCESS_KEY", "secret_access_key")):
        monkeypatch.setenv(f"AWS_{name}", OPTIONS[value])
    monkeypatch.setenv("AWS_DEFAULT_REGION", OPTIONS["region"])
    return moto.endpoint


@pytest.fixture
def place(endpoint: str) -> DynamoPlace:
    return DynamoPlace(admin(endpoint))


def compactor(world: World, leases: LeaseTable, store: Store | None = None, **settings: Any) -> Compactor:
    store = store or world.store
    collections = Collections(store, Catalog(store, world.clock))
    return Compactor(store, collections, world.clock, replace(world.settings, **settings), leases=leases)


def of(world: World, place: DynamoPlace) -> LeaseTable:
    """The leases of the world's store in the place's table."""
    place.store = world.store
    return place.table(world.clock)


def test_a_fold_works_under_its_lease(place: DynamoPlace) -> None:
    """From before its LIST until it has published; then it is released. The store has the date, and no lease."""
    with leased_world() as world:
        leases = of(world, place)
        key = layout.lease_key(world.cid)
        seen: list[bool] = []

        class Looking(EveryCallStore):
            def call(self, verb, name, request):  # type: ignore[no-untyped-def]
                if (verb, name) == ("put", layout.pointer_key(world.cid)):
                    found = leases.look(key)
                    seen.append(found is not None and not found.record.released)
                return request()

        assert compactor(world, leases, Looking(world.store)).run_once(world.cid).folded == 1
        assert seen == [True]
        found = leases.look(key)
        assert found is not None
        assert found.record.released
        assert keys(world.store, layout.LEASE_ROOT) == [layout.date_key(world.cid)]
        assert world.documents() == {"a": "1", "b": "1"}


def test_an_idle_run_asks_the_table_nothing(place: DynamoPlace) -> None:
    """Nothing to fold, to sweep or to merge: no lease, so also no request to a table that is not even there."""
    with leased_world() as world:
        leases = of(world, place)
        compactor(world, leases).run_once(world.cid)
        world.clock.advance(100)
        compactor(world, leases).run_once(world.cid)
        place.client.delete_table(TableName=place.name)
        counting = CountingStore(world.store)
        assert compactor(world, leases, counting).run_once(world.cid).idle
        assert not any(verb == "put" for verb, _ in counting.counts.kinds)


def test_what_somebody_else_has_is_left_to_them(place: DynamoPlace) -> None:
    """And taken over, in one run, once they are known to be dead."""
    with leased_world() as world:
        leases = of(world, place)
        other = held(Lease(leases, layout.lease_key(world.cid), world.clock, purpose="fold", owner="other").try_acquire())
        outcome = compactor(world, leases).run_once(world.cid)
        assert outcome.idle
        assert outcome.held_by is not None
        assert outcome.held_by.owner == other.record.owner
        assert compactor(world, leases).run_once(world.cid, wait_s=1000).folded == 1
        assert not other.beat()


@pytest.mark.parametrize("first_in_table", [True, False])
def test_one_in_the_table_and_one_in_the_store_lose_nothing(place: DynamoPlace, first_in_table: bool) -> None:
    """Compactors that keep their leases in different places exclude nobody: whatever moment the one comes in at, both publish, who is
    late rebases or starts again, and each delta is folded once."""
    both_published = 0
    for number in range(1, 120, 7):
        with leased_world(merge=merging().merge) as world:
            tables: list[LeaseTable] = [of(world, place), ObjectLeases(world.store, world.clock)]
            mine, theirs = tables if first_in_table else reversed(tables)
            compactor(world, mine).run_once(world.cid)
            world.upsert("bc", 2)
            world.upsert("e", 5)
            published: list[int] = []

            def comes_in(world: World = world, theirs: LeaseTable = theirs, published: list[int] = published) -> None:
                world.upsert("d", 3)
                published += compactor(world, theirs).run_once(world.cid).published

            store = At(world.store, number, comes_in)
            outcome = compactor(world, mine, store, fold_deltas_max=1).run_once(world.cid)
            assert outcome.held_by is None, number
            both_published += bool(published) and bool(outcome.published)
            compactor(world, mine).run_once(world.cid)
            meanwhile = {"d": "3"} if store.calls >= number else {}
            assert world.documents() == {"a": "1", "b": "2", "c": "2", "e": "5"} | meanwhile, number
            assert world.current().next_seq == 5 + len(meanwhile)
            assert not set(published) & set(outcome.published)
            assert {*published, *outcome.published} <= set(published_keys(world.store, world.cid))
            verify(world.store, world.cid)
            if store.calls < number:
                break
    assert number > 30
    assert both_published > 2


def test_an_item_that_vanishes_while_its_holder_works_loses_nothing(place: DynamoPlace) -> None:
    """DynamoDB tidies the item away in the middle of a fold, and another compactor takes the lease: each delta is folded once."""
    for number in range(4, 60, 7):
        with leased_world(merge=merging().merge) as world:
            leases = of(world, place)
            world.upsert("c", 2)
            others: list[int] = []

            def vanishes(world: World = world, leases: LeaseTable = leases, others: list[int] = others) -> None:
                place.remove(layout.lease_key(world.cid))
                others += compactor(world, leases).run_once(world.cid).published

            store = At(world.store, number, vanishes)
            outcome = compactor(world, leases, store, fold_deltas_max=1).run_once(world.cid)
            assert outcome.published or others, number
            compactor(world, leases).run_once(world.cid)
            assert world.documents() == {"a": "1", "b": "1", "c": "2"}, number
            assert world.current().next_seq == 4
            verify(world.store, world.cid)


# -- choosing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def url() -> str:
    url = f"memory://chosen-{SYSTEM_CLOCK.random_hex(8)}"
    with Writer(url) as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])
    return url


@pytest.mark.parametrize("by", ["argument", "session", "setting", "neither"])
def test_choosing_where(place: DynamoPlace, url: str, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """By an argument of ``compact`` or of the session's compactor, or by the setting; with neither, in the store."""
    place.store = open_store(url)
    if by == "setting":
        monkeypatch.setenv("CHROMALITH_LEASE_TABLE", place.name)
    if by == "session":
        with open_session(url) as session:
            cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
            outcome = session.compactor(lease_table=place.name).run_once(cid)
    else:
        (outcome,) = compact(url, "words", lease_table=place.name if by == "argument" else None)
    assert outcome.folded == 1
    key = layout.lease_key(outcome.collection)
    assert (place.item(key) is not None) is (by != "neither")
    assert (key in keys(place.store, layout.LEASE_ROOT)) is (by == "neither")


def test_a_table_that_is_missing_stops_before_anything_is_done(url: str) -> None:
    """For the collection that was named, and for all: the error is ``Invalid`` with a hint, and nothing was compacted."""
    before = keys(open_store(url))
    for collection in ("words", None):
        with pytest.raises(Invalid, match="no-such-table") as error:
            compact(url, collection, lease_table="no-such-table")
        assert error.value.hint
    assert keys(open_store(url)) == before
    with Reader(url) as reader:
        assert reader.count("words") == 1
    assert compact(url, lease_table="no-such-table", ignore_lease=True)[0].folded == 1


def test_a_live_holder_in_the_table_is_said(place: DynamoPlace, url: str) -> None:
    """``compact`` of one collection says who is at it, wherever the lease is."""
    with Writer(url) as writer:
        cid = writer.session.catalog.lookup("default_tenant", "default_database", "words").collection.id
        clock = writer.session.clock
    place.store = open_store(url)
    tenure = held(Lease(place.table(clock), layout.lease_key(cid), clock, purpose="fold", lease_s=1.0, owner="other").try_acquire())

    class Beating:
        """Beats whenever somebody waits."""

        def __getattr__(self, name: str) -> Any:
            return getattr(clock, name)

        def sleep(self, seconds: float) -> None:
            clock.sleep(min(seconds, 0.05))
            tenure.beat()

    with pytest.raises(LeaseHeld, match=r"other/"):
        compact(url, "words", lease_table=place.name, clock=Beating())  # type: ignore[arg-type]
