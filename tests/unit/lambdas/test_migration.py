"""The migration payload: an export below a prefix becomes a folded collection; with chromadb also a Chroma directory; in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.lambdas.invocations import Context

from chromalith import Reader
from chromalith.errors import Invalid, NotFound, Unavailable
from chromalith.lambdas import migration
from chromalith.lambdas.compactor import handler
from chromalith.store.url import open_store
from chromalith.transfer.bundle import export_bundle
from chromalith.transfer.export import ViewSource
from chromalith.wiring import Writer, open_session

PREFIX = "snapshot/migration/"
MIGRATE = {"source": "migration", "snapshot_path": PREFIX}


@pytest.fixture
def exported(store_url: str, tmp_path: Path) -> str:
    """Two collections as Parquet files below the guide's prefix, as ``scripts/export_chromadb_to_s3.py`` puts them."""
    source = str(tmp_path / "source")
    with Writer(source, queue_url="") as writer:
        for name, space, count in (("words", "cosine", 3), ("lines", "l2", 1)):
            writer.create(name, space=space)
            ids = [f"{name}-{i}" for i in range(count)]
            writer.upsert(name, ids=ids, embeddings=[[1.0, float(i)] for i in range(count)], documents=ids)
    with open_session(source, queue_url="") as session:
        named = session.catalog.listing("default_tenant", "default_database")
        sources = [ViewSource(session.view(each.collection.id), each.name, each.collection) for each in named]
        export_bundle(sources, open_store(store_url), PREFIX)
    return store_url


def test_the_guides_migration(exported: str) -> None:
    """Every collection is imported, verified by its checksums, and folded; the answer says how much."""
    answer = handler(MIGRATE, Context())
    assert answer["status"] == "success"
    imports = [(each["collection"], each["records"], each["verified"]) for each in answer["imports"]]
    assert imports == [("words", 3, True), ("lines", 1, True)]
    assert {each["collection"]: (each["result"], each["version"]) for each in answer["collections"]} == {
        "words": ("compacted", 1),
        "lines": ("compacted", 1),
    }
    with Reader(exported, read_level="INDEX_ONLY") as reader:
        assert reader.get("words").ids == ["words-0", "words-1", "words-2"]


def test_again_changes_nothing(exported: str) -> None:
    """As when Lambda repeats the invocation."""
    handler(MIGRATE, Context())
    handler(MIGRATE, Context())
    with Reader(exported) as reader:
        assert (reader.count("words"), reader.count("lines")) == (3, 1)


def test_one_collection_under_another_name(exported: str) -> None:
    """And nothing else."""
    answer = handler({**MIGRATE, "collection": "words", "as": "vocabulary"}, Context())
    assert [each["collection"] for each in answer["imports"]] == ["vocabulary"]
    with Reader(exported) as reader:
        assert reader.count("vocabulary") == 3
        with pytest.raises(NotFound):
            reader.count("words")


def test_another_place_by_its_url(exported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export need not lie in the function's own bucket."""
    monkeypatch.setenv("CHROMADB_BUCKET", str(tmp_path / "elsewhere"))
    answer = handler({"source": "migration", "snapshot_path": f"file://{exported}/{PREFIX}"}, Context())
    assert [each["records"] for each in answer["imports"]] == [3, 1]


def test_a_prefix_without_an_export(exported: str) -> None:
    """Is said, and nothing is created."""
    with pytest.raises(NotFound, match="there is no export key=snapshot/nothing/manifest.json"):
        handler({"source": "migration", "snapshot_path": "snapshot/nothing/"}, Context())
    with pytest.raises(NotFound, match="no such collection in the export"):
        handler({**MIGRATE, "collection": "nothing"}, Context())
    assert not list(Path(exported, "collection").glob("*"))


def test_an_import_stops_in_time(exported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how far it came, what it wrote is whole, and doing it again completes it."""
    monkeypatch.setattr(migration, "DELTA_S", 40.0)
    with pytest.raises(Unavailable, match="no time for all of it") as raised:
        handler(MIGRATE, Context(left_s=60.0, step_s=8.0))
    assert "chromalith import" in str(raised.value)
    with Reader(exported) as reader:
        assert reader.count("words") == 3, "the first collection was written before the time was over"
    assert [each["records"] for each in handler(MIGRATE, Context())["imports"]] == [3, 1]


def _chroma_directory(path: Path) -> None:
    import chromadb

    client = chromadb.PersistentClient(str(path))
    client.create_collection("words").add(ids=["a", "b"], embeddings=[[1.0, 0.0], [0.0, 1.0]], documents=["x", "y"])
    client.clear_system_cache()


def test_a_chroma_directory_that_was_copied_to_the_bucket(store_url: str, tmp_path: Path) -> None:
    """With chromadb (the image) an `aws s3 sync` of the directory will do."""
    pytest.importorskip("chromadb")
    _chroma_directory(tmp_path / "chroma")
    store = open_store(store_url)
    for path in (tmp_path / "chroma").rglob("*"):
        if path.is_file():
            store.put(f"{PREFIX}{path.relative_to(tmp_path / 'chroma').as_posix()}", path.read_bytes())
    answer: dict[str, Any] = handler(MIGRATE, Context())
    assert [(each["collection"], each["records"]) for each in answer["imports"]] == [("words", 2)]
    assert answer["deltas_folded"] == 1


def test_in_the_zip_a_chroma_directory_is_refused_with_the_way_out(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chromadb the error names the image, and the export that needs none."""
    open_store(store_url).put(f"{PREFIX}chroma.sqlite3", b"SQLite format 3\0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(Invalid, match="read by chromadb, which this package does not have") as raised:
        handler(MIGRATE, Context())
    assert "Dockerfile" in str(raised.value)
    assert "export_chromadb_to_s3.py" in str(raised.value)
