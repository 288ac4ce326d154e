"""A sweep on a real S3 server: timestamps of whole seconds, deletes side by side, uploads that nobody finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers import Server

import chromalith
from chromalith import Reader, Writer
from chromalith.clock import SYSTEM_CLOCK
from chromalith.model import layout


@pytest.mark.server
def test_sweep_on_s3(seaweed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions go, also those that were published within one second; the collection answers before, between and after."""
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path))
    url, options = f"s3://{seaweed.new_bucket()}/here", seaweed.storage_options
    with Writer(url, storage_options=options) as writer, Reader(url, storage_options=options) as reader:
        writer.create("words")
        for text in ("one", "two"):
            writer.upsert("words", ids=["a"], embeddings=[[1, 0, 0]], documents=[text])
            SYSTEM_CLOCK.sleep(3.2)  # until its timestamp has settled
            assert chromalith.compact(url, storage_options=options)[0].folded == 1
        assert reader.get("words").documents == ["two"]
        planned = chromalith.sweep(url, keep_versions=1, keep_age_s=0, job_grace_s=0, storage_options=options)
        assert planned[-1].skipped == ()
        swept = chromalith.sweep(url, keep_versions=1, keep_age_s=0, job_grace_s=0, delete=True, storage_options=options)
        assert swept[0].published == 3
        assert set(swept[0].garbage) == set(planned[0].garbage)
        store = writer.session.store
        manifests = [e.key for page in store.list(layout.SNAPSHOT_ROOT) for e in page if e.key.endswith(".json")]
        assert [layout.parse_manifest_key(key)[1] for key in manifests] == [2, 3]
        assert reader.get("words").documents == ["two"]
        again = chromalith.sweep(url, "words", keep_versions=1, keep_age_s=0, job_grace_s=0, delete=True, storage_options=options)
        assert (again[0].published, again[0].garbage) == (None, ())
    with Reader(url, storage_options=options) as reader:
        assert reader.get("words").documents == ["two"]
