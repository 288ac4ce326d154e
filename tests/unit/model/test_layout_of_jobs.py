"""From an object's key back to the job that wrote it and the collection that it belongs to: what a sweep decides by."""

from __future__ import annotations

import pytest

from chromalith.model import layout
from chromalith.model.ids import CollectionId, DeltaId, JobId

CID = CollectionId("00000000-0000-4000-8000-000000000001")
JOB = JobId(7, "b" * 32)
DELTA = DeltaId(5, "c" * 32, 1, "d" * 16)


@pytest.mark.parametrize(
    "key",
    [
        layout.segment_file_key(CID, JOB, layout.RECORDS_FILE),
        layout.segment_file_key(CID, JOB, layout.IDS_FILE),
        layout.segment_file_key(CID, JOB, layout.index_file("usearch")),
        layout.deletes_key(CID, JobId(1, "a" * 32), JOB),
        layout.folded_key(CID, JOB),
        layout.buckets_key(CID, JOB),
        layout.aside_key(CID, JOB, 3, DELTA),
    ],
)
def test_the_job_of_an_object(key: str) -> None:
    """The key of whatever only a manifest leads to says which job wrote it, and whose it is."""
    assert layout.parse_job_key(key) == JOB
    assert layout.collection_in(key) == CID


@pytest.mark.parametrize(
    "key",
    [
        layout.pointer_key(CID),
        layout.manifest_key(CID, 3, "e" * 32),
        layout.delta_key(CID, DELTA),
        layout.stock_prefix(CID, 3) + "00000000/chroma.sqlite3",
        f"segment/{CID}/{JOB}/mine.txt",
        f"segment/{CID}/x/records.parquet",
        f"segment/{CID}/{JOB}/deletes/{JOB}.txt",
        f"folded/{CID}/{JOB}",
        f"quarantine/{CID}/aside/{JOB}",
        f"snapshot/{CID}/buckets/{JOB}.parquet",
    ],
)
def test_what_no_job_wrote(key: str) -> None:
    """Other objects, and foreign ones beside ours, are of no job."""
    assert layout.parse_job_key(key) is None


@pytest.mark.parametrize("key", [layout.collection_key(CID), layout.lease_key(CID), layout.merge_lease_key(CID), layout.date_key(CID)])
def test_the_collection_of_an_object(key: str) -> None:
    """Objects that are named by their collection belong to it; those of the whole store, and foreign ones, to none."""
    assert layout.collection_in(key) == CID
    for other in ("store.json", "snapshot/migration/x/1.parquet", "migration/a.json", layout.sweep_date_key(), "catalog/a/b.json"):
        assert layout.collection_in(other) is None


def test_stock_keys() -> None:
    """A file of a stock snapshot says its version and which run wrote it."""
    prefix = f"{layout.stock_prefix(CID, 12)}0000abcd/"
    assert layout.parse_stock_key(f"{prefix}chroma.sqlite3") == (12, prefix)
    assert layout.parse_stock_key(f"{prefix}deep/data_level0.bin") == (12, prefix)
    assert layout.parse_stock_key(f"{layout.stock_prefix(CID, 12)}chroma.sqlite3") is None
    assert layout.parse_stock_key(layout.stock_key(CID)) is None
