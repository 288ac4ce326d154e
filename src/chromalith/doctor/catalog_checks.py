"""Checks of what the store as a whole holds: names, collections, and objects that belong to neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.databases import Database
from chromalith.coord.register import decode
from chromalith.doctor.finding import Finding
from chromalith.doctor.inventory import Inventory
from chromalith.errors import ChromalithError, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId, collection_id
from chromalith.store.port import Store

NAMED_MAX = 5
CREATING_S = 3_600
"""A collection that is being created or forked has no name yet."""


@dataclass(slots=True)
class Names:
    """Which names there are.

    Attributes:
        collections: names by id; those of databases other than the default one as ``tenant/database/name``.
        findings: objects that could not be read.
    """

    collections: dict[CollectionId, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_names(store: Store, catalog: list[str], default: tuple[str, str]) -> Names:
    """Every name in the store. ``default`` is the tenant and database whose names are shown without them."""
    names = Names()
    for key in catalog:
        if key.endswith("/tenant.json"):
            continue
        try:
            found = Database.of(key, decode(key, store.get(key).body))
            named = {collection_id(cid): name for name, cid in found.collections.items()}
        except NotFound:
            continue
        except ChromalithError as error:
            names.findings.append(
                Finding("catalog_object_corrupt", error.message, f"restore {key} from the bucket's versions")
            )
            continue
        if not found.deleted:
            prefix = "" if (found.tenant, found.name) == default else f"{found.tenant}/{found.name}/"
            names.collections |= {cid: prefix + name for cid, name in named.items()}
    return names


def check_collection_objects(
    store: Store, inventory: Inventory, names: Names, date_us: int
) -> tuple[list[CollectionId], list[Finding]]:
    """The collections that are alive, and what is wrong with the others."""
    alive: list[CollectionId] = []
    findings: list[Finding] = []
    for cid in sorted({*inventory.declared, *inventory.collections, *names.collections}):
        name = names.collections.get(cid)
        has = inventory.of(cid)
        key = layout.collection_key(cid)
        try:
            found = store.get(key)
            collection = CollectionObject.parse(key, found.body)
        except NotFound:
            findings.append(_without_object(cid, name, has.count))
            continue
        except ChromalithError as error:
            findings.append(
                Finding("collection_object_corrupt", error.message, f"restore {key} from the bucket's versions", name or cid)
            )
            alive.append(cid)
            continue
        if collection.deleted:
            findings += _deleted(cid, name, has.count, has.size_bytes)
            continue
        alive.append(cid)
        if name is None and found.modified_us < date_us - CREATING_S * 1_000_000:
            findings.append(
                Finding(
                    "collection_unnamed",
                    f"a collection has no name id={cid} objects={has.count} bytes={has.size_bytes}",
                    "chromalith sweep --delete reclaims it once it is a day old",
                    cid,
                )
            )
    return alive, findings


def check_foreign(inventory: Inventory) -> Iterator[Finding]:
    """Whether all objects under Chromalith's prefixes are its own."""
    if inventory.foreign:
        yield Finding(
            "foreign_objects",
            f"{len(inventory.foreign)} objects are not Chromalith's first={', '.join(sorted(inventory.foreign)[:NAMED_MAX])}",
            "they are ignored, and never swept; move them to another prefix",
        )


def _without_object(cid: CollectionId, name: str | None, objects: int) -> Finding:
    if name is not None:
        return Finding(
            "collection_object_missing",
            f"a name leads to a collection whose object is gone id={cid} objects={objects}",
            f"restore {layout.collection_key(cid)} from the bucket's versions, or chromalith collections delete {name}",
            name,
        )
    return Finding(
        "data_of_no_collection",
        f"objects belong to a collection that does not exist id={cid} objects={objects}",
        f"restore {layout.collection_key(cid)} from the bucket's versions if it was lost; else chromalith sweep --delete reclaims them",
        cid,
    )


def _deleted(cid: CollectionId, name: str | None, objects: int, size_bytes: int) -> Iterator[Finding]:
    if name is not None:
        yield Finding(
            "collection_name_dangling",
            f"a name leads to a collection that was deleted id={cid}",
            f"chromalith collections delete {name} finishes it; creating a collection of this name takes it over",
            name,
        )
    if objects:
        yield Finding(
            "collection_deleted_not_swept",
            f"a deleted collection is still stored id={cid} objects={objects} bytes={size_bytes}",
            "chromalith sweep --delete reclaims it",
            cid,
        )
