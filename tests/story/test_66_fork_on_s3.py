"""Forks and sessions on a real S3 server: copies on its side, many at once, and tokens between processes' clients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.servers import Server

import chromalith
from chromalith.compaction.verify import verify
from chromalith.wiring import open_session

pytestmark = pytest.mark.server

VECTORS = np.random.default_rng(9).standard_normal((90, 4)).astype(np.float32)


def test_a_fork_on_s3(seaweed: Server, tmp_path: Path) -> None:
    """Folded and waiting records, an index and a delete: the fork holds them all, at every level, and verifies."""
    url, options = f"s3://{seaweed.new_bucket()}", seaweed.storage_options
    with chromalith.Writer(url, storage_options=options) as writer:
        writer.create("words")
        for start in range(0, 60, 20):
            rows = range(start, start + 20)
            documents = [f"text {n}" for n in rows]
            writer.upsert("words", ids=[f"w{n}" for n in rows], embeddings=VECTORS[start : start + 20], documents=documents)
        folds = chromalith.CompactionSettings(index_threshold=10)
        while True:
            (outcome,) = chromalith.compact(url, "words", settings=folds, storage_options=options)
            if outcome.version and not outcome.waiting:
                break
            writer.session.clock.sleep(0.2)
        writer.upsert("words", ids=[f"w{n}" for n in range(60, 90)], embeddings=VECTORS[60:])
        writer.delete("words", ids=["w7"])
    with chromalith.Client(url, cache_dir=tmp_path / "client", storage_options=options) as client:
        words = client.get_collection("words", embedding_function=None)
        fork = words.fork("copy")
        assert fork.get() == words.get()
        assert fork.count() == 89
        assert fork.query([VECTORS[70]], n_results=1)["ids"] == [["w70"]]
        fork.add(ids=["new"], embeddings=VECTORS[:1])
        token = chromalith.last_token(fork)
    with chromalith.Reader(url, cache_dir=tmp_path / "reader", read_level="INDEX_ONLY", storage_options=options) as reader:
        with pytest.raises(chromalith.Unavailable):
            reader.count("copy", after=token, timeout_s=0.3)
        for _ in range(50):
            (outcome,) = chromalith.compact(url, "copy", storage_options=options)
            if not outcome.waiting:
                break
            reader.session.clock.sleep(0.2)
        assert reader.count("copy", after=token, timeout_s=0) == 90
        assert reader.count("words", read_level="INDEX_AND_WAL") == 89
    with open_session(url, cache_dir=tmp_path / "verify", storage_options=options) as session:
        for name in ("words", "copy"):
            verify(session.store, session.catalog.lookup("default_tenant", "default_database", name).collection.id)
