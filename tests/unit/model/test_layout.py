"""Every key is built and parsed in one place, and stores accept all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.model.ids import CollectionId, DeltaId, JobId
from chromalith.store.keys import is_key

CID = CollectionId("00000000-0000-4000-8000-000000000001")
HEX = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
DELTAS = st.builds(DeltaId, st.integers(0, 2**64 - 1), HEX, st.integers(0, 2**32 - 1), HEX.map(lambda text: text[:16]))
JOBS = st.builds(JobId, st.integers(0, 10**16 - 1), HEX)


@given(DELTAS)
def test_delta_keys(delta: DeltaId) -> None:
    """A delta's key parses to its collection and its id."""
    assert layout.parse_delta_key(layout.delta_key(CID, delta)) == (CID, delta)


@given(st.integers(0, 10**16 - 1), HEX)
def test_manifest_keys(version: int, write_id: str) -> None:
    """A manifest's key parses to collection, version and write id, and sorts by version."""
    key = layout.manifest_key(CID, version, write_id)
    assert layout.parse_manifest_key(key) == (CID, version, write_id)
    assert key >= layout.manifest_key(CID, version - version % 7, "0" * 32)


@given(JOBS)
def test_job_ids(job: JobId) -> None:
    """A job's id prints to fixed width, and is parsed back."""
    assert JobId.parse(str(job)) == job
    assert len(str(job)) == 49


@given(JOBS, JOBS, DELTAS, st.text(max_size=5))
def test_every_key_is_one_that_stores_accept(segment: JobId, deletes: JobId, delta: DeltaId, name: str) -> None:
    """Whatever the names of tenants and databases are."""
    name = name.encode(errors="ignore").decode()
    for key in (
        layout.store_key(),
        layout.tenant_key(name),
        layout.database_key(name, name),
        layout.collection_key(CID),
        layout.delta_key(CID, delta),
        layout.pointer_key(CID),
        layout.manifest_key(CID, 5, "a" * 32),
        layout.segment_file_key(CID, segment, layout.RECORDS_FILE),
        layout.segment_file_key(CID, segment, layout.index_file("usearch")),
        layout.deletes_key(CID, segment, deletes),
        layout.lease_key(CID),
        layout.merge_lease_key(CID),
        layout.date_key(CID),
        layout.stock_key(CID),
    ):
        assert is_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "", "delta", "delta/", f"delta/{CID}", f"delta/{CID}/x.parquet", f"delta/{CID}/{'0' * 75}.parquet", f"segment/{CID}/x",
        f"delta/{CID}/a/b.parquet", f"delta/nobody/{'0' * 16}-{'0' * 32}-{'0' * 8}-{'0' * 16}.parquet",
        f"delta/{CID}/{'0' * 16}-{'0' * 32}-{'0' * 8}-{'0' * 16}.json", f"delta/{CID}/{'0' * 16}-{'0' * 32}-{'0' * 8}-{'G' * 16}.parquet",
    ],
)  # fmt: skip
def test_other_keys_are_no_deltas(key: str) -> None:
    """What is not exactly a delta's key is not taken for one."""
    with pytest.raises(Invalid):
        layout.parse_delta_key(key)


@pytest.mark.parametrize("key", ["", f"snapshot/{CID}/latest/pointer.txt", f"snapshot/{CID}/7-a.json", f"snapshot/{CID}/{7:016d}.json"])
def test_other_keys_are_no_manifests(key: str) -> None:
    """The pointer, and what has no version or no write id, is no manifest."""
    with pytest.raises(Invalid):
        layout.parse_manifest_key(key)
