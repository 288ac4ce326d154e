"""Putting a dataset into a store, folded, as the start of the benches that read."""

from __future__ import annotations

import time

from bench.dataset import Dataset
from bench.servers import Place

from chromalith.compacting import compact
from chromalith.compaction.compactor import CompactionSettings
from chromalith.model.ids import CollectionId
from chromalith.session import Session
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, Writer

CALL_ROWS = 1_000
COLLECTION = "words"
SETTLED_S = 3.5  # a remote store's settle_s of 2, its timestamps' whole second, and a little


def create(session: Session) -> CollectionId:
    """Create the collection that benches use, with Chroma's default space."""
    configuration = {"hnsw": {"space": "l2"}}
    return session.catalog.create(
        DEFAULT_TENANT, DEFAULT_DATABASE, COLLECTION, configuration=configuration
    ).collection.id


def find(session: Session) -> CollectionId:
    """The id of the collection that benches use."""
    return session.catalog.lookup(DEFAULT_TENANT, DEFAULT_DATABASE, COLLECTION).collection.id


def fill(place: Place, data: Dataset) -> None:
    """Create the collection, write all records, fold them."""
    with Writer(place.url, storage_options=place.options) as writer:
        writer.create(COLLECTION)
        for columns in data.calls(CALL_ROWS):
            writer.upsert(COLLECTION, **columns)
    if place.options:
        time.sleep(SETTLED_S)  # so that one fold takes all: the layout is then the same on every store
    fold_all(place)


def fold_all(place: Place) -> None:
    """Fold what waits, and sweep the folded deltas without their minute of grace: the state that a collection is in most of the time.

    What a remote store's clock has not settled yet is left to the next run, so there may be several.
    """
    settings = CompactionSettings(fold_grace_s=0.0)
    while True:
        outcome = compact(place.url, COLLECTION, settings=settings, storage_options=place.options)[0]
        if outcome.idle and not outcome.waiting:
            return
        time.sleep(1 if outcome.waiting else 0)
