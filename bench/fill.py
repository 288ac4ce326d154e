"""Putting a dataset into a store, folded, as the start of the benches that read."""

from __future__ import annotations

import time

from bench.dataset import Dataset
from bench.servers import Place
from chromalith.wiring import Writer, compact

CALL_ROWS = 1_000
COLLECTION = "words"


def fill(place: Place, data: Dataset) -> None:
    """Create the collection, write all records, fold them."""
    with Writer(place.url, storage_options=place.options) as writer:
        writer.create(COLLECTION)
        for columns in data.calls(CALL_ROWS):
            writer.upsert(COLLECTION, **columns)
    fold_all(place)


def fold_all(place: Place) -> None:
    """Fold what waits; what a remote store's clock has not settled yet is left to the next run, so there may be several."""
    while compact(place.url, COLLECTION, storage_options=place.options)[0].waiting:
        time.sleep(1)
