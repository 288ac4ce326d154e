"""The catalog: names, collections and databases under races and crashes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.coord.catalog import Catalog, Named
from chromalith.coord.databases import DEFAULT_DATABASE, DEFAULT_DATABASE_ID, DEFAULT_TENANT
from chromalith.coord.pointer import read_current, read_pointer
from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.model import layout
from chromalith.store.memory import MemoryStore

TENANT, DATABASE = DEFAULT_TENANT, DEFAULT_DATABASE


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(SYSTEM_CLOCK)


@pytest.fixture
def catalog(store: MemoryStore) -> Catalog:
    return Catalog(store, ManualClock())


def create(catalog: Catalog, name: str, **more: object) -> Named:
    return catalog.create(TENANT, DATABASE, name, configuration={"hnsw": {"space": "cosine"}}, **more)  # type: ignore[arg-type]


def keys(store: MemoryStore) -> list[str]:
    return [entry.key for page in store.list("") for entry in page]


def names(catalog: Catalog) -> list[str]:
    return [each.name for each in catalog.listing(TENANT, DATABASE)]


def test_looking_writes_nothing(store: MemoryStore, catalog: Catalog) -> None:
    assert catalog.databases.all(TENANT) == {DATABASE: DEFAULT_DATABASE_ID}
    assert catalog.listing(TENANT, DATABASE) == []
    assert catalog.count(TENANT, DATABASE) == 0
    with pytest.raises(NotFound):
        catalog.lookup(TENANT, DATABASE, "words")
    assert keys(store) == []


def test_a_created_collection_is_found_by_name_and_id_with_version_zero(store: MemoryStore, catalog: Catalog) -> None:
    made = create(catalog, "words", metadata={"a": 1.0})
    cid = made.collection.id
    assert catalog.lookup(TENANT, DATABASE, "words") == made == catalog.lookup_id(TENANT, DATABASE, cid)
    assert made.collection.space == "cosine"
    assert read_current(store, cid).manifest.version == 0
    assert layout.store_key() in keys(store)


def test_a_taken_name_is_refused_or_taken_over_as_asked(catalog: Catalog) -> None:
    made = create(catalog, "words", metadata={"a": 1})
    with pytest.raises(Conflict, match="words"):
        create(catalog, "words")
    assert create(catalog, "words", get_or_create=True, metadata={"a": 2}) == made


def test_of_many_that_create_one_name_one_wins_and_the_others_leave_only_garbage(store: MemoryStore) -> None:
    def attempt(_: int) -> Named:
        return create(Catalog(store, SYSTEM_CLOCK), "words", get_or_create=True)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(attempt, range(8)))
    assert len({each.collection.id for each in made}) == 1
    alive = 0
    for key in keys(store):
        if key.startswith(layout.COLLECTION_ROOT):
            alive += b'"deleted":false' in store.get(key).body
    assert alive == 1


def test_collections_are_listed_in_the_order_of_their_creation(catalog: Catalog) -> None:
    for name in ("zebra", "apple", "mango"):
        create(catalog, name)
    assert names(catalog) == ["zebra", "apple", "mango"]
    assert [each.name for each in catalog.listing(TENANT, DATABASE, limit=1, offset=1)] == ["apple"]
    assert catalog.count(TENANT, DATABASE) == 3


def test_renaming_keeps_the_collection_and_refuses_a_taken_name(catalog: Catalog) -> None:
    first, second = create(catalog, "first"), create(catalog, "second")
    with pytest.raises(Conflict):
        catalog.rename(TENANT, DATABASE, first.collection.id, "second")
    catalog.rename(TENANT, DATABASE, first.collection.id, "first")
    catalog.rename(TENANT, DATABASE, first.collection.id, "third")
    assert names(catalog) == ["third", "second"]
    assert catalog.lookup(TENANT, DATABASE, "third").collection == first.collection
    catalog.delete(TENANT, DATABASE, "second")
    with pytest.raises(NotFound):
        catalog.rename(TENANT, DATABASE, second.collection.id, "fourth")


def test_a_deleted_collection_is_gone_by_name_and_id_and_its_name_is_free(store: MemoryStore, catalog: Catalog) -> None:
    old = create(catalog, "words").collection.id
    assert catalog.delete(TENANT, DATABASE, "words") == old
    for look in (lambda: catalog.get(old), lambda: catalog.lookup(TENANT, DATABASE, "words")):
        with pytest.raises(NotFound):
            look()
    with pytest.raises(NotFound):
        read_pointer(store, old)
    with pytest.raises(NotFound):
        catalog.delete(TENANT, DATABASE, "words")
    assert create(catalog, "words").collection.id != old


def test_a_delete_that_crashed_after_its_mark_hides_the_collection_and_frees_the_name(
    store: MemoryStore, catalog: Catalog
) -> None:
    old = create(catalog, "words").collection
    store.put(layout.collection_key(old.id), replace_deleted(store, old.id))
    assert names(catalog) == []
    with pytest.raises(NotFound):
        catalog.lookup(TENANT, DATABASE, "words")
    new = create(catalog, "words").collection
    assert new.id != old.id
    assert catalog.lookup(TENANT, DATABASE, "words").collection == new


def replace_deleted(store: MemoryStore, cid: str) -> bytes:
    return store.get(f"collection/{cid}.json").body.replace(b'"deleted":false', b'"deleted":true')


def test_a_dimension_is_fixed_once(catalog: Catalog) -> None:
    cid = create(catalog, "words").collection.id
    assert catalog.fix_dimension(cid, 3).dimension == 3
    assert catalog.fix_dimension(cid, 3).dimension == 3
    with pytest.raises(Invalid, match="dimension=3 given=4"):
        catalog.fix_dimension(cid, 4)


def test_a_modification_is_seen_by_all_and_refused_after_the_end(store: MemoryStore, catalog: Catalog) -> None:
    cid = create(catalog, "words").collection.id
    catalog.modify(cid, lambda found: replace(found, metadata={"b": True}))
    assert Catalog(store, ManualClock(seed=1)).get(cid).metadata == {"b": True}
    catalog.delete(TENANT, DATABASE, "words")
    with pytest.raises(NotFound):
        catalog.modify(cid, lambda found: found)


def test_metadata_without_a_word_in_json_is_refused_before_anything_is_written(
    store: MemoryStore, catalog: Catalog
) -> None:
    with pytest.raises(Invalid, match="finite"):
        create(catalog, "words", metadata={"a": float("inf")})
    assert names(catalog) == []
    assert not [key for key in keys(store) if key.startswith(layout.COLLECTION_ROOT)]


def test_tenants_and_databases_exist_once_created_and_not_before(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        catalog.databases.create("acme", "sales")
    catalog.databases.create_tenant("acme")
    with pytest.raises(Conflict):
        catalog.databases.create_tenant("acme")
    with pytest.raises(Conflict):
        catalog.databases.create_tenant(TENANT)
    made = catalog.databases.create("acme", "sales")
    with pytest.raises(Conflict):
        catalog.databases.create("acme", "sales")
    assert catalog.databases.all("acme") == {"sales": made.id}
    catalog.databases.create(TENANT, "extra")
    assert set(catalog.databases.all(TENANT)) == {DATABASE, "extra"}


def test_one_name_in_two_databases_is_two_collections(catalog: Catalog) -> None:
    catalog.databases.create(TENANT, "extra")
    here = create(catalog, "words")
    there = catalog.create(TENANT, "extra", "words", configuration={})
    assert here.collection.id != there.collection.id
    with pytest.raises(NotFound):
        catalog.lookup_id(TENANT, "extra", here.collection.id)


def test_deleting_a_database_deletes_its_collections_and_a_new_one_is_empty(catalog: Catalog) -> None:
    first = catalog.databases.create(TENANT, "extra")
    cid = catalog.create(TENANT, "extra", "words", configuration={}).collection.id
    catalog.delete_database(TENANT, "extra")
    with pytest.raises(NotFound):
        catalog.get(cid)
    with pytest.raises(NotFound):
        catalog.create(TENANT, "extra", "words", configuration={})
    with pytest.raises(NotFound):
        catalog.delete_database(TENANT, "extra")
    assert catalog.databases.create(TENANT, "extra").id != first.id
    assert catalog.listing(TENANT, "extra") == []


def test_a_database_closed_by_a_crashed_delete_takes_no_collection_and_can_be_deleted_again(catalog: Catalog) -> None:
    catalog.databases.create(TENANT, "extra")
    cid = catalog.create(TENANT, "extra", "words", configuration={}).collection.id
    catalog.databases.close(TENANT, "extra")
    with pytest.raises(NotFound, match="being deleted"):
        catalog.create(TENANT, "extra", "more", configuration={})
    catalog.delete_database(TENANT, "extra")
    with pytest.raises(NotFound):
        catalog.get(cid)
    assert "extra" not in catalog.databases.all(TENANT)


def test_a_late_unlink_does_not_hide_a_database_that_was_created_again(catalog: Catalog) -> None:
    catalog.databases.create(TENANT, "extra")
    closed = catalog.databases.close(TENANT, "extra")
    catalog.databases.unlink(closed)
    new = catalog.databases.create(TENANT, "extra")
    catalog.databases.unlink(closed)
    assert catalog.databases.get(TENANT, "extra").id == new.id


def test_an_object_of_a_newer_format_is_refused_with_the_way_out(store: MemoryStore, catalog: Catalog) -> None:
    cid = create(catalog, "words").collection.id
    key = layout.collection_key(cid)
    store.put(key, store.get(key).body.replace(b'"format":1', b'"format":2'))
    with pytest.raises(Invalid, match="upgrade"):
        catalog.get(cid)


def test_a_store_of_a_newer_format_gets_no_collection(store: MemoryStore, catalog: Catalog) -> None:
    create(catalog, "words")
    before = keys(store)
    store.put(layout.store_key(), store.get(layout.store_key()).body.replace(b'"format":1', b'"format":2'))
    with pytest.raises(Invalid, match="upgrade"):
        create(catalog, "more")
    assert keys(store) == before
