"""Import and export over a store in memory, and bundles: all that needs no Chroma."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.transfers import DATABASE, TENANT, Records, assert_same, batch, read

from chromalith.clock import ManualClock
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound
from chromalith.model.checksum import Setsum
from chromalith.model.delta import SIZE_BYTES_MAX
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.transfer.bundle import MANIFEST, Bundle, BundleTarget, export_bundle
from chromalith.transfer.directory_objects import download_directory, upload_directory
from chromalith.transfer.export import export_collection, view_source
from chromalith.transfer.import_ import DELTA_BYTES_MAX, import_collection
from chromalith.transfer.import_bundle import import_bundle
from chromalith.transfer.jsonl import JsonlSource
from chromalith.transfer.parquet import ParquetSource, ParquetTarget
from chromalith.transfer.port import Batch, Definition, Sums

HERE = (TENANT, DATABASE)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = ManualClock()
    session = Session(MemoryStore(clock), cache_dir=tmp_path / "cache", clock=clock)
    yield session
    session.close()


def test_an_imported_collection_is_the_source_in_its_order(session: Session) -> None:
    definition = Definition({"hnsw": {"space": "cosine"}}, None, {"about": "words"})
    told: list[tuple[int, int | None]] = []
    report = import_collection(
        session, *HERE, "words", Records(batch(100), definition=definition), batch=30, progress=lambda *at: told.append(at)
    )
    source = view_source(session, *HERE, "words")
    assert (report.records, report.deltas, report.verified) == (100, 4, False)
    assert told == [(30, 100), (60, 100), (90, 100), (100, 100)]
    assert source.definition == definition
    assert_same(read(source, 7), batch(100))


def test_importing_twice_changes_nothing(session: Session) -> None:
    for size in (100, 30):
        import_collection(session, *HERE, "words", Records(batch(100)), batch=size)
    assert_same(read(view_source(session, *HERE, "words")), batch(100))


def test_a_version_is_exported_as_it_was(session: Session, tmp_path: Path) -> None:
    cid = import_collection(session, *HERE, "words", Records(batch(50))).collection
    session.compactor().run_once(cid)
    import_collection(session, *HERE, "words", Records(batch(50, start=50)))
    session.writer.write(cid, "delete", batch(10).ids)
    old = export_collection(session, *HERE, "words", ParquetTarget(tmp_path / "old.parquet"), version=1)
    new = export_collection(session, *HERE, "words", ParquetTarget(tmp_path / "new.parquet"))
    assert (old.version, old.records, old.overlay) == (1, 50, 0)
    assert (new.version, new.records, new.overlay) == (1, 90, 2)
    assert_same(read(ParquetSource(tmp_path / "old.parquet")), batch(50))
    assert_same(read(ParquetSource(tmp_path / "new.parquet")), batch(90, start=10))


def test_an_export_that_is_imported_again_adds_up_to_the_version(session: Session, tmp_path: Path) -> None:
    cid = import_collection(session, *HERE, "words", Records(batch(100))).collection
    session.compactor().run_once(cid)
    export_collection(session, *HERE, "words", ParquetTarget(tmp_path / "a.parquet"))
    again = import_collection(session, *HERE, "again", ParquetSource(tmp_path / "a.parquet"), batch=30)
    session.compactor().run_once(again.collection)
    one, two = session.view(cid).manifest, session.view(again.collection).manifest
    assert again.verified
    assert (one.content, one.embedding) == (two.content, two.embedding) != (Setsum(), Setsum())


def test_an_import_that_stops_says_how_far_it_got(session: Session, tmp_path: Path) -> None:
    lines = [f'{{"id": "{i}", "embedding": [1, {i}]}}\n' for i in range(25)]
    (tmp_path / "a.jsonl").write_text("".join(lines) + '{"id": "cut", "embed')
    with pytest.raises(Invalid, match=r"line=26 imported=20"):
        import_collection(session, *HERE, "words", JsonlSource(tmp_path / "a.jsonl"), batch=10)
    assert view_source(session, *HERE, "words").total() == 20


def test_a_source_that_is_wrong_from_the_start_makes_no_collection(session: Session, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "embedding": [1], "metadata": {"k": {"nested": 1}}}\n')
    with pytest.raises(Invalid, match="a type that cannot be stored"):
        import_collection(session, *HERE, "words", JsonlSource(tmp_path / "a.jsonl"))
    with pytest.raises(NotFound):
        view_source(session, *HERE, "words")


def test_records_that_do_not_add_up_are_corrupt(session: Session) -> None:
    with pytest.raises(Corrupt, match="not those that the source was written with"):
        import_collection(session, *HERE, "words", Records(batch(10), sums=Sums()))


def test_a_collection_that_exists_keeps_its_distance_and_its_name(session: Session) -> None:
    import_collection(session, *HERE, "words", Records(batch(10)))
    with pytest.raises(Invalid, match="another distance"):
        import_collection(session, *HERE, "words", Records(batch(10), definition=Definition.of_space("ip")))
    with pytest.raises(Conflict):
        import_collection(session, *HERE, "words", Records(batch(10)), get_or_create=False)
    with pytest.raises(Invalid, match="dimension of 8, got 9"):
        import_collection(session, *HERE, "words", Records(batch(10, 9)))


def test_a_batch_too_large_for_a_delta_is_cut_in_order(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromalith.transfer.import_.DELTA_BYTES_MAX", batch(300).size_bytes // 3)
    report = import_collection(session, *HERE, "words", Records(batch(300)), batch=10_000)
    assert report.deltas == 4
    assert_same(read(view_source(session, *HERE, "words")), batch(300))


def test_a_batch_is_cut_well_below_what_a_delta_takes() -> None:
    assert 2 * DELTA_BYTES_MAX <= SIZE_BYTES_MAX


@dataclass
class _TwoInOne(Records):
    """A source that names one id twice in a batch."""

    def batches(self, rows: int) -> Iterator[Batch]:
        yield from super().batches(rows)
        part = self.records.part(0, 1)
        yield Batch(part.ids * 2, np.repeat(part.embeddings, 2, 0), part.documents * 2, part.uris * 2, part.metadatas * 2)


def test_an_id_that_occurs_twice_in_a_batch_is_refused_with_what_was_written_before(session: Session) -> None:
    with pytest.raises(Invalid, match=r"occurs twice .*imported=10"):
        import_collection(session, *HERE, "words", _TwoInOne(batch(10)))


def test_a_bundle_carries_collections_from_store_to_store(session: Session) -> None:
    other = MemoryStore(ManualClock())
    two = Records(batch(10), name="two", definition=Definition.of_space("ip"))
    named = [Records(batch(100), name="one"), Records(batch(0), name="none"), two]
    bundled = export_bundle(named, other, "snapshot/migration")
    reports = import_bundle(session, *HERE, other, "/snapshot/migration/")
    assert [(r.name, r.records, r.verified) for r in reports] == [("one", 100, True), ("none", 0, True), ("two", 10, True)]
    assert Bundle(other, "snapshot/migration").names() == [each.name for each in bundled]
    assert_same(read(view_source(session, *HERE, "one")), batch(100))
    assert view_source(session, *HERE, "two").definition.space == "ip"


def test_a_large_collection_has_several_files(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromalith.transfer.bundle.PART_BYTES_MAX", 1)
    monkeypatch.setattr("chromalith.transfer.bundle.ROWS_DEFAULT", 40)
    store = MemoryStore(ManualClock())
    BundleTarget(store, "p").write(Records(batch(100)))
    (bundled,) = Bundle(store, "p").collections
    assert [file["rows"] for file in bundled.files] == [40, 40, 20]
    assert_same(read(Bundle(store, "p").source("words")), batch(100))


def test_a_bundle_is_written_once_and_its_files_are_checked() -> None:
    store = MemoryStore(ManualClock())
    export_bundle([Records(batch(10))], store, "p")
    with pytest.raises(Invalid, match="there is an export already"):
        export_bundle([Records(batch(10))], store, "p")
    (key,) = [entry.key for page in store.list("p/words/") for entry in page]
    store.put(key, store.get(key).body[:-1] + b"x")
    with pytest.raises(Corrupt, match="other bytes than were written"):
        read(Bundle(store, "p").source("words"))
    with pytest.raises(NotFound, match="no such collection in the export"):
        Bundle(store, "p").source("other")


def test_an_export_that_was_interrupted_is_no_bundle() -> None:
    store = MemoryStore(ManualClock())
    with pytest.raises(Corrupt):
        export_bundle([Records(batch(10), name="good"), Records(batch(10), name="bad", sums=Sums())], store, "p")
    with pytest.raises(NotFound, match="interrupted"):
        Bundle(store, "p")
    export_bundle([Records(batch(10), name="good")], store, "p")
    assert Bundle(store, "p").names() == ["good"]


def test_a_directory_comes_back_from_a_store_and_nothing_leaves_it(tmp_path: Path) -> None:
    store, clock = MemoryStore(ManualClock()), ManualClock()
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "file.bin").write_bytes(b"x" * 1000)
    upload_directory(tmp_path / "a", store, "p/", {"kind": "any"}, clock)
    assert download_directory(store, "p", tmp_path / "b")["kind"] == "any"
    assert (tmp_path / "b" / "deep" / "file.bin").read_bytes() == b"x" * 1000
    body = store.get(f"p/{MANIFEST}").body
    store.put(f"p/{MANIFEST}", body.replace(b"deep/file.bin", b"../file.bin"))
    with pytest.raises(Corrupt, match="outside its directory"):
        download_directory(store, "p", tmp_path / "c")
